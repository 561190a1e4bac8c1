//! Streams logs to readers, also while they are written. A follower is woken by appends through this frontend and asks
//! the database each second for those through others, with a back-off while it is away. The stream ends when the
//! attempt has ended and nothing is left to read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use millrace_chassis::{Backoff, BackoffExt};
use millrace_domain::{AttemptId, AttemptState, TaskId};
use millrace_results::ResultError;
use millrace_store::{AttemptView, StoreError, TaskView};
use tokio::time::Instant;

use crate::state::AppState;
use crate::state::log_followers::LogUpdates;

/// How often a follower asks the database without being woken.
const POLL: Duration = Duration::from_secs(1);
/// The longest time between two questions while the database is away.
const MAX_POLL: Duration = Duration::from_secs(10);
/// Bytes read from the result store in one call.
const CHUNK: usize = 64 * 1024;

/// Which logs to read.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// The log of one attempt.
    Attempt(AttemptId),
    /// The latest attempt of a task, and those that come after it.
    Task(TaskId),
}

/// A log as a stream of bytes that begins at `offset`; without `follow` it ends at the present end of the log.
pub fn read(
    state: AppState,
    subject: Subject,
    offset: u64,
    follow: bool,
) -> impl Stream<Item = Result<Bytes, ResultError>> {
    let reader = LogReader {
        attempt: match subject {
            Subject::Attempt(id) => Some(AttemptReader::new(&state, id, offset)),
            Subject::Task(_) => None,
        },
        task: match subject {
            Subject::Task(id) => Some(id),
            Subject::Attempt(_) => None,
        },
        state,
        number: 0,
        offset,
        follow,
        backoff: Backoff::new(POLL, MAX_POLL),
    };
    stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// Reads one attempt after the other.
struct LogReader {
    state: AppState,
    task: Option<TaskId>,
    attempt: Option<AttemptReader>,
    /// Number of the last attempt of the task that was begun.
    number: u32,
    /// Where to begin in the first attempt.
    offset: u64,
    follow: bool,
    /// Pauses between questions that the database does not answer.
    backoff: Backoff,
}

/// How far one attempt's log was read, and what is known of its end.
struct AttemptReader {
    id: AttemptId,
    offset: u64,
    ended: bool,
    updates: Arc<LogUpdates>,
    /// Updates other than appends that were handled already.
    changes: u64,
    /// The size of the log that the database last told, in bytes.
    known_end: u64,
    /// When to ask the database again.
    poll_at: Instant,
    /// Read once whatever size is known: at the beginning, and after the attempt has ended.
    must_read: bool,
}

/// What follows the attempt that was read to its end.
enum NextAttempt {
    /// An attempt, and the line that separates it from the one before.
    Found(AttemptReader, Option<Bytes>),
    /// None yet; ask again after this time.
    Later(Duration),
    /// The task has ended, or the reader does not follow.
    Never,
}

impl AttemptReader {
    fn new(state: &AppState, id: AttemptId, offset: u64) -> Self {
        let updates = state.log_followers.follow(id);
        Self {
            id,
            offset,
            ended: false,
            changes: updates.changes(),
            known_end: 0,
            poll_at: Instant::now(),
            must_read: true,
            updates,
        }
    }

    /// Whether a read may bring something. To find that nothing was appended, the result store would have to list all
    /// pieces of the log, for each of many readers.
    fn may_have_more(&self) -> bool {
        self.must_read || self.known_end.max(self.updates.end()) > self.offset
    }

    /// Notes what the database answered; it is asked again after `pause`.
    fn learn(&mut self, attempt: Result<Option<AttemptView>, StoreError>, pause: Duration) {
        if let Ok(Some(view)) = &attempt {
            self.known_end = self.known_end.max(view.log_size);
        }
        self.ended = has_ended(attempt);
        // Bytes appended between the last read and the end are still to be read.
        self.must_read |= self.ended;
        self.poll_at = Instant::now() + pause;
    }
}

impl LogReader {
    async fn next(&mut self) -> Result<Option<Bytes>, ResultError> {
        loop {
            if self.attempt.is_some() {
                if let Some(bytes) = self.next_of_attempt().await? {
                    return Ok(Some(bytes));
                }
                self.attempt = None;
                if self.state.shutdown.is_stopping() {
                    return Ok(None);
                }
            }
            let Some(task) = self.task else {
                return Ok(None);
            };
            match self.next_attempt(task).await {
                NextAttempt::Found(reader, head) => {
                    self.attempt = Some(reader);
                    if head.is_some() {
                        return Ok(head);
                    }
                }
                NextAttempt::Later(pause) if self.state.shutdown.sleep(pause).await => {}
                NextAttempt::Later(_) | NextAttempt::Never => return Ok(None),
            }
        }
    }

    /// The next bytes of the current attempt; none at its end.
    async fn next_of_attempt(&mut self) -> Result<Option<Bytes>, ResultError> {
        let Some(reader) = &mut self.attempt else {
            return Ok(None);
        };
        loop {
            // Registered before reading, so that an append in between is not missed.
            let updates = Arc::clone(&reader.updates);
            let mut woken = std::pin::pin!(updates.notified());
            woken.as_mut().enable();
            if reader.may_have_more() {
                let part = self
                    .state
                    .results
                    .read_log(reader.id, reader.offset, CHUNK)
                    .await?;
                if !part.bytes.is_empty() {
                    reader.offset += part.bytes.len() as u64;
                    return Ok(Some(part.bytes));
                }
                if part.sealed || reader.ended || !self.follow {
                    return Ok(None);
                }
                reader.must_read = false;
            }
            let changes = updates.changes();
            if changes != reader.changes || Instant::now() >= reader.poll_at {
                reader.changes = changes;
                let attempt = self.state.store.attempt(reader.id).await;
                let pause = if attempt.is_ok() {
                    self.backoff.reset();
                    POLL
                } else {
                    self.backoff.next_delay()
                };
                let known = reader.known_end;
                reader.learn(attempt, pause);
                if reader.ended || reader.known_end > known {
                    continue;
                }
            }
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(reader.poll_at) => {}
                () = self.state.shutdown.stopping() => return Ok(None),
            }
        }
    }

    /// The task's attempt to read after the last one.
    async fn next_attempt(&mut self, task: TaskId) -> NextAttempt {
        let view = match self.state.store.task(task).await {
            Ok(Some(view)) => {
                self.backoff.reset();
                view
            }
            Ok(None) => return NextAttempt::Never,
            Err(error) => {
                tracing::debug!(task.id = %task, "cannot look for the next attempt: {error}");
                return if self.follow {
                    NextAttempt::Later(self.backoff.next_delay())
                } else {
                    NextAttempt::Never
                };
            }
        };
        let Some(next) = self.choose(&view) else {
            return if self.follow && !view.state.is_terminal() {
                NextAttempt::Later(POLL)
            } else {
                NextAttempt::Never
            };
        };
        let head = (self.number > 0).then(|| {
            Bytes::from(format!(
                "\n== attempt {} ended without a result of the package; attempt {} follows ==\n",
                self.number, next.number
            ))
        });
        let offset = if self.number == 0 { self.offset } else { 0 };
        self.number = next.number;
        NextAttempt::Found(AttemptReader::new(&self.state, next.id, offset), head)
    }

    /// First the latest attempt that a builder ever had, then those after it in their order.
    fn choose<'a>(&self, view: &'a TaskView) -> Option<&'a AttemptView> {
        let mut claimed = view
            .attempts
            .iter()
            .filter(|attempt| attempt.claimed_at.is_some() && attempt.number > self.number);
        if self.number == 0 {
            claimed.next_back()
        } else {
            claimed.next()
        }
    }
}

/// Whether the attempt's log can grow no more; not so while the database does not answer.
fn has_ended(attempt: Result<Option<AttemptView>, StoreError>) -> bool {
    match attempt {
        Ok(Some(view)) => match view.state {
            AttemptState::Offered | AttemptState::Claimed => false,
            AttemptState::Finished | AttemptState::Lost | AttemptState::Revoked => true,
        },
        Ok(None) => true,
        Err(_) => false,
    }
}
