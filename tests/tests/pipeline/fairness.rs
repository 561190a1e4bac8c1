//! Whose turn it is, with real frontends, broker and builders: nobody's thousands hold back another's one.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use millrace_domain::Priority;
use millrace_store::Backlog;
use millrace_tests::{Pipeline, PipelineOptions, Sandbox, http_client, until, until_within};
use serde_json::{Value, json};

/// What the way from a free sandbox to a claim may take.
const SLACK: Duration = Duration::from_secs(2);

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Builders whose tasks take this long.
async fn start(
    length: Duration,
    builders: usize,
    sandboxes: usize,
    frontend_env: &[(&str, &str)],
    builder_env: &[(&str, &str)],
) -> Pipeline {
    let millis = length.as_millis().to_string();
    let noop = pairs(&[("MILLRACE_NOOP_MILLIS", &millis)]);
    Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        builders,
        sandboxes,
        frontend_env: pairs(frontend_env),
        builder_env: [noop, pairs(builder_env)].concat(),
        ..PipelineOptions::default()
    })
    .await
}

/// Waiting tasks that need 1 GiB each.
async fn add_backlog(pipeline: &Pipeline, tasks: u32, owners: u32) {
    let backlog = Backlog {
        tasks,
        owners,
        chroot: &pipeline.settings.chroot,
        needs: &[(1024, "2g")],
        priorities: &[Priority::Normal],
    };
    pipeline.shared_database().add_backlog(&backlog).await;
}

async fn submit(pipeline: &Pipeline, more: Value) -> i64 {
    let mut body = json!({
        "sources": ["https://example.org/hello-1-1.src.rpm"],
        "chroots": [pipeline.settings.chroot],
        "memory_reqs": 1024,
    });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    pipeline.submit_json(&http_client(), &body).await
}

async fn tasks_in(pipeline: &Pipeline, state: &str) -> i64 {
    pipeline.get("/api/v1/status").await["tasks"][state]
        .as_i64()
        .unwrap()
}

async fn until_running(pipeline: &Pipeline, count: i64) {
    until(&format!("{count} tasks run"), async || {
        (tasks_in(pipeline, "running").await == count).then_some(())
    })
    .await;
}

async fn show(pipeline: &Pipeline, build: i64) -> Value {
    pipeline.get(&format!("/api/v1/builds/{build}")).await
}

/// From the submission to the claim, by the database's clock.
async fn claimed_after(pipeline: &Pipeline, build: i64, deadline: Duration) -> Duration {
    let time = |value: &Value| value.as_str().and_then(|t| t.parse::<DateTime<Utc>>().ok());
    let waited: TimeDelta = until_within(deadline, &format!("build {build} runs"), async || {
        let build = show(pipeline, build).await;
        let claimed = time(&build["tasks"][0]["started_at"])?;
        Some(claimed - time(&build["submitted_at"]).unwrap())
    })
    .await;
    waited.to_std().unwrap()
}

/// Three submissions of another owner, one after the other.
async fn assert_no_long_wait(frontend_env: &[(&str, &str)]) {
    let length = Duration::from_secs(4);
    let pipeline = start(length, 2, 1, frontend_env, &[]).await;
    add_backlog(&pipeline, 3_000, 1).await;
    until_running(&pipeline, 2).await;
    for _ in 0..3 {
        let build = submit(&pipeline, json!({})).await;
        let waited = claimed_after(&pipeline, build, Duration::from_secs(30)).await;
        println!("behind 3,000 tasks of {length:?}: {waited:?}");
        assert!(waited <= length + SLACK, "it waited {waited:?}");
        pipeline.ended(build, Duration::from_secs(30)).await;
    }
    assert!(tasks_in(&pipeline, "waiting").await > 2_900);
    pipeline.stop().await;
}

#[tokio::test]
async fn one_build_runs_within_one_task_although_another_owner_has_three_thousand() {
    assert_no_long_wait(&[]).await;
}

#[tokio::test]
async fn it_does_so_also_when_the_three_thousand_have_grown_old() {
    assert_no_long_wait(&[("MILLRACE_PRIORITY_AGE_SECONDS", "1")]).await;
}

#[tokio::test]
async fn a_task_that_needs_a_whole_builder_starts_although_small_ones_keep_coming() {
    let length = Duration::from_secs(2);
    let reserve = [("MILLRACE_RESERVE_AFTER_SECONDS", "3")];
    let memory = [("MILLRACE_BUILDER_MEMORY_MIB", "4096")];
    let pipeline = start(length, 2, 4, &reserve, &memory).await;
    add_backlog(&pipeline, 3_000, 1).await;
    until_running(&pipeline, 8).await;
    let large = submit(&pipeline, json!({ "memory_reqs": 4096 })).await;
    let waited = claimed_after(&pipeline, large, Duration::from_mins(1)).await;
    println!("a whole builder: {waited:?}");
    // The patience, a sweep, the longest of the small ones.
    assert!(
        waited <= Duration::from_secs(3 + 1) + length + SLACK,
        "{waited:?}"
    );
    assert!(
        tasks_in(&pipeline, "running").await > 1,
        "the other builder goes on"
    );
    assert!(tasks_in(&pipeline, "waiting").await > 2_900);
    until_running(&pipeline, 8).await;
    pipeline.stop().await;
}

#[tokio::test]
async fn a_builder_kept_free_for_a_cancelled_task_serves_small_ones_at_once() {
    let length = Duration::from_secs(6);
    let reserve = [("MILLRACE_RESERVE_AFTER_SECONDS", "1")];
    let memory = [("MILLRACE_BUILDER_MEMORY_MIB", "2048")];
    let pipeline = start(length, 1, 2, &reserve, &memory).await;
    submit(&pipeline, json!({})).await;
    until_running(&pipeline, 1).await;
    let large = submit(&pipeline, json!({ "memory_reqs": 2048 })).await;
    until("a builder is kept free", async || {
        let build = show(&pipeline, large).await;
        let message = build["tasks"][0]["wait"]["message"].as_str()?.to_owned();
        message.contains("is kept free for it").then_some(())
    })
    .await;
    pipeline.shared_database().add_owners(1).await;
    let small = submit(&pipeline, json!({ "project": "owner-1/main" })).await;
    let told = show(&pipeline, small).await["tasks"][0]["wait"]["message"].clone();
    let told = told.as_str().unwrap();
    assert!(
        told.contains("kept free for a task that needs 2 GB"),
        "{told}"
    );
    let cancelled = Instant::now();
    let answer = pipeline.cli.run(&["cancel", &large.to_string()]).await;
    assert_eq!(answer.code, 0, "{answer:?}");
    claimed_after(&pipeline, small, Duration::from_secs(10)).await;
    assert!(cancelled.elapsed() <= SLACK, "{:?}", cancelled.elapsed());
    pipeline.stop().await;
}

/// Normal tasks of one owner, more than a builder can serve.
async fn keep_submitting(pipeline: &Pipeline) {
    let mut interval = tokio::time::interval(Duration::from_millis(500));
    loop {
        interval.tick().await;
        add_backlog(pipeline, 10, 1).await;
    }
}

#[tokio::test]
async fn background_tasks_age_upwards() {
    let length = Duration::from_millis(500);
    let age = [("MILLRACE_PRIORITY_AGE_SECONDS", "4")];
    let pipeline = start(length, 1, 1, &age, &[]).await;
    add_backlog(&pipeline, 10, 1).await;
    until_running(&pipeline, 1).await;
    let body = json!({ "project": "owner-1/main", "priority": "background" });
    let build = submit(&pipeline, body).await;
    let waited = tokio::select! {
        waited = claimed_after(&pipeline, build, Duration::from_secs(30)) => waited,
        () = keep_submitting(&pipeline) => unreachable!("it goes on for ever"),
    };
    println!("background: {waited:?}");
    assert!(
        waited >= Duration::from_secs(4),
        "before it had aged: {waited:?}"
    );
    pipeline.stop().await;
}

#[tokio::test]
async fn no_owner_has_more_under_way_than_it_may_and_the_rest_is_for_others() {
    let length = Duration::from_secs(3);
    let pipeline = start(length, 2, 2, &[("MILLRACE_OWNER_RUNNING", "2")], &[]).await;
    add_backlog(&pipeline, 100, 1).await;
    until_running(&pipeline, 2).await;
    let build = submit(&pipeline, json!({ "project": "owner-1/main" })).await;
    let wait = show(&pipeline, build).await["tasks"][0]["wait"].clone();
    assert_eq!(wait["reason"], "owner_limit", "{wait:#}");
    assert_eq!(
        wait["message"], "owner at its limit: 2 tasks under way",
        "{wait:#}"
    );
    let other = submit(&pipeline, json!({})).await;
    let waited = claimed_after(&pipeline, other, Duration::from_secs(10)).await;
    assert!(waited <= SLACK, "there is room for others: {waited:?}");
    let started = Instant::now();
    while started.elapsed() < 2 * length {
        let most = "select count(*)::text from tasks t join accounts a on a.id = t.owner_id
            where a.name = 'owner-1' and t.current_attempt is not null and t.state in ('waiting', 'queued', 'running')";
        let count = pipeline.shared_database().fetch_text(most).await.unwrap();
        assert!(count.parse::<u32>().unwrap() <= 2, "{count} are under way");
    }
    pipeline.stop().await;
}

#[tokio::test]
async fn of_several_hundred_owners_none_gets_far_ahead_of_another() {
    const OWNERS: u32 = 300;
    let pipeline = start(Duration::from_millis(100), 2, 4, &[], &[]).await;
    add_backlog(&pipeline, 5 * OWNERS, OWNERS).await;
    let counts = "select string_agg(c.name || ' ' || c.tasks, ',') from (
        select a.name, count(t.started_at) as tasks from accounts a join tasks t on t.owner_id = a.id group by a.id) c";
    until_within(
        Duration::from_mins(3),
        "each owner has had a turn",
        async || {
            let text = pipeline.shared_database().fetch_text(counts).await.unwrap();
            let turns: HashMap<&str, u32> = text
                .split(',')
                .filter_map(|entry| entry.split_once(' '))
                .map(|(owner, tasks)| (owner, tasks.parse().unwrap()))
                .collect();
            let (least, most) = (turns.values().min().unwrap(), turns.values().max().unwrap());
            assert!(
                most - least <= 2,
                "turns differ by {least} to {most}: {turns:?}"
            );
            (*least > 0 && turns.len() == OWNERS as usize).then_some(())
        },
    )
    .await;
    pipeline.stop().await;
}
