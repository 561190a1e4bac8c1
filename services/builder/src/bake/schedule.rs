//! Decides which image of a chroot is baked next, from what is known of the images. Pure; no IO.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use millrace_chassis::{Backoff, BackoffExt};
use millrace_domain::{BuilderId, ChrootName};
use millrace_sandbox::ImageFacts;
use millrace_wire::{ChrootImage, ChrootOrder, ImageState};
use sha2::{Digest, Sha256};

/// The longest pause before a failed bake is tried again.
const LONGEST_RETRY: Duration = Duration::from_hours(1);
/// The most by which an image may exceed its age, as a fraction of it, so that images do not fall due together.
const JITTER: f64 = 0.1;

/// The images of a builder's chroots, and when each is due.
#[derive(Debug)]
pub struct BakeSchedule {
    builder: BuilderId,
    age: Option<Duration>,
    retry: Duration,
    entries: BTreeMap<ChrootName, Entry>,
}

/// What is known of the image of one chroot.
#[derive(Debug)]
struct Entry {
    order: ChrootOrder,
    /// When a new image was requested, by this builder's clock.
    requested_at: Option<DateTime<Utc>>,
    found: ImageOnEngine,
    /// Since when it is being baked, by this or by another builder on the engine.
    baking_since: Option<DateTime<Utc>>,
    failure: Option<Failure>,
}

/// What the engine has of an image.
#[derive(Debug)]
enum ImageOnEngine {
    /// Not looked up yet.
    Unknown,
    Missing,
    Present(ImageFacts),
}

impl ImageOnEngine {
    fn facts(&self) -> Option<&ImageFacts> {
        match self {
            Self::Present(facts) => Some(facts),
            Self::Unknown | Self::Missing => None,
        }
    }
}

/// A bake that failed, and when it is tried again.
#[derive(Debug)]
struct Failure {
    error: String,
    at: DateTime<Utc>,
    next_try_at: DateTime<Utc>,
    backoff: Backoff,
}

impl BakeSchedule {
    /// An empty schedule. Images are due at `age`; a bake that failed is tried again after about `retry`.
    pub fn new(builder: BuilderId, age: Option<Duration>, retry: Duration) -> Self {
        Self {
            builder,
            age,
            retry,
            entries: BTreeMap::new(),
        }
    }

    /// Replaces the chroots by those that the frontend wants now. What is known of a chroot with the same image stays.
    pub fn set_chroots(&mut self, orders: Vec<ChrootOrder>, now: DateTime<Utc>) {
        let mut known = std::mem::take(&mut self.entries);
        for order in orders {
            let ago = |ms: u64| TimeDelta::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX));
            let requested_at = order
                .refresh_asked_ms_ago
                .and_then(|ms| now.checked_sub_signed(ago(ms)));
            let same = known
                .remove(&order.name)
                .filter(|entry| entry.order.image == order.image && entry.order.base == order.base);
            let entry = match same {
                Some(entry) => Entry {
                    order: order.clone(),
                    requested_at,
                    ..entry
                },
                None => Entry {
                    order: order.clone(),
                    requested_at,
                    found: ImageOnEngine::Unknown,
                    baking_since: None,
                    failure: None,
                },
            };
            self.entries.insert(order.name, entry);
        }
    }

    /// The name of each chroot with the name of its image.
    pub fn images(&self) -> Vec<(ChrootName, String)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.clone(), entry.order.image.clone()))
            .collect()
    }

    /// Records what the engine has of a chroot's image; none when it is missing.
    pub fn record_image(&mut self, name: &ChrootName, facts: Option<ImageFacts>) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let baked_at = facts.as_ref().and_then(|facts| facts.baked_at);
        if entry
            .failure
            .as_ref()
            .is_some_and(|f| baked_at > Some(f.at))
        {
            // Another builder on the engine has baked it since the failure.
            entry.failure = None;
        }
        entry.found = facts.map_or(ImageOnEngine::Missing, ImageOnEngine::Present);
    }

    /// The chroot to be baked next: a missing image comes before an old one, and one that another builder bakes comes last.
    pub fn due(&self, now: DateTime<Utc>) -> Option<ChrootOrder> {
        let due = self
            .entries
            .values()
            .filter(|entry| self.is_due(entry, now));
        let next = due.min_by_key(|entry| {
            let is_missing = matches!(entry.found, ImageOnEngine::Missing);
            (entry.baking_since.is_some(), !is_missing)
        });
        next.map(|entry| entry.order.clone())
    }

    /// Ends the state "baking" of images that another builder was baking and that are not due any more.
    pub fn clear_baked_elsewhere(&mut self, own: Option<&ChrootName>, now: DateTime<Utc>) {
        let elsewhere = |entry: &&Entry| {
            entry.baking_since.is_some()
                && own != Some(&entry.order.name)
                && !self.is_due(entry, now)
        };
        let done: Vec<ChrootName> = (self.entries.values().filter(elsewhere))
            .map(|entry| entry.order.name.clone())
            .collect();
        for name in done {
            self.clear_baking(&name);
        }
    }

    fn is_due(&self, entry: &Entry, now: DateTime<Utc>) -> bool {
        if entry.order.base.is_none() {
            return false;
        }
        if let Some(failure) = &entry.failure
            && now < failure.next_try_at
            && entry.requested_at <= Some(failure.at)
        {
            return false;
        }
        match &entry.found {
            ImageOnEngine::Unknown => false,
            ImageOnEngine::Missing => true,
            ImageOnEngine::Present(facts) => self.is_old(entry, facts.baked_at, now),
        }
    }

    /// Whether an image is replaced for its age or on request. The age of an image without a label is not known, so it is
    /// replaced on request only.
    fn is_old(&self, entry: &Entry, baked_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let is_requested = entry.requested_at.is_some() && baked_at < entry.requested_at;
        let is_aged = baked_at.zip(self.age).is_some_and(|(baked_at, age)| {
            let age = age.mul_f64(1.0 + JITTER * self.jitter_share(&entry.order.name));
            (now - baked_at).to_std().is_ok_and(|old| old >= age)
        });
        is_requested || is_aged
    }

    /// A number from 0 to 1 that differs by builder and chroot, so that images do not fall due together.
    fn jitter_share(&self, name: &ChrootName) -> f64 {
        let digest = Sha256::digest(format!("{} {name}", self.builder));
        f64::from(digest[0]) / 255.0
    }

    /// Records that the image is being baked, by this or by another builder on the engine.
    pub fn mark_baking(&mut self, name: &ChrootName, now: DateTime<Utc>) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.baking_since.get_or_insert(now);
        }
    }

    /// Records that the image is not being baked any more.
    pub fn clear_baking(&mut self, name: &ChrootName) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.baking_since = None;
        }
    }

    /// Records that a bake succeeded.
    pub fn record_success(&mut self, name: &ChrootName) {
        self.clear_baking(name);
        if let Some(entry) = self.entries.get_mut(name) {
            entry.failure = None;
        }
    }

    /// Records that a bake failed; gives the time at which it is tried again.
    pub fn record_failure(
        &mut self,
        name: &ChrootName,
        error: String,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        self.clear_baking(name);
        let Some(entry) = self.entries.get_mut(name) else {
            return now;
        };
        let retry = self.retry;
        let mut backoff = match entry.failure.take() {
            Some(failure) => failure.backoff,
            None => Backoff::new(retry, LONGEST_RETRY),
        };
        let delay = TimeDelta::from_std(backoff.next_delay()).unwrap_or(TimeDelta::hours(1));
        let next_try_at = now + delay;
        entry.failure = Some(Failure {
            error,
            at: now,
            next_try_at,
            backoff,
        });
        next_try_at
    }

    /// The state of every image that was looked up, as the frontend gets it.
    pub fn report(&self) -> Vec<ChrootImage> {
        let is_looked_up =
            |(_, entry): &(_, &Entry)| !matches!(entry.found, ImageOnEngine::Unknown);
        let images = self
            .entries
            .iter()
            .filter(is_looked_up)
            .map(|(name, entry)| {
                let found = entry.found.facts();
                let failure = entry.failure.as_ref();
                let state = match (entry.baking_since, failure, found) {
                    (Some(_), ..) => ImageState::Baking,
                    (None, Some(_), _) => ImageState::Failed,
                    (None, None, Some(_)) => ImageState::Ready,
                    (None, None, None) => ImageState::Missing,
                };
                ChrootImage {
                    chroot: name.clone(),
                    state,
                    digest: found.map(|facts| facts.digest.clone()),
                    baked_at: found.and_then(|facts| facts.baked_at),
                    since: entry.baking_since.or(failure.map(|failure| failure.at)),
                    error: failure.map(|failure| failure.error.clone()),
                    next_try_at: failure
                        .filter(|_| entry.baking_since.is_none())
                        .map(|failure| failure.next_try_at),
                }
            });
        images.collect()
    }
}

#[cfg(test)]
mod tests {
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
        schedule.record_image(&name, Some(facts(soon)));
        assert_eq!(
            schedule.report()[0].state,
            ImageState::Ready,
            "baked by a neighbour"
        );
    }
}
