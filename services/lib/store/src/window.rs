//! How far each route's release window is open: the sandboxes that could start now, less what is on offer.

use crate::StoreError;
use crate::release::ReleaseConfig;
use crate::store::Tx;

/// How much of a route may be released now.
pub(crate) struct Window {
    pub(crate) arch: String,
    pub(crate) memory_class: String,
    pub(crate) size: i64,
}

/// Whether any route has a task to be released.
pub(crate) const ANY_WAITING: &str = "
    select exists (select from routes r where exists (
        select from tasks t where t.arch = r.arch and t.memory_class = r.memory_class
            and t.state = 'waiting' and t.current_attempt is null and t.not_before <= now()))";

/// Locks the routes that have waiting tasks, those free to lock, then computes their windows from what is
/// committed by then. Also says whether some route's window is closed.
pub(crate) async fn open_windows(
    tx: &mut Tx,
    config: &ReleaseConfig,
) -> Result<(Vec<Window>, bool), StoreError> {
    let routes: Vec<(String, String)> = sqlx::query_as(
        "select r.arch, r.memory_class from routes r
         where exists (select from tasks t where t.arch = r.arch and t.memory_class = r.memory_class
             and t.state = 'waiting' and t.current_attempt is null and t.not_before <= now())
         for update skip locked",
    )
    .fetch_all(&mut **tx)
    .await?;
    if routes.is_empty() {
        // Another frontend releases them this very moment.
        return Ok((Vec::new(), true));
    }
    let waiting = routes.len();
    let (archs, classes): (Vec<String>, Vec<String>) = routes.into_iter().unzip();
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(CAPACITY)
        .bind(archs)
        .bind(classes)
        .fetch_all(&mut **tx)
        .await?;
    let mut left = i64::from(config.max_batch);
    let mut windows = Vec::new();
    for (arch, memory_class, capacity, offered) in rows {
        let open = i64::from(config.window_factor) * capacity - offered;
        let size = open.clamp(0, left);
        left -= size;
        if size > 0 {
            windows.push(Window {
                arch,
                memory_class,
                size,
            });
        }
    }
    let is_closed = windows.len() < waiting;
    Ok((windows, is_closed))
}

/// Sandboxes of the size of each route's oldest fitting task that could start now, and what is on offer there.
const CAPACITY: &str = "
    with live as (
        select b.id, b.archs, b.engine_id, b.memory_mib, b.sandboxes
        from builders b where b.last_seen_at > now() - interval '25 seconds'
    ), held as (
        select a.builder_id, sum(a.memory_mib) as memory_mib, count(*) as sandboxes
        from attempts a where a.state = 'claimed' and a.phase in ('fetching', 'building', 'collecting')
        group by a.builder_id
    ), room as (
        select l.archs, l.engine_id, l.sandboxes - coalesce(h.sandboxes, 0) as sandboxes,
            l.memory_mib - coalesce(h.memory_mib, 0) as memory_mib
        from live l left join held h on h.builder_id = l.id
    ), engine_room as (
        select e.id, e.budget_mib - coalesce(sum(h.memory_mib), 0) as memory_mib
        from engines e left join builders b on b.engine_id = e.id left join held h on h.builder_id = b.id
        group by e.id
    ), head as (
        select r.arch, r.memory_class, oldest.memory_mib as unit
        from unnest($1::text[], $2::text[]) as r(arch, memory_class)
        cross join lateral (
            select t.memory_mib from tasks t
            where t.arch = r.arch and t.memory_class = r.memory_class
                and t.state = 'waiting' and t.current_attempt is null and t.not_before <= now()
                and t.memory_mib <= (select max(l.memory_mib) from live l where r.arch = any(l.archs))
            order by t.id limit 1
        ) oldest
    ), per_engine as (
        select head.arch, head.memory_class,
            -- Builders of one engine share its memory, whatever each of them offers.
            least(sum(greatest(least(room.sandboxes, room.memory_mib / head.unit), 0)),
                  greatest(min(engine_room.memory_mib) / head.unit, 0)) as sandboxes
        from head
        join room on head.arch = any(room.archs)
        join engine_room on engine_room.id = room.engine_id
        group by head.arch, head.memory_class, head.unit, room.engine_id
    )
    select p.arch, p.memory_class, floor(sum(p.sandboxes))::bigint,
        (select count(*) from tasks t where t.arch = p.arch and t.memory_class = p.memory_class
            and t.current_attempt is not null and t.state in ('waiting', 'queued'))
    from per_engine p group by p.arch, p.memory_class order by p.arch, p.memory_class";
