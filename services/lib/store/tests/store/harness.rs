//! Test harness: a database with a project, chroots and builders, and the steps that most tests begin with.

use millrace_domain::{
    AttemptId, AttemptState, BuildId, BuilderId, Limits, Name, Outcome, OutcomeKind, Phase,
    Priority, TaskState, Token, TokenHash,
};
use millrace_store::{
    Acceptance, AttemptView, Blockers, BuildView, CancelResult, ChrootDef, ClaimInput,
    ClaimOutcome, Enrolment, FileView, Finished, FinishedPackage, Heartbeat, HeartbeatVerdict,
    HeldAttempt, NewBuild, NewBuilder, NewSource, OutboxEntry, ProjectRow, ReleaseConfig,
    SourcePlace, Store, Submission, SweepConfig, Swept, TaskView, TestDatabase,
};

pub const CHROOT: &str = "fedora-44-x86_64";
pub const OTHER_CHROOT: &str = "fedora-44-aarch64";
/// After how long a builder counts as silent.
pub const SILENT_SECONDS: u32 = 12;

pub struct Harness {
    pub database: TestDatabase,
    pub project: ProjectRow,
}

/// Twice the free room, so that something is left on offer when builders are full.
pub fn wide() -> ReleaseConfig {
    ReleaseConfig {
        window_factor: 2,
        ..ReleaseConfig::default()
    }
}

/// A claimed attempt, as its builder knows it.
#[derive(Debug, Clone, Copy)]
pub struct Claimed {
    pub attempt: AttemptId,
    pub builder: BuilderId,
    pub lease: TokenHash,
}

impl Harness {
    pub async fn new() -> Self {
        Self::on(TestDatabase::create().await).await
    }

    pub async fn on(database: TestDatabase) -> Self {
        let chroot = |name: &str| ChrootDef {
            name: name.parse().unwrap(),
            image: format!("image/{name}"),
            mock_root: name.parse().unwrap(),
            base: None,
        };
        let project = database
            .store()
            .ensure_defaults(
                &"main".parse().unwrap(),
                &"main".parse().unwrap(),
                &[chroot(CHROOT), chroot(OTHER_CHROOT)],
            )
            .await
            .unwrap();
        Self { database, project }
    }

    pub fn store(&self) -> &Store {
        self.database.store()
    }

    pub fn new_build(&self, chroots: &[&str]) -> NewBuild {
        NewBuild {
            project: self.project.clone(),
            submitter: self.project.account_id,
            sources: vec![NewSource {
                name: "hello-1-1.src.rpm".parse().unwrap(),
                place: SourcePlace::Url("http://source/hello-1-1.src.rpm".parse().unwrap()),
            }],
            chroots: chroots.iter().map(|name| name.parse().unwrap()).collect(),
            repositories: vec!["http://repo/$basearch/".parse().unwrap()],
            limits: Limits {
                memory_mib: 2048,
                timeout_seconds: 1800,
            },
            disk_mib: None,
            priority: Priority::Normal,
            memory_class: "2g".to_owned(),
            resubmit_of: None,
            key: None,
        }
    }

    pub async fn submit_this(&self, new: &NewBuild) -> BuildId {
        match self.store().submit_build(new).await.unwrap() {
            Submission::Accepted(view) => view.id,
            other => panic!("not stored: {other:?}"),
        }
    }

    /// A project of another owner.
    pub async fn project_of(&self, owner: &str) -> ProjectRow {
        let sql = format!(
            "with o as (insert into accounts (name) values ('{owner}') returning id)
             insert into projects (account_id, name) select id, 'main' from o"
        );
        self.database.execute(&sql).await;
        let (owner, name): (Name, Name) = (owner.parse().unwrap(), "main".parse().unwrap());
        let found = self.store().find_project(&owner, &name).await.unwrap();
        found.unwrap()
    }

    pub async fn submit(&self) -> BuildId {
        self.submit_this(&self.new_build(&[CHROOT])).await
    }

    /// A builder alone on its engine: 8 GiB and four sandboxes.
    pub async fn builder(&self, name: &str) -> BuilderId {
        self.enrol(new_builder(name)).await
    }

    pub async fn enrol(&self, new: NewBuilder) -> BuilderId {
        let done = self.store().enrol_builder(&new).await.unwrap();
        assert_eq!(done, Enrolment::Enrolled { returns: false });
        new.id
    }

    pub async fn release(&self) -> Vec<OutboxEntry> {
        self.store()
            .release_tasks(
                &wide(),
                |task| serde_json::json!({ "attempt": task.attempt_id }),
            )
            .await
            .unwrap()
            .entries
    }

    /// All that is in the outbox, as a relay has it after another one has died.
    pub async fn take_all(&self) -> Vec<OutboxEntry> {
        self.database
            .execute("update outbox set free_at = now()")
            .await;
        self.store().take_outbox(1000).await.unwrap()
    }

    /// Confirms all that is in the outbox; says how much that was.
    pub async fn publish(&self) -> usize {
        let entries = self.take_all().await;
        self.store().confirm_published(&entries).await.unwrap();
        entries.len()
    }

    /// Confirms the one order in the outbox; its attempt.
    pub async fn publish_one(&self) -> AttemptId {
        let entries = self.take_all().await;
        assert_eq!(entries.len(), 1, "exactly one order must be in the outbox");
        self.store().confirm_published(&entries).await.unwrap();
        entries[0].attempt_id
    }

    /// Waiting tasks can be released at once, whatever delay they were put back with.
    pub async fn skip_delays(&self) {
        self.database
            .execute("update tasks set not_before = now()")
            .await;
    }

    /// Releases and publishes the only waiting task.
    pub async fn offer(&self) -> AttemptId {
        self.skip_delays().await;
        let released = self.release().await;
        assert_eq!(released.len(), 1, "exactly one task must be waiting");
        self.publish().await;
        released[0].attempt_id
    }

    pub async fn try_claim(
        &self,
        builder: BuilderId,
        attempt: AttemptId,
        nonce: &str,
    ) -> ClaimOutcome {
        let input = ClaimInput {
            builder_id: builder,
            attempt_id: attempt,
            nonce_hash: Token::new(nonce).hash(),
            lease_token_hash: lease_of(builder, attempt, nonce),
            lease_seconds: 45,
        };
        self.store().claim(&input).await.unwrap()
    }

    pub async fn claim(&self, builder: BuilderId, attempt: AttemptId) -> Claimed {
        let outcome = self.try_claim(builder, attempt, "nonce").await;
        assert_eq!(outcome, ClaimOutcome::Granted { already: false });
        let lease = lease_of(builder, attempt, "nonce");
        Claimed {
            attempt,
            builder,
            lease,
        }
    }

    /// Submits a build of one task and has this builder claim it.
    pub async fn running(&self, builder: BuilderId) -> (BuildId, Claimed) {
        let build = self.submit().await;
        let attempt = self.offer().await;
        (build, self.claim(builder, attempt).await)
    }

    pub async fn accept(&self, claimed: Claimed, kind: OutcomeKind) -> Acceptance {
        self.store().accept(&report(claimed, kind)).await.unwrap()
    }

    pub async fn beat(&self, claimed: Claimed, phase: Phase) -> HeartbeatVerdict {
        let beat = Heartbeat {
            stopping: false,
            builder_id: claimed.builder,
            free_mib: 1,
            free_sandboxes: 1,
            hindered: Blockers::default(),
            attempts: vec![held(claimed, phase)],
            lease_seconds: 45,
            finish_lease_seconds: 1800,
        };
        let mut verdicts = self.store().heartbeat(&beat).await.unwrap();
        assert_eq!(verdicts.len(), 1);
        verdicts.remove(0).1
    }

    /// A sweep without a gap before it.
    pub async fn sweep(&self) -> Swept {
        self.database
            .execute("update sweeper_ticks set ticked_at = now()")
            .await;
        self.sweep_after_gap().await
    }

    pub async fn sweep_after_gap(&self) -> Swept {
        let config = SweepConfig {
            lease_seconds: 45,
            offer_seconds: 600,
            silent_seconds: SILENT_SECONDS,
        };
        self.store().sweep(&config).await.unwrap()
    }

    pub async fn let_lease_run_out(&self, attempt: AttemptId) {
        let sql = format!(
            "update attempts set lease_until = now() - interval '1 second' where id = '{attempt}'"
        );
        assert_eq!(self.database.execute(&sql).await, 1);
    }

    pub async fn cancel(&self, build: BuildId) -> CancelResult {
        let cancelled = self.store().cancel_build(build, SILENT_SECONDS);
        cancelled.await.unwrap()
    }

    /// The builder was last heard of so many seconds ago, and sweeps went on all the time.
    pub async fn let_fall_silent(&self, builder: BuilderId, seconds: u32) {
        let sql = format!(
            "with heard as (
                update builders set last_seen_at = now() - interval '{seconds} seconds' where id = '{builder}'
            ), claimed as (
                update attempts set claimed_at = now() - interval '1 hour' where builder_id = '{builder}'
            )
            update sweeper_ticks set resumed_at = now() - interval '1 hour', ticked_at = now()"
        );
        self.database.execute(&sql).await;
    }

    pub async fn build(&self, id: BuildId) -> BuildView {
        self.store().build(id).await.unwrap().unwrap()
    }

    /// The first task of a build.
    pub async fn task(&self, id: BuildId) -> TaskView {
        self.build(id).await.tasks.remove(0)
    }

    pub async fn attempt(&self, id: AttemptId) -> AttemptView {
        self.store().attempt(id).await.unwrap().unwrap()
    }

    pub async fn assert_states(&self, build: BuildId, task: TaskState, attempt: AttemptState) {
        let found = self.task(build).await;
        assert_eq!(found.state, task);
        assert_eq!(found.attempts.last().unwrap().state, attempt);
    }
}

pub fn new_builder(name: &str) -> NewBuilder {
    NewBuilder {
        id: BuilderId::generate(),
        name: name.to_owned(),
        token_hash: Token::new(format!("token of {name}")).hash(),
        previous_token_hash: None,
        engine_id: format!("engine of {name}"),
        engine_budget_mib: 8192,
        archs: vec!["x86_64".to_owned()],
        memory_mib: 8192,
        sandboxes: 4,
        version: "1".to_owned(),
        renewal: false,
    }
}

pub fn lease_of(builder: BuilderId, attempt: AttemptId, nonce: &str) -> TokenHash {
    Token::new(format!("{builder} {attempt} {nonce}")).hash()
}

pub fn held(claimed: Claimed, phase: Phase) -> HeldAttempt {
    HeldAttempt {
        attempt_id: claimed.attempt,
        lease_token_hash: claimed.lease,
        phase,
        stage: None,
        stages: Vec::new(),
        waits_for: None,
    }
}

pub fn file(name: &str, digit: char) -> FileView {
    FileView {
        name: name.parse().unwrap(),
        size: 7,
        sha256: digit.to_string().repeat(64),
    }
}

/// A report without files.
pub fn report(claimed: Claimed, kind: OutcomeKind) -> Finished {
    let outcome = Outcome::new(kind, "it ended");
    Finished {
        attempt_id: claimed.attempt,
        lease_token_hash: claimed.lease,
        outcome: outcome.clone(),
        packages: vec![FinishedPackage {
            position: 0,
            source: "hello-1-1.src.rpm".parse().unwrap(),
            outcome,
            files: Vec::new(),
        }],
        stages: Vec::new(),
        image_digest: Some("sha256:image".to_owned()),
        image_baked_at: chrono::DateTime::from_timestamp(1_800_000_000, 0),
        set_aside_faults: 0,
        raise: None,
    }
}
