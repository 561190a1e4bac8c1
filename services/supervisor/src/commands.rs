//! Commands of the builder, which arrive on stdin. stdin is also the dead man's switch: without a line for some time,
//! or at its end, the builder counts as gone.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::output_queue::{ReadResult, read_result, set_nonblocking};
use crate::protocol::SupervisorCommand;

/// Longest line that is read as a command, in bytes.
const MAX_LINE: usize = 4096;

/// Reads commands and remembers when the last line came.
pub(crate) struct CommandReader<R> {
    pipe: R,
    line: Vec<u8>,
    last: Instant,
    ping_timeout: Duration,
    has_ended: bool,
}

impl<R: Read + AsFd> CommandReader<R> {
    /// Takes the pipe over; the builder counts as gone after `ping_timeout` without a line, from `now` on.
    pub(crate) fn new(pipe: R, ping_timeout: Duration, now: Instant) -> Result<Self, Errno> {
        set_nonblocking(pipe.as_fd())?;
        Ok(Self {
            pipe,
            line: Vec::new(),
            last: now,
            ping_timeout,
            has_ended: false,
        })
    }

    /// The pipe, while it is worth waiting for.
    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.has_ended).then(|| self.pipe.as_fd())
    }

    /// When the builder will count as gone unless a line comes; none once it counts as gone.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let deadline = self.last + self.ping_timeout;
        (!self.is_abandoned(now)).then_some(deadline)
    }

    /// Whether the builder counts as gone.
    pub(crate) fn is_abandoned(&self, now: Instant) -> bool {
        self.has_ended || now >= self.last + self.ping_timeout
    }

    /// Reads what has arrived by `now`; true when a cancel was among it. A line of an unknown kind, as a newer builder
    /// may send, shows that the builder is there like any other.
    pub(crate) fn read(&mut self, now: Instant) -> bool {
        let mut piece = [0; 1024];
        let mut is_cancelled = false;
        loop {
            match read_result(self.pipe.read(&mut piece)) {
                ReadResult::Bytes(count) => is_cancelled |= self.feed(&piece[..count], now),
                ReadResult::Nothing => return is_cancelled,
                ReadResult::End => {
                    self.has_ended = true;
                    return is_cancelled;
                }
            }
        }
    }

    fn feed(&mut self, piece: &[u8], now: Instant) -> bool {
        let mut is_cancelled = false;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.last = now;
                is_cancelled |= serde_json::from_slice::<SupervisorCommand>(&self.line)
                    .is_ok_and(|command| command == SupervisorCommand::Cancel);
                self.line.clear();
            }
        }
        is_cancelled
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    const PING_TIMEOUT: Duration = Duration::from_secs(30);

    fn connected(now: Instant) -> (CommandReader<UnixStream>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (CommandReader::new(ours, PING_TIMEOUT, now).unwrap(), theirs)
    }

    #[test]
    fn a_cancel_is_found_among_other_lines() {
        let now = Instant::now();
        let (mut commands, mut builder) = connected(now);
        builder
            .write_all(b"{\"order\":\"ping\"}\n{\"order\":\"dance\"}\nnonsense\n{\"order\":")
            .unwrap();
        assert!(!commands.read(now));
        builder.write_all(b"\"cancel\"}\n").unwrap();
        assert!(commands.read(now) && !commands.is_abandoned(now));
    }

    #[test]
    fn a_hostile_line_is_neither_a_cancel_nor_the_end() {
        let now = Instant::now();
        for line in [
            &b"\n"[..],
            b"\0\0\0\n",
            b"\xff\xfe{\"order\":\"cancel\"}\n",
            b"\"cancel\"\n",
            b"{\"order\":[\"cancel\"]}\n",
            b"{\"order\":\"Cancel\"}\n",
            b"{\"order\":\"cancel\"} {\"order\":\"cancel\"}\n",
            b"{\"notice\":\"cancel\"}\n",
            b"{\"order\":\"cancel\"",
        ] {
            let (mut commands, mut builder) = connected(now);
            builder.write_all(line).unwrap();
            assert!(!commands.read(now), "{}", line.escape_ascii());
            assert!(!commands.is_abandoned(now));
        }
    }

    #[test]
    fn a_command_with_more_fields_and_spaces_is_still_that_command() {
        let now = Instant::now();
        let (mut commands, mut builder) = connected(now);
        builder
            .write_all(b" {\"later\":{\"a\":[1]}, \"order\" : \"cancel\"} \r\n")
            .unwrap();
        assert!(commands.read(now));
    }

    #[test]
    fn an_endless_line_costs_no_memory_and_the_next_line_is_read() {
        let now = Instant::now();
        let (mut commands, mut builder) = connected(now);
        for _ in 0..16 {
            builder.write_all(&[b'x'; 8192]).unwrap();
            assert!(!commands.read(now));
        }
        assert!(commands.line.len() <= MAX_LINE);
        builder.write_all(b"\n{\"order\":\"cancel\"}\n").unwrap();
        assert!(commands.read(now));
    }

    #[test]
    fn the_dead_mans_switch_counts_from_the_last_whole_line() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let (mut commands, mut builder) = connected(start);
        assert_eq!(commands.deadline(start), Some(start + 30 * second));
        assert!(!commands.is_abandoned(start + 29 * second));
        assert!(commands.is_abandoned(start + 30 * second));

        builder.write_all(b"{\"order\":\"ping\"}\n").unwrap();
        commands.read(start + 20 * second);
        assert_eq!(
            commands.deadline(start + 20 * second),
            Some(start + 50 * second)
        );

        builder.write_all(b"half a line").unwrap();
        commands.read(start + 40 * second);
        assert!(commands.is_abandoned(start + 50 * second));
        assert_eq!(commands.deadline(start + 50 * second), None);

        builder.write_all(b" and its end\n").unwrap();
        commands.read(start + 50 * second);
        assert!(
            !commands.is_abandoned(start + 50 * second),
            "any line shows that the builder is there"
        );
    }

    #[test]
    fn the_end_of_input_abandons_at_once_but_not_before_its_last_command() {
        let now = Instant::now();
        let (mut commands, mut builder) = connected(now);
        builder.write_all(b"{\"order\":\"cancel\"}\n").unwrap();
        drop(builder);
        assert!(commands.read(now));
        assert!(commands.is_abandoned(now) && commands.poll_fd().is_none());
        assert_eq!(commands.deadline(now), None);
    }
}
