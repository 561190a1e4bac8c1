//! Everything that runs: PostgreSQL and RabbitMQ of the run's own, frontends, builders, and proxies between them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_store::Inspector;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::member::{DRAIN_SECONDS, Launch, Member, Ways};
use super::options::Options;
use super::small_disk::SmallDisk;
use crate::services::free_port;
use crate::{FaultProxy, PrivateBroker, PrivateDatabase, Settings, http_client, until_within};

/// The admin token of the run.
pub const TOKEN: &str = "chaos-admin-token-0123456789abcdef";
const ENROL_TOKEN: &str = "chaos-enrol-token-0123456789abcdef";
/// Owners and projects that clients submit for.
pub const PROJECTS: [(&str, &str); 3] = [("ann", "main"), ("bob", "tools"), ("eve", "world")];
const READY: Duration = Duration::from_mins(3);

/// The running system.
pub struct Environment {
    /// The suite's settings.
    pub settings: Settings,
    /// Logs, spools and results.
    pub folder: PathBuf,
    /// PostgreSQL.
    pub database: PrivateDatabase,
    /// RabbitMQ.
    pub broker: PrivateBroker,
    /// Held by the fault that is at broker or database.
    pub services: Mutex<()>,
    /// Held by the fault that is at the job queues.
    pub jobs: Mutex<()>,
    /// Held by the fault that is at the queue of reports.
    pub reports: Mutex<()>,
    /// Frontends.
    pub frontends: Vec<Member>,
    /// Builders.
    pub builders: Vec<Member>,
    /// The clients' ways to the frontends.
    pub clients: Vec<FaultProxy>,
    /// The first builder's disk, where one could be mounted.
    pub disk: Result<SmallDisk, String>,
}

impl Environment {
    /// Starts everything and waits until it serves.
    pub async fn start(options: &Options, folder: &Path) -> Self {
        let settings = Settings::from_env();
        write_chroots(&settings, folder);
        let (database, broker) = tokio::join!(PrivateDatabase::start(), PrivateBroker::start());
        let ports: Vec<u16> = (0..options.frontends).map(|_| free_port()).collect();
        let mut clients = Vec::new();
        for port in &ports {
            clients.push(FaultProxy::start(vec![*port]).await);
        }
        let mut environment = Self {
            disk: SmallDisk::mount(&folder.join("spool-0")),
            settings,
            folder: folder.to_owned(),
            database,
            broker,
            services: Mutex::default(),
            jobs: Mutex::default(),
            reports: Mutex::default(),
            frontends: Vec::new(),
            builders: Vec::new(),
            clients,
        };
        for (number, port) in ports.iter().enumerate() {
            environment.add_frontend(number, *port, options).await;
        }
        for number in 0..usize::from(options.builders) {
            environment.add_builder(number, &ports, options).await;
        }
        environment.ready(usize::from(options.builders)).await;
        environment.make_projects().await;
        environment
    }

    /// Addresses at which clients find frontends.
    pub fn addresses(&self) -> Vec<String> {
        let address = |proxy: &FaultProxy| format!("http://127.0.0.1:{}", proxy.port());
        self.clients.iter().map(address).collect()
    }

    /// The folder of the result store.
    pub fn results(&self) -> PathBuf {
        self.folder.join("results")
    }

    /// The builders' spools.
    pub fn spools(&self) -> Vec<PathBuf> {
        (0..self.builders.len())
            .map(|number| self.spool(number))
            .collect()
    }

    fn spool(&self, number: usize) -> PathBuf {
        self.folder.join(format!("spool-{number}"))
    }

    async fn add_frontend(&mut self, number: usize, port: u16, options: &Options) {
        let ways = Ways {
            frontend: None,
            broker: Some(FaultProxy::start(vec![self.broker.port()]).await),
            database: Some(FaultProxy::start(vec![self.database.port()]).await),
        };
        let through = |url: SecretString, own: u16, proxy: &Option<FaultProxy>| {
            let other = proxy.as_ref().map_or(own, FaultProxy::port);
            url.expose_secret()
                .replace(&format!(":{own}/"), &format!(":{other}/"))
        };
        let text = |path: PathBuf| path.display().to_string();
        let env = [
            ("MILLRACE_LISTEN", format!("127.0.0.1:{port}")),
            (
                "MILLRACE_PUBLIC_URL",
                format!("http://127.0.0.1:{}", self.clients[0].port()),
            ),
            (
                "MILLRACE_DATABASE_URL",
                through(self.database.url(), self.database.port(), &ways.database),
            ),
            (
                "MILLRACE_AMQP_URL",
                through(self.broker.url(), self.broker.port(), &ways.broker),
            ),
            (
                "MILLRACE_RESULTS_URL",
                format!("file://{}", text(self.results())),
            ),
            (
                "MILLRACE_CHROOTS_FILE",
                text(self.folder.join("chroots.toml")),
            ),
            ("MILLRACE_TOKEN", TOKEN.to_owned()),
            ("MILLRACE_ENROL_TOKEN", ENROL_TOKEN.to_owned()),
            ("MILLRACE_HEARTBEAT_SECONDS", "3".to_owned()),
            ("MILLRACE_LEASE_SECONDS", "15".to_owned()),
            (
                "MILLRACE_OFFER_SECONDS",
                if options.is_real() { "120" } else { "45" }.to_owned(),
            ),
        ];
        let launch = self.launch("frontend", number, &env);
        self.frontends
            .push(Member::start(format!("frontend {number}"), launch, ways));
    }

    async fn add_builder(&mut self, number: usize, frontends: &[u16], options: &Options) {
        let ways = Ways {
            frontend: Some(FaultProxy::start(frontends.to_vec()).await),
            broker: Some(FaultProxy::start(vec![self.broker.port()]).await),
            database: None,
        };
        let port = |proxy: &Option<FaultProxy>| proxy.as_ref().map_or(0, FaultProxy::port);
        let own = self.broker.port();
        let broker = self
            .broker
            .url()
            .expose_secret()
            .replace(&format!(":{own}/"), &format!(":{}/", port(&ways.broker)));
        let sandbox = if options.is_real() { "mock" } else { "noop" };
        let text = |path: PathBuf| path.display().to_string();
        let env = [
            (
                "MILLRACE_FRONTEND_URL",
                format!("http://127.0.0.1:{}", port(&ways.frontend)),
            ),
            ("MILLRACE_AMQP_URL", broker),
            ("MILLRACE_ENROL_TOKEN", ENROL_TOKEN.to_owned()),
            ("MILLRACE_BUILDER_NAME", format!("chaos-{number}")),
            ("MILLRACE_SPOOL_DIR", text(self.spool(number))),
            (
                "MILLRACE_STATUS_FILE",
                text(self.folder.join(format!("builder-{number}.status"))),
            ),
            // The small disk is smaller than the usual floor.
            ("MILLRACE_SPOOL_FLOOR_MB", "16".to_owned()),
            ("MILLRACE_ENGINE_URL", self.settings.engine.clone()),
            ("MILLRACE_SANDBOX_PROFILE", self.settings.profile.clone()),
            ("MILLRACE_SANDBOX", sandbox.to_owned()),
            ("MILLRACE_NOOP_MILLIS", "1000".to_owned()),
            (
                "MILLRACE_SUPERVISOR",
                text(self.settings.supervisor.clone()),
            ),
            ("MILLRACE_DRAIN_SECONDS", DRAIN_SECONDS.to_string()),
            (
                "MILLRACE_BUILDER_SANDBOXES",
                options.sandboxes().to_string(),
            ),
        ];
        let launch = self.launch("builder", number, &env);
        self.builders
            .push(Member::start(format!("builder {number}"), launch, ways));
    }

    fn launch(&self, what: &str, number: usize, env: &[(&str, String)]) -> Launch {
        Launch {
            binary: self.settings.bin.join(format!("millrace-{what}")),
            env: env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            log: self.folder.join(format!("{what}-{number}.log")),
        }
    }

    /// There is no call that makes a project yet.
    async fn make_projects(&self) {
        let inspector = Inspector::at(&self.database.url()).unwrap();
        for (owner, project) in PROJECTS {
            let account =
                format!("insert into accounts (name) values ('{owner}') on conflict do nothing");
            let project = format!(
                "insert into projects (account_id, name) select id, '{project}' from accounts where name = '{owner}'"
            );
            inspector.execute(&account).await.unwrap();
            inspector.execute(&project).await.unwrap();
        }
    }

    async fn ready(&mut self, builders: usize) {
        let address = self.addresses()[0].clone();
        let client = http_client();
        until_within(READY, "all builders are enrolled", async || {
            for member in self.builders.iter_mut().chain(&mut self.frontends) {
                let running = member
                    .process
                    .get_mut()
                    .as_mut()
                    .is_some_and(crate::Process::is_running);
                assert!(
                    running,
                    "{} ended at its start:\n{}",
                    member.name,
                    member.log()
                );
            }
            let answer = client
                .get(format!("{address}/api/v1/builders"))
                .send()
                .await
                .ok()?;
            let list: serde_json::Value = answer.json().await.ok()?;
            (list["items"].as_array()?.len() >= builders).then_some(())
        })
        .await;
    }
}

fn write_chroots(settings: &Settings, folder: &Path) {
    let Settings {
        chroot,
        image,
        mock_root,
        ..
    } = settings;
    let text = format!(
        "[[chroot]]\nname = \"{chroot}\"\nimage = \"{image}\"\nbase = \"{image}\"\nmock_root = \"{mock_root}\"\n"
    );
    std::fs::write(folder.join("chroots.toml"), text).unwrap();
}
