//! The outbox: orders that are written but not yet confirmed by the broker. Whoever releases an order has it to
//! publish for some seconds, and so has whoever takes it afterwards. When one dies, another publishes it again, and
//! the second copy loses the claim. An order is in the outbox only while its attempt is on offer and unconfirmed.

use millrace_domain::{AttemptId, TaskId};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::database::Store;
use crate::error::StoreError;

/// How long an order is left to the one who has it to publish: longer than a broker's confirm is waited for.
pub(crate) const TAKEN_SECONDS: i32 = 10;

/// An order to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    /// The outbox row.
    pub id: i64,
    /// The attempt that is offered.
    pub attempt_id: AttemptId,
    /// Its task.
    pub task_id: TaskId,
    /// With the memory class, the route.
    pub arch: String,
    /// With the architecture, the route.
    pub memory_class: String,
    /// The message.
    pub body: serde_json::Value,
}

#[derive(FromRow)]
struct OutboxColumns {
    id: i64,
    attempt_id: Uuid,
    task_id: i64,
    arch: String,
    memory_class: String,
    body: Json<serde_json::Value>,
}

impl Store {
    /// The oldest orders that nobody is publishing. They are the caller's for ten seconds.
    pub async fn take_outbox(&self, limit: u32) -> Result<Vec<OutboxEntry>, StoreError> {
        self.within(async {
            let mut rows: Vec<OutboxColumns> = sqlx::query_as(
                "update outbox o set free_at = now() + $2 * interval '1 second'
                 from (
                     select id from outbox where free_at <= now() order by id limit $1 for update skip locked
                 ) free
                 where o.id = free.id
                 returning o.id, o.attempt_id, o.task_id, o.arch, o.memory_class, o.body",
            )
            .bind(i64::from(limit))
            .bind(TAKEN_SECONDS)
            .fetch_all(&self.pool)
            .await?;
            rows.sort_unstable_by_key(|row| row.id);
            Ok(rows.into_iter().map(OutboxEntry::from).collect())
        })
        .await
    }

    /// Records the broker's confirms: these tasks are queued, unless they were claimed or taken back meanwhile.
    pub async fn confirm_published(&self, entries: &[OutboxEntry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.within(async {
            sqlx::query(
                "with locked as (
                    select id from tasks where id = any($2) order by id for no key update
                ), confirmed as (
                    -- The counts have the tasks locked first, as everywhere.
                    select id from attempts
                    where id = any($1) and state in ('offered', 'claimed') and (select count(*) from locked) > 0
                    order by id for no key update
                ), marked as (
                    update attempts a set confirmed_at = now()
                    where a.id = any($1) and a.state in ('offered', 'claimed') and (select count(*) from confirmed) > 0
                ), queued as (
                    update tasks t set state = 'queued'
                    where t.id = any($2) and t.state = 'waiting' and t.current_attempt = any($1)
                        and (select count(*) from locked) > 0
                )
                delete from outbox where id = any($3) and (select count(*) from locked) > 0",
            )
            .bind(entries.iter().map(|e| e.attempt_id.0).collect::<Vec<_>>())
            .bind(entries.iter().map(|e| e.task_id.0).collect::<Vec<_>>())
            .bind(entries.iter().map(|e| e.id).collect::<Vec<_>>())
            .execute(&self.pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// Gives orders back that could not be published: they are free at once.
    pub async fn give_back_outbox(&self, entries: &[OutboxEntry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.within(async {
            sqlx::query("update outbox set free_at = now() where id = any($1)")
                .bind(entries.iter().map(|e| e.id).collect::<Vec<_>>())
                .execute(&self.pool)
                .await?;
            Ok(())
        })
        .await
    }
}

impl From<OutboxColumns> for OutboxEntry {
    fn from(columns: OutboxColumns) -> Self {
        Self {
            id: columns.id,
            attempt_id: AttemptId(columns.attempt_id),
            task_id: TaskId(columns.task_id),
            arch: columns.arch,
            memory_class: columns.memory_class,
            body: columns.body.0,
        }
    }
}
