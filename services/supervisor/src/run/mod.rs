//! The supervisor's main loop: one thread, one poll. Nothing in it blocks, so limits act whatever the build or the
//! reader of the log does.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::chown;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::cgroup::Meter;
use crate::clock;
use crate::commands::CommandReader;
use crate::disk::DiskWatch;
use crate::limits::{Cause, Limits};
use crate::log_limit::LogLimiter;
use crate::netcut::ReceivedBytes;
use crate::output_queue::OutputQueue;
use crate::process::{Running, reap_all, signal_all};
use crate::protocol::{Notice, Plan, Step, StepEnd, StepReport};
use crate::signals::Signals;
use crate::stages::{LineSplitter, Stages, stage_word};

mod dynamic_requires;
mod enforce;
mod final_report;
mod network;
mod output;
#[cfg(test)]
mod tests;

/// Bytes of log that may wait for the reader before the build is held back.
const LOG_CAPACITY: usize = 256 * 1024;
/// Most that is read from a step at once, in bytes.
const PIECE: usize = 32 * 1024;
/// Bytes of notices that may wait before samples are left out.
const NOTICE_CAPACITY: usize = 16 * 1024;
/// How long output may stay away once a step has ended while another process still holds its pipes; mock waits as long
/// for what it started.
const OUTPUT_WAIT: Duration = Duration::from_secs(1);

/// A supervisor that runs a plan.
pub(crate) struct Supervisor {
    plan: Plan,
    started: Instant,
    signals: Signals,
    commands: CommandReader<File>,
    log: OutputQueue<File>,
    notices: OutputQueue<File>,
    log_limiter: LogLimiter,
    ends_line: bool,
    limits: Limits,
    meter: Meter,
    memory_limit: Option<u64>,
    next_sample: Instant,
    stages: Stages,
    steps: Vec<StepReport>,
    rounds: u32,
    disk: Option<DiskWatch>,
    received: ReceivedBytes,
    faults: Vec<String>,
}

/// The pipes that a supervisor speaks with its builder through.
struct Streams {
    commands: File,
    log: File,
    notices: File,
}

impl Supervisor {
    /// Prepares everything that can fail before the first step, with this process's standard streams.
    pub(crate) fn new(plan: Plan) -> io::Result<Self> {
        let streams = Streams {
            commands: unbuffered(io::stdin())?,
            log: unbuffered(io::stdout())?,
            notices: unbuffered(io::stderr())?,
        };
        Self::with_streams(plan, streams)
    }

    fn with_streams(plan: Plan, streams: Streams) -> io::Result<Self> {
        let started = Instant::now();
        let seconds = |count: u32| Duration::from_secs(count.into());
        let limits = Limits::new(
            started + seconds(plan.wall_limit_seconds),
            seconds(plan.timeout_grace_seconds),
            seconds(plan.cancel_grace_seconds),
        );
        let mut faults = Vec::new();
        let meter = Meter::start();
        if meter.is_blind() {
            faults.push("the container's memory counters are not readable".to_owned());
        }
        Ok(Self {
            started,
            signals: Signals::listen()?,
            commands: CommandReader::new(
                streams.commands,
                seconds(plan.ping_timeout_seconds),
                started,
            )?,
            log: OutputQueue::new(streams.log, LOG_CAPACITY)?,
            notices: OutputQueue::new(streams.notices, NOTICE_CAPACITY)?,
            log_limiter: LogLimiter::new(&plan.log),
            ends_line: true,
            limits,
            memory_limit: meter.limit(),
            meter,
            next_sample: started,
            stages: Stages::default(),
            steps: Vec::new(),
            rounds: 0,
            disk: watch_disk(plan.disk_limit_bytes, &mut faults),
            received: ReceivedBytes::default(),
            faults,
            plan,
        })
    }

    /// Runs all steps and reports. Returns whether the report reached its file or its reader.
    pub(crate) fn run(mut self) -> bool {
        if let Err(error) = self.make_result_dir() {
            self.faults
                .push(format!("cannot make {}: {error}", self.plan.result_dir));
        }
        let steps = std::mem::take(&mut self.plan.steps);
        for step in &steps {
            let end = self.run_with_dynamic_requires(step);
            if end != StepEnd::Exit(0) || self.limits.is_ending() {
                break;
            }
        }
        self.flush_log();
        reap_all();
        self.report()
    }

    fn make_result_dir(&self) -> io::Result<()> {
        fs::create_dir_all(&self.plan.result_dir)?;
        match self.plan.result_owner {
            Some(owner) => chown(&self.plan.result_dir, Some(owner.uid), Some(owner.gid)),
            None => Ok(()),
        }
    }

    fn run_step(&mut self, step: &Step) -> StepEnd {
        let ready = step
            .network
            .map_or(Ok(()), |wanted| self.wait_for_network(wanted));
        let started = Instant::now();
        let start = clock::now();
        self.send_notice(&Notice::StepStarted {
            name: step.name.clone(),
            start: start.clone(),
        });
        if let Some(stage) = step.stage.as_deref().and_then(stage_word) {
            self.begin_stage(stage);
        }
        let running = ready.and_then(|()| Running::start(&self.plan, step));
        let (end, seconds) = match running {
            Ok(running) => self.follow(running, started),
            Err(reason) => {
                self.log_line(&format!("step {} was not started: {reason}", step.name));
                (StepEnd::NotStarted(reason), 0.0)
            }
        };
        self.stages.end();
        let report = StepReport {
            name: step.name.clone(),
            end: end.clone(),
            start,
            seconds,
        };
        self.steps.push(report.clone());
        self.send_notice(&Notice::StepEnded(report));
        signal_all(Signal::SIGKILL);
        end
    }

    /// Follows a step until it has ended and its output has been read, or until the limits end it.
    fn follow(&mut self, mut step: Running, started: Instant) -> (StepEnd, f64) {
        let mut lines = (LineSplitter::new(), LineSplitter::new());
        let mut buffer = vec![0; PIECE];
        let mut seconds = None;
        let mut last_output = Instant::now();
        loop {
            self.wait(Some(&step), self.silence_ends(last_output));
            // A build that is held back by a slow reader is not silent.
            let was_held_back = !self.has_log_capacity();
            if self.read_output(&mut step, &mut lines, &mut buffer) || was_held_back {
                last_output = Instant::now();
            }
            step.reap();
            if step.end.is_some() && seconds.is_none() {
                seconds = Some(started.elapsed().as_secs_f64());
                last_output = Instant::now();
            }
            if self
                .silence_ends(last_output)
                .is_some_and(|end| Instant::now() >= end)
            {
                self.end(Cause::Silent);
            }
            self.check_limits(step.end.is_some());
            let now = Instant::now();
            let is_drained = self.limits.is_drained(now);
            if let Some(end) = &step.end
                && (step.is_silent()
                    || is_drained
                    || (!self.limits.is_ending() && now >= last_output + OUTPUT_WAIT))
            {
                let ran = seconds.unwrap_or_else(|| started.elapsed().as_secs_f64());
                return (end.clone(), ran);
            }
            if is_drained {
                self.faults.push("a killed step did not end".to_owned());
                return (
                    StepEnd::Signal(Signal::SIGKILL as i32),
                    started.elapsed().as_secs_f64(),
                );
            }
        }
    }

    /// When the time without output reaches its limit; none without a limit.
    fn silence_ends(&self, last_output: Instant) -> Option<Instant> {
        let limit = self.plan.silence_limit_seconds?;
        (!self.limits.is_ending()).then(|| last_output + Duration::from_secs(limit.into()))
    }

    fn begin_stage(&mut self, stage: &'static str) {
        if let Some(mark) = self.stages.begin(stage, self.log_limiter.taken()) {
            send_notice(&mut self.notices, &Notice::Stage(mark.clone()));
        }
    }

    fn send_notice(&mut self, notice: &Notice) {
        send_notice(&mut self.notices, notice);
    }

    /// Waits until a descriptor is ready or the next deadline comes, at most until `by`, and writes what waits.
    fn wait(&mut self, step: Option<&Running>, by: Option<Instant>) {
        let until = self.limits.deadline().min(self.next_sample);
        let until = by.map_or(until, |by| by.min(until));
        let until = self
            .commands
            .deadline(Instant::now())
            .map_or(until, |gone| gone.min(until));
        let has_capacity = self.has_log_capacity();
        let outputs = step
            .filter(|_| has_capacity)
            .map(|s| [s.stdout.poll_fd(), s.stderr.poll_fd()]);
        let inputs = [Some(self.signals.wakeup()), self.commands.poll_fd()];
        let ours = [self.log.poll_fd(), self.notices.poll_fd()];
        let readable = inputs
            .into_iter()
            .chain(outputs.into_iter().flatten())
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let writable = ours
            .into_iter()
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::POLLOUT));
        let mut fds: Vec<PollFd<'_>> = readable.chain(writable).collect();
        // A failed poll (EINTR) is a wake-up like any other; everything is non-blocking and looked at again.
        let _woken = poll(&mut fds, timeout_until(until));
        drop(fds);
        self.signals.drain();
        self.log.flush();
        self.notices.flush();
    }
}

/// Without a watch the build goes on, and the report says so.
fn watch_disk(limit: Option<u64>, faults: &mut Vec<String>) -> Option<DiskWatch> {
    DiskWatch::start(limit?)
        .inspect_err(|error| faults.push(format!("disk space is not measured: {error}")))
        .ok()
}

/// A standard stream without the standard library's buffer, which cannot cope with a full pipe.
fn unbuffered(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

fn send_notice(notices: &mut OutputQueue<File>, notice: &Notice) {
    // Our own types always serialise: their keys are strings and their numbers finite.
    if let Ok(mut line) = serde_json::to_vec(notice) {
        line.push(b'\n');
        notices.push(&line);
        notices.flush();
    }
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

/// Rounded up, so that the deadline is over when the poll returns.
fn timeout_until(until: Instant) -> PollTimeout {
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
