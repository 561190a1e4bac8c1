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
use crate::limits::{Act, Cause, Limits};
use crate::orders::Orders;
use crate::outlet::Outlet;
use crate::process::{Running, reap_all, signal_all};
use crate::protocol::{Notice, Plan, Sample, Step, StepEnd, StepReport};
use crate::signals::Signals;
use crate::stages::{Channel, Lines, Stages, known};

mod last_words;

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
    log_bytes: u64,
    ends_line: bool,
    limits: Limits,
    meter: Meter,
    memory_limit: Option<u64>,
    next_sample: Instant,
    stages: Stages,
    steps: Vec<StepReport>,
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
            log_bytes: 0,
            ends_line: true,
            limits,
            memory_limit: meter.limit(),
            meter,
            next_sample: started,
            stages: Stages::default(),
            steps: Vec::new(),
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
            let end = self.run_step(step);
            signal_all(Signal::SIGKILL);
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
        let started = Instant::now();
        let start = clock::now();
        self.tell(&Notice::StepStarted {
            name: step.name.clone(),
            start: start.clone(),
        });
        if let Some(stage) = step.stage.as_deref().and_then(known) {
            self.begin_stage(stage);
        }
        let (end, seconds) = match Running::start(&self.plan, step) {
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
        end
    }

    /// Attends a step until it has ended and its output was taken in, or until the limits say stop.
    fn attend(&mut self, mut step: Running, started: Instant) -> (StepEnd, f64) {
        let mut lines = (Lines::new(), Lines::new());
        let mut buffer = vec![0; PIECE];
        let mut seconds = None;
        let mut last_output = Instant::now();
        loop {
            self.wait(Some(&step));
            let had_no_room = !self.has_room();
            if self.take_output(&mut step, &mut lines, &mut buffer) || had_no_room {
                last_output = Instant::now();
            }
            step.reap();
            if step.end.is_some() && seconds.is_none() {
                seconds = Some(started.elapsed().as_secs_f64());
                last_output = Instant::now();
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

    fn has_room(&self) -> bool {
        self.log.waiting() + PIECE <= LOG_ROOM
    }

    /// Reads each stream of the step once; tells whether anything came.
    fn take_output(
        &mut self,
        step: &mut Running,
        lines: &mut (Lines, Lines),
        buffer: &mut [u8],
    ) -> bool {
        let mut came = false;
        if self.has_room()
            && let Some(piece) = step.stderr.read(buffer)
        {
            self.take_piece(Channel::Stderr, &mut lines.1, piece);
            came = true;
        }
        if self.has_room()
            && let Some(piece) = step.stdout.read(buffer)
        {
            self.take_piece(Channel::Stdout, &mut lines.0, piece);
            came = true;
        }
        came
    }

    fn take_piece(&mut self, channel: Channel, lines: &mut Lines, piece: &[u8]) {
        let (stages, notices) = (&mut self.stages, &mut self.notices);
        lines.feed(self.log_bytes, piece, |line, at| {
            if let Some(mark) = stages.line(channel, line, at) {
                tell(notices, &Notice::Stage(mark.clone()));
            }
        });
        self.write_log(piece);
    }

    fn write_log(&mut self, piece: &[u8]) {
        self.log_bytes += piece.len() as u64;
        self.ends_line = piece.ends_with(b"\n");
        self.log.push(piece);
        self.log.flush();
    }

    /// A line of our own in the log, so that a person sees why it ends.
    fn say(&mut self, text: &str) {
        let before = if self.ends_line { "" } else { "\n" };
        self.write_log(format!("{before}millrace: {text}\n").as_bytes());
    }

    fn begin_stage(&mut self, stage: &'static str) {
        if let Some(mark) = self.stages.begin(stage, self.log_bytes) {
            tell(&mut self.notices, &Notice::Stage(mark.clone()));
        }
    }

    fn tell(&mut self, notice: &Notice) {
        tell(&mut self.notices, notice);
    }

    /// Waits until something happens or some deadline comes, and moves what waits for the reader.
    fn wait(&mut self, step: Option<&Running>) {
        let until = self.limits.deadline().min(self.next_sample);
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
        let mut acts = Vec::new();
        if is_cancelled {
            acts.extend(self.limits.end(Cause::Cancelled, now));
        }
        if self.orders.is_abandoned(now) {
            acts.extend(self.limits.end(Cause::Abandoned, now));
        }
        acts.extend(self.limits.tick(now, is_step_over));
        for act in acts {
            self.act(act);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Interrupt => {
                match self.limits.causes.first() {
                    Some(Cause::TimedOut) => {
                        let limit = self.plan.wall_limit_seconds;
                        self.say(&format!(
                            "the time limit of {limit} s was hit, interrupting all processes"
                        ));
                    }
                    Some(Cause::Cancelled) => self.say("cancelled, interrupting all processes"),
                    Some(Cause::Abandoned) | None => {}
                }
                signal_all(Signal::SIGINT);
            }
            Act::Kill => signal_all(Signal::SIGKILL),
        }
    }

    /// Takes a sample and tells when to take the next one: soon where memory runs out, since the last
    /// moments before a kill are what a person wants to see of it.
    fn sample(&mut self) -> Duration {
        let memory = self.meter.sample();
        if self.notices.waiting() < NOTICE_ROOM {
            self.tell(&Notice::Sample(Sample {
                memory_bytes: memory.now,
                peak_memory_bytes: memory.peak,
                oom_kills: memory.oom_kills,
                log_bytes: self.log_bytes,
            }));
        }
        let interval = Duration::from_millis(self.plan.sample_interval_ms.max(50).into());
        match self.memory_limit {
            Some(limit) if memory.now > limit / 4 => interval / 10,
            Some(_) | None => interval,
        }
    }
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
