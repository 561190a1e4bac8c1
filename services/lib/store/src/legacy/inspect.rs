//! The tasks that a poller holds, for `millrace poller lens`.

use millrace_domain::{BuildId, PollerId, TaskState};
use sqlx::FromRow;

use crate::database::Store;
use crate::error::StoreError;
use crate::row::{RowOf, Time};

/// A task that a poller has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The build, which the poller got as a whole.
    pub build_id: BuildId,
    /// The chroot of the task.
    pub chroot: String,
    /// `queued` until the poller reports its start, `running` afterwards.
    pub state: TaskState,
    /// When the poller claimed it.
    pub since: Time,
    /// End of the lease, unless it is renewed.
    pub until: Time,
    /// Whether its success was reported and waits to be verified.
    pub is_reported: bool,
}

#[derive(FromRow)]
struct OwnedColumns {
    build_id: i64,
    chroot: String,
    state: String,
    claimed_at: Time,
    lease_until: Time,
    is_reported: bool,
}

impl Store {
    /// The first `limit` tasks that the poller holds, oldest build first.
    pub async fn owned_by_poller(
        &self,
        poller: PollerId,
        limit: u32,
    ) -> Result<Vec<Owned>, StoreError> {
        self.within(async {
            let rows: Vec<OwnedColumns> = sqlx::query_as(
                "select t.build_id, t.chroot, t.state, a.claimed_at, a.lease_until, a.poller_report is not null as is_reported
                 from attempts a join tasks t on t.id = a.task_id and t.current_attempt = a.id
                 where a.poller_id = $1 and a.state = 'claimed' order by t.id limit $2",
            )
            .bind(poller.0)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
            let owned = |columns: OwnedColumns| {
                Ok(Owned {
                    build_id: BuildId(columns.build_id),
                    state: RowOf::new("tasks", columns.build_id).parse(&columns.state)?,
                    chroot: columns.chroot,
                    since: columns.claimed_at,
                    until: columns.lease_until,
                    is_reported: columns.is_reported,
                })
            };
            rows.into_iter().map(owned).collect()
        })
        .await
    }
}
