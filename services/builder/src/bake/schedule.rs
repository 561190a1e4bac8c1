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
    /// Why the image that was found is not offered, and since when.
    refusal: Option<(String, DateTime<Utc>)>,
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
                    refusal: None,
                    baking_since: None,
                    failure: None,
                },
            };
            self.entries.insert(order.name, entry);
        }
    }

    /// The chroots that the frontend wants.
    pub fn orders(&self) -> Vec<ChrootOrder> {
        self.entries
            .values()
            .map(|entry| entry.order.clone())
            .collect()
    }

    /// Records why the image that was found is not offered; none where it is. Such an image is due like a missing one.
    pub fn record_refusal(
        &mut self,
        name: &ChrootName,
        reason: Option<String>,
        now: DateTime<Utc>,
    ) {
        if let Some(entry) = self.entries.get_mut(name) {
            let since = entry.refusal.take().map_or(now, |(_, since)| since);
            entry.refusal = reason.map(|reason| (reason, since));
        }
    }

    /// Records what the engine has of a chroot's image; none when it is missing.
    pub fn record_image(&mut self, name: &ChrootName, facts: Option<ImageFacts>) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let known = entry.found.facts().map(|facts| &facts.digest);
        if facts
            .as_ref()
            .is_some_and(|facts| Some(&facts.digest) != known)
        {
            // Another builder has baked it. Its bake may have begun before the failure here, so only the digest tells.
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
            let is_missing =
                entry.refusal.is_some() || matches!(entry.found, ImageOnEngine::Missing);
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
            ImageOnEngine::Present(_) if entry.refusal.is_some() => true,
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
                let fault = failure.map(|failure| (&failure.error, failure.at)).or(entry
                    .refusal
                    .as_ref()
                    .map(|(reason, since)| (reason, *since)));
                let state = match (entry.baking_since, fault, found) {
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
                    since: entry.baking_since.or(fault.map(|(_, at)| at)),
                    error: fault.map(|(error, _)| error.clone()),
                    next_try_at: failure
                        .filter(|_| entry.baking_since.is_none())
                        .map(|failure| failure.next_try_at),
                }
            });
        images.collect()
    }
}

#[cfg(test)]
mod tests;
