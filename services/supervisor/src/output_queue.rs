//! A bounded queue in front of one of our own output pipes. Writing never blocks: a reader who stalls
//! fills the queue, which stops the reading of the build's output and so the build, but no limit.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Bytes that wait for a reader.
pub(crate) struct Outlet<W> {
    pipe: W,
    waiting: VecDeque<u8>,
    is_broken: bool,
}

impl<W: Write + AsFd> Outlet<W> {
    /// Takes a pipe over and makes it non-blocking.
    pub(crate) fn new(pipe: W, capacity: usize) -> Result<Self, Errno> {
        set_nonblocking(pipe.as_fd())?;
        Ok(Self {
            pipe,
            waiting: VecDeque::with_capacity(capacity),
            is_broken: false,
        })
    }

    /// Queues bytes; who must be held back by a full queue asks [`Outlet::waiting`] first.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.is_broken {
            self.waiting.extend(bytes);
        }
    }

    /// How many bytes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The pipe, when there is something to write to it.
    pub(crate) fn wants(&self) -> Option<BorrowedFd<'_>> {
        (!self.waiting.is_empty()).then(|| self.pipe.as_fd())
    }

    /// Writes what the pipe takes at once. A pipe that nobody holds any more takes and loses everything.
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

    /// Whether its reader is gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }
}

/// Makes reads and writes return at once.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// What a non-blocking read brought.
pub(crate) enum Intake {
    /// This many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing ever again.
    End,
}

/// Reads once; an error ends the stream like its end does.
pub(crate) fn take(result: io::Result<usize>) -> Intake {
    match result {
        Ok(0) => Intake::End,
        Ok(count) => Intake::Bytes(count),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Intake::Nothing
        }
        Err(_) => Intake::End,
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
        let mut outlet = Outlet::new(ours, 16).unwrap();
        let text: Vec<u8> = (0u32..400_000).flat_map(u32::to_le_bytes).collect();
        outlet.push(&text);
        outlet.flush();
        assert!(outlet.waiting() > 0 && outlet.wants().is_some());
        let mut seen = vec![0; text.len()];
        let mut at = 0;
        while at < text.len() {
            at += theirs.read(&mut seen[at..]).unwrap();
            outlet.flush();
        }
        assert!(seen == text && outlet.wants().is_none());
    }

    #[test]
    fn a_reader_who_left_is_noticed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut outlet = Outlet::new(ours, 16).unwrap();
        drop(theirs);
        outlet.push(b"lost");
        outlet.flush();
        assert!(outlet.is_broken() && outlet.waiting() == 0);
    }
}
