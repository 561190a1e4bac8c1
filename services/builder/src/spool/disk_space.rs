//! Whether the spool's disk has space. A builder whose disk is short takes no work: of an order that it accepted it
//! could keep neither log nor results. It is told by the free space, and by writes that fail although there seems to be
//! some, as under a quota. Once there is space again the builder takes work by itself.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_chassis::{Backoff, BackoffExt, CancellationToken};
use tokio::sync::Notify;

use crate::engine::room::{ClosedReason, Room};
use crate::spool::atomic_file::{self, Durability};
use crate::spool::blocking::on_disk;

/// Time between two looks at a disk that has space.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// The same for one that is short, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How much is written to learn whether writing works again, in bytes.
const PROBE_BYTES: usize = 256 << 10;

/// How short a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Free space in MiB; 0 when a write failed for want of it.
    pub free_mib: u32,
    /// Below this free space the builder takes no work, in MiB.
    pub floor_mib: u32,
}

/// The spool's disk. Clones share it.
#[derive(Debug, Clone)]
pub struct SpoolSpace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    floor_mib: u32,
    room: Room,
    heartbeat_wake: Arc<Notify>,
    state: Mutex<State>,
    recheck: Notify,
}

#[derive(Debug)]
struct State {
    shortage: Option<Shortage>,
    /// A write failed; only one that succeeds shows that there is space.
    has_write_failed: bool,
    /// Attempts whose work is done and waits for space.
    waiting: usize,
    backoff: Backoff,
}

impl SpoolSpace {
    /// The disk of an identity's folder. It closes the room while it is short, from now on, and nudges the heartbeat
    /// when that changes.
    pub fn new(folder: &Path, floor_mib: u32, room: &Room, heartbeat_wake: &Arc<Notify>) -> Self {
        let disk = Self(Arc::new(Inner {
            folder: folder.to_owned(),
            floor_mib,
            room: room.clone(),
            heartbeat_wake: Arc::clone(heartbeat_wake),
            state: Mutex::new(State {
                shortage: None,
                has_write_failed: false,
                waiting: 0,
                backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            }),
            recheck: Notify::new(),
        }));
        disk.check();
        disk
    }

    /// How short the disk is; none when it has space.
    pub fn shortage(&self) -> Option<Shortage> {
        self.lock().shortage
    }

    /// A write failed: nothing more is taken until one has succeeded, after a pause that grows.
    pub fn write_failed(&self, reason: &dyn Display) {
        self.lock().has_write_failed = true;
        self.record(Err(reason.to_string()));
        self.0.recheck.notify_one();
    }

    /// A write succeeded: the next failure is met with a short pause again.
    pub fn write_succeeded(&self) {
        let mut state = self.lock();
        if !state.has_write_failed {
            state.backoff.reset();
        }
    }

    /// Work that is done waits for space: as long as it does, nothing more is taken.
    pub fn wait_for_space(&self, reason: &dyn Display) -> SpaceWaitGuard {
        self.lock().waiting += 1;
        self.write_failed(reason);
        SpaceWaitGuard(self.clone())
    }

    /// Measures, and tries to write where that has failed. Blocks.
    fn check(&self) {
        let has_write_failed = self.lock().has_write_failed;
        let free = free_mib(&self.0.folder).map_err(|error| error.to_string());
        let tried = match free {
            Ok(free) if has_write_failed && free >= self.0.floor_mib => probe(&self.0.folder)
                .map(|()| free)
                .map_err(|error| error.to_string()),
            measured => measured,
        };
        self.record(tried);
    }

    /// Notes the free space in MiB, or why nothing can be written.
    fn record(&self, found: Result<u32, String>) {
        let floor_mib = self.0.floor_mib;
        let (before, now) = {
            let mut state = self.lock();
            let free_mib = match &found {
                Ok(free_mib) if state.waiting == 0 => *free_mib,
                // What is free is too little for what waits.
                Ok(_) | Err(_) => 0,
            };
            let is_short = found.is_err() || state.waiting > 0 || free_mib < floor_mib;
            let now = is_short.then_some(Shortage {
                free_mib,
                floor_mib,
            });
            state.has_write_failed &= is_short;
            (std::mem::replace(&mut state.shortage, now), now)
        };
        self.announce(before, now, found.err());
    }

    fn announce(&self, before: Option<Shortage>, now: Option<Shortage>, reason: Option<String>) {
        let Inner {
            folder,
            room,
            heartbeat_wake,
            ..
        } = &*self.0;
        let folder = folder.display();
        match (before, now) {
            (None, Some(short)) => {
                room.close(ClosedReason::DiskShort);
                let reason = reason.unwrap_or_else(|| {
                    format!(
                        "{} MiB are free, {} MiB are wanted (MILLRACE_SPOOL_FLOOR_MB)",
                        short.free_mib, short.floor_mib
                    )
                });
                tracing::warn!(%folder, "the spool's disk is short of space, taking no work until there is some: {reason}");
                heartbeat_wake.notify_one();
            }
            (Some(_), None) => {
                room.open(ClosedReason::DiskShort);
                tracing::info!(%folder, "the spool's disk has space again, taking work");
                heartbeat_wake.notify_one();
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    fn pause(&self) -> Duration {
        let mut state = self.lock();
        if state.shortage.is_some() {
            state.backoff.next_delay()
        } else {
            CHECK_INTERVAL
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt whose work is done and waits for space, as long as it lives.
#[derive(Debug)]
#[must_use = "dropping it says that nothing waits any more"]
pub struct SpaceWaitGuard(SpoolSpace);

impl Drop for SpaceWaitGuard {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting -= 1;
        if state.waiting == 0 {
            // Looked at soon.
            state.backoff.reset();
            self.0.0.recheck.notify_one();
        }
    }
}

/// Looks at the disk until `stop`.
pub async fn run(disk: SpoolSpace, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        let pause = disk.pause();
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            // The pause begins anew, longer than the one before.
            () = disk.0.recheck.notified() => continue,
            () = tokio::time::sleep(pause) => {}
        }
        let looking = disk.clone();
        on_disk(move || {
            looking.check();
            Ok(())
        })
        .await?;
    }
}

/// Space that this process may use, in MiB.
fn free_mib(folder: &Path) -> io::Result<u32> {
    let found = rustix::fs::statvfs(folder)?;
    let mib = found.f_bavail.saturating_mul(found.f_frsize) >> 20;
    Ok(u32::try_from(mib).unwrap_or(u32::MAX))
}

/// Does what keeping an order does.
fn probe(folder: &Path) -> io::Result<()> {
    let probe = folder.join("probe");
    let written = std::fs::create_dir_all(&probe).and_then(|()| {
        atomic_file::write_private(
            &probe.join("probe"),
            &vec![0; PROBE_BYTES],
            Durability::HostCrash,
        )
    });
    let removed = std::fs::remove_dir_all(&probe);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(floor_mib: u32) -> (tempfile::TempDir, Room, SpoolSpace) {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(1024, 1);
        let disk = SpoolSpace::new(folder.path(), floor_mib, &room, &Arc::default());
        (folder, room, disk)
    }

    #[test]
    fn a_disk_below_its_floor_closes_the_room() {
        let (_folder, room, disk) = disk(u32::MAX);
        let shortage = disk.shortage().unwrap();
        assert!(shortage.free_mib < shortage.floor_mib);
        assert_eq!(room.free().sandboxes, 0);
    }

    #[test]
    fn a_failed_write_closes_the_room_until_one_succeeds() {
        let (folder, room, disk) = disk(0);
        assert_eq!(disk.shortage(), None);
        disk.write_failed(&"Disk quota exceeded");
        assert_eq!(disk.shortage().unwrap().free_mib, 0);
        assert_eq!(room.free().sandboxes, 0);
        // Something in the way stands for the quota.
        std::fs::write(folder.path().join("probe"), "").unwrap();
        disk.check();
        assert!(disk.shortage().is_some(), "the probe failed");
        std::fs::remove_file(folder.path().join("probe")).unwrap();
        disk.check();
        assert_eq!((disk.shortage(), room.free().sandboxes), (None, 1));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn as_long_as_work_that_is_done_waits_for_space_there_is_none() {
        let (_folder, room, disk) = disk(0);
        let waits = disk.wait_for_space(&"No space left on device");
        disk.check();
        assert!(disk.shortage().is_some() && room.free().sandboxes == 0);
        drop(waits);
        disk.check();
        assert!(disk.shortage().is_none() && room.free().sandboxes == 1);
    }

    #[test]
    fn pauses_grow_over_failures_until_a_write_worked() {
        let (_folder, _room, disk) = disk(0);
        for _ in 0..8 {
            disk.write_failed(&"full");
            disk.pause();
            disk.check();
            assert_eq!(disk.shortage(), None);
        }
        disk.write_failed(&"full");
        assert!(disk.pause() >= LONGEST_PAUSE / 2, "as long as any");
        disk.check();
        disk.write_succeeded();
        disk.write_failed(&"full");
        assert!(disk.pause() <= FIRST_PAUSE);
    }
}
