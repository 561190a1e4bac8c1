//! Counts for the metrics endpoint and `millrace status`.

use sqlx::FromRow;

use crate::database::Store;
use crate::error::StoreError;
use crate::row::RowOf;

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
    /// Those of them that are drained.
    pub builders_drained: u64,
    /// Those of them that are set aside.
    pub builders_set_aside: u64,
    /// Those of them whose spool disks are short of space.
    pub builders_short_of_disk: u64,
    /// Those of them whose engines lack images that were asked for.
    pub builders_lacking_images: u64,
    /// Images of chroots that builders are baking.
    pub bakes_running: u64,
    /// Images of chroots whose last bake on an engine failed.
    pub bakes_failing: u64,
}

#[derive(FromRow)]
struct CountColumns {
    waiting: i64,
    queued: i64,
    running: i64,
    outbox: i64,
    parked: i64,
    builders_live: i64,
    builders_drained: i64,
    builders_set_aside: i64,
    builders_short_of_disk: i64,
    builders_lacking_images: i64,
    bakes_running: i64,
    bakes_failing: i64,
}

const COUNTS: &str = "
    select t.*, (select count(*) from outbox) as outbox, (select count(*) from parked_messages) as parked, b.*, i.*
    from (
        select count(*) filter (where state = 'waiting') as waiting, count(*) filter (where state = 'queued') as queued,
            count(*) filter (where state = 'running') as running
        from tasks where state in ('waiting', 'queued', 'running') and build_id > 0
    ) t cross join (
        select count(*) as builders_live, count(drained_at) as builders_drained, count(set_aside_at) as builders_set_aside,
            count(disk_floor_mib) as builders_short_of_disk,
            count(*) filter (where cardinality(missing_images) > 0) as builders_lacking_images
        from builders where last_seen_at > now() - interval '25 seconds'
    ) b cross join (
        select count(distinct (b.engine_id, i.chroot)) filter (where i.state = 'baking') as bakes_running,
            count(distinct (b.engine_id, i.chroot)) filter (where i.state = 'failed') as bakes_failing
        from chroot_images i join builders b on b.id = i.builder_id
        where b.last_seen_at > now() - interval '25 seconds'
    ) i";

impl Store {
    /// Counts what is not over.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.within(async {
            let counted: CountColumns = sqlx::query_as(COUNTS).fetch_one(&self.pool).await?;
            let row = RowOf::new("tasks", "(counts)");
            Ok(Counts {
                waiting: row.number(counted.waiting)?,
                queued: row.number(counted.queued)?,
                running: row.number(counted.running)?,
                outbox: row.number(counted.outbox)?,
                parked: row.number(counted.parked)?,
                builders_live: row.number(counted.builders_live)?,
                builders_drained: row.number(counted.builders_drained)?,
                builders_set_aside: row.number(counted.builders_set_aside)?,
                builders_short_of_disk: row.number(counted.builders_short_of_disk)?,
                builders_lacking_images: row.number(counted.builders_lacking_images)?,
                bakes_running: row.number(counted.bakes_running)?,
                bakes_failing: row.number(counted.bakes_failing)?,
            })
        })
        .await
    }
}
