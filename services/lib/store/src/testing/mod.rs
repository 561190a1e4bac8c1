//! A database per test on a real server, dropped with the value.

pub(crate) mod backlog;
pub(crate) mod inspector;
pub(crate) mod template;

use std::str::FromStr;

use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::config::StoreConfig;
use crate::database::Store;

const SERVER: &str = "MILLRACE_TEST_DATABASE_URL";
const DEFAULT_SERVER: &str = "postgres://postgres@127.0.0.1:54329/postgres";

/// A database of one test. All its functions panic when something is wrong, as tests want it.
#[derive(Debug)]
pub struct TestDatabase {
    server: PgConnectOptions,
    name: String,
    url: SecretString,
    store: Store,
}

#[expect(
    clippy::missing_panics_doc,
    reason = "everything here panics, as the type says"
)]
impl TestDatabase {
    /// A new database with the present schema, cloned from the server's template.
    pub async fn create() -> Self {
        Self::create_with(Schema::Present, StoreConfig::DEFAULT_CONNECTIONS).await
    }

    /// As [`TestDatabase::create`], with a store of a single connection, so that statements share their plans and the
    /// server's counters.
    pub async fn create_narrow() -> Self {
        Self::create_with(Schema::Present, 1).await
    }

    /// A new database without any table, for tests of migrations and of programs that migrate.
    pub async fn create_empty() -> Self {
        Self::create_with(Schema::None, StoreConfig::DEFAULT_CONNECTIONS).await
    }

    async fn create_with(schema: Schema, max_connections: u32) -> Self {
        let url = std::env::var(SERVER).unwrap_or_else(|_| DEFAULT_SERVER.to_owned());
        let server = PgConnectOptions::from_str(&url)
            .unwrap_or_else(|error| panic!("{SERVER} is no PostgreSQL URL: {error}"));
        let name = format!("millrace_test_{}", Uuid::new_v4().simple());
        create_for_test(&server, &url, &name, schema)
            .await
            .unwrap_or_else(|error| {
                panic!(
                    "no PostgreSQL for tests ({error}); start one with scripts/test-postgres start, or name one in {SERVER}"
                )
            });
        let url = address_of(&url, &name);
        let store = store_on(&url, max_connections);
        Self {
            server,
            name,
            url,
            store,
        }
    }

    /// The store on this database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The database's address, for programs under test.
    pub fn url(&self) -> SecretString {
        self.url.clone()
    }

    /// Runs a statement, such as one that moves a time; returns the number of rows touched.
    pub async fn execute(&self, sql: &str) -> u64 {
        sqlx::query(AssertSqlSafe(sql))
            .execute(&self.store.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .rows_affected()
    }

    /// The first column of the first row, which must be text.
    pub async fn fetch_text(&self, sql: &str) -> Option<String> {
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_optional(&self.store.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .flatten()
    }
}

/// What a new database holds.
#[derive(Debug, Clone, Copy)]
enum Schema {
    /// All tables, without rows.
    Present,
    /// Nothing.
    None,
}

async fn create_for_test(
    server: &PgConnectOptions,
    url: &str,
    name: &str,
    schema: Schema,
) -> Result<(), sqlx::Error> {
    match schema {
        Schema::Present => {
            let template = template::ensure(server, url).await?;
            create_database(server, name, Some(&template)).await?;
            template::refresh(server.clone().database(name)).await
        }
        Schema::None => create_database(server, name, None).await,
    }
}

async fn create_database(
    server: &PgConnectOptions,
    name: &str,
    template: Option<&str>,
) -> Result<(), sqlx::Error> {
    let template = template.unwrap_or("template1");
    administer(
        server,
        format!("create database {name} template {template}"),
    )
    .await
}

/// A store on the database at this address; nothing is connected yet.
fn store_on(url: &SecretString, max_connections: u32) -> Store {
    let config = StoreConfig {
        max_connections,
        ..StoreConfig::new(url.clone())
    };
    Store::connect(&config).unwrap_or_else(|error| panic!("{error}"))
}

fn address_of(server: &str, name: &str) -> SecretString {
    SecretString::from(with_database(server, name))
}

/// The same URL with another database's name as its path.
fn with_database(url: &str, name: &str) -> String {
    let (address, query) = url
        .split_once('?')
        .map_or((url, String::new()), |(a, q)| (a, format!("?{q}")));
    let start = address.find("://").map_or(0, |at| at + 3);
    let server = address[start..]
        .find('/')
        .map_or(address, |slash| &address[..start + slash]);
    format!("{server}/{name}{query}")
}

async fn administer(server: &PgConnectOptions, sql: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(server).await?;
    sqlx::query(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await?;
    connection.close().await
}

impl Drop for TestDatabase {
    /// Dropping cannot wait, so a thread with a runtime of its own does it, also while a test panics.
    fn drop(&mut self) {
        let server = self.server.clone();
        let sql = format!("drop database if exists {} with (force)", self.name);
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime
                .block_on(administer(&server, sql))
                .map_err(std::io::Error::other)
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!(
                "test database {} could not be dropped: {dropped:?}",
                self.name
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn another_database_of_the_same_server_is_named_in_the_url() {
        for (url, wanted) in [
            ("postgres://u:p@h:1/postgres", "postgres://u:p@h:1/mine"),
            ("postgres://h", "postgres://h/mine"),
            (
                "postgres://h/x?sslmode=disable",
                "postgres://h/mine?sslmode=disable",
            ),
        ] {
            assert_eq!(with_database(url, "mine"), wanted);
        }
    }
}
