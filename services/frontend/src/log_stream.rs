//! Reading logs, also while they are written. A follower is woken by appends through this frontend and looks each
//! second for those through others, more rarely while the database is away; it ends when the attempt has ended and
//! nothing is left to read.

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
use crate::state::log_followers::LogNews;

/// How often a follower looks without being woken.
const LOOK: Duration = Duration::from_secs(1);
/// How often at least.
const RARE_LOOK: Duration = Duration::from_secs(10);
/// Bytes read at once.
const PART: usize = 64 * 1024;

/// What to read.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// One attempt.
    Attempt(AttemptId),
    /// The latest attempt of a task, and those that come after it.
    Task(TaskId),
}

/// A log as a stream of bytes; without `follow` up to its present end.
pub fn read(
    state: AppState,
    subject: Subject,
    offset: u64,
    follow: bool,
) -> impl Stream<Item = Result<Bytes, ResultError>> {
    let reader = LogReader {
        attempt: match subject {
            Subject::Attempt(id) => Some(Reading::new(&state, id, offset)),
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
        backoff: Backoff::new(LOOK, RARE_LOOK),
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

struct LogReader {
    state: AppState,
    task: Option<TaskId>,
    attempt: Option<Reading>,
    /// Number of the last attempt of the task that was begun.
    number: u32,
    /// Where to begin in the first attempt.
    offset: u64,
    follow: bool,
    /// Between looks that the database does not answer.
    backoff: Backoff,
}

struct Reading {
    id: AttemptId,
    offset: u64,
    ended: bool,
    news: Arc<LogNews>,
    /// Other news that were followed already.
    changes: u64,
    /// Where the database said that the log ends.
    known_end: u64,
    /// When to ask the database again.
    look_at: Instant,
    /// The log has to be looked at whatever is known of its end: at the beginning and at the end.
    must_read: bool,
}

enum Next {
    Attempt(Reading, Option<Bytes>),
    /// To be looked for again after this time.
    Later(Duration),
    Never,
}

impl Reading {
    fn new(state: &AppState, id: AttemptId, offset: u64) -> Self {
        let news = state.logs.follow(id);
        Self {
            id,
            offset,
            ended: false,
            changes: news.changes(),
            known_end: 0,
            look_at: Instant::now(),
            must_read: true,
            news,
        }
    }

    /// Whether a look at the log may bring something. Where nothing new begins at its end, the store would have to list
    /// all pieces to find that out, for each of many readers.
    fn may_have_more(&self) -> bool {
        self.must_read || self.known_end.max(self.news.end()) > self.offset
    }

    /// Notes what the database says; `pause` is the time to the next look.
    fn learn(&mut self, attempt: Result<Option<AttemptView>, StoreError>, pause: Duration) {
        if let Ok(Some(view)) = &attempt {
            self.known_end = self.known_end.max(view.log_size);
        }
        self.ended = has_ended(attempt);
        // What was written between the look at the log and the end is still to be read.
        self.must_read |= self.ended;
        self.look_at = Instant::now() + pause;
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
                Next::Attempt(reading, head) => {
                    self.attempt = Some(reading);
                    if head.is_some() {
                        return Ok(head);
                    }
                }
                Next::Later(pause) if self.state.shutdown.sleep(pause).await => {}
                Next::Later(_) | Next::Never => return Ok(None),
            }
        }
    }

    /// The next bytes of the present attempt; none at its end.
    async fn next_of_attempt(&mut self) -> Result<Option<Bytes>, ResultError> {
        let Some(reading) = &mut self.attempt else {
            return Ok(None);
        };
        loop {
            // Registered before looking, so that an append in between is not missed.
            let news = Arc::clone(&reading.news);
            let mut woken = std::pin::pin!(news.notified());
            woken.as_mut().enable();
            if reading.may_have_more() {
                let part = self
                    .state
                    .results
                    .read_log(reading.id, reading.offset, PART)
                    .await?;
                if !part.bytes.is_empty() {
                    reading.offset += part.bytes.len() as u64;
                    return Ok(Some(part.bytes));
                }
                if part.sealed || reading.ended || !self.follow {
                    return Ok(None);
                }
                reading.must_read = false;
            }
            let changes = news.changes();
            if changes != reading.changes || Instant::now() >= reading.look_at {
                reading.changes = changes;
                let attempt = self.state.store.attempt(reading.id).await;
                let pause = if attempt.is_ok() {
                    self.backoff.reset();
                    LOOK
                } else {
                    self.backoff.next_delay()
                };
                let known = reading.known_end;
                reading.learn(attempt, pause);
                if reading.ended || reading.known_end > known {
                    continue;
                }
            }
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(reading.look_at) => {}
                () = self.state.shutdown.stopping() => return Ok(None),
            }
        }
    }

    /// The task's latest attempt after the last one read.
    async fn next_attempt(&mut self, task: TaskId) -> Next {
        let view = match self.state.store.task(task).await {
            Ok(Some(view)) => {
                self.backoff.reset();
                view
            }
            Ok(None) => return Next::Never,
            Err(error) => {
                tracing::debug!(task.id = %task, "cannot look for the next attempt: {error}");
                return if self.follow {
                    Next::Later(self.backoff.next_delay())
                } else {
                    Next::Never
                };
            }
        };
        let Some(next) = self.choose(&view) else {
            return if self.follow && !view.state.is_terminal() {
                Next::Later(LOOK)
            } else {
                Next::Never
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
        Next::Attempt(Reading::new(&self.state, next.id, offset), head)
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

/// Whether the attempt's log can grow no more. Where the database cannot tell, it may.
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
