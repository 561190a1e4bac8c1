//! Routes that have waiting tasks: whether there is one, which delays are over, and the row locks under which one
//! frontend at a time releases tasks of a route.

use crate::database::Tx;
use crate::error::StoreError;
use crate::scheduler::index_conditions::tasks_in_line;

/// Locked routes that have waiting tasks, as columns: the architecture and the memory class of each.
#[derive(Default)]
pub(crate) struct Routes {
    pub(crate) archs: Vec<String>,
    pub(crate) classes: Vec<String>,
    /// Whether any builder has a reservation.
    pub(crate) any_reserved: bool,
}

/// Whether any route has a task to be released, and whether the delay of some task is over. A lateral with a limit reads
/// one task of each route; from `exists` the planner may make a join that reads the backlog.
pub(crate) const ANY_WAITING: &str = concat!(
    "
    -- By tasks_in_line, then by tasks_delayed.
    select exists (select from routes r cross join lateral (
            select from tasks t where t.arch = r.arch and t.memory_class = r.memory_class
                and ",
    tasks_in_line!(),
    " limit 1) w),
        exists (select from tasks t where t.state = 'waiting' and t.delayed and not t.lacks_image and t.held is null and t.not_before <= now())"
);

/// Lets tasks whose delay is over wait for their release again.
pub(crate) const REQUEUE_DUE: &str = "
    update tasks t set delayed = false
    from (
        -- By tasks_delayed, the longest due first; what another frontend has locked it requeues itself.
        select d.id from tasks d
        where d.state = 'waiting' and d.delayed and not d.lacks_image and d.held is null and d.not_before <= now()
        order by d.not_before limit 1000 for no key update skip locked
    ) due
    where t.id = due.id and t.state = 'waiting' and t.delayed";

/// Locks the routes that have waiting tasks, except those that another frontend has locked.
pub(crate) async fn lock_routes(tx: &mut Tx) -> Result<Routes, StoreError> {
    let rows: Vec<(String, String, bool)> = sqlx::query_as(concat!(
        "select r.arch, r.memory_class, exists (select from reservations where task_id is not null)
         from routes r cross join lateral (
            select from tasks t where t.arch = r.arch and t.memory_class = r.memory_class
                and ",
        tasks_in_line!(),
        " limit 1) w
         for update of r skip locked"
    ))
    .fetch_all(&mut **tx)
    .await?;
    let mut routes = Routes::default();
    for (arch, class, any_reserved) in rows {
        routes.archs.push(arch);
        routes.classes.push(class);
        routes.any_reserved |= any_reserved;
    }
    Ok(routes)
}
