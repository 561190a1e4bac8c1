//! Tasks whose chroot's image is missing on builders.
//!
//! A builder declines a task whose image its engine lacks, uncounted. Where no builder that has the image has room, every
//! task that waits for this image is then delayed: otherwise each of them would be offered and declined again and again. A
//! sweep requeues as many as builders with the image have room for, or all of them once no builder lacks it any more.

use millrace_domain::{AttemptId, AttemptState};

use crate::attempts::transition::{hand_back_delay_ms, image_delay_ms, lock_attempt, put_back};
use crate::database::Store;
use crate::error::StoreError;
use crate::scheduler::room::room;

/// The most tasks that one statement delays or requeues.
const BATCH: i64 = 1000;
/// Delay of a task that a builder has no disk space for, the first time.
const DISK_DELAY_MS: i32 = 1000;

/// Delays tasks that need the image of task `$1`'s chroot and more memory than any builder with the image has free.
const DELAY_WITHOUT_IMAGE: &str = concat!(
    room!(),
    ",
    -- The task's chroot, and the memory that one builder with its image has free at most.
    lacking as (
        select c.name, c.arch,
            coalesce(max(least(r.own_mib, r.engine_mib)) filter (where r.sandboxes > 0), 0) as fit_mib
        from tasks t join chroots c on c.name = t.chroot
        left join room r on c.arch = any(r.archs) and c.image <> all(r.missing_images)
        where t.id = $1 group by c.name, c.arch
    ),
    -- Locked in order of id; a task that another transaction has locked is skipped and may be declined once more.
    taken_out as (
        select w.id from lacking k join tasks w on w.chroot = k.name and w.arch = k.arch
        where w.state = 'waiting' and w.current_attempt is null and not w.lacks_image and w.held is null and w.memory_mib > k.fit_mib
        order by w.id limit $2 for no key update of w skip locked
    )
    update tasks t set delayed = true, lacks_image = true
    from taken_out o where t.id = o.id and t.state = 'waiting' and t.current_attempt is null"
);

/// Requeues delayed tasks that can start: of each chroot as many as builders with its image have room for, or `$1` where
/// no builder lacks it.
const REQUEUE_WITH_IMAGE: &str = concat!(
    room!(),
    ",
    -- Chroots that tasks wait for the image of, with the need of the oldest one, by tasks_lacking_image.
    lacked as (
        select c.name, c.arch, c.image, oldest.memory_mib
        from chroots c cross join lateral (
            select t.memory_mib from tasks t where t.chroot = c.name and t.state = 'waiting' and t.lacks_image
            order by t.id limit 1
        ) oldest
    ),
    -- Of each the live builders that lack the image, and the sandboxes of that need that the others could start now.
    ready as (
        select h.name, count(*) filter (where h.image = any(l.missing_images)) as lacking,
            coalesce(sum(greatest(least(r.sandboxes, r.own_mib / h.memory_mib), 0))
                filter (where h.image <> all(l.missing_images)), 0)::bigint as slots
        from lacked h left join live l on h.arch = any(l.archs) left join room r on r.id = l.id
        group by h.name
    ),
    -- The oldest tasks of each, by tasks_lacking_image; locked ones are left to the next sweep.
    freed as (
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
    /// Takes back an attempt that a builder declines because its disk is short of space or its engine lacks the image.
    /// Says whether the task was put back: an attempt that is not on offer any more stays as it is.
    pub async fn decline_blocked(
        &self,
        attempt: AttemptId,
        lacks_image: bool,
        reason: &str,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let Some(locked) = lock_attempt(&mut tx, attempt).await? else {
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
                sqlx::query(DELAY_WITHOUT_IMAGE)
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

    /// Requeues tasks whose chroot's image builders have by now; to be repeated each second. Says how many.
    pub async fn requeue_with_image(&self) -> Result<u64, StoreError> {
        self.within(async {
            let any: bool = sqlx::query_scalar(
                "select exists (select from tasks where state = 'waiting' and lacks_image)",
            )
            .fetch_one(&self.pool)
            .await?;
            if !any {
                return Ok(0);
            }
            let freed = sqlx::query(REQUEUE_WITH_IMAGE)
                .bind(BATCH)
                .execute(&self.pool)
                .await?;
            Ok(freed.rows_affected())
        })
        .await
    }
}
