//! What is forgotten, and when: nothing that is not a record grows without a bound. Every step takes a bounded batch
//! and says how much it took; the caller repeats it.

use millrace_domain::AttemptId;
use uuid::Uuid;

use crate::attempts::uploads::FileKey;
use crate::database::Store;
use crate::error::StoreError;
use crate::row::{RowOf, Time, int4};

/// Rows taken by one statement at most.
const BATCH: i64 = 1000;
/// Attempts whose files or logs are looked at in one step at most.
const ATTEMPTS: i64 = 200;

/// How long rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Idempotency keys, in days.
    pub keys_days: u32,
    /// Parked messages, in number.
    pub parked: u32,
    /// Parked messages, in days.
    pub parked_days: u32,
    /// Builders that were not heard of and that no attempt names, in days.
    pub builders_days: u32,
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Idempotency keys.
    pub keys: u64,
    /// Parked messages.
    pub parked: u64,
    /// Builders.
    pub builders: u64,
    /// Engines without builders.
    pub engines: u64,
}

/// An attempt that has ended and whose files were not looked through yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UncleanedAttempt {
    /// The attempt.
    pub id: AttemptId,
    /// Whether its report was accepted: then the files that it named are results.
    pub accepted: bool,
}

impl Deleted {
    /// Whether nothing was.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// Whether it is the caller's turn at periodic work that is to be begun once in so many seconds by any frontend.
    pub async fn take_turn(&self, name: &str, every_seconds: u32) -> Result<bool, StoreError> {
        self.within(async {
            let taken = sqlx::query(
                "update turns set begun_at = now()
                 where name = $1 and begun_at < now() - $2 * interval '1 second'",
            )
            .bind(name)
            .bind(int4(every_seconds))
            .execute(&self.pool)
            .await?;
            Ok(taken.rows_affected() == 1)
        })
        .await
    }

    /// Forgets a batch of each kind of row that is too old or too many.
    pub async fn forget(&self, keeping: &Retention) -> Result<Deleted, StoreError> {
        self.within(async {
            let (builders, engines) = self.forget_builders(keeping.builders_days).await?;
            Ok(Deleted {
                keys: self.forget_keys(keeping.keys_days).await?,
                parked: self.trim_parked(keeping).await?,
                builders,
                engines,
            })
        })
        .await
    }

    async fn forget_keys(&self, days: u32) -> Result<u64, StoreError> {
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

    async fn trim_parked(&self, keeping: &Retention) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "delete from parked_messages where id in (
                 select id from parked_messages
                 where id <= (select id from parked_messages order by id desc offset $1 limit 1)
                     or parked_at < now() - $2 * interval '1 day'
                 order by id limit $3 for update skip locked)",
        )
        .bind(i64::from(keeping.parked))
        .bind(int4(keeping.parked_days))
        .bind(BATCH)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// Builders first, then engines that have none. The rows are locked by one statement and judged by the next, which
    /// sees what was committed while the lock was waited for: an enrolment is never undone.
    async fn forget_builders(&self, days: u32) -> Result<(u64, u64), StoreError> {
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

    /// Attempts that ended at least so many seconds ago and whose files were not looked through since, oldest first.
    pub async fn untidy_attempts(
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
            let untidy = |(id, accepted)| UncleanedAttempt {
                id: AttemptId(id),
                accepted,
            };
            Ok(rows.into_iter().map(untidy).collect())
        })
        .await
    }

    /// Notes that only results are left of these attempts' files, and forgets the files of those never accepted.
    pub async fn note_tidied(&self, attempts: &[AttemptId]) -> Result<(), StoreError> {
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

    /// Of these attempts, those that ended at least so many seconds ago and were never accepted.
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

    /// The files that are recorded for an attempt.
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

    /// Ended attempts whose logs are older than so many days, or beyond so many newer ones; oldest first.
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

    /// Notes that these attempts' logs are gone; the attempts themselves stay.
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

    /// Since when an attempt's log is gone.
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

    /// Of these digests, those that no build names as a source.
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
