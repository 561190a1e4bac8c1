//! Parked messages (dead letters): messages that could not be decoded or were redelivered too often, stored with the reason,
//! and the end of the attempts that they concern.

use chrono::{DateTime, Utc};
use millrace_domain::{AttemptId, AttemptState, Outcome, OutcomeKind};
use sqlx::FromRow;

use crate::attempts::transition::{End, Next, lock, settle};
use crate::database::Store;
use crate::error::StoreError;

/// The part of a message's body that is stored, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// A parked message.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ParkedMessage {
    /// Key of the row; lists are paged by it, newest first.
    pub id: i64,
    /// The queue that the message was in.
    pub queue: String,
    /// Reason, as a sentence for people.
    pub reason: String,
    /// Body, with secrets redacted, cut at 64 KiB.
    pub body: String,
    /// When the message was stored here.
    pub parked_at: DateTime<Utc>,
}

impl Store {
    /// Stores a parked message. The caller has redacted its secrets.
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

    /// Parked messages, newest first; `before` is the id at which the last page ended.
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

    /// Revokes an attempt whose order or report was parked. It counts as an infrastructure fault, so that the task of an order
    /// that no builder understands ends after its attempts. Returns whether the attempt was alive.
    pub async fn revoke_attempt(
        &self,
        attempt: AttemptId,
        reason: &str,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let Some(locked) = lock(&mut tx, attempt).await? else {
                return Ok(false);
            };
            if !locked.is_alive() {
                return Ok(false);
            }
            let outcome = Outcome::new(OutcomeKind::InternalError, reason);
            let end = End {
                state: AttemptState::Revoked,
                reason: Some(reason),
                outcome: None,
            };
            settle(&mut tx, &locked, end, &Next::after(&locked, &outcome)).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }
}

/// The text as it can be stored: cut at [`MAX_BODY`], and without zero bytes, which PostgreSQL's text refuses.
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
