//! The end: everything is healed, and waited for.

use std::path::Path;
use std::time::{Duration, SystemTime};

use millrace_store::Inspector;
use tokio::time::{Instant, sleep};

use super::environment::Environment;
use crate::LinkState;
use crate::invariants::{Places, Status, still_moving};

/// How far time is moved for what is kept for a day.
const TWO_DAYS: Duration = Duration::from_hours(48);
/// The janitor looks each 5 s whether it is its turn.
const TIDYING: Duration = Duration::from_mins(2);

/// Where the checker looks.
pub fn places<'a>(environment: &'a Environment, inspector: &'a Inspector) -> Places<'a> {
    Places {
        database: inspector,
        broker: &environment.broker,
        results: environment.results(),
        spools: environment.spools(),
    }
}

/// Makes every way clear; faults have left everything else whole.
pub fn heal(environment: &Environment) {
    let members = environment.frontends.iter().chain(&environment.builders);
    let ways = members.flat_map(|member| {
        let ways = &member.ways;
        ways.frontend
            .iter()
            .chain(&ways.broker)
            .chain(&ways.database)
    });
    ways.chain(&environment.clients)
        .for_each(|proxy| proxy.set(LinkState::Clear));
}

/// Waits until nothing moves any more, or until the time is over: then what still moves is told.
pub async fn rest(
    environment: &Environment,
    inspector: &Inspector,
    within: Duration,
) -> Option<String> {
    let end = Instant::now() + within;
    let mut said = Instant::now();
    let mut calm = 0;
    loop {
        let moving = match still_moving(&places(environment, inspector)).await {
            Ok(None) => None,
            Ok(Some(moving)) => Some(moving),
            Err(error) => Some(error),
        };
        calm = if moving.is_none() { calm + 1 } else { 0 };
        // A report that comes again may pass between two looks.
        if calm == 3 {
            return None;
        }
        if let Some(moving) = moving {
            if Instant::now() > end {
                return Some(moving);
            }
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                eprintln!("coming to rest: {moving}");
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Time is moved on for what the janitor leaves alone for a while: uploads in flight, sources that a submission may
/// still name, files of attempts that ended just now. Then it gets its turns, and is waited for.
pub async fn tidy(environment: &Environment, inspector: &Inspector) -> Result<(), String> {
    let old = SystemTime::now() - TWO_DAYS;
    for folder in ["staging", "sources"] {
        make_old(&environment.results().join(folder), old)
            .map_err(|error| format!("{folder}: {error}"))?;
    }
    for change in [
        "update attempts set ended_at = ended_at - interval '1 hour' where ended_at is not null",
        "update turns set begun_at = '-infinity'",
    ] {
        inspector
            .execute(change)
            .await
            .map_err(|error| error.to_string())?;
    }
    let untidy = "select (select count(*) from turns where begun_at < now() - interval '1 day') as turns,
        (select count(*) from attempts where ended_at is not null and claimed_at is not null and tidied_at is null) as files";
    let end = Instant::now() + TIDYING;
    loop {
        let rows = inspector
            .rows(untidy)
            .await
            .map_err(|error| error.to_string())?;
        let done = rows
            .iter()
            .all(|row| row["turns"] == 0 && row["files"] == 0);
        let staged = std::fs::read_dir(environment.results().join("staging"))
            .is_ok_and(|mut files| files.next().is_some());
        // What is left when the time is over is for the rules to find.
        if done && !staged || Instant::now() > end {
            // The last turn may still be removing sources.
            sleep(Duration::from_secs(2)).await;
            return Ok(());
        }
        sleep(Duration::from_millis(500)).await;
    }
}

fn make_old(folder: &Path, old: SystemTime) -> std::io::Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            make_old(&path, old)?;
        } else {
            std::fs::File::options()
                .append(true)
                .open(&path)?
                .set_modified(old)?;
        }
    }
    Ok(())
}

/// How the processes are.
pub async fn processes(environment: &Environment) -> Vec<Status> {
    let mut all = Vec::new();
    for member in environment.frontends.iter().chain(&environment.builders) {
        let running = member
            .process
            .lock()
            .await
            .as_mut()
            .is_some_and(crate::Process::is_running);
        let panicked = |line: &&str| line.contains("panicked at");
        let log = member.log();
        all.push(Status {
            name: member.name.clone(),
            running,
            panics: log.lines().filter(panicked).map(str::to_owned).collect(),
        });
    }
    all
}
