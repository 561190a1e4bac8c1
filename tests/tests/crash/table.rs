//! Which point is died at in which scene, and what the build comes to. The sources and this table name the same points.

use millrace_tests::{Program, Sandbox, crash_points};

use crate::environment::{Ending, Environment, key, nowhere, upload_and_submit};
use crate::{pollers, scenes};

use Program::{Builder, Frontend};

/// A program that dies at points one after the other, and the attempts that are claimed for the build to succeed.
pub struct Case(Program, &'static [&'static str], usize);

/// Builds in the stand-in.
const NOOP: [Case; 29] = [
    Case(Frontend, &["submission.unstored"], 1),
    Case(Frontend, &["submission.stored"], 1),
    Case(Frontend, &["release.committed"], 1),
    Case(Frontend, &["release.published"], 1),
    Case(Frontend, &["release.confirmed"], 1),
    Case(Frontend, &["claim.asked"], 1),
    Case(Frontend, &["claim.recorded"], 1),
    Case(Frontend, &["log.unstored"], 1),
    Case(Frontend, &["log.stored"], 1),
    Case(Frontend, &["log.counted"], 1),
    Case(Frontend, &["report.received"], 1),
    Case(Frontend, &["report.settled"], 1),
    Case(Frontend, &["report.unacknowledged"], 1),
    Case(Frontend, &["log.unsealed"], 1),
    Case(Frontend, &["log.sealed"], 1),
    Case(Frontend, &["heartbeat.heard#3"], 1),
    Case(Frontend, &["heartbeat.recorded#3"], 1),
    // Nothing was claimed yet.
    Case(Builder, &["order.delivered"], 1),
    // What is claimed and not begun is handed back; what is begun is lost with its sandbox.
    Case(Builder, &["nonce.kept"], 2),
    Case(Builder, &["nonce.kept", "recovery.unsure"], 2),
    Case(Builder, &["claim.granted"], 2),
    Case(Builder, &["lease.kept"], 2),
    Case(Builder, &["order.acknowledged", "recovery.begun"], 2),
    Case(Builder, &["log.shipped"], 2),
    Case(Builder, &["report.unwritten"], 2),
    // From the report on nothing is done again.
    Case(Builder, &["report.written"], 1),
    Case(Builder, &["report.confirmed"], 1),
    Case(Builder, &["attempt.closed"], 1),
    Case(Builder, &["attempt.forgotten"], 1),
];

/// Builds in a sandbox: up to its end the work is lost with the builder.
const SANDBOX: [Case; 7] = [
    Case(Builder, &["fetch.begun"], 2),
    Case(Builder, &["fetch.done"], 2),
    Case(Builder, &["sandbox.unmade"], 2),
    Case(Builder, &["sandbox.started"], 2),
    Case(Builder, &["sandbox.ended"], 2),
    Case(Builder, &["collect.begun"], 2),
    Case(Builder, &["collect.done"], 2),
];

/// Builds in a sandbox: the results are on the spool, or will be in a moment.
const RESULTS: [Case; 5] = [
    Case(Builder, &["results.judged"], 2),
    Case(Builder, &["results.kept"], 1),
    Case(Builder, &["sandbox.removed"], 1),
    Case(Builder, &["upload.begun#2", "upload.begun"], 1),
    Case(Builder, &["upload.done", "upload.done#2"], 1),
];

/// Bytes on their way into the result store.
const BYTES: [Case; 6] = [
    Case(Frontend, &["source.unstored"], 1),
    Case(Frontend, &["source.stored"], 1),
    Case(Frontend, &["body.received", "body.received#2"], 1),
    Case(Frontend, &["file.unstored"], 1),
    Case(Frontend, &["file.stored", "file.stored#2"], 1),
    Case(Frontend, &["file.recorded"], 1),
];

async fn builds_succeed(sandbox: Sandbox, cases: &[Case]) {
    let mut environment = Environment::start(sandbox, &[], &[]).await;
    for Case(program, points, claimed) in cases {
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
    }
    environment.stop().await;
}

#[tokio::test]
async fn a_build_without_sandbox_survives_each_death() {
    builds_succeed(Sandbox::Noop, &NOOP).await;
}

#[tokio::test]
async fn a_build_survives_each_death_of_its_builder_before_its_results_are_kept() {
    builds_succeed(Sandbox::Mock, &SANDBOX).await;
}

#[tokio::test]
async fn results_that_are_kept_survive_each_death_of_their_builder() {
    builds_succeed(Sandbox::Mock, &RESULTS).await;
}

#[tokio::test]
async fn bytes_survive_each_death_of_the_frontend() {
    builds_succeed(Sandbox::Mock, &BYTES).await;
}

/// Every point of the sources is died at, and no test waits for one that is not there.
#[test]
fn table_and_sources_name_the_same_points() {
    for program in [Frontend, Builder] {
        let tables = [&NOOP[..], &SANDBOX, &RESULTS, &BYTES].concat_points(program);
        let mut named: Vec<String> = tables.into_iter().chain(scenes::points(program)).collect();
        if program == Frontend {
            named.extend(pollers::POINTS.map(str::to_owned));
        }
        named.sort();
        named.dedup();
        assert_eq!(named, crash_points(program), "{program:?}");
    }
}

trait Points {
    fn concat_points(&self, program: Program) -> Vec<String>;
}

impl Points for [&[Case]; 4] {
    fn concat_points(&self, program: Program) -> Vec<String> {
        let cases = self.iter().flat_map(|cases| cases.iter());
        cases
            .filter(|case| case.0 == program)
            .flat_map(|case| case.1)
            .map(|point| point.split('#').next().unwrap_or(point).to_owned())
            .collect()
    }
}
