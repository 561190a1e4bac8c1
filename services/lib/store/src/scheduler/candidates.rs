//! Reads the candidates of a release by index: owner by owner, of each its oldest task. The cost depends neither on the
//! length of an owner's queue nor, beyond what the windows have room for, on the number of owners.

use std::collections::{HashMap, HashSet};

use sqlx::FromRow;

use crate::database::Tx;
use crate::error::StoreError;
use crate::row::int4;
use crate::scheduler::cursor::{OwnerScan, Purpose, ScanCursor};
use crate::scheduler::fair_share::{Candidate, OwnerQueue, OwnerUsage, Remainder};
use crate::scheduler::index_conditions::{tasks_in_line, tasks_in_line_by_need};
use crate::scheduler::window::{ReleaseScope, Window};

/// Classes of priority as stored, the highest first.
const PRIORITIES: [i16; 3] = [2, 1, 0];
/// Owners that each release checks for aged tasks, where more owners wait than it can serve.
const AGED_OWNERS: i64 = 8;
/// Owners scanned beyond a route's own window where other routes are open too: an owner that is served there counts as
/// having work under way here.
const OTHER_ROUTES: i64 = 8;
/// Owners without a task that fits that a scan may pass over.
const UNFIT_OWNERS: i64 = 200;

/// Loose index scan over owners of one route and priority. Starts after owner `$4`, wraps around once, stops after `$5`
/// owners without running tasks that have a task that fits, or after `$6` owners. Per owner it returns one task: the
/// oldest if it fits in `$7` MiB, else the first of the 16 oldest that fits, else the smallest if that fits. Takes no
/// locks.
const SCAN_OWNERS: &str = concat!(
    "
    -- One row per scan, numbered from 1 in the order of the arrays.
    with recursive seeds as (
        select s.* from unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
            with ordinality as s(arch, memory_class, priority, start, wanted, most, fit_mib, seed)
    ),
    -- Each step is one owner of one scan. Without an id nothing of the owner fits.
    walk as (
        select s.*, s.start as owner_id, 9223372036854775807 as until, 0::bigint as fresh, 0::bigint as steps,
            null::bigint as id, null::integer as memory_mib, null::timestamptz as created_at, false as is_fresh
        from seeds s
        union all
        select w.arch, w.memory_class, w.priority, w.start, w.wanted, w.most, w.fit_mib, w.seed, n.owner_id, n.until,
            w.fresh + (u.is_fresh and coalesce(f.id, n.id) is not null)::integer, w.steps + 1,
            coalesce(n.id, f.id), coalesce(n.memory_mib, f.memory_mib), coalesce(n.created_at, f.created_at), u.is_fresh
        from walk w cross join lateral (
            -- n: the next owner and its oldest task, by tasks_in_line; past the last owner it wraps around to the first
            -- and goes on to where the scan started. Tasks in $10 have a reservation and need no selection.
            select o.owner_id, o.until, case when o.memory_mib <= w.fit_mib then o.id end as id,
                case when o.memory_mib <= w.fit_mib then o.memory_mib end as memory_mib,
                case when o.memory_mib <= w.fit_mib then o.created_at end as created_at
            from (
                (select t.owner_id, t.id, t.memory_mib, t.created_at, w.until from tasks t
                where t.arch = w.arch and t.memory_class = w.memory_class and t.priority = w.priority
                    and ",
    tasks_in_line!(),
    " and t.id <> all($10::bigint[])
                    and t.owner_id > w.owner_id and t.owner_id <= w.until
                order by t.owner_id, t.id limit 1)
                union all
                (select t.owner_id, t.id, t.memory_mib, t.created_at, w.start from tasks t
                where t.arch = w.arch and t.memory_class = w.memory_class and t.priority = w.priority
                    and ",
    tasks_in_line!(),
    " and t.id <> all($10::bigint[])
                    and w.until > w.start and t.owner_id <= w.start
                order by t.owner_id, t.id limit 1)
            ) o limit 1
        ) n cross join lateral (
            -- u: whether the owner has nothing under way, by tasks_of_owner.
            select not exists (select from tasks t where t.owner_id = n.owner_id
                and t.current_attempt is not null and t.state in ('waiting', 'queued', 'running')) as is_fresh
        ) u left join lateral (
            -- f: where the oldest task does not fit, the first of the 16 oldest that does, by tasks_in_line; else the
            -- smallest task if that fits, by tasks_in_line_by_need.
            (select o.* from (
                select t.id, t.memory_mib, t.created_at from tasks t
                where n.id is null and t.arch = w.arch and t.memory_class = w.memory_class and t.priority = w.priority
                    and ",
    tasks_in_line!(),
    "
                    and t.owner_id = n.owner_id and t.id <> all($10::bigint[])
                order by t.id limit 16
            ) o where o.memory_mib <= w.fit_mib order by o.id limit 1)
            union all
            (select t.id, t.memory_mib, t.created_at from tasks t
            where n.id is null and t.arch = w.arch and t.memory_class = w.memory_class and t.priority = w.priority
                and ",
    tasks_in_line_by_need!(),
    "
                and t.owner_id = n.owner_id and t.memory_mib <= w.fit_mib and t.id <> all($10::bigint[])
            order by t.memory_mib, t.id limit 1)
            limit 1
        ) f on true
        where w.fresh < w.wanted and w.steps < w.most
    )
    -- Waiting raises a task by one class per $8 seconds. An owner's own limit goes before the general one, $9.
    select w.seed, w.owner_id, w.is_fresh, w.id, w.memory_mib::bigint,
        least(2, w.priority + floor(extract(epoch from now() - w.created_at)::float8 / $8))::smallint as class,
        coalesce(a.max_running, $9)::bigint as most
    from walk w join accounts a on a.id = w.owner_id
    where w.steps > 0 order by w.seed, w.steps"
);

/// Owners that have tasks on offer or running, how many, and how many they may have.
const OWNERS_WITH_TASKS: &str = "
    select c.owner_id, c.tasks, coalesce(a.max_running, $1)::bigint
    from (
        select t.owner_id, count(*) as tasks from tasks t
        where t.current_attempt is not null and t.state in ('waiting', 'queued', 'running')
        group by t.owner_id
    ) c join accounts a on a.id = c.owner_id";

/// What the fair-share selection of one release works on.
pub(crate) struct Candidates {
    pub(crate) queues: Vec<OwnerQueue>,
    pub(crate) owners: HashMap<i64, OwnerUsage>,
    scans: Vec<ScanRun>,
}

/// One scan of this release, and the owners it reached, in order.
struct ScanRun {
    scan: OwnerScan,
    /// Index of the route's window.
    window: usize,
    /// The owner after whom it started.
    start: i64,
    /// It stops after this many owners with a candidate and nothing under way.
    wanted: i64,
    /// It stops after this many owners.
    max_owners: i64,
    seen: Vec<OwnerSeen>,
}

struct OwnerSeen {
    owner_id: i64,
    /// The owner has a task that fits and nothing under way.
    is_candidate: bool,
}

#[derive(FromRow)]
struct ScanRow {
    /// Number of the scan, from 1.
    seed: i64,
    owner_id: i64,
    is_fresh: bool,
    id: Option<i64>,
    memory_mib: Option<i64>,
    class: Option<i16>,
    #[sqlx(rename = "most")]
    owner_limit: i64,
}

impl Candidates {
    /// Reads the candidates for these windows. Tasks that are ready by reservation are left out and count as under way.
    pub(crate) async fn read(
        tx: &mut Tx,
        cursor: &ScanCursor,
        scope: &ReleaseScope<'_>,
    ) -> Result<Self, StoreError> {
        let (windows, config) = (scope.windows, scope.config);
        let owners: Vec<(i64, i64, i64)> = sqlx::query_as(OWNERS_WITH_TASKS)
            .bind(int4(config.owner_running))
            .fetch_all(&mut **tx)
            .await?;
        let scans = plan_scans(cursor, windows, owners.len());
        let numbers = |number: fn(&ScanRun) -> i64| scans.iter().map(number).collect::<Vec<_>>();
        let texts = |text: fn(&ScanRun) -> &str| scans.iter().map(text).collect::<Vec<_>>();
        let fit_mib = scans.iter().map(|run| windows[run.window].fit_mib);
        let rows: Vec<ScanRow> = sqlx::query_as(SCAN_OWNERS)
            .bind(texts(|run| &run.scan.arch))
            .bind(texts(|run| &run.scan.memory_class))
            .bind(
                scans
                    .iter()
                    .map(|run| run.scan.priority)
                    .collect::<Vec<_>>(),
            )
            .bind(numbers(|run| run.start))
            .bind(numbers(|run| run.wanted))
            .bind(numbers(|run| run.max_owners))
            .bind(fit_mib.collect::<Vec<_>>())
            .bind(int4(config.age_seconds.max(1)))
            .bind(int4(config.owner_running))
            .bind(scope.ready_ids())
            .fetch_all(&mut **tx)
            .await?;
        let usage = |(owner, tasks, limit)| (owner, OwnerUsage { tasks, limit });
        let mut candidates = Self {
            queues: Vec::new(),
            owners: owners.into_iter().map(usage).collect(),
            scans,
        };
        for ready in scope.ready {
            let unused = OwnerUsage::none(ready.owner_limit);
            let usage = candidates.owners.entry(ready.owner_id).or_insert(unused);
            usage.tasks += 1;
        }
        candidates.add_rows(rows);
        Ok(candidates)
    }

    fn add_rows(&mut self, rows: Vec<ScanRow>) {
        let mut queued = HashSet::new();
        for row in rows {
            // Scans are numbered from 1, in the order in which they were sent.
            let index = usize::try_from(row.seed - 1).ok();
            let Some(run) = index.and_then(|index| self.scans.get_mut(index)) else {
                continue;
            };
            run.seen.push(OwnerSeen {
                owner_id: row.owner_id,
                is_candidate: row.is_fresh && row.id.is_some(),
            });
            let unused = OwnerUsage::none(row.owner_limit);
            self.owners.entry(row.owner_id).or_insert(unused);
            // The scan for aged tasks and the one that fills the window may reach the same owner.
            let (window, priority) = (run.window, run.scan.priority);
            if queued.insert((window, priority, row.owner_id)) {
                self.queues.push(OwnerQueue {
                    window,
                    owner_id: row.owner_id,
                    priority,
                    tasks: candidate(&row).into_iter().collect(),
                    remainder: Remainder::Unread,
                });
            }
        }
    }

    /// Moves each cursor to the first owner that had a candidate but was not served.
    pub(crate) fn advance_cursor(self, cursor: &ScanCursor, served: &HashSet<i64>) {
        for run in self.scans {
            if !run.stopped_early() {
                cursor.restart(&run.scan);
                continue;
            }
            let is_done = |owner: &&OwnerSeen| {
                run.scan.purpose == Purpose::FindAged
                    || !owner.is_candidate
                    || served.contains(&owner.owner_id)
            };
            let last = run.seen.iter().take_while(is_done).last();
            let start = last.map_or(run.start, |owner| owner.owner_id);
            cursor.resume_after(run.scan, start);
        }
    }
}

impl ScanRun {
    /// Whether it may have ended before it reached every owner.
    fn stopped_early(&self) -> bool {
        let candidates = self.seen.iter().filter(|owner| owner.is_candidate).count();
        let reached = |most: i64, count: usize| usize::try_from(most).is_ok_and(|m| count >= m);
        reached(self.wanted, candidates) || reached(self.max_owners, self.seen.len())
    }
}

/// For each window one scan per class of priority. Where the last release did not reach every owner, a second scan looks
/// for tasks that have aged meanwhile; the highest class needs none, since age cannot raise it.
fn plan_scans(cursor: &ScanCursor, windows: &[Window], owners_under_way: usize) -> Vec<ScanRun> {
    let all: i64 = windows.iter().map(|window| window.size).sum();
    let owners_under_way = i64::try_from(owners_under_way).unwrap_or(i64::MAX / 2);
    let mut scans = Vec::new();
    for (index, window) in windows.iter().enumerate() {
        for priority in PRIORITIES {
            let scan = |purpose| OwnerScan {
                arch: window.arch.clone(),
                memory_class: window.memory_class.clone(),
                priority,
                purpose,
            };
            let mut add = |scan: OwnerScan, wanted: i64, max_owners: i64| {
                scans.push(ScanRun {
                    start: cursor.start(&scan).unwrap_or_default(),
                    scan,
                    window: index,
                    wanted,
                    max_owners,
                    seen: Vec::new(),
                });
            };
            let wanted = all.min(window.size + OTHER_ROUTES);
            let fill = scan(Purpose::FillWindow);
            if cursor.start(&fill).is_some() && priority < PRIORITIES[0] {
                add(scan(Purpose::FindAged), AGED_OWNERS, AGED_OWNERS);
            }
            add(fill, wanted, wanted + owners_under_way + UNFIT_OWNERS);
        }
    }
    scans
}

fn candidate(row: &ScanRow) -> Option<Candidate> {
    Some(Candidate {
        id: row.id?,
        memory_mib: row.memory_mib?,
        class: row.class?,
    })
}
