//! An owned container: created, filled, attached and started in one call, removed exactly once, and logged as an error
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
use millrace_supervisor::{Plan, REPORT_PATH, Report, SupervisorCommand};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::archive;
use crate::attach::{Connection, Receivers};
use crate::collect::ContainerArchive;
use crate::engine::{Engine, SETTLE, UPLOAD, readable};
use crate::error::{SandboxError, status};
use crate::network_link::NetworkLink;
use crate::result_files::{CollectCaps, Collected};
use crate::spec::{SandboxFiles, SandboxSpec};

/// The supervisor ends a sandbox itself; this long after it should have, the container is killed from outside.
const OVERDUE: Duration = Duration::from_secs(30);
/// How long the rest of the log may take once the container has ended.
const LAST_LOG: Duration = Duration::from_secs(10);
/// Largest report that is read, in bytes.
const MAX_REPORT: u64 = 4 << 20;
/// Tries to learn a container's state while its engine does not answer: a minute or more.
const TRIES: u32 = 13;
/// Time before the second of them at most, and before later ones.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(8);

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// PID 1's exit code: 0 when it could report, whatever the build did; 137 when it was killed.
    pub exit_code: i64,
    /// Whether the engine reports a process killed by the out-of-memory killer. Podman never does.
    pub engine_oom_flag: bool,
    /// The supervisor's report; none when it was killed itself.
    pub report: Option<Report>,
    /// Whether it was killed from outside, because its supervisor did not enforce the wall limit.
    pub was_overdue: bool,
    /// Other text on its stderr, such as the engine's reason for not running it.
    pub stray: String,
    /// Bytes of log that its reader had not read when the end was due.
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

    /// The engine's id of the container; empty once removed.
    pub(crate) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Kills and removes it. One that is gone, or that another caller is removing, counts as removed.
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
    connection: Connection,
    _network_link: NetworkLink,
    overdue: Instant,
    cancel_grace: Duration,
}

impl Running {
    /// Creates, fills, attaches and starts. Whatever fails, no container is left.
    pub(crate) async fn start(
        engine: &Engine,
        spec: &SandboxSpec,
        files: &SandboxFiles,
    ) -> Result<(Self, Receivers), SandboxError> {
        let body = spec.to_body(engine.traits.has_apparmor);
        let container = create(engine, body, &spec.image).await?;
        match fill_and_start(&container, files).await {
            Ok((connection, mut receivers)) => {
                let (_, unused) = mpsc::channel(1);
                let network_requests = std::mem::replace(&mut receivers.network_requests, unused);
                let network_link = NetworkLink::serve(
                    engine,
                    container.id(),
                    spec.network.as_deref(),
                    network_requests,
                );
                let running = Self {
                    container,
                    connection,
                    _network_link: network_link,
                    overdue: Instant::now() + due_after(&files.plan) + OVERDUE,
                    cancel_grace: seconds(files.plan.cancel_grace_seconds),
                };
                Ok((running, receivers))
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
        self.connection.send(SupervisorCommand::Cancel);
        self.connection
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
        self.connection.finish(LAST_LOG).await;
        let received = self.connection.received();
        let report = match received.report {
            Some(report) => Some(report),
            None => self.report_from_file().await?,
        };
        Ok(Ended {
            exit_code,
            engine_oom_flag,
            report,
            was_overdue,
            stray: received.stray,
            lost_log_bytes: received.lost_log_bytes,
        })
    }

    async fn report_from_file(&self) -> Result<Option<Report>, SandboxError> {
        let archive = self.archive();
        let text = archive.read_small(REPORT_PATH, MAX_REPORT).await?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    pub(crate) async fn collect(
        &self,
        result_dir: &str,
        spool_dir: &Path,
        caps: CollectCaps,
    ) -> Result<Collected, SandboxError> {
        self.archive().collect(result_dir, spool_dir, caps).await
    }

    fn archive(&self) -> ContainerArchive<'_> {
        ContainerArchive {
            engine: &self.container.engine,
            container: self.id(),
        }
    }

    pub(crate) async fn kill(&self) -> Result<(), SandboxError> {
        self.connection.shorten_patience(Instant::now());
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
        self.connection.close();
        self.container.remove().await
    }
}

/// Waits until the engine says that a container has stopped; asks again while the engine does not answer. Returns its
/// exit code, and whether the out-of-memory killer ended a process in it.
pub(crate) async fn until_stopped(engine: &Engine, id: &str) -> Result<(i64, bool), SandboxError> {
    let mut silence = 0;
    let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
    loop {
        // Only a hint when to ask: the state says everything, also after a lost connection.
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

/// Exit code and out-of-memory flag of a container; none while it runs.
async fn state(engine: &Engine, id: &str) -> Result<Option<(i64, bool)>, SandboxError> {
    let found = readable(|| engine.docker.inspect_container(id, None)).await;
    let found = found.map_err(|fault| SandboxError::about(id, "inspecting a sandbox", &fault))?;
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

/// Time from a sandbox's start until its supervisor has killed everything in it.
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
) -> Result<(Connection, Receivers), SandboxError> {
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

/// Attaches before the start, since output before that is lost. The container is due to end `due` from now.
pub(crate) async fn attach_and_start(
    container: &Container,
    due: Duration,
) -> Result<(Connection, Receivers), SandboxError> {
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
    let opened = Connection::open(attached, Instant::now() + due);
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
