//! The builder's side of the line: orders arrive on stdin, and stdin is the dead man's switch.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::output_queue::{Intake, set_nonblocking, take};
use crate::protocol::Order;

/// Longer lines are no orders of ours.
const MAX_LINE: usize = 4096;

/// Reads orders and knows when the last one came.
pub(crate) struct Orders<R> {
    pipe: R,
    line: Vec<u8>,
    last: Instant,
    patience: Duration,
    has_ended: bool,
}

impl<R: Read + AsFd> Orders<R> {
    /// Takes stdin over; the builder counts as gone after `patience` without a line.
    pub(crate) fn new(pipe: R, patience: Duration) -> Result<Self, Errno> {
        set_nonblocking(pipe.as_fd())?;
        Ok(Self {
            pipe,
            line: Vec::new(),
            last: Instant::now(),
            patience,
            has_ended: false,
        })
    }

    /// The pipe, while it is worth waiting for.
    pub(crate) fn wants(&self) -> Option<BorrowedFd<'_>> {
        (!self.has_ended).then(|| self.pipe.as_fd())
    }

    /// When the builder counts as gone, unless it says something; none once it does.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let deadline = self.last + self.patience;
        (!self.is_abandoned(Instant::now())).then_some(deadline)
    }

    /// Whether nobody is there any more.
    pub(crate) fn is_abandoned(&self, now: Instant) -> bool {
        self.has_ended || now >= self.last + self.patience
    }

    /// Reads what is there; tells whether a cancel was among it. Lines of an unknown kind come from a
    /// newer builder, which is still a builder.
    pub(crate) fn read(&mut self) -> bool {
        let mut piece = [0; 1024];
        let mut is_cancelled = false;
        loop {
            match take(self.pipe.read(&mut piece)) {
                Intake::Bytes(count) => is_cancelled |= self.feed(&piece[..count]),
                Intake::Nothing => return is_cancelled,
                Intake::End => {
                    self.has_ended = true;
                    return is_cancelled;
                }
            }
        }
    }

    fn feed(&mut self, piece: &[u8]) -> bool {
        let mut is_cancelled = false;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.last = Instant::now();
                is_cancelled |=
                    serde_json::from_slice::<Order>(&self.line).is_ok_and(|o| o == Order::Cancel);
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

    fn line(patience: Duration) -> (Orders<UnixStream>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Orders::new(ours, patience).unwrap(), theirs)
    }

    #[test]
    fn a_cancel_is_found_among_other_lines() {
        let (mut orders, mut builder) = line(Duration::from_secs(30));
        builder
            .write_all(b"{\"order\":\"ping\"}\n{\"order\":\"dance\"}\nnonsense\n{\"order\":")
            .unwrap();
        assert!(!orders.read());
        builder.write_all(b"\"cancel\"}\n").unwrap();
        assert!(orders.read() && !orders.is_abandoned(Instant::now()));
    }

    #[test]
    fn an_endless_line_costs_no_memory() {
        let (mut orders, mut builder) = line(Duration::from_secs(30));
        for _ in 0..16 {
            builder.write_all(&[b'x'; 8192]).unwrap();
            assert!(!orders.read());
        }
        assert!(orders.line.len() <= MAX_LINE);
    }

    #[test]
    fn silence_and_end_of_input_mean_abandoned() {
        let (mut orders, builder) = line(Duration::from_millis(50));
        let now = Instant::now();
        assert!(!orders.is_abandoned(now));
        assert!(orders.is_abandoned(now + Duration::from_millis(60)));
        drop(builder);
        assert!(!orders.read());
        assert!(orders.is_abandoned(now) && orders.wants().is_none());
    }
}
