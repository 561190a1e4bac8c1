//! Serves connections and bounds what clients can occupy: the head of a request must arrive in time, and when there are
//! too many connections, those without a request are closed first.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use millrace_chassis::{AllowList, CancellationToken, Shutdown};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::http::client_address::client_of;

/// File descriptors kept for everything but clients: database, broker, files of the result store.
const RESERVED_FILES: usize = 200;
/// Pause after a connection could not be accepted, as when no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds on what clients may occupy.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Open connections at most, from `MILLRACE_MAX_CONNECTIONS`.
    pub connections: usize,
    /// How long the head of a request may take to arrive.
    pub header: Duration,
    /// Networks of proxies whose `X-Forwarded-For` is trusted.
    pub proxies: AllowList,
}

/// Serves until the stop; then finishes open requests until the hard stop.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServerLimits,
    shutdown: Shutdown,
) {
    let most = raise_file_limit(limits.connections);
    let connections = Arc::new(Connections::default());
    let soft = shutdown.soft().clone();
    let server = Arc::new(Server {
        router,
        limits,
        soft: soft.clone(),
    });
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = soft.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                if !connections.make_room(most) {
                    tracing::debug!(%peer, "connection refused: all others are serving requests");
                    continue;
                }
                let (server, connection) = (server.clone(), connections.enter());
                tasks.spawn(async move {
                    server.serve_one(stream, peer, &connection).await;
                });
            }
            Err(error) if is_client_fault(&error) => {}
            Err(error) => {
                tracing::warn!("no connection can be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        () = shutdown.hard().cancelled() => {}
    }
}

/// What all connections share.
struct Server {
    router: Router,
    limits: ServerLimits,
    /// Cancelled when the frontend is to stop.
    soft: CancellationToken,
}

impl Server {
    /// Serves a connection until it ends or is to be closed; a request that is being answered is finished first.
    async fn serve_one(&self, stream: TcpStream, peer: SocketAddr, connection: &Connection) {
        // Small answers must not wait for the peer's acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("cannot set TCP_NODELAY: {error}");
        }
        let service = service_fn(|request: Request<Incoming>| {
            let client = client_of(peer, request.headers(), &self.limits.proxies);
            handle(&self.router, client, &connection.state, request)
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header)
            .serve_connection(TokioIo::new(stream), service);
        let mut serving = std::pin::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = connection.state.close.cancelled() => {
                if connection.state.requests.load(Ordering::Acquire) == 0 {
                    return;
                }
                serving.as_mut().graceful_shutdown();
                serving.await
            }
            () = self.soft.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::trace!(%peer, "connection ended: {error}");
        }
    }
}

async fn handle(
    router: &Router,
    client: SocketAddr,
    state: &ConnectionState,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    state.requests.fetch_add(1, Ordering::AcqRel);
    state.is_busy.store(true, Ordering::Release);
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(client));
    let answer = router.clone().oneshot(request).await;
    state.is_busy.store(false, Ordering::Release);
    answer
}

/// Open connections, by number in the order in which they came.
#[derive(Debug, Default)]
struct Connections {
    open: Mutex<BTreeMap<u64, Arc<ConnectionState>>>,
    next: AtomicU64,
}

/// What the server knows of an open connection.
#[derive(Debug, Default)]
struct ConnectionState {
    /// Requests received so far.
    requests: AtomicUsize,
    /// Whether a request is being answered.
    is_busy: AtomicBool,
    /// Cancelled to have the connection closed, to make room for another.
    close: CancellationToken,
}

/// An entry of [`Connections`]; removed when dropped.
struct Connection {
    number: u64,
    state: Arc<ConnectionState>,
    all: Arc<Connections>,
}

impl Connections {
    fn enter(self: &Arc<Self>) -> Connection {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(ConnectionState::default());
        self.lock().insert(number, state.clone());
        Connection {
            number,
            state,
            all: self.clone(),
        }
    }

    /// Whether one more may be accepted. Where `most` are open, it closes the oldest one that never sent a request, or
    /// else the oldest one without an open request.
    fn make_room(&self, most: usize) -> bool {
        let mut open = self.lock();
        if open.len() < most {
            return true;
        }
        let unused = |state: &ConnectionState| state.requests.load(Ordering::Acquire) == 0;
        let idle = |state: &ConnectionState| !state.is_busy.load(Ordering::Acquire);
        let oldest = |fits: &dyn Fn(&ConnectionState) -> bool| {
            open.iter()
                .find(|(_, state)| fits(state))
                .map(|(number, _)| *number)
        };
        let Some(number) = oldest(&unused).or_else(|| oldest(&idle)) else {
            return false;
        };
        if let Some(state) = open.remove(&number) {
            state.close.cancel();
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<ConnectionState>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.lock().remove(&self.number);
    }
}

/// Whether the client gave up before it was accepted, which says nothing about this server.
fn is_client_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}

/// Raises the limit on open files as far as needed and allowed; returns how many connections fit.
fn raise_file_limit(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let needed = (wanted + RESERVED_FILES) as u64;
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|now| now < needed) {
        let raised = rustix::process::Rlimit {
            current: Some(needed.min(allowed)),
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!("cannot raise the limit on open files: {error}");
        }
    }
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fits = usize::try_from(now)
        .unwrap_or(usize::MAX)
        .saturating_sub(RESERVED_FILES);
    if fits < wanted {
        tracing::warn!(
            connections = fits,
            "fewer connections than MILLRACE_MAX_CONNECTIONS: raise the limit on open files"
        );
    }
    wanted.min(fits.max(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_connections_the_oldest_that_asks_for_nothing_goes() {
        let connections = Arc::new(Connections::default());
        let [busy, idle, silent] = [0; 3].map(|_| connections.enter());
        for state in [&busy.state, &idle.state] {
            state.requests.store(1, Ordering::Release);
        }
        busy.state.is_busy.store(true, Ordering::Release);
        assert!(connections.make_room(4) && !silent.state.close.is_cancelled());
        assert!(connections.make_room(3) && silent.state.close.is_cancelled());
        assert!(connections.make_room(2) && idle.state.close.is_cancelled());
        assert!(!connections.make_room(1) && !busy.state.close.is_cancelled());
        drop(busy);
        assert!(connections.make_room(1));
    }
}
