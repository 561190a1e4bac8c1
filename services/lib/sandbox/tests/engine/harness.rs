//! Test harness: an engine, a builder of the test's own, and the check that nothing is left behind.

use std::env;
use std::path::PathBuf;
use std::time::Instant;

use bollard::Docker;
use chrono::{TimeDelta, Utc};
use millrace_domain::{AttemptId, BuilderId};
use millrace_sandbox::{
    Ended, Engine, Profile, Runtime, SandboxFiles, SandboxHandle, SandboxLimits, SandboxSpec,
    SweepFilter,
};
use millrace_supervisor::{Plan, Report, Step};

pub(crate) const MIB: u64 = 1 << 20;

/// A builder on the engine under test.
pub(crate) struct Harness {
    pub(crate) engine: Engine,
    pub(crate) builder: BuilderId,
}

/// A sandbox that ran to its end and is gone.
pub(crate) struct Finished {
    pub(crate) ended: Ended,
    pub(crate) log: String,
    pub(crate) seconds: f64,
}

impl Finished {
    pub(crate) fn report(&self) -> &Report {
        self.ended.report.as_ref().unwrap_or_else(|| {
            panic!(
                "no report; exit {}: {}",
                self.ended.exit_code, self.ended.stray
            )
        })
    }
}

pub(crate) fn engine_url() -> String {
    env::var("MILLRACE_TEST_ENGINE_URL").unwrap_or_else(|_| "unix:///var/run/docker.sock".into())
}

pub(crate) fn profile() -> Profile {
    let word = env::var("MILLRACE_TEST_PROFILE").unwrap_or_else(|_| "capabilities".into());
    word.parse().unwrap()
}

pub(crate) fn image() -> String {
    env::var("MILLRACE_TEST_SANDBOX_IMAGE").unwrap_or_else(|_| "millrace-offline/mock:13".into())
}

pub(crate) fn supervisor() -> PathBuf {
    let built = "../../../target/x86_64-unknown-linux-gnu/release/millrace-supervisor";
    let path = env::var_os("MILLRACE_TEST_SUPERVISOR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(built),
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "the static supervisor is missing at {}; build it with RUSTFLAGS='-C target-feature=+crt-static' \
         cargo build --release --target x86_64-unknown-linux-gnu -p millrace-supervisor",
        path.display()
    );
    path
}

/// The engine's own client, to look where the crate under test must not be asked.
pub(crate) fn client() -> Docker {
    let url = engine_url();
    let path = url.strip_prefix("unix://").unwrap();
    Docker::connect_with_unix(
        path,
        60,
        &bollard::ClientVersion {
            major_version: 1,
            minor_version: 40,
        },
    )
    .unwrap()
}

pub(crate) fn shell(script: &str) -> Step {
    Step {
        name: "script".into(),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        arguments_from: None,
        env: Vec::new(),
        stage: Some("buildroot".into()),
        network: None,
        rounds: None,
    }
}

/// A plan of one script with a wall limit in seconds.
pub(crate) fn plan(script: &str, wall: u32) -> Plan {
    Plan::new(vec![shell(script)], wall)
}

impl Harness {
    pub(crate) async fn open() -> Self {
        let engine = Engine::connect(&engine_url()).await.unwrap();
        Self {
            engine,
            builder: BuilderId::generate(),
        }
    }

    pub(crate) fn spec(&self) -> SandboxSpec {
        SandboxSpec {
            attempt: AttemptId::generate(),
            builder: self.builder,
            expires: Utc::now() + TimeDelta::minutes(10),
            image: image(),
            profile: profile(),
            device_nodes: true,
            limits: SandboxLimits {
                memory_bytes: 256 * MIB,
                pids: 512,
                cpus: None,
            },
            network: None,
            env: Vec::new(),
        }
    }

    pub(crate) fn files(plan: Plan) -> SandboxFiles {
        SandboxFiles {
            programs: Vec::new(),
            packages: Vec::new(),
            supervisor: supervisor(),
            plan,
            source: None,
            max_source_bytes: 0,
        }
    }

    pub(crate) async fn start(&self, plan: Plan) -> SandboxHandle {
        let runtime = Runtime::Engine(self.engine.clone());
        let started = runtime.start(&self.spec(), &Self::files(plan)).await;
        started.unwrap()
    }

    /// Runs a plan to its end, as a builder does: the log is read while it runs.
    pub(crate) async fn run(&self, plan: Plan) -> Finished {
        let handle = self.start(plan).await;
        self.finish(handle).await
    }

    pub(crate) async fn finish(&self, mut handle: SandboxHandle) -> Finished {
        let started = Instant::now();
        let mut pieces = handle.take_log().unwrap();
        let reader = tokio::spawn(async move {
            let mut log = Vec::new();
            while let Some(piece) = pieces.recv().await {
                log.extend_from_slice(&piece);
            }
            log
        });
        let ended = handle.wait().await.unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let log = String::from_utf8_lossy(&reader.await.unwrap()).into_owned();
        handle.remove().await.unwrap();
        self.assert_empty().await;
        Finished {
            ended,
            log,
            seconds,
        }
    }

    /// No container of this builder is left.
    pub(crate) async fn assert_empty(&self) {
        let left = self.engine.sweep(SweepFilter::OwnedBy(self.builder)).await;
        assert_eq!(left.unwrap(), []);
    }
}
