//! The outbox: orders that are stored but not yet confirmed by the broker. The frontend that releases or takes an order leases
//! it for some seconds to publish it. When that frontend dies, another one publishes the order again, and the second copy loses
//! the claim. An order is in the outbox only while its attempt is on offer and unconfirmed.

use millrace_domain::{AttemptId, TaskId};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::database::Store;
use crate::error::StoreError;

/// Seconds for which an order is leased to the frontend that publishes it: longer than the wait for the broker's confirm.
pub(crate) const LEASE_SECONDS: i32 = 10;

/// An order to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    /// Key of the outbox row; orders are published in this order.
    pub id: i64,
    /// The attempt that is offered.
    pub attempt_id: AttemptId,
    /// The task that the attempt is of.
    pub task_id: TaskId,
    /// Architecture; together with the memory class it names the route.
    pub arch: String,
    /// Memory class; together with the architecture it names the route.
    pub memory_class: String,
    /// The message, a `job/v1` in its envelope.
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
    /// The oldest orders that no frontend is publishing, leased to the caller for ten seconds.
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
            .bind(LEASE_SECONDS)
            .fetch_all(&self.pool)
            .await?;
            rows.sort_unstable_by_key(|row| row.id);
            Ok(rows.into_iter().map(OutboxEntry::from).collect())
        })
        .await
    }

    /// Records the broker's confirms: these tasks become `queued`, unless they were claimed or revoked meanwhile.
    pub async fn confirm_published(&self, entries: &[OutboxEntry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.within(async {
            sqlx::query(
                "with locked as (
                    -- Lock order: tasks, then attempts, both by key.
                    select id from tasks where id = any($2) order by id for no key update
                ), confirmed as (
                    -- The count of `locked` makes PostgreSQL lock the tasks before the attempts.
                    select id from attempts
                    where id = any($1) and state in ('offered', 'claimed') and (select count(*) from locked) > 0
                    order by id for no key update
                ), marked as (
                    -- Attempts that were revoked meanwhile are left alone.
                    update attempts a set confirmed_at = now()
                    where a.id = any($1) and a.state in ('offered', 'claimed') and (select count(*) from confirmed) > 0
                ), queued as (
                    -- A task that was claimed before its confirm arrived is `running` already.
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

    /// Ends the lease of orders that could not be published: any frontend may take them at once.
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
