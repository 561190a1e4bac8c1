//! Counts for the metrics endpoint and `millrace status`.

use crate::row::RowOf;
use crate::{Store, StoreError};

/// How much there is of what is not over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks not yet released to the broker, or not yet confirmed by it.
    pub waiting: u64,
    /// Tasks that the broker has.
    pub queued: u64,
    /// Tasks that builders have.
    pub running: u64,
    /// Orders to be published.
    pub outbox: u64,
    /// Parked messages.
    pub parked: u64,
    /// Builders heard of lately.
    pub builders_live: u64,
}

impl Store {
    /// Counts what is not over.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.within(async {
            let (waiting, queued, running, outbox, parked, builders_live): (
                i64,
                i64,
                i64,
                i64,
                i64,
                i64,
            ) = sqlx::query_as(
                "select count(*) filter (where state = 'waiting'), count(*) filter (where state = 'queued'),
                     count(*) filter (where state = 'running'), (select count(*) from outbox),
                     (select count(*) from parked_messages),
                     (select count(*) from builders where last_seen_at > now() - interval '25 seconds')
                 from tasks where state in ('waiting', 'queued', 'running') and build_id > 0",
            )
            .fetch_one(&self.pool)
            .await?;
            let row = RowOf::new("tasks", "(counts)");
            Ok(Counts {
                waiting: row.number(waiting)?,
                queued: row.number(queued)?,
                running: row.number(running)?,
                outbox: row.number(outbox)?,
                parked: row.number(parked)?,
                builders_live: row.number(builders_live)?,
            })
        })
        .await
    }
}
