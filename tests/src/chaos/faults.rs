//! Carrying out the plan. Each fault holds its area while it lasts and leaves it whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_bus::testing::steal;
use rustix::process::Signal;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::environment::Environment;
use super::kind::Kind;
use super::member::{Member, terminate};
use super::plan::Fault;
use crate::{FaultProxy, LinkState};

/// The queue of the one memory class that the load uses.
const JOBS: &str = "2g";
/// Messages taken off a queue at once.
const STOLEN: u16 = 4;
/// Each piece of a slow connection is held for so long.
const SLOW: Duration = Duration::from_millis(300);

/// A fault that is over, with a word about it or with what went wrong.
type Ended = (Fault, Result<String, String>);

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// How often each kind was carried out.
    pub counts: BTreeMap<Kind, usize>,
    /// What could not be done, or did not come back as it must.
    pub problems: Vec<String>,
}

impl Done {
    /// All faults.
    pub fn total(&self) -> usize {
        self.counts.values().sum()
    }

    fn take(&mut self, ended: Result<Ended, JoinError>, since: Instant) {
        match ended {
            Ok((fault, result)) => self.note(&fault, result, since),
            Err(panic) => self
                .problems
                .push(format!("a fault could not be carried out: {panic}")),
        }
    }

    fn note(&mut self, fault: &Fault, result: Result<String, String>, since: Instant) {
        let now = since.elapsed().as_secs_f64();
        match result {
            Ok(more) => {
                *self.counts.entry(fault.kind).or_default() += 1;
                let more = if more.is_empty() {
                    more
                } else {
                    format!(" ({more})")
                };
                eprintln!("  over at {now:>7.1} s:  {fault}{more}");
            }
            Err(problem) => {
                eprintln!("  PROBLEM {now:>7.1} s:  {fault}: {problem}");
                self.problems.push(format!("{fault}: {problem}"));
            }
        }
    }
}

/// Carries out a plan to its end.
pub async fn carry_out(environment: Arc<Environment>, faults: Vec<Fault>, start: Instant) -> Done {
    let mut done = Done::default();
    let mut running = JoinSet::new();
    for fault in faults {
        let begin = sleep_until(start + fault.at);
        tokio::pin!(begin);
        loop {
            tokio::select! {
                () = &mut begin => break,
                Some(ended) = running.join_next() => done.take(ended, start),
            }
        }
        let environment = environment.clone();
        running.spawn(async move { (fault, carry(&environment, &fault).await) });
    }
    while let Some(ended) = running.join_next().await {
        done.take(ended, start);
    }
    done
}

async fn carry(environment: &Environment, fault: &Fault) -> Result<String, String> {
    let (frontend, builder) = (
        environment.frontends.get(fault.target),
        environment.builders.get(fault.target),
    );
    match fault.kind {
        Kind::KillBuilder => killed(builder, fault.lasts).await,
        Kind::KillFrontend => killed(frontend, fault.lasts).await,
        Kind::RestartBuilder => restarted(builder, fault.lasts).await,
        Kind::RestartFrontend => restarted(frontend, fault.lasts).await,
        Kind::FreezeBuilder => frozen(builder, fault.lasts).await,
        Kind::FreezeFrontend => frozen(frontend, fault.lasts).await,
        Kind::CutBuilderFrontend => disturb(builder, fault, LinkState::Cut, Way::Frontend).await,
        Kind::CutBuilderBroker => disturb(builder, fault, LinkState::Cut, Way::Broker).await,
        Kind::StallBuilder => disturb(builder, fault, LinkState::Stalled, Way::All).await,
        Kind::SlowBuilder => disturb(builder, fault, LinkState::Slow(SLOW), Way::All).await,
        Kind::CutFrontendBroker => disturb(frontend, fault, LinkState::Cut, Way::Broker).await,
        Kind::CutFrontendDatabase => disturb(frontend, fault, LinkState::Cut, Way::Database).await,
        Kind::CutClients => clients_cut(&environment.clients, fault.lasts).await,
        Kind::FillDisk => disk_full(environment, builder, fault.lasts).await,
        Kind::DoubleJobs | Kind::DelayJobs | Kind::DoubleReports | Kind::DelayReports => {
            tampered(environment, fault).await
        }
        Kind::KillBroker | Kind::RestartBroker | Kind::FreezeBroker => {
            broker(environment, fault).await
        }
        Kind::KillDatabase | Kind::RestartDatabase | Kind::FreezeDatabase => {
            database(environment, fault).await
        }
    }
}

fn there(member: Option<&Member>) -> Result<&Member, String> {
    member.ok_or_else(|| "there is no such process".to_owned())
}

async fn killed(member: Option<&Member>, away: Duration) -> Result<String, String> {
    let member = there(member)?;
    let mut process = member.process.lock().await;
    if let Some(mut running) = process.take() {
        running.kill();
    }
    sleep(away).await;
    *process = Some(member.launch.start());
    Ok(String::new())
}

async fn restarted(member: Option<&Member>, away: Duration) -> Result<String, String> {
    let member = there(member)?;
    let mut process = member.process.lock().await;
    let ended = match process.as_mut() {
        Some(running) => terminate(running).await,
        None => Ok(()),
    };
    sleep(away).await;
    *process = Some(member.launch.start());
    ended.map(|()| String::new())
}

async fn frozen(member: Option<&Member>, time: Duration) -> Result<String, String> {
    let mut process = there(member)?.process.lock().await;
    let Some(running) = process.as_mut() else {
        return Err("it does not run".to_owned());
    };
    if !running.is_running() {
        return Ok("it did not run".to_owned());
    }
    running.signal(Signal::STOP);
    sleep(time).await;
    running.signal(Signal::CONT);
    Ok(String::new())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Frontend,
    Broker,
    Database,
    All,
}

async fn disturb(
    member: Option<&Member>,
    fault: &Fault,
    state: LinkState,
    way: Way,
) -> Result<String, String> {
    let member = there(member)?;
    let _held = member.process.lock().await;
    let ways = &member.ways;
    let chosen: Vec<&FaultProxy> = match way {
        Way::Frontend => ways.frontend.iter().collect(),
        Way::Broker => ways.broker.iter().collect(),
        Way::Database => ways.database.iter().collect(),
        Way::All => ways
            .frontend
            .iter()
            .chain(&ways.broker)
            .chain(&ways.database)
            .collect(),
    };
    set_all(chosen.iter().copied(), state);
    sleep(fault.lasts).await;
    set_all(chosen, LinkState::Clear);
    Ok(String::new())
}

fn set_all<'a>(proxies: impl IntoIterator<Item = &'a FaultProxy>, state: LinkState) {
    for proxy in proxies {
        proxy.set(state);
    }
}

/// The queue of jobs of a memory class.
fn job_queue(class: &str) -> String {
    format!("millrace.jobs.{}.{class}", std::env::consts::ARCH)
}

async fn clients_cut(clients: &[FaultProxy], time: Duration) -> Result<String, String> {
    set_all(clients, LinkState::Cut);
    sleep(time).await;
    set_all(clients, LinkState::Clear);
    Ok(String::new())
}

async fn disk_full(
    environment: &Environment,
    builder: Option<&Member>,
    time: Duration,
) -> Result<String, String> {
    let _held = there(builder)?.process.lock().await;
    let Ok(disk) = &environment.disk else {
        // Said once at the start; a fault that cannot be made is not counted.
        return Err("no disk could be mounted".to_owned());
    };
    disk.fill()
        .map_err(|error| format!("filling the disk: {error}"))?;
    sleep(time).await;
    disk.free()
        .map_err(|error| format!("freeing the disk: {error}"))?;
    Ok(String::new())
}

/// Takes messages, holds them, and puts them back once or twice.
async fn tampered(environment: &Environment, fault: &Fault) -> Result<String, String> {
    let jobs = matches!(fault.kind, Kind::DoubleJobs | Kind::DelayJobs);
    let twice = matches!(fault.kind, Kind::DoubleJobs | Kind::DoubleReports);
    let _held = if jobs {
        environment.jobs.lock().await
    } else {
        environment.reports.lock().await
    };
    let queue = if jobs {
        job_queue(JOBS)
    } else {
        millrace_bus::EVENTS_QUEUE.to_owned()
    };
    let url = environment.broker.url();
    let (looking, holding) = if twice {
        (fault.lasts, Duration::ZERO)
    } else {
        (Duration::from_secs(3), fault.lasts)
    };
    // A broker that is away or goes away meanwhile is another fault's doing: then there is nothing to tamper with.
    let stolen = match steal(&url, &queue, STOLEN, looking).await {
        Ok(stolen) => stolen,
        Err(error) => return Ok(format!("nothing was taken: {error}")),
    };
    let count = stolen.len();
    sleep(holding).await;
    match stolen.put_back(if twice { 2 } else { 1 }).await {
        Ok(()) => Ok(format!("{count} messages")),
        Err(error) => Ok(format!("{count} messages left to the broker: {error}")),
    }
}

async fn broker(environment: &Environment, fault: &Fault) -> Result<String, String> {
    let _held = environment.services.lock().await;
    match fault.kind {
        Kind::KillBroker => environment.broker.kill(),
        Kind::RestartBroker => environment.broker.stop(),
        _ => environment.broker.pause(),
    }
    sleep(fault.lasts).await;
    if fault.kind == Kind::FreezeBroker {
        environment.broker.unpause();
    } else {
        environment.broker.start_again().await;
    }
    Ok(String::new())
}

async fn database(environment: &Environment, fault: &Fault) -> Result<String, String> {
    let _held = environment.services.lock().await;
    match fault.kind {
        Kind::KillDatabase => environment.database.kill(),
        Kind::RestartDatabase => environment.database.stop(),
        _ => environment.database.pause(),
    }
    sleep(fault.lasts).await;
    if fault.kind == Kind::FreezeDatabase {
        environment.database.unpause();
    } else {
        environment.database.start_again().await;
    }
    Ok(String::new())
}
