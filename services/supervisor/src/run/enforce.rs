//! Enforces the limits while steps run: applies commands, signals, measurements and the clock, and takes samples.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{NOTICE_CAPACITY, Supervisor};
use crate::disk::DiskWatch;
use crate::limits::{Action, Cause};
use crate::process::signal_all;
use crate::protocol::{Notice, Sample};

impl Supervisor {
    /// Applies commands, signals, measurements and the clock. `is_step_over`: the step's own process has ended.
    pub(super) fn check_limits(&mut self, is_step_over: bool) {
        let now = Instant::now();
        if now >= self.next_sample {
            self.next_sample = now + self.sample();
        }
        let is_cancelled = self.commands.read(now) | self.signals.wants_end();
        if is_cancelled {
            self.end(Cause::Cancelled);
        }
        if self.commands.is_abandoned(now) {
            self.end(Cause::Abandoned);
        }
        if self.log_limiter.taken() > self.plan.log.hard_bytes {
            self.end(Cause::LogTooLarge);
            self.log_limiter.close();
        }
        if let (Some(disk), Some(limit)) = (&self.disk, self.plan.disk_limit_bytes)
            && disk.used() > limit
        {
            self.end(Cause::DiskFull);
        }
        if let Some(action) = self.limits.tick(now, is_step_over) {
            self.act(action);
        }
    }

    pub(super) fn end(&mut self, cause: Cause) {
        if let Some(action) = self.limits.end(cause, Instant::now()) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Interrupt => {
                if let Some(reason) = self.reason() {
                    self.log_line(&format!("{reason}, interrupting all processes"));
                }
                signal_all(Signal::SIGINT);
            }
            Action::Kill => signal_all(Signal::SIGKILL),
        }
    }

    /// Why the sandbox is ended, for the log; none where the builder is gone and the log has no reader.
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

    /// Takes a sample and returns the time until the next one, which is short where memory runs out: the last moments
    /// before a kill are what a person wants to see.
    fn sample(&mut self) -> Duration {
        let memory = self.meter.sample();
        let received_bytes = self.received.update();
        if self.notices.waiting() < NOTICE_CAPACITY {
            self.send_notice(&Notice::Sample(Sample {
                memory_bytes: memory.now,
                peak_memory_bytes: memory.peak,
                oom_kills: memory.oom_kills,
                log_bytes: self.log_limiter.taken(),
                disk_bytes: self.disk.as_ref().map(DiskWatch::used),
                received_bytes,
            }));
        }
        let interval = Duration::from_millis(self.plan.sample_interval_ms.max(50).into());
        next_sample_in(interval, memory.now, self.memory_limit)
    }
}

/// Time until the next sample, from the plan's interval, the memory in use and the limit on it.
pub(super) fn next_sample_in(interval: Duration, used: u64, limit: Option<u64>) -> Duration {
    match limit {
        Some(limit) if used > limit / 4 => interval / 10,
        Some(limit) => interval.min(time_to_touch(limit / 4)),
        None => interval,
    }
}

/// The least time a process needs to touch this many bytes: a small limit could be hit between two slow samples.
fn time_to_touch(bytes: u64) -> Duration {
    const BYTES_A_MILLISECOND: u64 = (2 << 30) / 1000;
    Duration::from_millis((bytes / BYTES_A_MILLISECOND).max(10))
}
