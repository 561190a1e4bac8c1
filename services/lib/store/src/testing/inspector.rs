//! Direct access to the tables from outside, as a person with `psql` has it.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgPool};

/// Reads and changes tables past the store's own functions; for checks of what the store holds.
#[derive(Debug, Clone)]
pub struct Inspector {
    pool: PgPool,
}

impl Inspector {
    /// An inspector of this database; nothing is connected yet.
    pub fn at(url: &SecretString) -> Result<Self, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .connect_lazy(url.expose_secret())?;
        Ok(Self { pool })
    }

    /// The rows of a query, each as an object with its columns' names.
    pub async fn rows(&self, query: &str) -> Result<Vec<Value>, sqlx::Error> {
        let sql = format!("select to_jsonb(r) from ({query}) r");
        let rows: Vec<Json<Value>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    /// Runs a statement and returns how many rows it touched.
    pub async fn execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let done = sqlx::query(AssertSqlSafe(sql.to_owned()))
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }
}
