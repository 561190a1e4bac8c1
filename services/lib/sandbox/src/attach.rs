//! The connection to a running sandbox: its stdout is the log, its stderr brings notices, its stdin takes
//! commands and is the supervisor's dead man's switch.
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
use millrace_supervisor::{Network, Notice, Report, SupervisorCommand};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

/// Time between two pings; the supervisor ends its sandbox after six that did not come.
const PING: Duration = Duration::from_secs(5);
/// Pieces of log (32 KiB at most) that wait for the reader.
const LOG_PIECES: usize = 32;
/// Notices that wait for the reader.
const NOTICES: usize = 256;
/// Network requests that wait to be served; a supervisor has one at a time.
const NETWORK_REQUESTS: usize = 4;
/// Longest line on stderr that is read as a notice, in bytes.
const MAX_LINE: usize = 1 << 20;
/// How much of other text on stderr is kept, in bytes.
const MAX_STRAY: usize = 4096;

/// What has come from the sandbox so far and is not passed on to a reader.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    /// The supervisor's report, once it came.
    pub(crate) report: Option<Report>,
    /// Text on stderr that is no notice, such as the engine's reason for not starting the program.
    pub(crate) stray: String,
    /// Bytes of the log that its reader did not take in time.
    pub(crate) lost_log_bytes: u64,
}

/// The reading ends of a connection.
#[derive(Debug)]
pub(crate) struct Receivers {
    pub(crate) log: mpsc::Receiver<Bytes>,
    pub(crate) notices: mpsc::Receiver<Notice>,
    pub(crate) network_requests: mpsc::Receiver<Network>,
}

/// A connection to a sandbox. Dropping it closes it, which ends the sandbox.
#[derive(Debug)]
pub(crate) struct Connection {
    received: Arc<Mutex<Received>>,
    commands: mpsc::Sender<SupervisorCommand>,
    patience: watch::Sender<Instant>,
    reading: JoinHandle<()>,
    writing: JoinHandle<()>,
}

impl Connection {
    /// Starts to read and to ping. The reader of the log may hold the sandbox back until `patience` ends.
    pub(crate) fn open(attached: AttachContainerResults, patience: Instant) -> (Self, Receivers) {
        let (log_in, log) = mpsc::channel(LOG_PIECES);
        let (notices_in, notices) = mpsc::channel(NOTICES);
        let (network_requests_in, network_requests) = mpsc::channel(NETWORK_REQUESTS);
        let (commands, commands_out) = mpsc::channel(4);
        let (patience, patience_of_reading) = watch::channel(patience);
        let received = Arc::new(Mutex::new(Received::default()));
        let mut output_reader = OutputReader {
            log: log_in,
            notices: notices_in,
            network_requests: network_requests_in,
            received: Arc::clone(&received),
            line: Vec::new(),
            patience: patience_of_reading,
        };
        let output = attached.output;
        let connection = Self {
            received,
            commands,
            patience,
            reading: tokio::spawn(async move { output_reader.read(output).await }),
            writing: tokio::spawn(write_commands(attached.input, commands_out)),
        };
        let receivers = Receivers {
            log,
            notices,
            network_requests,
        };
        (connection, receivers)
    }

    /// Sends a command, unless several wait already.
    pub(crate) fn send(&self, command: SupervisorCommand) {
        if let Err(error) = self.commands.try_send(command) {
            tracing::debug!(%error, "the sandbox takes no more commands");
        }
    }

    /// Lets the reader of the log hold the sandbox back no longer than until this moment.
    pub(crate) fn shorten_patience(&self, until: Instant) {
        self.patience.send_if_modified(|patience| {
            let is_shorter = until < *patience;
            *patience = until.min(*patience);
            is_shorter
        });
    }

    /// Closes the connection; what was not read from it is lost.
    pub(crate) fn close(&self) {
        // Only when both halves are gone is the connection closed and the supervisor's stdin with it.
        self.reading.abort();
        self.writing.abort();
    }

    /// Waits until the sandbox's output has been read to its end, at most for `patience`.
    pub(crate) async fn finish(&mut self, patience: Duration) {
        if self.reading.is_finished() {
            return;
        }
        if tokio::time::timeout(patience, &mut self.reading)
            .await
            .is_err()
        {
            tracing::warn!("the log of an ended sandbox was not read in time; its rest is lost");
        }
    }

    /// What has been received so far.
    pub(crate) fn received(&self) -> Received {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads the sandbox's two outputs and passes them on.
struct OutputReader {
    log: mpsc::Sender<Bytes>,
    notices: mpsc::Sender<Notice>,
    network_requests: mpsc::Sender<Network>,
    received: Arc<Mutex<Received>>,
    line: Vec<u8>,
    patience: watch::Receiver<Instant>,
}

impl OutputReader {
    async fn read(
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
                Ok(LogOutput::StdErr { message }) => self.read_stderr(&message),
                Ok(LogOutput::StdIn { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "the connection to a sandbox broke");
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
                let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
                received.lost_log_bytes += size;
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

    fn read_stderr(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.read_notice(&line);
            }
        }
    }

    fn read_notice(&mut self, line: &[u8]) {
        let notice = serde_json::from_slice::<Notice>(line);
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Ok(notice) => {
                if let Notice::Report(report) = &notice {
                    received.report = Some((**report).clone());
                }
                drop(received);
                if let Notice::Network { wanted } = &notice
                    && let Err(error) = self.network_requests.try_send(*wanted)
                {
                    tracing::warn!(%error, "a sandbox's network request is not served");
                }
                // Notices are a service; the report at the end has all that matters.
                let _unread = self.notices.try_send(notice);
            }
            Err(_) if received.stray.len() < MAX_STRAY => {
                received.stray.push_str(&String::from_utf8_lossy(line));
            }
            Err(_) => {}
        }
    }
}

/// Pings until the connection is dropped, and writes commands at once.
async fn write_commands(
    mut input: Pin<Box<dyn AsyncWrite + Send>>,
    mut commands: mpsc::Receiver<SupervisorCommand>,
) {
    let mut ping = tokio::time::interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            _ = ping.tick() => SupervisorCommand::Ping,
            command = commands.recv() => match command {
                Some(command) => command,
                None => return,
            },
        };
        if write_command(&mut input, command).await.is_err() {
            // The sandbox has ended, which the wait for its end reports.
            return;
        }
    }
}

async fn write_command(
    input: &mut Pin<Box<dyn AsyncWrite + Send>>,
    command: SupervisorCommand,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&command)?;
    line.push(b'\n');
    input.write_all(&line).await?;
    input.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_reader() -> (OutputReader, mpsc::Receiver<Notice>) {
        let (notices, notices_out) = mpsc::channel(4);
        let reader = OutputReader {
            log: mpsc::channel(1).0,
            notices,
            network_requests: mpsc::channel(1).0,
            received: Arc::default(),
            line: Vec::new(),
            patience: watch::channel(Instant::now()).1,
        };
        (reader, notices_out)
    }

    #[test]
    fn a_notice_in_pieces_is_read_and_other_text_is_kept_apart() {
        let (mut reader, mut notices) = output_reader();
        reader.read_stderr(b"exec format error\n{\"notice\":\"step_started\",");
        reader.read_stderr(
            b"\"name\":\"a\",\"start\":\"x\"}\n{\"notice\":\"report\",\"oom_kills\":2}\n",
        );
        assert!(matches!(notices.try_recv(), Ok(Notice::StepStarted { .. })));
        let received = reader.received.lock().unwrap();
        assert_eq!(received.report.as_ref().unwrap().oom_kills, 2);
        assert_eq!(received.stray, "exec format error\n");
    }

    #[test]
    fn an_endless_line_costs_a_bounded_amount_of_memory() {
        let (mut reader, _notices) = output_reader();
        for _ in 0..100 {
            reader.read_stderr(&vec![b'x'; 32 * 1024]);
        }
        assert!(reader.line.len() <= MAX_LINE);
    }
}
