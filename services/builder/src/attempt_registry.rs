//! Registry of the attempts this builder holds. The work on an attempt writes its progress (phase, stages) here; the
//! heartbeat reads it, and brings the frontend's signals (cancel, revoke, the reply to a report) back to the work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_chassis::{CancellationToken, Shutdown};
use millrace_domain::{AttemptId, Phase, Stage, StageTime, Token};
use millrace_wire::{AttemptStatus, AttemptVerdict, MissingFile, WaitsFor};
use tokio::sync::watch;

/// The most stages that are recorded of one attempt, so that a package that forges stages cannot grow the report.
const MAX_STAGES: usize = 300;

/// Why the work on an attempt ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// The requester cancelled; the attempt is reported as cancelled.
    Cancelled,
    /// The frontend has revoked the lease; nothing is reported.
    Revoked,
    /// The builder stops and does not finish its work; the attempt is handed back.
    Stopping,
}

/// The frontend's reply to a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportReply {
    /// The frontend has not replied yet.
    Pending,
    /// Accepted or refused; either way the attempt is removed from the spool.
    Closed,
    /// The lease is gone; the attempt is removed from the spool.
    Revoked,
    /// These files are missing at the frontend; they are uploaded and the report is sent again.
    Missing(Vec<MissingFile>),
}

impl ReportReply {
    /// Whether another reply may follow. The last reply is never replaced.
    fn is_open(&self) -> bool {
        match self {
            Self::Pending | Self::Missing(_) => true,
            Self::Closed | Self::Revoked => false,
        }
    }
}

#[derive(Debug)]
struct Progress {
    phase: Phase,
    stages: Vec<StageTime>,
    /// What finished work waits for, one entry for each part that waits.
    waits_for: Vec<WaitsFor>,
}

/// One attempt that this builder works on, shared by its work and the heartbeat.
#[derive(Debug)]
pub struct RunningAttempt {
    id: AttemptId,
    lease: Token,
    progress: Mutex<Progress>,
    cancelled: CancellationToken,
    revoked: CancellationToken,
    reply: watch::Sender<ReportReply>,
}

impl RunningAttempt {
    /// An attempt with its lease, in a phase and with stages that may come from the spool.
    pub fn new(id: AttemptId, lease: Token, phase: Phase, stages: Vec<StageTime>) -> Arc<Self> {
        Arc::new(Self {
            id,
            lease,
            progress: Mutex::new(Progress {
                phase,
                stages,
                waits_for: Vec::new(),
            }),
            cancelled: CancellationToken::new(),
            revoked: CancellationToken::new(),
            reply: watch::Sender::new(ReportReply::Pending),
        })
    }

    /// The attempt's id, which is also the message id of its job and of its report.
    pub fn id(&self) -> AttemptId {
        self.id
    }

    /// The lease token; every call about the attempt carries it.
    pub fn lease(&self) -> &Token {
        &self.lease
    }

    /// Moves on to a phase. An earlier phase changes nothing.
    pub fn advance(&self, phase: Phase) {
        let mut progress = self.lock();
        progress.phase = progress.phase.max(phase);
    }

    #[cfg(test)]
    fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Records that a stage begins, which ends the one before.
    pub fn begin_stage(&self, name: Stage, start: chrono::DateTime<chrono::Utc>) {
        let mut progress = self.lock();
        end_last_stage(&mut progress.stages, start);
        if progress.stages.len() < MAX_STAGES {
            progress.stages.push(StageTime {
                name,
                start,
                seconds: None,
            });
        }
    }

    /// Records that the current stage is over.
    pub fn end_stage(&self, end: chrono::DateTime<chrono::Utc>) {
        end_last_stage(&mut self.lock().stages, end);
    }

    /// All stages so far, the current one last and without a duration.
    pub fn stages(&self) -> Vec<StageTime> {
        self.lock().stages.clone()
    }

    /// Replaces the stages from index `first` on, which were recorded while the sandbox ran, by those of the supervisor's
    /// report, which are exact.
    pub fn replace_stages(&self, first: usize, stages: Vec<StageTime>) {
        let mut progress = self.lock();
        progress.stages.truncate(first);
        let room = MAX_STAGES - progress.stages.len();
        progress.stages.extend(stages.into_iter().take(room));
    }

    /// Reports that finished work waits for something, until the guard is dropped.
    pub fn waits_for(self: &Arc<Self>, what: WaitsFor) -> WaitGuard {
        self.lock().waits_for.push(what);
        WaitGuard {
            running: Arc::clone(self),
            what,
        }
    }

    /// Cancels the work for the requester. Has no effect once the results are in the spool: the report follows.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Ends the work because the frontend has revoked the lease.
    pub fn revoke(&self) {
        self.revoked.cancel();
        self.answer(ReportReply::Revoked);
    }

    /// Resolves when the lease is revoked.
    pub async fn revoked(&self) {
        self.revoked.cancelled().await;
    }

    /// Resolves when the work has to end early; a revoked lease comes before a cancel, and a cancel before a stop.
    pub async fn interrupted(&self, shutdown: &Shutdown) -> Interrupt {
        tokio::select! {
            biased;
            () = self.revoked.cancelled() => Interrupt::Revoked,
            () = self.cancelled.cancelled() => Interrupt::Cancelled,
            () = shutdown.handing_back() => Interrupt::Stopping,
        }
    }

    /// Follows the frontend's replies to the report.
    pub fn replies(&self) -> watch::Receiver<ReportReply> {
        self.reply.subscribe()
    }

    /// Forgets an earlier reply about missing files: they are uploaded, and the report is about to be sent again.
    pub fn expect_reply(&self) {
        self.reply.send_if_modified(|reply| {
            let was_missing = matches!(reply, ReportReply::Missing(_));
            if was_missing {
                *reply = ReportReply::Pending;
            }
            was_missing
        });
    }

    /// Carries out the verdict of a heartbeat's answer.
    pub fn apply(&self, verdict: AttemptVerdict) {
        match verdict {
            AttemptVerdict::Continue => {}
            AttemptVerdict::Cancel => self.cancel(),
            AttemptVerdict::Revoked => self.revoke(),
            AttemptVerdict::Accepted | AttemptVerdict::Refused => self.answer(ReportReply::Closed),
            AttemptVerdict::Missing { files } => self.answer(ReportReply::Missing(files)),
        }
    }

    fn answer(&self, answer: ReportReply) {
        self.reply.send_if_modified(|reply| {
            let is_open = reply.is_open();
            if is_open {
                *reply = answer;
            }
            is_open
        });
    }

    fn status(&self) -> AttemptStatus {
        let progress = self.lock();
        AttemptStatus {
            attempt_id: self.id,
            lease_token: self.lease.clone(),
            phase: progress.phase,
            stage: progress.stages.last().map(|stage| stage.name),
            stages: progress.stages.clone(),
            waits_for: progress.waits_for.first().copied(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports that an attempt waits for something, as long as this value lives.
#[derive(Debug)]
#[must_use = "dropping it reports that the wait is over"]
pub struct WaitGuard {
    running: Arc<RunningAttempt>,
    what: WaitsFor,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        let waits = &mut self.running.lock().waits_for;
        if let Some(at) = waits.iter().position(|what| *what == self.what) {
            waits.remove(at);
        }
    }
}

/// Sets the duration of the last stage, unless it is set already.
fn end_last_stage(stages: &mut [StageTime], end: chrono::DateTime<chrono::Utc>) {
    if let Some(last) = stages.last_mut()
        && last.seconds.is_none()
    {
        let millis = (end - last.start).num_milliseconds().max(0);
        last.seconds = Some(std::time::Duration::from_millis(millis.unsigned_abs()).as_secs_f64());
    }
}

/// All attempts that this builder holds. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct AttemptRegistry {
    attempts: Arc<Mutex<HashMap<AttemptId, Entry>>>,
    removed: Arc<watch::Sender<()>>,
}

/// How the registry knows an attempt.
#[derive(Debug)]
enum Entry {
    Running(Arc<RunningAttempt>),
    /// An earlier process ended before the answer to its claim; the claim is being repeated.
    ClaimUnanswered,
}

impl AttemptRegistry {
    /// Adds an attempt until it is [removed](AttemptRegistry::remove). False when it is there already: the same job was
    /// delivered and claimed twice, and the work of the first claim goes on.
    #[must_use]
    pub fn insert(&self, running: &Arc<RunningAttempt>) -> bool {
        let mut attempts = self.lock();
        let is_new = !attempts.contains_key(&running.id());
        if is_new {
            attempts.insert(running.id(), Entry::Running(Arc::clone(running)));
        }
        is_new
    }

    /// Adds an attempt whose claim had no answer yet.
    pub fn insert_unanswered(&self, attempt: AttemptId) {
        self.lock().entry(attempt).or_insert(Entry::ClaimUnanswered);
    }

    /// Removes an attempt that is closed.
    pub fn remove(&self, attempt: AttemptId) {
        self.lock().remove(&attempt);
        self.removed.send_replace(());
    }

    /// Notifies when an attempt was removed.
    pub fn removals(&self) -> watch::Receiver<()> {
        self.removed.subscribe()
    }

    /// Whether the attempt is in the registry, so that another delivery of its job needs no claim.
    pub fn contains(&self, attempt: AttemptId) -> bool {
        self.lock().contains_key(&attempt)
    }

    /// The attempt with this id; none when it is not here or its claim has no answer yet.
    pub fn get(&self, attempt: AttemptId) -> Option<Arc<RunningAttempt>> {
        match self.lock().get(&attempt)? {
            Entry::Running(running) => Some(Arc::clone(running)),
            Entry::ClaimUnanswered => None,
        }
    }

    /// The number of attempts, those without an answer to their claim included.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// What the next heartbeat reports of each attempt that is surely this builder's.
    pub fn statuses(&self) -> Vec<AttemptStatus> {
        let attempts = self.lock();
        let running = attempts.values().filter_map(|entry| match entry {
            Entry::Running(running) => Some(running.status()),
            Entry::ClaimUnanswered => None,
        });
        running.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptId, Entry>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{TimeDelta, Utc};
    use futures_util::FutureExt as _;

    fn running() -> Arc<RunningAttempt> {
        RunningAttempt::new(
            AttemptId::generate(),
            Token::new("lease"),
            Phase::Fetching,
            Vec::new(),
        )
    }

    #[test]
    fn a_phase_never_goes_back() {
        let running = running();
        running.advance(Phase::Collecting);
        running.advance(Phase::Building);
        assert_eq!(running.phase(), Phase::Collecting);
    }

    #[test]
    fn a_stage_ends_with_the_next() {
        let running = running();
        let start = Utc::now();
        running.begin_stage(Stage::Fetch, start);
        running.begin_stage(Stage::Buildroot, start + TimeDelta::milliseconds(1500));
        let stages = running.stages();
        assert_eq!(stages[0].seconds, Some(1.5));
        assert_eq!(stages[1].seconds, None);
        running.end_stage(start);
        assert_eq!(
            running.stages()[1].seconds,
            Some(0.0),
            "a clock may step back"
        );
    }

    #[test]
    fn stages_are_bounded() {
        let running = running();
        for _ in 0..1000 {
            running.begin_stage(Stage::Build, Utc::now());
        }
        assert_eq!(running.stages().len(), MAX_STAGES);
    }

    #[test]
    fn the_end_of_an_attempt_is_not_overwritten() {
        let running = running();
        let replies = running.replies();
        running.apply(AttemptVerdict::Missing { files: Vec::new() });
        running.expect_reply();
        assert_eq!(*replies.borrow(), ReportReply::Pending);
        running.apply(AttemptVerdict::Accepted);
        running.apply(AttemptVerdict::Missing { files: Vec::new() });
        running.apply(AttemptVerdict::Continue);
        assert_eq!(*replies.borrow(), ReportReply::Closed);
    }

    #[test]
    fn what_is_waited_for_is_reported_as_long_as_some_part_waits() {
        let running = running();
        assert_eq!(running.status().waits_for, None);
        let one = running.waits_for(WaitsFor::ResultsSpace);
        let two = running.waits_for(WaitsFor::ResultsSpace);
        drop(one);
        assert_eq!(running.status().waits_for, Some(WaitsFor::ResultsSpace));
        drop(two);
        assert_eq!(running.status().waits_for, None);
    }

    #[tokio::test]
    async fn a_lost_lease_comes_before_a_cancel_and_a_cancel_before_a_stop() {
        let running = running();
        let shutdown = Shutdown::manual();
        shutdown.stop();
        let early = running.interrupted(&shutdown).now_or_never();
        assert_eq!(early, None, "a builder that stops finishes what it has");
        shutdown.hand_back();
        assert_eq!(running.interrupted(&shutdown).await, Interrupt::Stopping);
        running.cancel();
        assert_eq!(running.interrupted(&shutdown).await, Interrupt::Cancelled);
        running.revoke();
        assert_eq!(running.interrupted(&shutdown).await, Interrupt::Revoked);
    }

    #[test]
    fn the_registry_remembers_until_told_to_forget() {
        let registry = AttemptRegistry::default();
        let running = running();
        assert!(registry.insert(&running));
        assert!(
            !registry.insert(&running),
            "a second claim of the same order"
        );
        assert_eq!(registry.statuses()[0].attempt_id, running.id());
        assert!(registry.get(running.id()).is_some());
        registry.remove(running.id());
        assert_eq!(registry.count(), 0);
        registry.insert_unanswered(running.id());
        assert!(registry.contains(running.id()) && registry.statuses().is_empty());
    }
}
