//! From submission to result, with a scripted builder.

use millrace_bus::testing::TestVhost;
use millrace_bus::{EVENTS_QUEUE, Parking};
use millrace_chassis::Method;
use millrace_domain::{Outcome, OutcomeKind};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scripted_builder::{HeldAttempt, PATIENCE, ScriptedBuilder, task, until_state};
use crate::support::{Frontend, send};

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one long story")]
async fn a_submission_becomes_a_job_a_log_files_and_a_result() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = ScriptedBuilder::start(&frontend, &vhost).await;
    let build = frontend
        .submit(json!({"repositories": ["http://example.org/$basearch/"]}))
        .await;
    let job = builder.receive().await;
    assert_eq!(json!(job.build_id), build["id"]);
    assert_eq!(job.chroot.image, "image-of-debian");
    assert_eq!(
        job.repositories[0].as_str(),
        "http://example.org/$basearch/"
    );

    let first = builder.claim(&frontend, job.attempt_id, "nonce").await;
    let again = builder.claim(&frontend, job.attempt_id, "nonce").await;
    assert_eq!((first.status, again.status), (200, 200), "{}", first.text());
    assert_eq!(first.json(), again.json());
    let other = builder.claim(&frontend, job.attempt_id, "other").await;
    assert_eq!(
        (other.status, &other.json()["reason"]),
        (409, &json!("taken"))
    );
    let lease = first.json()["lease_token"].as_str().unwrap().to_owned();
    let held = HeldAttempt { job, lease };
    let list = frontend.get("/waiting_builds/").await.json();
    assert_eq!(
        list,
        json!({"builds": []}),
        "a claimed build leaves the legacy list"
    );

    assert_eq!(
        builder
            .append_log(&frontend, &held, 0, "one\n")
            .await
            .json()["size"],
        4
    );
    let repeated = builder.append_log(&frontend, &held, 0, "one\ntwo\n").await;
    assert_eq!(
        (repeated.status, &repeated.json()["size"]),
        (409, &json!(4))
    );
    assert_eq!(
        builder
            .append_log(&frontend, &held, 4, "two\n")
            .await
            .json()["size"],
        8
    );

    let followed = {
        let url = format!("/api/v1/builds/{}/log?follow=true", build["id"]);
        let request = frontend.request(Method::GET, &url, "");
        tokio::spawn(send(request))
    };
    assert_eq!(
        builder
            .upload_file(&frontend, &held, "a-1-1.x86_64.rpm", "package")
            .await
            .status,
        204
    );
    assert_eq!(
        builder
            .upload_file(&frontend, &held, "build.log", "log")
            .await
            .status,
        204
    );
    let invisible = format!("/api/v1/attempts/{}/files/0/build.log", held.job.attempt_id);
    assert_eq!(
        frontend.get(&invisible).await.status,
        404,
        "not accepted yet"
    );
    assert_eq!(
        builder
            .append_log(&frontend, &held, 8, "three\n")
            .await
            .json()["size"],
        14
    );
    assert_eq!(
        builder.verdict(&frontend, &held, "spooled").await,
        json!({"verdict": "continue"})
    );
    let files = [("a-1-1.x86_64.rpm", "package"), ("build.log", "log")];
    builder
        .report(&held, Outcome::new(OutcomeKind::Succeeded, "built"), &files)
        .await;

    let done = until_state(&frontend, &held, "succeeded").await;
    assert_eq!(done["outcome"]["kind"], "succeeded");
    let attempt = &done["attempts"][0];
    assert_eq!(
        (&attempt["builder"], &attempt["state"]),
        (&json!("scripted"), &json!("finished"))
    );
    assert_eq!(
        (&attempt["stages"][0]["name"], &attempt["log_size"]),
        (&json!("build"), &json!(14))
    );
    assert_eq!(attempt["packages"][0]["files"].as_array().unwrap().len(), 2);
    assert_eq!(followed.await.unwrap().text(), "one\ntwo\nthree\n");
    assert_eq!(
        builder.verdict(&frontend, &held, "reported").await,
        json!({"verdict": "accepted"})
    );
    assert_eq!(
        builder
            .append_log(&frontend, &held, 14, "late")
            .await
            .status,
        410
    );
    results_are_readable(&frontend, &build, attempt).await;
    frontend.stop().await;
    vhost.delete().await;
}

async fn results_are_readable(frontend: &Frontend, build: &Value, attempt: &Value) {
    let url = attempt["packages"][0]["files"][0]["url"].as_str().unwrap();
    let path = url.strip_prefix("http://public.example:8080").unwrap();
    assert_eq!(frontend.get(path).await.text(), "package");
    let folder = format!("/results/main/main/debian-13-x86_64/{}/", build["id"]);
    let listing = frontend.get(&folder).await.json();
    let names: Vec<&Value> = listing["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["name"])
        .collect();
    assert_eq!(names, ["a-1-1.x86_64.rpm", "build.log"]);
    let log = frontend.get(&format!("{folder}build.log")).await;
    assert_eq!(
        (log.text().as_str(), log.content_type.as_str()),
        ("log", "text/plain; charset=utf-8")
    );
    let html = frontend.browse(&folder).await;
    assert!(
        html.contains("text/html") && html.contains("build.log</a>"),
        "{html}"
    );
    let above = frontend
        .get("/results/main/main/debian-13-x86_64/")
        .await
        .text();
    assert!(above.contains(&folder), "{above}");
    let tail = frontend
        .get(&format!("/api/v1/builds/{}/log?offset=8", build["id"]))
        .await;
    assert_eq!(
        (tail.text().as_str(), tail.content_type.as_str()),
        ("three\n", "text/plain; charset=utf-8")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_without_its_files_asks_for_them() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = ScriptedBuilder::start(&frontend, &vhost).await;
    frontend.submit(json!({})).await;
    let held = builder.claim_next(&frontend).await;
    let files = [("build.log", "log")];
    builder
        .report(&held, Outcome::new(OutcomeKind::BuildFailed, "no"), &files)
        .await;
    let missing = json!({"verdict": "missing", "files": [{"position": 0, "name": "build.log"}]});
    frontend
        .until("asked for", async |f| {
            builder.verdict(f, &held, "reported").await == missing
        })
        .await;
    assert_eq!(
        builder
            .upload_file(&frontend, &held, "build.log", "log")
            .await
            .status,
        204
    );
    builder
        .report(&held, Outcome::new(OutcomeKind::BuildFailed, "no"), &files)
        .await;
    let done = until_state(&frontend, &held, "failed").await;
    assert_eq!(done["outcome"]["kind"], "build_failed");
    frontend.stop().await;
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_was_given_up_is_taken_in_after_all() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = ScriptedBuilder::start(&frontend, &vhost).await;
    frontend.submit(json!({})).await;
    let held = builder.claim_next(&frontend).await;
    let outcome = Outcome::new(OutcomeKind::BuildFailed, "no");
    let body = builder.report_message(&held, outcome, &[]);
    // As the broker does it with a report that outlasted its deliveries.
    let dead_letter = Parking {
        queue: EVENTS_QUEUE,
        reason: "delivery limit reached on millrace.events.frontend",
        message_id: None,
        body: &body,
    };
    builder.bus.wait_up(PATIENCE).await.unwrap();
    builder.bus.publisher().park(dead_letter).await.unwrap();
    let done = until_state(&frontend, &held, "failed").await;
    assert_eq!(done["outcome"]["kind"], "build_failed", "{done:#}");
    assert_eq!(done["attempts"][0]["state"], "finished", "{done:#}");
    let parked = frontend.get("/api/v1/parked").await.json();
    assert_eq!(parked["items"], json!([]));
    frontend.stop().await;
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_lease_and_a_broken_message_change_nothing_but_the_parked_list() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = ScriptedBuilder::start(&frontend, &vhost).await;
    frontend.submit(json!({})).await;
    let held = builder.claim_next(&frontend).await;
    let forged = HeldAttempt {
        job: held.job.clone(),
        lease: "f".repeat(64),
    };
    builder
        .report(&forged, Outcome::new(OutcomeKind::Succeeded, "x"), &[])
        .await;
    builder
        .publish(b"{\"lease_token\": \"0123456789abcdef0123456789abcdef\", oops".to_vec())
        .await;
    let gossip = json!({"id": Uuid::nil(), "kind": "gossip", "version": 1, "time": chrono::Utc::now(), "body": {}});
    builder.publish(gossip.to_string().into_bytes()).await;
    let newer = json!({"id": Uuid::nil(), "kind": "finished", "version": 99, "time": chrono::Utc::now(),
        "body": {"lease_token": "hush"}});
    builder.publish(newer.to_string().into_bytes()).await;
    frontend
        .until("parked", async |f| {
            f.get("/api/v1/parked").await.json()["items"]
                .as_array()
                .unwrap()
                .len()
                == 3
        })
        .await;
    let parked = frontend.get("/api/v1/parked").await;
    assert!(!parked.text().contains("hush") && !parked.text().contains("0123456789abcdef"));
    let reasons = parked.text();
    for reason in [
        "unparsable",
        "unknown kind 'gossip'",
        "version 99 is not supported",
    ] {
        assert!(reasons.contains(reason), "{reason}: {reasons}");
    }
    assert_eq!(
        parked.json()["items"][0]["queue"],
        "millrace.events.frontend"
    );
    assert_eq!(task(&frontend, &held).await["state"], "running");
    let files: [(&str, &str); 0] = [];
    builder
        .report(&held, Outcome::new(OutcomeKind::BuildFailed, "no"), &files)
        .await;
    until_state(&frontend, &held, "failed").await;
    frontend.stop().await;
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_build_is_cancelled_through_its_builder() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = ScriptedBuilder::start(&frontend, &vhost).await;
    let build = frontend.submit(json!({})).await["id"].clone();
    let held = builder.claim_next(&frontend).await;
    assert_eq!(
        builder.verdict(&frontend, &held, "building").await["verdict"],
        "continue"
    );
    let path = format!("/api/v1/builds/{build}/cancel");
    let reply = frontend.post(&path, &json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["tasks"][0]["cancel_requested"], true);
    assert_eq!(
        builder.verdict(&frontend, &held, "building").await["verdict"],
        "cancel"
    );
    builder
        .report(
            &held,
            Outcome::new(OutcomeKind::Cancelled, "asked for"),
            &[],
        )
        .await;
    until_state(&frontend, &held, "cancelled").await;
    frontend.stop().await;
    vhost.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_job_is_offered_again_and_a_parked_one_is_taken_back() {
    let vhost = TestVhost::create().await;
    let frontend = Frontend::start_on(&vhost).await;
    let mut builder = ScriptedBuilder::start(&frontend, &vhost).await;
    frontend.submit(json!({})).await;
    let first = builder.receive().await;
    let decline = json!({"attempt_id": first.attempt_id, "reason": "no_room"});
    let reply = frontend
        .post_as(&builder.token, "/builder/v1/decline", &decline)
        .await;
    assert_eq!(reply.status, 204);
    let held = builder.claim_next(&frontend).await;
    assert_eq!(
        (held.job.task_id, held.job.attempt_number),
        (first.task_id, 2)
    );

    let later = json!({"id": Uuid::nil(), "kind": "finished", "version": 99, "time": chrono::Utc::now(),
        "body": {"attempt_id": held.job.attempt_id}});
    builder.publish(later.to_string().into_bytes()).await;
    let third = builder.receive().await;
    assert_eq!((third.task_id, third.attempt_number), (first.task_id, 3));
    assert_eq!(
        builder.verdict(&frontend, &held, "building").await["verdict"],
        "revoked"
    );
    frontend.stop().await;
    vhost.delete().await;
}
