//! Limits of a build, the operator's bounds on them, and the memory classes that name job queues.

use serde::{Deserialize, Serialize};

/// Least disk space that a build may ask for, in MiB.
const MIN_DISK_MIB: u32 = 1;

/// Limits frozen at submission; they bound each package of the build.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    utoipa::ToSchema,
)]
pub struct Limits {
    /// Memory and swap together, in MiB (the seeds' "MB" means MiB).
    pub memory_mib: u32,
    /// Wall time of the sandbox's whole process tree, in seconds.
    pub timeout_seconds: u32,
}

/// The operator's defaults and bounds.
///
/// Defaults are the contract of the seed document (wiki page "BuildSys Frontend <-> Backend API", edit of
/// 6 Nov 2012): 2048 MB and 1800 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsPolicy {
    /// What a submission without its own limits gets.
    pub default: Limits,
    /// The smallest limits accepted.
    pub min: Limits,
    /// The largest limits accepted.
    pub max: Limits,
    /// The most disk space that a build may ask for or be raised to, in MiB. A build that does neither gets the builder's
    /// setting.
    pub max_disk_mib: u32,
}

/// A requested limit is out of the operator's bounds, or the policy's default is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value} {unit}, accepted are {min} to {max} {unit}")]
pub struct LimitError {
    /// The request's field: `memory_reqs`, `timeout` or `disk`.
    pub field: &'static str,
    /// The requested value, in `unit`.
    pub value: i64,
    /// The smallest accepted value.
    pub min: u32,
    /// The largest accepted value.
    pub max: u32,
    /// Unit of the three numbers: `MB` or `s`.
    pub unit: &'static str,
}

impl Default for LimitsPolicy {
    fn default() -> Self {
        Self {
            default: Limits {
                memory_mib: 2048,
                timeout_seconds: 1800,
            },
            min: Limits {
                memory_mib: 256,
                timeout_seconds: 10,
            },
            max: Limits {
                memory_mib: 262_144,
                timeout_seconds: 604_800,
            },
            max_disk_mib: 65_536,
        }
    }
}

impl LimitsPolicy {
    /// Fills in defaults and checks bounds.
    pub fn resolve(&self, memory: Option<i64>, timeout: Option<i64>) -> Result<Limits, LimitError> {
        let memory = memory.unwrap_or_else(|| self.default.memory_mib.into());
        let timeout = timeout.unwrap_or_else(|| self.default.timeout_seconds.into());
        Ok(Limits {
            memory_mib: within(
                "memory_reqs",
                memory,
                self.min.memory_mib,
                self.max.memory_mib,
                "MB",
            )?,
            timeout_seconds: within(
                "timeout",
                timeout,
                self.min.timeout_seconds,
                self.max.timeout_seconds,
                "s",
            )?,
        })
    }

    /// Checks the bounds of disk space that is asked for, in MiB.
    pub fn resolve_disk(&self, disk: Option<i64>) -> Result<Option<u32>, LimitError> {
        let checked = |asked| within("disk", asked, MIN_DISK_MIB, self.max_disk_mib, "MB");
        disk.map(checked).transpose()
    }

    /// Refuses a policy whose default lies outside its own bounds.
    pub fn check(&self) -> Result<(), LimitError> {
        self.resolve(None, None).map(|_| ())
    }
}

fn within(
    field: &'static str,
    value: i64,
    min: u32,
    max: u32,
    unit: &'static str,
) -> Result<u32, LimitError> {
    u32::try_from(value)
        .ok()
        .filter(|v| (min..=max).contains(v))
        .ok_or(LimitError {
            field,
            value,
            min,
            max,
            unit,
        })
}

/// A memory class: the name of a job route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MemoryClass {
    /// `2g`, `4g`, … or `above`; part of the queue's name.
    pub name: String,
    /// The class holds tasks that need more than this, in MiB.
    pub above_mib: u32,
    /// The largest need in the class, in MiB; none for the last class.
    pub up_to_mib: Option<u32>,
}

/// The operator's memory classes, smallest first; the last one is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryClasses(Vec<MemoryClass>);

impl MemoryClasses {
    /// Classes from their upper ends in GiB, which must rise.
    pub fn from_upper_ends(gib: &[u32]) -> Option<Self> {
        let rises =
            gib.windows(2).all(|pair| pair[0] < pair[1]) && gib.first().is_none_or(|g| *g > 0);
        rises.then(|| {
            let mut classes = Vec::with_capacity(gib.len() + 1);
            let mut above = 0;
            for end in gib {
                classes.push(MemoryClass {
                    name: format!("{end}g"),
                    above_mib: above,
                    up_to_mib: Some(end * 1024),
                });
                above = end * 1024;
            }
            classes.push(MemoryClass {
                name: "above".to_owned(),
                above_mib: above,
                up_to_mib: None,
            });
            Self(classes)
        })
    }

    /// The class of a task that needs this much memory.
    pub fn of(&self, memory_mib: u32) -> &MemoryClass {
        self.0
            .iter()
            .find(|class| class.up_to_mib.is_none_or(|end| memory_mib <= end))
            .unwrap_or(&self.0[self.0.len() - 1])
    }

    /// All classes, smallest first.
    pub fn all(&self) -> &[MemoryClass] {
        &self.0
    }
}

impl Default for MemoryClasses {
    fn default() -> Self {
        Self::from_upper_ends(&[2, 4, 8, 16, 32, 64]).unwrap_or(Self(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn missing_limits_are_the_contracts_defaults() {
        let limits = LimitsPolicy::default().resolve(None, None).unwrap();
        assert_eq!(
            limits,
            Limits {
                memory_mib: 2048,
                timeout_seconds: 1800
            }
        );
    }

    #[test]
    fn out_of_bounds_names_field_and_bounds() {
        let error = LimitsPolicy::default().resolve(Some(-1), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "memory_reqs is -1 MB, accepted are 256 to 262144 MB"
        );
        let error = LimitsPolicy::default()
            .resolve(None, Some(604_801))
            .unwrap_err();
        assert_eq!(error.field, "timeout");
        let error = LimitsPolicy::default()
            .resolve_disk(Some(65_537))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "disk is 65537 MB, accepted are 1 to 65536 MB"
        );
        assert_eq!(LimitsPolicy::default().resolve_disk(None), Ok(None));
    }

    #[test]
    fn classes_meet_at_their_ends() {
        let classes = MemoryClasses::default();
        assert_eq!(classes.of(2048).name, "2g");
        assert_eq!(classes.of(2049).name, "4g");
        assert_eq!(classes.of(65_537).name, "above");
        assert!(MemoryClasses::from_upper_ends(&[4, 2]).is_none());
    }

    proptest! {
        #[test]
        fn every_need_has_one_class(mib in 0u32..300_000) {
            let classes = MemoryClasses::default();
            let class = classes.of(mib);
            prop_assert!(mib == 0 || mib > class.above_mib);
            prop_assert!(class.up_to_mib.is_none_or(|end| mib <= end));
        }
    }
}
