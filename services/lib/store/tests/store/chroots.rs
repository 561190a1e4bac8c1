//! Chroots are data: the operator's file only adds those that are not known, and builders say how their images are.

use chrono::DateTime;
use millrace_store::{ChrootAdded, ChrootDef, ImageReport, ImageStanding};

use crate::harness::{CHROOT, Harness, OTHER_CHROOT};

fn chroot(name: &str, image: &str, base: Option<&str>) -> ChrootDef {
    ChrootDef {
        name: name.parse().unwrap(),
        image: image.to_owned(),
        mock_root: name.parse().unwrap(),
        base: base.map(str::to_owned),
    }
}

fn told(name: &str, standing: ImageStanding) -> ImageReport {
    ImageReport {
        chroot: name.parse().unwrap(),
        standing,
        digest: None,
        baked_at: None,
        since: DateTime::from_timestamp(1_800_000_000, 0),
        error: (standing == ImageStanding::Failed).then(|| "no mirror".to_owned()),
        next_try_at: None,
    }
}

#[tokio::test]
async fn the_operators_file_adds_chroots_and_changes_none() {
    let harness = Harness::new().await;
    let main = || "main".parse().unwrap();
    let seed = async |list: &[ChrootDef]| {
        let seeded = harness
            .store()
            .ensure_defaults(&main(), &main(), list)
            .await;
        assert_eq!(seeded.unwrap(), harness.project);
        harness.store().list_chroots().await.unwrap()
    };
    let other = OTHER_CHROOT.parse().unwrap();
    assert!(harness.store().enable_chroot(&other, false).await.unwrap());
    let image = format!("image/{CHROOT}");
    let list = [
        chroot(CHROOT, &image, Some("base:1")),
        chroot(OTHER_CHROOT, "another", Some("base:1")),
        chroot("new-1-x86_64", "new", None),
    ];
    let chroots = seed(&list).await;
    let stored: Vec<_> = chroots
        .iter()
        .map(|c| (c.name.as_str(), c.base.as_deref(), c.enabled))
        .collect();
    assert_eq!(
        stored,
        [
            (OTHER_CHROOT, None, false),
            (CHROOT, Some("base:1"), true),
            ("new-1-x86_64", None, true)
        ],
        "one of an earlier release gets its base, another image is not taken over"
    );
    assert_eq!(seed(&[]).await, chroots, "what left the file stays");
}

#[tokio::test]
async fn a_chroot_is_added_once_and_shares_its_image_with_none() {
    let harness = Harness::new().await;
    let add = async |new: &ChrootDef, most| harness.store().add_chroot(new, most).await.unwrap();
    let new = chroot("new-1-x86_64", "new", Some("base:1"));
    assert_eq!(add(&new, 2).await, ChrootAdded::Full);
    assert_eq!(add(&new, 9).await, ChrootAdded::Added);
    assert_eq!(add(&new, 9).await, ChrootAdded::NameTaken);
    let twin = chroot("twin-1-x86_64", "new", Some("base:1"));
    assert_eq!(add(&twin, 9).await, ChrootAdded::ImageTaken);
    assert!(harness.store().refresh_chroot(&new.name).await.unwrap());
    let made_elsewhere = CHROOT.parse().unwrap();
    assert!(
        !harness
            .store()
            .refresh_chroot(&made_elsewhere)
            .await
            .unwrap()
    );
    let unknown = "x-1-x86_64".parse().unwrap();
    assert!(!harness.store().enable_chroot(&unknown, true).await.unwrap());
}

#[tokio::test]
async fn a_builder_keeps_images_of_enabled_chroots_and_of_those_that_builds_still_need() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let names = async || {
        let wanted = harness.store().wanted_images(builder, 500).await.unwrap();
        wanted
            .into_iter()
            .map(|wanted| (wanted.chroot.name.to_string(), wanted.refresh_asked_ms_ago))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names().await,
        [(CHROOT.to_owned(), None)],
        "the other is of another architecture"
    );
    let name = CHROOT.parse().unwrap();
    harness.store().enable_chroot(&name, false).await.unwrap();
    assert_eq!(names().await, []);
    harness.store().enable_chroot(&name, true).await.unwrap();
    harness.submit().await;
    harness.store().enable_chroot(&name, false).await.unwrap();
    assert_eq!(names().await.len(), 1, "what was accepted goes on");
    harness
        .database
        .execute("update chroots set base = 'b', refresh_asked_at = now() - interval '5 seconds'")
        .await;
    let asked = names().await[0].1.unwrap();
    assert!((5_000..60_000).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_task_waits_for_a_bake_and_says_how_it_goes() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    harness
        .database
        .execute("update chroots set base = 'b'")
        .await;
    let build = harness.submit().await;
    let attempt = harness.offer().await;
    let lacking = millrace_store::Blockers {
        disk: None,
        missing_images: vec![format!("image/{CHROOT}")],
    };
    harness
        .store()
        .note_blockers(builder, &lacking)
        .await
        .unwrap();
    let declined = harness.store().decline_hindered(attempt, true, "no image");
    assert!(declined.await.unwrap());
    let task = harness.build(build).await.tasks[0].id;
    let wait = async || {
        harness
            .store()
            .wait_facts(&[task], 100)
            .await
            .unwrap()
            .remove(0)
    };
    assert_eq!(wait().await.base.as_deref(), Some("b"));
    assert_eq!(wait().await.bake, None);

    let tell = async |standing| {
        let all = [told(CHROOT, standing), told("unknown-1-x", standing)];
        harness.store().record_images(builder, &all).await.unwrap();
    };
    tell(ImageStanding::Baking).await;
    let bake = wait().await.bake.unwrap();
    assert_eq!((bake.builder.as_str(), bake.has_failed), ("b1", false));
    assert_eq!(harness.store().counts().await.unwrap().bakes_running, 1);
    tell(ImageStanding::Failed).await;
    let bake = wait().await.bake.unwrap();
    assert_eq!(
        (bake.has_failed, bake.error.as_deref()),
        (true, Some("no mirror"))
    );
    assert_eq!(harness.store().counts().await.unwrap().bakes_failing, 1);
    tell(ImageStanding::Ready).await;
    assert_eq!(wait().await.bake, None);
    let images = harness.store().list_images().await.unwrap();
    assert_eq!(
        (images.len(), images[0].report.standing),
        (1, ImageStanding::Ready)
    );
    harness.store().record_images(builder, &[]).await.unwrap();
    assert_eq!(harness.store().list_images().await.unwrap(), []);
}
