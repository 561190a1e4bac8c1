//! Removes containers without an owner: those of a builder's earlier process, and any builder's once they have expired.
//! Only containers with Millrace's labels are considered.

use std::collections::HashMap;

use bollard::query_parameters::ListContainersOptions;
use chrono::{DateTime, Utc};
use millrace_domain::BuilderId;

use crate::engine::{Engine, readable};
use crate::error::SandboxError;
use crate::sandbox;
use crate::spec::{ATTEMPT, BUILDER, EXPIRES};

/// Which containers a sweep removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepFilter {
    /// All containers of this builder; for its start, before it makes any.
    OwnedBy(BuilderId),
    /// All containers whose expiry is before this time, of any builder.
    Expired(DateTime<Utc>),
}

/// A container that a sweep removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// The engine's id of the container.
    pub container_id: String,
    /// Id of the attempt it was for, from its label; empty for a self-test's or a bake's.
    pub attempt: String,
}

impl SweepFilter {
    /// Whether it removes a container with these labels of owner and expiry.
    pub(crate) fn takes(self, owner: Option<&String>, expires: Option<&String>) -> bool {
        match self {
            Self::OwnedBy(builder) => owner == Some(&builder.to_string()),
            // An expiry that cannot be read protects nothing.
            Self::Expired(now) => expires.is_some_and(|text| {
                DateTime::parse_from_rfc3339(text).map_or(true, |expires| expires < now)
            }),
        }
    }
}

impl Engine {
    /// Removes containers by the filter and returns them. One that cannot be removed is logged and left to the next sweep.
    pub async fn sweep(&self, filter: SweepFilter) -> Result<Vec<Swept>, SandboxError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([(
                "label".to_owned(),
                vec![EXPIRES.to_owned()],
            )])),
            ..ListContainersOptions::default()
        };
        let found = readable(|| self.docker.list_containers(Some(options.clone()))).await;
        let found = found.map_err(|fault| SandboxError::of("listing sandboxes", &fault))?;
        let mut swept = self.sweep_bakes(filter).await?;
        for container in found {
            let labels = container.labels.unwrap_or_default();
            let taken = filter.takes(labels.get(BUILDER), labels.get(EXPIRES));
            let Some(id) = container.id.filter(|_| taken) else {
                continue;
            };
            match sandbox::remove(self, &id).await {
                Ok(()) => swept.push(Swept {
                    container_id: id,
                    attempt: labels.get(ATTEMPT).cloned().unwrap_or_default(),
                }),
                Err(error) if error.is_unreachable() => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "a sandbox without an owner cannot be removed");
                }
            }
        }
        Ok(swept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_sweeps_its_own_and_what_has_expired() {
        let (own, other) = (BuilderId::generate(), BuilderId::generate());
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (past, future) = ("2027-01-15T07:59:59Z", "2027-01-15T08:00:01Z");
        let takes = |filter: SweepFilter, owner: BuilderId, expires: &str| {
            filter.takes(Some(&owner.to_string()), Some(&expires.to_owned()))
        };
        assert!(takes(SweepFilter::OwnedBy(own), own, future));
        assert!(!takes(SweepFilter::OwnedBy(own), other, past));
        assert!(takes(SweepFilter::Expired(now), other, past));
        assert!(takes(SweepFilter::Expired(now), other, "soon"));
        assert!(!takes(SweepFilter::Expired(now), other, future));
        assert!(!SweepFilter::Expired(now).takes(None, None));
    }
}
