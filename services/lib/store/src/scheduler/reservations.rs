//! Reservations: a builder that is kept free for a large task, which would otherwise wait as long as small ones keep
//! coming. They are rows, made and ended by one sweeper at a time, so all frontends agree.
//!
//! A task is large when it needs more than any builder has free and more than the smallest task that builders run: what
//! each ending frees is then taken by others before it is enough. Where all tasks are alike, turns decide alone.

use millrace_domain::{BuilderId, TaskId};
use sqlx::FromRow;
use uuid::Uuid;

use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{RowOf, int4};
use crate::scheduler::room::room;
use crate::scheduler::routes::Routes;
use crate::scheduler::types::{Ready, ReleaseConfig};

/// Names the lock that one sweeper at a time has.
const LOCK: i64 = 0x6d69_6c6c_6b65_7074;

/// When builders are kept free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReserveConfig {
    /// A large task waits this long before a builder is kept free for it, in seconds; 0: for ever.
    pub after_seconds: u32,
    /// Tasks of one owner on offer or running at once, where its account says nothing else.
    pub owner_running: u32,
}

/// A builder and the task it is kept free for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The builder.
    pub builder_id: BuilderId,
    /// The task.
    pub task_id: TaskId,
}

/// What became of reservations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReservationChanges {
    /// Builders that are free for all tasks again.
    pub ended: Vec<BuilderId>,
    /// Builders that are kept free from now on.
    pub made: Vec<Reservation>,
}

/// Whether there is anything to decide: a reservation, or a task that waits.
const ANY: &str = "
    select exists (select from reservations where task_id is not null)
        or ($1 > 0 and exists (select from routes r cross join lateral (
            select from tasks t where t.arch = r.arch and t.memory_class = r.memory_class
                and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.priority >= 0 limit 1) w))";

/// Ends reservations whose task was claimed or is over, or whose builder takes no work any more.
const END: &str = concat!(
    room!(),
    " update reservations r set task_id = null, ended_at = now()
    where r.task_id is not null and ($1 = 0
        or not exists (select from kept k where k.builder_id = r.builder_id)
        or not exists (select from live l where l.id = r.builder_id and l.memory_mib >= r.memory_mib))
    returning r.builder_id"
);

/// Of each route the oldest large task that has waited long enough and that its owner may have running. The needs of a
/// route are found one after the other by index; of each only the oldest tasks are looked at.
const LARGE: &str = concat!(
    room!(),
    ", reach as (
        select a.arch, max(r.offer_mib) as largest_mib, greatest(
            coalesce(max(least(r.own_mib, r.engine_mib)) filter (where r.kept_for is null), 0),
            min(r.smallest_mib))::integer as reach_mib
        from (select distinct unnest(archs) as arch from live) a join room r on a.arch = any(r.archs)
        group by a.arch
    ), needs as (
        select ro.arch, ro.memory_class, reach.largest_mib, n.memory_mib
        from routes ro join reach on reach.arch = ro.arch
        cross join lateral (
            select t.memory_mib from tasks t
            where t.arch = ro.arch and t.memory_class = ro.memory_class and t.memory_mib > reach.reach_mib
                and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.memory_mib > 0
            order by t.memory_mib limit 1
        ) n
        where n.memory_mib <= reach.largest_mib
            and not exists (select from kept k where k.arch = ro.arch and k.memory_class = ro.memory_class)
        union all
        select d.arch, d.memory_class, d.largest_mib, n.memory_mib
        from needs d cross join lateral (
            select t.memory_mib from tasks t
            where t.arch = d.arch and t.memory_class = d.memory_class and t.memory_mib > d.memory_mib
                and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.memory_mib > 0
            order by t.memory_mib limit 1
        ) n
        where n.memory_mib <= d.largest_mib
    )
    select distinct on (d.arch, d.memory_class) t.id, d.arch, d.memory_mib, t.avoid
    from needs d cross join lateral (
        select o.* from (
            select t.id, t.owner_id, t.waiting_since, t.avoid from tasks t
            where t.arch = d.arch and t.memory_class = d.memory_class and t.memory_mib = d.memory_mib
                and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.memory_mib > 0
            order by t.id limit 200
        ) o join accounts a on a.id = o.owner_id
        where o.waiting_since < now() - $1 * interval '1 second' and (
            select count(*) from tasks t where t.owner_id = o.owner_id
                and t.current_attempt is not null and t.state in ('waiting', 'queued', 'running')
            ) < coalesce(a.max_running, $2)
        order by o.id limit 1
    ) t
    order by d.arch, d.memory_class, t.id"
);

/// Builders as the choice sees them. One whose engine had a reservation not long ago rests.
const BUILDERS: &str = concat!(
    room!(),
    " select r.id, r.archs, r.engine_id, r.offer_mib::bigint, least(r.own_mib, r.engine_mib)::bigint as free_mib,
        exists (select from kept k where k.engine_id = r.engine_id) as is_engine_kept, r.kept_for is not null as is_kept,
        exists (select from reservations e join builders b on b.id = e.builder_id
            where b.engine_id = r.engine_id and e.ended_at > now() - $1 * interval '1 second') as is_resting
    from room r order by r.id"
);

/// Tasks that a builder is kept free for and that some builder has the room for now; locked. The kept builder's room
/// is for its task alone, and what its engine keeps for that task counts for it.
const READY: &str = concat!(
    room!(),
    " select t.id as task_id, t.owner_id, coalesce(a.max_running, $3)::bigint as most
    from kept k join tasks t on t.id = k.task_id join accounts a on a.id = t.owner_id
    where t.id = any(array(select task_id from kept)) and exists (select from unnest($1::text[], $2::text[]) as w(arch, memory_class)
            where w.arch = t.arch and w.memory_class = t.memory_class)
        and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.not_before <= now()
        and (select count(*) from tasks o where o.owner_id = t.owner_id
            and o.current_attempt is not null and o.state in ('waiting', 'queued', 'running')
            ) < coalesce(a.max_running, $3)
        and exists (select from room r
            where t.arch = any(r.archs) and (r.kept_for is null or r.kept_for = t.id)
                and r.sandboxes > 0 and r.own_mib >= t.memory_mib
                and r.engine_mib + case when r.engine_id = k.engine_id then k.memory_mib else 0 end >= t.memory_mib)
    order by t.id
    for no key update of t skip locked"
);

/// What a builder leaves room for: the task that it is kept free for, or that a neighbour is kept free for as long as
/// their engine has nothing left over.
const KEPT_FREE: &str = concat!(
    room!(),
    " select max(k.memory_mib) from room r join kept k on k.engine_id = r.engine_id
    where r.id = $1 and (k.builder_id = r.id or r.engine_mib <= 0)"
);

#[derive(FromRow)]
struct LargeTask {
    id: i64,
    arch: String,
    memory_mib: i32,
    avoid: Vec<Uuid>,
}

#[derive(FromRow)]
struct BuilderRoom {
    id: Uuid,
    archs: Vec<String>,
    engine_id: String,
    offer_mib: i64,
    free_mib: i64,
    is_engine_kept: bool,
    is_kept: bool,
    is_resting: bool,
}

impl Store {
    /// Ends reservations that are fulfilled or in vain, and makes new ones; to be repeated each second. Of several
    /// callers at once one does it.
    pub async fn reserve(&self, config: &ReserveConfig) -> Result<ReservationChanges, StoreError> {
        self.within(async {
            let any: bool = sqlx::query_scalar(ANY)
                .bind(int4(config.after_seconds))
                .fetch_one(&self.pool)
                .await?;
            if !any {
                return Ok(ReservationChanges::default());
            }
            let mut tx = self.begin().await?;
            let is_alone: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock($1)")
                .bind(LOCK)
                .fetch_one(&mut *tx)
                .await?;
            if !is_alone {
                return Ok(ReservationChanges::default());
            }
            let ended: Vec<Uuid> = sqlx::query_scalar(END)
                .bind(int4(config.after_seconds))
                .fetch_all(&mut *tx)
                .await?;
            let made = make(&mut tx, config).await?;
            tx.commit().await?;
            let ended = ended.into_iter().map(BuilderId).collect();
            Ok(ReservationChanges { ended, made })
        })
        .await
    }

    /// What this builder is to leave room for, in MiB; none in the ordinary case.
    pub async fn kept_free(&self, builder: BuilderId) -> Result<Option<u32>, StoreError> {
        self.within(async {
            let any: bool = sqlx::query_scalar(
                "select exists (select from reservations where task_id is not null)",
            )
            .fetch_one(&self.pool)
            .await?;
            if !any {
                return Ok(None);
            }
            let kept: Option<i32> = sqlx::query_scalar(KEPT_FREE)
                .bind(builder.0)
                .fetch_one(&self.pool)
                .await?;
            let row = RowOf::new("builders", builder);
            kept.map(|mib| row.number(mib)).transpose()
        })
        .await
    }
}

/// Locks the tasks of these routes that a builder was kept free for and that can start now.
pub(crate) async fn take_kept(
    tx: &mut Tx,
    routes: &Routes,
    config: &ReleaseConfig,
) -> Result<Vec<Ready>, StoreError> {
    if !routes.any_kept {
        return Ok(Vec::new());
    }
    let ready = sqlx::query_as(READY)
        .bind(&routes.archs)
        .bind(&routes.classes)
        .bind(int4(config.owner_running))
        .fetch_all(&mut **tx)
        .await?;
    Ok(ready)
}

async fn make(tx: &mut Tx, config: &ReserveConfig) -> Result<Vec<Reservation>, StoreError> {
    if config.after_seconds == 0 {
        return Ok(Vec::new());
    }
    let tasks: Vec<LargeTask> = sqlx::query_as(LARGE)
        .bind(int4(config.after_seconds))
        .bind(int4(config.owner_running))
        .fetch_all(&mut **tx)
        .await?;
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let builders: Vec<BuilderRoom> = sqlx::query_as(BUILDERS)
        .bind(int4(config.after_seconds))
        .fetch_all(&mut **tx)
        .await?;
    let chosen = choose(tasks, builders);
    for (task, builder, memory_mib) in &chosen {
        sqlx::query(
            "insert into reservations as r (builder_id, task_id, memory_mib) values ($1, $2, $3)
             on conflict (builder_id) do update
             set task_id = excluded.task_id, memory_mib = excluded.memory_mib, made_at = now(), ended_at = null
             where r.task_id is null",
        )
        .bind(builder)
        .bind(task)
        .bind(memory_mib)
        .execute(&mut **tx)
        .await?;
    }
    let kept = |(task, builder, _)| Reservation {
        builder_id: BuilderId(builder),
        task_id: TaskId(task),
    };
    Ok(chosen.into_iter().map(kept).collect())
}

/// For each task, oldest first, the builder that has most free; at most one of an engine, and never more than half of
/// an architecture's builders, where there is more than one.
fn choose(mut tasks: Vec<LargeTask>, mut builders: Vec<BuilderRoom>) -> Vec<(i64, Uuid, i32)> {
    tasks.sort_by_key(|task| task.id);
    let mut chosen = Vec::new();
    for task in tasks {
        let of_arch = |b: &&BuilderRoom| b.archs.contains(&task.arch);
        let all = builders.iter().filter(of_arch).count();
        let kept = builders
            .iter()
            .filter(of_arch)
            .filter(|b| b.is_kept)
            .count();
        if kept >= (all / 2).max(1) {
            continue;
        }
        let best = builders
            .iter_mut()
            .filter(|b| b.archs.contains(&task.arch) && !b.is_engine_kept && !b.is_resting)
            .filter(|b| b.offer_mib >= i64::from(task.memory_mib))
            .min_by_key(|b| (task.avoid.contains(&b.id), -b.free_mib, b.id));
        if let Some(builder) = best {
            builder.is_kept = true;
            chosen.push((task.id, builder.id, task.memory_mib));
            let engine = builder.engine_id.clone();
            for neighbour in builders.iter_mut().filter(|b| b.engine_id == engine) {
                neighbour.is_engine_kept = true;
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: i64, memory_mib: i32) -> LargeTask {
        LargeTask {
            id,
            arch: "x86_64".to_owned(),
            memory_mib,
            avoid: Vec::new(),
        }
    }

    fn builder(id: u128, engine: &str, free_mib: i64) -> BuilderRoom {
        BuilderRoom {
            id: Uuid::from_u128(id),
            archs: vec!["x86_64".to_owned()],
            engine_id: engine.to_owned(),
            offer_mib: 8192,
            free_mib,
            is_engine_kept: false,
            is_kept: false,
            is_resting: false,
        }
    }

    fn chosen(tasks: Vec<LargeTask>, builders: Vec<BuilderRoom>) -> Vec<(i64, u128)> {
        let chosen = choose(tasks, builders);
        chosen.iter().map(|c| (c.0, c.1.as_u128())).collect()
    }

    #[test]
    fn the_oldest_task_gets_the_builder_with_most_free_and_half_of_them_stay() {
        let builders = || {
            vec![
                builder(1, "a", 0),
                builder(2, "b", 2048),
                builder(3, "c", 2048),
            ]
        };
        let tasks = vec![task(9, 8192), task(7, 8192)];
        assert_eq!(chosen(tasks, builders()), [(7, 2)]);
        let mut four = builders();
        four.push(builder(4, "d", 1));
        assert_eq!(
            chosen(vec![task(9, 8192), task(7, 8192)], four),
            [(7, 2), (9, 3)]
        );
        assert_eq!(
            chosen(vec![task(7, 8193)], builders()),
            [],
            "none is large enough"
        );
    }

    #[test]
    fn an_engine_keeps_free_for_one_task_and_rests_afterwards() {
        let shared = (1..=4).map(|id| builder(id, "a", 0)).collect();
        assert_eq!(chosen(vec![task(1, 4096), task(2, 4096)], shared), [(1, 1)]);
        let mut resting = builder(1, "a", 0);
        resting.is_resting = true;
        assert_eq!(chosen(vec![task(1, 4096)], vec![resting]), []);
    }

    #[test]
    fn a_builder_on_which_the_task_failed_comes_last() {
        let avoiding = LargeTask {
            avoid: vec![Uuid::from_u128(2)],
            ..task(1, 4096)
        };
        let builders = vec![builder(1, "a", 0), builder(2, "b", 4000)];
        assert_eq!(chosen(vec![avoiding], builders), [(1, 1)]);
    }
}
