//! From a step's output to the log: reads both streams, finds stages, applies the log's limit.

use super::{LOG_CAPACITY, PIECE, Supervisor, send_notice};
use crate::process::Running;
use crate::protocol::Notice;
use crate::stages::{Channel, LineSplitter};

impl Supervisor {
    /// Whether another piece of log may wait for the reader.
    pub(super) fn has_log_capacity(&self) -> bool {
        self.log.waiting() + PIECE <= LOG_CAPACITY
    }

    /// Reads each stream of the step once; true when there was output.
    pub(super) fn read_output(
        &mut self,
        step: &mut Running,
        lines: &mut (LineSplitter, LineSplitter),
        buffer: &mut [u8],
    ) -> bool {
        let mut has_output = false;
        if self.has_log_capacity()
            && let Some(piece) = step.stderr.read(buffer)
        {
            self.log_piece(Channel::Stderr, &mut lines.1, piece);
            has_output = true;
        }
        if self.has_log_capacity()
            && let Some(piece) = step.stdout.read(buffer)
        {
            self.log_piece(Channel::Stdout, &mut lines.0, piece);
            has_output = true;
        }
        has_output
    }

    fn log_piece(&mut self, channel: Channel, lines: &mut LineSplitter, piece: &[u8]) {
        let (stages, notices) = (&mut self.stages, &mut self.notices);
        lines.feed(self.log_limiter.taken(), piece, |line, at| {
            if let Some(mark) = stages.read_line(channel, line, at) {
                send_notice(notices, &Notice::Stage(mark.clone()));
            }
        });
        self.write_log(piece);
    }

    fn write_log(&mut self, piece: &[u8]) {
        self.ends_line = piece.ends_with(b"\n");
        self.log.push(self.log_limiter.take(piece));
        self.log.flush();
    }

    /// Writes a line of the supervisor's own into the log, so that a person sees why it ends.
    pub(super) fn log_line(&mut self, text: &str) {
        let before = if self.ends_line { "" } else { "\n" };
        self.write_log(format!("{before}millrace: {text}\n").as_bytes());
    }
}
