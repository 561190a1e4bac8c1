//! For tests: a virtual host of its own for each, with users that have exactly the rights they have in production.

#![expect(
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test without a broker can only end, with a sentence that says what to run"
)]

mod tamper;

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

pub use tamper::{Stolen, TamperError, plant, steal};

/// The rights of production; read from there, so that tests notice when they do not suffice.
const DEFINITIONS: &str = include_str!("../../../../../deploy/rabbitmq/definitions.template.json");
/// `test:test` in base64.
const AUTHORIZATION: &str = "Basic dGVzdDp0ZXN0";
const DEADLINE: Duration = Duration::from_secs(30);
const DEFAULT_PORT: u16 = 56_729;

/// A virtual host on the broker of `scripts/test-rabbitmq`.
#[derive(Debug)]
pub struct TestVhost {
    name: String,
    port: u16,
}

impl TestVhost {
    /// Makes a virtual host on the common test broker, or on that of `MILLRACE_TEST_RABBITMQ_PORT`. Panics with a
    /// sentence when there is no broker.
    pub async fn create() -> Self {
        let port = std::env::var("MILLRACE_TEST_RABBITMQ_PORT")
            .ok()
            .and_then(|port| port.parse().ok())
            .unwrap_or(DEFAULT_PORT);
        Self::create_on(port).await
    }

    /// Makes a virtual host on the broker that `scripts/test-rabbitmq` started on this port.
    pub async fn create_on(port: u16) -> Self {
        let vhost = Self {
            name: format!("test-{}", Uuid::now_v7()),
            port,
        };
        vhost
            .api("PUT", &format!("vhosts/{}", vhost.name), None)
            .await;
        vhost
            .permit(
                "test",
                &json!({"configure": ".*", "write": ".*", "read": ".*"}),
            )
            .await;
        let definitions: Value = serde_json::from_str(DEFINITIONS)
            .unwrap_or_else(|error| panic!("definitions.template.json is no JSON: {error}"));
        for permission in definitions["permissions"].as_array().into_iter().flatten() {
            let user = permission["user"].as_str().unwrap_or_default();
            vhost.permit(user, permission).await;
        }
        vhost
    }

    /// May do everything.
    pub fn admin_url(&self) -> SecretString {
        self.url("test")
    }

    /// The frontend's rights.
    pub fn frontend_url(&self) -> SecretString {
        self.url("frontend")
    }

    /// The builder's rights.
    pub fn builder_url(&self) -> SecretString {
        self.url("builder")
    }

    /// Deletes the virtual host with all that is in it.
    pub async fn delete(self) {
        self.api("DELETE", &format!("vhosts/{}", self.name), None)
            .await;
    }

    fn url(&self, user: &str) -> SecretString {
        format!("amqp://{user}:test@127.0.0.1:{}/{}", self.port, self.name).into()
    }

    async fn permit(&self, user: &str, permission: &Value) {
        let rights = json!({
            "configure": permission["configure"],
            "write": permission["write"],
            "read": permission["read"],
        });
        self.api(
            "PUT",
            &format!("permissions/{}/{user}", self.name),
            Some(&rights),
        )
        .await;
    }

    /// One call of the management API.
    async fn api(&self, method: &str, path: &str, body: Option<&Value>) {
        let address = ("127.0.0.1", self.port + 1);
        let body = body.map(Value::to_string).unwrap_or_default();
        let call = async {
            let mut stream = TcpStream::connect(address).await?;
            let request = format!(
                "{method} /api/{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {AUTHORIZATION}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = tokio::time::timeout(DEADLINE, call)
            .await
            .unwrap_or_else(|late| panic!("the test broker did not answer {method} {path}: {late}"))
            .unwrap_or_else(|error| {
                panic!(
                    "no test broker on port {}: {error}; run scripts/test-rabbitmq start",
                    self.port
                )
            });
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(
            status.starts_with('2'),
            "the test broker answered {method} {path} with: {answer}"
        );
    }
}
