//! Processes: starts a step, reaps ended processes as PID 1 has to, signals all of them.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::output_queue::{ReadResult, read_result, set_nonblocking};
use crate::protocol::{Plan, Step, StepEnd};

/// Steps are this much more likely to be chosen by the kernel's memory killer than the supervisor,
/// which must outlive them to report. Raising needs no capability, and neither does going back.
const STEP_OOM_SCORE: &str = "500";

/// A started step and its output.
pub(crate) struct Running {
    pid: Pid,
    pub(crate) stdout: Source<ChildStdout>,
    pub(crate) stderr: Source<ChildStderr>,
    /// How its own process ended, once it has.
    pub(crate) end: Option<StepEnd>,
}

/// One output stream of a step; closed at its end.
pub(crate) struct Source<R>(Option<R>);

impl<R: Read + AsFd> Source<R> {
    fn new(pipe: Option<R>) -> Result<Self, Errno> {
        if let Some(pipe) = &pipe {
            set_nonblocking(pipe.as_fd())?;
        }
        Ok(Self(pipe))
    }

    /// The pipe, while some process holds its other end.
    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    /// Reads once. At its end the stream is closed.
    pub(crate) fn read<'b>(&mut self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        match read_result(self.0.as_mut()?.read(buffer)) {
            ReadResult::Bytes(count) => Some(&buffer[..count]),
            ReadResult::Nothing => None,
            ReadResult::End => {
                self.0 = None;
                None
            }
        }
    }
}

/// Arguments that an earlier step left. Only root writes there.
fn read_arguments(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))
}

impl Running {
    /// Starts a step in a process group of its own.
    pub(crate) fn start(plan: &Plan, step: &Step) -> Result<Self, String> {
        let (program, arguments) = step.argv.split_first().ok_or("its command is empty")?;
        let more = step
            .arguments_from
            .as_deref()
            .map_or(Ok(String::new()), read_arguments)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(more.lines())
            .envs(plan.env.iter().cloned())
            .envs(step.env.iter().cloned())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let spawned = with_oom_score(STEP_OOM_SCORE, || command.spawn());
        let mut child = spawned.map_err(|error| format!("cannot run {program}: {error}"))?;
        let pid = i32::try_from(child.id()).map_err(|error| error.to_string())?;
        Ok(Self {
            pid: Pid::from_raw(pid),
            stdout: Source::new(child.stdout.take()).map_err(|error| error.to_string())?,
            stderr: Source::new(child.stderr.take()).map_err(|error| error.to_string())?,
            end: None,
        })
    }

    /// Whether no process holds its output any more.
    pub(crate) fn is_silent(&self) -> bool {
        self.stdout.0.is_none() && self.stderr.0.is_none()
    }

    /// Reaps every ended process, the step's own and inherited ones.
    pub(crate) fn reap(&mut self) {
        while let Some((pid, end)) = reap_one() {
            if pid == self.pid {
                self.end = Some(end);
            }
        }
    }
}

/// Reaps ended processes while no step runs.
pub(crate) fn reap_all() {
    while reap_one().is_some() {}
}

fn reap_one() -> Option<(Pid, StepEnd)> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => return Some((pid, StepEnd::Exit(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Some((pid, StepEnd::Signal(signal as i32)));
            }
            Err(Errno::EINTR) | Ok(WaitStatus::Stopped(..) | WaitStatus::Continued(_)) => {}
            Ok(_) | Err(_) => return None,
        }
    }
}

/// Signals every process of the container but PID 1, which is this one. That there is none left is no error.
pub(crate) fn signal_all(signal: Signal) {
    // Anywhere but in a container of its own, as in a unit test, it would reach the whole machine.
    if std::process::id() != 1 {
        return;
    }
    let _none_left = kill(Pid::from_raw(-1), signal);
}

/// Runs `action` with another score, which children inherit, and goes back to the former one. Where the
/// score cannot be changed the build goes on without this protection.
fn with_oom_score<T>(score: &str, action: impl FnOnce() -> T) -> T {
    const FILE: &str = "/proc/self/oom_score_adj";
    let before = fs::read_to_string(FILE);
    let _unprotected = fs::write(FILE, score);
    let result = action();
    if let Ok(before) = before {
        let _unprotected = fs::write(FILE, before.trim());
    }
    result
}
