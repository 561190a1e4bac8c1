//! `make chaos`.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a tool for people: it prints, and fails on the spot"
)]

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;

use clap::Parser;
use millrace_tests::chaos::{Options, planned, run};
use millrace_tests::{Settings, leftovers};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

fn main() -> ExitCode {
    let options = Options::parse();
    // Short enough to be typed again.
    let seed = options
        .seed
        .unwrap_or_else(|| u64::from(Uuid::new_v4().as_fields().0 % 1_000_000));
    println!("chaos: seed {seed} (SEED={seed} repeats the plan)");
    if options.plan {
        for fault in planned(&options, seed) {
            println!("{fault}");
        }
        return ExitCode::SUCCESS;
    }
    let folder = folder(&options, seed);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    println!("logs, spools and results: {}", folder.display());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Calls of docker's command block their thread.
        .worker_threads(8)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let ended = runtime.block_on(chaos(&options, seed, &folder));
    // With the runtime go the tasks that hold the pipeline, and with them its processes, services and mounts.
    drop(runtime);
    match ended {
        Ended::Judged(passed) => {
            if passed {
                std::fs::remove_dir_all(&folder).expect("the folder can be removed");
                return ExitCode::SUCCESS;
            }
        }
        Ended::Interrupted(builders) => {
            let left = remove_sandboxes(&builders);
            std::fs::remove_dir_all(&folder).ok();
            println!("chaos: seed {seed}: interrupted, no verdict; {left} sandboxes removed");
        }
    }
    ExitCode::FAILURE
}

enum Ended {
    Judged(bool),
    /// By a signal; these builders had enrolled.
    Interrupted(Vec<String>),
}

async fn chaos(options: &Options, seed: u64, folder: &Path) -> Ended {
    let mut terminate = signal(SignalKind::terminate()).expect("a signal can be waited for");
    let mut run = pin!(run(options, seed, folder.to_owned()));
    let report = tokio::select! {
        report = &mut run => report,
        _ = tokio::signal::ctrl_c() => return Ended::Interrupted(builders(folder)),
        _ = terminate.recv() => return Ended::Interrupted(builders(folder)),
    };
    println!("{report}");
    Ended::Judged(report.passed())
}

/// The builders' ids, which name their folders in the spools.
fn builders(folder: &Path) -> Vec<String> {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    entries(folder)
        .flat_map(|spool| entries(&spool.path()))
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("builder-").map(str::to_owned)
        })
        .collect()
}

/// Their builders are gone, so nobody else would before the next builder on this engine starts.
fn remove_sandboxes(builders: &[String]) -> usize {
    let left = leftovers(builders);
    let engine = Settings::from_env().engine;
    for id in &left {
        let remove = ["--host", &engine, "rm", "--force", "--volumes", id];
        std::process::Command::new("docker")
            .args(remove)
            .output()
            .ok();
    }
    left.len()
}

fn folder(options: &Options, seed: u64) -> PathBuf {
    let named =
        || std::env::temp_dir().join(format!("millrace-chaos-{seed}-{}", std::process::id()));
    options.folder.clone().unwrap_or_else(named)
}
