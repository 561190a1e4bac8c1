//! `make chaos`.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a tool for people: it prints, and fails on the spot"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use millrace_tests::chaos::{Options, planned, run};
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Calls of docker's command block their thread.
        .worker_threads(8)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(chaos(&options, seed))
}

async fn chaos(options: &Options, seed: u64) -> ExitCode {
    let folder = folder(options, seed);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    println!("logs, spools and results: {}", folder.display());
    let report = tokio::select! {
        report = run(options, seed, folder.clone()) => report,
        _ = tokio::signal::ctrl_c() => {
            println!("chaos: seed {seed}: interrupted");
            return ExitCode::FAILURE;
        }
    };
    println!("{report}");
    if report.passed() {
        std::fs::remove_dir_all(&folder).expect("the folder can be removed");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn folder(options: &Options, seed: u64) -> PathBuf {
    let named =
        || std::env::temp_dir().join(format!("millrace-chaos-{seed}-{}", std::process::id()));
    options.folder.clone().unwrap_or_else(named)
}
