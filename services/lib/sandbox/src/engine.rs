//! The container engine: Docker, or Podman by its compatible socket.

use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as EngineFault;
use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum};

use crate::error::SandboxError;

/// Longest wait for an engine's answer to begin, for every call but an upload.
const CALL: Duration = Duration::from_mins(1);
/// Longest wait for the answer to an upload, which comes once everything is unpacked.
pub(crate) const UPLOAD: Duration = Duration::from_mins(15);

/// How long an engine may take until a query shows a change that it has already reported.
pub(crate) const SETTLE: Duration = Duration::from_millis(20);

/// A connection to a container engine. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) docker: Docker,
    pub(crate) traits: Arc<Traits>,
}

/// Properties that do not change while an engine runs.
#[derive(Debug)]
pub(crate) struct Traits {
    pub(crate) is_podman: bool,
    pub(crate) has_apparmor: bool,
}

/// Properties of an engine, as it reports them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Id of the engine: the same for every builder on it, and over its restarts.
    pub id: String,
    /// `Docker` or `Podman`, and the host's name.
    pub name: String,
    /// Version of the engine's server.
    pub version: String,
    /// Memory of the engine's host, in bytes.
    pub memory_bytes: u64,
    /// Number of the host's processors.
    pub cpus: u32,
    /// Version of cgroups, 1 or 2; 0 when the engine does not say.
    pub cgroup_version: u8,
    /// Whether it confines containers by `AppArmor`.
    pub has_apparmor: bool,
}

impl Engine {
    /// Connects to `unix:///path` and checks that an engine answers there.
    pub async fn connect(url: &str) -> Result<Self, SandboxError> {
        const DOING: &str = "connecting";
        let path = url.strip_prefix("unix://").filter(|p| p.starts_with('/'));
        let path = path.ok_or_else(|| SandboxError::BadUrl {
            url: url.to_owned(),
        })?;
        let unreachable = |fault: EngineFault| SandboxError::EngineUnreachable {
            doing: DOING,
            reason: format!("{url}: {fault}"),
        };
        let docker = Docker::connect_with_unix(path, CALL.as_secs(), bollard::API_DEFAULT_VERSION)
            .map_err(unreachable)?
            .negotiate_version()
            .await
            .map_err(unreachable)?;
        let version = docker.version().await.map_err(unreachable)?;
        let components = version.components.unwrap_or_default();
        let is_podman = components.iter().any(|part| part.name.contains("Podman"));
        let info = docker.info().await.map_err(unreachable)?;
        let traits = Traits {
            is_podman,
            has_apparmor: has_apparmor(&info),
        };
        Ok(Self {
            docker,
            traits: Arc::new(traits),
        })
    }

    /// Asks the engine for its properties.
    pub async fn info(&self) -> Result<EngineInfo, SandboxError> {
        let info = self.docker.info().await;
        let info = info.map_err(|fault| SandboxError::of("asking for its properties", &fault))?;
        Ok(self.read_info(&info))
    }

    fn read_info(&self, info: &SystemInfo) -> EngineInfo {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let brand = if self.traits.is_podman {
            "Podman"
        } else {
            "Docker"
        };
        // Podman makes a new id up for each answer; host and storage identify its engine.
        let id = match &info.id {
            Some(id) if !self.traits.is_podman && !id.is_empty() => id.clone(),
            _ => format!(
                "{brand}:{}:{}",
                text(&info.name),
                text(&info.docker_root_dir)
            ),
        };
        EngineInfo {
            id,
            name: format!("{brand} on {}", text(&info.name)),
            version: text(&info.server_version),
            memory_bytes: info.mem_total.and_then(|n| n.try_into().ok()).unwrap_or(0),
            cpus: info.ncpu.and_then(|n| n.try_into().ok()).unwrap_or(1),
            cgroup_version: match info.cgroup_version {
                Some(SystemInfoCgroupVersionEnum::_1) => 1,
                Some(SystemInfoCgroupVersionEnum::_2) => 2,
                Some(SystemInfoCgroupVersionEnum::EMPTY) | None => 0,
            },
            has_apparmor: has_apparmor(info),
        }
    }

    /// The digest that names an image's content on this engine, to be recorded with a result.
    pub async fn image_digest(&self, image: &str) -> Result<String, SandboxError> {
        self.image_facts(image).await.map(|facts| facts.digest)
    }
}

/// Repeats a query until its answer can be decoded. For some hundredths of a second Podman reports a container that is
/// ending in a state that Docker's API does not have.
pub(crate) async fn readable<T, F: Future<Output = Result<T, EngineFault>>>(
    query: impl Fn() -> F,
) -> Result<T, EngineFault> {
    const TRIES: u32 = 50;
    for _ in 0..TRIES {
        match query().await {
            Err(EngineFault::JsonDataError { .. }) => tokio::time::sleep(SETTLE).await,
            answer => return answer,
        }
    }
    query().await
}

fn has_apparmor(info: &SystemInfo) -> bool {
    let options = info.security_options.iter().flatten();
    options
        .into_iter()
        .any(|option| option.contains("apparmor"))
}
