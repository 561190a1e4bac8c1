//! A container that is owned: made, filled, attached and started in one go, removed exactly once, loud
//! when it is left behind.

use std::path::Path;
use std::time::Duration;

use bollard::errors::Error as EngineFault;
use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::{
    AttachContainerOptions, KillContainerOptions, RemoveContainerOptions, UploadToContainerOptions,
};
use futures_util::StreamExt;
use millrace_domain::Backoff;
use millrace_supervisor::{Order, Plan, REPORT_PATH, Report};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::archive;
use crate::attach::{Ears, Line};
use crate::collect;
use crate::engine::{Engine, SETTLE, UPLOAD, readable};
use crate::error::{SandboxError, status};
use crate::network_link::Wiring;
use crate::result_files::{CollectCaps, Collected};
use crate::spec::{SandboxFiles, SandboxSpec};

/// The supervisor ends a sandbox itself; this much after it should have, it is ended from outside.
const OVERDUE: Duration = Duration::from_secs(30);
/// How long the rest of the log may take once the container has ended.
const LAST_LOG: Duration = Duration::from_secs(10);
/// A larger report is none of ours, in bytes.
const MAX_REPORT: u64 = 4 << 20;
/// Tries to hear of a container while its engine does not answer: a minute or more.
const TRIES: u32 = 13;
/// Time before the second of them at most, and before later ones.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(8);

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// PID 1's exit code: 0 when it could report, whatever the build did; 137 when it was killed.
    pub exit_code: i64,
    /// Some process was killed for want of memory, as the engine says. Podman never says so.
    pub engine_oom_flag: bool,
    /// The supervisor's report; none when it was killed itself.
    pub report: Option<Report>,
    /// It was killed from outside, because its supervisor did not keep the wall limit.
    pub was_overdue: bool,
    /// What else was on its stderr, such as the engine's reason for not running it.
    pub stray: String,
    /// Bytes of log that its reader had not taken when the end was due.
    pub lost_log_bytes: u64,
}

/// A container, created and not yet removed.
#[derive(Debug)]
pub(crate) struct Container {
    engine: Engine,
    id: Option<String>,
}

impl Container {
    /// Takes ownership of a created container.
    pub(crate) fn own(engine: &Engine, id: String) -> Self {
        Self {
            engine: engine.clone(),
            id: Some(id),
        }
    }

    /// Its id; empty once removed.
    pub(crate) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Ends and removes it. One that is gone, or that somebody else is removing, counts as removed.
    pub(crate) async fn remove(&mut self) -> Result<(), SandboxError> {
        let Some(id) = self.id.clone() else {
            return Ok(());
        };
        remove(&self.engine, &id).await?;
        self.id = None;
        Ok(())
    }

    /// Removes it after a failure that matters more than a failing removal.
    pub(crate) async fn discard(mut self) {
        if let Err(error) = self.remove().await {
            tracing::error!(%error, "a sandbox that failed to start was left behind");
            self.id = None;
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            tracing::error!(
                container.id = id,
                "a sandbox was dropped without being removed; a sweep has to remove it"
            );
        }
    }
}

/// Removes a container by id, running or not.
pub(crate) async fn remove(engine: &Engine, id: &str) -> Result<(), SandboxError> {
    let options = RemoveContainerOptions {
        force: true,
        v: true,
        link: false,
    };
    match engine.docker.remove_container(id, Some(options)).await {
        Ok(()) => Ok(()),
        Err(fault) if matches!(status(&fault), Some(404 | 409)) => Ok(()),
        Err(fault) => match SandboxError::of("removing a sandbox", &fault) {
            SandboxError::Refused { reason, .. } => Err(SandboxError::RemoveFailed {
                container: id.to_owned(),
                reason,
            }),
            other => Err(other),
        },
    }
}

/// A started sandbox on an engine.
#[derive(Debug)]
pub(crate) struct Running {
    container: Container,
    line: Line,
    _wiring: Wiring,
    overdue: Instant,
    cancel_grace: Duration,
}

impl Running {
    /// Creates, fills, attaches and starts. Whatever fails, no container is left.
    pub(crate) async fn start(
        engine: &Engine,
        spec: &SandboxSpec,
        files: &SandboxFiles,
    ) -> Result<(Self, Ears), SandboxError> {
        let body = spec.to_body(engine.traits.has_apparmor);
        let container = create(engine, body, &spec.image).await?;
        match fill_and_start(&container, files).await {
            Ok((line, mut ears)) => {
                let (_, nobody) = mpsc::channel(1);
                let wishes = std::mem::replace(&mut ears.wishes, nobody);
                let wiring = Wiring::serve(engine, container.id(), spec.network.as_deref(), wishes);
                let running = Self {
                    container,
                    line,
                    _wiring: wiring,
                    overdue: Instant::now() + due_after(&files.plan) + OVERDUE,
                    cancel_grace: seconds(files.plan.cancel_grace_seconds),
                };
                Ok((running, ears))
            }
            Err(error) => {
                container.discard().await;
                Err(error)
            }
        }
    }

    pub(crate) fn id(&self) -> &str {
        self.container.id()
    }

    pub(crate) fn cancel(&self) {
        self.line.order(Order::Cancel);
        self.line
            .shorten_patience(Instant::now() + self.cancel_grace);
    }

    /// Waits for the end. May be dropped and called again.
    pub(crate) async fn wait(&mut self) -> Result<Ended, SandboxError> {
        let ended = tokio::time::timeout_at(
            self.overdue,
            until_stopped(&self.container.engine, self.id()),
        )
        .await;
        let was_overdue = ended.is_err();
        let (exit_code, engine_oom_flag) = if let Ok(end) = ended {
            end?
        } else {
            tracing::error!(
                container.id = self.id(),
                "a sandbox outlived its limit and is killed from outside"
            );
            self.kill().await?;
            until_stopped(&self.container.engine, self.id()).await?
        };
        self.line.finish(LAST_LOG).await;
        let heard = self.line.heard();
        let report = match heard.report {
            Some(report) => Some(report),
            None => self.filed_report().await?,
        };
        Ok(Ended {
            exit_code,
            engine_oom_flag,
            report,
            was_overdue,
            stray: heard.stray,
            lost_log_bytes: heard.lost_log_bytes,
        })
    }

    async fn filed_report(&self) -> Result<Option<Report>, SandboxError> {
        let container = (&self.container.engine, self.id());
        let text = collect::read_small(container, REPORT_PATH, MAX_REPORT).await?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    pub(crate) async fn collect(
        &self,
        result_dir: &str,
        spool_dir: &Path,
        caps: CollectCaps,
    ) -> Result<Collected, SandboxError> {
        let container = (&self.container.engine, self.id());
        collect::collect(container, result_dir, spool_dir, caps).await
    }

    pub(crate) async fn kill(&self) -> Result<(), SandboxError> {
        self.line.shorten_patience(Instant::now());
        let options = KillContainerOptions {
            signal: "SIGKILL".to_owned(),
        };
        let docker = &self.container.engine.docker;
        match docker.kill_container(self.id(), Some(options)).await {
            Ok(()) => Ok(()),
            // Gone, or not running: what was wanted. Podman says 500 for the latter.
            Err(fault) if matches!(status(&fault), Some(404 | 409)) => Ok(()),
            Err(fault) if fault.to_string().contains("only kill running") => Ok(()),
            Err(fault) => Err(SandboxError::of("killing a sandbox", &fault)),
        }
    }

    pub(crate) async fn remove(&mut self) -> Result<(), SandboxError> {
        self.line.hang_up();
        self.container.remove().await
    }
}

/// Waits until the engine says that a container has stopped; asks again while the engine does not answer. Gives its exit
/// code, and whether something in it was killed for want of memory.
pub(crate) async fn until_stopped(engine: &Engine, id: &str) -> Result<(i64, bool), SandboxError> {
    let mut silence = 0;
    let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
    loop {
        // Only a hint when to look: the state tells everything, also after a lost connection.
        let hint = Box::pin(engine.docker.wait_container(id, None))
            .next()
            .await;
        let says_stopped = matches!(
            hint,
            Some(Ok(_) | Err(EngineFault::DockerContainerWaitError { .. }))
        );
        match state(engine, id).await {
            Ok(Some(end)) => return Ok(end),
            Ok(None) => {
                silence = 0;
                backoff.reset();
            }
            Err(error) if error.is_unreachable() && silence < TRIES => silence += 1,
            Err(error) => return Err(error),
        }
        let pause = if says_stopped {
            SETTLE
        } else {
            backoff.delay(rand::random())
        };
        tokio::time::sleep(pause).await;
    }
}

/// Exit code and out-of-memory flag; none while it runs.
async fn state(engine: &Engine, id: &str) -> Result<Option<(i64, bool)>, SandboxError> {
    let found = readable(|| engine.docker.inspect_container(id, None)).await;
    let found = found.map_err(|fault| SandboxError::about(id, "looking at a sandbox", &fault))?;
    let state = found.state.unwrap_or_default();
    let has_stopped = matches!(
        state.status,
        Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD)
    );
    Ok(has_stopped.then(|| {
        (
            state.exit_code.unwrap_or(-1),
            state.oom_killed.unwrap_or(false),
        )
    }))
}

/// When everything in a sandbox has been killed, counted from its start.
fn due_after(plan: &Plan) -> Duration {
    seconds(plan.wall_limit_seconds) + seconds(plan.timeout_grace_seconds)
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

/// Creates a container and owns it.
pub(crate) async fn create(
    engine: &Engine,
    body: bollard::models::ContainerCreateBody,
    image: &str,
) -> Result<Container, SandboxError> {
    match engine.docker.create_container(None, body).await {
        Ok(created) => Ok(Container::own(engine, created.id)),
        Err(fault) if is_image_missing(&fault) => Err(SandboxError::ImageMissing {
            image: image.to_owned(),
        }),
        Err(fault) => Err(failed("being created", &fault)),
    }
}

fn is_image_missing(fault: &EngineFault) -> bool {
    let text = fault.to_string().to_lowercase();
    status(fault) == Some(404) && text.contains("image") || text.contains("image not known")
}

async fn fill_and_start(
    container: &Container,
    files: &SandboxFiles,
) -> Result<(Line, Ears), SandboxError> {
    let archive = archive::of_files(files).await?;
    let options = UploadToContainerOptions {
        path: "/".to_owned(),
        ..UploadToContainerOptions::default()
    };
    let docker = container.engine.docker.clone().with_timeout(UPLOAD);
    docker
        .upload_to_container(
            container.id(),
            Some(options),
            bollard::body_try_stream(archive),
        )
        .await
        .map_err(|fault| failed("being filled", &fault))?;
    attach_and_start(container, due_after(&files.plan)).await
}

/// Attaches first: what a container says before anybody is attached is lost. It is due to end `due`
/// from now.
pub(crate) async fn attach_and_start(
    container: &Container,
    due: Duration,
) -> Result<(Line, Ears), SandboxError> {
    let options = AttachContainerOptions {
        stream: true,
        stdin: true,
        stdout: true,
        stderr: true,
        ..AttachContainerOptions::default()
    };
    let docker = &container.engine.docker;
    let attached = docker
        .attach_container(container.id(), Some(options))
        .await
        .map_err(|fault| failed("being attached to", &fault))?;
    let opened = Line::open(attached, Instant::now() + due);
    docker
        .start_container(container.id(), None)
        .await
        .map_err(|fault| failed("being started", &fault))?;
    Ok(opened)
}

fn failed(doing: &'static str, fault: &EngineFault) -> SandboxError {
    match SandboxError::of(doing, fault) {
        SandboxError::Refused { doing, reason } => SandboxError::CreateFailed { doing, reason },
        other => other,
    }
}
