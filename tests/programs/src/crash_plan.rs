//! At which crash point the process dies.

use std::sync::atomic::{AtomicU32, Ordering};

/// The crash point at which the process kills itself, and at which passage.
#[derive(Debug)]
pub struct Plan {
    name: String,
    passages: AtomicU32,
}

impl Plan {
    /// Reads `NAME` or `NAME#PASSAGE`.
    pub fn parse(text: &str) -> Self {
        let (name, nth) = text.split_once('#').unwrap_or((text, "1"));
        // A number that is none must not make a test pass by never dying: it is part of the name then.
        let (name, nth) = nth.parse().map_or((text, 1), |nth| (name, nth));
        Self {
            name: name.to_owned(),
            passages: AtomicU32::new(nth),
        }
    }

    /// Whether this passage is the one.
    pub fn is_due(&self, name: &str) -> bool {
        self.name == name && self.passages.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::Plan;

    #[test]
    fn the_nth_passage_of_the_named_point_is_due_once() {
        let plan = Plan::parse("upload.sent#2");
        let passed = [
            "upload.sent",
            "claim.recorded",
            "upload.sent",
            "upload.sent",
        ];
        assert_eq!(
            passed.map(|name| plan.is_due(name)),
            [false, false, true, false]
        );
        assert!(Plan::parse("claim.recorded").is_due("claim.recorded"));
        assert!(!Plan::parse("claim.recorded#x").is_due("claim.recorded"));
    }
}
