//! Waiting longer after each failure, with jitter so that many builders do not come back in step.

use std::time::Duration;

/// Delays that double from `first` to `last`.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays between these two, both included.
    pub(crate) const fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            next: first,
        }
    }

    /// For connections, channels and consumers: 0.2 s to 5 s.
    pub(crate) const fn for_reconnecting() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5))
    }

    /// Begins with the shortest delay again.
    pub(crate) const fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next delay: between a half and the whole of what is due.
    pub(crate) fn delay(&mut self) -> Duration {
        let due = self.next;
        self.next = due.saturating_mul(2).min(self.last);
        due.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_begin_again_after_a_success() {
        let mut backoff = Backoff::for_reconnecting();
        let first = backoff.delay();
        assert!(first >= Duration::from_millis(100) && first <= Duration::from_millis(200));
        for _ in 0..20 {
            assert!(backoff.delay() <= Duration::from_secs(5));
        }
        assert!(backoff.delay() >= Duration::from_millis(2500));
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_millis(200));
    }
}
