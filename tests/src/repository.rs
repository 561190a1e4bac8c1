//! Repositories of packages that sandboxes reach, and servers that are none.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Settings;

/// The network that sandboxes join by default.
const NETWORK: &str = "millrace-sandbox";

/// Serves a folder on all addresses of this host.
#[derive(Debug)]
pub struct FolderServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl FolderServer {
    /// Starts serving.
    pub async fn start(folder: PathBuf) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/{*path}", get(file))
            .with_state(folder);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, task }
    }

    /// Host and port as a sandbox reaches them.
    pub fn for_sandboxes(&self) -> String {
        on_gateway(self.address)
    }
}

impl Drop for FolderServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn file(
    State(folder): State<PathBuf>,
    UrlPath(path): UrlPath<String>,
) -> (StatusCode, Vec<u8>) {
    match std::fs::read(folder.join(path)) {
        Ok(bytes) => (StatusCode::OK, bytes),
        Err(_) => (StatusCode::NOT_FOUND, Vec::new()),
    }
}

/// Takes connections and says nothing, as long as it lives.
#[derive(Debug)]
pub struct SilentServer {
    listener: std::net::TcpListener,
}

impl SilentServer {
    /// Starts; the kernel takes connections that nobody asks for.
    pub fn start() -> Self {
        Self {
            listener: std::net::TcpListener::bind("0.0.0.0:0").unwrap(),
        }
    }

    /// Host and port as a sandbox reaches them.
    pub fn for_sandboxes(&self) -> String {
        on_gateway(self.listener.local_addr().unwrap())
    }
}

/// This host's address on the sandboxes' network, with a port.
fn on_gateway(address: SocketAddr) -> String {
    let engine = Settings::from_env().engine;
    let format = "{{ (index .IPAM.Config 0).Gateway }}";
    let inspect = [
        "--host", &engine, "network", "inspect", NETWORK, "--format", format,
    ];
    let output = Command::new("docker").args(inspect).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let gateway = String::from_utf8(output.stdout).unwrap();
    format!("{}:{}", gateway.trim(), address.port())
}

/// Makes a repository of the packages that lie in a folder, with the chroot image's own program.
pub fn make_repository(folder: &Path) {
    let settings = Settings::from_env();
    let script = "tar -c -C \"$0\" . | docker --host \"$1\" run --rm --interactive --network none --entrypoint sh \"$2\" \
                  -c 'mkdir /r && tar -x -C /r && createrepo_c --quiet /r && tar -c -C /r repodata' \
                  | tar -x -C \"$0\" --no-same-owner";
    let made = Command::new("bash")
        .args(["-o", "pipefail", "-c", script])
        .arg(folder)
        .args([&settings.engine, &settings.image])
        .status()
        .unwrap();
    assert!(made.success() && folder.join("repodata/repomd.xml").exists());
}
