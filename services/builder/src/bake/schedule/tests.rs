//! Which image is due when, and what is reported of it.

use super::*;

const HOUR: Duration = Duration::from_hours(1);

fn order(name: &str, asked_ms_ago: Option<u64>) -> ChrootOrder {
    ChrootOrder {
        name: name.parse().unwrap(),
        image: format!("chroot-{name}"),
        base: Some("base".to_owned()),
        mock_root: name.parse().unwrap(),
        refresh_asked_ms_ago: asked_ms_ago,
    }
}

fn facts(baked_at: DateTime<Utc>) -> ImageFacts {
    ImageFacts {
        digest: "sha256:1".to_owned(),
        baked_at: Some(baked_at),
        proved: None,
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn schedule(orders: Vec<ChrootOrder>) -> BakeSchedule {
    let mut schedule = BakeSchedule::new(BuilderId::generate(), Some(24 * HOUR), HOUR);
    schedule.set_chroots(orders, now());
    schedule
}

fn due(schedule: &BakeSchedule, at: DateTime<Utc>) -> Option<String> {
    schedule.due(at).map(|order| order.name.to_string())
}

#[test]
fn what_is_missing_comes_before_what_is_old_and_nothing_before_it_was_looked_for() {
    let mut schedule = schedule(vec![order("a-1-x", None), order("b-1-x", None)]);
    assert_eq!(due(&schedule, now()), None);
    schedule.record_image(
        &"a-1-x".parse().unwrap(),
        Some(facts(now() - TimeDelta::days(2))),
    );
    assert_eq!(due(&schedule, now()).as_deref(), Some("a-1-x"));
    schedule.record_image(&"b-1-x".parse().unwrap(), None);
    assert_eq!(due(&schedule, now()).as_deref(), Some("b-1-x"));
}

#[test]
fn what_a_neighbour_bakes_comes_last_and_is_over_when_it_is_there() {
    let name: ChrootName = "a-1-x".parse().unwrap();
    let mut schedule = schedule(vec![order("a-1-x", None), order("b-1-x", None)]);
    schedule.record_image(&name, None);
    schedule.record_image(&"b-1-x".parse().unwrap(), None);
    schedule.mark_baking(&name, now());
    schedule.clear_baked_elsewhere(None, now());
    assert_eq!(schedule.report()[0].state, ImageState::Baking);
    assert_eq!(due(&schedule, now()).as_deref(), Some("b-1-x"));
    schedule.record_image(&name, Some(facts(now())));
    schedule.clear_baked_elsewhere(Some(&name), now());
    assert_eq!(schedule.report()[0].state, ImageState::Baking, "our own");
    schedule.clear_baked_elsewhere(None, now());
    assert_eq!(schedule.report()[0].state, ImageState::Ready);
}

#[test]
fn an_image_is_due_by_age_with_a_tenth_of_jitter_or_when_asked_for() {
    let name: ChrootName = "a-1-x".parse().unwrap();
    let mut schedule = schedule(vec![order("a-1-x", None)]);
    schedule.record_image(&name, Some(facts(now())));
    assert_eq!(due(&schedule, now() + TimeDelta::hours(23)), None);
    assert!(due(&schedule, now() + TimeDelta::hours(27)).is_some());
    let later = now() + TimeDelta::minutes(10);
    schedule.set_chroots(vec![order("a-1-x", Some(60_000))], later);
    assert!(
        due(&schedule, later).is_some(),
        "asked for after it was baked"
    );
    schedule.set_chroots(vec![order("a-1-x", Some(11 * 60_000))], later);
    assert_eq!(due(&schedule, later), None, "asked for before");
}

#[test]
fn an_image_that_is_refused_is_told_and_baked_where_there_is_a_base() {
    let (name, other): (ChrootName, ChrootName) =
        ("a-1-x".parse().unwrap(), "b-1-x".parse().unwrap());
    let mut made_elsewhere = order("b-1-x", None);
    made_elsewhere.base = None;
    let mut schedule = schedule(vec![order("a-1-x", None), made_elsewhere]);
    for name in [&name, &other] {
        schedule.record_image(name, Some(facts(now())));
        schedule.record_refusal(name, Some("rpmbuild runs as root".to_owned()), now());
    }
    assert_eq!(due(&schedule, now()).as_deref(), Some("a-1-x"));
    for image in schedule.report() {
        assert_eq!(image.state, ImageState::Failed);
        assert_eq!(image.error.as_deref(), Some("rpmbuild runs as root"));
        assert_eq!(image.since, Some(now()));
    }
    schedule.record_refusal(&name, None, now());
    assert_eq!(schedule.report()[0].state, ImageState::Ready);
    assert_eq!(due(&schedule, now()), None);
}

#[test]
fn an_image_that_is_made_elsewhere_is_never_baked() {
    let mut made_elsewhere = order("a-1-x", Some(0));
    made_elsewhere.base = None;
    let mut schedule = schedule(vec![made_elsewhere]);
    schedule.record_image(&"a-1-x".parse().unwrap(), None);
    assert_eq!(due(&schedule, now()), None);
    assert_eq!(schedule.report()[0].state, ImageState::Missing);
}

#[test]
fn a_failure_is_told_keeps_its_distance_and_gives_way_to_a_wish() {
    let name: ChrootName = "a-1-x".parse().unwrap();
    let mut schedule = schedule(vec![order("a-1-x", None)]);
    schedule.record_image(&name, None);
    schedule.mark_baking(&name, now());
    assert_eq!(schedule.report()[0].state, ImageState::Baking);
    let next = schedule.record_failure(&name, "no mirror".to_owned(), now());
    assert!(next >= now() + TimeDelta::minutes(30) && next <= now() + TimeDelta::hours(1));
    let reported = schedule.report().remove(0);
    assert_eq!(
        (reported.state, reported.error.as_deref()),
        (ImageState::Failed, Some("no mirror"))
    );
    assert_eq!(due(&schedule, now()), None);
    assert!(due(&schedule, next).is_some());
    let soon = now() + TimeDelta::minutes(1);
    schedule.set_chroots(vec![order("a-1-x", Some(1000))], soon);
    assert!(
        due(&schedule, soon).is_some(),
        "asked for after the failure"
    );
    // The neighbour's bake began before the failure here and ended after it.
    schedule.record_image(&name, Some(facts(now() - TimeDelta::minutes(1))));
    let reported = schedule.report().remove(0);
    assert_eq!((reported.state, reported.error), (ImageState::Ready, None));
    schedule.record_failure(&name, "no mirror".to_owned(), soon);
    schedule.record_image(&name, Some(facts(now())));
    assert_eq!(schedule.report()[0].state, ImageState::Failed, "no new one");
}
