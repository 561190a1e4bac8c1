//! How far each route's release window is open: the sandboxes that could start now, less what is on offer already.

use crate::database::Tx;
use crate::error::StoreError;
use crate::scheduler::index_conditions::tasks_by_need;
use crate::scheduler::room::room;
use crate::scheduler::routes::Routes;
use crate::scheduler::types::{Ready, ReleaseConfig};

/// How much of a route may be released now.
pub(crate) struct Window {
    pub(crate) arch: String,
    pub(crate) memory_class: String,
    /// The most tasks that may be released.
    pub(crate) size: i64,
    /// The most memory that they may need together, in MiB.
    pub(crate) room_mib: i64,
    /// The most memory that one of them may need, in MiB: what the emptiest builder has free.
    pub(crate) fit_mib: i64,
}

/// What one release selects from.
pub(crate) struct ReleaseScope<'a> {
    pub(crate) windows: &'a [Window],
    /// Tasks that are released by their reservation, whatever the windows say.
    pub(crate) ready: &'a [Ready],
    pub(crate) config: &'a ReleaseConfig,
}

impl ReleaseScope<'_> {
    pub(crate) fn ready_ids(&self) -> Vec<i64> {
        self.ready.iter().map(|ready| ready.task_id).collect()
    }
}

/// Computes the windows of locked routes, from what is committed once they are locked. Also says whether the window of
/// some route is closed.
pub(crate) async fn open_windows(
    tx: &mut Tx,
    routes: &Routes,
    config: &ReleaseConfig,
) -> Result<(Vec<Window>, bool), StoreError> {
    let rows: Vec<CapacityColumns> = sqlx::query_as(CAPACITY)
        .bind(&routes.archs)
        .bind(&routes.classes)
        .fetch_all(&mut **tx)
        .await?;
    let factor = i64::from(config.window_factor);
    let mut left = i64::from(config.max_batch);
    let mut windows = Vec::new();
    for row in rows {
        let (arch, memory_class, sandboxes, memory_mib, fit_mib, offered, offered_mib) = row;
        let size = (factor * sandboxes - offered).clamp(0, left);
        let room_mib = factor * memory_mib - offered_mib;
        left -= size;
        if size > 0 && room_mib > 0 {
            windows.push(Window {
                arch,
                memory_class,
                size,
                room_mib,
                fit_mib,
            });
        }
    }
    let is_closed = windows.len() < routes.archs.len();
    Ok((windows, is_closed))
}

/// Architecture, memory class, sandboxes, their memory, the most of one builder, tasks on offer, their memory.
type CapacityColumns = (String, String, i64, i64, i64, i64, i64);

/// For each route: the sandboxes that could start now for tasks of its smallest need, the memory for them, the most that
/// one builder has free, and what is on offer. A builder with a reservation does not count. Takes no locks; the caller
/// has locked the routes.
const CAPACITY: &str = concat!(
    room!(),
    ",
    -- The smallest waiting task of each route, by tasks_by_need.
    need as (
        select r.arch, r.memory_class, smallest.memory_mib as unit
        from unnest($1::text[], $2::text[]) as r(arch, memory_class)
        cross join lateral (
            select t.memory_mib from tasks t
            where t.arch = r.arch and t.memory_class = r.memory_class
                and ",
    tasks_by_need!(),
    "
            order by t.memory_mib limit 1
        ) smallest
    ),
    -- What each engine could start of it. Builders of one engine share its memory, whatever each of them offers.
    per_engine as (
        select need.arch, need.memory_class,
            least(sum(greatest(least(room.sandboxes, room.own_mib / need.unit), 0)),
                  greatest(min(room.engine_mib) / need.unit, 0)) as sandboxes,
            least(sum(greatest(room.own_mib, 0)), greatest(min(room.engine_mib), 0)) as memory_mib,
            max(least(room.own_mib, room.engine_mib)) as fit_mib
        from need join room on need.arch = any(room.archs)
        where room.kept_for is null and room.sandboxes > 0
        group by need.arch, need.memory_class, need.unit, room.engine_id
    )
    select p.arch, p.memory_class, floor(sum(p.sandboxes))::bigint, sum(p.memory_mib)::bigint,
        max(p.fit_mib)::bigint, offers.tasks, offers.memory_mib
    from per_engine p
    cross join lateral (
        -- Released tasks that no builder has claimed, by tasks_on_offer.
        select count(*) as tasks, coalesce(sum(t.memory_mib), 0)::bigint as memory_mib
        from tasks t where t.arch = p.arch and t.memory_class = p.memory_class
            and t.current_attempt is not null and t.state in ('waiting', 'queued') and t.held is null
    ) offers
    group by p.arch, p.memory_class, offers.tasks, offers.memory_mib order by p.arch, p.memory_class"
);
