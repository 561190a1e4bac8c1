//! Pollers of 2012 beside builders: whoever builds, each build has one owner and one accepted outcome.
//!
//! `MILLRACE_TEST_LEGACY_BUILDS` sets how many builds there are.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails on the spot"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::get;
use millrace_tests::{
    BuilderOptions, Pipeline, PipelineOptions, Process, Sandbox, http_client, sized_by, until,
    until_within,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_mins(10);

fn builds() -> usize {
    sized_by("MILLRACE_TEST_LEGACY_BUILDS", 90)
}

/// Serves what the simulated pollers leave, as a poller's own web server does.
async fn serve_results(folder: PathBuf) -> String {
    async fn file(
        State(folder): State<Arc<PathBuf>>,
        UrlPath(path): UrlPath<String>,
    ) -> StatusCode {
        let is_there = !path.contains("..") && folder.join(path).is_file();
        if is_there {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        }
    }
    let router = Router::new()
        .route("/{*path}", get(file))
        .with_state(Arc::new(folder));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// A poller that builds, played by the command.
struct Poller {
    url: String,
    secret: String,
    folder: PathBuf,
    results: String,
    process: Process,
}

impl Poller {
    async fn start(pipeline: &Pipeline, name: &str, folder: &Path) -> Self {
        let added = [
            "poller", "add", name, "--mode", "execute", "--share", "25", "--fence", "reject",
        ];
        let access = pipeline.cli.json(&added).await;
        let text = |key: &str| access[key].as_str().unwrap().to_owned();
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let results = serve_results(folder.join("dest")).await;
        let (url, secret) = (text("url"), text("secret"));
        let process = simulate(&pipeline.cli.binary, &url, &secret, &folder, &results);
        Self {
            url,
            secret,
            folder,
            results,
            process,
        }
    }

    /// `kill -9`, and the same spool once more.
    fn restart(&mut self, binary: &Path) {
        self.process.kill();
        self.process = simulate(binary, &self.url, &self.secret, &self.folder, &self.results);
    }
}

fn simulate(binary: &Path, url: &str, secret: &str, folder: &Path, results: &str) -> Process {
    let text = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let args = [
        "poller",
        "simulate",
        "--spool",
        &text("spool"),
        "--destdir",
        &text("dest"),
        "--results",
        results,
        "--sleep-millis",
        "300",
        "--spawn-millis",
        "100",
        "--build-millis",
        "100",
        "--workers",
        "5",
    ];
    let env = [
        ("MILLRACE_POLLER_URL", url),
        ("MILLRACE_POLLER_SECRET", secret),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Process::start(binary, &args, &env, &folder.join("log"))
}

/// Polls a list without a pause; each answer is JSON, also while the frontend starts.
fn watch(url: String, answers: Arc<AtomicUsize>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let client = http_client();
        loop {
            if let Ok(answer) = client.get(&url).send().await
                && let Ok(body) = answer.bytes().await
            {
                let list: Value = serde_json::from_slice(&body).expect("an answer is JSON");
                assert!(list["builds"].is_array(), "{list}");
                answers.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

async fn submit(pipeline: &Pipeline, count: usize) {
    let client = http_client();
    let body = json!({"sources": ["https://example.org/hello-1-1.src.rpm"], "chroots": [pipeline.settings.chroot]});
    for _ in 0..count {
        let answer = pipeline
            .call(&client, Method::POST, "/api/v1/builds", Some(&body))
            .await;
        assert_eq!(answer.status, 201, "{}", answer.json());
    }
}

async fn start(folder: &Path) -> (Pipeline, Vec<Poller>) {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        builders: 4,
        frontend_env: vec![("MILLRACE_FETCH_ALLOW".to_owned(), "127.0.0.0/8".to_owned())],
        builder_env: vec![("MILLRACE_NOOP_MILLIS".to_owned(), "200".to_owned())],
        ..PipelineOptions::default()
    })
    .await;
    let mut pollers = Vec::new();
    for name in ["one", "two"] {
        pollers.push(Poller::start(&pipeline, name, folder).await);
    }
    (pipeline, pollers)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pollers_two_watchers_and_four_builders_build_each_build_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut pipeline, mut pollers) = start(folder.path()).await;
    let observer = pipeline.cli.json(&["poller", "add", "watcher"]).await;
    let answers = Arc::new(AtomicUsize::new(0));
    let own = format!("{}/waiting_builds/", observer["url"].as_str().unwrap());
    let bare = format!("{}/backend/waiting_builds/", pipeline.cli.url);
    let watchers = [own, bare].map(|url| watch(url, answers.clone()));

    let all = builds();
    let binary = pipeline.cli.binary.clone();
    submit(&pipeline, all / 3).await;
    pipeline.restart_frontend().await;
    submit(&pipeline, all / 3).await;
    pollers[0].restart(&binary);
    pipeline.builders[0].kill();
    pipeline.builders.remove(0);
    pipeline.add_builder(&BuilderOptions::default());
    submit(&pipeline, all - 2 * (all / 3)).await;
    pollers[1].restart(&binary);
    pipeline.restart_frontend().await;
    until_within(LONG, "all builds have ended", async || {
        let open = "select count(*) from tasks where state in ('waiting', 'queued', 'running')";
        (pipeline.count(open).await == 0).then_some(())
    })
    .await;
    for watcher in watchers {
        assert!(!watcher.is_finished(), "an answer was none");
        watcher.abort();
    }
    assert!(answers.load(Ordering::Relaxed) > 0);
    assert_one_owner_each(&pipeline, i64::try_from(all).unwrap()).await;
    for poller in &mut pollers {
        assert!(poller.process.is_running(), "{}", poller.process.log());
    }
    let lens = pipeline.cli.json(&["poller", "lens", "one"]).await;
    assert_eq!(lens["owned"], json!([]));
    drop(pollers);
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
}

async fn assert_one_owner_each(pipeline: &Pipeline, all: i64) {
    let count = async |query: &str| {
        let number = pipeline.count(query).await;
        println!("{number}: {query}");
        number
    };
    assert_eq!(
        count("select count(*) from tasks where state = 'succeeded'").await,
        all
    );
    // What a killed builder left is reported as lost, and does not count as an outcome.
    let accepted = "from attempts where state = 'finished' and outcome->>'kind' = 'succeeded'";
    let outcomes = format!("select count(*) {accepted}");
    assert_eq!(count(&outcomes).await, all, "one accepted outcome each");
    let tasks = format!("select count(distinct task_id) {accepted}");
    assert_eq!(count(&tasks).await, all);
    let both = "select count(*) from attempts p join attempts q on q.task_id = p.task_id
        where p.poller_id is not null and q.poller_id is null and p.number > q.number";
    assert_eq!(count(both).await, 0, "what the queue had, no poller gets");
    for poller in ["one", "two"] {
        let built = format!(
            "select count(*) from attempts a join legacy_pollers p on p.id = a.poller_id
             where p.name = '{poller}' and a.state = 'finished'"
        );
        assert!(count(&built).await > 0, "{poller} built something");
    }
    let by_builders =
        "select count(*) from attempts where state = 'finished' and builder_id is not null";
    assert!(count(by_builders).await > 0);
    // One builder with two sandboxes was killed, and no poller lost a claim.
    let again = "select count(*) from attempts where claimed_at is not null";
    assert!(
        count(again).await <= all + 2,
        "only what a kill cut off is built again"
    );
    let lost = "select count(*) from attempts where poller_id is not null and state <> 'finished'";
    assert_eq!(count(lost).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poller_that_dies_after_its_start_does_not_hold_its_build() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        frontend_env: [
            ("MILLRACE_LEGACY_SILENCE_SECONDS", "2"),
            ("MILLRACE_LEGACY_MARGIN_SECONDS", "3"),
            ("MILLRACE_LOG", "debug"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        ..PipelineOptions::default()
    })
    .await;
    let access = pipeline
        .cli
        .json(&[
            "poller", "add", "dying", "--mode", "execute", "--fence", "reject",
        ])
        .await;
    let url = access["url"].as_str().unwrap();
    let client = http_client();
    let body = json!({"sources": ["https://example.org/hello-1-1.src.rpm"], "chroots": [pipeline.settings.chroot], "timeout": 10});
    for _ in 0..2 {
        let answer = pipeline
            .call(&client, Method::POST, "/api/v1/builds", Some(&body))
            .await;
        assert_eq!(answer.status, 201);
    }
    let list: Value = client
        .get(format!("{url}/waiting_builds/"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(list["builds"].as_array().unwrap().len(), 2);
    let report = async |build: Value| {
        let request = client.post(format!("{url}/update_builds/"));
        let request = request.basic_auth("user", access["secret"].as_str());
        let answer = request
            .json(&json!({ "builds": [build] }))
            .send()
            .await
            .unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    };
    assert_eq!(report(json!({"id": 1, "started_on": 5})).await.0, 200);
    // Neither polls nor reports any more: the one that was not begun goes first.
    for build in [2, 1] {
        let ended = pipeline.ended(build, LONG).await;
        assert_eq!(ended["state"], "succeeded", "{ended:#}");
        let attempts = ended["tasks"][0]["attempts"].as_array().unwrap();
        assert_eq!(attempts[0]["poller"], "dying");
        assert!(attempts[1]["builder"].is_string(), "{ended:#}");
    }
    let (status, late) = report(json!({"id": 1, "started_on": 6})).await;
    assert_eq!(
        (status, &late["ignored_builds_ids"]),
        (409, &json!([1])),
        "the fence that was asked for"
    );
    until("nobody routes to the dead", async || {
        let poller = pipeline.cli.json(&["poller", "show", "dying"]).await;
        (poller["alive"] == false).then_some(())
    })
    .await;
    let log = pipeline.frontends[0].log();
    let token = url.split('/').nth(4).unwrap();
    assert!(
        log.contains("/legacy/{token}/backend/waiting_builds/"),
        "requests are logged"
    );
    for secret in [token, access["secret"].as_str().unwrap()] {
        assert!(
            secret.len() == 64 && !log.contains(secret),
            "without their secrets"
        );
    }
    let removed = pipeline.cli.run(&["poller", "remove", "dying"]).await;
    assert_eq!(removed.code, 0, "{removed:?}");
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_moved_by_the_command() {
    let pipeline = Pipeline::start(PipelineOptions {
        sandbox: Sandbox::Noop,
        ..PipelineOptions::default()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let build = |id: i64| {
        json!({"id": id, "user_id": 7, "pkgs": "https://example.org/hello-1-1.src.rpm", "chroots": pipeline.settings.chroot,
            "repos": "", "submitted_on": 1_351_770_919, "timeout": 1800, "memory_reqs": 2048, "state": "waiting",
            "copr": {"id": 9, "name": "asd", "owner": {"id": 7, "name": "bkabrda"}}})
    };
    let builds: Vec<Value> = (1..=450).map(build).collect();
    let file = folder.path().join("builds.json");
    std::fs::write(&file, json!({ "builds": builds }).to_string()).unwrap();
    let file = file.to_str().unwrap();
    let sums = pipeline.cli.json(&["import", file]).await;
    assert_eq!(sums["imported"].as_array().unwrap().len(), 450);
    assert_eq!(pipeline.count("select count(*) from attempts").await, 0);
    let again = pipeline.cli.run(&["import", file]).await;
    assert_eq!(
        again.stdout,
        "0 builds imported, 450 were here, 0 released\n"
    );
    let few = json!({ "builds": [build(3), build(4)] });
    let part = folder.path().join("few.json");
    std::fs::write(&part, few.to_string()).unwrap();
    let released = pipeline
        .cli
        .json(&["import", part.to_str().unwrap(), "--release"])
        .await;
    assert_eq!(released["released"], json!([3, 4]));
    for build in [3, 4] {
        let ended = pipeline.ended(build, LONG).await;
        assert_eq!(
            (&ended["state"], &ended["owner"]),
            (&json!("succeeded"), &json!("bkabrda"))
        );
    }
    assert_eq!(pipeline.count("select count(*) from attempts").await, 2);
    let wrong = pipeline.cli.run(&["import", "/nonexistent"]).await;
    assert_eq!(wrong.code, 2);
    pipeline.stop().await;
}
