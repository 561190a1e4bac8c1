//! Which limit to try after one was hit.

use crate::limits::LimitsPolicy;
use crate::outcome::{Limit, LimitName, Unit};

const MIB: u64 = 1 << 20;
/// Suggestions of memory and disk space are multiples of this, in MiB, so that they are round numbers.
const MEMORY_STEP: u64 = 256;
/// Suggestions of time are multiples of this, in seconds.
const TIME_STEP: u64 = 60;

/// The 95th percentile of what earlier successful builds of the same package in the same chroot used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EarlierUse {
    /// Peak of anonymous and shared memory, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Wall time, in seconds.
    pub wall_seconds: Option<f64>,
}

/// The next limit to try: the one that was hit and half of it, or what earlier builds used and a quarter of that where
/// this is more, within the operator's bounds. None where the limit is the operator's largest already, and for limits
/// that a build cannot have raised: log size and silence.
pub fn suggest(hit: &Limit, earlier: EarlierUse, policy: &LimitsPolicy) -> Option<Limit> {
    let (unit, used, step, most) = match hit.name {
        LimitName::Memory => {
            let used = earlier.peak_memory_bytes.unwrap_or(0).div_ceil(MIB);
            (Unit::MiB, used, MEMORY_STEP, policy.max.memory_mib)
        }
        LimitName::Timeout => {
            let used = whole_seconds(earlier.wall_seconds);
            (Unit::Seconds, used, TIME_STEP, policy.max.timeout_seconds)
        }
        LimitName::Disk => (Unit::MiB, 0, MEMORY_STEP, policy.max_disk_mib),
        LimitName::Log | LimitName::Silence => return None,
    };
    if hit.unit != unit {
        return None;
    }
    let wanted = (hit.value + hit.value / 2).max(used + used / 4);
    let value = wanted.next_multiple_of(step).min(most.into());
    (value > hit.value).then_some(Limit { value, ..*hit })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates"
)]
fn whole_seconds(seconds: Option<f64>) -> u64 {
    // A year is more than any limit; the cap keeps the sums that follow from overflowing.
    seconds.unwrap_or(0.0).ceil().clamp(0.0, 31_536_000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(mib: u64) -> Limit {
        Limit {
            name: LimitName::Memory,
            value: mib,
            unit: Unit::MiB,
        }
    }

    fn timeout(seconds: u64) -> Limit {
        Limit {
            name: LimitName::Timeout,
            value: seconds,
            unit: Unit::Seconds,
        }
    }

    fn value(hit: &Limit, earlier: EarlierUse) -> Option<u64> {
        suggest(hit, earlier, &LimitsPolicy::default()).map(|limit| limit.value)
    }

    #[test]
    fn half_as_much_again_in_round_numbers() {
        let none = EarlierUse::default();
        assert_eq!(value(&memory(512), none), Some(768));
        assert_eq!(value(&memory(700), none), Some(1280));
        assert_eq!(value(&timeout(30), none), Some(60));
        assert_eq!(value(&timeout(1800), none), Some(2700));
    }

    #[test]
    fn what_earlier_builds_used_may_ask_for_more() {
        let earlier = EarlierUse {
            peak_memory_bytes: Some(4000 * MIB),
            wall_seconds: Some(4000.5),
        };
        assert_eq!(value(&memory(512), earlier), Some(5120));
        assert_eq!(value(&timeout(600), earlier), Some(5040));
        assert_eq!(value(&memory(8192), earlier), Some(12288));
    }

    #[test]
    fn the_operators_bounds_are_kept() {
        let none = EarlierUse::default();
        assert_eq!(value(&memory(250_000), none), Some(262_144));
        assert_eq!(value(&memory(262_144), none), None);
        let absurd = EarlierUse {
            peak_memory_bytes: Some(u64::MAX),
            wall_seconds: Some(f64::INFINITY),
        };
        assert_eq!(value(&timeout(600), absurd), Some(604_800));
        assert_eq!(value(&memory(600), absurd), Some(262_144));
    }

    #[test]
    fn disk_space_is_suggested_and_log_and_silence_are_not() {
        let hit = |name, unit| Limit {
            name,
            value: 500,
            unit,
        };
        let none = EarlierUse::default();
        assert_eq!(value(&hit(LimitName::Disk, Unit::MiB), none), Some(768));
        assert_eq!(value(&hit(LimitName::Log, Unit::MiB), none), None);
        assert_eq!(value(&hit(LimitName::Silence, Unit::Seconds), none), None);
    }
}
