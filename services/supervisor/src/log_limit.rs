//! The limit on the log: its beginning is passed through as it comes, its end is kept in a ring, and a marker says how
//! much was left out between the two. So an endless log costs a bounded amount of memory, disk and network, and still
//! shows how the build began and how it ended.

use std::collections::VecDeque;

use crate::protocol::LogCaps;

/// Passes the first `head` bytes of a log through, keeps the last `tail` bytes in a ring, and counts all bytes.
#[derive(Debug)]
pub(crate) struct LogLimiter {
    head: u64,
    tail: usize,
    taken: u64,
    ring: VecDeque<u8>,
    is_closed: bool,
    /// Set by the first call of [`LogLimiter::release`].
    released: Option<Released>,
}

/// What is fixed once the log's end goes out.
#[derive(Debug)]
struct Released {
    /// Where the ring's first byte lies in the log as it was written.
    ring_start: u64,
    /// The line in place of what was left out; empty when nothing was.
    marker: Vec<u8>,
    is_marker_out: bool,
}

impl LogLimiter {
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

    /// Takes a piece of the log; returns the part of it that belongs to the beginning and goes out at once.
    pub(crate) fn take<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        if self.is_closed {
            return &[];
        }
        let room = usize::try_from(self.head.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        self.taken += piece.len() as u64;
        let (now, later) = piece.split_at(room.min(piece.len()));
        self.store_in_ring(later);
        now
    }

    /// Drops everything from now on, uncounted: the log's last line is then the one that says why the build ends.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    fn store_in_ring(&mut self, piece: &[u8]) {
        let piece = &piece[piece.len().saturating_sub(self.tail)..];
        let excess = (self.ring.len() + piece.len()).saturating_sub(self.tail);
        self.ring.drain(..excess);
        self.ring.extend(piece);
    }

    /// Bytes of the log so far, as the build wrote it.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The next piece of the log's end: the marker, then at most `room` bytes of the ring at a time; none when
    /// everything is out. Once this was called, nothing more may be taken.
    pub(crate) fn release(&mut self, room: usize) -> Option<Vec<u8>> {
        let ring_start = self.taken - self.ring.len() as u64;
        let head = self.head;
        let released = self.released.get_or_insert_with(|| Released {
            ring_start,
            marker: marker(ring_start.saturating_sub(head.min(ring_start))),
            is_marker_out: false,
        });
        if !released.is_marker_out {
            released.is_marker_out = true;
            if !released.marker.is_empty() {
                return Some(released.marker.clone());
            }
        }
        if self.ring.is_empty() || room == 0 {
            return None;
        }
        Some(self.ring.drain(..room.min(self.ring.len())).collect())
    }

    /// Whether some of the log's end is not released yet.
    pub(crate) fn is_holding(&self) -> bool {
        let is_marker_due = self
            .released
            .as_ref()
            .is_some_and(|released| !released.is_marker_out && !released.marker.is_empty());
        !self.ring.is_empty() || is_marker_due
    }

    /// Where a byte of the log as it was written lies in the stored log; one that was left out lies at the marker.
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

    fn limiter(head: u64, tail: u64) -> LogLimiter {
        LogLimiter::new(&LogCaps {
            head_bytes: head,
            tail_bytes: tail,
            hard_bytes: u64::MAX,
        })
    }

    /// The stored log of a build that writes these pieces.
    fn stored(log_limiter: &mut LogLimiter, pieces: &[&[u8]]) -> Vec<u8> {
        let mut stored: Vec<u8> = Vec::new();
        for piece in pieces {
            stored.extend(log_limiter.take(piece));
        }
        while let Some(piece) = log_limiter.release(3) {
            stored.extend(piece);
        }
        stored
    }

    #[test]
    fn a_log_within_its_caps_is_stored_whole() {
        let mut log_limiter = limiter(4, 6);
        assert_eq!(
            stored(&mut log_limiter, &[b"ab", b"cdef", b"ghij"]),
            b"abcdefghij"
        );
        assert!(!log_limiter.is_holding());
        assert_eq!(log_limiter.stored_offset(9), 9);
    }

    #[test]
    fn the_middle_of_a_long_log_is_left_out_and_counted() {
        let mut log_limiter = limiter(4, 3);
        let text = stored(&mut log_limiter, &[b"head", b"0123456789", b"end"]);
        let marker = b"\nmillrace: 10 bytes of the log were left out here\n";
        assert_eq!(text, [b"head".as_slice(), marker, b"end"].concat());
        let at = |offset| text[usize::try_from(log_limiter.stored_offset(offset)).unwrap()];
        assert_eq!(
            at(14),
            b'e',
            "a line in the end is found where it is stored"
        );
        assert_eq!(
            log_limiter.stored_offset(7),
            4,
            "one that was left out, at the marker"
        );
    }

    #[test]
    fn one_piece_larger_than_the_ring_costs_no_more_than_the_ring() {
        let mut log_limiter = limiter(0, 4);
        log_limiter.take(&vec![b'x'; 100_000]);
        log_limiter.take(b"tail");
        assert_eq!(
            log_limiter.ring.iter().copied().collect::<Vec<_>>(),
            b"tail"
        );
        assert_eq!(log_limiter.taken(), 100_004);
    }

    #[test]
    fn a_log_that_just_fits_is_stored_whole_and_one_byte_more_is_not() {
        let mut whole = limiter(4, 3);
        assert_eq!(stored(&mut whole, &[b"headend"]), b"headend");
        let mut longer = limiter(4, 3);
        assert_eq!(
            stored(&mut longer, &[b"headxend"]),
            b"head\nmillrace: 1 bytes of the log were left out here\nend"
        );
    }

    #[test]
    fn without_a_ring_only_the_beginning_and_the_marker_are_stored() {
        let mut limiter = limiter(2, 0);
        assert_eq!(
            stored(&mut limiter, &[b"ab", b"cde"]),
            b"ab\nmillrace: 3 bytes of the log were left out here\n"
        );
        assert_eq!(limiter.taken(), 5);
        assert_eq!(limiter.stored_offset(4), 2);
    }

    #[test]
    fn an_empty_log_has_no_end_to_release() {
        let mut limiter = limiter(4, 4);
        assert!(!limiter.is_holding());
        assert_eq!(limiter.release(8), None);
        assert_eq!((limiter.taken(), limiter.stored_offset(0)), (0, 0));
    }

    #[test]
    fn the_end_waits_until_it_is_released_piece_by_piece() {
        let mut limiter = limiter(0, 5);
        assert_eq!(limiter.take(b"0123456789"), b"");
        assert!(limiter.is_holding());
        let marker = limiter.release(2).unwrap();
        assert_eq!(
            marker,
            b"\nmillrace: 5 bytes of the log were left out here\n"
        );
        assert_eq!(limiter.release(2).unwrap(), b"56");
        assert_eq!(limiter.release(0), None, "no room, but not at its end");
        assert!(limiter.is_holding());
        assert_eq!(limiter.release(9).unwrap(), b"789");
        assert!(!limiter.is_holding());
        assert_eq!(limiter.release(9), None);
    }

    #[test]
    fn a_closed_log_takes_and_counts_nothing_more() {
        let mut limiter = limiter(4, 4);
        limiter.take(b"ab");
        limiter.close();
        assert_eq!(limiter.take(b"cdefghij"), b"");
        assert_eq!(limiter.taken(), 2);
        assert!(!limiter.is_holding());
    }

    #[test]
    fn offsets_in_the_end_are_unknown_until_it_is_released() {
        let mut limiter = limiter(4, 4);
        limiter.take(b"head0123tail");
        assert_eq!(limiter.stored_offset(3), 3);
        assert_eq!(limiter.stored_offset(10), 4, "at the end of the beginning");
        let marker = limiter.release(0).unwrap().len() as u64;
        assert_eq!(limiter.stored_offset(8), 4 + marker);
        assert_eq!(limiter.stored_offset(11), 4 + marker + 3);
        assert_eq!(limiter.stored_offset(7), 4, "left out");
    }

    #[test]
    fn every_stored_offset_points_at_the_same_byte_whatever_the_pieces() {
        let text: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for (head, tail, piece) in [
            (100, 200, 7),
            (0, 300, 64),
            (500, 500, 1000),
            (1, 1, 1),
            (300, 699, 13),
        ] {
            let mut limiter = limiter(head, tail);
            let pieces: Vec<&[u8]> = text.chunks(piece).collect();
            let stored = stored(&mut limiter, &pieces);
            let left_out = text.len() as u64 - (head + tail).min(text.len() as u64);
            for at in (0..head).chain(head + left_out..text.len() as u64) {
                let place = usize::try_from(limiter.stored_offset(at)).unwrap();
                let original = text[usize::try_from(at).unwrap()];
                assert_eq!(stored[place], original, "{head} {tail} {piece} at {at}");
            }
        }
    }
}
