//! Serving connections, with an end to what a client may hold: the head of a request comes in time, and of too many
//! connections those go first that ask for nothing.

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

/// Files that are open for other reasons than clients.
const OTHER_FILES: usize = 200;
/// How long is waited when no file can be opened.
const REST: Duration = Duration::from_millis(100);

/// What clients may hold.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Connections at most.
    pub connections: usize,
    /// How long the head of a request may take.
    pub header: Duration,
    /// Who may speak for others.
    pub proxies: AllowList,
}

/// Serves until the stop, and then what is under way.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServerLimits,
    shutdown: Shutdown,
) {
    let most = raise_file_limit(limits.connections);
    let connections = Arc::new(Connections::default());
    let tasks = TaskTracker::new();
    let soft = shutdown.soft().clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = soft.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                if !connections.make_room(most) {
                    tracing::debug!(%peer, "connection refused: all others are at work");
                    continue;
                }
                let connection = connections.enter();
                let router = router.clone();
                let (limits, soft) = (limits.clone(), soft.clone());
                tasks.spawn(async move {
                    serve_one(stream, peer, router, &limits, &connection, &soft).await;
                });
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!("no connection can be accepted: {error}");
                tokio::time::sleep(REST).await;
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

async fn serve_one(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: &ServerLimits,
    connection: &Connection,
    soft: &CancellationToken,
) {
    // Small answers must not wait for the peer's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("cannot set TCP_NODELAY: {error}");
    }
    let service = service_fn(|request: Request<Incoming>| {
        let client = client_of(peer, request.headers(), &limits.proxies);
        handle(&router, client, &connection.seat, request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = connection.seat.leave.cancelled() => {
            if connection.seat.asked.load(Ordering::Acquire) == 0 {
                return;
            }
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        () = soft.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%peer, "connection ended: {error}");
    }
}

async fn handle(
    router: &Router,
    client: SocketAddr,
    seat: &Seat,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    seat.asked.fetch_add(1, Ordering::AcqRel);
    seat.is_busy.store(true, Ordering::Release);
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(client));
    let answer = router.clone().oneshot(request).await;
    seat.is_busy.store(false, Ordering::Release);
    answer
}

/// Connections in the order in which they came.
#[derive(Debug, Default)]
struct Connections {
    seats: Mutex<BTreeMap<u64, Arc<Seat>>>,
    next: AtomicU64,
}

/// What is known of a connection.
#[derive(Debug, Default)]
struct Seat {
    /// Requests so far.
    asked: AtomicUsize,
    /// Whether one is being answered.
    is_busy: AtomicBool,
    /// The wish that it ends.
    leave: CancellationToken,
}

/// A connection's place; given up when dropped.
struct Connection {
    number: u64,
    seat: Arc<Seat>,
    all: Arc<Connections>,
}

impl Connections {
    fn enter(self: &Arc<Self>) -> Connection {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let seat = Arc::new(Seat::default());
        self.lock().insert(number, seat.clone());
        Connection {
            number,
            seat,
            all: self.clone(),
        }
    }

    /// Whether there is room for one more, with the oldest sent away that never asked for anything, or else that asks
    /// for nothing now.
    fn make_room(&self, most: usize) -> bool {
        let mut seats = self.lock();
        if seats.len() < most {
            return true;
        }
        let silent = |seat: &Seat| seat.asked.load(Ordering::Acquire) == 0;
        let idle = |seat: &Seat| !seat.is_busy.load(Ordering::Acquire);
        let oldest = |fits: &dyn Fn(&Seat) -> bool| {
            seats
                .iter()
                .find(|(_, seat)| fits(seat))
                .map(|(number, _)| *number)
        };
        let Some(number) = oldest(&silent).or_else(|| oldest(&idle)) else {
            return false;
        };
        if let Some(seat) = seats.remove(&number) {
            seat.leave.cancel();
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.lock().remove(&self.number);
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}

/// Lets this process open as many files as it may, and says how many connections fit.
fn raise_file_limit(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let needed = (wanted + OTHER_FILES) as u64;
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|now| now < needed) {
        let raised = rustix::process::Rlimit {
            current: Some(needed.min(allowed)),
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!("the limit on open files stays: {error}");
        }
    }
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fits = usize::try_from(now)
        .unwrap_or(usize::MAX)
        .saturating_sub(OTHER_FILES);
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
        for seat in [&busy.seat, &idle.seat] {
            seat.asked.store(1, Ordering::Release);
        }
        busy.seat.is_busy.store(true, Ordering::Release);
        assert!(connections.make_room(4) && !silent.seat.leave.is_cancelled());
        assert!(connections.make_room(3) && silent.seat.leave.is_cancelled());
        assert!(connections.make_room(2) && idle.seat.leave.is_cancelled());
        assert!(!connections.make_room(1) && !busy.seat.leave.is_cancelled());
        drop(busy);
        assert!(connections.make_room(1));
    }
}
