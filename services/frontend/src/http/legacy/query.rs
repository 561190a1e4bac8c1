//! The query of a poller's list. It is never refused, since pollers know no such answer: values out of range are
//! clamped, unknown ones ignored.

use crate::http::legacy::list::Shape;

/// Builds listed when the query has no usable limit.
pub const DEFAULT_LIMIT: u32 = 10;
/// Builds listed at most, whatever the query asks for.
const MAX_LIMIT: u32 = 1000;

/// The query of a list, with defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListQuery {
    /// Builds to list at most, from 1 to 1000.
    pub limit: u32,
    /// Which keys the builds of the list have.
    pub shape: Shape,
    /// Show the list without claiming anything.
    pub peek: bool,
}

impl ListQuery {
    /// Reads the part of an address behind the question mark.
    pub fn new(query: Option<&str>) -> Self {
        let value = |name: &str| {
            let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
            pairs
                .into_iter()
                .find(|(key, _)| key == name)
                .map(|(_, text)| text)
        };
        Self {
            limit: value("limit").map_or(DEFAULT_LIMIT, |text| limit(text.trim())),
            shape: match value("shape").as_deref() {
                Some("oct") => Shape::Oct,
                Some("nov") => Shape::Nov,
                _ => Shape::All,
            },
            peek: value("peek").is_some_and(|text| !matches!(&*text, "0" | "false")),
        }
    }
}

fn limit(text: &str) -> u32 {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return DEFAULT_LIMIT;
    }
    if text.starts_with('-') {
        return 1;
    }
    digits.parse().unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_clamped_or_ignored_but_never_refused() {
        for (query, limit) in [
            (None, 10),
            (Some("shape=oct"), 10),
            (Some("limit=3"), 3),
            (Some("limit=0"), 1),
            (Some("limit=-7"), 1),
            (Some("limit=5000"), 1000),
            (Some("limit=99999999999999999999999"), 1000),
            (Some("limit=ten"), 10),
            (Some("limit="), 10),
            (Some("limit=%FF"), 10),
        ] {
            assert_eq!(ListQuery::new(query).limit, limit, "{query:?}");
        }
    }

    #[test]
    fn a_shape_or_a_peek_is_asked_for_in_so_many_words() {
        assert_eq!(ListQuery::new(Some("shape=nov")).shape, Shape::Nov);
        assert_eq!(ListQuery::new(Some("limit=1&shape=oct")).shape, Shape::Oct);
        assert_eq!(ListQuery::new(Some("shape=dec")).shape, Shape::All);
        for (query, peek) in [
            ("peek=1", true),
            ("peek", true),
            ("peek=0", false),
            ("", false),
        ] {
            assert_eq!(ListQuery::new(Some(query)).peek, peek, "{query}");
        }
    }
}
