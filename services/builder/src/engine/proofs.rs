//! Whether builds in a chroot's image are unprivileged. An image whose own bake proved that under this builder's profile
//! says so; any other image, such as one that was made elsewhere, is proved here in a sandbox before a job of its chroot
//! is claimed. An image that fails counts as missing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use millrace_domain::{AttemptId, BuilderId, ChrootName};
use millrace_sandbox::{
    ImageFacts, PROOF_SOURCE, Runtime, SandboxError, SandboxFiles, SandboxLimits, SandboxSpec,
    Verdict,
};
use millrace_supervisor::{Report, SOURCE_PATH, StepEnd};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use crate::config::sandbox::SandboxSettings;
use crate::mock::plan;

/// Wall limit of a proof, in seconds; it takes about two.
const WITHIN: u32 = 120;
/// An image that failed is tried again after this time: a mirror that was away may be back.
const AGAIN_AFTER: Duration = Duration::from_mins(10);
/// Memory of a proof's sandbox, in bytes. Like a bake's it is not taken from the builds.
const MEMORY: u64 = 512 << 20;
/// The most processes of a proof.
const PIDS: u32 = 512;
/// How much of a proof's log is read, in bytes.
const LOG_CAP: usize = 4 << 20;

/// What is known of the images that were proved here. Clones share it.
#[derive(Debug, Clone)]
pub struct Proofs {
    builder: BuilderId,
    runtime: Runtime,
    settings: SandboxSettings,
    /// By the image's digest. Locked during a proof, so that an image is proved once.
    known: Arc<Mutex<BTreeMap<String, Known>>>,
}

/// A proof that was made here.
#[derive(Debug)]
struct Known {
    result: Result<(), String>,
    at: Instant,
}

impl Known {
    /// Whether it failed a short time ago.
    fn is_refusal(&self) -> bool {
        self.result.is_err() && self.at.elapsed() < AGAIN_AFTER
    }
}

impl Proofs {
    /// Nothing is known yet.
    pub fn new(builder: BuilderId, runtime: Runtime, settings: SandboxSettings) -> Self {
        Self {
            builder,
            runtime,
            settings,
            known: Arc::default(),
        }
    }

    /// Whether builds in the image are unprivileged, or why the chroot is not offered. May start a sandbox.
    pub async fn check(
        &self,
        image: &str,
        facts: &ImageFacts,
        mock_root: &ChrootName,
    ) -> Result<(), String> {
        let is_noop = matches!(self.runtime, Runtime::Noop(_));
        if is_noop || is_proved(facts, &self.settings.profile.to_string()) {
            return Ok(());
        }
        let mut known = self.known.lock().await;
        if let Some(found) = known.get(&facts.digest)
            && (found.result.is_ok() || found.is_refusal())
        {
            return found.result.clone();
        }
        tracing::info!(image, "proving that builds in this image are unprivileged");
        let result = match self.prove(image, mock_root).await {
            Ok(Verdict::Unprivileged) => Ok(()),
            Ok(verdict) => Err(verdict.to_string()),
            Err(error) => Err(format!("{}: {error}", Verdict::Unknown)),
        };
        if let Err(reason) = &result {
            tracing::error!(image, "the chroot of this image is not offered: {reason}");
        }
        let found = Known {
            result: result.clone(),
            at: Instant::now(),
        };
        known.insert(facts.digest.clone(), found);
        result
    }

    /// Whether this image failed here a short time ago.
    pub async fn is_refused(&self, facts: &ImageFacts) -> bool {
        let known = self.known.lock().await;
        known.get(&facts.digest).is_some_and(Known::is_refusal)
    }

    async fn prove(&self, image: &str, mock_root: &ChrootName) -> Result<Verdict, SandboxError> {
        let settings = &self.settings;
        let spec = SandboxSpec {
            attempt: AttemptId::generate(),
            builder: self.builder,
            expires: Utc::now() + TimeDelta::minutes(10),
            image: image.to_owned(),
            profile: settings.profile,
            device_nodes: settings.device_nodes,
            limits: SandboxLimits {
                memory_bytes: MEMORY,
                pids: PIDS,
                cpus: settings.caps.cpus,
            },
            network: Some(settings.network.clone()),
            env: Vec::new(),
        };
        let files = SandboxFiles {
            supervisor: settings.supervisor.clone(),
            plan: plan::proof(mock_root, WITHIN),
            source: None,
            max_source_bytes: 0,
            programs: vec![(SOURCE_PATH, PROOF_SOURCE)],
            packages: Vec::new(),
        };
        let mut handle = self.runtime.start(&spec, &files).await?;
        let log = handle.take_log();
        let (log, ended) = tokio::join!(read(log), handle.wait());
        handle.remove().await?;
        Ok(match ended?.report {
            Some(report) => judge(&report, &log),
            None => Verdict::Unknown,
        })
    }
}

/// A mock that was not even called is refused with the supervisor's reason.
fn judge(report: &Report, log: &str) -> Verdict {
    if let Some(StepEnd::NotStarted(reason)) = report.steps.last().map(|step| &step.end) {
        return Verdict::Refused(reason.clone());
    }
    match Verdict::in_log(log) {
        Verdict::Unprivileged if report.exit_code() != Some(0) => Verdict::Unknown,
        verdict => verdict,
    }
}

fn is_proved(facts: &ImageFacts, profile: &str) -> bool {
    facts.proved.as_deref() == Some(profile)
}

async fn read(pieces: Option<mpsc::Receiver<Bytes>>) -> String {
    let Some(mut pieces) = pieces else {
        return String::new();
    };
    let mut log = Vec::new();
    while let Some(piece) = pieces.recv().await {
        let room = LOG_CAP - log.len();
        log.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    String::from_utf8_lossy(&log).into_owned()
}

#[cfg(test)]
mod tests {
    use millrace_supervisor::StepReport;

    use super::*;

    fn report(end: StepEnd) -> Report {
        Report {
            steps: vec![StepReport {
                name: "rebuild".to_owned(),
                end,
                start: String::new(),
                seconds: 1.0,
            }],
            ..Report::default()
        }
    }

    #[test]
    fn only_a_build_that_ended_well_proves_and_a_wrapper_is_refused() {
        let log = "millrace-proof: unprivileged\n";
        assert_eq!(judge(&report(StepEnd::Exit(0)), log), Verdict::Unprivileged);
        assert_eq!(judge(&report(StepEnd::Exit(1)), log), Verdict::Unknown);
        assert_eq!(judge(&report(StepEnd::Exit(0)), ""), Verdict::Unknown);
        let wrapper = "/usr/bin/mock is a link to consolehelper".to_owned();
        let not_started = report(StepEnd::NotStarted(wrapper.clone()));
        assert_eq!(judge(&not_started, ""), Verdict::Refused(wrapper));
    }

    #[test]
    fn a_bake_under_another_profile_proves_nothing() {
        let facts = |proved: Option<&str>| ImageFacts {
            digest: "sha256:1".to_owned(),
            baked_at: None,
            proved: proved.map(str::to_owned),
        };
        assert!(is_proved(&facts(Some("capabilities")), "capabilities"));
        assert!(!is_proved(&facts(Some("privileged")), "capabilities"));
        assert!(!is_proved(&facts(None), "privileged"));
    }
}
