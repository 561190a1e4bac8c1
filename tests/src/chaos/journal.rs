//! What the clients know: what they asked for, what they were answered, and what they saw.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;

/// A submission or resubmission under one idempotency key.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// The key.
    pub key: String,
    /// Where it was sent.
    pub path: String,
    /// What was sent.
    pub body: Value,
    /// Names of the fixtures, in order.
    pub sources: Vec<String>,
    /// The build of each answer of success; all the same when all is well.
    pub answers: Vec<i64>,
    /// Why it was refused, where it was.
    pub refused: Option<String>,
}

/// What came of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CancelAnswer {
    /// It had ended before.
    TooLate,
    /// No clear answer came, and later ones may have come too late because this one was obeyed.
    Unclear,
    /// It was accepted.
    Accepted,
}

/// A task as it was seen when it had ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its state.
    pub state: String,
    /// Its outcome, as it was shown.
    pub outcome: Value,
}

/// All that clients know.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Submissions, by key.
    pub submissions: BTreeMap<String, Submission>,
    /// Wishes to cancel, by build; of several answers the greatest counts.
    pub cancels: BTreeMap<i64, CancelAnswer>,
    /// Tasks that were seen to have ended, by number, as they were seen first.
    pub seen: BTreeMap<i64, Seen>,
    /// What cannot be true of a correct system, seen while it ran.
    pub contradictions: Vec<String>,
}

/// What clients write to while they run.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Known>);

impl Journal {
    /// Everything so far.
    pub fn known(&self) -> Known {
        self.0.lock().unwrap().clone()
    }

    /// Notes that something will be submitted, before it is.
    pub fn intend(&self, submission: Submission) {
        let mut known = self.0.lock().unwrap();
        known.submissions.insert(submission.key.clone(), submission);
    }

    /// Notes an answer of success.
    pub fn answered(&self, key: &str, build: i64) {
        if let Some(submission) = self.0.lock().unwrap().submissions.get_mut(key) {
            submission.answers.push(build);
        }
    }

    /// Notes a refusal.
    pub fn refused(&self, key: &str, reason: String) {
        if let Some(submission) = self.0.lock().unwrap().submissions.get_mut(key) {
            submission.refused = Some(reason);
        }
    }

    /// Notes a wish to cancel.
    pub fn cancelled(&self, build: i64, answer: CancelAnswer) {
        let mut known = self.0.lock().unwrap();
        let best = known.cancels.entry(build).or_insert(answer);
        *best = (*best).max(answer);
    }

    /// Notes a task that has ended; a second look must show the same.
    pub fn saw(&self, task: i64, seen: Seen) {
        let mut known = self.0.lock().unwrap();
        match known.seen.get(&task) {
            None => {
                known.seen.insert(task, seen);
            }
            Some(first) if *first == seen => {}
            Some(first) => {
                let text =
                    format!("task {task} had ended as {first:?} and was then seen as {seen:?}");
                known.contradictions.push(text);
            }
        }
    }

    /// Notes what cannot be true of a correct system.
    pub fn contradiction(&self, text: String) {
        self.0.lock().unwrap().contradictions.push(text);
    }

    /// Submissions so far.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().submissions.len()
    }

    /// The key and a source of an answered submission, chosen by a number.
    pub fn some_answered(&self, choice: usize) -> Option<Submission> {
        let known = self.0.lock().unwrap();
        let place = choice.checked_rem(known.submissions.len())?;
        let some = known.submissions.values().nth(place)?;
        (!some.answers.is_empty()).then(|| some.clone())
    }
}
