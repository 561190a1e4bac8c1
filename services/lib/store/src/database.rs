//! The connection pool, and what each call needs from it: a transaction that is safe to drop, and a deadline.

use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::notify::Notifications;
use crate::scheduler::cursor::ScanCursor;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// A transaction that is idle for longer has lost its frontend: none of ours waits for anything but the database.
const IDLE_TRANSACTION: Duration = Duration::from_secs(30);
/// A connection that was idle for less than this is used without a ping.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);

/// Every statement finds its rows by key, so one plan per statement is enough: planning anew costs more than
/// most of them take. A plan made while the tables were small must not read them whole once they have grown.
const PLANNING: [(&str, &str); 3] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];

pub(crate) type Tx = Transaction<'static, Postgres>;

/// Access to the database. Clones share one connection pool.
#[derive(Clone)]
pub struct Store {
    pub(crate) pool: PgPool,
    /// Deadline of each call.
    deadline: Duration,
    migration_options: PgConnectOptions,
    pub(crate) scan_cursor: ScanCursor,
    /// Id of this store in notifications, so that it can ignore its own.
    pub(crate) own: Arc<str>,
}

/// Leaves the URL out, which holds a password.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("connections", &self.pool.size())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// A store on this database; nothing is connected yet, so this works while the database is away.
    pub fn connect(config: &StoreConfig) -> Result<Self, StoreError> {
        let url = config.url.expose_secret();
        if !["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            return Err(StoreError::Config(
                "expected postgres://user:password@host:port/database".into(),
            ));
        }
        let plain = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::Config(Box::new(error)))?
            .application_name("millrace");
        let milliseconds = |limit: Duration| limit.as_millis().to_string();
        let options = plain
            .clone()
            .options([
                ("statement_timeout", milliseconds(config.statement_timeout)),
                (
                    "idle_in_transaction_session_timeout",
                    milliseconds(IDLE_TRANSACTION),
                ),
            ])
            .options(PLANNING);
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > PING_AFTER_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            deadline: config.acquire_timeout.max(config.statement_timeout) + Duration::from_secs(2),
            migration_options: plain,
            scan_cursor: ScanCursor::default(),
            own: Uuid::now_v7().to_string().into(),
        })
    }

    /// Migrates the schema to this program's version. Safe to call from several frontends at once.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut connection = self.migration_connection().await?;
        // Not `run`: its bound hides from the compiler that this future may move between threads.
        let done = MIGRATIONS.run_direct(None, &mut connection, false).await;
        close(connection).await;
        Ok(done?)
    }

    /// Names the schema that all migrations make: changes when one is added or edited.
    pub(crate) fn schema_digest() -> String {
        let mut digest = DefaultHasher::new();
        for migration in MIGRATIONS.iter() {
            migration.checksum.hash(&mut digest);
        }
        format!("{:016x}", digest.finish())
    }

    /// Reverts all migrations above `version` and deletes what they stored; 0 leaves an empty database.
    pub async fn migrate_down_to(&self, version: i64) -> Result<(), StoreError> {
        let mut connection = self.migration_connection().await?;
        let done = MIGRATIONS.undo(&mut connection, version).await;
        close(connection).await;
        Ok(done?)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.within(async {
            sqlx::query("select 1").execute(&self.pool).await?;
            Ok(())
        })
        .await
    }

    /// Notifications of other stores that there is new work.
    pub fn listen(&self) -> Notifications {
        Notifications::new(self.migration_options.clone(), self.own.clone())
    }

    /// Closes all connections, after those in use have come back.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Migrations may take longer than any statement of the daily work, so they have a connection without limits.
    async fn migration_connection(&self) -> Result<PgConnection, StoreError> {
        let connect = PgConnection::connect_with(&self.migration_options);
        match tokio::time::timeout(self.deadline, connect).await {
            Ok(connection) => Ok(connection?),
            Err(_) => Err(self.deadline_exceeded()),
        }
    }

    /// A transaction. `begin` dropped midway leaves a connection inside a transaction that nobody commits (sqlx
    /// 0.9), so it runs where no caller can drop it; `clippy.toml` forbids every other way to begin one.
    #[expect(clippy::disallowed_methods, reason = "this is the one place for it")]
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        let pool = self.pool.clone();
        match tokio::spawn(async move { pool.begin().await }).await {
            Ok(begun) => Ok(begun?),
            Err(stopped) => Err(StoreError::Unavailable(Box::new(stopped))),
        }
    }

    /// A read-only transaction that sees one moment.
    #[expect(clippy::disallowed_methods, reason = "begun as in [`Store::begin`]")]
    pub(crate) async fn snapshot(&self) -> Result<Tx, StoreError> {
        let pool = self.pool.clone();
        let opening = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        match tokio::spawn(async move { pool.begin_with(opening).await }).await {
            Ok(begun) => Ok(begun?),
            Err(stopped) => Err(StoreError::Unavailable(Box::new(stopped))),
        }
    }

    /// Runs `work` under the deadline, for a server that neither answers nor closes the connection. The statement may still take
    /// effect after the deadline.
    pub(crate) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        tokio::time::timeout(self.deadline, work)
            .await
            .unwrap_or_else(|_| Err(self.deadline_exceeded()))
    }

    fn deadline_exceeded(&self) -> StoreError {
        let seconds = self.deadline.as_secs();
        StoreError::Unavailable(format!("no answer within {seconds} s").into())
    }
}

async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "closing a migration's connection failed");
    }
}
