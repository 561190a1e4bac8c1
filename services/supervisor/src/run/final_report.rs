//! The end of a supervisor: writes the rest of the log within a bounded time, then the report.

use std::fs;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};

use super::{PIECE, Supervisor, readable, timeout_until};
use crate::disk::DiskWatch;
use crate::limits::{Cause, DRAIN};
use crate::protocol::{Notice, Report};

/// How long the report may wait for its reader.
const REPORT_WAIT: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Gives the reader the rest of the log: until the wall limit when all went well, shortly otherwise.
    /// A cancel or a lost builder in this phase shortens it and changes nothing else: the build is over.
    pub(super) fn flush_log(&mut self) {
        let shortly = Instant::now() + DRAIN;
        let mut until = if self.limits.is_ending() {
            shortly
        } else {
            self.limits.deadline().max(shortly)
        };
        while !self.log.is_broken() && Instant::now() < until && self.has_log_left() {
            self.wait_to_write(until);
            let now = Instant::now();
            let is_cancelled = self.commands.read(now) | self.signals.wants_end();
            if is_cancelled || self.commands.is_abandoned(now) {
                until = until.min(shortly);
            }
        }
    }

    /// Moves the log's end out of its ring piece by piece; true while some of it still waits for the reader.
    fn has_log_left(&mut self) -> bool {
        loop {
            while self.has_log_capacity()
                && let Some(piece) = self.log_limiter.release(PIECE)
            {
                self.log.push(&piece);
            }
            self.log.flush();
            // A pipe that took everything is not waited for: it gets the next piece.
            if self.log.waiting() > 0 || !self.log_limiter.is_holding() {
                return self.log.waiting() > 0;
            }
        }
    }

    fn wait_to_write(&mut self, until: Instant) {
        let fds = [self.log.poll_fd(), self.notices.poll_fd()];
        let mut fds: Vec<PollFd<'_>> = fds
            .into_iter()
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::POLLOUT))
            .chain(self.commands.poll_fd().map(readable))
            .chain([readable(self.signals.wakeup())])
            .collect();
        let gone_at = self.commands.deadline(Instant::now());
        let until = gone_at.map_or(until, |gone| gone.min(until));
        let _woken = poll(&mut fds, timeout_until(until));
        drop(fds);
        self.signals.drain();
        self.log.flush();
        self.notices.flush();
    }

    /// Writes the report to its file and sends it as the last notice; whether it reached one of the two.
    pub(super) fn report(mut self) -> bool {
        let memory = self.meter.sample();
        let received_bytes = self.received.update();
        let causes = &self.limits.causes;
        let (cancelled, abandoned) = (
            causes.contains(&Cause::Cancelled),
            causes.contains(&Cause::Abandoned),
        );
        let last_stage = self.stages.current().map(str::to_owned);
        let mut stages = std::mem::take(&mut self.stages).finish();
        for mark in &mut stages {
            mark.log_offset = self.log_limiter.stored_offset(mark.log_offset);
        }
        let report = Report {
            steps: std::mem::take(&mut self.steps),
            stages,
            last_stage,
            limit_hit: self.limits.hit(),
            cancelled,
            abandoned,
            peak_memory_bytes: memory.peak,
            peak_memory_with_cache_bytes: self.meter.peak_with_cache(),
            memory_limit_bytes: self.meter.limit(),
            oom_kills: memory.oom_kills,
            memory_limit_reached: self.meter.is_limit_reached(),
            cpu_seconds: self.meter.cpu_seconds(),
            wall_seconds: self.started.elapsed().as_secs_f64(),
            disk_bytes: self.disk.as_ref().map(DiskWatch::used),
            lowest_free_bytes: self.disk.as_ref().and_then(DiskWatch::lowest_free),
            received_bytes: Some(received_bytes),
            rounds: self.rounds,
            log_bytes: self.log_limiter.taken(),
            log_bytes_unread: self.log.waiting() as u64,
            faults: std::mem::take(&mut self.faults),
        };
        let is_filed = serde_json::to_vec(&report)
            .is_ok_and(|text| fs::write(&self.plan.report_path, text).is_ok());
        self.send_notice(&Notice::Report(Box::new(report)));
        let until = Instant::now() + REPORT_WAIT;
        self.notices.flush();
        while self.notices.waiting() > 0 && Instant::now() < until {
            self.wait_to_write(until);
        }
        is_filed || (self.notices.waiting() == 0 && !self.notices.is_broken())
    }
}
