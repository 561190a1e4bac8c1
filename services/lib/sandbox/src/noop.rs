//! The stand-in for an engine that measures everything around a sandbox: it succeeds at once, or after a set time,
//! builds nothing, and says so in the log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use millrace_domain::FileName;
use millrace_supervisor::{Notice, Report, StepEnd, StepReport};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::attach::Ears;
use crate::engine::EngineInfo;
use crate::error::SandboxError;
use crate::result_files::{Collected, CollectedFile};
use crate::sandbox::Ended;
use crate::spec::SandboxFiles;

const LOG: &[u8] =
    b"millrace: this is the no-op stand-in for a sandbox; nothing was built and the result is empty\n";
const RESULT_NAME: &str = "noop.json";
const RESULT: &[u8] = b"{\"noop\":true}\n";
/// What the stand-in offers, in bytes: it uses none of it.
const MEMORY: u64 = 1 << 40;

/// An engine that runs nothing.
#[derive(Debug, Clone)]
pub struct NoopEngine {
    id: String,
    takes: Duration,
}

impl NoopEngine {
    /// An engine of its own for each name: a builder's id, so that builders do not share its memory.
    pub fn new(name: &str) -> Self {
        Self {
            id: format!("noop:{name}"),
            takes: Duration::ZERO,
        }
    }

    /// The same, with sandboxes that end after this time.
    #[must_use]
    pub fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    pub(crate) fn info(&self) -> EngineInfo {
        EngineInfo {
            id: self.id.clone(),
            name: "no-op stand-in".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            memory_bytes: MEMORY,
            cpus: 1,
            cgroup_version: 0,
            has_apparmor: false,
        }
    }
}

/// A sandbox that succeeds.
#[derive(Debug)]
pub(crate) struct NoopSandbox {
    report: Report,
    ends_at: Instant,
    stopped: watch::Sender<bool>,
}

impl NoopSandbox {
    pub(crate) fn start(engine: &NoopEngine, files: &SandboxFiles) -> (Self, Ears) {
        let start = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let steps = files.plan.steps.iter().map(|step| StepReport {
            name: step.name.clone(),
            end: StepEnd::Exit(0),
            start: start.clone(),
            seconds: 0.0,
        });
        let report = Report {
            steps: steps.collect(),
            log_bytes: LOG.len() as u64,
            ..Report::default()
        };
        let (log_in, log) = mpsc::channel(1);
        let (notices_in, notices) = mpsc::channel(1);
        // Both channels are empty and have room for one; their senders end here, and so do the streams.
        let _room = log_in.try_send(Bytes::from_static(LOG));
        let _room = notices_in.try_send(Notice::Report(Box::new(report.clone())));
        let sandbox = Self {
            report,
            ends_at: Instant::now() + engine.takes,
            stopped: watch::Sender::new(false),
        };
        let wishes = mpsc::channel(1).1;
        let ears = Ears {
            log,
            notices,
            wishes,
        };
        (sandbox, ears)
    }

    /// Ends it before its time.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    pub(crate) async fn ended(&self) -> Ended {
        let mut stopped = self.stopped.subscribe();
        if Instant::now() < self.ends_at {
            tokio::select! {
                () = tokio::time::sleep_until(self.ends_at) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        }
        Ended {
            exit_code: 0,
            engine_oom_flag: false,
            report: Some(self.report.clone()),
            was_overdue: false,
            stray: String::new(),
            lost_log_bytes: 0,
        }
    }

    pub(crate) async fn collect(spool_dir: &Path) -> Result<Collected, SandboxError> {
        let path: PathBuf = spool_dir.join(RESULT_NAME);
        let written = tokio::fs::write(&path, RESULT).await;
        written.map_err(|error| SandboxError::file(&path, error))?;
        let name: Result<FileName, _> = RESULT_NAME.parse();
        let files = name.into_iter().map(|name| CollectedFile {
            name,
            size: RESULT.len() as u64,
            sha256: hex::encode(Sha256::digest(RESULT)),
        });
        Ok(Collected {
            files: files.collect(),
            ..Collected::default()
        })
    }
}
