//! Retention: deletes expired idempotency keys, parked messages and builders, and names attempts whose files or logs the
//! caller has to delete. Every call handles a bounded batch and returns its size; the caller repeats it until nothing is
//! left. Records of builds, tasks, attempts and packages are kept for ever.

use millrace_domain::AttemptId;
use uuid::Uuid;

use crate::attempts::uploads::FileKey;
use crate::database::Store;
use crate::error::StoreError;
use crate::row::{RowOf, Time, int4};

/// The most rows that one statement deletes.
const BATCH: i64 = 1000;
/// The most attempts named by one call.
const ATTEMPTS: i64 = 200;

/// How long rows are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Age in days at which an idempotency key is deleted.
    pub keys_days: u32,
    /// Number of parked messages that are kept; the oldest go first.
    pub parked: u32,
    /// Age in days at which a parked message is deleted.
    pub parked_days: u32,
    /// Days without a heartbeat after which a builder that no attempt names is deleted.
    pub builders_days: u32,
}

/// How many rows one call deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Number of expired idempotency keys.
    pub keys: u64,
    /// Number of parked messages that were too old or too many.
    pub parked: u64,
    /// Number of builders without heartbeat and without attempts.
    pub builders: u64,
    /// Number of engines that no builder uses any more.
    pub engines: u64,
}

/// An ended attempt whose stored files were not cleaned up yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UncleanedAttempt {
    /// The ended attempt, which also names its folder in the result store.
    pub id: AttemptId,
    /// Whether its report was accepted: then the files that its manifest names are results and stay.
    pub accepted: bool,
}

impl Deleted {
    /// Whether the call deleted nothing, so that it need not be repeated.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// Deletes a batch of each kind of row that is too old or too many.
    pub async fn delete_expired(&self, retention: &Retention) -> Result<Deleted, StoreError> {
        self.within(async {
            let (builders, engines) = self.delete_builders(retention.builders_days).await?;
            Ok(Deleted {
                keys: self.delete_keys(retention.keys_days).await?,
                parked: self.delete_parked(retention).await?,
                builders,
                engines,
            })
        })
        .await
    }

    async fn delete_keys(&self, days: u32) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "delete from idempotency_keys where (account_id, key) in (
                 select account_id, key from idempotency_keys where created_at < now() - $1 * interval '1 day'
                 order by created_at limit $2 for update skip locked)",
        )
        .bind(int4(days))
        .bind(BATCH)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    async fn delete_parked(&self, retention: &Retention) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "delete from parked_messages where id in (
                 select id from parked_messages
                 where id <= (select id from parked_messages order by id desc offset $1 limit 1)
                     or parked_at < now() - $2 * interval '1 day'
                 order by id limit $3 for update skip locked)",
        )
        .bind(i64::from(retention.parked))
        .bind(int4(retention.parked_days))
        .bind(BATCH)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// Deletes builders first, then engines without builders. One statement locks the rows and the next checks them again,
    /// so that it sees what was committed while the lock was waited for: an enrolment is never undone.
    async fn delete_builders(&self, days: u32) -> Result<(u64, u64), StoreError> {
        let mut tx = self.begin().await?;
        let old: Vec<Uuid> = sqlx::query_scalar(
            "select b.id from builders b where b.last_seen_at < now() - $1 * interval '1 day'
                 and not exists (select from attempts a where a.builder_id = b.id)
             order by b.id limit $2 for update skip locked",
        )
        .bind(int4(days))
        .bind(BATCH)
        .fetch_all(&mut *tx)
        .await?;
        let builders = sqlx::query(
            "delete from builders b where b.id = any($1) and b.last_seen_at < now() - $2 * interval '1 day'
                 and not exists (select from attempts a where a.builder_id = b.id)",
        )
        .bind(&old)
        .bind(int4(days))
        .execute(&mut *tx)
        .await?;
        let unused: Vec<String> = sqlx::query_scalar(
            "select e.id from engines e where not exists (select from builders b where b.engine_id = e.id)
             order by e.id limit $1 for update skip locked",
        )
        .bind(BATCH)
        .fetch_all(&mut *tx)
        .await?;
        let engines = sqlx::query(
            "delete from engines e where e.id = any($1)
                 and not exists (select from builders b where b.engine_id = e.id)",
        )
        .bind(&unused)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok((builders.rows_affected(), engines.rows_affected()))
    }

    /// Attempts that ended at least `after_seconds` ago and whose files were not cleaned up since, oldest first.
    pub async fn uncleaned_attempts(
        &self,
        after_seconds: u32,
    ) -> Result<Vec<UncleanedAttempt>, StoreError> {
        self.within(async {
            let rows: Vec<(Uuid, bool)> = sqlx::query_as(
                "select id, state = 'finished' from attempts
                 where ended_at < now() - $1 * interval '1 second' and claimed_at is not null and tidied_at is null
                 order by ended_at limit $2",
            )
            .bind(int4(after_seconds))
            .bind(ATTEMPTS)
            .fetch_all(&self.pool)
            .await?;
            let attempt = |(id, accepted)| UncleanedAttempt {
                id: AttemptId(id),
                accepted,
            };
            Ok(rows.into_iter().map(attempt).collect())
        })
        .await
    }

    /// Records that only results are left of these attempts' files, and deletes the file rows of attempts that were never
    /// accepted.
    pub async fn mark_cleaned(&self, attempts: &[AttemptId]) -> Result<(), StoreError> {
        self.within(async {
            sqlx::query(
                "with tidied as (
                    update attempts set tidied_at = now()
                    where id = any($1) and state in ('finished', 'lost', 'revoked') returning id, state
                )
                delete from result_files r using tidied t where r.attempt_id = t.id and t.state <> 'finished'",
            )
            .bind(attempts.iter().map(|id| id.0).collect::<Vec<_>>())
            .execute(&self.pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// Those of `attempts` that ended at least `after_seconds` ago and were never accepted.
    pub async fn never_accepted(
        &self,
        attempts: &[AttemptId],
        after_seconds: u32,
    ) -> Result<Vec<AttemptId>, StoreError> {
        self.within(async {
            let ids: Vec<Uuid> = sqlx::query_scalar(
                "select id from attempts where id = any($1) and state in ('lost', 'revoked')
                     and ended_at < now() - $2 * interval '1 second'",
            )
            .bind(attempts.iter().map(|id| id.0).collect::<Vec<_>>())
            .bind(int4(after_seconds))
            .fetch_all(&self.pool)
            .await?;
            Ok(ids.into_iter().map(AttemptId).collect())
        })
        .await
    }

    /// The uploaded files that are recorded for an attempt, by position and name.
    pub async fn recorded_files(&self, attempt: AttemptId) -> Result<Vec<FileKey>, StoreError> {
        self.within(async {
            let rows: Vec<(i32, String)> = sqlx::query_as(
                "select position, name from result_files where attempt_id = $1 order by position, name",
            )
            .bind(attempt.0)
            .fetch_all(&self.pool)
            .await?;
            let row = RowOf::new("result_files", attempt);
            rows.into_iter()
                .map(|(position, name)| {
                    Ok(FileKey {
                        position: row.number(position)?,
                        name: row.parse(&name)?,
                    })
                })
                .collect()
        })
        .await
    }

    /// Ended attempts whose logs are older than `days`, or are not among the newest `count`; oldest first.
    pub async fn old_logs(&self, days: u32, count: u32) -> Result<Vec<AttemptId>, StoreError> {
        self.within(async {
            let ids: Vec<Uuid> = sqlx::query_scalar(
                "select id from attempts
                 where ended_at is not null and claimed_at is not null and log_removed_at is null
                     and ended_at <= greatest(now() - $1 * interval '1 day', (
                         select ended_at from attempts
                         where ended_at is not null and claimed_at is not null and log_removed_at is null
                         order by ended_at desc offset $2 limit 1))
                 order by ended_at limit $3",
            )
            .bind(int4(days))
            .bind(i64::from(count))
            .bind(ATTEMPTS)
            .fetch_all(&self.pool)
            .await?;
            Ok(ids.into_iter().map(AttemptId).collect())
        })
        .await
    }

    /// Records that these attempts' logs were deleted; the attempts' rows stay.
    pub async fn note_logs_removed(&self, attempts: &[AttemptId]) -> Result<(), StoreError> {
        self.within(async {
            sqlx::query(
                "update attempts set log_removed_at = now()
                 where id = any($1) and ended_at is not null and log_removed_at is null",
            )
            .bind(attempts.iter().map(|id| id.0).collect::<Vec<_>>())
            .execute(&self.pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// When an attempt's log was deleted; none while it is stored.
    pub async fn log_removed_at(&self, attempt: AttemptId) -> Result<Option<Time>, StoreError> {
        self.within(async {
            let removed: Option<Option<Time>> =
                sqlx::query_scalar("select log_removed_at from attempts where id = $1")
                    .bind(attempt.0)
                    .fetch_optional(&self.pool)
                    .await?;
            Ok(removed.flatten())
        })
        .await
    }

    /// Those of `digests` (SHA-256, hexadecimal) that no build names as a source.
    pub async fn unnamed_sources(&self, digests: &[String]) -> Result<Vec<String>, StoreError> {
        self.within(async {
            let unnamed = sqlx::query_scalar(
                "select d from unnest($1::text[]) as d
                 where not exists (select from sources s where s.sha256 = d)",
            )
            .bind(digests)
            .fetch_all(&self.pool)
            .await?;
            Ok(unnamed)
        })
        .await
    }
}
