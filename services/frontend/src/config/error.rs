//! What is wrong with a setting, by the name under which an operator knows it.

/// Why the settings are refused at the start.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A setting without a default was not given.
    #[error("{0} is not set; see --help")]
    Missing(&'static str),
    /// A value is out of bounds, or contradicts another setting.
    #[error("{name}: {reason}")]
    Wrong {
        /// The environment variable, or several with commas where they are checked together.
        name: &'static str,
        /// What is wrong with the value, and what would be accepted.
        reason: String,
    },
}

impl SettingsError {
    /// A setting with a value that cannot be used.
    pub(crate) fn wrong(name: &'static str, reason: impl Into<String>) -> Self {
        Self::Wrong {
            name,
            reason: reason.into(),
        }
    }
}
