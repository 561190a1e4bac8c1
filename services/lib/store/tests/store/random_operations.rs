//! Random sequences of store operations, several at once, and the invariants that hold after each.

use std::collections::HashMap;

use millrace_domain::{BuildId, BuilderId, OutcomeKind, Phase, TaskState};
use millrace_store::{ClaimOutcome, ListQuery, TaskView};

use crate::harness::{CHROOT, Claimed, Harness, OTHER_CHROOT, lease_of};

/// A small generator with a seed, so that a failed walk can be walked again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }
}

struct Walk {
    harness: Harness,
    chance: Chance,
    builders: Vec<BuilderId>,
    builds: Vec<BuildId>,
    /// Every claim ever granted, the dead ones too: their words keep coming.
    claims: Vec<Claimed>,
    /// Terminal tasks as they were when they ended.
    over: HashMap<i64, TaskView>,
}

impl Walk {
    async fn new(seed: u64) -> Self {
        let harness = Harness::new().await;
        let builders = vec![harness.builder("b1").await, harness.builder("b2").await];
        Self {
            harness,
            chance: Chance(seed),
            builders,
            builds: Vec::new(),
            claims: Vec::new(),
            over: HashMap::new(),
        }
    }

    async fn step(&mut self) {
        match self.chance.below(12) {
            0 | 1 => {
                let all = [CHROOT, OTHER_CHROOT];
                let chroots = &all[..=self.chance.below(2)];
                let new = self.harness.new_build(chroots);
                self.builds.push(self.harness.submit_this(&new).await);
            }
            2 => {
                self.harness.skip_delays().await;
                self.harness.release().await;
            }
            3 => {
                self.publish_some().await;
            }
            4..=6 => self.claim_some().await,
            7 | 8 => self.report_some().await,
            9 => self.beat_some().await,
            10 => self.disturb().await,
            _ => {
                if let Some(build) = self.chance.pick(&self.builds) {
                    self.harness.cancel(build).await;
                }
            }
        }
    }

    async fn publish_some(&mut self) {
        let entries = self.harness.take_all().await;
        let (confirmed, refused): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|_| self.chance.below(4) > 0);
        // Whatever else happens while the relay waits for the broker.
        if self.chance.below(2) == 0 {
            self.claim_some().await;
        }
        if self.chance.below(4) > 0 {
            let store = self.harness.store();
            store.confirm_published(&confirmed).await.unwrap();
            store.give_back_outbox(&refused).await.unwrap();
        }
    }

    /// Two builders with a copy each of the same order.
    async fn claim_some(&mut self) {
        let sql = "select id::text from attempts order by random() limit 1";
        let Some(attempt) = self.harness.database.fetch_text(sql).await else {
            return;
        };
        let attempt = attempt.parse().unwrap();
        let (first, second) = (self.builders[0], self.builders[1]);
        let (one, two) = tokio::join!(
            self.harness.try_claim(first, attempt, "nonce"),
            self.harness.try_claim(second, attempt, "nonce")
        );
        let granted = [(first, one), (second, two)]
            .into_iter()
            .filter(|(_, outcome)| matches!(outcome, ClaimOutcome::Granted { .. }));
        let granted: Vec<_> = granted.collect();
        assert!(granted.len() <= 1, "two builders hold {attempt}");
        for (builder, outcome) in granted {
            if outcome == (ClaimOutcome::Granted { already: false }) {
                let lease = lease_of(builder, attempt, "nonce");
                self.claims.push(Claimed {
                    attempt,
                    builder,
                    lease,
                });
            }
        }
    }

    async fn report_some(&mut self) {
        if let Some(claimed) = self.chance.pick(&self.claims) {
            let kind = self.chance.pick(OutcomeKind::ALL).unwrap();
            let (harness, other) = (&self.harness, self.chance.pick(&self.claims).unwrap());
            tokio::join!(
                harness.accept(claimed, kind),
                harness.accept(other, OutcomeKind::Succeeded),
                harness.beat(claimed, Phase::Reported)
            );
        }
    }

    async fn beat_some(&mut self) {
        if let Some(claimed) = self.chance.pick(&self.claims) {
            let phase = self.chance.pick(Phase::ALL).unwrap();
            self.harness.beat(claimed, phase).await;
        }
    }

    async fn disturb(&mut self) {
        let claimed = self.chance.pick(&self.claims);
        match (self.chance.below(5), claimed) {
            (0, Some(claimed)) => {
                let lease = Some(&claimed.lease);
                let store = self.harness.store();
                let done = store.decline(claimed.builder, claimed.attempt, lease, "stopping");
                done.await.unwrap();
            }
            (1, Some(claimed)) => {
                let revoked = self
                    .harness
                    .store()
                    .revoke_attempt(claimed.attempt, "parked");
                revoked.await.unwrap();
            }
            (2, Some(claimed)) => {
                self.harness.let_lease_run_out(claimed.attempt).await;
                self.harness.sweep().await;
            }
            (3, _) => {
                let old = "update attempts set confirmed_at = now() - interval '1 hour'
                    where state = 'offered' and confirmed_at is not null";
                self.harness.database.execute(old).await;
                self.harness.sweep().await;
            }
            _ => {
                self.harness.sweep_after_gap().await;
            }
        }
    }

    async fn check(&mut self) {
        let query = ListQuery {
            limit: 1000,
            ..ListQuery::default()
        };
        let builds = self.harness.store().list_builds(&query).await.unwrap();
        for task in builds.into_iter().flat_map(|build| build.tasks) {
            check_task(&task);
            if let Some(before) = self.over.get(&task.id.0) {
                assert_eq!(&task, before, "a terminal task changed");
            } else if task.state.is_terminal() {
                self.over.insert(task.id.0, task);
            }
        }
        let broken = "select string_agg(o.attempt_id::text, ' ') from outbox o
            join attempts a on a.id = o.attempt_id join tasks t on t.id = o.task_id
            where a.state <> 'offered' or t.current_attempt is distinct from a.id";
        assert_eq!(self.harness.database.fetch_text(broken).await, None);
        let over_budget =
            "select b.engine_id from attempts a join builders b on b.id = a.builder_id
            where a.state = 'claimed' and a.phase in ('fetching', 'building', 'collecting')
            group by b.engine_id having sum(a.memory_mib) > 8192";
        assert_eq!(self.harness.database.fetch_text(over_budget).await, None);
    }
}

fn check_task(task: &TaskView) {
    use millrace_domain::AttemptState::{Claimed, Finished, Lost, Offered, Revoked};
    let count = |states: &[_]| {
        task.attempts
            .iter()
            .filter(|attempt| states.contains(&attempt.state))
            .count()
    };
    let alive = match task.state {
        TaskState::Waiting => count(&[Offered]),
        TaskState::Queued => {
            assert_eq!(count(&[Offered]), 1, "{task:?}");
            1
        }
        TaskState::Running => {
            assert_eq!(count(&[Claimed]), 1, "{task:?}");
            1
        }
        TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled => 0,
    };
    assert_eq!(count(&[Offered, Claimed]), alive, "{task:?}");
    assert!(task.attempts_counted <= 3, "{task:?}");
    // A finished attempt that was not the task's end was a fault of ours.
    let ended_well = |kind: OutcomeKind| !kind.is_retried();
    let final_words = task.attempts.iter().filter(|attempt| {
        attempt.state == Finished && ended_well(attempt.outcome.as_ref().unwrap().kind)
    });
    assert!(final_words.count() <= 1, "{task:?}");
    assert!(count(&[Lost]) <= 3, "{task:?}");
    assert!(count(&[Revoked]) <= task.attempts.len());
    let numbers: Vec<u32> = task.attempts.iter().map(|attempt| attempt.number).collect();
    let wanted: Vec<u32> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, wanted, "{task:?}");
}

/// Drives all that is left to an end: nothing may be stuck.
async fn finish(walk: &mut Walk) {
    let arm = crate::harness::new_builder("arm");
    let arm = millrace_store::NewBuilder {
        archs: vec!["aarch64".to_owned()],
        ..arm
    };
    walk.builders[1] = walk.harness.enrol(arm).await;
    for _ in 0..50 {
        let counts = walk.harness.store().counts().await.unwrap();
        if counts.waiting + counts.queued + counts.running == 0 {
            assert_eq!(counts.outbox, 0);
            return;
        }
        let lost =
            "update attempts set lease_until = now() - interval '1 second' where state = 'claimed'";
        walk.harness.database.execute(lost).await;
        walk.harness.sweep().await;
        // However long the walk took, and whoever should have gone first.
        let time = "update builders set last_seen_at = now()";
        walk.harness.database.execute(time).await;
        let time = "update tasks set waiting_since = now() - interval '2 minutes'";
        walk.harness.database.execute(time).await;
        walk.harness.skip_delays().await;
        walk.harness.release().await;
        walk.harness.publish().await;
        let sql = "select a.id::text from attempts a join tasks t on t.id = a.task_id
            where a.state = 'offered' order by a.id limit 1";
        while let Some(attempt) = walk.harness.database.fetch_text(sql).await {
            let attempt = attempt.parse().unwrap();
            let builder = walk.builders[0];
            if walk.harness.try_claim(builder, attempt, "nonce").await
                == (ClaimOutcome::Granted { already: false })
            {
                let lease = lease_of(builder, attempt, "nonce");
                let claimed = Claimed {
                    attempt,
                    builder,
                    lease,
                };
                walk.harness.accept(claimed, OutcomeKind::Succeeded).await;
            }
        }
    }
    panic!("tasks are stuck");
}

async fn walk(seed: u64) {
    let mut walk = Walk::new(seed).await;
    for number in 0..120 {
        walk.step().await;
        if number % 3 == 0 {
            walk.check().await;
        }
    }
    finish(&mut walk).await;
    walk.check().await;
}

#[tokio::test]
async fn whatever_happens_in_whatever_order_each_task_ends_once_and_nothing_is_stuck() {
    for seed in [1, 2, 3, 5] {
        println!("seed {seed}");
        walk(seed).await;
    }
}
