//! A server that answers with exactly the bytes a test wants, however wrong they are.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The first byte of what a client of https says.
const TLS_HANDSHAKE: u8 = 0x16;

/// One answer.
#[derive(Clone)]
pub struct Answer {
    /// Status line, headers, body.
    pub bytes: Vec<u8>,
    pub then: Then,
}

/// What the server does after an answer's bytes.
#[derive(Clone, Copy)]
pub enum Then {
    Close,
    /// Keeps the connection and says nothing more.
    Stall,
    /// Sends zeros for ever.
    Flood,
    /// Sends a byte every few milliseconds for ever.
    Drip,
}

pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves answers by request path (the longest that fits), at `127.0.0.1`.
    pub async fn start(answers: Vec<(&'static str, Answer)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answers) = (Arc::clone(&requests), Arc::new(answers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answers), Arc::clone(&seen)));
            }
        });
        Self { address, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The heads of all requests so far, in lower case.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    answers: Arc<Vec<(&'static str, Answer)>>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
        if head[0] == TLS_HANDSHAKE {
            return;
        }
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
    seen.lock().unwrap().push(head);
    let answer = answers
        .iter()
        .find(|(known, _)| *known == path)
        .map_or_else(
            || plain("404 Not Found", "text/plain", "no such file"),
            |(_, answer)| answer.clone(),
        );
    let _ = send(&mut stream, &answer).await;
}

async fn send(stream: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    stream.write_all(&answer.bytes).await?;
    match answer.then {
        Then::Close => stream.shutdown().await,
        Then::Stall => std::future::pending().await,
        Then::Flood => loop {
            stream.write_all(&[0; 8_192]).await?;
        },
        Then::Drip => loop {
            stream.write_all(b".").await?;
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        },
    }
}

/// A complete, correct answer.
pub fn plain(status: &str, content_type: &str, body: &str) -> Answer {
    raw(
        &format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
        Then::Close,
    )
}

/// A redirect.
pub fn redirect(to: &str) -> Answer {
    raw(
        &format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        Then::Close,
    )
}

/// Any bytes.
pub fn raw(text: &str, then: Then) -> Answer {
    Answer {
        bytes: text.as_bytes().to_vec(),
        then,
    }
}
