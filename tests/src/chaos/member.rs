//! A process of the environment that is killed, frozen and started again, and the proxies on its ways.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Mutex;

use crate::{FaultProxy, Process};

/// How long a stopping builder finishes what it has before it hands it back, in seconds: some builds take longer, so
/// both ends are met.
pub const DRAIN_SECONDS: u32 = 25;
/// A stopping process gets so long: a drain, the 20 s of handing back, the 5 s of dropping, and a slow machine.
const PATIENCE: Duration = Duration::from_secs(75);

/// How a process is started, each time anew.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The binary.
    pub binary: PathBuf,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Its log, over all its lives.
    pub log: PathBuf,
}

/// Proxies between a process and others; a frontend has none to frontends.
#[derive(Debug, Default)]
pub struct Ways {
    /// To the frontends.
    pub frontend: Option<FaultProxy>,
    /// To the broker.
    pub broker: Option<FaultProxy>,
    /// To the database.
    pub database: Option<FaultProxy>,
}

/// A builder or a frontend.
#[derive(Debug)]
pub struct Member {
    /// What it is called in the output.
    pub name: String,
    /// How it is started.
    pub launch: Launch,
    /// Its connections.
    pub ways: Ways,
    /// Held by the fault that is at it.
    pub process: Mutex<Option<Process>>,
}

impl Member {
    /// A member that runs.
    pub fn start(name: String, launch: Launch, ways: Ways) -> Self {
        let process = Mutex::new(Some(launch.start()));
        Self {
            name,
            launch,
            ways,
            process,
        }
    }

    /// What all its lives have logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.launch.log).unwrap_or_default()).into_owned()
    }
}

impl Launch {
    /// Starts it.
    pub fn start(&self) -> Process {
        Process::start(&self.binary, &[], &self.env, &self.log)
    }
}

/// `SIGTERM`, and the end within its own time; says so when it had to be killed.
pub async fn terminate(process: &mut Process) -> Result<(), String> {
    if !process.is_running() {
        return Ok(());
    }
    process.signal(Signal::TERM);
    let end = tokio::time::Instant::now() + PATIENCE;
    while process.is_running() {
        if tokio::time::Instant::now() > end {
            process.kill();
            return Err(format!("did not stop within {PATIENCE:?} of SIGTERM"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
