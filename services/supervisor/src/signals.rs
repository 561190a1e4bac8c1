//! Signals as something a poll can wait for: ended children, and the engine's wish that we end.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use crate::output_queue::{Intake, set_nonblocking, take};

/// The signals we live by.
pub(crate) struct Signals {
    wakeup: PipeReader,
    wants_end: Arc<AtomicBool>,
}

impl Signals {
    /// Listens from now on.
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

    /// Readable when a signal came.
    pub(crate) fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }

    /// Forgets the wake-ups so far.
    pub(crate) fn forget(&self) {
        let mut piece = [0; 64];
        while matches!(take((&self.wakeup).read(&mut piece)), Intake::Bytes(_)) {}
    }

    /// Whether SIGINT or SIGTERM came since the last question.
    pub(crate) fn wants_end(&self) -> bool {
        self.wants_end.swap(false, Ordering::Relaxed)
    }
}
