//! The outbox: orders that are written but not yet confirmed by the broker. A relay holds the rows it publishes
//! in an open transaction; when it dies, they are published again, and the second copy loses the claim.

use millrace_domain::{AttemptId, TaskId};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::store::Tx;
use crate::{Store, StoreError};

/// An order to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    /// The outbox row, for [`OutboxBatch::confirm`].
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

/// Orders that no other relay has. They stay in the outbox unless they are confirmed; dropping the batch gives
/// them back. It holds a connection, and the server ends it after 60 s.
#[derive(Debug)]
pub struct OutboxBatch {
    store: Store,
    tx: Tx,
    entries: Vec<OutboxEntry>,
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
    /// The oldest unpublished orders; none when there is nothing, or when other relays have it all.
    pub async fn outbox_batch(&self, limit: u32) -> Result<Option<OutboxBatch>, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let rows: Vec<OutboxColumns> = sqlx::query_as(
                "select o.id, o.attempt_id, o.task_id, o.arch, o.memory_class, o.body
                 from outbox o join attempts a on a.id = o.attempt_id
                 where a.state = 'offered'
                 order by o.id limit $1 for update of o skip locked",
            )
            .bind(i64::from(limit))
            .fetch_all(&mut *tx)
            .await?;
            if rows.is_empty() {
                return Ok(None);
            }
            let entries = rows.into_iter().map(OutboxEntry::from).collect();
            Ok(Some(OutboxBatch {
                store: self.clone(),
                tx,
                entries,
            }))
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

impl OutboxBatch {
    /// What to publish, oldest first.
    pub fn entries(&self) -> &[OutboxEntry] {
        &self.entries
    }

    /// Records the confirms of these outbox rows: their tasks are queued, unless they were claimed or taken back
    /// meanwhile. Rows that are not named stay.
    pub async fn confirm(self, ids: &[i64]) -> Result<(), StoreError> {
        let Self {
            store,
            mut tx,
            entries,
        } = self;
        let confirmed = || entries.iter().filter(|entry| ids.contains(&entry.id));
        let attempts: Vec<Uuid> = confirmed().map(|entry| entry.attempt_id.0).collect();
        let tasks: Vec<i64> = confirmed().map(|entry| entry.task_id.0).collect();
        let rows: Vec<i64> = confirmed().map(|entry| entry.id).collect();
        if rows.is_empty() {
            return Ok(());
        }
        store
            .within(async {
                sqlx::query("select from tasks where id = any($1) order by id for no key update")
                    .bind(&tasks)
                    .execute(&mut *tx)
                    .await?;
                sqlx::query(
                    "with confirmed as (
                        select id from attempts where id = any($1) and state in ('offered', 'claimed')
                        order by id for no key update
                    ), marked as (
                        update attempts a set confirmed_at = now()
                        from confirmed where a.id = confirmed.id and a.state in ('offered', 'claimed')
                    ), queued as (
                        update tasks set state = 'queued'
                        where id = any($2) and state = 'waiting' and current_attempt = any($1)
                    )
                    delete from outbox where id = any($3)",
                )
                .bind(&attempts)
                .bind(&tasks)
                .bind(&rows)
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
                Ok(())
            })
            .await
    }
}
