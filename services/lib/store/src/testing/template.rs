//! The template that databases of tests are cloned from: the schema is made once on each server, not once for each test.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::{address_of, create_database};
use crate::Store;

/// Key of the advisory lock under which the template is made; any number that nothing else on a test server locks.
const LOCK: i64 = 0x6d69_6c6c_7261_6365;

/// Name of the database with the present schema on this server, made if it is not there yet.
///
/// The name holds the digest of all migrations, so a changed migration has a template of its own. Test processes start
/// side by side: one makes the template, the others wait for the lock.
pub(super) async fn ensure(server: &PgConnectOptions, url: &str) -> Result<String, sqlx::Error> {
    let name = format!("millrace_template_{}", Store::schema_digest());
    let mut connection = PgConnection::connect_with(server).await?;
    if !exists(&mut connection, &name).await? {
        lock(&mut connection).await?;
        if !exists(&mut connection, &name).await? {
            make(&mut connection, server, url, &name).await?;
        }
    }
    // Closing gives back the lock, too.
    connection.close().await?;
    Ok(name)
}

/// Brings the times that migrations stored to the present: a clone is as a database that was migrated a moment ago. With
/// the template's times the first sweep would find a gap and extend all leases.
pub(super) async fn refresh(clone: PgConnectOptions) -> Result<(), sqlx::Error> {
    let sql = "update sweeper_ticks set ticked_at = now(), resumed_at = now()";
    super::administer(&clone, sql.to_owned()).await
}

async fn exists(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(connection)
        .await
}

async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_lock($1)")
        .bind(LOCK)
        .execute(connection)
        .await?;
    Ok(())
}

/// Migrates an empty database and gives it the template's name at the end: a process that dies midway leaves a database
/// that nobody clones.
async fn make(
    connection: &mut PgConnection,
    server: &PgConnectOptions,
    url: &str,
    name: &str,
) -> Result<(), sqlx::Error> {
    let unfinished = format!("millrace_test_{}", Uuid::new_v4().simple());
    create_database(server, &unfinished, None).await?;
    let store = super::store_on(&address_of(url, &unfinished), 1);
    if let Err(error) = store.migrate().await {
        panic!("the template of test databases could not be migrated: {error}");
    }
    // PostgreSQL clones, and renames, only a database that nobody is connected to.
    store.close().await;
    sqlx::query(AssertSqlSafe(format!(
        "alter database {unfinished} rename to {name}"
    )))
    .execute(&mut *connection)
    .await?;
    sqlx::query(AssertSqlSafe(format!(
        "alter database {name} allow_connections false"
    )))
    .execute(connection)
    .await?;
    Ok(())
}
