//! A poller of 2012 builds, and the frontend dies between its words: the build stays that poller's, and ends once.

use axum::Router;
use millrace_tests::{Program, Sandbox, http_client, until};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::environment::{Ending, Environment, key, nowhere};

/// Points on a build's way through a poller, in the order of that way.
pub const POINTS: [&str; 6] = [
    "poll.unclaimed",
    "poll.claimed",
    "update.unstored",
    "update.stored",
    "belief.unsettled",
    "belief.settled",
];
/// The poller's web server is on this host, whose addresses are not asked otherwise.
const FRONTEND: [(&str, &str); 1] = [("MILLRACE_FETCH_ALLOW", "127.0.0.0/8")];

/// A poller that says everything until it is answered.
#[derive(Clone)]
struct Poller {
    url: String,
    secret: String,
    results: String,
}

impl Poller {
    async fn add(environment: &Environment) -> Self {
        let add = ["poller", "add", "old", "--mode", "execute"];
        let access = environment.pipeline.cli.json(&add).await;
        let text = |key: &str| access[key].as_str().unwrap().to_owned();
        Self {
            url: text("url"),
            secret: text("secret"),
            results: serve_everything().await,
        }
    }

    /// Polls until a build is listed, and reports it as begun and as built.
    async fn build(&self, build: i64) {
        until("the build is listed", async || {
            let list = heard(http_client().get(format!("{}/waiting_builds/", self.url))).await?;
            let builds = list["builds"].as_array()?;
            builds.iter().any(|it| it["id"] == build).then_some(())
        })
        .await;
        let results = &self.results;
        self.report(json!({"id": build, "started_on": 1.5, "results": results}))
            .await;
        self.report(json!({"id": build, "ended_on": 2.5, "status": 1}))
            .await;
    }

    async fn report(&self, entry: Value) {
        let body = json!({ "builds": [entry] });
        let url = format!("{}/update_builds/", self.url);
        until("the report is taken", async || {
            let post = http_client().post(&url).json(&body);
            heard(post.basic_auth("any", Some(&self.secret))).await
        })
        .await;
    }
}

/// A good answer, or none.
async fn heard(request: RequestBuilder) -> Option<Value> {
    let answer = request.send().await.ok()?.error_for_status().ok()?;
    answer.json().await.ok()
}

/// The poller's own web server, which has whatever is asked for.
async fn serve_everything() -> String {
    let router = Router::new().fallback(|| async { "there" });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

#[tokio::test]
async fn what_a_poller_has_and_says_survives_the_frontend() {
    let mut environment = Environment::start(Sandbox::Noop, &FRONTEND, &[]).await;
    let poller = Poller::add(&environment).await;
    for point in POINTS {
        let (client, poller) = (environment.client.clone(), poller.clone());
        let doing = async move {
            let build = client.submit(&nowhere(), &key()).await;
            poller.build(build).await;
            build
        };
        let build = environment.crash(Program::Frontend, &[point], doing).await;
        let once = Ending {
            kind: "succeeded",
            claimed: 1,
        };
        environment.expect(point, build, once).await;
    }
    environment.stop().await;
}
