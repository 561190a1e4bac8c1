//! The line in which tasks wait, counted: how many come before one.

use std::collections::HashMap;

use sqlx::FromRow;

use crate::database::Tx;
use crate::error::StoreError;

/// One task's place.
pub(crate) struct TaskPlace<'a> {
    pub(crate) id: i64,
    pub(crate) arch: &'a str,
    pub(crate) memory_class: &'a str,
    pub(crate) owner_id: i64,
    pub(crate) priority: i16,
}

/// What waits in some routes, and what their owners have under way.
pub(crate) struct BacklogCounts {
    groups: HashMap<(String, String), Vec<Group>>,
    active: HashMap<i64, u64>,
    /// Of each task asked about: older ones of its owner and priority.
    older: HashMap<i64, u64>,
}

/// Tasks of one owner and class of priority.
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

/// One pass over the routes of the tasks asked about.
const GROUPS: &str = "
    select t.arch, t.memory_class, t.owner_id, t.priority, count(*) as tasks
    from (select distinct a.arch, a.memory_class from tasks a where a.id = any($1)) r
    join tasks t on t.arch = r.arch and t.memory_class = r.memory_class
        and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.priority >= 0
    group by t.arch, t.memory_class, t.owner_id, t.priority";

/// One pass over the groups of the tasks asked about: those asked about divide each group into buckets.
const OLDER: &str = "
    with asked as (
        select a.arch, a.memory_class, a.owner_id, a.priority, array_agg(a.id order by a.id) as ids
        from tasks a where a.id = any($1)
        group by a.arch, a.memory_class, a.owner_id, a.priority
    ), buckets as (
        select a.ids, b.bucket, b.tasks
        from asked a cross join lateral (
            select width_bucket(t.id, a.ids) as bucket, count(*) as tasks
            from tasks t
            where t.arch = a.arch and t.memory_class = a.memory_class and t.owner_id = a.owner_id
                and t.priority = a.priority and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.priority >= 0
            group by 1
        ) b
    )
    select a.id, coalesce(sum(b.tasks), 0)::bigint
    from (select i.id, i.bucket, g.ids from asked g cross join lateral unnest(g.ids) with ordinality as i(id, bucket)) a
    left join buckets b on b.ids = a.ids and b.bucket < a.bucket
    group by a.id";

const ACTIVE: &str = "
    select t.owner_id, count(*) from tasks t
    where t.current_attempt is not null and t.state in ('waiting', 'queued', 'running')
    group by t.owner_id";

impl BacklogCounts {
    /// Counts what waits in the routes of these tasks.
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

    /// Tasks whose turn comes before this one's. Owners take turns: of another owner as many come first as bring it to
    /// the turn of this one.
    pub(crate) fn ahead(&self, place: &TaskPlace<'_>) -> u64 {
        let route = (place.arch.to_owned(), place.memory_class.to_owned());
        let groups = self.groups.get(&route).map_or(&[][..], Vec::as_slice);
        let own: u64 = groups
            .iter()
            .filter(|g| g.owner_id == place.owner_id && g.priority > place.priority)
            .map(|g| g.tasks)
            .sum::<u64>()
            + self.older.get(&place.id).copied().unwrap_or_default();
        let turn = self.active(place.owner_id) + own + 1;
        let others = groups
            .iter()
            .filter(|g| g.owner_id != place.owner_id && g.priority >= place.priority)
            .map(|g| {
                if g.priority > place.priority {
                    g.tasks
                } else {
                    g.tasks.min(turn.saturating_sub(self.active(g.owner_id)))
                }
            });
        own + others.sum::<u64>()
    }
}
