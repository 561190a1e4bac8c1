//! The line to a running sandbox: its stdout is the log, its stderr brings notices, its stdin takes
//! orders and is the supervisor's dead man's switch.
//!
//! Both outputs share one connection, and an engine does not let a container end before its attached
//! reader has taken everything. So a reader of the log may hold the build back, but only until the
//! build's own end is due: from then on what it does not take is counted and thrown away.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bytes::Bytes;
use futures_util::StreamExt;
use millrace_supervisor::{Network, Notice, Order, Report};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

/// Time between two pings; the supervisor's patience is six of them.
const PING: Duration = Duration::from_secs(5);
/// Pieces of log (32 KiB at most) that wait for the reader.
const LOG_PIECES: usize = 32;
/// Notices that wait for the reader.
const NOTICES: usize = 256;
/// Wishes about the network that wait; a supervisor has one at a time.
const WISHES: usize = 4;
/// A longer line is no notice of ours, in bytes.
const MAX_LINE: usize = 1 << 20;
/// Kept of what else is on stderr, in bytes.
const MAX_STRAY: usize = 4096;

/// What has been heard on stderr so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Heard {
    pub(crate) report: Option<Report>,
    pub(crate) stray: String,
    pub(crate) lost_log_bytes: u64,
}

/// The receivers of a line, for whoever reads the log.
#[derive(Debug)]
pub(crate) struct Ears {
    pub(crate) log: mpsc::Receiver<Bytes>,
    pub(crate) notices: mpsc::Receiver<Notice>,
    pub(crate) wishes: mpsc::Receiver<Network>,
}

/// Both ends of a sandbox's line. Dropping it hangs up, which ends the sandbox.
#[derive(Debug)]
pub(crate) struct Line {
    heard: Arc<Mutex<Heard>>,
    orders: mpsc::Sender<Order>,
    patience: watch::Sender<Instant>,
    listener: JoinHandle<()>,
    speaker: JoinHandle<()>,
}

impl Line {
    /// Starts to listen and to ping. The reader of the log is waited for until `patience` ends.
    pub(crate) fn open(attached: AttachContainerResults, patience: Instant) -> (Self, Ears) {
        let (log_in, log) = mpsc::channel(LOG_PIECES);
        let (notices_in, notices) = mpsc::channel(NOTICES);
        let (wishes_in, wishes) = mpsc::channel(WISHES);
        let (orders, orders_out) = mpsc::channel(4);
        let (patience, patience_of_listener) = watch::channel(patience);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let mut listener = Listener {
            log: log_in,
            notices: notices_in,
            wishes: wishes_in,
            heard: Arc::clone(&heard),
            line: Vec::new(),
            patience: patience_of_listener,
        };
        let output = attached.output;
        let line = Self {
            heard,
            orders,
            patience,
            listener: tokio::spawn(async move { listener.listen(output).await }),
            speaker: tokio::spawn(speak(attached.input, orders_out)),
        };
        let ears = Ears {
            log,
            notices,
            wishes,
        };
        (line, ears)
    }

    /// Sends an order, unless several wait already.
    pub(crate) fn order(&self, order: Order) {
        if let Err(error) = self.orders.try_send(order) {
            tracing::debug!(%error, "the sandbox takes no more orders");
        }
    }

    /// Waits for the reader of the log no longer than until this moment.
    pub(crate) fn shorten_patience(&self, until: Instant) {
        self.patience.send_if_modified(|patience| {
            let is_shorter = until < *patience;
            *patience = until.min(*patience);
            is_shorter
        });
    }

    /// Closes the connection; what was not heard is lost.
    pub(crate) fn hang_up(&self) {
        // Only when both halves are gone is the connection closed and the supervisor's stdin with it.
        self.listener.abort();
        self.speaker.abort();
    }

    /// Waits until everything was heard, at most as long as given.
    pub(crate) async fn finish(&mut self, patience: Duration) {
        if self.listener.is_finished() {
            return;
        }
        if tokio::time::timeout(patience, &mut self.listener)
            .await
            .is_err()
        {
            tracing::warn!("the log of an ended sandbox was not read in time; its rest is lost");
        }
    }

    /// What was heard on stderr, and how much of the log was not taken.
    pub(crate) fn heard(&self) -> Heard {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.hang_up();
    }
}

struct Listener {
    log: mpsc::Sender<Bytes>,
    notices: mpsc::Sender<Notice>,
    wishes: mpsc::Sender<Network>,
    heard: Arc<Mutex<Heard>>,
    line: Vec<u8>,
    patience: watch::Receiver<Instant>,
}

impl Listener {
    async fn listen(
        &mut self,
        mut output: Pin<
            Box<dyn futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>,
        >,
    ) {
        while let Some(item) = output.next().await {
            match item {
                Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => {
                    self.pass_on(message).await;
                }
                Ok(LogOutput::StdErr { message }) => self.hear(&message),
                Ok(LogOutput::StdIn { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "the line to a sandbox broke");
                    return;
                }
            }
        }
    }

    async fn pass_on(&mut self, piece: Bytes) {
        let size = piece.len() as u64;
        let piece = match self.log.try_send(piece) {
            // A reader who left is not waited for; the build goes on without.
            Ok(()) | Err(TrySendError::Closed(_)) => return,
            Err(TrySendError::Full(piece)) => piece,
        };
        let log = self.log.clone();
        tokio::select! {
            _sent_or_left = log.send(piece) => {}
            () = self.until_out_of_patience() => {
                let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.lost_log_bytes += size;
            }
        }
    }

    async fn until_out_of_patience(&mut self) {
        loop {
            let until = *self.patience.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                changed = self.patience.changed() => if changed.is_err() { return },
            }
        }
    }

    fn hear(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.hear_line(&line);
            }
        }
    }

    fn hear_line(&mut self, line: &[u8]) {
        let notice = serde_json::from_slice::<Notice>(line);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Ok(notice) => {
                if let Notice::Report(report) = &notice {
                    heard.report = Some((**report).clone());
                }
                drop(heard);
                if let Notice::Network { wanted } = &notice
                    && let Err(error) = self.wishes.try_send(*wanted)
                {
                    tracing::warn!(%error, "nobody serves the network of a sandbox");
                }
                // Notices are a service; the report at the end has all that matters.
                let _unread = self.notices.try_send(notice);
            }
            Err(_) if heard.stray.len() < MAX_STRAY => {
                heard.stray.push_str(&String::from_utf8_lossy(line));
            }
            Err(_) => {}
        }
    }
}

/// Pings until the line is dropped, and passes orders on at once.
async fn speak(mut input: Pin<Box<dyn AsyncWrite + Send>>, mut orders: mpsc::Receiver<Order>) {
    let mut ping = tokio::time::interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let order = tokio::select! {
            _ = ping.tick() => Order::Ping,
            order = orders.recv() => match order {
                Some(order) => order,
                None => return,
            },
        };
        if say(&mut input, order).await.is_err() {
            // The sandbox has ended; whoever waits for it will hear so.
            return;
        }
    }
}

async fn say(input: &mut Pin<Box<dyn AsyncWrite + Send>>, order: Order) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&order)?;
    line.push(b'\n');
    input.write_all(&line).await?;
    input.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (Listener, mpsc::Receiver<Notice>) {
        let (notices, received) = mpsc::channel(4);
        let listener = Listener {
            log: mpsc::channel(1).0,
            notices,
            wishes: mpsc::channel(1).0,
            heard: Arc::default(),
            line: Vec::new(),
            patience: watch::channel(Instant::now()).1,
        };
        (listener, received)
    }

    #[test]
    fn a_notice_in_pieces_is_heard_and_other_text_is_kept_apart() {
        let (mut listener, mut notices) = listener();
        listener.hear(b"exec format error\n{\"notice\":\"step_started\",");
        listener
            .hear(b"\"name\":\"a\",\"start\":\"x\"}\n{\"notice\":\"report\",\"oom_kills\":2}\n");
        assert!(matches!(notices.try_recv(), Ok(Notice::StepStarted { .. })));
        let heard = listener.heard.lock().unwrap();
        assert_eq!(heard.report.as_ref().unwrap().oom_kills, 2);
        assert_eq!(heard.stray, "exec format error\n");
    }

    #[test]
    fn an_endless_line_costs_a_bounded_amount_of_memory() {
        let (mut listener, _notices) = listener();
        for _ in 0..100 {
            listener.hear(&vec![b'x'; 32 * 1024]);
        }
        assert!(listener.line.len() <= MAX_LINE);
    }
}
