//! Throttle against password guessing by legacy pollers: counts wrong passwords by client address, and blocks an
//! address with too many until its minute is over.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong passwords that an address may send in a minute. Passwords have 256 bits, so this is not what makes guessing
/// hopeless; it keeps the log short and the database quiet.
const MAX_FAILURES: u32 = 60;
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses counted at most; while there are so many, further addresses are not throttled.
const MAX_ADDRESSES: usize = 10_000;

/// Per address: wrong passwords since the beginning of its window.
#[derive(Debug, Default)]
pub struct LoginThrottle(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl LoginThrottle {
    /// Whether this address has used up its wrong passwords of this minute.
    pub fn is_blocked(&self, from: IpAddr) -> bool {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures
            .get(&from)
            .is_some_and(|(count, since)| *count >= MAX_FAILURES && since.elapsed() < WINDOW)
    }

    /// Counts a wrong password.
    pub fn record_failure(&self, from: IpAddr) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_ADDRESSES {
            failures.retain(|_, (_, since)| since.elapsed() < WINDOW);
        }
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&from) {
            return;
        }
        let (count, since) = failures.entry(from).or_insert((0, Instant::now()));
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
        let throttle = LoginThrottle::default();
        let (one, other) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        for _ in 0..MAX_FAILURES {
            assert!(!throttle.is_blocked(one));
            throttle.record_failure(one);
        }
        assert!(throttle.is_blocked(one) && !throttle.is_blocked(other));
    }
}
