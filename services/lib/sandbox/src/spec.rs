//! The specification of a sandbox, and its translation into an engine's request to create a container.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use chrono::{DateTime, SecondsFormat, Utc};
use millrace_domain::{AttemptId, BuilderId};
use millrace_supervisor::{PLAN_PATH, Plan, SUPERVISOR_PATH};

use crate::profile::Profile;

/// Label with the attempt's id.
pub(crate) const ATTEMPT: &str = "millrace.attempt";
/// Label with the builder's id.
pub(crate) const BUILDER: &str = "millrace.builder";
/// Label with the moment from which on anybody may remove the container, RFC 3339.
pub(crate) const EXPIRES: &str = "millrace.expires";
/// Label of networks and images that Millrace made.
pub(crate) const MANAGED: &str = "millrace.managed";

/// Host name of every sandbox: a fixed one, since packages may record it.
const HOSTNAME: &str = "millrace";

/// Specification of a sandbox to start.
#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// Id of the attempt it is for, for the container's label.
    pub attempt: AttemptId,
    /// Id of the builder that owns it, for the container's label.
    pub builder: BuilderId,
    /// From this time on, any builder on the engine removes the container.
    pub expires: DateTime<Utc>,
    /// Name of the chroot's image on the engine.
    pub image: String,
    /// Capabilities and devices that it gets.
    pub profile: Profile,
    /// Whether device nodes made in it can be opened, as the self-test found.
    pub device_nodes: bool,
    /// Limits on memory, processes and processors.
    pub limits: SandboxLimits,
    /// The network it is connected to; none means loopback only.
    pub network: Option<String>,
    /// Environment of the supervisor and, below the plan's own, of every step.
    pub env: Vec<(String, String)>,
}

/// Limits of a container that the engine enforces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SandboxLimits {
    /// Memory and swap together, in bytes.
    pub memory_bytes: u64,
    /// Largest number of processes and threads at a time.
    pub pids: u32,
    /// Number of processors, fractions included; none means all.
    pub cpus: Option<f64>,
}

/// Files that are put into a sandbox before it starts.
#[derive(Debug, Clone)]
pub struct SandboxFiles {
    /// Path of the static supervisor program on the builder's disk.
    pub supervisor: PathBuf,
    /// Plan of steps for the supervisor.
    pub plan: Plan,
    /// Path of the source package on the builder's disk; none where the plan needs none.
    pub source: Option<PathBuf>,
    /// Largest source that is accepted, in bytes.
    pub max_source_bytes: u64,
    /// Programs of the builder's, as pairs of path in the sandbox and text.
    pub programs: Vec<(&'static str, &'static str)>,
    /// Paths of packages that were built before, on the builder's disk. In the sandbox they lie in one folder, under
    /// numbers as names.
    pub packages: Vec<PathBuf>,
}

impl SandboxLimits {
    pub(crate) fn apply(self, host: &mut HostConfig) {
        let memory = i64::try_from(self.memory_bytes).unwrap_or(i64::MAX);
        host.memory = Some(memory);
        // The engine's "swap" limit is memory and swap together; left out it would be twice the memory.
        host.memory_swap = Some(memory);
        host.pids_limit = Some(self.pids.into());
        host.nano_cpus = self.cpus.map(nano_cpus);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float cast saturates, and a billionth of a processor is lost at most"
)]
fn nano_cpus(cpus: f64) -> i64 {
    (cpus * 1e9) as i64
}

impl SandboxSpec {
    pub(crate) fn to_body(&self, has_apparmor: bool) -> ContainerCreateBody {
        let mut host = bare_host(self.network.as_deref());
        self.limits.apply(&mut host);
        self.profile
            .apply(&mut host, self.device_nodes, has_apparmor);
        let entrypoint = vec![SUPERVISOR_PATH.to_owned(), PLAN_PATH.to_owned()];
        let mut body = bare_body(&self.image, entrypoint, host);
        body.env = Some(
            self.env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        );
        body.labels = Some(HashMap::from([
            (ATTEMPT.to_owned(), self.attempt.to_string()),
            (BUILDER.to_owned(), self.builder.to_string()),
            (EXPIRES.to_owned(), timestamp(self.expires)),
        ]));
        body
    }
}

/// A request for a container that runs the supervisor, with neither limits nor profile yet.
pub(crate) fn bare_body(
    image: &str,
    entrypoint: Vec<String>,
    host: HostConfig,
) -> ContainerCreateBody {
    ContainerCreateBody {
        hostname: Some(HOSTNAME.to_owned()),
        image: Some(image.to_owned()),
        entrypoint: Some(entrypoint),
        // An image's own command would be handed to the supervisor.
        cmd: Some(Vec::new()),
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        tty: Some(false),
        open_stdin: Some(true),
        // Without it the end of our input never reaches the supervisor, whose dead man's switch it is.
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        // mock ends cleanly on SIGINT and with a traceback on SIGTERM.
        stop_signal: Some("SIGINT".to_owned()),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

pub(crate) fn bare_host(network: Option<&str>) -> HostConfig {
    HostConfig {
        network_mode: Some(network.unwrap_or("none").to_owned()),
        // The log is taken by attach; a driver would store all of it a second time.
        log_config: Some(HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        }),
        ..HostConfig::default()
    }
}

pub(crate) fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SandboxSpec {
        SandboxSpec {
            attempt: AttemptId::generate(),
            builder: BuilderId::generate(),
            expires: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            image: "chroot:1".to_owned(),
            profile: Profile::Capabilities,
            device_nodes: true,
            limits: SandboxLimits {
                memory_bytes: 512 << 20,
                pids: 4096,
                cpus: Some(1.5),
            },
            network: None,
            env: vec![("LANG".to_owned(), "C.UTF-8".to_owned())],
        }
    }

    #[test]
    fn memory_and_swap_share_one_limit() {
        let host = spec().to_body(false).host_config.unwrap();
        assert_eq!(host.memory, host.memory_swap);
        assert_eq!(host.memory, Some(512 << 20));
        assert_eq!(host.nano_cpus, Some(1_500_000_000));
    }

    #[test]
    fn nothing_of_the_host_is_mounted_and_nothing_is_logged_twice() {
        let body = spec().to_body(false);
        let host = body.host_config.unwrap();
        assert!(host.binds.is_none() && host.mounts.is_none() && host.privileged.is_none());
        assert_eq!(host.log_config.unwrap().typ.unwrap(), "none");
        assert_eq!(host.network_mode.unwrap(), "none");
        assert_eq!(body.stdin_once, Some(true));
    }

    #[test]
    fn labels_name_attempt_builder_and_expiry() {
        let spec = spec();
        let labels = spec.to_body(false).labels.unwrap();
        assert_eq!(labels[ATTEMPT], spec.attempt.to_string());
        assert_eq!(labels[BUILDER], spec.builder.to_string());
        assert_eq!(labels[EXPIRES], "2027-01-15T08:00:00Z");
    }
}
