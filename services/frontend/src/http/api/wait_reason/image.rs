//! The wait reasons of a task whose chroot's image no builder has.

use chrono::{DateTime, Utc};
use millrace_store::{BakeWait, WaitFacts};

use crate::http::api::model::wait::WaitWord;

/// Distinguishes an image that a builder bakes or retries from one that an operator has to build or load.
pub(super) fn classify(wait: &WaitFacts) -> (WaitWord, String) {
    let chroot = &wait.chroot;
    match &wait.bake {
        Some(bake) if bake.has_failed => (WaitWord::BakeFailed, failed(chroot, bake)),
        Some(bake) => (
            WaitWord::ChrootBaking,
            format!(
                "the image of chroot {chroot} is being baked on {}{}; it starts by itself",
                bake.builder,
                time(" since", bake.since)
            ),
        ),
        None if wait.base.is_some() => (
            WaitWord::ChrootBaking,
            format!("the image of chroot {chroot} is baked next; it starts by itself"),
        ),
        None => (
            WaitWord::ImageMissing,
            format!(
                "no builder has the image {} of chroot {chroot}; build or load it on a builder's engine, and it starts by itself",
                wait.lacking_image.as_deref().unwrap_or_default(),
            ),
        ),
    }
}

fn failed(chroot: &str, bake: &BakeWait) -> String {
    format!(
        "the bake of the image of chroot {chroot} failed on {}: {}; it is tried again{}",
        bake.builder,
        bake.error.as_deref().unwrap_or("for a reason unknown"),
        time(" at", bake.next_try_at)
    )
}

/// `word` and the time of day, or nothing where the time is not known.
fn time(word: &str, time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(String::new, |time| {
        format!("{word} {}", time.format("%H:%M:%S UTC"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_bake_is_told_with_its_reason_and_its_next_try() {
        let bake = BakeWait {
            builder: "b1".to_owned(),
            has_failed: true,
            since: None,
            error: Some("exit code 30".to_owned()),
            next_try_at: DateTime::from_timestamp(60, 0),
        };
        assert_eq!(
            failed("a-1-x", &bake),
            "the bake of the image of chroot a-1-x failed on b1: exit code 30; it is tried again at 00:01:00 UTC"
        );
    }
}
