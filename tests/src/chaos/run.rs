//! A whole run: start, break, heal, rest, judge.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_store::Look;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::faults::{self, Done};
use super::kind::Kind;
use super::load::Load;
use super::options::Options;
use super::plan::{Fault, Scene, plan};
use super::report::Report;
use super::rig::Rig;
use super::settle;
use crate::fixture::fixtures;
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

/// Runs it in a folder, which the caller removes.
pub async fn run(options: &Options, seed: u64, folder: PathBuf) -> Report {
    let rig = Arc::new(Rig::start(options, &folder).await);
    let mut faults = planned(options, seed);
    if let Err(reason) = &rig.disk {
        eprintln!("left out: {}: {reason}", Kind::FillDisk);
        faults.retain(|fault| fault.kind != Kind::FillDisk);
    }
    let load = Load::new(options, rig.addresses(), &rig.settings.chroot);
    let start = Instant::now();
    let (alone, mut ended_alone) = mpsc::unbounded_channel();
    let background = [
        tokio::spawn(keep_running(rig.clone(), alone)),
        tokio::spawn(watch(load.clone())),
        tokio::spawn(tell(load.clone(), start)),
    ];
    let clients = tokio::spawn(load.clone().run(seed));
    let done = faults::carry_out(rig.clone(), faults, start).await;
    sleep_until(start + options.time()).await;
    enough(&load, options.tasks).await;
    load.stop();
    settle::heal(&rig);
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    eprintln!("no more faults; everything is healed");
    clients.await.expect("the clients come to their end");
    let report = judge(&rig, &load, options, done).await;
    background.iter().for_each(JoinHandle::abort);
    let mut report = Report {
        seed,
        minutes,
        folder,
        ..report
    };
    while let Ok(ended) = ended_alone.try_recv() {
        report.ended_alone.push(ended);
    }
    report
}

async fn judge(rig: &Rig, load: &Load, options: &Options, done: Done) -> Report {
    let look = Look::at(&rig.database.url()).expect("the database's address is one");
    let moving = settle::rest(rig, &look, options.settling()).await;
    // Every build is looked at once more, so that what was seen is complete.
    let looked = Instant::now() + Duration::from_secs(30);
    while moving.is_none() && load.watch.under_way() > 0 && Instant::now() < looked {
        sleep(Duration::from_millis(200)).await;
    }
    let aged = settle::tidy(rig, &look).await;
    let facts = gather(&settle::places(rig, &look)).await;
    let mut problems = done.problems;
    problems.extend(aged.err());
    problems.extend(unsatisfied(load, options));
    let mut facts = facts.unwrap_or_else(|error| {
        problems.push(format!("facts could not be gathered: {error}"));
        Facts::default()
    });
    facts.known = load.journal.known();
    facts.expected = expected(options);
    facts.makes_files = options.is_real();
    facts.processes = settle::processes(rig).await;
    Report {
        seed: 0,
        minutes: 0.0,
        violations: check(&facts),
        done: Done { problems, ..done },
        facts,
        moving,
        ended_alone: Vec::new(),
        folder: PathBuf::new(),
    }
}

/// How fixtures end; the stand-in always succeeds.
fn expected(options: &Options) -> BTreeMap<String, String> {
    if options.is_real() {
        fixtures()
            .into_iter()
            .map(|fixture| (fixture.name, fixture.expected.outcome))
            .collect()
    } else {
        (0..8)
            .map(|number| (format!("noop-{number}"), "succeeded".to_owned()))
            .collect()
    }
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
async fn keep_running(rig: Arc<Rig>, alone: mpsc::UnboundedSender<String>) {
    let mut ticks = interval(RESTART);
    loop {
        ticks.tick().await;
        for member in rig.frontends.iter().chain(&rig.builders) {
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
