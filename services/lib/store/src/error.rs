//! Errors of the database. What the rules of the domain refuse is a typed result of each call, not an error.

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a call to the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The settings of the database connection are not valid.
    #[error("the database URL cannot be used: {0}")]
    Config(#[source] Cause),
    /// The database cannot be reached, is stopping, or does not answer in time; a repeat may work.
    #[error("the database is not available: {0}")]
    Unavailable(#[source] Cause),
    /// A row holds a value that this program cannot have written.
    #[error("table {table}, row {row}: {problem}")]
    Inconsistent {
        /// Name of the table.
        table: &'static str,
        /// Key of the row, as text.
        row: String,
        /// Which value is wrong, and why.
        problem: String,
    },
    /// A statement failed for a reason that a repeat does not cure.
    #[error("a statement failed: {0}")]
    Sql(#[source] Cause),
    /// The schema could not be migrated to this program's version.
    #[error("the database could not be migrated: {0}")]
    Migrate(#[source] Cause),
}

impl StoreError {
    /// Whether a repeat of the call may work without anything being repaired.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Config(_) | Self::Inconsistent { .. } | Self::Sql(_) | Self::Migrate(_) => false,
        }
    }

    pub(crate) fn inconsistent(
        table: &'static str,
        row: String,
        problem: impl Into<String>,
    ) -> Self {
        Self::Inconsistent {
            table,
            row,
            problem: problem.into(),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let passes = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => true,
            sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| passes(&code)),
            // sqlx's enum may grow; an unknown error is treated as permanent, so that somebody looks at it.
            _ => false,
        };
        if passes {
            Self::Unavailable(Box::new(error))
        } else {
            Self::Sql(Box::new(error))
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        match error {
            sqlx::migrate::MigrateError::Execute(inner) => {
                let inner = Self::from(inner);
                if inner.is_unavailable() {
                    inner
                } else {
                    Self::Migrate(Box::new(inner))
                }
            }
            other => Self::Migrate(Box::new(other)),
        }
    }
}

/// Whether the SQLSTATE code means a passing fault: connection (08), resources (53), operator (57, which holds
/// the statement timeout and the server's stop), deadlock and serialization (40), lock not available (55P03),
/// read-only standby (25006), idle transaction ended (25P03).
fn passes(code: &str) -> bool {
    ["08", "53", "57", "40"]
        .iter()
        .any(|class| code.starts_with(class))
        || matches!(code, "55P03" | "25006" | "25P03")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopping_server_and_a_timeout_pass_but_a_broken_statement_does_not() {
        for code in ["57P01", "57014", "08006", "40P01", "53300", "55P03"] {
            assert!(passes(code), "{code}");
        }
        for code in ["23505", "42601", "42P01", "22001"] {
            assert!(!passes(code), "{code}");
        }
        assert!(StoreError::from(sqlx::Error::PoolTimedOut).is_unavailable());
        assert!(!StoreError::from(sqlx::Error::RowNotFound).is_unavailable());
    }
}
