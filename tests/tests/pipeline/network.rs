//! What a sandbox reaches: nothing but itself while the package's code runs; while its dependencies are installed, when
//! scriptlets run as root, neither the services, nor the engine, nor other sandboxes.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use millrace_tests::{Pipeline, PipelineOptions, Settings, source_package, until};

/// Ports of the listeners that the test starts itself.
const PORT: u16 = 7007;

/// Answers everybody, by TCP and UDP.
const LISTENER: &str = "
import socket, threading
t = socket.socket(); t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); t.bind(('0.0.0.0', 7007)); t.listen(50)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('0.0.0.0', 7007))
def udp():
    while True:
        data, who = u.recvfrom(64); u.sendto(data, who)
threading.Thread(target=udp, daemon=True).start()
while True:
    t.accept()[0].close()
";

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A container that listens on a network, until it is dropped.
struct Host {
    id: String,
    address: String,
}

impl Host {
    async fn on(network: &str, image: &str) -> Self {
        let id = docker(&[
            "run",
            "--detach",
            "--network",
            network,
            "--entrypoint",
            "python3",
            image,
            "-c",
            LISTENER,
        ]);
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = docker(&["inspect", "--format", format, &id]);
        let host = Self { id, address };
        // From this host every bridge is reached, so a target that answers here and not in the sandbox is cut off.
        let at: SocketAddr = format!("{}:{PORT}", host.address).parse().unwrap();
        until("the other host listens", async || {
            std::net::TcpStream::connect_timeout(&at, Duration::from_secs(1)).ok()
        })
        .await;
        host
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        Command::new("docker")
            .args(["rm", "--force", &self.id])
            .output()
            .ok();
    }
}

/// Targets with a name, an address and a port.
type Targets = Vec<(&'static str, String, u16)>;

/// A script that says of each target whether it answers.
fn probe(targets: &Targets) -> String {
    let list = targets
        .iter()
        .fold(String::new(), |mut list, (name, host, port)| {
            write!(list, "('{name}', '{host}', {port}), ").unwrap();
            list
        });
    format!(
        "python3 - <<'PROBE'
import os, socket
def tcp(at):
    socket.create_connection(at, 1).close()
def udp(at):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.sendto(b'x', at); s.recv(1)
for name, host, port in [{list}]:
    for kind, ask in (('tcp', tcp), ('udp', udp)):
        try:
            ask((host, port)); word = 'open'
        except OSError:
            word = 'closed'
        print('probe', kind, name, word)
print('probe socket engine', 'open' if os.path.exists('/var/run/docker.sock') or os.path.exists('/run/podman/podman.sock') else 'closed')
own = socket.socket(); own.bind(('127.0.0.1', 0)); own.listen()
socket.create_connection(own.getsockname(), 1).close()
print('probe tcp loopback open')
PROBE"
    )
}

/// Two packages: the scriptlet of the first runs as root when the second needs it; the second looks while it builds.
fn specs(targets: &Targets) -> [(&'static str, String); 2] {
    let probe = probe(targets);
    let head = |name: &str, more: &str| {
        format!(
            "Name: {name}\nVersion: 1.0\nRelease: 1\nSummary: Looks around\nLicense: MIT\nBuildArch: noarch\n{more}\
             %description\nLooks around.\n"
        )
    };
    let files = "%install\nmkdir -p %{buildroot}/usr/share/%{name}\ntouch %{buildroot}/usr/share/%{name}/built\n\
                 %files\n/usr/share/%{name}/built\n";
    // Debian's rpm keeps the network from scriptlets that it starts as processes, others do not; Lua runs in rpm itself.
    let scriptlet = format!(
        "{}%post -p <lua>\nos.execute('mkdir -p /var/lib/looks; sh /usr/share/looks-installed/look >/var/lib/looks/seen 2>&1')\n\
         %install\nmkdir -p %{{buildroot}}/usr/share/looks-installed\n\
         cat >%{{buildroot}}/usr/share/looks-installed/look <<'SCRIPT'\nid -u\n{probe}\nSCRIPT\n\
         %files\n/usr/share/looks-installed/look\n",
        head("looks-installed", "")
    );
    let build = format!(
        "{}%build\nset +x\nsed 's/^/installing: /' /var/lib/looks/seen\n{{ id -u; {probe}\n}} 2>&1 | sed 's/^/building: /'\n{files}",
        head("looks-built", "BuildRequires: looks-installed\n")
    );
    [("looks-installed", scriptlet), ("looks-built", build)]
}

/// The gateway of a network: this host, as its containers see it.
fn gateway(network: &str) -> String {
    docker(&[
        "network",
        "inspect",
        "--format",
        "{{(index .IPAM.Config 0).Gateway}}",
        network,
    ])
}

fn port_of(url: &str) -> u16 {
    let (_, port) = url.rsplit_once(':').unwrap();
    port.split('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_sandbox_reaches_no_service_and_no_other_sandbox() {
    let settings = Settings::from_env();
    let network = format!("millrace-look-{}", std::process::id());
    let elsewhere = format!("millrace-elsewhere-{}", std::process::id());
    docker(&["network", "create", &elsewhere]);
    let pipeline = Pipeline::start(PipelineOptions {
        builder_env: vec![("MILLRACE_SANDBOX_NETWORK".to_owned(), network.clone())],
        ..PipelineOptions::default()
    })
    .await;
    let sandbox = Host::on(&network, &settings.image).await;
    let other = Host::on(&elsewhere, &settings.image).await;
    let host = gateway(&network);
    // What this host offers on its loopback, as `make up` and this suite do, is no address of a bridge.
    let loopback = TcpListener::bind("127.0.0.1:0").unwrap();
    // What it offers on all its addresses is reached as long as the network is there.
    let all = TcpListener::bind("0.0.0.0:0").unwrap();
    let _datagrams = UdpSocket::bind(("0.0.0.0", all.local_addr().unwrap().port())).unwrap();
    let name = std::env::var("MILLRACE_TEST_RABBITMQ_NAME")
        .unwrap_or_else(|_| "millrace-test-rabbitmq".to_owned());
    let broker = docker(&[
        "inspect",
        "--format",
        "{{.NetworkSettings.IPAddress}}",
        &name,
    ]);
    let database = std::env::var("MILLRACE_TEST_DATABASE_URL").unwrap();
    let targets: Targets = vec![
        ("broker", broker, 5672),
        ("database", host.clone(), port_of(&database)),
        ("frontend", host.clone(), port_of(&pipeline.cli.url)),
        ("engine", host.clone(), 2375),
        (
            "loopback-of-host",
            host.clone(),
            loopback.local_addr().unwrap().port(),
        ),
        ("sandbox", sandbox.address.clone(), PORT),
        ("elsewhere", other.address.clone(), PORT),
        ("host", host.clone(), all.local_addr().unwrap().port()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let paths = specs(&targets).map(|(name, spec)| source_package(name, &spec, folder.path()));
    let chroot = settings.chroot.clone();
    let args = [
        "submit", &paths[0], &paths[1], "--chroot", &chroot, "--memory", "512",
    ];
    let build = pipeline.cli.json(&args).await["id"].as_i64().unwrap();
    let ended = pipeline.ended(build, Duration::from_mins(5)).await;
    let log = pipeline.cli.log(build).await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}\n{log}");
    let has = |line: &str| log.lines().any(|found| found == line);
    assert!(has("installing: 0"), "scriptlets run as root: {log}");
    for (name, ..) in &targets {
        for kind in ["tcp", "udp"] {
            let line = format!("building: probe {kind} {name} closed");
            assert!(has(&line), "{line}: {log}");
            // Here is the gap that SECURITY.md names: a host's own services on all addresses.
            if *name != "host" {
                let line = format!("installing: probe {kind} {name} closed");
                assert!(has(&line), "{line}: {log}");
            }
        }
    }
    assert!(has("installing: probe socket engine closed"), "{log}");
    assert!(has("building: probe tcp loopback open"), "{log}");
    assert!(!has("building: 0"), "the package's code is no root: {log}");
    // The probe finds what is open: this host's listener, before the network is cut.
    assert!(has("installing: probe tcp host open"), "{log}");
    drop((sandbox, other));
    pipeline.assert_nothing_left().await;
    pipeline.stop().await;
    for name in [&network, &elsewhere] {
        docker(&["network", "rm", name]);
    }
}
