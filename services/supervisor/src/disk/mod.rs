//! The sandbox's own disk space: how much the build has added to the root file system since its start, in bytes and in
//! entries (files, folders, links and all else that has a name).
//!
//! No counter tells the size of a container's writable layer from inside, so the tree is scanned (`tree.rs`), and what
//! has no name is found through the processes that have it open (`held.rs`). A scan costs time, so it is made in a thread
//! of its own, more often the nearer the limit may be. What the file system as a whole lost tells how near that is; it
//! never counts as the build's by itself, because others fill the same file system. Only while the build keeps
//! something where no scan can look, such as a descriptor in flight, does what it lost in that time count as well.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;

use crate::protocol::LimitHit;

mod held;
mod tally;
#[cfg(test)]
mod tests;
mod tree;

use tally::Tally;

/// Time between two checks of the file system's free space.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// The tree is scanned at least this often, where that is cheap: second names of files are entries that the check does
/// not see.
const SCAN_WITHIN: Duration = Duration::from_secs(5);
/// Time between two scans while the limit is out of reach, as a multiple of what the last one took.
const SCAN_PAUSES: u32 = 20;
/// Where the watched file system is mounted.
const ROOT: &str = "/";

/// Bytes and entries: of a file system, of a build, or the most that it may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// In bytes, as the file system allots them.
    pub(crate) bytes: u64,
    /// Files, folders, links and so on.
    pub(crate) entries: u64,
}

impl Amount {
    /// A limit; none is one that nothing reaches.
    pub(crate) fn limit(bytes: Option<u64>, entries: Option<u64>) -> Self {
        Self {
            bytes: bytes.unwrap_or(u64::MAX),
            entries: entries.unwrap_or(u64::MAX),
        }
    }

    fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    fn each(self, other: Self, of: fn(u64, u64) -> u64) -> Self {
        Self {
            bytes: of(self.bytes, other.bytes),
            entries: of(self.entries, other.entries),
        }
    }

    /// Whether it has at least as much as the other of one of the two.
    fn reaches(self, other: Self) -> bool {
        self.bytes >= other.bytes || self.entries >= other.entries
    }

    /// The limit that this is over.
    fn over(self, limit: Self) -> Option<LimitHit> {
        if self.bytes > limit.bytes {
            return Some(LimitHit::Disk);
        }
        (self.entries > limit.entries).then_some(LimitHit::DiskEntries)
    }
}

/// The latest measurements.
#[derive(Debug, Default)]
struct Measured {
    bytes: AtomicU64,
    entries: AtomicU64,
    lowest_free: AtomicU64,
}

impl Measured {
    fn amount(&self) -> Amount {
        Amount {
            bytes: self.bytes.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
        }
    }

    fn store(&self, amount: Amount) {
        self.bytes.store(amount.bytes, Ordering::Relaxed);
        self.entries.store(amount.entries, Ordering::Relaxed);
    }
}

/// A watch over the root file system, until it is dropped.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    measured: Arc<Measured>,
    limit: Amount,
    _until: Sender<()>,
}

impl DiskWatch {
    /// Measures from now on; an error where no thread can be started for it.
    pub(crate) fn start(limit: Amount) -> std::io::Result<Self> {
        let measured = Arc::new(Measured {
            lowest_free: AtomicU64::new(u64::MAX),
            ..Measured::default()
        });
        let (until, dropped) = mpsc::channel();
        let watch = Self {
            measured: Arc::clone(&measured),
            limit,
            _until: until,
        };
        thread::Builder::new()
            .name("disk".to_owned())
            .stack_size(512 * 1024)
            .spawn(move || observe(&measured, limit, &dropped))?;
        Ok(watch)
    }

    /// What the build has added, as last measured.
    pub(crate) fn used(&self) -> Amount {
        self.measured.amount()
    }

    /// The limit that the build is over.
    pub(crate) fn hit(&self) -> Option<LimitHit> {
        self.used().over(self.limit)
    }

    /// Least free space of the host's file system so far, in bytes; none when it cannot be read.
    pub(crate) fn lowest_free(&self) -> Option<u64> {
        let free = self.measured.lowest_free.load(Ordering::Relaxed);
        (free != u64::MAX).then_some(free)
    }
}

/// How full a file system is.
#[derive(Debug, Clone, Copy)]
struct Space {
    used: Amount,
    free_bytes: u64,
}

fn space() -> Option<Space> {
    let stat = statvfs(ROOT).ok()?;
    let unit = stat.fragment_size();
    Some(Space {
        used: Amount {
            bytes: (stat.blocks() - stat.blocks_free()) * unit,
            // 0 on a file system that makes them as they are needed and does not count them.
            entries: stat.files().saturating_sub(stat.files_free()),
        },
        free_bytes: stat.blocks_available() * unit,
    })
}

fn observe(measured: &Measured, limit: Amount, dropped: &Receiver<()>) {
    let start = now();
    let mut schedule = Schedule::new(limit, Instant::now());
    let first = space().map_or_else(Amount::default, |space| space.used);
    let mut account = Account::new(first);
    let mut used_then = first;
    while dropped.recv_timeout(CHECK_EVERY) == Err(RecvTimeoutError::Timeout) {
        let space = space();
        if let Some(space) = space {
            measured
                .lowest_free
                .fetch_min(space.free_bytes, Ordering::Relaxed);
        }
        let used_now = space.map_or(used_then, |space| space.used);
        let grown = used_now.minus(used_then);
        let began = Instant::now();
        if !schedule.is_due(began, grown, measured.amount()) {
            continue;
        }
        let scan = scan(Path::new(ROOT), start, limit);
        measured.store(account.settle(used_now, &scan));
        schedule.scanned(began, Instant::now());
        used_then = used_now;
    }
}

/// What a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scan {
    /// What the build has added, as far as it can be seen.
    seen: Amount,
    /// Whether the build may hold something that cannot be seen.
    has_hidden: bool,
}

/// Looks at everything that was added to a tree since this second, by name and by the processes that hold it. Ends early
/// where that is over the limit.
fn scan(root: &Path, start: i64, limit: Amount) -> Scan {
    let tally = || Tally::new(root, start, limit);
    let (Some(mut sum), Some(mut left_out)) = (tally(), tally()) else {
        return Scan {
            seen: Amount::default(),
            has_hidden: false,
        };
    };
    // Twice, as something may be hidden while the walk goes on. What lost its name during the walk counts already.
    let was_hidden = held::count(&mut sum);
    let is_out_of_reach = tree::count(&mut sum, root);
    let is_hidden = held::count(&mut left_out);
    Scan {
        seen: sum.amount(),
        has_hidden: was_hidden || is_out_of_reach || is_hidden,
    }
}

/// Who used what of the file system.
#[derive(Debug)]
struct Account {
    /// What others use, as the last scan found it that saw everything of the build.
    others: Amount,
}

impl Account {
    /// At the build's start, when it has added nothing.
    fn new(used: Amount) -> Self {
        Self { others: used }
    }

    /// What the build has added, where the file system as a whole has `used` now.
    fn settle(&mut self, used: Amount, scan: &Scan) -> Amount {
        let unseen = used.minus(scan.seen);
        if !scan.has_hidden {
            self.others = unseen;
            return scan.seen;
        }
        let hidden = unseen.minus(self.others);
        self.others = self.others.each(unseen, u64::min);
        scan.seen.plus(hidden)
    }
}

/// When to scan.
#[derive(Debug)]
struct Schedule {
    limit: Amount,
    last: Instant,
    cost: Duration,
}

impl Schedule {
    fn new(limit: Amount, now: Instant) -> Self {
        Self {
            limit,
            last: now,
            cost: Duration::ZERO,
        }
    }

    /// Whether to scan now: the file system as a whole has `grown` since the last scan, which found that the build had
    /// `used` this much of its limit.
    fn is_due(&self, now: Instant, grown: Amount, used: Amount) -> bool {
        let since_last = now.saturating_duration_since(self.last);
        let left = self.limit.minus(used);
        if grown.reaches(left) {
            // It may be over the limit: half of the time goes into finding out.
            return since_last >= self.cost;
        }
        let half = left.each(left, |left, _| left / 2);
        since_last >= self.cost * SCAN_PAUSES && (grown.reaches(half) || since_last >= SCAN_WITHIN)
    }

    fn scanned(&mut self, began: Instant, now: Instant) {
        self.last = now;
        self.cost = now.saturating_duration_since(began);
    }
}

/// Seconds since 1970; 0 with a clock before that, when every file counts.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}
