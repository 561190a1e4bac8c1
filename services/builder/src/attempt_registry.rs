//! Attempts that this builder has: how far each is, and what the frontend wants of it. The working part of an
//! attempt writes its progress here, the heartbeat reads it and carries the verdicts back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_chassis::{CancellationToken, Shutdown};
use millrace_domain::{AttemptId, Phase, Stage, StageTime, Token};
use millrace_wire::{AttemptStatus, AttemptVerdict, MissingFile, WaitsFor};
use tokio::sync::watch;

/// Stages that are kept of one attempt; a package that forges stages gets no more.
const MAX_STAGES: usize = 300;

/// Why the working part of an attempt ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// The requester cancelled: report it.
    Cancelled,
    /// The lease is gone: say no more.
    Revoked,
    /// The builder stops and waits no longer: hand the attempt back.
    Stopping,
}

/// What the frontend says of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportReply {
    /// Nothing yet.
    Pending,
    /// Accepted or refused: the spool can go.
    Closed,
    /// The lease is gone: the spool can go too.
    Revoked,
    /// These files are missing: upload them and report again.
    Missing(Vec<MissingFile>),
}

#[derive(Debug)]
struct Progress {
    phase: Phase,
    stages: Vec<StageTime>,
    /// What is waited for, by each part of the attempt that waits.
    waits_for: Vec<WaitsFor>,
}

/// One attempt as the parts of the builder see it.
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
    /// An attempt in its phase.
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

    /// The attempt's id.
    pub fn id(&self) -> AttemptId {
        self.id
    }

    /// What authorises everything about it.
    pub fn lease(&self) -> &Token {
        &self.lease
    }

    /// Moves on to a phase; never back.
    pub fn advance(&self, phase: Phase) {
        let mut progress = self.lock();
        progress.phase = progress.phase.max(phase);
    }

    #[cfg(test)]
    fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Notes that a stage begins; the one before ends with it.
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

    /// Notes that the present stage is over.
    pub fn end_stage(&self, end: chrono::DateTime<chrono::Utc>) {
        end_last_stage(&mut self.lock().stages, end);
    }

    /// Stages so far.
    pub fn stages(&self) -> Vec<StageTime> {
        self.lock().stages.clone()
    }

    /// Puts the supervisor's own account of a package's stages in place of what was seen of them, from `first` on.
    pub fn replace_stages(&self, first: usize, stages: Vec<StageTime>) {
        let mut progress = self.lock();
        progress.stages.truncate(first);
        let room = MAX_STAGES - progress.stages.len();
        progress.stages.extend(stages.into_iter().take(room));
    }

    /// Says that the work is done and waits for something, until the value is dropped.
    pub fn waits_for(self: &Arc<Self>, what: WaitsFor) -> WaitGuard {
        self.lock().waits_for.push(what);
        WaitGuard {
            running: Arc::clone(self),
            what,
        }
    }

    /// The requester cancelled. Without effect once the results are spooled: the report is on its way.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// The lease is gone.
    pub fn revoke(&self) {
        self.revoked.cancel();
        self.answer(ReportReply::Revoked);
    }

    /// Resolves when the lease is gone.
    pub async fn revoked(&self) {
        self.revoked.cancelled().await;
    }

    /// Resolves when the work is to end early.
    pub async fn interrupted(&self, shutdown: &Shutdown) -> Interrupt {
        tokio::select! {
            biased;
            () = self.revoked.cancelled() => Interrupt::Revoked,
            () = self.cancelled.cancelled() => Interrupt::Cancelled,
            () = shutdown.handing_back() => Interrupt::Stopping,
        }
    }

    /// What the frontend says of the report.
    pub fn replies(&self) -> watch::Receiver<ReportReply> {
        self.reply.subscribe()
    }

    /// The report is about to be sent (again): earlier wishes are done with.
    pub fn expect_reply(&self) {
        self.reply.send_if_modified(|reply| {
            let was_missing = matches!(reply, ReportReply::Missing(_));
            if was_missing {
                *reply = ReportReply::Pending;
            }
            was_missing
        });
    }

    /// Carries out what the frontend says.
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
            // What ends an attempt is never overwritten by what does not.
            let open = matches!(reply, ReportReply::Pending | ReportReply::Missing(_));
            if open {
                *reply = answer;
            }
            open
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

/// An attempt waits for something as long as this lives.
#[derive(Debug)]
#[must_use = "dropping it says that nothing is waited for"]
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

fn end_last_stage(stages: &mut [StageTime], end: chrono::DateTime<chrono::Utc>) {
    if let Some(last) = stages.last_mut()
        && last.seconds.is_none()
    {
        let millis = (end - last.start).num_milliseconds().max(0);
        last.seconds = Some(std::time::Duration::from_millis(millis.unsigned_abs()).as_secs_f64());
    }
}

/// All attempts that this builder has. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct AttemptRegistry {
    attempts: Arc<Mutex<HashMap<AttemptId, Entry>>>,
    forgotten: Arc<watch::Sender<()>>,
}

/// How an attempt is known.
#[derive(Debug)]
enum Entry {
    Running(Arc<RunningAttempt>),
    /// An earlier process claimed it and heard no answer; it is being asked for.
    ClaimUnanswered,
}

impl AttemptRegistry {
    /// Remembers an attempt until it is [forgotten](AttemptRegistry::forget). False when it is known already: the same
    /// order was delivered and claimed twice, and the first goes on.
    #[must_use]
    pub fn insert(&self, running: &Arc<RunningAttempt>) -> bool {
        let mut attempts = self.lock();
        let is_new = !attempts.contains_key(&running.id());
        if is_new {
            attempts.insert(running.id(), Entry::Running(Arc::clone(running)));
        }
        is_new
    }

    /// Remembers an attempt whose claim had no answer.
    pub fn insert_unanswered(&self, attempt: AttemptId) {
        self.lock().entry(attempt).or_insert(Entry::ClaimUnanswered);
    }

    /// Forgets an attempt that is closed.
    pub fn forget(&self, attempt: AttemptId) {
        self.lock().remove(&attempt);
        self.forgotten.send_replace(());
    }

    /// Tells when an attempt was forgotten.
    pub fn forgotten(&self) -> watch::Receiver<()> {
        self.forgotten.subscribe()
    }

    /// Whether an order for it needs no answer any more.
    pub fn knows(&self, attempt: AttemptId) -> bool {
        self.lock().contains_key(&attempt)
    }

    /// One attempt.
    pub fn get(&self, attempt: AttemptId) -> Option<Arc<RunningAttempt>> {
        match self.lock().get(&attempt)? {
            Entry::Running(running) => Some(Arc::clone(running)),
            Entry::ClaimUnanswered => None,
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// What a heartbeat says of them.
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
    fn what_is_waited_for_is_told_as_long_as_some_part_waits() {
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
        registry.forget(running.id());
        assert_eq!(registry.count(), 0);
        registry.insert_unanswered(running.id());
        assert!(registry.knows(running.id()) && registry.statuses().is_empty());
    }
}
