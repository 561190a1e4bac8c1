//! Messages that nobody could understand or deliver, kept for people, and the end of the attempts they concern.

use chrono::{DateTime, Utc};
use millrace_domain::{AttemptId, AttemptState, Outcome, OutcomeKind};
use sqlx::FromRow;

use crate::attempts::transition::{AttemptEnd, NextTaskState, end_attempt, lock_attempt};
use crate::database::Store;
use crate::error::StoreError;

/// What is kept of a message's body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// A parked message.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ParkedMessage {
    /// Its number, for paging.
    pub id: i64,
    /// Where it came from.
    pub queue: String,
    /// Why it was parked.
    pub reason: String,
    /// What it said, redacted and cut.
    pub body: String,
    /// When.
    pub parked_at: DateTime<Utc>,
}

impl Store {
    /// Keeps a message that was taken out of the flow. The caller has redacted its secrets.
    pub async fn park(&self, queue: &str, reason: &str, body: &str) -> Result<(), StoreError> {
        self.within(async {
            sqlx::query("insert into parked_messages (queue, reason, body) values ($1, $2, $3)")
                .bind(storable(queue))
                .bind(storable(reason))
                .bind(storable(body))
                .execute(&self.pool)
                .await?;
            Ok(())
        })
        .await
    }

    /// Parked messages, newest first; `before` is where the last page ended.
    pub async fn list_parked(
        &self,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ParkedMessage>, StoreError> {
        self.within(async {
            let messages = sqlx::query_as(
                "select id, queue, reason, body, parked_at from parked_messages
                 where $1::bigint is null or id < $1 order by id desc limit $2",
            )
            .bind(before)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
            Ok(messages)
        })
        .await
    }

    /// Takes back an attempt whose order or report was parked. It counts as a fault of ours, so that an order
    /// that no builder understands ends. Says whether the attempt was alive.
    pub async fn revoke_attempt(
        &self,
        attempt: AttemptId,
        reason: &str,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let Some(locked) = lock_attempt(&mut tx, attempt).await? else {
                return Ok(false);
            };
            if !locked.is_alive() {
                return Ok(false);
            }
            let outcome = Outcome::new(OutcomeKind::InternalError, reason);
            let end = AttemptEnd {
                state: AttemptState::Revoked,
                reason: Some(reason),
                outcome: None,
            };
            end_attempt(
                &mut tx,
                &locked,
                end,
                &NextTaskState::after(&locked, &outcome),
            )
            .await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }
}

/// PostgreSQL's text has no zero byte.
fn storable(text: &str) -> String {
    let mut end = text.len().min(MAX_BODY);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_between_characters_and_holds_no_zero_byte() {
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
        let long = "ü".repeat(MAX_BODY);
        assert_eq!(storable(&format!("x{long}")).len(), MAX_BODY - 1);
    }
}
