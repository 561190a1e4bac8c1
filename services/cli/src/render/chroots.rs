//! Chroots and their images as text.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::model::Attempt;
use crate::render::text::{items, push_line, str_field};

/// Characters of a digest that are shown behind the algorithm's name; enough to distinguish images.
const DIGEST_CHARACTERS: usize = 12;

/// One line per chroot, and one below it for each builder's image of it.
pub fn list(page: &Value) -> String {
    items(page, "there is no chroot", one)
}

/// A chroot with its image on each builder.
pub fn one(chroot: &Value) -> String {
    let mut out = String::new();
    let note = if chroot["enabled"] == Value::Bool(false) {
        "  disabled"
    } else {
        ""
    };
    let base = match chroot["base"].as_str() {
        Some(base) => format!("from {base}"),
        None => "made elsewhere".to_owned(),
    };
    let text = format!(
        "{}  {}  {base}{note}",
        str_field(chroot, "name"),
        str_field(chroot, "image")
    );
    push_line(&mut out, &text);
    for image in chroot["images"].as_array().into_iter().flatten() {
        push_line(&mut out, &format!("  {}", image_text(image, Utc::now())));
    }
    out
}

/// One builder's image: its state, digest and age, and for a failed bake why and when it is tried again.
fn image_text(image: &Value, now: DateTime<Utc>) -> String {
    let mut parts = vec![
        str_field(image, "builder").to_owned(),
        str_field(image, "state").to_owned(),
    ];
    if let Some(digest) = image["digest"].as_str() {
        parts.push(short_digest(digest));
    }
    let baked_at = image["baked_at"].as_str();
    let baked_at: Option<DateTime<Utc>> = baked_at.and_then(|at| at.parse().ok());
    if let Some(at) = baked_at {
        parts.push(format!("baked {} ago", age(now - at)));
    }
    if let Some(error) = image["error"].as_str() {
        parts.push(error.to_owned());
    }
    if let Some(next) = image["next_try_at"].as_str() {
        parts.push(format!("tried again at {next}"));
    }
    parts.join("  ")
}

/// The image that an attempt was built in, and the age it had when the attempt was claimed; none where the builder did
/// not report one.
pub fn of_attempt(attempt: &Attempt) -> Option<String> {
    let digest = short_digest(attempt.image_digest.as_ref()?);
    let used_at = attempt.claimed_at;
    let age = attempt
        .image_baked_at
        .zip(used_at)
        .map(|(baked, used)| format!(", baked {} before", age(used - baked)));
    Some(format!("image {digest}{}", age.unwrap_or_default()))
}

fn short_digest(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) => {
            let hex: String = hex.chars().take(DIGEST_CHARACTERS).collect();
            format!("{algorithm}:{hex}")
        }
        None => digest.to_owned(),
    }
}

/// A length of time in seconds, minutes, hours or days, rounded down; a negative one, from clocks that differ, is 0.
fn age(age: TimeDelta) -> String {
    let minutes = age.num_minutes().max(0);
    match minutes {
        0 => format!("{} s", age.num_seconds().max(0)),
        1..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_image_is_told_with_its_age_and_what_failed() {
        let image = json!({
            "builder": "b1", "state": "failed", "digest": "sha256:0123456789abcdef0123",
            "baked_at": "2026-01-01T00:00:00Z", "error": "no mirror", "next_try_at": "2026-01-01T06:00:00Z",
        });
        let now = "2026-01-01T05:30:00Z".parse().unwrap();
        assert_eq!(
            image_text(&image, now),
            "b1  failed  sha256:0123456789ab  baked 5 h ago  no mirror  tried again at 2026-01-01T06:00:00Z"
        );
    }

    #[test]
    fn a_chroot_is_shown_with_its_base_and_its_images() {
        let chroot = json!({"name": "a-1-x", "image": "millrace/chroot-a-1-x", "base": "mock:1",
            "enabled": true, "images": [{"builder": "b1", "state": "baking"}]});
        assert_eq!(
            one(&chroot),
            "a-1-x  millrace/chroot-a-1-x  from mock:1\n  b1  baking\n"
        );
        let elsewhere = json!({"name": "b-1-x", "image": "i", "base": null, "enabled": false});
        let page = json!({"items": [elsewhere]});
        assert_eq!(list(&page), "b-1-x  i  made elsewhere  disabled\n");
        assert_eq!(list(&json!({"items": []})), "there is no chroot\n");
    }

    #[test]
    fn an_age_is_rounded_down_and_never_negative() {
        for (seconds, text) in [
            (-5, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (7199, "119 min"),
            (7200, "2 h"),
            (172_799, "47 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(age(TimeDelta::seconds(seconds)), text);
        }
    }

    #[test]
    fn an_attempt_shows_the_image_that_its_builder_reported() {
        let attempt = |more: Value| -> Attempt {
            let mut json = crate::testing::attempt_json(1, "finished", Some("b1"));
            for (key, value) in more.as_object().unwrap() {
                json[key] = value.clone();
            }
            serde_json::from_value(json).unwrap()
        };
        assert_eq!(of_attempt(&attempt(json!({}))), None);
        let digest = attempt(json!({"image_digest": "0123"}));
        assert_eq!(of_attempt(&digest).unwrap(), "image 0123");
        let aged = attempt(json!({"image_digest": "sha256:0123456789abcdef",
            "image_baked_at": "2026-01-01T00:00:00Z", "claimed_at": "2026-01-01T00:10:00Z"}));
        assert_eq!(
            of_attempt(&aged).unwrap(),
            "image sha256:0123456789ab, baked 10 min before"
        );
    }
}
