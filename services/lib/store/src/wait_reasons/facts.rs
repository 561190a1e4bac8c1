//! Facts about why a task waits. Most are those that the release decides by, read for tasks that it did not select; the
//! others concern released tasks that no builder has claimed yet.

use std::collections::{BTreeSet, HashMap};

use millrace_domain::TaskId;
use sqlx::FromRow;

use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{RowOf, Time, int4};
use crate::scheduler::room::room;
use crate::wait_reasons::estimate::start_estimates;
use crate::wait_reasons::position::{BacklogCounts, TaskPlace};

/// Why a task is not released whatever room there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldReason {
    /// It was routed to the 2012 poller of this name.
    Poller(String),
    /// It was imported from another site and has not been released since.
    Import,
}

/// What keeps a task from being released or, once released, from being claimed, as far as the database knows.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitFacts {
    /// The task that waits.
    pub task_id: TaskId,
    /// Architecture of its chroot.
    pub arch: String,
    /// Its memory limit in MiB.
    pub memory_mib: u32,
    /// Memory of the largest live builder of the architecture, in MiB; none when there is no such builder.
    pub largest_mib: Option<u32>,
    /// Builders that could run it and were drained, by name.
    pub drained: Vec<String>,
    /// Builders that could run it and were set aside, by name.
    pub set_aside: Vec<String>,
    /// Memory of the largest live builder of the architecture whose spool disk has space, in MiB; none when there is none.
    pub largest_open_mib: Option<u32>,
    /// Live builders of the architecture that are large enough and whose disks are short of space, by name.
    pub short_of_disk: Vec<String>,
    /// Name of its chroot.
    pub chroot: String,
    /// Why it is not released at all: it is a poller's, or imported; none for an ordinary task.
    pub hold_reason: Option<HoldReason>,
    /// Reference of the chroot's image, where the task is delayed until a builder has it.
    pub lacking_image: Option<String>,
    /// The image that builders bake the chroot's image from; none when it is made elsewhere.
    pub base: Option<String>,
    /// State of the bake of that image, where a builder has begun one.
    pub bake: Option<BakeWait>,
    /// Whether a live builder that is large enough has that image, as far as is known.
    pub is_image_somewhere: bool,
    /// It is delayed until this time, in the future, because an earlier attempt failed or was put back.
    pub not_before: Option<Time>,
    /// Number of tasks that its owner has on offer or running.
    pub owner_active: u64,
    /// The most tasks that its owner may have on offer or running.
    pub owner_limit: u32,
    /// Number of tasks that are released before it, of its owner and of others; priorities count without what age adds.
    pub ahead: u64,
    /// It has a live attempt: its job message is in the outbox, or in a job queue.
    pub is_offered: bool,
    /// The broker has confirmed its job message, and no builder has claimed it.
    pub is_queued: bool,
    /// Name of the builder that is reserved for it.
    pub reserved_builder: Option<String>,
    /// A builder of its architecture that is reserved for a larger task: its name, and that task's memory in MiB.
    pub reserved_for_larger: Option<(String, u32)>,
    /// Seconds until it starts, estimated from recent tasks; none when there is nothing to estimate by.
    pub starts_in: Option<f64>,
}

/// The bake of an image that a task waits for, on the builder that is furthest with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BakeWait {
    /// Name of the builder that bakes it.
    pub builder: String,
    /// Whether it failed; otherwise it is under way.
    pub has_failed: bool,
    /// When this state began, by the builder's clock.
    pub since: Option<Time>,
    /// The error it failed with.
    pub error: Option<String>,
    /// When it is tried again, by the builder's clock.
    pub next_try_at: Option<Time>,
}

#[derive(FromRow)]
struct WaitColumns {
    id: i64,
    arch: String,
    memory_class: String,
    owner_id: i64,
    priority: i16,
    memory_mib: i32,
    largest_mib: Option<i32>,
    drained: Vec<String>,
    set_aside: Vec<String>,
    largest_open_mib: Option<i32>,
    short_of_disk: Vec<String>,
    chroot: String,
    held: Option<String>,
    poller: Option<String>,
    lacking_image: Option<String>,
    base: Option<String>,
    bake_builder: Option<String>,
    bake_failed: Option<bool>,
    bake_since: Option<Time>,
    bake_error: Option<String>,
    bake_next_try_at: Option<Time>,
    is_image_somewhere: bool,
    not_before: Option<Time>,
    owner_limit: i32,
    is_offered: bool,
    is_queued: bool,
    kept_builder: Option<String>,
    other_builder: Option<String>,
    other_mib: Option<i32>,
}

/// Facts of each task but for its position and the estimate. Takes no locks.
const FACTS: &str = concat!(
    room!(),
    " select t.id, t.arch, t.memory_class, t.owner_id, t.priority, t.memory_mib,
        (select max(l.memory_mib) from live l where t.arch = any(l.archs)) as largest_mib,
        resting.drained, resting.set_aside,
        (select max(l.memory_mib) from live l where t.arch = any(l.archs) and l.disk_floor_mib is null) as largest_open_mib,
        array(select l.name from live l where t.arch = any(l.archs) and l.memory_mib >= t.memory_mib
            and l.disk_floor_mib is not null order by l.name limit 10) as short_of_disk,
        t.chroot, t.held, (select p.name from builds b join legacy_pollers p on p.id = b.poller_id where b.id = t.build_id) as poller,
        case when t.lacks_image then c.image end as lacking_image, c.base,
        bake.name as bake_builder, bake.state = 'failed' as bake_failed, bake.since as bake_since,
        bake.error as bake_error, bake.next_try_at as bake_next_try_at,
        exists (select from live l where t.arch = any(l.archs) and l.memory_mib >= t.memory_mib
            and c.image <> all(l.missing_images)) as is_image_somewhere,
        case when t.not_before > now() then t.not_before end as not_before,
        coalesce(a.max_running, $2) as owner_limit, t.current_attempt is not null as is_offered,
        t.state = 'queued' as is_queued,
        (select k.name from kept k where k.task_id = t.id) as kept_builder,
        other.name as other_builder, other.memory_mib as other_mib
    -- Tasks, accounts and chroots by primary key.
    from tasks t join accounts a on a.id = t.owner_id join chroots c on c.name = t.chroot
    left join lateral (
        -- A builder that the task could run on but for a reservation for a larger one.
        select k.name, k.memory_mib from kept k join live l on l.id = k.builder_id
        where t.arch = any(l.archs) and k.task_id <> t.id and k.memory_mib > t.memory_mib
        order by k.name limit 1
    ) other on true
    left join lateral (
        -- The bake of the image that the task lacks, by chroot_images_of_chroot.
        select l.name, i.state, i.since, i.error, i.next_try_at
        from chroot_images i join live l on l.id = i.builder_id
        where t.lacks_image and i.chroot = t.chroot and i.state in ('baking', 'failed')
        -- One that bakes comes before those that failed.
        order by i.state, i.since, l.name limit 1
    ) bake on true
    cross join lateral (
        -- Builders that are alive and large enough and take no work; the view that room starts from leaves them out.
        select coalesce(array_agg(b.name order by b.name) filter (where b.drained_at is not null), '{}') as drained,
            coalesce(array_agg(b.name order by b.name) filter (where b.drained_at is null), '{}') as set_aside
        from builders b
        where b.last_seen_at > now() - interval '25 seconds' and not b.stopping
            and (b.drained_at is not null or b.set_aside_at is not null)
            and t.arch = any(b.archs) and b.memory_mib >= t.memory_mib
    ) resting
    where t.id = any($1) and t.state in ('waiting', 'queued')"
);

impl Store {
    /// Facts about why these tasks wait, for their release or for a builder; a task in another state is left out. The
    /// backlog of their routes is counted once, however many tasks are asked about.
    pub async fn wait_facts(
        &self,
        tasks: &[TaskId],
        owner_limit: u32,
    ) -> Result<Vec<WaitFacts>, StoreError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        self.within(async {
            let mut tx = self.snapshot().await?;
            let rows: Vec<WaitColumns> = sqlx::query_as(FACTS)
                .bind(tasks.iter().map(|id| id.0).collect::<Vec<_>>())
                .bind(int4(owner_limit))
                .fetch_all(&mut *tx)
                .await?;
            let facts = if rows.is_empty() {
                Vec::new()
            } else {
                with_positions(&mut tx, rows).await?
            };
            tx.commit().await?;
            Ok(facts)
        })
        .await
    }
}

/// Adds to each task's row what needs the whole backlog: its position and the estimate of its start.
async fn with_positions(tx: &mut Tx, rows: Vec<WaitColumns>) -> Result<Vec<WaitFacts>, StoreError> {
    let asked: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let counts = BacklogCounts::read(tx, &asked).await?;
    let mut tasks = Vec::with_capacity(rows.len());
    let mut needs = BTreeSet::new();
    for columns in &rows {
        let facts = facts_of(columns, &counts)?;
        needs.insert((
            columns.arch.as_str(),
            columns.memory_class.as_str(),
            facts.memory_mib,
        ));
        tasks.push(facts);
    }
    let needs: Vec<_> = needs.into_iter().collect();
    let estimates: HashMap<_, _> = start_estimates(tx, &needs).await?.into_iter().collect();
    for (facts, columns) in tasks.iter_mut().zip(&rows) {
        let need = (
            columns.arch.clone(),
            columns.memory_class.clone(),
            facts.memory_mib,
        );
        // A released task, and one with a reservation, has no other task ahead of it.
        let ahead = if facts.is_queued || facts.reserved_builder.is_some() {
            0
        } else {
            facts.ahead
        };
        facts.starts_in = estimates
            .get(&need)
            .and_then(|estimate| estimate.starts_in(ahead));
    }
    Ok(tasks)
}

fn facts_of(columns: &WaitColumns, counts: &BacklogCounts) -> Result<WaitFacts, StoreError> {
    let row = RowOf::new("tasks", columns.id);
    let number = |mib: i32| row.number(mib);
    let other_mib: Option<u32> = columns.other_mib.map(number).transpose()?;
    let place = TaskPlace {
        id: columns.id,
        arch: &columns.arch,
        memory_class: &columns.memory_class,
        owner_id: columns.owner_id,
        priority: columns.priority,
    };
    Ok(WaitFacts {
        task_id: TaskId(columns.id),
        arch: columns.arch.clone(),
        memory_mib: row.number(columns.memory_mib)?,
        largest_mib: columns.largest_mib.map(number).transpose()?,
        drained: columns.drained.clone(),
        set_aside: columns.set_aside.clone(),
        largest_open_mib: columns.largest_open_mib.map(number).transpose()?,
        short_of_disk: columns.short_of_disk.clone(),
        chroot: columns.chroot.clone(),
        hold_reason: hold_reason(&row, columns.held.as_deref(), columns.poller.as_deref())?,
        lacking_image: columns.lacking_image.clone(),
        base: columns.base.clone(),
        bake: columns.bake_builder.clone().map(|builder| BakeWait {
            builder,
            has_failed: columns.bake_failed == Some(true),
            since: columns.bake_since,
            error: columns.bake_error.clone(),
            next_try_at: columns.bake_next_try_at,
        }),
        is_image_somewhere: columns.is_image_somewhere,
        not_before: columns.not_before,
        owner_active: counts.active(columns.owner_id),
        owner_limit: row.number(columns.owner_limit)?,
        ahead: counts.ahead(&place),
        is_offered: columns.is_offered,
        is_queued: columns.is_queued,
        reserved_builder: columns.kept_builder.clone(),
        reserved_for_larger: columns.other_builder.clone().zip(other_mib),
        starts_in: None,
    })
}

fn hold_reason(
    row: &RowOf<i64>,
    held: Option<&str>,
    poller: Option<&str>,
) -> Result<Option<HoldReason>, StoreError> {
    match held {
        None => Ok(None),
        Some("import") => Ok(Some(HoldReason::Import)),
        Some("poller") => Ok(Some(HoldReason::Poller(
            poller.unwrap_or_default().to_owned(),
        ))),
        Some(other) => Err(row.fault(format!("{other:?} is no reason to hold a task"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_reason_to_hold_a_task_is_an_error_that_names_the_row() {
        let row = RowOf::new("tasks", 7);
        let known = |word, poller| hold_reason(&row, word, poller).unwrap();
        assert_eq!(known(None, None), None);
        assert_eq!(known(Some("import"), None), Some(HoldReason::Import));
        assert_eq!(
            known(Some("poller"), Some("old")),
            Some(HoldReason::Poller("old".to_owned()))
        );
        let error = hold_reason(&row, Some("strike"), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"table tasks, row 7: "strike" is no reason to hold a task"#
        );
    }
}
