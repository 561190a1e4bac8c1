//! Bakes the image of a chroot: a container from the base image runs mock's init and is committed under the chroot's
//! image name, because an image build may not mount.
//!
//! The container's name is made from the image's and is the lock: an engine gives a name away once, so of several
//! builders on one engine only one bakes. It carries labels of its own and none of a sandbox's, since an image keeps the
//! labels of its container and hands them on to each sandbox that is made from it.

use std::collections::HashMap;

use bollard::container::LogOutput;
use bollard::errors::Error as EngineFault;
use bollard::models::{
    ContainerConfig, ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum,
    HostConfigLogConfig,
};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, ListContainersOptions, LogsOptions,
};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::StreamExt;
use millrace_domain::{BuilderId, ChrootName, ImageName};

use crate::engine::{Engine, readable};
use crate::error::{SandboxError, status};
use crate::image::{BAKED, time};
use crate::profile::Profile;
use crate::sandbox::{self, Container};
use crate::spec::{SandboxLimits, bare_body, bare_host, timestamp};
use crate::sweep::{SweepFilter, Swept};

/// Prefix of a baking container's name; the image's name follows.
const NAME: &str = "millrace-bake-";
/// Label with the id of the builder that bakes.
const BUILDER: &str = "millrace.bake.builder";
/// Label with the moment from which on anybody may remove the container, RFC 3339.
const EXPIRES: &str = "millrace.bake.expires";
/// Label with the moment at which it was made, RFC 3339.
const BEGUN: &str = "millrace.bake.begun";
/// How long an ended or never started container belongs to its builder; after that the builder counts as gone.
const ABANDONED: TimeDelta = TimeDelta::seconds(90);
/// Weight of a bake's processor time, a quarter of a build's; it matters only while processors are short.
const CPU_SHARES: i64 = 256;
/// Number of mock's last lines that are searched for the reason of a failure.
const LAST_LINES: &str = "60";
/// Longest reason, in characters.
const MAX_REASON: usize = 500;
/// mock's environment: it is started by root and builds as the user named here.
const ENVIRONMENT: [&str; 3] = ["SUDO_UID=1000", "SUDO_GID=1000", "LANG=C.UTF-8"];

/// Specification of a bake.
#[derive(Debug, Clone)]
pub struct BakeSpec {
    /// Id of the builder that bakes, for the container's label.
    pub builder: BuilderId,
    /// Name of the chroot, for the image's label.
    pub chroot: ChrootName,
    /// The name of mock's configuration.
    pub mock_root: ChrootName,
    /// Base image that it starts from; pulled where the engine lacks it.
    pub base: ImageName,
    /// Name that the new image gets.
    pub image: ImageName,
    /// Start of the bake, from which the image's age counts.
    pub begun_at: DateTime<Utc>,
    /// From this time on, any builder on the engine removes its container.
    pub expires: DateTime<Utc>,
    /// Capabilities and devices that mock gets.
    pub profile: Profile,
    /// Whether device nodes made in a container can be opened, as the self-test found.
    pub device_nodes: bool,
    /// Limits on memory, processes and processors.
    pub limits: SandboxLimits,
    /// The network with the package mirrors.
    pub network: String,
}

/// A running bake. Its container exists until [`Bake::remove`].
#[derive(Debug)]
pub struct Bake {
    engine: Engine,
    container: Container,
    spec: BakeSpec,
    base_digest: String,
}

impl Engine {
    /// Begins a bake; none where another builder on the engine is baking this image.
    pub async fn begin_bake(&self, spec: &BakeSpec) -> Result<Option<Bake>, SandboxError> {
        let base = self.ensure_pulled(&spec.base).await?;
        let Some(container) = self.take_name(spec).await? else {
            return Ok(None);
        };
        if let Err(fault) = self.docker.start_container(container.id(), None).await {
            container.discard().await;
            return Err(SandboxError::of("starting a bake", &fault));
        }
        Ok(Some(Bake {
            engine: self.clone(),
            container,
            spec: spec.clone(),
            base_digest: base.digest,
        }))
    }

    /// Creates the container under its name; none where another builder holds the name. A container that a gone builder
    /// left there is removed first.
    async fn take_name(&self, spec: &BakeSpec) -> Result<Option<Container>, SandboxError> {
        let name = container_name(&spec.image);
        for _ in 0..2 {
            let options = CreateContainerOptions {
                name: Some(name.clone()),
                ..CreateContainerOptions::default()
            };
            let body = body(spec, self.traits.has_apparmor);
            match self.docker.create_container(Some(options), body).await {
                Ok(made) => return Ok(Some(Container::own(self, made.id))),
                Err(fault) if is_taken(&fault) => {}
                Err(fault) => return Err(SandboxError::of("creating a bake", &fault)),
            }
            let found = readable(|| self.docker.inspect_container(&name, None)).await;
            match found {
                Ok(found) if is_abandoned(&found, Utc::now()) => {
                    sandbox::remove(self, &found.id.unwrap_or(name.clone())).await?;
                }
                Ok(_) => return Ok(None),
                // Its owner was just done with it.
                Err(fault) if status(&fault) == Some(404) => {}
                Err(fault) => return Err(SandboxError::of("looking at a bake", &fault)),
            }
        }
        Ok(None)
    }

    /// Removes baking containers without an owner, as [`Engine::sweep`] does sandboxes.
    pub(crate) async fn sweep_bakes(
        &self,
        filter: SweepFilter,
    ) -> Result<Vec<Swept>, SandboxError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([
                ("label".to_owned(), vec![EXPIRES.to_owned()]),
                ("name".to_owned(), vec![NAME.to_owned()]),
            ])),
            ..ListContainersOptions::default()
        };
        let found = readable(|| self.docker.list_containers(Some(options.clone()))).await;
        let found = found.map_err(|fault| SandboxError::of("listing bakes", &fault))?;
        let mut swept = Vec::new();
        for container in found {
            let labels = container.labels.unwrap_or_default();
            // A sandbox has these labels from its image, but never such a name.
            let is_bake = (container.names.iter().flatten())
                .any(|name| name.trim_start_matches('/').starts_with(NAME));
            let taken = filter.takes(labels.get(BUILDER), labels.get(EXPIRES));
            if let Some(id) = container.id.filter(|_| is_bake && taken) {
                sandbox::remove(self, &id).await?;
                swept.push(Swept {
                    container_id: id,
                    attempt: String::new(),
                });
            }
        }
        Ok(swept)
    }
}

impl Bake {
    /// Waits for mock to end; the error quotes mock where it failed.
    pub async fn wait(&self) -> Result<(), SandboxError> {
        match sandbox::until_stopped(&self.engine, self.container.id()).await? {
            (0, _) => Ok(()),
            (code, killed) => {
                let memory = if killed {
                    ", killed because it was out of memory (see MILLRACE_BAKE_MEMORY_MB)"
                } else {
                    ""
                };
                let reason = self.last_lines().await;
                Err(SandboxError::BakeFailed {
                    reason: format!("mock --init ended with exit code {code}{memory}: {reason}"),
                })
            }
        }
    }

    /// Commits the image under its name, which an earlier image loses at the same moment. Returns the digest.
    pub async fn commit(&self) -> Result<String, SandboxError> {
        let (repository, tag) = self.spec.image.repository_and_tag();
        let options = CommitContainerOptions {
            container: Some(self.container.id().to_owned()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            pause: false,
            changes: Some(changes(&self.spec, &self.base_digest)),
            ..CommitContainerOptions::default()
        };
        let docker = self
            .engine
            .docker
            .clone()
            .with_timeout(crate::engine::UPLOAD);
        let made = docker
            .commit_container(options, ContainerConfig::default())
            .await
            .map_err(|fault| SandboxError::of("committing a bake", &fault))?;
        Ok(made.id)
    }

    /// Kills and removes its container, whether mock has ended or not.
    pub async fn remove(&mut self) -> Result<(), SandboxError> {
        self.container.remove().await
    }

    async fn last_lines(&self) -> String {
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            tail: LAST_LINES.to_owned(),
            ..LogsOptions::default()
        };
        let mut pieces = self.engine.docker.logs(self.container.id(), Some(options));
        let mut text = String::new();
        while let Some(Ok(piece)) = pieces.next().await {
            let (LogOutput::StdErr { message }
            | LogOutput::StdOut { message }
            | LogOutput::StdIn { message }
            | LogOutput::Console { message }) = piece;
            text.push_str(&String::from_utf8_lossy(&message));
        }
        reason_in(&text)
    }
}

/// mock's first error line, or else the last line of its log.
fn reason_in(log: &str) -> String {
    let lines = || log.lines().map(str::trim).filter(|line| !line.is_empty());
    // mock prints the cause first and the failed command after it.
    let line = lines().find(|line| line.starts_with("ERROR: ") && !line.contains("Exception("));
    let line = line
        .or_else(|| lines().next_back())
        .unwrap_or("it said nothing");
    let plain = line.chars().filter(|c| !c.is_control());
    plain.take(MAX_REASON).collect()
}

fn container_name(image: &ImageName) -> String {
    format!("{NAME}{}", image.as_str().replace(['/', ':'], "."))
}

fn body(spec: &BakeSpec, has_apparmor: bool) -> ContainerCreateBody {
    let mut host = bare_host(Some(&spec.network));
    // Nothing is attached to it: mock's few lines are read once it has failed.
    host.log_config = Some(HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(HashMap::from([("max-size".to_owned(), "1m".to_owned())])),
    });
    host.cpu_shares = Some(CPU_SHARES);
    spec.limits.apply(&mut host);
    spec.profile
        .apply(&mut host, spec.device_nodes, has_apparmor);
    // An empty word: no entrypoint, neither the base's nor one that the image would inherit.
    let mut body = bare_body(spec.base.as_str(), vec![String::new()], host);
    let mock = [
        "mock",
        "-r",
        spec.mock_root.as_str(),
        "--isolation",
        "simple",
        "--init",
    ];
    let words = ["env"].iter().chain(&ENVIRONMENT).chain(&mock);
    body.cmd = Some(words.map(|word| (*word).to_owned()).collect());
    body.open_stdin = Some(false);
    body.stdin_once = Some(false);
    body.attach_stdin = Some(false);
    body.attach_stdout = Some(false);
    body.attach_stderr = Some(false);
    body.labels = Some(HashMap::from([
        (BUILDER.to_owned(), spec.builder.to_string()),
        (EXPIRES.to_owned(), timestamp(spec.expires)),
        (BEGUN.to_owned(), timestamp(spec.begun_at)),
    ]));
    body
}

/// All values are of an allow-list of characters, so none of them is code here.
fn changes(spec: &BakeSpec, base_digest: &str) -> String {
    // Finer than seconds: a fresh image that is asked for twice in one second is made twice.
    let baked = spec.begun_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    [
        "CMD [\"/bin/bash\"]".to_owned(),
        format!("LABEL millrace.chroot={}", spec.chroot),
        format!("LABEL millrace.image={}", spec.image),
        format!("LABEL millrace.base={base_digest}"),
        format!("LABEL {BAKED}={baked}"),
    ]
    .join("\n")
}

fn is_taken(fault: &EngineFault) -> bool {
    status(fault) == Some(409) || fault.to_string().contains("already in use")
}

/// Whether the builder that made this container counts as gone.
fn is_abandoned(found: &ContainerInspectResponse, now: DateTime<Utc>) -> bool {
    let labels = found.config.as_ref().and_then(|c| c.labels.as_ref());
    let label = |name: &str| labels.and_then(|labels| time(labels.get(name)?));
    // Labels that cannot be read protect nothing.
    if label(EXPIRES).is_none_or(|expires| expires < now) {
        return true;
    }
    let state = found.state.as_ref();
    let idle_since = match state.and_then(|state| state.status) {
        Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => {
            state.and_then(|state| time(state.finished_at.as_deref()?))
        }
        Some(ContainerStateStatusEnum::CREATED) => label(BEGUN),
        _ => return false,
    };
    idle_since.is_none_or(|since| since + ABANDONED < now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ContainerState;

    fn found(
        status: ContainerStateStatusEnum,
        finished: &str,
        expires: &str,
    ) -> ContainerInspectResponse {
        let labels = [(EXPIRES, expires), (BEGUN, "2027-01-15T07:00:00Z")];
        ContainerInspectResponse {
            config: Some(ContainerConfig {
                labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
                ..ContainerConfig::default()
            }),
            state: Some(ContainerState {
                status: Some(status),
                finished_at: Some(finished.to_owned()),
                ..ContainerState::default()
            }),
            ..ContainerInspectResponse::default()
        }
    }

    #[test]
    fn a_bake_is_left_alone_while_its_builder_may_live() {
        use ContainerStateStatusEnum::{CREATED, EXITED, RUNNING};
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (past, future) = ("2027-01-15T07:59:59Z", "2027-01-15T08:10:00Z");
        let just = "2027-01-15T07:59:00.123Z";
        assert!(!is_abandoned(&found(RUNNING, "", future), now));
        assert!(is_abandoned(&found(RUNNING, "", past), now));
        assert!(
            !is_abandoned(&found(EXITED, just, future), now),
            "it is being committed"
        );
        assert!(is_abandoned(
            &found(EXITED, "2027-01-15T07:50:00Z", future),
            now
        ));
        assert!(
            is_abandoned(&found(CREATED, "", future), now),
            "made an hour ago"
        );
        assert!(is_abandoned(&found(EXITED, just, "soon"), now));
    }

    #[test]
    fn the_reason_is_mocks_own_error() {
        let log = "INFO: mock starting\nStart: run\nERROR: Could not find required config file: /etc/mock/x.cfg\nERROR: Exception(x)\n";
        assert!(reason_in(log).contains("config file"));
        assert_eq!(reason_in("a\n\u{1b}[2Jb\n\n"), "[2Jb");
        assert_eq!(reason_in(""), "it said nothing");
    }

    #[test]
    fn a_name_for_an_image_is_one_that_engines_accept() {
        let name = |image: &str| container_name(&image.parse().unwrap());
        assert_eq!(name("h:5000/a/b:1"), "millrace-bake-h.5000.a.b.1");
    }
}
