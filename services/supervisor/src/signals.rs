//! Signals as a descriptor that can be polled: ended children, and the engine's request to end.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use crate::output_queue::{ReadResult, read_result, set_nonblocking};

/// The signals that the supervisor acts on.
pub(crate) struct Signals {
    wakeup: PipeReader,
    wants_end: Arc<AtomicBool>,
}

impl Signals {
    /// Catches SIGCHLD, SIGINT and SIGTERM from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        let (wakeup, writer) = io::pipe()?;
        set_nonblocking(wakeup.as_fd())?;
        set_nonblocking(writer.as_fd())?;
        let wants_end = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Registered before the pipe, so that the flag is up when the pipe wakes us.
            signal_hook::flag::register(signal, Arc::clone(&wants_end))?;
        }
        for signal in [SIGCHLD, SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        Ok(Self { wakeup, wants_end })
    }

    /// A descriptor that is readable once a signal came.
    pub(crate) fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }

    /// Reads the descriptor empty, before the next poll.
    pub(crate) fn drain(&self) {
        let mut piece = [0; 64];
        while matches!(
            read_result((&self.wakeup).read(&mut piece)),
            ReadResult::Bytes(_)
        ) {}
    }

    /// Whether SIGINT or SIGTERM came since the last call.
    pub(crate) fn wants_end(&self) -> bool {
        self.wants_end.swap(false, Ordering::Relaxed)
    }
}
