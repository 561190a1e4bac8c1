//! The self-test of an engine: a limit that is not enforced and a profile that is refused must show
//! before the first build, not in it. It needs no image but one made of the supervisor itself.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::models::HostConfig;
use bollard::query_parameters::CreateImageOptions;
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use futures_util::TryStreamExt;
use millrace_supervisor::{SUPERVISOR_PATH, SelfTestFacts};
use sha2::{Digest, Sha256};

use crate::archive;
use crate::attach::{Connection, Receivers};
use crate::engine::Engine;
use crate::error::SandboxError;
use crate::profile::{CAPABILITY_BITS, Profile};
use crate::sandbox::{Container, attach_and_start, create};
use crate::spec::{EXPIRES, MANAGED, SandboxLimits, bare_body, bare_host, timestamp};

/// Memory limit of the test and the memory that it touches, in MiB.
const LIMIT_MIB: u64 = 64;
const TOUCHED_MIB: u64 = 128;
/// The test takes half a second; an engine that needs longer than this is not usable.
const PATIENCE: Duration = Duration::from_secs(30);
const IMAGE: &str = "millrace-selftest";
/// Age below which the image of another release stays: its builder may still be running.
const OTHERS: TimeDelta = TimeDelta::days(1);
/// Podman tags every import so, whatever it is asked for.
const TAG: &str = "latest";

/// What a self-test found that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTest {
    /// Whether device nodes made in a sandbox can be opened.
    pub device_nodes: bool,
    /// The memory limit as the container saw it, in bytes.
    pub memory_limit_bytes: u64,
    /// How long the test took, in milliseconds.
    pub millis: u64,
}

/// Tests that the engine runs containers with this profile and holds them to their memory limit, swap
/// included. Each failure is one sentence that says what to do.
pub async fn self_test(
    engine: &Engine,
    profile: Profile,
    supervisor: &Path,
) -> Result<SelfTest, SandboxError> {
    let started = Instant::now();
    let image = ensure_image(engine, supervisor).await?;
    match engine
        .remove_old_self_tests(&image, Utc::now() - OTHERS)
        .await
    {
        Ok(0) => {}
        Ok(images) => tracing::info!(images, "removed images of self-tests of other releases"),
        Err(error) => tracing::warn!("images of earlier self-tests stay: {error}"),
    }
    let body = {
        let mut host: HostConfig = bare_host(None);
        let limits = SandboxLimits {
            memory_bytes: LIMIT_MIB << 20,
            pids: 64,
            cpus: None,
        };
        limits.apply(&mut host);
        profile.apply(&mut host, true, engine.traits.has_apparmor);
        let call = [SUPERVISOR_PATH, "selftest", &TOUCHED_MIB.to_string()].map(str::to_owned);
        let mut body = bare_body(&image, call.to_vec(), host);
        let expires = timestamp(Utc::now() + TimeDelta::minutes(5));
        body.labels = Some(HashMap::from([
            (MANAGED.to_owned(), "selftest".to_owned()),
            (EXPIRES.to_owned(), expires),
        ]));
        body
    };
    let container = create(engine, body, &image).await;
    let mut container = container.map_err(|error| refused(profile, error))?;
    let facts = run(&container, profile).await;
    container.remove().await?;
    evaluate(&facts?, profile, started)
}

async fn run(container: &Container, profile: Profile) -> Result<SelfTestFacts, SandboxError> {
    let (mut connection, mut receivers) = attach_and_start(container, PATIENCE)
        .await
        .map_err(|error| refused(profile, error))?;
    let Ok(output) =
        tokio::time::timeout(PATIENCE, read_output(&mut connection, &mut receivers)).await
    else {
        return Err(SandboxError::CreateFailed {
            doing: "running the self-test",
            reason: format!("it did not end within {} s", PATIENCE.as_secs()),
        });
    };
    serde_json::from_slice(&output.0).map_err(|_| SandboxError::CreateFailed {
        doing: "running the self-test",
        reason: match output.1.trim() {
            "" => "it ended without an answer".to_owned(),
            stray => stray.to_owned(),
        },
    })
}

/// The log and the other text on stderr of a container, until it has ended.
async fn read_output(connection: &mut Connection, receivers: &mut Receivers) -> (Vec<u8>, String) {
    let mut output = Vec::new();
    while let Some(piece) = receivers.log.recv().await {
        output.extend_from_slice(&piece);
    }
    connection.finish(PATIENCE).await;
    (output, connection.received().stray)
}

/// A container that is refused with nothing unusual in it but its profile is refused for its profile.
fn refused(profile: Profile, error: SandboxError) -> SandboxError {
    match error {
        SandboxError::CreateFailed { reason, .. } => SandboxError::ProfileRefused {
            profile,
            reason: match profile {
                Profile::Privileged => format!(
                    "{reason}; the profile 'capabilities' (MILLRACE_SANDBOX_PROFILE) needs less"
                ),
                Profile::Capabilities => reason,
            },
        },
        other => other,
    }
}

fn evaluate(
    facts: &SelfTestFacts,
    profile: Profile,
    started: Instant,
) -> Result<SelfTest, SandboxError> {
    if facts.survived_by_swap {
        return Err(SandboxError::LimitNotEnforced {
            reason: "a process escaped it into swap; enable the kernel's swap accounting (swapaccount=1) or turn swap off".to_owned(),
        });
    }
    if facts.hog_survived {
        return Err(SandboxError::LimitNotEnforced {
            reason: format!(
                "a process touched {TOUCHED_MIB} MiB under a limit of {LIMIT_MIB} MiB; enable the memory controller for containers"
            ),
        });
    }
    if facts.hog_signal != Some(9) || facts.oom_kills == 0 {
        return Err(SandboxError::LimitNotEnforced {
            reason: "a process over the limit ended, but no kill was counted; the container's memory counters must be readable in it".to_owned(),
        });
    }
    if profile == Profile::Capabilities {
        check_confinement(facts)?;
    }
    Ok(SelfTest {
        device_nodes: facts.device_node_opens == Some(true),
        memory_limit_bytes: facts.memory_limit_bytes.unwrap_or(0),
        millis: started.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
    })
}

fn check_confinement(facts: &SelfTestFacts) -> Result<(), SandboxError> {
    let refuse = |reason: String| {
        Err(SandboxError::ProfileRefused {
            profile: Profile::Capabilities,
            reason,
        })
    };
    let held = facts.capabilities.as_deref().unwrap_or_default();
    match u64::from_str_radix(held, 16) {
        Ok(bits) if bits & !CAPABILITY_BITS != 0 => {
            refuse(format!("a sandbox holds more than it should: {held}"))
        }
        Ok(bits) if bits != CAPABILITY_BITS => {
            refuse(format!("a sandbox holds less than mock needs: {held}"))
        }
        Ok(_) if facts.no_new_privileges != Some(true) => {
            refuse("processes may gain privileges (no-new-privileges is not set)".to_owned())
        }
        Ok(_) => Ok(()),
        Err(_) => refuse("a sandbox cannot read its own capabilities".to_owned()),
    }
}

/// An image that holds the supervisor and nothing else, named by its content, so that it is imported
/// once for each version.
pub(crate) async fn ensure_image(
    engine: &Engine,
    supervisor: &Path,
) -> Result<String, SandboxError> {
    let binary = tokio::fs::read(supervisor).await;
    let binary = binary.map_err(|error| SandboxError::file(supervisor, error))?;
    let repository = format!("{IMAGE}-{}", hex::encode(&Sha256::digest(&binary)[..6]));
    let name = format!("{repository}:{TAG}");
    match engine.image_digest(&name).await {
        Ok(_) => return Ok(name),
        Err(SandboxError::ImageMissing { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut archive = archive::supervisor_archive(&binary);
    archive.resize(archive.len() + 1024, 0);
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(repository),
        tag: Some(TAG.to_owned()),
        changes: vec![format!("LABEL {MANAGED}=selftest")],
        ..CreateImageOptions::default()
    };
    let body = bollard::body_full(Bytes::from(archive));
    let progress = engine.docker.create_image(Some(options), Some(body), None);
    let imported = progress.try_collect::<Vec<_>>().await;
    imported.map_err(|fault| SandboxError::of("importing the self-test's image", &fault))?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> SelfTestFacts {
        SelfTestFacts {
            memory_limit_bytes: Some(LIMIT_MIB << 20),
            hog_signal: Some(9),
            oom_kills: 1,
            device_node_opens: Some(false),
            capabilities: Some("00000000882400fb".to_owned()),
            no_new_privileges: Some(true),
            ..SelfTestFacts::default()
        }
    }

    fn result(facts: &SelfTestFacts) -> Result<SelfTest, String> {
        evaluate(facts, Profile::Capabilities, Instant::now()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_killed_hog_in_a_confined_container_passes() {
        let passed = result(&good()).unwrap();
        assert!(!passed.device_nodes && passed.memory_limit_bytes == 64 << 20);
    }

    #[test]
    fn each_failure_says_what_to_do() {
        let swapped = SelfTestFacts {
            hog_survived: true,
            survived_by_swap: true,
            ..good()
        };
        assert!(result(&swapped).unwrap_err().contains("swapaccount=1"));
        let unlimited = SelfTestFacts {
            hog_survived: true,
            ..good()
        };
        assert!(result(&unlimited).unwrap_err().contains("controller"));
        let blind = SelfTestFacts {
            oom_kills: 0,
            ..good()
        };
        assert!(result(&blind).unwrap_err().contains("counters"));
        let mighty = SelfTestFacts {
            capabilities: Some("000001ffffffffff".to_owned()),
            ..good()
        };
        assert!(result(&mighty).unwrap_err().contains("more"));
        let gaining = SelfTestFacts {
            no_new_privileges: Some(false),
            ..good()
        };
        assert!(result(&gaining).unwrap_err().contains("no-new-privileges"));
    }
}
