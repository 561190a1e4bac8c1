//! A bounded queue in front of one of our own output pipes. Writing never blocks: a reader who stalls
//! fills the queue, which stops the reading of the build's output and so the build, but no limit.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// A pipe and the bytes that wait to be written to it.
pub(crate) struct OutputQueue<W> {
    pipe: W,
    waiting: VecDeque<u8>,
    is_broken: bool,
}

impl<W: Write + AsFd> OutputQueue<W> {
    /// Takes a pipe over and makes it non-blocking.
    pub(crate) fn new(pipe: W, capacity: usize) -> Result<Self, Errno> {
        set_nonblocking(pipe.as_fd())?;
        Ok(Self {
            pipe,
            waiting: VecDeque::with_capacity(capacity),
            is_broken: false,
        })
    }

    /// Queues bytes. The queue grows without a bound: a caller that can wait asks [`OutputQueue::waiting`] first.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.is_broken {
            self.waiting.extend(bytes);
        }
    }

    /// How many bytes wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The pipe, when there is something to write to it.
    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.waiting.is_empty()).then(|| self.pipe.as_fd())
    }

    /// Writes what the pipe takes at once. Once its reader is gone, everything is dropped.
    pub(crate) fn flush(&mut self) {
        while !self.waiting.is_empty() {
            match self.pipe.write(self.waiting.as_slices().0) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.is_broken = true;
                    self.waiting.clear();
                }
            }
        }
    }

    /// Whether the pipe's reader is gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }
}

/// Makes reads from and writes to this descriptor return at once.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Result of a non-blocking read.
pub(crate) enum ReadResult {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Nothing is there now; more may come.
    Nothing,
    /// The end of the stream, or an error of it.
    End,
}

/// Sorts the result of one read; an error ends the stream like its end does.
pub(crate) fn read_result(result: io::Result<usize>) -> ReadResult {
    match result {
        Ok(0) => ReadResult::End,
        Ok(count) => ReadResult::Bytes(count),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            ReadResult::Nothing
        }
        Err(_) => ReadResult::End,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_stalled_reader_blocks_nothing_and_loses_nothing() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut queue = OutputQueue::new(ours, 16).unwrap();
        let text: Vec<u8> = (0u32..400_000).flat_map(u32::to_le_bytes).collect();
        queue.push(&text);
        queue.flush();
        assert!(queue.waiting() > 0 && queue.poll_fd().is_some());
        let mut seen = vec![0; text.len()];
        let mut at = 0;
        while at < text.len() {
            at += theirs.read(&mut seen[at..]).unwrap();
            queue.flush();
        }
        assert!(seen == text && queue.poll_fd().is_none());
    }

    #[test]
    fn a_reader_who_left_is_noticed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut queue = OutputQueue::new(ours, 16).unwrap();
        drop(theirs);
        queue.push(b"lost");
        queue.flush();
        assert!(queue.is_broken() && queue.waiting() == 0);
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut queue = OutputQueue::new(ours, 4).unwrap();
        assert!(queue.poll_fd().is_none(), "nothing to write yet");
        for piece in [&b"one "[..], b"", b"two ", b"three"] {
            queue.push(piece);
        }
        assert_eq!(queue.waiting(), 13);
        queue.flush();
        assert_eq!(queue.waiting(), 0);
        let mut seen = [0; 13];
        theirs.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"one two three");
    }

    #[test]
    fn a_broken_queue_stays_broken_and_keeps_nothing() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut queue = OutputQueue::new(ours, 16).unwrap();
        drop(theirs);
        queue.push(b"first");
        queue.flush();
        queue.push(&vec![b'x'; 1 << 20]);
        queue.flush();
        assert!(queue.is_broken() && queue.poll_fd().is_none());
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn reads_are_sorted_into_bytes_nothing_and_the_end() {
        let is_end = |result| matches!(read_result(result), ReadResult::End);
        let is_nothing = |result| matches!(read_result(result), ReadResult::Nothing);
        assert!(matches!(read_result(Ok(3)), ReadResult::Bytes(3)));
        assert!(is_end(Ok(0)));
        assert!(is_nothing(Err(ErrorKind::WouldBlock.into())));
        assert!(is_nothing(Err(ErrorKind::Interrupted.into())));
        assert!(is_end(Err(ErrorKind::ConnectionReset.into())));
    }

    #[test]
    fn a_pipe_without_bytes_does_not_block_its_reader() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        set_nonblocking(theirs.as_fd()).unwrap();
        let mut buffer = [0; 8];
        assert!(matches!(
            read_result(theirs.read(&mut buffer)),
            ReadResult::Nothing
        ));
        drop(ours);
        assert!(matches!(
            read_result(theirs.read(&mut buffer)),
            ReadResult::End
        ));
    }
}
