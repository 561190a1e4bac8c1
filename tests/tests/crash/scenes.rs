//! Points that are reached only when something else happens: a cancel, a stop, a silence, an old attempt.

use std::time::Duration;

use millrace_tests::{Fixture, Program, Sandbox, until};
use reqwest::StatusCode;
use rustix::process::Signal;

use crate::environment::{Ending, Environment, key, nowhere, upload_and_submit};

use Program::{Builder, Frontend};

/// A test of its own for each point of a scene, so that they run side by side, and the list of these points.
macro_rules! scene {
    ($points:ident, $play:ident: $($test:ident at $point:literal $(, $more:expr)*;)+) => {
        const $points: &[&str] = &[$($point),+];

        $(
            #[tokio::test]
            async fn $test() {
                $play($point $(, $more)*).await;
            }
        )+
    };
}

/// Points that the janitor's scene dies at, one after the other.
const TIDYINGS: [&str; 3] = ["tidying.begun", "tidying.removed", "tidying.noted"];
const SWEEPS: [&str; 3] = ["sweep.lost", "sweep.cancelled", "sweep.unclaimed"];

/// Points that the scenes here die at.
pub fn points(program: Program) -> Vec<String> {
    let points = match program {
        Frontend => [CANCELS, DECLINES, ENROLMENTS, &TIDYINGS, &SWEEPS].concat(),
        Builder => [HANDBACKS, UNCLAIMED, REFUSALS, &["report.incomplete"]].concat(),
    };
    points.into_iter().map(str::to_owned).collect()
}

/// A stand-in that takes long enough for a test to come between.
const LONG: [(&str, &str); 1] = [("MILLRACE_NOOP_MILLIS", "4000")];
/// Times that pass while a test waits.
const SHORT: [(&str, &str); 3] = [
    ("MILLRACE_LEASE_SECONDS", "6"),
    ("MILLRACE_OFFER_SECONDS", "6"),
    ("MILLRACE_SILENT_SECONDS", "4"),
];
const STOPPED: Duration = Duration::from_secs(30);

const fn succeeded(claimed: usize) -> Ending {
    Ending {
        kind: "succeeded",
        claimed,
    }
}

const fn cancelled(claimed: usize) -> Ending {
    Ending {
        kind: "cancelled",
        claimed,
    }
}

impl Environment {
    async fn submitted(&self) -> i64 {
        self.client.submit(&nowhere(), &key()).await
    }

    async fn running(&self) -> i64 {
        let build = self.submitted().await;
        self.client.reached(build, "running").await;
        build
    }

    /// The program was killed at its point; it is started as usual.
    async fn died_and_revived(&mut self, program: Program, point: &str) {
        self.pipeline.died(program, point).await;
        self.pipeline.revive(program);
    }

    /// Stops the builder once: it takes nothing more and finishes what it has.
    fn stop_builder(&mut self) {
        self.pipeline.process(Builder).signal(Signal::TERM);
    }

    /// Stops the builder twice: it hands back what it has.
    async fn hurry_builder(&mut self) {
        let told = |log: String| log.matches("a second signal hands").count();
        let before = told(self.pipeline.process(Builder).log());
        self.stop_builder();
        until("the builder stops", async || {
            (told(self.pipeline.process(Builder).log()) > before).then_some(())
        })
        .await;
        self.stop_builder();
    }
}

scene! { CANCELS, a_cancel_survives_the_frontend:
    a_cancel_survives_unstored at "cancel.unstored";
    a_cancel_survives_stored at "cancel.stored";
    a_cancel_survives_hinted at "cancel.hinted";
}

async fn a_cancel_survives_the_frontend(point: &str) {
    let mut environment = Environment::start(Sandbox::Noop, &[], &LONG).await;
    let client = environment.client.clone();
    let cancel = async move {
        let build = client.submit(&nowhere(), &key()).await;
        client.reached(build, "running").await;
        let status = client.cancel(build).await;
        assert!(
            [StatusCode::OK, StatusCode::CONFLICT].contains(&status),
            "{status}"
        );
        build
    };
    let build = environment.crash(Frontend, &[point], cancel).await;
    environment.expect(point, build, cancelled(1)).await;
    environment.stop().await;
}

scene! { HANDBACKS, work_that_is_handed_back_survives_its_builder:
    work_survives_handback_begun at "handback.begun";
    work_survives_handback_told at "handback.told";
}

async fn work_that_is_handed_back_survives_its_builder(point: &str) {
    let mut environment = Environment::start(Sandbox::Noop, &[], &LONG).await;
    environment.pipeline.arm(Builder, point);
    let build = environment.running().await;
    environment.hurry_builder().await;
    environment.died_and_revived(Builder, point).await;
    environment.expect(point, build, succeeded(2)).await;
    environment.stop().await;
}

scene! { DECLINES, work_that_is_handed_back_survives_the_frontend:
    work_survives_decline_asked at "decline.asked";
    work_survives_decline_recorded at "decline.recorded";
}

async fn work_that_is_handed_back_survives_the_frontend(point: &str) {
    let mut environment = Environment::start(Sandbox::Noop, &[], &LONG).await;
    environment.pipeline.arm(Frontend, point);
    let build = environment.running().await;
    environment.hurry_builder().await;
    environment.died_and_revived(Frontend, point).await;
    environment.pipeline.process(Builder).ended(STOPPED).await;
    environment.pipeline.revive(Builder);
    environment.expect(point, build, succeeded(2)).await;
    environment.stop().await;
}

scene! { UNCLAIMED, an_order_survives_a_builder_that_stops_while_it_asks:
    an_order_survives_decline_begun at "decline.begun", 2;
    an_order_survives_decline_told at "decline.told", 1;
}

/// `claimed`: attempts that are claimed until the build has succeeded.
async fn an_order_survives_a_builder_that_stops_while_it_asks(point: &str, claimed: usize) {
    let mut environment = Environment::start(Sandbox::Noop, &[], &[]).await;
    environment.pipeline.arm(Builder, point);
    environment.pipeline.arm(Frontend, "claim.asked");
    let build = environment.submitted().await;
    environment.pipeline.died(Frontend, "claim.asked").await;
    environment.stop_builder();
    environment.pipeline.revive(Frontend);
    environment.died_and_revived(Builder, point).await;
    environment.expect(point, build, succeeded(claimed)).await;
    environment.stop().await;
}

scene! { REFUSALS, a_refused_order_survives_its_builder:
    a_refused_order_survives_claim_refused at "claim.refused";
    a_refused_order_survives_refused_forgotten at "refused.forgotten";
}

async fn a_refused_order_survives_its_builder(point: &str) {
    let mut environment = Environment::start(Sandbox::Noop, &[], &[]).await;
    environment.pipeline.process(Builder).kill();
    let build = environment.submitted().await;
    environment.client.reached(build, "queued").await;
    assert_eq!(environment.client.cancel(build).await, StatusCode::OK);
    environment.pipeline.arm(Builder, point);
    environment.died_and_revived(Builder, point).await;
    environment.expect(point, build, cancelled(0)).await;
    environment.stop().await;
}

scene! { ENROLMENTS, an_enrolment_survives_the_frontend:
    an_enrolment_survives_unstored at "enrolment.unstored";
    an_enrolment_survives_stored at "enrolment.stored";
}

async fn an_enrolment_survives_the_frontend(point: &str) {
    let mut environment = Environment::start(Sandbox::Noop, &[], &[]).await;
    environment.pipeline.process(Builder).kill();
    environment.pipeline.arm(Frontend, point);
    environment.pipeline.revive(Builder);
    environment.died_and_revived(Frontend, point).await;
    let build = environment.submitted().await;
    environment.expect(point, build, succeeded(1)).await;
    assert_eq!(
        environment.pipeline.known_builders().await.len(),
        1,
        "the builder is the same"
    );
    environment.stop().await;
}

#[tokio::test]
async fn a_lost_lease_survives_the_frontend() {
    let mut environment = Environment::start(Sandbox::Noop, &SHORT, &LONG).await;
    environment.pipeline.arm(Frontend, "sweep.lost");
    let build = environment.running().await;
    environment.pipeline.process(Builder).kill();
    environment.died_and_revived(Frontend, "sweep.lost").await;
    environment.pipeline.revive(Builder);
    environment.expect("sweep.lost", build, succeeded(2)).await;
    environment.stop().await;
}

#[tokio::test]
async fn cancelled_work_of_a_silent_builder_survives_the_frontend() {
    let mut environment = Environment::start(Sandbox::Noop, &SHORT, &LONG).await;
    environment.pipeline.arm(Frontend, "sweep.cancelled");
    let build = environment.running().await;
    environment.pipeline.process(Builder).kill();
    assert_eq!(environment.client.cancel(build).await, StatusCode::OK);
    environment
        .died_and_revived(Frontend, "sweep.cancelled")
        .await;
    environment.pipeline.revive(Builder);
    environment
        .expect("sweep.cancelled", build, cancelled(1))
        .await;
    environment.stop().await;
}

#[tokio::test]
async fn an_offer_that_nobody_claims_survives_the_frontend() {
    let mut environment = Environment::start(Sandbox::Noop, &SHORT, &LONG).await;
    environment.pipeline.arm(Frontend, "sweep.unclaimed");
    environment.pipeline.process(Builder).kill();
    let build = environment.submitted().await;
    environment
        .died_and_revived(Frontend, "sweep.unclaimed")
        .await;
    environment.pipeline.revive(Builder);
    environment
        .expect("sweep.unclaimed", build, succeeded(1))
        .await;
    environment.stop().await;
}

#[tokio::test]
async fn tidying_up_survives_the_frontend() {
    let mut environment = Environment::start(Sandbox::Noop, &[], &[]).await;
    let build = environment.submitted().await;
    environment
        .expect("the build before", build, succeeded(1))
        .await;
    // The janitor of a frontend that does not die must not come first.
    environment.pipeline.process(Frontend).kill();
    let database = environment.pipeline.shared_database();
    let attempt = database
        .fetch_text("select id::text from attempts")
        .await
        .unwrap();
    let stray = environment
        .pipeline
        .results()
        .join(format!("attempts/{attempt}/0/stray.rpm"));
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    std::fs::write(&stray, "no report names it").unwrap();
    database
        .execute("update attempts set ended_at = ended_at - interval '1 hour'")
        .await;
    for point in TIDYINGS {
        let database = environment.pipeline.shared_database();
        database
            .execute("update turns set begun_at = '-infinity'")
            .await;
        environment.pipeline.arm(Frontend, point);
        environment.pipeline.died(Frontend, point).await;
        assert_eq!(stray.exists(), point == "tidying.begun", "{point}");
    }
    environment.pipeline.revive(Frontend);
    environment.look("tidying").await;
    environment.stop().await;
}

/// A file is missing, twice.
#[tokio::test]
async fn a_report_of_which_a_file_is_missing_survives_its_builder() {
    let mut environment = Environment::start(Sandbox::Mock, &[], &[]).await;
    environment.pipeline.arm(Builder, "report.written");
    let build = upload_and_submit(environment.client.clone(), "hello").await;
    environment.pipeline.died(Builder, "report.written").await;
    let database = environment.pipeline.shared_database();
    let forgotten = database
        .execute("delete from result_files where name like '%.rpm'")
        .await;
    assert!(forgotten > 0, "packages were uploaded");
    environment.pipeline.arm(Builder, "report.incomplete");
    environment
        .died_and_revived(Builder, "report.incomplete")
        .await;
    environment
        .expect("report.incomplete", build, succeeded(1))
        .await;
    environment.stop().await;
}

#[tokio::test]
async fn an_outcome_without_files_is_not_found_out_anew() {
    let mut environment = Environment::start(Sandbox::Mock, &[], &[]).await;
    let client = environment.client.clone();
    let submission = upload_and_submit(client, "not-a-package");
    let build = environment
        .crash(Builder, &["results.kept"], submission)
        .await;
    let refused = Ending {
        kind: "source_failed",
        claimed: 1,
    };
    environment
        .expect("a source that is refused", build, refused)
        .await;
    environment.stop().await;
}

#[tokio::test]
async fn a_cancel_that_was_carried_out_survives_its_builder() {
    let mut environment = Environment::start(Sandbox::Mock, &[], &[]).await;
    let client = environment.client.clone();
    let cancel = async move {
        let source = client.upload(&Fixture::named("sleeper")).await;
        let build = client.submit(&source, &key()).await;
        client.reached(build, "running").await;
        assert_eq!(client.cancel(build).await, StatusCode::OK);
        build
    };
    let build = environment.crash(Builder, &["results.kept"], cancel).await;
    environment
        .expect("a cancel that was carried out", build, cancelled(1))
        .await;
    environment.stop().await;
}
