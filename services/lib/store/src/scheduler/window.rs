//! How far each route's release window is open: the sandboxes that could start now, less what is on offer.

use crate::database::Tx;
use crate::error::StoreError;
use crate::scheduler::room::room;
use crate::scheduler::routes::Routes;
use crate::scheduler::types::ReleaseConfig;

/// How much of a route may be released now.
pub(crate) struct Window {
    pub(crate) arch: String,
    pub(crate) memory_class: String,
    /// Tasks.
    pub(crate) size: i64,
    /// All of them together, in MiB.
    pub(crate) room_mib: i64,
    /// Each of them, in MiB: the most that one builder has free.
    pub(crate) fit_mib: i64,
}

/// The windows of locked routes, computed from what is committed by then. Also says whether some window is closed.
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
    for (arch, memory_class, (sandboxes, memory_mib, fit_mib), (offered, offered_mib)) in
        rows.into_iter().map(parts)
    {
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

type CapacityColumns = (String, String, i64, i64, i64, i64, i64);

fn parts(columns: CapacityColumns) -> (String, String, (i64, i64, i64), (i64, i64)) {
    let (arch, class, sandboxes, memory, fit, offered, offered_mib) = columns;
    (
        arch,
        class,
        (sandboxes, memory, fit),
        (offered, offered_mib),
    )
}

/// Sandboxes of the smallest waiting size that could start now, the memory for them, the most that one builder has
/// free, and what is on offer. A builder that is kept free for a large task does not count.
const CAPACITY: &str = concat!(
    room!(),
    ", need as (
        select r.arch, r.memory_class, smallest.memory_mib as unit
        from unnest($1::text[], $2::text[]) as r(arch, memory_class)
        cross join lateral (
            select t.memory_mib from tasks t
            where t.arch = r.arch and t.memory_class = r.memory_class
                and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.memory_mib > 0
            order by t.memory_mib limit 1
        ) smallest
    ), per_engine as (
        select need.arch, need.memory_class,
            -- Builders of one engine share its memory, whatever each of them offers.
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
        select count(*) as tasks, coalesce(sum(t.memory_mib), 0)::bigint as memory_mib
        from tasks t where t.arch = p.arch and t.memory_class = p.memory_class
            and t.current_attempt is not null and t.state in ('waiting', 'queued') and t.held is null
    ) offers
    group by p.arch, p.memory_class, offers.tasks, offers.memory_mib order by p.arch, p.memory_class"
);
