//! A builder's missing image or full disk is no fault of a task: the task waits without using up an attempt, says why,
//! and starts without help.

use millrace_domain::{AttemptId, BuildId, BuilderId, TaskState};
use millrace_store::{Blockers, DiskShort, Heartbeat, WaitFacts};

use crate::harness::{CHROOT, Harness};

fn image() -> String {
    format!("image/{CHROOT}")
}

fn lacking() -> Blockers {
    Blockers {
        disk: None,
        missing_images: vec![image()],
    }
}

impl Harness {
    async fn say(&self, builder: BuilderId, hindered: Blockers) {
        let beat = Heartbeat {
            builder_id: builder,
            free_mib: 1,
            free_sandboxes: 1,
            hindered,
            stopping: false,
            attempts: Vec::new(),
            lease_seconds: 45,
            finish_lease_seconds: 1800,
        };
        self.store().heartbeat(&beat).await.unwrap();
    }

    async fn wait_of(&self, build: BuildId) -> WaitFacts {
        let build = self.build(build).await;
        let waits = self
            .store()
            .wait_facts(&[build.tasks[0].id], 100)
            .await
            .unwrap();
        waits.into_iter().next().unwrap()
    }

    /// As a builder does that has looked for the image in vain.
    async fn decline_for_image(&self, builder: BuilderId, attempt: AttemptId) {
        self.store()
            .note_blockers(builder, &lacking())
            .await
            .unwrap();
        let declined = self.store().decline_hindered(attempt, true, "no image");
        assert!(declined.await.unwrap());
    }

    async fn held(&self) -> Option<String> {
        let held = "select count(*)::text from tasks where lacks_image and delayed";
        self.database.fetch_text(held).await
    }
}

#[tokio::test]
async fn a_builder_short_of_disk_is_given_nothing_until_it_has_space() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let short = Blockers {
        disk: Some(DiskShort {
            free_mib: 312,
            floor_mib: 1024,
        }),
        missing_images: Vec::new(),
    };
    harness.say(builder, short.clone()).await;
    let build = harness.submit().await;
    assert!(harness.release().await.is_empty());
    let wait = harness.wait_of(build).await;
    assert_eq!(wait.largest_mib, Some(8192));
    assert_eq!(wait.largest_open_mib, None);
    assert_eq!(wait.short_of_disk, ["b1"]);
    assert_eq!(
        harness.store().list_builders().await.unwrap()[0].blockers,
        short
    );
    let counts = harness.store().counts().await.unwrap();
    assert_eq!(
        (counts.builders_live, counts.builders_short_of_disk),
        (1, 1)
    );

    harness.say(builder, Blockers::default()).await;
    assert_eq!(harness.wait_of(build).await.largest_open_mib, Some(8192));
    assert_eq!(harness.release().await.len(), 1);
}

#[tokio::test]
async fn what_needs_an_image_that_no_builder_has_waits_for_it_uncounted_and_starts_when_it_is_there()
 {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let build = harness.submit().await;
    let attempt = harness.offer().await;
    let second = harness.submit().await;
    harness.decline_for_image(builder, attempt).await;
    assert_eq!(
        harness.held().await.as_deref(),
        Some("2"),
        "the other is not even offered"
    );
    harness.skip_delays().await;
    assert!(harness.release().await.is_empty());
    assert_eq!(harness.store().release_held().await.unwrap(), 0);
    let wait = harness.wait_of(second).await;
    assert_eq!(wait.lacking_image, Some(image()));
    assert!(!wait.is_image_somewhere);

    harness.say(builder, Blockers::default()).await;
    assert_eq!(harness.store().release_held().await.unwrap(), 2);
    assert_eq!(harness.wait_of(build).await.lacking_image, None);
    assert_eq!(harness.release().await.len(), 2);
    let task = harness.build(build).await.tasks.remove(0);
    assert_eq!((task.state, task.attempts_counted), (TaskState::Waiting, 0));
    assert_eq!(harness.store().release_held().await.unwrap(), 0);
}

#[tokio::test]
async fn as_many_start_as_builders_with_the_image_have_room_for() {
    let harness = Harness::new().await;
    let (without, with) = (harness.builder("b1").await, harness.builder("b2").await);
    harness.submit().await;
    let attempt = harness.offer().await;
    harness.decline_for_image(without, attempt).await;
    assert_eq!(
        harness.held().await.as_deref(),
        Some("0"),
        "b2 has the image and room"
    );

    // Four of 2 GiB fill b2.
    let attempt = harness.offer().await;
    harness.claim(with, attempt).await;
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(harness.running(with).await);
    }
    let waiting = harness.submit().await;
    harness.submit().await;
    let attempt = harness.release().await[0].attempt_id;
    harness.publish().await;
    harness.decline_for_image(without, attempt).await;
    let held: i64 = harness.held().await.unwrap().parse().unwrap();
    assert!(held >= 1, "b2 is full");
    assert!(harness.wait_of(waiting).await.is_image_somewhere);
    assert_eq!(harness.store().release_held().await.unwrap(), 0);
    let (_, done) = running.remove(0);
    harness
        .accept(done, millrace_domain::OutcomeKind::Succeeded)
        .await;
    assert_eq!(harness.store().release_held().await.unwrap(), 1);
}

#[tokio::test]
async fn only_an_offer_can_be_declined_so() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, claimed) = harness.running(builder).await;
    let declined = harness.store().decline_hindered(claimed.attempt, true, "x");
    assert!(!declined.await.unwrap());
    let unknown = AttemptId::generate();
    assert!(
        !harness
            .store()
            .decline_hindered(unknown, false, "x")
            .await
            .unwrap()
    );
}
