//! The release window: how much of what waits is handed to the broker, and whose turn it is. Only what is still here
//! can be cancelled, ordered and explained, so no more is released than live builders have room for, times a factor.
//!
//! Room is computed from the claims in the database, not from what builders said some seconds ago; which
//! builders are alive is told by their heartbeats. A route's row lock makes releases of that route take turns.

use std::collections::HashMap;

use millrace_domain::{AttemptId, BuildId, Limits, Name, RepositoryUrl, TaskId};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::catalog::ChrootColumns;
use crate::outbox::TAKEN_SECONDS;
use crate::picture::sources_of;
use crate::row::{RowOf, int4};
use crate::store::Tx;
use crate::window::{ANY_WAITING, Window, open_windows};
use crate::{ChrootRow, OutboxEntry, SourceView, Store, StoreError};

/// How much to release.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseConfig {
    /// Released and unclaimed orders for each sandbox that could start now.
    pub window_factor: u32,
    /// The most tasks released by one call.
    pub max_batch: u32,
    /// Waiting this long raises a task by one class of priority.
    pub age_seconds: u32,
    /// Tasks of one owner on offer or running at once, where its account says nothing else.
    pub owner_running: u32,
}

impl Default for ReleaseConfig {
    fn default() -> Self {
        Self {
            window_factor: 1,
            max_batch: 200,
            age_seconds: 3600,
            owner_running: 100_000,
        }
    }
}

/// A task that is being released, with all that its order says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasedTask {
    /// The attempt made for it.
    pub attempt_id: AttemptId,
    /// That attempt's number, from 1.
    pub attempt_number: u32,
    /// The task.
    pub task_id: TaskId,
    /// Its build.
    pub build_id: BuildId,
    /// The project's owner.
    pub owner: Name,
    /// The project.
    pub project: Name,
    /// Where to build.
    pub chroot: ChrootRow,
    /// The memory class; with the architecture it names the route.
    pub memory_class: String,
    /// What to build, in order.
    pub sources: Vec<SourceView>,
    /// Extra repositories.
    pub repositories: Vec<RepositoryUrl>,
    /// Limits of each package.
    pub limits: Limits,
}

/// What one call released.
#[derive(Debug, Default)]
pub struct Release {
    /// The orders, the caller's to publish for ten seconds.
    pub entries: Vec<OutboxEntry>,
    /// Whether tasks were held back: they wait for room.
    pub held_back: bool,
}

impl Store {
    /// Releases waiting tasks of each route as far as its window is open: an attempt and an outbox row each. The
    /// higher class of priority goes first, then the owner with the fewest tasks under way, then the oldest. `body`
    /// makes the message of the order, which the store does not understand.
    pub async fn release_tasks<F>(
        &self,
        config: &ReleaseConfig,
        mut body: F,
    ) -> Result<Release, StoreError>
    where
        F: FnMut(&ReleasedTask) -> serde_json::Value + Send,
    {
        self.within(async {
            // Mostly nothing waits: that is found out without a transaction.
            let any: bool = sqlx::query_scalar(ANY_WAITING)
                .fetch_one(&self.pool)
                .await?;
            if !any {
                return Ok(Release::default());
            }
            let mut tx = self.begin().await?;
            let (windows, mut held_back) = open_windows(&mut tx, config).await?;
            if windows.is_empty() {
                return nothing(tx, held_back).await;
            }
            let (tasks, more) = take_tasks(&mut tx, &windows, config).await?;
            held_back |= more;
            if tasks.is_empty() {
                return nothing(tx, held_back).await;
            }
            let bodies = tasks.iter().map(&mut body).collect();
            let entries = offer(&mut tx, tasks, bodies).await?;
            tx.commit().await?;
            Ok(Release { entries, held_back })
        })
        .await
    }
}

/// Lets go of the routes before it returns: a transaction that is only dropped would hold them a moment longer, and the
/// next look would pass over them.
async fn nothing(tx: Tx, held_back: bool) -> Result<Release, StoreError> {
    tx.rollback().await?;
    Ok(Release {
        entries: Vec::new(),
        held_back,
    })
}

#[derive(FromRow)]
struct TaskColumns {
    id: i64,
    build_id: i64,
    attempts_made: i32,
    memory_class: String,
    owner: String,
    project: String,
    repositories: Vec<String>,
    memory_mib: i32,
    timeout_seconds: i32,
    is_some_owner_full: bool,
    #[sqlx(flatten)]
    chroot: ChrootColumns,
}

/// The tasks whose turn it is. Owners are found one after the other by index, and of each only as many tasks are
/// looked at as the window could take, so the length of the backlog does not matter. Two tasks of one owner count one
/// after the other (`turn`), so that owners alternate. A task locked by someone else is being cancelled: it is passed over.
const TURNS: &str = "
    with recursive w as (
        select * from unnest($1::text[], $2::text[], $3::bigint[]) as w(arch, memory_class, size)
    ), owners as (
        select w.arch, w.memory_class, (
            select t.owner_id from tasks t
            where t.arch = w.arch and t.memory_class = w.memory_class and t.state = 'waiting' and t.current_attempt is null
            order by t.owner_id limit 1) as owner_id
        from w
        union all
        select o.arch, o.memory_class, (
            select t.owner_id from tasks t
            where t.arch = o.arch and t.memory_class = o.memory_class and t.state = 'waiting' and t.current_attempt is null
                and t.owner_id > o.owner_id
            order by t.owner_id limit 1)
        from owners o where o.owner_id is not null
    ), active as (
        select t.owner_id, count(*) as tasks from tasks t
        where t.current_attempt is not null and t.state in ('waiting', 'queued', 'running')
        group by t.owner_id
    ), candidates as (
        select w.arch, w.memory_class, w.size, o.owner_id, t.id, coalesce(active.tasks, 0) as active,
            least(2, p.class + floor(extract(epoch from now() - t.created_at) / $4)) as class,
            coalesce(a.max_running, $5) as cap
        from w join owners o using (arch, memory_class) join accounts a on a.id = o.owner_id
        left join active on active.owner_id = o.owner_id
        cross join (values (0::smallint), (1::smallint), (2::smallint)) as p(class)
        cross join lateral (
            select t.id, t.created_at from tasks t
            where t.arch = w.arch and t.memory_class = w.memory_class and t.owner_id = o.owner_id and t.priority = p.class
                and t.state = 'waiting' and t.current_attempt is null and t.not_before <= now()
                and t.memory_mib <= (select max(l.memory_mib) from builders l
                    where w.arch = any(l.archs) and l.last_seen_at > now() - interval '25 seconds')
            order by t.id limit w.size
        ) t
    ), turns as (
        select c.*, row_number() over (partition by c.owner_id order by c.class desc, c.id) as turn from candidates c
    ), places as (
        select t.*, row_number() over (
            partition by t.arch, t.memory_class order by t.class desc, t.active + t.turn, t.id) as place
        from turns t where t.active + t.turn <= t.cap
    ), taken as (
        select t.*, places.place from places join tasks t on t.id = places.id
        where places.place <= places.size and t.state = 'waiting' and t.current_attempt is null
        order by t.id
        for no key update of t skip locked
    )
    select t.id, t.build_id, t.attempts_made, t.memory_class, o.name as owner, p.name as project,
        b.repositories, b.memory_mib, b.timeout_seconds, c.name, c.arch, c.image, c.mock_root, c.enabled,
        (select bool_or(active + turn > cap) from turns) as is_some_owner_full
    from taken t join builds b on b.id = t.build_id join projects p on p.id = b.project_id
        join accounts o on o.id = p.account_id join chroots c on c.name = t.chroot
    order by t.place, t.id";

/// Locks the tasks whose turn it is; also says whether others wait for room, or for their owner's.
async fn take_tasks(
    tx: &mut Tx,
    windows: &[Window],
    config: &ReleaseConfig,
) -> Result<(Vec<ReleasedTask>, bool), StoreError> {
    let rows: Vec<TaskColumns> = sqlx::query_as(TURNS)
        .bind(windows.iter().map(|w| w.arch.as_str()).collect::<Vec<_>>())
        .bind(
            windows
                .iter()
                .map(|w| w.memory_class.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(windows.iter().map(|w| w.size).collect::<Vec<_>>())
        .bind(int4(config.age_seconds.max(1)))
        .bind(int4(config.owner_running))
        .fetch_all(&mut **tx)
        .await?;
    let size: i64 = windows.iter().map(|window| window.size).sum();
    let is_full = i64::try_from(rows.len()).is_ok_and(|taken| taken == size);
    // Where windows are open and nothing could be taken, all that waits is held by its owner's limit or its size.
    let more = is_full || rows.first().is_none_or(|row| row.is_some_owner_full);
    let builds: Vec<i64> = rows.iter().map(|row| row.build_id).collect();
    let sources = sources_of(tx, &builds).await?;
    let tasks: Result<Vec<_>, _> = rows
        .into_iter()
        .map(|columns| released_task(columns, &sources))
        .collect();
    Ok((tasks?, more))
}

fn released_task(
    columns: TaskColumns,
    sources: &HashMap<BuildId, Vec<SourceView>>,
) -> Result<ReleasedTask, StoreError> {
    let row = RowOf::new("tasks", columns.id);
    let build_id = BuildId(columns.build_id);
    Ok(ReleasedTask {
        attempt_id: AttemptId::generate(),
        attempt_number: row.number(columns.attempts_made.saturating_add(1))?,
        task_id: TaskId(columns.id),
        build_id,
        owner: row.parse(&columns.owner)?,
        project: row.parse(&columns.project)?,
        chroot: columns.chroot.try_into()?,
        memory_class: columns.memory_class,
        sources: sources.get(&build_id).cloned().unwrap_or_default(),
        repositories: row.parse_all(&columns.repositories)?,
        limits: Limits {
            memory_mib: row.number(columns.memory_mib)?,
            timeout_seconds: row.number(columns.timeout_seconds)?,
        },
    })
}

/// Makes attempts and outbox rows for locked tasks.
async fn offer(
    tx: &mut Tx,
    tasks: Vec<ReleasedTask>,
    bodies: Vec<serde_json::Value>,
) -> Result<Vec<OutboxEntry>, StoreError> {
    let rows: Vec<(i64, Uuid)> = sqlx::query_as(
        "with new as (
            select * from unnest($1::uuid[], $2::bigint[], $3::jsonb[]) with ordinality as n(attempt_id, task_id, body, turn)
        ), offered as (
            update tasks t set current_attempt = new.attempt_id, attempts_made = t.attempts_made + 1
            from new where t.id = new.task_id and t.state = 'waiting' and t.current_attempt is null
            returning t.id, t.current_attempt, t.attempts_made, t.memory_mib, t.arch, t.memory_class
        ), made as (
            insert into attempts (id, task_id, number, memory_mib)
            select current_attempt, id, attempts_made, memory_mib from offered
        )
        insert into outbox (attempt_id, task_id, arch, memory_class, body, free_at)
        select o.current_attempt, o.id, o.arch, o.memory_class, new.body, now() + $4 * interval '1 second'
        from offered o join new on new.attempt_id = o.current_attempt order by new.turn
        returning id, attempt_id",
    )
    .bind(tasks.iter().map(|t| t.attempt_id.0).collect::<Vec<_>>())
    .bind(tasks.iter().map(|t| t.task_id.0).collect::<Vec<_>>())
    .bind(bodies.iter().map(Json).collect::<Vec<_>>())
    .bind(TAKEN_SECONDS)
    .fetch_all(&mut **tx)
    .await?;
    if rows.len() != tasks.len() {
        let problem = format!(
            "{} of {} locked tasks could be offered",
            rows.len(),
            tasks.len()
        );
        return Err(StoreError::inconsistent(
            "tasks",
            "(release)".to_owned(),
            problem,
        ));
    }
    let ids: HashMap<Uuid, i64> = rows
        .into_iter()
        .map(|(id, attempt)| (attempt, id))
        .collect();
    let entry = |(task, body): (ReleasedTask, serde_json::Value)| OutboxEntry {
        // Every attempt has its row, or the counts above would differ.
        id: ids.get(&task.attempt_id.0).copied().unwrap_or_default(),
        attempt_id: task.attempt_id,
        task_id: task.task_id,
        arch: task.chroot.arch,
        memory_class: task.memory_class,
        body,
    };
    Ok(tasks.into_iter().zip(bodies).map(entry).collect())
}
