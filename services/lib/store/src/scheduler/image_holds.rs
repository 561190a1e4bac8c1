//! What keeps builders from work, and tasks that wait because of it.
//!
//! A builder declines an order whose image its engine lacks, uncounted. Where no builder that has the image has room,
//! everything that waits for this image is then taken out of the line: else each of its tasks would be offered and
//! declined again and again. A sweep puts back what can start: as many as builders with the image have room for, or all
//! once no builder lacks it any more.

use millrace_domain::{AttemptId, AttemptState};

use crate::attempts::transition::{hand_back_delay_ms, image_delay_ms, lock, put_back};
use crate::database::Store;
use crate::error::StoreError;
use crate::scheduler::room::room;

/// Tasks taken out of the line, or put back, by one statement at most.
const BATCH: i64 = 1000;
/// How long an order that a builder has no disk space for stays away from the broker, the first time.
const DISK_DELAY_MS: i32 = 1000;

/// Takes everything out of the line that needs the image of this task's chroot and more room than builders with the image
/// have free.
const HOLD: &str = concat!(
    room!(),
    ", lacking as (
        select c.name, c.arch,
            coalesce(max(least(r.own_mib, r.engine_mib)) filter (where r.sandboxes > 0), 0) as fit_mib
        from tasks t join chroots c on c.name = t.chroot
        left join room r on c.arch = any(r.archs) and c.image <> all(r.missing_images)
        where t.id = $1 group by c.name, c.arch
    ), taken_out as (
        select w.id from lacking k join tasks w on w.chroot = k.name and w.arch = k.arch
        where w.state = 'waiting' and w.current_attempt is null and not w.lacks_image and w.held is null and w.memory_mib > k.fit_mib
        order by w.id limit $2 for no key update of w skip locked
    )
    update tasks t set delayed = true, lacks_image = true
    from taken_out o where t.id = o.id and t.state = 'waiting' and t.current_attempt is null"
);

/// Puts back what can start.
const UNHOLD: &str = concat!(
    room!(),
    ", lacked as (
        select c.name, c.arch, c.image, oldest.memory_mib
        from chroots c cross join lateral (
            select t.memory_mib from tasks t where t.chroot = c.name and t.state = 'waiting' and t.lacks_image
            order by t.id limit 1
        ) oldest
    ), ready as (
        select h.name, count(*) filter (where h.image = any(l.missing_images)) as lacking,
            coalesce(sum(greatest(least(r.sandboxes, r.own_mib / h.memory_mib), 0))
                filter (where h.image <> all(l.missing_images)), 0)::bigint as slots
        from lacked h left join live l on h.arch = any(l.archs) left join room r on r.id = l.id
        group by h.name
    ), freed as (
        select w.id from ready cross join lateral (
            select t.id from tasks t where t.chroot = ready.name and t.state = 'waiting' and t.lacks_image
            order by t.id limit case when ready.lacking = 0 then $1 else ready.slots end
            for no key update skip locked
        ) w
    )
    update tasks t set lacks_image = false, delayed = t.not_before > now()
    from freed where t.id = freed.id and t.state = 'waiting' and t.lacks_image"
);

impl Store {
    /// Takes back an order that a builder cannot take because its disk is short, or because its engine lacks the image.
    /// Says whether the task was put back.
    pub async fn decline_hindered(
        &self,
        attempt: AttemptId,
        lacks_image: bool,
        reason: &str,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let Some(locked) = lock(&mut tx, attempt).await? else {
                return Ok(false);
            };
            if locked.attempt_state != AttemptState::Offered {
                return Ok(false);
            }
            let delay_ms = if lacks_image {
                image_delay_ms(&locked)
            } else {
                hand_back_delay_ms(DISK_DELAY_MS, &locked)
            };
            put_back(&mut tx, &locked, reason, delay_ms).await?;
            if lacks_image {
                sqlx::query(HOLD)
                    .bind(locked.task_id)
                    .bind(BATCH)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Puts tasks back into the line whose image is there; to be repeated each second. Says how many.
    pub async fn release_held(&self) -> Result<u64, StoreError> {
        self.within(async {
            let any: bool = sqlx::query_scalar(
                "select exists (select from tasks where state = 'waiting' and lacks_image)",
            )
            .fetch_one(&self.pool)
            .await?;
            if !any {
                return Ok(0);
            }
            let freed = sqlx::query(UNHOLD).bind(BATCH).execute(&self.pool).await?;
            Ok(freed.rows_affected())
        })
        .await
    }
}
