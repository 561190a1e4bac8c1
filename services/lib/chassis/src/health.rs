//! Named checks behind `/readyz`: the parts of a process say how they are, the HTTP handler reads it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;

/// How the parts of a process are. Clones share one state.
#[derive(Debug, Clone)]
pub struct Health(Arc<RwLock<BTreeMap<&'static str, Result<(), String>>>>);

/// One named check at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Name of the dependency that was checked, such as `database`.
    pub name: &'static str,
    /// Whether the dependency can be used now.
    pub ok: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Health {
    /// A state in which every named check fails until it is set.
    pub fn new(names: &[&'static str]) -> Self {
        let checks = names
            .iter()
            .map(|name| (*name, Err("not checked yet".to_owned())))
            .collect();
        Self(Arc::new(RwLock::new(checks)))
    }

    /// Records the outcome of a check.
    pub fn set(&self, name: &'static str, state: Result<(), String>) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, state);
    }

    /// Whether all checks succeed.
    pub fn is_ready(&self) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .all(Result::is_ok)
    }

    /// All checks, by name.
    pub fn snapshot(&self) -> Vec<Check> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(name, state)| Check {
                name,
                ok: state.is_ok(),
                reason: state.as_ref().err().cloned(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_named_check_succeeded() {
        let health = Health::new(&["database", "broker"]);
        assert!(!health.is_ready());
        health.set("database", Ok(()));
        assert!(!health.is_ready());
        assert_eq!(
            health.snapshot()[0].reason.as_deref(),
            Some("not checked yet")
        );
        health.set("broker", Ok(()));
        assert!(health.is_ready());
        health
            .clone()
            .set("broker", Err("connection refused".to_owned()));
        assert!(!health.is_ready());
    }
}
