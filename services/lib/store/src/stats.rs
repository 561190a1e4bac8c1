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
    /// Those of them whose spool disks are short of space.
    pub builders_short_of_disk: u64,
    /// Those of them whose engines lack images that were asked for.
    pub builders_lacking_images: u64,
}

impl Store {
    /// Counts what is not over.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.within(async {
            let [waiting, queued, running, outbox, parked, live, short_of_disk, lacking_images]: [i64; 8] =
                sqlx::query_scalar::<_, Vec<i64>>(
                    "with live as (select * from builders where last_seen_at > now() - interval '25 seconds')
                     select array[count(*) filter (where state = 'waiting'), count(*) filter (where state = 'queued'),
                         count(*) filter (where state = 'running'), (select count(*) from outbox),
                         (select count(*) from parked_messages), (select count(*) from live),
                         (select count(*) from live where disk_floor_mib is not null),
                         (select count(*) from live where cardinality(missing_images) > 0)]
                     from tasks where state in ('waiting', 'queued', 'running')",
                )
                .fetch_one(&self.pool)
                .await?
                .try_into()
                .map_err(|_| StoreError::inconsistent("tasks", "(counts)".to_owned(), "not eight counts".to_owned()))?;
            let row = RowOf::new("tasks", "(counts)");
            Ok(Counts {
                waiting: row.number(waiting)?,
                queued: row.number(queued)?,
                running: row.number(running)?,
                outbox: row.number(outbox)?,
                parked: row.number(parked)?,
                builders_live: row.number(live)?,
                builders_short_of_disk: row.number(short_of_disk)?,
                builders_lacking_images: row.number(lacking_images)?,
            })
        })
        .await
    }
}
