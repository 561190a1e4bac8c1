//! Gathering the facts: questions to the database, the broker, the disks and the engine.

use std::path::PathBuf;
use std::process::Command;

use millrace_store::Inspector;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::bytes::{spooled, stored};
use super::facts::{Container, Facts, Queue};
use crate::{PrivateBroker, Settings};

/// Where to look.
pub struct Places<'a> {
    /// The database.
    pub database: &'a Inspector,
    /// The broker.
    pub broker: &'a PrivateBroker,
    /// The result store's folder.
    pub results: PathBuf,
    /// The builders' spools.
    pub spools: Vec<PathBuf>,
}

const BUILDS: &str = "select b.id, (select coalesce(json_agg(k.key), '[]') from idempotency_keys k where k.build_id = b.id) as keys,
    (select coalesce(json_agg(s.name order by s.position), '[]') from sources s where s.build_id = b.id) as sources,
    (select coalesce(json_agg(s.sha256 order by s.position), '[]') from sources s
        where s.build_id = b.id and s.sha256 is not null) as digests,
    (select count(*) from tasks t where t.build_id = b.id) as tasks, b.imported_at is not null as imported
    from builds b order by b.id";
const TASKS: &str = "select id, build_id, state, outcome, current_attempt, attempts_made, attempts_counted, raised_limit is not null as raised from tasks order by id";
const ATTEMPTS: &str =
    "select id, task_id, number, state, reason, outcome, claimed_at is not null as claimed,
    builder_id is not null as of_builder, poller_id as poller, log_size
    from attempts order by task_id, number";
const PACKAGES: &str =
    "select attempt_id, position, outcome from attempt_packages order by attempt_id, position";
const RESULT_FILES: &str = "select attempt_id, position, name, size, sha256 from result_files order by attempt_id, position, name";
const BUILDERS: &str =
    "select id, name, last_seen_at > now() - interval '15 seconds' as live, memory_mib, free_mib,
    sandboxes, free_sandboxes from builders order by name";

/// Gathers everything but the journal, the expected outcomes and the processes, which the caller has.
pub async fn gather(places: &Places<'_>) -> Result<Facts, String> {
    let builders: Vec<super::Builder> = read(places.database, BUILDERS).await?;
    let ids: Vec<String> = builders.iter().map(|builder| builder.id.clone()).collect();
    Ok(Facts {
        builds: read(places.database, BUILDS).await?,
        tasks: read(places.database, TASKS).await?,
        attempts: read(places.database, ATTEMPTS).await?,
        packages: read(places.database, PACKAGES).await?,
        result_files: read(places.database, RESULT_FILES).await?,
        outbox: column(places.database, "select attempt_id as it from outbox").await?,
        parked: column(
            places.database,
            "select reason || ': ' || body as it from parked_messages",
        )
        .await?,
        reserved: column(
            places.database,
            "select task_id as it from reservations where task_id is not null",
        )
        .await?,
        queues: queues(places.broker)?,
        stored: stored(&places.results),
        spooled: places
            .spools
            .iter()
            .flat_map(|spool| spooled(spool))
            .collect(),
        containers: containers(&ids)?,
        builders,
        ..Facts::default()
    })
}

/// What has not come to rest yet, in one line; none when nothing moves. Cheap, to be asked again and again.
pub async fn still_moving(places: &Places<'_>) -> Result<Option<String>, String> {
    let query = "select (select count(*) from tasks where state in ('waiting', 'queued', 'running')) as tasks,
        (select count(*) from attempts where state in ('offered', 'claimed')) as attempts,
        (select count(*) from outbox) as outbox,
        (select count(*) from builders where free_mib < memory_mib or free_sandboxes < sandboxes) as busy";
    let rows = places
        .database
        .rows(query)
        .await
        .map_err(|error| error.to_string())?;
    let mut moving: Vec<String> = Vec::new();
    for (name, count) in rows
        .first()
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if count != 0 {
            moving.push(format!("{count} {name}"));
        }
    }
    let spooled = places
        .spools
        .iter()
        .map(|spool| spooled(spool).len())
        .sum::<usize>();
    if spooled > 0 {
        moving.push(format!("{spooled} in spools"));
    }
    if moving.is_empty() {
        let messages: u64 = queues(places.broker)?
            .iter()
            .map(|queue| queue.messages)
            .sum();
        if messages > 0 {
            moving.push(format!("{messages} messages"));
        }
    }
    Ok((!moving.is_empty()).then(|| moving.join(", ")))
}

async fn read<T: DeserializeOwned>(database: &Inspector, query: &str) -> Result<Vec<T>, String> {
    let rows = database
        .rows(query)
        .await
        .map_err(|error| error.to_string())?;
    rows.into_iter()
        .map(|row| serde_json::from_value(row).map_err(|error| format!("{query}: {error}")))
        .collect()
}

async fn column<T: DeserializeOwned>(database: &Inspector, query: &str) -> Result<Vec<T>, String> {
    #[derive(serde::Deserialize)]
    struct One<T> {
        it: T,
    }
    Ok(read::<One<T>>(database, query)
        .await?
        .into_iter()
        .map(|row| row.it)
        .collect())
}

/// The broker's own count, which is up to 5 s old.
fn queues(broker: &PrivateBroker) -> Result<Vec<Queue>, String> {
    let text = broker.exec(&[
        "rabbitmqctl",
        "--silent",
        "list_queues",
        "--formatter",
        "json",
        "name",
        "messages",
    ])?;
    serde_json::from_str(&text).map_err(|error| format!("rabbitmqctl list_queues: {error}: {text}"))
}

fn containers(builders: &[String]) -> Result<Vec<Container>, String> {
    let engine = Settings::from_env().engine;
    let format = "{{.ID}} {{.Label \"millrace.builder\"}}";
    let output = Command::new("docker")
        .args([
            "--host",
            &engine,
            "ps",
            "--all",
            "--filter",
            "label=millrace.builder",
            "--format",
            format,
        ])
        .output()
        .map_err(|error| format!("docker ps: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "docker ps: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = text.lines().filter_map(|line| line.split_once(' '));
    let ours = all.filter(|(_, builder)| builders.iter().any(|id| id == builder));
    Ok(ours
        .map(|(id, builder)| Container {
            id: id.to_owned(),
            builder: builder.to_owned(),
        })
        .collect())
}
