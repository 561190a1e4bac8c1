//! Wrong passwords, counted by address: who has guessed too often waits for the next minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong passwords from one address in a minute. Passwords have 256 bits; this keeps the log short and the database quiet.
const MOST: u32 = 60;
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses remembered at most.
const REMEMBERED: usize = 10_000;

/// Wrong passwords of the last minute.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Guesses {
    /// Whether this address has guessed too often.
    pub fn are_too_many(&self, from: IpAddr) -> bool {
        let wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong
            .get(&from)
            .is_some_and(|(count, since)| *count >= MOST && since.elapsed() < WINDOW)
    }

    /// Counts a wrong password.
    pub fn note_wrong(&self, from: IpAddr) {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() >= REMEMBERED {
            wrong.retain(|_, (_, since)| since.elapsed() < WINDOW);
        }
        if wrong.len() >= REMEMBERED && !wrong.contains_key(&from) {
            return;
        }
        let (count, since) = wrong.entry(from).or_insert((0, Instant::now()));
        if since.elapsed() >= WINDOW {
            (*count, *since) = (0, Instant::now());
        }
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_stopped_and_others_are_not() {
        let guesses = Guesses::default();
        let (one, other) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        for _ in 0..MOST {
            assert!(!guesses.are_too_many(one));
            guesses.note_wrong(one);
        }
        assert!(guesses.are_too_many(one) && !guesses.are_too_many(other));
    }
}
