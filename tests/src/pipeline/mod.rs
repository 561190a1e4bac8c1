//! A whole pipeline of real processes for one test: frontends and builders on a database and a vhost of its own.

mod backing;
mod options;

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_store::{Inspector, TestDatabase};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tempfile::TempDir;

use self::backing::{Broker, Database};
pub use self::options::{BuilderOptions, PipelineOptions, Sandbox};
use crate::services::free_port;
use crate::{
    Cli, PrivateBroker, PrivateDatabase, Process, Settings, SmallDisk, leftovers, until,
    until_within,
};
use crate::{http_client, http_get};

const TOKEN: &str = "test-admin-token-0123456789abcdef";
/// With which builders enrol.
pub const ENROL_TOKEN: &str = "test-enrol-token-0123456789abcdef";

/// The running pipeline.
pub struct Pipeline {
    /// Frontends; the first one serves the CLI.
    pub frontends: Vec<Process>,
    /// Builders.
    pub builders: Vec<Process>,
    /// The command, pointed at this pipeline.
    pub cli: Cli,
    /// The suite's settings.
    pub settings: Settings,
    database: Database,
    broker: Broker,
    options: PipelineOptions,
    spool_disk: Option<SmallDisk>,
    results_disk: Option<SmallDisk>,
    folder: TempDir,
    port: u16,
}

impl Pipeline {
    /// Starts everything and waits until all builders are enrolled.
    pub async fn start(options: PipelineOptions) -> Self {
        let settings = Settings::from_env();
        let (database, broker) = backing::start(&options, &settings).await;
        let port = free_port();
        let cli = Cli {
            binary: settings.bin.join("millrace"),
            url: format!("http://127.0.0.1:{port}"),
            token: TOKEN.to_owned(),
        };
        let folder = tempfile::tempdir().unwrap();
        let builders = options.builders;
        let disk = |name, mib: Option<u32>| {
            mib.map(|mib| SmallDisk::mount(&folder.path().join(name), mib))
        };
        let spool_disk = disk("spool", options.spool_mib);
        let results_disk = disk("results", options.results_mib);
        let mut pipeline = Self {
            frontends: Vec::new(),
            builders: Vec::new(),
            cli,
            settings,
            database,
            broker,
            options,
            spool_disk,
            results_disk,
            folder,
            port,
        };
        pipeline.write_chroots();
        pipeline.start_frontend(port).await;
        for _ in 0..builders {
            pipeline.add_builder(&BuilderOptions::default());
        }
        pipeline.wait_for_builders(builders).await;
        pipeline
    }

    fn write_chroots(&self) {
        let Settings {
            chroot,
            image,
            mock_root,
            ..
        } = &self.settings;
        let image = self.options.image.as_ref().unwrap_or(image);
        // Without a base: no test's builder bakes the suite's own image anew.
        let entry = |name: &String| {
            format!(
                "[[chroot]]\nname = \"{name}\"\nimage = \"{image}\"\nmock_root = \"{mock_root}\"\n"
            )
        };
        let text: String = [chroot]
            .into_iter()
            .chain(&self.options.more_chroots)
            .map(entry)
            .collect();
        std::fs::write(self.path("chroots.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Starts a frontend on a port and waits until it is ready.
    pub async fn start_frontend(&mut self, port: u16) {
        let process = self.frontend_process(self.frontends.len(), port, &[]);
        self.frontends.push(process);
        let ready = format!("http://127.0.0.1:{port}/readyz");
        until("the frontend is ready", async || {
            reqwest_ok(&ready).await.then_some(())
        })
        .await;
    }

    /// Starts a frontend's process, with more environment over the pipeline's; its log is numbered.
    pub(crate) fn frontend_process(
        &self,
        number: usize,
        port: u16,
        more: &[(String, String)],
    ) -> Process {
        let env = pairs(&[
            ("MILLRACE_LISTEN", format!("127.0.0.1:{port}")),
            ("MILLRACE_PUBLIC_URL", self.cli.url.clone()),
            (
                "MILLRACE_DATABASE_URL",
                self.database.url().expose_secret().to_owned(),
            ),
            (
                "MILLRACE_AMQP_URL",
                self.broker.frontend_url().expose_secret().to_owned(),
            ),
            (
                "MILLRACE_RESULTS_URL",
                format!("file://{}", self.text("results")),
            ),
            ("MILLRACE_CHROOTS_FILE", self.text("chroots.toml")),
            ("MILLRACE_TOKEN", TOKEN.to_owned()),
            ("MILLRACE_ENROL_TOKEN", ENROL_TOKEN.to_owned()),
        ]);
        let env = [&env, self.options.frontend_env.as_slice(), more].concat();
        let log = self.path(&format!("frontend-{number}.log"));
        let binary = self.settings.bin.join("millrace-frontend");
        Process::start(&binary, &[], &env, &log)
    }

    /// The first frontend's port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The database, where it is a corner of the shared server.
    pub fn shared_database(&self) -> &TestDatabase {
        match &self.database {
            Database::Shared(database) => database,
            Database::Private(_) => panic!("the pipeline has a private database"),
        }
    }

    /// Starts the first frontend once more, on its old port.
    pub async fn restart_frontend(&mut self) {
        self.frontends[0].kill();
        self.frontends.remove(0);
        self.start_frontend(self.port).await;
        let last = self.frontends.len() - 1;
        self.frontends.swap(0, last);
    }

    /// Starts a further builder and returns its index.
    pub fn add_builder(&mut self, more: &BuilderOptions) -> usize {
        let process = self.builder_process(self.builders.len(), &more.env);
        self.builders.push(process);
        self.builders.len() - 1
    }

    /// Starts a builder's process, with more environment over the pipeline's; its log is numbered.
    pub(crate) fn builder_process(&self, number: usize, more: &[(String, String)]) -> Process {
        let env = pairs(&[
            ("MILLRACE_FRONTEND_URL", self.cli.url.clone()),
            (
                "MILLRACE_AMQP_URL",
                self.broker.builder_url().expose_secret().to_owned(),
            ),
            ("MILLRACE_ENROL_TOKEN", ENROL_TOKEN.to_owned()),
            ("MILLRACE_SPOOL_DIR", self.text("spool")),
            ("MILLRACE_ENGINE_URL", self.settings.engine.clone()),
            ("MILLRACE_SANDBOX_PROFILE", self.settings.profile.clone()),
            (
                "MILLRACE_SANDBOX",
                if self.options.sandbox == Sandbox::Noop {
                    "noop"
                } else {
                    "mock"
                }
                .to_owned(),
            ),
            (
                "MILLRACE_SUPERVISOR",
                self.settings.supervisor.to_str().unwrap().to_owned(),
            ),
            (
                "MILLRACE_BUILDER_SANDBOXES",
                self.options.sandboxes.to_string(),
            ),
        ]);
        let env = [&env, self.options.builder_env.as_slice(), more].concat();
        let log = self.path(&format!("builder-{number}.log"));
        let binary = self.settings.bin.join("millrace-builder");
        Process::start(&binary, &[], &env, &log)
    }

    /// Waits until this many builders are known.
    pub async fn wait_for_builders(&mut self, count: usize) {
        until("all builders are enrolled", async || {
            for builder in &mut self.builders {
                assert!(
                    builder.is_running(),
                    "a builder ended at its start:\n{}",
                    builder.log()
                );
            }
            (self.known_builders().await.len() >= count).then_some(())
        })
        .await;
    }

    /// Builders as the API lists them.
    pub async fn known_builders(&self) -> Vec<Value> {
        items(&self.get("/api/v1/builders").await)
    }

    /// A JSON document of the API.
    pub async fn get(&self, path: &str) -> Value {
        let answer = http_get(&format!("{}{path}", self.cli.url)).await;
        answer.json().await.unwrap()
    }

    /// Waits until a build has ended and returns it.
    pub async fn ended(&self, build: i64, deadline: Duration) -> Value {
        until_within(deadline, &format!("build {build} has ended"), async || {
            let build = self.cli.show(build).await;
            is_over(&build).then_some(build)
        })
        .await
    }

    /// Waits until a build's log holds a text.
    pub async fn logged(&self, build: i64, text: &str) {
        until(
            &format!("the log of build {build} holds {text:?}"),
            async || self.cli.log(build).await.contains(text).then_some(()),
        )
        .await;
    }

    /// The private database, for tests that stop it.
    pub fn database(&self) -> &PrivateDatabase {
        match &self.database {
            Database::Private(database) => database,
            Database::Shared(_) => panic!("the pipeline needs private_database"),
        }
    }

    /// The private broker, for tests that stop it.
    pub fn broker(&self) -> &PrivateBroker {
        match &self.broker {
            Broker::Private(broker) => broker,
            Broker::Shared(_) => panic!("the pipeline needs private_broker"),
        }
    }

    /// Runs a statement on the shared database.
    pub async fn execute(&self, sql: &str) -> u64 {
        self.shared_database().execute(sql).await
    }

    /// Address of the broker with an administrator's rights.
    pub fn broker_url(&self) -> SecretString {
        self.broker.admin_url()
    }

    /// The token with which builders enrol.
    pub fn enrol_token(&self) -> &'static str {
        ENROL_TOKEN
    }

    /// Ends all frontends with `kill -9`; [`Pipeline::start_first_frontend`] starts one again.
    pub fn kill_frontends(&mut self) {
        self.frontends.clear();
    }

    /// Starts the frontend that serves the CLI.
    pub async fn start_first_frontend(&mut self) {
        self.start_frontend(self.port).await;
    }

    /// Reads and changes tables directly.
    pub fn inspector(&self) -> Inspector {
        Inspector::at(&self.database.url()).unwrap()
    }

    /// The first column of the only row of a query, which must be a number.
    pub async fn count(&self, query: &str) -> i64 {
        let query = format!("select ({query}) as number");
        let rows = self.inspector().rows(&query).await.unwrap();
        rows[0]["number"]
            .as_i64()
            .unwrap_or_else(|| panic!("{query}: {rows:?}"))
    }

    /// Folder of the builders' spools.
    pub fn spool(&self) -> PathBuf {
        self.path("spool")
    }

    /// Folder of the result store.
    pub fn results(&self) -> PathBuf {
        self.path("results")
    }

    /// The disk of the spools, where it is a small one.
    pub fn spool_disk(&self) -> &SmallDisk {
        self.spool_disk.as_ref().expect("spool_mib is set")
    }

    /// The disk of the result store, where it is a small one.
    pub fn results_disk(&self) -> &SmallDisk {
        self.results_disk.as_ref().expect("results_mib is set")
    }

    /// Panics if a sandbox, or something in a spool, was left behind.
    pub async fn assert_nothing_left(&self) {
        let ids: Vec<String> = self
            .known_builders()
            .await
            .iter()
            .filter_map(|b| b["id"].as_str().map(str::to_owned))
            .collect();
        until("no sandbox is left", async || {
            leftovers(&ids).is_empty().then_some(())
        })
        .await;
        until("no attempt is left in a spool", async || {
            attempts_in(&self.spool()).is_empty().then_some(())
        })
        .await;
    }

    /// Ends everything and removes what the test had of its own.
    pub async fn stop(mut self) {
        self.builders.clear();
        self.frontends.clear();
        self.broker.stop().await;
    }
}

fn pairs(list: &[(&str, String)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

fn items(page: &Value) -> Vec<Value> {
    page["items"].as_array().cloned().unwrap_or_default()
}

fn is_over(build: &Value) -> bool {
    matches!(
        build["state"].as_str(),
        Some("succeeded" | "failed" | "cancelled")
    )
}

/// Folders of attempts below `<spool>/<builder>/attempts`.
fn attempts_in(spool: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path)
            .map(|d| d.filter_map(|e| e.ok().map(|e| e.path())).collect())
            .unwrap_or_default()
    };
    folders(spool)
        .iter()
        .flat_map(|builder| folders(&builder.join("attempts")))
        .collect()
}

async fn reqwest_ok(url: &str) -> bool {
    http_client()
        .get(url)
        .send()
        .await
        .is_ok_and(|answer| answer.status().is_success())
}
