//! Routes that have waiting tasks: whether there is one, which delays are over, and the row locks under which one
//! frontend at a time releases tasks of a route.

use crate::database::Tx;
use crate::error::StoreError;

/// Routes that were locked because something waits in them.
#[derive(Default)]
pub(crate) struct Routes {
    pub(crate) archs: Vec<String>,
    pub(crate) classes: Vec<String>,
    /// Whether some builder is kept free for a task.
    pub(crate) any_kept: bool,
}

/// Whether any route has a task to be released, and whether the delay of some task is over. A lateral with a limit looks
/// at one task of each route; from `exists` the planner may make a join that reads the backlog.
pub(crate) const ANY_WAITING: &str = "
    select exists (select from routes r cross join lateral (
            select from tasks t where t.arch = r.arch and t.memory_class = r.memory_class
                and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.priority >= 0 limit 1) w),
        exists (select from tasks t where t.state = 'waiting' and t.delayed and not t.lacks_image and t.held is null and t.not_before <= now())";

/// Puts tasks whose delay is over back into the line.
pub(crate) const REQUEUE_DUE: &str = "
    update tasks t set delayed = false
    from (
        select d.id from tasks d
        where d.state = 'waiting' and d.delayed and not d.lacks_image and d.held is null and d.not_before <= now()
        order by d.not_before limit 1000 for no key update skip locked
    ) due
    where t.id = due.id and t.state = 'waiting' and t.delayed";

/// Locks the routes that have waiting tasks, those free to lock.
pub(crate) async fn lock_routes(tx: &mut Tx) -> Result<Routes, StoreError> {
    let rows: Vec<(String, String, bool)> = sqlx::query_as(
        "select r.arch, r.memory_class, exists (select from reservations where task_id is not null)
         from routes r cross join lateral (
            select from tasks t where t.arch = r.arch and t.memory_class = r.memory_class
                and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.priority >= 0 limit 1) w
         for update of r skip locked",
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut routes = Routes::default();
    for (arch, class, any_kept) in rows {
        routes.archs.push(arch);
        routes.classes.push(class);
        routes.any_kept |= any_kept;
    }
    Ok(routes)
}
