//! A frontend on port 0 with a database of its own, driven by HTTP alone.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use millrace_bus::testing::TestVhost;
use millrace_chassis::{ApiClient, Lifecycle, Method, RequestBuilder, Shutdown};
use millrace_frontend::{Application, Cli, Settings};
use millrace_store::TestDatabase;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub const ADMIN: &str = "the-admin-token";
pub const ENROL: &str = "the-enrolment-token";
/// Address of a broker that does not exist.
pub const NOWHERE: &str = "amqp://u:p@127.0.0.1:1/none";
const PATIENCE: Duration = Duration::from_secs(20);

const CHROOTS: &str = r#"
[[chroot]]
name = "debian-13-x86_64"
image = "image-of-debian"
mock_root = "debian-13-x86_64"

[[chroot]]
name = "debian-13-aarch64"
image = "image-of-debian-arm"
mock_root = "debian-13-aarch64"

[[chroot]]
name = "fedora-44-x86_64"
image = "image-of-fedora"
mock_root = "fedora-44-x86_64"
"#;

/// A running frontend, with its database and its folder of results.
pub struct Frontend {
    address: SocketAddr,
    pub database: Option<TestDatabase>,
    client: ApiClient,
    shutdown: Shutdown,
    running: JoinHandle<ExitCode>,
    _folder: TempDir,
}

/// An answer whose body was read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Frontend {
    /// Starts with a database and no broker.
    pub async fn start() -> Self {
        Self::start_with(NOWHERE, &[]).await
    }

    /// Starts with a database and a broker.
    pub async fn start_on(vhost: &TestVhost) -> Self {
        Self::start_with(vhost.frontend_url().expose_secret(), &[]).await
    }

    /// Starts with a database, this broker and these command-line flags.
    pub async fn start_with(amqp: &str, flags: &[&str]) -> Self {
        let database = TestDatabase::create().await;
        let url = database.url();
        let mut frontend = Self::launch(url.expose_secret(), amqp, flags).await;
        frontend.database = Some(database);
        frontend
            .until("ready", async |f| f.get("/readyz").await.status == 200)
            .await;
        frontend
    }

    /// Starts with the address of a database that does not exist.
    pub async fn start_without_database() -> Self {
        Self::launch("postgres://u:p@127.0.0.1:1/none", NOWHERE, &[]).await
    }

    async fn launch(database: &str, amqp: &str, flags: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let chroots = folder.path().join("chroots.toml");
        std::fs::write(&chroots, CHROOTS).unwrap();
        let mut arguments = vec![
            "millrace-frontend".to_owned(),
            "--listen=127.0.0.1:0".to_owned(),
            format!("--database-url={database}"),
            format!("--amqp-url={amqp}"),
            format!("--results-url=file://{}/results", folder.path().display()),
            format!("--chroots-file={}", chroots.display()),
            format!("--token={ADMIN}"),
            format!("--enrol-token={ENROL}"),
            "--public-url=http://public.example:8080".to_owned(),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let settings = Settings::check(Cli::parse_from(arguments).config).unwrap();
        let mut lifecycle = Lifecycle::new(Some(Duration::from_secs(5))).unwrap();
        let shutdown = lifecycle.shutdown();
        let application = Application::build(settings, None, shutdown.clone())
            .await
            .unwrap();
        let address = application.address().unwrap();
        let url = format!("http://{address}");
        application.spawn(&mut lifecycle);
        Self {
            client: ApiClient::new(&url, None).unwrap(),
            address,
            database: None,
            shutdown,
            running: tokio::spawn(lifecycle.run()),
            _folder: folder,
        }
    }

    /// Stops the frontend as a signal would, and asserts that it ended without an error.
    pub async fn stop(self) {
        self.shutdown.stop();
        let code = self.running.await.unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    }

    pub fn database(&self) -> &TestDatabase {
        self.database.as_ref().unwrap()
    }

    /// A request with a bearer token, or without one where `token` is empty.
    pub fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        if token.is_empty() {
            return self.client.request(method, path);
        }
        let client = self.client.with_token(SecretString::from(token));
        client.request(method, path)
    }

    pub async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path, "")).await
    }

    /// A GET on a connection of its own, as a browser sends it; returns head and body as text.
    pub async fn browse(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Sends a POST with the admin token.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_as(ADMIN, path, body).await
    }

    pub async fn post_as(&self, token: &str, path: &str, body: &Value) -> Reply {
        send(self.request(Method::POST, path, token).json(body)).await
    }

    /// Submits a build of one source in one chroot, with these fields changed, and returns it.
    pub async fn submit(&self, more: Value) -> Value {
        let mut body = json!({"sources": ["http://example.org/a-1-1.src.rpm"], "chroots": ["debian-13-x86_64"]});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let reply = self.post("/api/v1/builds", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()
    }

    /// Address that the frontend listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a condition holds; panics after 20 s.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            assert!(begun.elapsed() < PATIENCE, "not {what} in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Counts of rows in all tables that a submission writes to.
    pub async fn stored(&self) -> String {
        let sql =
            "select concat_ws(' ', (select count(*) from builds), (select count(*) from sources),
                   (select count(*) from tasks), (select count(*) from idempotency_keys))";
        self.database().fetch_text(sql).await.unwrap()
    }
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Asserts that this is a problem with this status that names this field; `context` goes into the failure.
    pub fn assert_problem(&self, status: u16, field: &str, context: &str) {
        assert_eq!(self.status, status, "{context}: {}", self.text());
        assert_eq!(self.content_type, "application/problem+json", "{context}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{context}");
        let named = problem["field"].as_str().unwrap_or_default();
        assert_eq!(named, field, "{context}: {}", self.text());
    }
}

/// Sends a request and reads the answer whole.
pub async fn send(request: RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let headers: Vec<(String, String)> = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let content_type = headers
        .iter()
        .find(|(name, _)| name == "content-type")
        .map_or_else(String::new, |(_, value)| value.clone());
    Reply {
        status: response.status().as_u16(),
        content_type,
        headers,
        body: response.bytes().await.unwrap().to_vec(),
    }
}
