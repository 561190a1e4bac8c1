//! Since when the database or the broker has not answered, as far as this frontend has seen it; the status shows it.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// The moment at which the present outage was first seen; none while the service answers.
#[derive(Debug, Default)]
pub struct Outage(Mutex<Option<DateTime<Utc>>>);

impl Outage {
    /// Notes whether the service answered just now; returns the beginning of the outage where there is one.
    pub fn note(&self, is_up: bool) -> Option<DateTime<Utc>> {
        self.note_asked(is_up, Utc::now())
    }

    /// As [`Outage::note`], for a request sent at `asked` whose answer took time: the outage began then, or before.
    pub fn note_asked(&self, is_up: bool, asked: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = if is_up { None } else { since.or(Some(asked)) };
        *since
    }

    /// The beginning of the present outage; none while the service answers.
    pub fn since(&self) -> Option<DateTime<Utc>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Outage;

    #[test]
    fn the_first_moment_counts_until_the_part_is_back() {
        let outage = Outage::default();
        assert_eq!(outage.note(true), None);
        let since = outage.note(false);
        assert!(since.is_some());
        assert_eq!(outage.note(false), since);
        assert_eq!(outage.note(true), None);
        assert!(outage.note(false) >= since);
    }
}
