//! One pipeline on which programs die, one case after the other.

use std::time::Duration;

use millrace_tests::{Client, Fixture, Pipeline, PipelineOptions, Program, Sandbox, until_within};
use serde_json::{Value, json};
use uuid::Uuid;

/// A build takes seconds; this is for a machine that has other things to do.
const ENDED: Duration = Duration::from_mins(3);

/// The pipeline with what was asked of it.
pub struct Environment {
    pub pipeline: Pipeline,
    pub client: Client,
    /// Builds that were answered for.
    pub builds: Vec<i64>,
}

/// How a build is to end.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// Kind of the outcome.
    pub kind: &'static str,
    /// Attempts that were claimed: more than one where work had to be done again.
    pub claimed: usize,
}

impl Environment {
    pub async fn start(
        sandbox: Sandbox,
        frontend: &[(&str, &str)],
        builder: &[(&str, &str)],
    ) -> Self {
        let owned = |list: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            list.iter().map(pair).collect()
        };
        let quick: [(&str, &str); 1] = [("MILLRACE_HEARTBEAT_SECONDS", "1")];
        let pipeline = Pipeline::start(PipelineOptions {
            sandbox,
            sandboxes: 1,
            frontend_env: owned(&[&quick, frontend].concat()),
            builder_env: owned(builder),
            ..PipelineOptions::default()
        })
        .await;
        pipeline.assert_crash_points();
        Self {
            client: Client::of(&pipeline),
            pipeline,
            builds: Vec::new(),
        }
    }

    /// Has a program die at points one after the other, each time started anew, while something is done.
    pub async fn crash<T>(
        &mut self,
        program: Program,
        points: &[&str],
        doing: impl Future<Output = T>,
    ) -> T {
        self.pipeline.arm(program, points[0]);
        let pipeline = &mut self.pipeline;
        let deaths = async move {
            for (at, point) in points.iter().enumerate() {
                pipeline.died(program, point).await;
                match points.get(at + 1) {
                    Some(next) => pipeline.arm(program, next),
                    None => pipeline.revive(program),
                }
            }
        };
        tokio::join!(doing, deaths).0
    }

    /// Waits for the end of a build that a client was told of, and looks at everything.
    pub async fn expect(&mut self, case: &str, build: i64, ending: Ending) {
        self.builds.push(build);
        let client = &self.client;
        let shown = until_within(
            ENDED,
            &format!("{case}: build {build} has ended"),
            async || {
                let shown = client.show(build).await?;
                let state = shown["state"].as_str()?.to_owned();
                matches!(state.as_str(), "succeeded" | "failed" | "cancelled").then_some(shown)
            },
        )
        .await;
        assert_eq!(kind(&shown), ending.kind, "{case}: {shown:#}");
        assert_eq!(
            self.claimed(build).await,
            ending.claimed,
            "{case}: {shown:#}"
        );
        self.look(case).await;
    }

    /// Attempts of a build that a builder had.
    async fn claimed(&self, build: i64) -> usize {
        let query = format!(
            "select count(*)::text from attempts a join tasks t on t.id = a.task_id
             where t.build_id = {build} and a.claimed_at is not null"
        );
        let count = self.pipeline.shared_database().fetch_text(&query).await;
        count.unwrap().parse().unwrap()
    }

    /// Ends everything, after the janitor has had its turn.
    pub async fn stop(self) {
        self.look_after_the_janitor().await;
        self.pipeline.stop().await;
    }
}

fn kind(build: &Value) -> &str {
    build["tasks"][0]["outcome"]["kind"]
        .as_str()
        .unwrap_or_default()
}

/// A source that the stand-in never fetches.
pub fn nowhere() -> Value {
    json!("http://example.org/nothing-1-1.src.rpm")
}

/// A key for one submission.
pub fn key() -> String {
    Uuid::new_v4().to_string()
}

/// Uploads and submits, whatever dies meanwhile.
pub async fn upload_and_submit(client: Client, fixture: &str) -> i64 {
    let source = client.upload(&Fixture::named(fixture)).await;
    client.submit(&source, &key()).await
}
