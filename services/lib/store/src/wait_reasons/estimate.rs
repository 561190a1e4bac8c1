//! Estimate of when a waiting task starts, from how long recent tasks took and what runs now.

use sqlx::FromRow;

use crate::database::Tx;
use crate::error::StoreError;
use crate::row::int4;
use crate::scheduler::room::room;

/// Tasks of a route, the last that ended, whose duration the estimate is based on.
const LAST_ENDED: i32 = 50;
/// A task that has run longer than the median is assumed to run on for this fraction of its time so far.
const OVERTIME: f64 = 0.25;

/// What decides when the tasks of one route that need the same memory start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StartEstimate {
    /// Median duration of the last tasks of the route, else of the last ones of all routes, in seconds; none when no task
    /// has ended.
    pub task_seconds: Option<f64>,
    /// Sandboxes of this need that live builders could run at once.
    pub slots: u32,
    /// Sandboxes of this need that could start now.
    pub free: u32,
    /// Tasks that run on these builders: for how long, in seconds, and the memory of each, in MiB.
    pub running: Vec<(f64, u32)>,
    /// Memory that each of the waiting tasks needs, in MiB.
    pub memory_mib: u32,
}

impl StartEstimate {
    /// Seconds until a task starts that has `ahead` tasks before it; none when no builder is large enough or no task has
    /// ended yet.
    pub fn starts_in(&self, ahead: u64) -> Option<f64> {
        let slots = u64::from(self.slots);
        if slots == 0 {
            return None;
        }
        let (round, place) = (ahead / slots, ahead % slots);
        if round == 0 && place < u64::from(self.free) {
            return Some(0.0);
        }
        let task_seconds = self.task_seconds?;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let rounds = round as f64 * task_seconds;
        Some(rounds + self.slot_free_in(place, task_seconds))
    }

    /// Seconds until the sandbox with this number, from 0, is free: none, or until enough running tasks have ended.
    fn slot_free_in(&self, place: u64, task_seconds: f64) -> f64 {
        let Some(wanted) = place.checked_sub(u64::from(self.free)) else {
            return 0.0;
        };
        let mut ends: Vec<(f64, u32)> = self
            .running
            .iter()
            .map(|(elapsed, memory)| (remaining(*elapsed, task_seconds), *memory))
            .collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut freed_mib = 0;
        for (ended, (seconds, memory)) in (1..).zip(&ends) {
            freed_mib += u64::from(*memory);
            let sandboxes = freed_mib / u64::from(self.memory_mib.max(1));
            if sandboxes.min(ended) > wanted {
                return *seconds;
            }
        }
        ends.last().map_or(0.0, |last| last.0)
    }
}

/// Seconds that a running task is expected to take from now on.
fn remaining(elapsed: f64, task_seconds: f64) -> f64 {
    if elapsed < task_seconds {
        task_seconds - elapsed
    } else {
        elapsed * OVERTIME
    }
}

#[derive(FromRow)]
struct EstimateColumns {
    arch: String,
    memory_class: String,
    memory_mib: i32,
    task_seconds: Option<f64>,
    slots: i64,
    free: i64,
    elapsed: Vec<f64>,
    memories: Vec<i32>,
}

/// What [`StartEstimate`] holds, for each need asked about. Takes no locks.
const START_ESTIMATES: &str = concat!(
    room!(),
    ",
    -- The needs: architecture, memory class and MiB.
    asked as (
        select * from unnest($1::text[], $2::text[], $3::integer[]) as n(arch, memory_class, memory_mib)
    ),
    -- Durations of the last $4 tasks of every route, by tasks_ended.
    took as (
        select r.arch, r.memory_class, e.seconds
        from routes r cross join lateral (
            select extract(epoch from t.ended_at - t.started_at)::float8 as seconds from tasks t
            where t.arch = r.arch and t.memory_class = r.memory_class
                and t.state in ('succeeded', 'failed') and t.started_at is not null
            order by t.ended_at desc limit $4
        ) e
    ),
    -- Of each engine the sandboxes of a need that it could run at all, and those that it could start now. Builders of one
    -- engine share its memory.
    engines_of as (
        select n.arch, n.memory_class, n.memory_mib,
            least(sum(least(r.sandboxes + coalesce(h.sandboxes, 0), r.offer_mib / n.memory_mib)),
                max(e.budget_mib) / n.memory_mib) as slots,
            least(sum(greatest(least(r.sandboxes, r.own_mib / n.memory_mib), 0)) filter (where r.kept_for is null),
                greatest(max(e.memory_mib), 0) / n.memory_mib) as free
        from asked n join room r on n.arch = any(r.archs) join engine_room e on e.id = r.engine_id
        left join held h on h.builder_id = r.id
        group by n.arch, n.memory_class, n.memory_mib, r.engine_id
    )
    select n.arch, n.memory_class, n.memory_mib,
        coalesce(
            (select percentile_cont(0.5) within group (order by seconds) from took
             where took.arch = n.arch and took.memory_class = n.memory_class),
            (select percentile_cont(0.5) within group (order by seconds) from took)) as task_seconds,
        coalesce((select sum(o.slots) from engines_of o where o.arch = n.arch and o.memory_class = n.memory_class
            and o.memory_mib = n.memory_mib), 0)::bigint as slots,
        coalesce((select sum(o.free) from engines_of o where o.arch = n.arch and o.memory_class = n.memory_class
            and o.memory_mib = n.memory_mib), 0)::bigint as free,
        running.elapsed, running.memories
    from asked n cross join lateral (
        -- Claimed attempts that hold memory on the architecture's builders, by attempts_of_builder.
        select coalesce(array_agg(extract(epoch from now() - a.claimed_at)::float8 order by a.id), '{}') as elapsed,
            coalesce(array_agg(a.memory_mib order by a.id), '{}') as memories
        from attempts a join room r on r.id = a.builder_id
        where a.state = 'claimed' and a.phase in ('fetching', 'building', 'collecting') and n.arch = any(r.archs)
    ) running"
);

/// Architecture, memory class, and memory in MiB.
pub(crate) type Need = (String, String, u32);

/// Reads the estimate for each of these needs.
pub(crate) async fn start_estimates(
    tx: &mut Tx,
    needs: &[(&str, &str, u32)],
) -> Result<Vec<(Need, StartEstimate)>, StoreError> {
    let rows: Vec<EstimateColumns> = sqlx::query_as(START_ESTIMATES)
        .bind(needs.iter().map(|n| n.0).collect::<Vec<_>>())
        .bind(needs.iter().map(|n| n.1).collect::<Vec<_>>())
        .bind(needs.iter().map(|n| int4(n.2)).collect::<Vec<_>>())
        .bind(LAST_ENDED)
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().map(estimate).collect())
}

fn estimate(columns: EstimateColumns) -> (Need, StartEstimate) {
    let number = |value: i64| u32::try_from(value).unwrap_or(0);
    let memories = columns.memories.iter().map(|mib| number((*mib).into()));
    let memory_mib = number(columns.memory_mib.into());
    let estimate = StartEstimate {
        task_seconds: columns.task_seconds,
        slots: number(columns.slots),
        free: number(columns.free),
        running: columns.elapsed.iter().copied().zip(memories).collect(),
        memory_mib,
    };
    ((columns.arch, columns.memory_class, memory_mib), estimate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, wanted: f64) {
        let found = found.expect("an estimate");
        assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
    }

    #[test]
    fn who_finds_a_free_sandbox_starts_now_and_the_others_when_one_ends() {
        let estimate = StartEstimate {
            task_seconds: Some(100.0),
            slots: 3,
            free: 1,
            running: vec![(10.0, 2048), (60.0, 2048)],
            memory_mib: 2048,
        };
        near(estimate.starts_in(0), 0.0);
        near(estimate.starts_in(1), 40.0);
        near(estimate.starts_in(2), 90.0);
        near(estimate.starts_in(3), 100.0);
        near(estimate.starts_in(4), 140.0);
    }

    #[test]
    fn a_large_task_waits_until_enough_has_ended() {
        let estimate = StartEstimate {
            task_seconds: Some(100.0),
            slots: 1,
            free: 0,
            running: vec![(10.0, 2048), (60.0, 2048), (200.0, 2048)],
            memory_mib: 4096,
        };
        near(estimate.starts_in(0), 50.0);
        near(estimate.starts_in(2), 250.0);
    }

    #[test]
    fn what_cannot_be_known_is_not_told() {
        let estimate = StartEstimate {
            slots: 2,
            free: 1,
            memory_mib: 1,
            ..StartEstimate::default()
        };
        near(estimate.starts_in(0), 0.0);
        assert_eq!(estimate.starts_in(1), None, "nothing has ended yet");
        assert_eq!(
            StartEstimate::default().starts_in(0),
            None,
            "nothing is large enough"
        );
    }
}
