//! Carrying out the plan. Each fault holds its area while it lasts and leaves it whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_bus::testing::steal;
use rustix::process::Signal;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::kind::Kind;
use super::member::{Member, terminate};
use super::plan::Fault;
use super::rig::Rig;
use crate::{FaultProxy, Weather};

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
pub async fn carry_out(rig: Arc<Rig>, faults: Vec<Fault>, start: Instant) -> Done {
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
        let rig = rig.clone();
        running.spawn(async move { (fault, carry(&rig, &fault).await) });
    }
    while let Some(ended) = running.join_next().await {
        done.take(ended, start);
    }
    done
}

async fn carry(rig: &Rig, fault: &Fault) -> Result<String, String> {
    let (frontend, builder) = (
        rig.frontends.get(fault.target),
        rig.builders.get(fault.target),
    );
    match fault.kind {
        Kind::KillBuilder => killed(builder, fault.lasts).await,
        Kind::KillFrontend => killed(frontend, fault.lasts).await,
        Kind::RestartBuilder => restarted(builder, fault.lasts).await,
        Kind::RestartFrontend => restarted(frontend, fault.lasts).await,
        Kind::FreezeBuilder => frozen(builder, fault.lasts).await,
        Kind::FreezeFrontend => frozen(frontend, fault.lasts).await,
        Kind::CutBuilderFrontend => weather(builder, fault, Weather::Cut, Way::Frontend).await,
        Kind::CutBuilderBroker => weather(builder, fault, Weather::Cut, Way::Broker).await,
        Kind::StallBuilder => weather(builder, fault, Weather::Stalled, Way::All).await,
        Kind::SlowBuilder => weather(builder, fault, Weather::Slow(SLOW), Way::All).await,
        Kind::CutFrontendBroker => weather(frontend, fault, Weather::Cut, Way::Broker).await,
        Kind::CutFrontendDatabase => weather(frontend, fault, Weather::Cut, Way::Database).await,
        Kind::CutClients => clients_cut(&rig.clients, fault.lasts).await,
        Kind::FillDisk => disk_full(rig, builder, fault.lasts).await,
        Kind::DoubleJobs | Kind::DelayJobs | Kind::DoubleReports | Kind::DelayReports => {
            tampered(rig, fault).await
        }
        Kind::KillBroker | Kind::RestartBroker | Kind::FreezeBroker => broker(rig, fault).await,
        Kind::KillDatabase | Kind::RestartDatabase | Kind::FreezeDatabase => {
            database(rig, fault).await
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

async fn weather(
    member: Option<&Member>,
    fault: &Fault,
    weather: Weather,
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
    set_all(chosen.iter().copied(), weather);
    sleep(fault.lasts).await;
    set_all(chosen, Weather::Clear);
    Ok(String::new())
}

fn set_all<'a>(proxies: impl IntoIterator<Item = &'a FaultProxy>, weather: Weather) {
    for proxy in proxies {
        proxy.set(weather);
    }
}

/// The queue of jobs of a memory class.
fn job_queue(class: &str) -> String {
    format!("millrace.jobs.{}.{class}", std::env::consts::ARCH)
}

async fn clients_cut(clients: &[FaultProxy], time: Duration) -> Result<String, String> {
    set_all(clients, Weather::Cut);
    sleep(time).await;
    set_all(clients, Weather::Clear);
    Ok(String::new())
}

async fn disk_full(rig: &Rig, builder: Option<&Member>, time: Duration) -> Result<String, String> {
    let _held = there(builder)?.process.lock().await;
    let Ok(disk) = &rig.disk else {
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
async fn tampered(rig: &Rig, fault: &Fault) -> Result<String, String> {
    let jobs = matches!(fault.kind, Kind::DoubleJobs | Kind::DelayJobs);
    let twice = matches!(fault.kind, Kind::DoubleJobs | Kind::DoubleReports);
    let _held = if jobs {
        rig.jobs.lock().await
    } else {
        rig.reports.lock().await
    };
    let queue = if jobs {
        job_queue(JOBS)
    } else {
        millrace_bus::EVENTS_QUEUE.to_owned()
    };
    let url = rig.broker.url();
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

async fn broker(rig: &Rig, fault: &Fault) -> Result<String, String> {
    let _held = rig.services.lock().await;
    match fault.kind {
        Kind::KillBroker => rig.broker.kill(),
        Kind::RestartBroker => rig.broker.stop(),
        _ => rig.broker.pause(),
    }
    sleep(fault.lasts).await;
    if fault.kind == Kind::FreezeBroker {
        rig.broker.unpause();
    } else {
        rig.broker.start_again().await;
    }
    Ok(String::new())
}

async fn database(rig: &Rig, fault: &Fault) -> Result<String, String> {
    let _held = rig.services.lock().await;
    match fault.kind {
        Kind::KillDatabase => rig.database.kill(),
        Kind::RestartDatabase => rig.database.stop(),
        _ => rig.database.pause(),
    }
    sleep(fault.lasts).await;
    if fault.kind == Kind::FreezeDatabase {
        rig.database.unpause();
    } else {
        rig.database.start_again().await;
    }
    Ok(String::new())
}
