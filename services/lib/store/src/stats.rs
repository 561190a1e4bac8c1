//! Counts for the metrics endpoint and `millrace status`.

use sqlx::FromRow;

use crate::database::Store;
use crate::error::StoreError;
use crate::row::RowOf;

/// Numbers of tasks that have not ended, of messages, and of builders by their condition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks not yet released to the broker, or released and not yet confirmed by it.
    pub waiting: u64,
    /// Tasks whose orders are in the broker's queues, or listed to a poller.
    pub queued: u64,
    /// Tasks that are claimed by a builder, or started by a poller.
    pub running: u64,
    /// Orders in the outbox, waiting to be published or confirmed.
    pub outbox: u64,
    /// Parked messages that are stored for people to look at.
    pub parked: u64,
    /// Builders with a heartbeat within the last 25 s.
    pub builders_live: u64,
    /// Live builders that an administrator drained.
    pub builders_drained: u64,
    /// Live builders that are set aside for repeated faults.
    pub builders_set_aside: u64,
    /// Live builders whose spool disks are short of space.
    pub builders_short_of_disk: u64,
    /// Live builders whose engines lack images of chroots that orders asked for.
    pub builders_lacking_images: u64,
    /// Bakes that run now, counted once per engine and chroot.
    pub bakes_running: u64,
    /// Chroot images whose last bake failed, counted once per engine and chroot.
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

/// One row with all counts.
const COUNTS: &str = "
    select t.*, (select count(*) from outbox) as outbox, (select count(*) from parked_messages) as parked, b.*, i.*
    from (
        -- Tasks that have not ended, by the partial index tasks_not_ended (`build_id > 0` names it).
        select count(*) filter (where state = 'waiting') as waiting, count(*) filter (where state = 'queued') as queued,
            count(*) filter (where state = 'running') as running
        from tasks where state in ('waiting', 'queued', 'running') and build_id > 0
    ) t cross join (
        -- Live builders, a table of some dozen rows.
        select count(*) as builders_live, count(drained_at) as builders_drained, count(set_aside_at) as builders_set_aside,
            count(disk_floor_mib) as builders_short_of_disk,
            count(*) filter (where cardinality(missing_images) > 0) as builders_lacking_images
        from builders where last_seen_at > now() - interval '25 seconds'
    ) b cross join (
        -- Builders of one engine report the same images, so each engine counts once.
        select count(distinct (b.engine_id, i.chroot)) filter (where i.state = 'baking') as bakes_running,
            count(distinct (b.engine_id, i.chroot)) filter (where i.state = 'failed') as bakes_failing
        from chroot_images i join builders b on b.id = i.builder_id
        where b.last_seen_at > now() - interval '25 seconds'
    ) i";

impl Store {
    /// Counts tasks that have not ended, messages and builders, all at one moment.
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
