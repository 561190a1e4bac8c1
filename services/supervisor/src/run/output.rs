//! What comes out of a step, on its way into the log.

use super::{LOG_ROOM, PIECE, Supervisor, tell};
use crate::process::Running;
use crate::protocol::Notice;
use crate::stages::{Channel, Lines};

impl Supervisor {
    pub(super) fn has_room(&self) -> bool {
        self.log.waiting() + PIECE <= LOG_ROOM
    }

    /// Reads each stream of the step once; tells whether anything came.
    pub(super) fn take_output(
        &mut self,
        step: &mut Running,
        lines: &mut (Lines, Lines),
        buffer: &mut [u8],
    ) -> bool {
        let mut came = false;
        if self.has_room()
            && let Some(piece) = step.stderr.read(buffer)
        {
            self.take_piece(Channel::Stderr, &mut lines.1, piece);
            came = true;
        }
        if self.has_room()
            && let Some(piece) = step.stdout.read(buffer)
        {
            self.take_piece(Channel::Stdout, &mut lines.0, piece);
            came = true;
        }
        came
    }

    fn take_piece(&mut self, channel: Channel, lines: &mut Lines, piece: &[u8]) {
        let (stages, notices) = (&mut self.stages, &mut self.notices);
        lines.feed(self.gate.taken(), piece, |line, at| {
            if let Some(mark) = stages.line(channel, line, at) {
                tell(notices, &Notice::Stage(mark.clone()));
            }
        });
        self.write_log(piece);
    }

    fn write_log(&mut self, piece: &[u8]) {
        self.ends_line = piece.ends_with(b"\n");
        self.log.push(self.gate.take(piece));
        self.log.flush();
    }

    /// A line of our own in the log, so that a person sees why it ends.
    pub(super) fn say(&mut self, text: &str) {
        let before = if self.ends_line { "" } else { "\n" };
        self.write_log(format!("{before}millrace: {text}\n").as_bytes());
    }
}
