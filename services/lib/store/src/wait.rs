//! Why a task waits: the same facts by which the release chooses, told about those it did not choose.

use millrace_domain::TaskId;
use sqlx::FromRow;

use crate::row::{RowOf, Time, int4};
use crate::{Store, StoreError};

/// What keeps a waiting task from being released, as far as the database knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The task.
    pub task_id: TaskId,
    /// Its architecture.
    pub arch: String,
    /// Its memory limit in MiB.
    pub memory_mib: u32,
    /// Memory of the largest live builder of the architecture, in MiB; none when there is no such builder.
    pub largest_mib: Option<u32>,
    /// Not before this time: an earlier attempt was given back.
    pub not_before: Option<Time>,
    /// Its owner's tasks on offer or running.
    pub owner_active: u64,
    /// As many as the owner may have.
    pub owner_limit: u32,
    /// Tasks whose turn comes first, of its owner and of others; without what waiting adds to a priority.
    pub ahead: u64,
    /// Its order is written and waits for the broker's confirm.
    pub is_offered: bool,
}

#[derive(FromRow)]
struct WaitColumns {
    id: i64,
    arch: String,
    memory_mib: i32,
    largest_mib: Option<i32>,
    not_before: Option<Time>,
    active: i64,
    owner_limit: i32,
    ahead: i64,
    is_offered: bool,
}

/// Owners take turns: of another owner as many tasks come first as bring it to the turn of this one.
const WAITS: &str = "
    with asked as (
        select t.id, t.arch, t.memory_class, t.memory_mib, t.owner_id, t.priority, t.not_before, t.current_attempt,
            coalesce(a.max_running, $2) as owner_limit
        from tasks t join accounts a on a.id = t.owner_id
        where t.id = any($1) and t.state = 'waiting'
    ), live as (
        select archs, memory_mib from builders where last_seen_at > now() - interval '25 seconds'
    ), active as (
        select t.owner_id, count(*) as tasks from tasks t
        where t.current_attempt is not null and t.state in ('waiting', 'queued', 'running')
        group by t.owner_id
    ), backlog as (
        select t.arch, t.memory_class, t.owner_id, t.priority, count(*) as tasks
        from (select distinct arch, memory_class from asked) r
        join tasks t on t.arch = r.arch and t.memory_class = r.memory_class
            and t.state = 'waiting' and t.current_attempt is null
        group by t.arch, t.memory_class, t.owner_id, t.priority
    )
    select k.id, k.arch, k.memory_mib, (select max(l.memory_mib) from live l where k.arch = any(l.archs)) as largest_mib,
        case when k.not_before > now() then k.not_before end as not_before, mine.active, k.owner_limit,
        k.current_attempt is not null as is_offered,
        (own.higher + own.older + others.ahead)::bigint as ahead
    from asked k
    cross join lateral (
        select coalesce((select tasks from active where owner_id = k.owner_id), 0) as active
    ) mine
    cross join lateral (
        select count(*) filter (where o.priority > k.priority) as higher,
            count(*) filter (where o.priority = k.priority and o.id < k.id) as older
        from tasks o
        where o.arch = k.arch and o.memory_class = k.memory_class and o.owner_id = k.owner_id
            and o.state = 'waiting' and o.current_attempt is null and o.priority >= k.priority
    ) own
    cross join lateral (
        select coalesce(sum(case when b.priority > k.priority then b.tasks else
                least(b.tasks, greatest(mine.active + own.higher + own.older + 1 - coalesce(x.tasks, 0), 0)) end), 0) as ahead
        from backlog b left join active x on x.owner_id = b.owner_id
        where b.arch = k.arch and b.memory_class = k.memory_class and b.owner_id <> k.owner_id
            and b.priority >= k.priority
    ) others";

impl Store {
    /// Why these tasks wait; those that do not wait are left out.
    pub async fn waits(&self, tasks: &[TaskId], owner_limit: u32) -> Result<Vec<Wait>, StoreError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        self.within(async {
            let rows: Vec<WaitColumns> = sqlx::query_as(WAITS)
                .bind(tasks.iter().map(|id| id.0).collect::<Vec<_>>())
                .bind(int4(owner_limit))
                .fetch_all(&self.pool)
                .await?;
            rows.into_iter().map(wait).collect()
        })
        .await
    }
}

fn wait(columns: WaitColumns) -> Result<Wait, StoreError> {
    let row = RowOf::new("tasks", columns.id);
    Ok(Wait {
        task_id: TaskId(columns.id),
        arch: columns.arch,
        memory_mib: row.number(columns.memory_mib)?,
        largest_mib: columns.largest_mib.map(|mib| row.number(mib)).transpose()?,
        not_before: columns.not_before,
        owner_active: row.number(columns.active)?,
        owner_limit: row.number(columns.owner_limit)?,
        ahead: row.number(columns.ahead)?,
        is_offered: columns.is_offered,
    })
}
