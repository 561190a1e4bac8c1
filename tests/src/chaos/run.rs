//! A whole run: start, break, heal, rest, judge.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_store::Inspector;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::environment::Environment;
use super::faults;
use super::kind::Kind;
use super::load::Load;
use super::options::Options;
use super::plan::{Fault, Scene, plan};
use super::report::Report;
use super::settle;
use super::workload::endings;
use crate::invariants::{Facts, check, gather};

/// A process that ended by itself is started again after so long, as a service manager does.
const RESTART: Duration = Duration::from_secs(1);

/// Nothing was submitted for so long: nothing will be.
const PATIENCE: Duration = Duration::from_mins(5);

/// The plan of these options.
pub fn planned(options: &Options, seed: u64) -> Vec<Fault> {
    let scene = Scene {
        time: options.time(),
        gap: options.gap(),
        builders: options.builders.into(),
        frontends: options.frontends.into(),
        kinds: options.kinds(),
    };
    plan(seed, &scene)
}

/// A pipeline that was broken and healed, and has come to rest.
pub struct Ended {
    /// Everything that runs.
    pub environment: Arc<Environment>,
    /// What was done and what was found.
    pub report: Report,
    load: Arc<Load>,
    options: Options,
}

/// Runs it in a folder, which the caller removes.
pub async fn run(options: &Options, seed: u64, folder: PathBuf) -> Report {
    run_to_rest(options, seed, folder).await.report
}

/// The same, and leaves everything running.
pub async fn run_to_rest(options: &Options, seed: u64, folder: PathBuf) -> Ended {
    let environment = Arc::new(Environment::start(options, &folder).await);
    let mut faults = planned(options, seed);
    if let Err(reason) = &environment.disk {
        eprintln!("left out: {}: {reason}", Kind::FillDisk);
        faults.retain(|fault| fault.kind != Kind::FillDisk);
    }
    let load = Load::new(
        options,
        environment.addresses(),
        &environment.settings.chroot,
    );
    let start = Instant::now();
    let (alone, mut ended_alone) = mpsc::unbounded_channel();
    let background = [
        tokio::spawn(keep_running(environment.clone(), alone)),
        tokio::spawn(watch(load.clone())),
        tokio::spawn(tell(load.clone(), start)),
    ];
    let clients = tokio::spawn(load.clone().run(seed));
    let mut done = faults::carry_out(environment.clone(), faults, start).await;
    sleep_until(start + options.time()).await;
    enough(&load, options.tasks).await;
    load.stop();
    settle::heal(&environment);
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    eprintln!("no more faults; everything is healed");
    clients.await.expect("the clients come to their end");
    let moving = rest(&environment, &load, options).await;
    background.iter().for_each(JoinHandle::abort);
    done.problems.extend(unsatisfied(&load, options));
    let facts = facts(&environment, &load, options)
        .await
        .unwrap_or_else(|error| {
            done.problems
                .push(format!("facts could not be gathered: {error}"));
            Facts::default()
        });
    let mut report = Report {
        seed,
        minutes,
        violations: check(&facts),
        done,
        facts,
        moving,
        ended_alone: Vec::new(),
        folder,
    };
    while let Ok(ended) = ended_alone.try_recv() {
        report.ended_alone.push(ended);
    }
    let options = options.clone();
    Ended {
        environment,
        report,
        load,
        options,
    }
}

impl Ended {
    /// What is there now.
    pub async fn facts(&self) -> Facts {
        facts(&self.environment, &self.load, &self.options)
            .await
            .expect("the facts can be gathered")
    }
}

/// Waits until nothing moves and all was seen; tells what still moves when the time is over.
async fn rest(environment: &Environment, load: &Load, options: &Options) -> Option<String> {
    let inspector =
        Inspector::at(&environment.database.url()).expect("the database's address is one");
    let moving = settle::rest(environment, &inspector, options.settling()).await;
    let looked = Instant::now() + Duration::from_secs(30);
    while moving.is_none() && load.watch.under_way() > 0 && Instant::now() < looked {
        sleep(Duration::from_millis(200)).await;
    }
    match settle::tidy(environment, &inspector).await {
        Ok(()) => moving,
        Err(error) => Some(moving.unwrap_or(error)),
    }
}

async fn facts(environment: &Environment, load: &Load, options: &Options) -> Result<Facts, String> {
    let inspector =
        Inspector::at(&environment.database.url()).map_err(|error| error.to_string())?;
    let gathered = gather(&settle::places(environment, &inspector)).await?;
    Ok(Facts {
        known: load.journal.known(),
        expected: endings(options.is_real()),
        makes_files: options.is_real(),
        processes: settle::processes(environment).await,
        ..gathered
    })
}

/// Waits until enough was submitted, as long as anything is.
async fn enough(load: &Load, tasks: usize) {
    let (mut last, mut since) = (0, Instant::now());
    while load.journal.count() < tasks && since.elapsed() < PATIENCE {
        if load.journal.count() > last {
            (last, since) = (load.journal.count(), Instant::now());
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn unsatisfied(load: &Load, options: &Options) -> Option<String> {
    let (count, wanted) = (load.journal.count(), options.tasks.max(1));
    (count < wanted).then(|| format!("only {count} of {wanted} builds could be submitted"))
}

async fn watch(load: Arc<Load>) {
    load.watch.run(&load.frontends).await;
}

/// A line each ten seconds.
async fn tell(load: Arc<Load>, start: Instant) {
    let mut ticks = interval(Duration::from_secs(10));
    loop {
        ticks.tick().await;
        let known = load.journal.known();
        eprintln!(
            "{:>7.1} s: {} submitted, {} under way, {} ended, {} cancels, {} contradictions",
            start.elapsed().as_secs_f64(),
            known.submissions.len(),
            load.watch.under_way(),
            known.seen.len(),
            known.cancels.len(),
            known.contradictions.len(),
        );
    }
}

/// Starts processes that ended by themselves again.
async fn keep_running(environment: Arc<Environment>, alone: mpsc::UnboundedSender<String>) {
    let mut ticks = interval(RESTART);
    loop {
        ticks.tick().await;
        for member in environment.frontends.iter().chain(&environment.builders) {
            // Who holds it is at it.
            let Ok(mut process) = member.process.try_lock() else {
                continue;
            };
            if process
                .as_mut()
                .is_some_and(|running| !running.is_running())
            {
                let log = member.log();
                let last = log.lines().last().unwrap_or_default().to_owned();
                eprintln!("  {} ended by itself: {last}", member.name);
                alone.send(format!("{}: {last}", member.name)).ok();
                *process = Some(member.launch.start());
            }
        }
    }
}
