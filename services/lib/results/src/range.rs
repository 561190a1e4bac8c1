//! The `Range` header of HTTP, as far as file downloads need it: one range of bytes.

use std::ops::Range;

/// The range lies outside the file: status 416.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the range lies outside the {size} bytes of the file")]
pub struct Unsatisfiable {
    /// The file's size, for the `Content-Range: bytes */size` of the answer.
    pub size: u64,
}

/// The bytes a `Range` header asks for. None when there is no header, or one that RFC 9110 lets a server ignore
/// (another unit, several ranges, nonsense): then the whole file is the answer.
pub fn parse_range(header: Option<&str>, size: u64) -> Result<Option<Range<u64>>, Unsatisfiable> {
    let Some((first, last)) = header
        .and_then(|text| text.trim().strip_prefix("bytes="))
        .and_then(|text| text.split_once('-'))
    else {
        return Ok(None);
    };
    let (first, last) = (first.trim(), last.trim());
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(length)) if first.is_empty() => size.saturating_sub(length)..size,
        _ => return Ok(None),
    };
    if range.is_empty() {
        Err(Unsatisfiable { size })
    } else {
        Ok(Some(range))
    }
}

/// Digits only: `u64` would also parse a sign.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than fit mean "to the end".
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_forms_are_understood() {
        assert_eq!(parse_range(Some("bytes=0-0"), 10), Ok(Some(0..1)));
        assert_eq!(parse_range(Some("bytes=2-5"), 10), Ok(Some(2..6)));
        assert_eq!(parse_range(Some("bytes=2-99"), 10), Ok(Some(2..10)));
        assert_eq!(parse_range(Some("bytes=7-"), 10), Ok(Some(7..10)));
        assert_eq!(parse_range(Some("bytes=-3"), 10), Ok(Some(7..10)));
        assert_eq!(parse_range(Some("bytes=-99"), 10), Ok(Some(0..10)));
    }

    #[test]
    fn a_range_outside_the_file_is_unsatisfiable() {
        for outside in [
            "bytes=10-",
            "bytes=10-12",
            "bytes=-0",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(
                parse_range(Some(outside), 10),
                Err(Unsatisfiable { size: 10 }),
                "{outside}"
            );
        }
        assert!(parse_range(Some("bytes=0-"), 0).is_err());
    }

    #[test]
    fn what_is_not_understood_is_ignored() {
        for odd in [
            "",
            "items=0-1",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "bytes=a-b",
        ] {
            assert_eq!(parse_range(Some(odd), 10), Ok(None), "{odd}");
        }
        assert_eq!(parse_range(None, 10), Ok(None));
    }

    proptest! {
        #[test]
        fn a_range_never_leaves_the_file(text in "(bytes=)?[0-9]{0,22}-[0-9]{0,22}", size in any::<u64>()) {
            if let Ok(Some(range)) = parse_range(Some(&text), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
