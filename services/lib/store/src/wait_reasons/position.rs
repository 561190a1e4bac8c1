//! Position of waiting tasks: counts the backlog of their routes, and from it how many tasks are released before one.

use std::collections::HashMap;

use sqlx::FromRow;

use crate::database::Tx;
use crate::error::StoreError;
use crate::scheduler::index_conditions::tasks_in_line;

/// What decides on a task's position.
pub(crate) struct TaskPlace<'a> {
    pub(crate) id: i64,
    pub(crate) arch: &'a str,
    pub(crate) memory_class: &'a str,
    pub(crate) owner_id: i64,
    pub(crate) priority: i16,
}

/// Counts of the tasks that wait in some routes, and of those that their owners have on offer or running.
pub(crate) struct BacklogCounts {
    /// By architecture and memory class.
    groups: HashMap<(String, String), Vec<Group>>,
    /// Tasks on offer or running, by owner.
    active: HashMap<i64, u64>,
    /// Of each task asked about, the older waiting tasks of its route, owner and priority.
    older: HashMap<i64, u64>,
}

/// The waiting tasks of one owner and class of priority in a route.
struct Group {
    owner_id: i64,
    priority: i16,
    tasks: u64,
}

#[derive(FromRow)]
struct GroupColumns {
    arch: String,
    memory_class: String,
    owner_id: i64,
    priority: i16,
    tasks: i64,
}

/// Counts the waiting tasks of the routes of the tasks asked about, in one pass over each route by `tasks_in_line`.
const GROUPS: &str = concat!(
    "
    select t.arch, t.memory_class, t.owner_id, t.priority, count(*) as tasks
    from (select distinct a.arch, a.memory_class from tasks a where a.id = any($1)) r
    join tasks t on t.arch = r.arch and t.memory_class = r.memory_class
        and ",
    tasks_in_line!(),
    "
    group by t.arch, t.memory_class, t.owner_id, t.priority"
);

/// Counts the older tasks of each task asked about, in one pass over each of their groups: the tasks asked about divide
/// their group into buckets.
const OLDER: &str = concat!(
    "
    -- The tasks asked about, by primary key: of each group the ids in order, which are the bounds of its buckets.
    with asked as (
        select a.arch, a.memory_class, a.owner_id, a.priority, array_agg(a.id order by a.id) as ids
        from tasks a where a.id = any($1)
        group by a.arch, a.memory_class, a.owner_id, a.priority
    ),
    -- Number of tasks in each bucket, by tasks_in_line.
    buckets as (
        select a.ids, b.bucket, b.tasks
        from asked a cross join lateral (
            select width_bucket(t.id, a.ids) as bucket, count(*) as tasks
            from tasks t
            where t.arch = a.arch and t.memory_class = a.memory_class and t.owner_id = a.owner_id
                and t.priority = a.priority and ",
    tasks_in_line!(),
    "
            group by 1
        ) b
    )
    -- Older than a task is what lies in the buckets before the one that begins with it.
    select a.id, coalesce(sum(b.tasks), 0)::bigint
    from (select i.id, i.bucket, g.ids from asked g cross join lateral unnest(g.ids) with ordinality as i(id, bucket)) a
    left join buckets b on b.ids = a.ids and b.bucket < a.bucket
    group by a.id"
);

/// Tasks on offer or running of each owner, by `tasks_of_owner`.
const ACTIVE: &str = "
    select t.owner_id, count(*) from tasks t
    where t.current_attempt is not null and t.state in ('waiting', 'queued', 'running')
    group by t.owner_id";

impl BacklogCounts {
    /// Counts the backlog of the routes of these tasks.
    pub(crate) async fn read(tx: &mut Tx, asked: &[i64]) -> Result<Self, StoreError> {
        let rows: Vec<GroupColumns> = sqlx::query_as(GROUPS)
            .bind(asked)
            .fetch_all(&mut **tx)
            .await?;
        let older: Vec<(i64, i64)> = sqlx::query_as(OLDER)
            .bind(asked)
            .fetch_all(&mut **tx)
            .await?;
        let active: Vec<(i64, i64)> = sqlx::query_as(ACTIVE).fetch_all(&mut **tx).await?;
        let mut groups: HashMap<(String, String), Vec<Group>> = HashMap::new();
        for row in rows {
            let group = Group {
                owner_id: row.owner_id,
                priority: row.priority,
                tasks: row.tasks.unsigned_abs(),
            };
            let route = (row.arch, row.memory_class);
            groups.entry(route).or_default().push(group);
        }
        let counts = |rows: Vec<(i64, i64)>| {
            let count = |(key, count): (i64, i64)| (key, count.unsigned_abs());
            rows.into_iter().map(count).collect()
        };
        Ok(Self {
            groups,
            active: counts(active),
            older: counts(older),
        })
    }

    /// An owner's tasks on offer or running.
    pub(crate) fn active(&self, owner: i64) -> u64 {
        self.active.get(&owner).copied().unwrap_or_default()
    }

    /// Tasks that are released before this one. The owner with fewest tasks under way goes first: so of another owner of
    /// equal priority as many come before this task as bring that owner to the same number.
    pub(crate) fn ahead(&self, place: &TaskPlace<'_>) -> u64 {
        let route = (place.arch.to_owned(), place.memory_class.to_owned());
        let groups = self.groups.get(&route).map_or(&[][..], Vec::as_slice);
        let own: u64 = groups
            .iter()
            .filter(|g| g.owner_id == place.owner_id && g.priority > place.priority)
            .map(|g| g.tasks)
            .sum::<u64>()
            + self.older.get(&place.id).copied().unwrap_or_default();
        let usage = self.active(place.owner_id) + own + 1;
        let others = groups
            .iter()
            .filter(|g| g.owner_id != place.owner_id && g.priority >= place.priority)
            .map(|g| {
                if g.priority > place.priority {
                    g.tasks
                } else {
                    g.tasks.min(usage.saturating_sub(self.active(g.owner_id)))
                }
            });
        own + others.sum::<u64>()
    }
}
