//! A PostgreSQL and a RabbitMQ that one test may stop and start: containers of the images that are deployed.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::http_client;

const READY: Duration = Duration::from_mins(2);
/// A server that takes longer to answer a greeting is asked anew.
const ANSWER: Duration = Duration::from_secs(5);
const FREEZING: Duration = Duration::from_secs(10);

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn docker(args: &[&str]) -> (bool, String) {
    let output = Command::new("docker")
        .args(args)
        .output()
        .expect("the docker command is there");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn must(args: &[&str]) -> String {
    let (done, text) = docker(args);
    assert!(done, "docker {args:?}: {text}");
    text
}

fn image(variable: &str, default: &str) -> String {
    std::env::var(variable)
        .ok()
        .filter(|v| !v.is_empty())
        .unwrap_or_else(|| default.to_owned())
}

/// A container that is removed with its data when the test ends.
#[derive(Debug)]
struct Container {
    name: String,
    folder: Option<tempfile::TempDir>,
}

impl Container {
    fn run(
        what: &str,
        args: &[&str],
        image: &str,
        command: &[&str],
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        let name = format!("millrace-test-{what}-{}", Uuid::new_v4().simple());
        let base = [
            "run",
            "--detach",
            "--name",
            &name,
            "--hostname",
            "localhost",
            "--label",
            "millrace.test=true",
        ];
        must(&[&base, args, &[image], command].concat());
        Self { name, folder }
    }

    /// The kernel refuses to freeze a group while one of its processes is being made; then it is asked again, as often
    /// as the command can be run.
    fn pause(&self) {
        let end = Instant::now() + FREEZING;
        loop {
            let (done, text) = docker(&["pause", &self.name]);
            if done {
                return;
            }
            assert!(
                text.contains("unable to freeze") && Instant::now() < end,
                "docker pause {}: {text}",
                self.name
            );
        }
    }

    fn act(&self, verb: &str) {
        must(&[verb, &self.name]);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (_, tail) = docker(&["logs", "--tail", "20", &self.name]);
            eprintln!("--- end of the log of {} ---\n{tail}", self.name);
        }
        docker(&["rm", "--force", "--volumes", &self.name]);
        drop(self.folder.take());
    }
}

macro_rules! verbs {
    ($type:ident) => {
        impl $type {
            /// Stops it as an operator would.
            pub fn stop(&self) {
                self.container.act("stop");
            }

            /// Starts it again and waits until it serves.
            pub async fn start_again(&self) {
                self.container.act("start");
                self.ready().await;
            }

            /// Ends it as a power cut would.
            pub fn kill(&self) {
                self.container.act("kill");
            }

            /// Freezes all its processes.
            pub fn pause(&self) {
                self.container.pause();
            }

            /// Lets them go on.
            pub fn unpause(&self) {
                self.container.act("unpause");
            }

            /// Runs a command inside and gives what it prints; an error is what it printed when it failed.
            pub fn exec(&self, command: &[&str]) -> Result<String, String> {
                let (done, text) = docker(&[&["exec", &self.container.name], command].concat());
                if done { Ok(text) } else { Err(text) }
            }

            /// Its port on this machine.
            pub fn port(&self) -> u16 {
                self.port
            }
        }
    };
}

/// Waits until the server behind a published port answers a greeting with this byte. A connection alone says nothing: the
/// engine's proxy accepts before the server does. Nothing is run inside, as that costs more than the server's start.
async fn answers(port: u16, greeting: &[u8], first: u8, what: &str) {
    let end = Instant::now() + READY;
    while answer(port, greeting).await.ok() != Some(first) {
        assert!(
            Instant::now() < end,
            "waited {READY:?} in vain until {what}"
        );
        sleep(Duration::from_millis(100)).await;
    }
}

/// The first byte of the answer to a greeting.
async fn answer(port: u16, greeting: &[u8]) -> std::io::Result<u8> {
    let asking = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(greeting).await?;
        stream.read_u8().await
    };
    timeout(ANSWER, asking).await?
}

/// A PostgreSQL of one test's own.
#[derive(Debug)]
pub struct PrivateDatabase {
    container: Container,
    port: u16,
}

verbs!(PrivateDatabase);

impl PrivateDatabase {
    /// Starts one and waits until it serves.
    pub async fn start() -> Self {
        let port = free_port();
        let publish = format!("127.0.0.1:{port}:5432");
        let image = image("MILLRACE_POSTGRES_IMAGE", "millrace-offline/postgres:17");
        let container = Container::run(
            "postgres",
            &["--env", "POSTGRES_PASSWORD=test", "--publish", &publish],
            &image,
            &[],
            None,
        );
        let database = Self { container, port };
        database.ready().await;
        database
    }

    /// While it starts it answers a login with an error; otherwise it asks for the password.
    async fn ready(&self) {
        let login = b"\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00";
        answers(self.port, login, b'R', "PostgreSQL serves").await;
    }

    /// Its address, with the superuser's password.
    pub fn url(&self) -> SecretString {
        format!("postgres://postgres:test@127.0.0.1:{}/postgres", self.port).into()
    }
}

/// A RabbitMQ of one test's own.
#[derive(Debug)]
pub struct PrivateBroker {
    container: Container,
    port: u16,
    api_port: u16,
}

verbs!(PrivateBroker);

impl PrivateBroker {
    /// Starts one and waits until it serves.
    pub async fn start() -> Self {
        Self::start_with("[].").await
    }

    /// Starts one with this `advanced.config`: what `rabbitmq.conf` has no words for.
    pub async fn start_with(advanced: &str) -> Self {
        let (port, api_port) = (free_port(), free_port());
        let folder = tempfile::tempdir().unwrap();
        let conf = "loopback_users = none\nlog.console = true\nlog.file = false\n\
            collect_statistics_interval = 1000\n";
        let mut args = vec![
            format!("--publish=127.0.0.1:{port}:5672"),
            format!("--publish=127.0.0.1:{api_port}:15672"),
        ];
        for (name, text) in [
            ("rabbitmq.conf", conf.to_owned()),
            ("advanced.config", format!("{advanced}\n")),
            ("enabled_plugins", "[rabbitmq_management].\n".to_owned()),
        ] {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            args.push(format!(
                "--volume={}:/etc/rabbitmq/{name}:ro",
                file.display()
            ));
        }
        open_to_all(folder.path());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let image = image("MILLRACE_RABBITMQ_IMAGE", "millrace-offline/rabbitmq:4");
        let broker = Self {
            container: Container::run("rabbitmq", &args, &image, &[], Some(folder)),
            port,
            api_port,
        };
        broker.ready().await;
        broker
    }

    /// Once it serves it answers the protocol's header with a frame that begins with 1.
    async fn ready(&self) {
        answers(self.port, b"AMQP\x00\x00\x09\x01", 1, "RabbitMQ serves").await;
    }

    /// Its address, with the administrator's password.
    pub fn url(&self) -> SecretString {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port).into()
    }

    /// Restarts it as an operator would.
    pub async fn restart(&self) {
        self.container.act("restart");
        self.ready().await;
    }

    /// The queues of all consumers, one for each consumer, in order; none while the management API is away.
    pub async fn consumers(&self) -> Option<Vec<String>> {
        let url = format!("http://127.0.0.1:{}/api/consumers", self.api_port);
        let request = http_client().get(url).basic_auth("guest", Some("guest"));
        let answer = request.send().await.ok()?.error_for_status().ok()?;
        let consumers: Vec<serde_json::Value> = answer.json().await.ok()?;
        let queue =
            |consumer: &serde_json::Value| Some(consumer["queue"]["name"].as_str()?.to_owned());
        let mut queues: Vec<String> = consumers.iter().filter_map(queue).collect();
        queues.sort_unstable();
        Some(queues)
    }

    /// Ends it as a power cut would, and starts it again.
    pub async fn crash_and_start(&self) {
        self.kill();
        self.start_again().await;
    }

    /// Raises its memory alarm: it takes no messages until the alarm is over.
    pub fn raise_alarm(&self) {
        self.set_memory_limit("0");
    }

    /// Ends the alarm.
    pub fn end_alarm(&self) {
        self.set_memory_limit("0.6");
    }

    fn set_memory_limit(&self, fraction: &str) {
        let order = [
            "rabbitmqctl",
            "-q",
            "set_vm_memory_high_watermark",
            fraction,
        ];
        self.exec(&order).expect("the broker takes a memory limit");
    }

    /// Messages in all its queues.
    pub fn messages(&self) -> u64 {
        let order = [
            "rabbitmqctl",
            "-q",
            "list_queues",
            "--no-table-headers",
            "messages",
        ];
        let counts = self.exec(&order).expect("the broker lists its queues");
        counts
            .lines()
            .filter_map(|line| line.trim().parse::<u64>().ok())
            .sum()
    }
}

/// The container's own user reads the folder.
fn open_to_all(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}
