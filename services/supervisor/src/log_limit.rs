//! What is kept of a log: its beginning as it comes, then a ring with its end, and a marker that tells how much was
//! left out between the two. So an endless log costs a bounded amount of memory, disk and network, and still shows
//! how the build began and how it ended.

use std::collections::VecDeque;

use crate::protocol::LogCaps;

/// Stands between what a log had and what it takes in, and what is told of it.
#[derive(Debug)]
pub(crate) struct Gate {
    head: u64,
    tail: usize,
    taken: u64,
    ring: VecDeque<u8>,
    is_closed: bool,
    /// Bytes that were let out of the ring at its front, set once it is closed.
    released: Option<Released>,
}

/// The end of a log on its way out.
#[derive(Debug)]
struct Released {
    ring_start: u64,
    marker: Vec<u8>,
    told: usize,
}

impl Gate {
    pub(crate) fn new(caps: &LogCaps) -> Self {
        Self {
            head: caps.head_bytes,
            tail: usize::try_from(caps.tail_bytes).unwrap_or(usize::MAX),
            taken: 0,
            ring: VecDeque::new(),
            is_closed: false,
            released: None,
        }
    }

    /// Takes a piece in; what is returned belongs to the beginning and goes out at once.
    pub(crate) fn take<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        if self.is_closed {
            return &[];
        }
        let room = usize::try_from(self.head.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        self.taken += piece.len() as u64;
        let (now, later) = piece.split_at(room.min(piece.len()));
        self.keep(later);
        now
    }

    /// From now on everything is thrown away and not counted: the log's last line is the one that says why.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    fn keep(&mut self, piece: &[u8]) {
        let piece = &piece[piece.len().saturating_sub(self.tail)..];
        let excess = (self.ring.len() + piece.len()).saturating_sub(self.tail);
        self.ring.drain(..excess);
        self.ring.extend(piece);
    }

    /// Bytes taken in so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The next piece of the log's end, at most `room` bytes; none when everything is out. From the first call on
    /// nothing more may be taken in.
    pub(crate) fn release(&mut self, room: usize) -> Option<Vec<u8>> {
        let ring_start = self.taken - self.ring.len() as u64;
        let head = self.head;
        let released = self.released.get_or_insert_with(|| Released {
            ring_start,
            marker: marker(ring_start.saturating_sub(head.min(ring_start))),
            told: 0,
        });
        if released.told < released.marker.len() {
            let piece = released.marker[released.told..].to_vec();
            released.told = released.marker.len();
            return Some(piece);
        }
        if self.ring.is_empty() || room == 0 {
            return None;
        }
        Some(self.ring.drain(..room.min(self.ring.len())).collect())
    }

    /// Whether something of the end still waits.
    pub(crate) fn is_holding(&self) -> bool {
        let is_marker_told = self
            .released
            .as_ref()
            .is_none_or(|released| released.told == released.marker.len());
        !self.ring.is_empty() || !is_marker_told
    }

    /// Where a byte of the log lies in what is told of it; one that was left out lies at the marker.
    pub(crate) fn stored_offset(&self, at: u64) -> u64 {
        if at <= self.head {
            return at;
        }
        match &self.released {
            Some(released) if at >= released.ring_start => {
                self.head + released.marker.len() as u64 + (at - released.ring_start)
            }
            Some(_) | None => self.head,
        }
    }
}

/// The line in place of what was left out; nothing when nothing was.
fn marker(left_out: u64) -> Vec<u8> {
    if left_out == 0 {
        return Vec::new();
    }
    format!("\nmillrace: {left_out} bytes of the log were left out here\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(head: u64, tail: u64) -> Gate {
        Gate::new(&LogCaps {
            head_bytes: head,
            tail_bytes: tail,
            hard_bytes: u64::MAX,
        })
    }

    /// What a reader gets of a log that comes in these pieces.
    fn told(gate: &mut Gate, pieces: &[&[u8]]) -> Vec<u8> {
        let mut told: Vec<u8> = Vec::new();
        for piece in pieces {
            told.extend(gate.take(piece));
        }
        while let Some(piece) = gate.release(3) {
            told.extend(piece);
        }
        told
    }

    #[test]
    fn a_log_within_its_caps_is_told_whole() {
        let mut gate = gate(4, 6);
        assert_eq!(told(&mut gate, &[b"ab", b"cdef", b"ghij"]), b"abcdefghij");
        assert!(!gate.is_holding());
        assert_eq!(gate.stored_offset(9), 9);
    }

    #[test]
    fn the_middle_of_a_long_log_is_left_out_and_counted() {
        let mut gate = gate(4, 3);
        let text = told(&mut gate, &[b"head", b"0123456789", b"end"]);
        let marker = b"\nmillrace: 10 bytes of the log were left out here\n";
        assert_eq!(text, [b"head".as_slice(), marker, b"end"].concat());
        let at = |offset| text[usize::try_from(gate.stored_offset(offset)).unwrap()];
        assert_eq!(
            at(14),
            b'e',
            "a line in the end is found where it is stored"
        );
        assert_eq!(
            gate.stored_offset(7),
            4,
            "one that was left out, at the marker"
        );
    }

    #[test]
    fn one_piece_larger_than_the_ring_costs_no_more_than_the_ring() {
        let mut gate = gate(0, 4);
        gate.take(&vec![b'x'; 100_000]);
        gate.take(b"tail");
        assert_eq!(gate.ring.iter().copied().collect::<Vec<_>>(), b"tail");
        assert_eq!(gate.taken(), 100_004);
    }
}
