//! The supervisor's life: one thread, one poll. Nothing in it blocks, so limits act whatever the build or
//! the reader of the log does.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::chown;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::cgroup::Meter;
use crate::clock;
use crate::commands::Orders;
use crate::disk::DiskWatch;
use crate::limits::{Act, Cause, Limits};
use crate::log_limit::Gate;
use crate::netcut::Received;
use crate::output_queue::Outlet;
use crate::process::{Running, reap_all, signal_all};
use crate::protocol::{Notice, Plan, Sample, Step, StepEnd, StepReport};
use crate::signals::Signals;
use crate::stages::{Lines, Stages, known};

mod dynamic_requires;
mod final_report;
mod network;
mod output;

/// Bytes of log that may wait for the reader.
const LOG_ROOM: usize = 256 * 1024;
/// Read from a step at once.
const PIECE: usize = 32 * 1024;
/// Samples are left out while this much of older notices waits.
const NOTICE_ROOM: usize = 16 * 1024;
/// When a step has ended and something still holds its output, this much silence ends the waiting;
/// mock waits as long for what it started.
const LINGER: Duration = Duration::from_secs(1);

/// A supervisor that runs a plan.
pub(crate) struct Supervisor {
    plan: Plan,
    started: Instant,
    signals: Signals,
    orders: Orders<File>,
    log: Outlet<File>,
    notices: Outlet<File>,
    gate: Gate,
    ends_line: bool,
    limits: Limits,
    meter: Meter,
    memory_limit: Option<u64>,
    next_sample: Instant,
    stages: Stages,
    steps: Vec<StepReport>,
    rounds: u32,
    disk: Option<DiskWatch>,
    received: Received,
    faults: Vec<String>,
}

impl Supervisor {
    /// Prepares everything that can fail before the first step.
    pub(crate) fn new(plan: Plan) -> io::Result<Self> {
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
            orders: Orders::new(bare(io::stdin())?, seconds(plan.ping_timeout_seconds))?,
            log: Outlet::new(bare(io::stdout())?, LOG_ROOM)?,
            notices: Outlet::new(bare(io::stderr())?, NOTICE_ROOM)?,
            gate: Gate::new(&plan.log),
            ends_line: true,
            limits,
            memory_limit: meter.limit(),
            meter,
            next_sample: started,
            stages: Stages::default(),
            steps: Vec::new(),
            rounds: 0,
            disk: watch_disk(plan.disk_limit_bytes, &mut faults),
            received: Received::default(),
            faults,
            plan,
        })
    }

    /// Runs all steps and reports. Tells whether the report reached somebody.
    pub(crate) fn run(mut self) -> bool {
        if let Err(error) = self.make_result_dir() {
            self.faults
                .push(format!("cannot make {}: {error}", self.plan.result_dir));
        }
        let steps = std::mem::take(&mut self.plan.steps);
        for step in &steps {
            let end = self.run_in_rounds(step);
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
        let ready = step.network.map_or(Ok(()), |wanted| self.reach(wanted));
        let started = Instant::now();
        let start = clock::now();
        self.tell(&Notice::StepStarted {
            name: step.name.clone(),
            start: start.clone(),
        });
        if let Some(stage) = step.stage.as_deref().and_then(known) {
            self.begin_stage(stage);
        }
        let running = ready.and_then(|()| Running::start(&self.plan, step));
        let (end, seconds) = match running {
            Ok(running) => self.attend(running, started),
            Err(reason) => {
                self.say(&format!("step {} was not started: {reason}", step.name));
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
        self.tell(&Notice::StepEnded(report));
        signal_all(Signal::SIGKILL);
        end
    }

    /// Attends a step until it has ended and its output was taken in, or until the limits say stop.
    fn attend(&mut self, mut step: Running, started: Instant) -> (StepEnd, f64) {
        let mut lines = (Lines::new(), Lines::new());
        let mut buffer = vec![0; PIECE];
        let mut seconds = None;
        let mut last_output = Instant::now();
        loop {
            self.wait(Some(&step), self.silence_ends(last_output));
            let had_no_room = !self.has_room();
            if self.take_output(&mut step, &mut lines, &mut buffer) || had_no_room {
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
            self.keep_limits(step.end.is_some());
            let now = Instant::now();
            let is_drained = self.limits.is_drained(now);
            if let Some(end) = &step.end
                && (step.is_silent()
                    || is_drained
                    || (!self.limits.is_ending() && now >= last_output + LINGER))
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

    /// When the present silence is too long; none without a limit.
    fn silence_ends(&self, last_output: Instant) -> Option<Instant> {
        let limit = self.plan.silence_limit_seconds?;
        (!self.limits.is_ending()).then(|| last_output + Duration::from_secs(limit.into()))
    }

    fn begin_stage(&mut self, stage: &'static str) {
        if let Some(mark) = self.stages.begin(stage, self.gate.taken()) {
            tell(&mut self.notices, &Notice::Stage(mark.clone()));
        }
    }

    fn tell(&mut self, notice: &Notice) {
        tell(&mut self.notices, notice);
    }

    /// Waits until something happens or some deadline comes, and moves what waits for the reader.
    fn wait(&mut self, step: Option<&Running>, by: Option<Instant>) {
        let until = self.limits.deadline().min(self.next_sample);
        let until = by.map_or(until, |by| by.min(until));
        let until = self.orders.deadline().map_or(until, |gone| gone.min(until));
        let has_room = self.has_room();
        let outputs = step
            .filter(|_| has_room)
            .map(|s| [s.stdout.wants(), s.stderr.wants()]);
        let inputs = [Some(self.signals.wakeup()), self.orders.wants()];
        let ours = [self.log.wants(), self.notices.wants()];
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
        self.signals.forget();
        self.log.flush();
        self.notices.flush();
    }

    /// Takes orders, signals and the clock into account.
    fn keep_limits(&mut self, is_step_over: bool) {
        let now = Instant::now();
        if now >= self.next_sample {
            self.next_sample = now + self.sample();
        }
        let is_cancelled = self.orders.read() | self.signals.wants_end();
        if is_cancelled {
            self.end(Cause::Cancelled);
        }
        if self.orders.is_abandoned(now) {
            self.end(Cause::Abandoned);
        }
        if self.gate.taken() > self.plan.log.hard_bytes {
            self.end(Cause::LogTooLarge);
            self.gate.close();
        }
        if let (Some(disk), Some(limit)) = (&self.disk, self.plan.disk_limit_bytes)
            && disk.used() > limit
        {
            self.end(Cause::DiskFull);
        }
        if let Some(act) = self.limits.tick(now, is_step_over) {
            self.act(act);
        }
    }

    fn end(&mut self, cause: Cause) {
        if let Some(act) = self.limits.end(cause, Instant::now()) {
            self.act(act);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Interrupt => {
                if let Some(reason) = self.reason() {
                    self.say(&format!("{reason}, interrupting all processes"));
                }
                signal_all(Signal::SIGINT);
            }
            Act::Kill => signal_all(Signal::SIGKILL),
        }
    }

    /// Why the sandbox is ended, for the log.
    fn reason(&self) -> Option<String> {
        let plan = &self.plan;
        Some(match self.limits.causes.first()? {
            Cause::TimedOut => format!("the time limit of {} s was hit", plan.wall_limit_seconds),
            Cause::Silent => format!(
                "no output for {} s, the limit on silence",
                plan.silence_limit_seconds.unwrap_or_default()
            ),
            Cause::LogTooLarge => format!(
                "the log is larger than its limit of {} MiB",
                plan.log.hard_bytes >> 20
            ),
            Cause::DiskFull => format!(
                "the build uses more disk space than its limit of {} MiB",
                plan.disk_limit_bytes.unwrap_or_default() >> 20
            ),
            Cause::Cancelled => "cancelled".to_owned(),
            Cause::Abandoned => return None,
        })
    }

    /// Takes a sample and tells when to take the next one: soon where memory runs out, since the last
    /// moments before a kill are what a person wants to see of it.
    fn sample(&mut self) -> Duration {
        let memory = self.meter.sample();
        let received_bytes = self.received.look();
        if self.notices.waiting() < NOTICE_ROOM {
            self.tell(&Notice::Sample(Sample {
                memory_bytes: memory.now,
                peak_memory_bytes: memory.peak,
                oom_kills: memory.oom_kills,
                log_bytes: self.gate.taken(),
                disk_bytes: self.disk.as_ref().map(DiskWatch::used),
                received_bytes,
            }));
        }
        let interval = Duration::from_millis(self.plan.sample_interval_ms.max(50).into());
        match self.memory_limit {
            Some(limit) if memory.now > limit / 4 => interval / 10,
            Some(limit) => interval.min(time_to_touch(limit / 4)),
            None => interval,
        }
    }
}

/// How long a process needs at least to touch so many bytes: a small limit is hit between two slow samples.
fn time_to_touch(bytes: u64) -> Duration {
    const BYTES_A_MILLISECOND: u64 = (2 << 30) / 1000;
    Duration::from_millis((bytes / BYTES_A_MILLISECOND).max(10))
}

/// Without a watch the build goes on, and the report says so.
fn watch_disk(limit: Option<u64>, faults: &mut Vec<String>) -> Option<DiskWatch> {
    DiskWatch::start(limit?)
        .inspect_err(|error| faults.push(format!("disk space is not measured: {error}")))
        .ok()
}

/// One of our standard streams without the library's own buffer, which cannot do with a pipe that is full.
fn bare(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

fn tell(notices: &mut Outlet<File>, notice: &Notice) {
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
