//! A TCP proxy in front of one or more servers that cuts, slows, stalls and refuses connections when told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const CHUNK: usize = 16 * 1024;

/// What happens to bytes and connections of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Bytes pass.
    Clear,
    /// Each piece is held for this long.
    Slow(Duration),
    /// Connections stay open and nothing passes until the state of the link changes.
    Stalled,
    /// Connections are ended, and new ones at once.
    Cut,
}

#[derive(Debug, Clone, Copy)]
struct Control {
    state: LinkState,
    /// Connections of an earlier number end.
    generation: u64,
}

/// The proxy; it ends when it is dropped, with all its connections.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    control: watch::Sender<Control>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a port of its own and leads to these ports of this machine: in turn, past those that refuse.
    pub async fn start(upstreams: Vec<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let start = Control {
            state: LinkState::Clear,
            generation: 0,
        };
        let control = watch::Sender::new(start);
        let upstreams = Arc::new(Upstreams {
            ports: upstreams,
            next: AtomicUsize::new(0),
        });
        let task = tokio::spawn(serve(listener, upstreams, control.subscribe()));
        Self {
            port,
            control,
            task,
        }
    }

    /// Where it listens on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the state of the link; [`LinkState::Cut`] ends all connections.
    pub fn set(&self, state: LinkState) {
        self.control.send_modify(|control| {
            control.state = state;
            control.generation += u64::from(state == LinkState::Cut);
        });
    }

    /// Ends all connections; new ones are served.
    pub fn cut_once(&self) {
        self.control.send_modify(|control| control.generation += 1);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.cut_once();
        self.task.abort();
    }
}

#[derive(Debug)]
struct Upstreams {
    ports: Vec<u16>,
    next: AtomicUsize,
}

impl Upstreams {
    async fn connect(&self) -> Option<TcpStream> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for offset in 0..self.ports.len() {
            let port = self.ports[(first + offset) % self.ports.len()];
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
                stream.set_nodelay(true).ok();
                return Some(stream);
            }
        }
        None
    }
}

async fn serve(
    listener: TcpListener,
    upstreams: Arc<Upstreams>,
    control: watch::Receiver<Control>,
) {
    loop {
        // Out of file handles, most likely: whoever calls is refused, and the next one may be served.
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        client.set_nodelay(true).ok();
        let (upstreams, mut control) = (upstreams.clone(), control.clone());
        tokio::spawn(async move {
            let born = *control.borrow_and_update();
            if born.state == LinkState::Cut {
                return;
            }
            let mut ending = control.clone();
            tokio::select! {
                () = carry(client, &upstreams, &control) => {}
                // An error means that the proxy is gone.
                _ = ending.wait_for(|now| now.generation != born.generation) => {}
            }
        });
    }
}

async fn carry(mut client: TcpStream, upstreams: &Upstreams, control: &watch::Receiver<Control>) {
    if pass(&mut control.clone()).await.is_none() {
        return;
    }
    let Some(mut server) = upstreams.connect().await else {
        return;
    };
    let (client_in, client_out) = client.split();
    let (server_in, server_out) = server.split();
    tokio::join!(
        pump(client_in, server_out, control.clone()),
        pump(server_in, client_out, control.clone())
    );
}

/// Carries one direction to its end, and passes the end on.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut control: watch::Receiver<Control>,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(size @ 1..) = from.read(&mut chunk).await {
        if pass(&mut control).await.is_none() || to.write_all(&chunk[..size]).await.is_err() {
            break;
        }
    }
    to.shutdown().await.ok();
}

/// Waits as the state of the link demands; none when the proxy is gone.
async fn pass(control: &mut watch::Receiver<Control>) -> Option<()> {
    let now = control
        .wait_for(|now| now.state != LinkState::Stalled)
        .await;
    let state = now.ok()?.state;
    if let LinkState::Slow(delay) = state {
        tokio::time::sleep(delay).await;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    const SOON: Duration = Duration::from_millis(300);

    /// A server that sends everything back.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reading, mut writing) = stream.split();
                    tokio::io::copy(&mut reading, &mut writing).await.ok();
                });
            }
        });
        port
    }

    async fn says(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
        stream.write_all(text.as_bytes()).await?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await?;
        assert_eq!(answer, text.as_bytes());
        Ok(())
    }

    #[tokio::test]
    async fn it_passes_stalls_slows_and_cuts() {
        let dead = crate::services::free_port();
        let proxy = FaultProxy::start(vec![dead, echo().await]).await;
        let connect = || TcpStream::connect(("127.0.0.1", proxy.port()));
        let mut stream = connect().await.unwrap();
        says(&mut stream, "past the dead one").await.unwrap();

        proxy.set(LinkState::Stalled);
        assert!(timeout(SOON, says(&mut stream, "held")).await.is_err());
        proxy.set(LinkState::Clear);
        let mut held = [0; 4];
        stream.read_exact(&mut held).await.unwrap();
        assert_eq!(&held, b"held");

        proxy.set(LinkState::Slow(SOON));
        let started = Instant::now();
        says(&mut stream, "slow").await.unwrap();
        assert!(started.elapsed() >= SOON * 2, "both ways");

        proxy.set(LinkState::Cut);
        assert!(says(&mut stream, "cut").await.is_err());
        let mut refused = connect().await.unwrap();
        assert!(says(&mut refused, "refused").await.is_err());

        proxy.set(LinkState::Clear);
        let mut again = connect().await.unwrap();
        says(&mut again, "again").await.unwrap();
        proxy.cut_once();
        assert!(says(&mut again, "cut").await.is_err());
        says(&mut connect().await.unwrap(), "a new one")
            .await
            .unwrap();
    }
}
