//! Which crash point is died at in which kind of build, and how many attempts the build then takes. Sources and this table
//! name the same points.

use millrace_tests::{Program, Sandbox, crash_points};

use crate::environment::{Ending, Environment, key, nowhere, upload_and_submit};
use crate::{pollers, scenes};

use Program::{Builder, Frontend};

/// A program that dies at points one after the other, and the attempts that are claimed for the build to succeed.
pub struct Case(Program, &'static [&'static str], usize);

/// A test of its own for each case, so that they run side by side, and a list of the cases for the comparison with the
/// sources.
macro_rules! deaths {
    ($sandbox:expr; $($test:ident: $program:ident at [$($point:literal),+], claimed $claimed:literal;)+) => {
        use super::{Case, Program, Sandbox, builds_succeed};

        pub const CASES: &[Case] = &[$(Case(Program::$program, &[$($point),+], $claimed)),+];

        $(
            #[tokio::test]
            async fn $test() {
                builds_succeed($sandbox, &Case(Program::$program, &[$($point),+], $claimed)).await;
            }
        )+
    };
}

/// Builds in the stand-in.
mod without_sandbox {
    deaths! { Sandbox::Noop;
        submission_unstored: Frontend at ["submission.unstored"], claimed 1;
        submission_stored: Frontend at ["submission.stored"], claimed 1;
        release_committed: Frontend at ["release.committed"], claimed 1;
        release_published: Frontend at ["release.published"], claimed 1;
        release_confirmed: Frontend at ["release.confirmed"], claimed 1;
        claim_asked: Frontend at ["claim.asked"], claimed 1;
        claim_recorded: Frontend at ["claim.recorded"], claimed 1;
        log_unstored: Frontend at ["log.unstored"], claimed 1;
        log_stored: Frontend at ["log.stored"], claimed 1;
        log_counted: Frontend at ["log.counted"], claimed 1;
        report_received: Frontend at ["report.received"], claimed 1;
        report_settled: Frontend at ["report.settled"], claimed 1;
        report_unacknowledged: Frontend at ["report.unacknowledged"], claimed 1;
        log_unsealed: Frontend at ["log.unsealed"], claimed 1;
        log_sealed: Frontend at ["log.sealed"], claimed 1;
        heartbeat_heard: Frontend at ["heartbeat.heard#3"], claimed 1;
        heartbeat_recorded: Frontend at ["heartbeat.recorded#3"], claimed 1;
        // Nothing was claimed yet.
        order_delivered: Builder at ["order.delivered"], claimed 1;
        // What is claimed and not begun is handed back; what is begun is lost with its sandbox.
        nonce_kept: Builder at ["nonce.kept"], claimed 2;
        nonce_kept_and_recovery_unsure: Builder at ["nonce.kept", "recovery.unsure"], claimed 2;
        claim_granted: Builder at ["claim.granted"], claimed 2;
        lease_kept: Builder at ["lease.kept"], claimed 2;
        order_acknowledged_and_recovery_begun: Builder at ["order.acknowledged", "recovery.begun"], claimed 2;
        log_shipped: Builder at ["log.shipped"], claimed 2;
        report_unwritten: Builder at ["report.unwritten"], claimed 2;
        // From the report on nothing is done again.
        report_written: Builder at ["report.written"], claimed 1;
        report_confirmed: Builder at ["report.confirmed"], claimed 1;
        attempt_closed: Builder at ["attempt.closed"], claimed 1;
        attempt_forgotten: Builder at ["attempt.forgotten"], claimed 1;
    }
}

/// Builds in a sandbox: up to its end the work is lost with the builder.
mod before_the_results_are_kept {
    deaths! { Sandbox::Mock;
        fetch_begun: Builder at ["fetch.begun"], claimed 2;
        fetch_done: Builder at ["fetch.done"], claimed 2;
        sandbox_unmade: Builder at ["sandbox.unmade"], claimed 2;
        sandbox_started: Builder at ["sandbox.started"], claimed 2;
        sandbox_ended: Builder at ["sandbox.ended"], claimed 2;
        collect_begun: Builder at ["collect.begun"], claimed 2;
        collect_done: Builder at ["collect.done"], claimed 2;
    }
}

/// Builds in a sandbox: the results are on the spool, or will be in a moment.
mod with_results {
    deaths! { Sandbox::Mock;
        results_judged: Builder at ["results.judged"], claimed 2;
        results_kept: Builder at ["results.kept"], claimed 1;
        sandbox_removed: Builder at ["sandbox.removed"], claimed 1;
        upload_begun: Builder at ["upload.begun#2", "upload.begun"], claimed 1;
        upload_done: Builder at ["upload.done", "upload.done#2"], claimed 1;
    }
}

/// Bytes on their way into the result store.
mod bytes {
    deaths! { Sandbox::Mock;
        source_unstored: Frontend at ["source.unstored"], claimed 1;
        source_stored: Frontend at ["source.stored"], claimed 1;
        body_received: Frontend at ["body.received", "body.received#2"], claimed 1;
        file_unstored: Frontend at ["file.unstored"], claimed 1;
        file_stored: Frontend at ["file.stored", "file.stored#2"], claimed 1;
        file_recorded: Frontend at ["file.recorded"], claimed 1;
    }
}

/// The build succeeds although the program dies, and nothing is lost, doubled or left.
async fn builds_succeed(sandbox: Sandbox, Case(program, points, claimed): &Case) {
    let mut environment = Environment::start(sandbox, &[], &[]).await;
    let name = format!("{program:?} {points:?}");
    let client = environment.client.clone();
    let submission = async move {
        match sandbox {
            Sandbox::Mock => upload_and_submit(client, "hello").await,
            Sandbox::Noop => client.submit(&nowhere(), &key()).await,
        }
    };
    let build = environment.crash(*program, points, submission).await;
    let ending = Ending {
        kind: "succeeded",
        claimed: *claimed,
    };
    environment.expect(&name, build, ending).await;
    environment.stop().await;
}

/// Every point of the sources is died at, and no test waits for one that is not there.
#[test]
fn table_and_sources_name_the_same_points() {
    for program in [Frontend, Builder] {
        let mut named: Vec<String> = table_points(program)
            .chain(scenes::points(program))
            .collect();
        if program == Frontend {
            named.extend(pollers::POINTS.map(str::to_owned));
        }
        named.sort();
        named.dedup();
        assert_eq!(named, crash_points(program), "{program:?}");
    }
}

/// The points at which this table has a program die, without the number of the visit.
fn table_points(program: Program) -> impl Iterator<Item = String> {
    let tables = [
        without_sandbox::CASES,
        before_the_results_are_kept::CASES,
        with_results::CASES,
        bytes::CASES,
    ];
    tables
        .into_iter()
        .flatten()
        .filter(move |case| case.0 == program)
        .flat_map(|case| case.1)
        .map(|point| point.split('#').next().unwrap_or(point).to_owned())
}
