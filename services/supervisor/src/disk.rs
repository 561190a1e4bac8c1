//! The sandbox's own disk space: how much the build has added to the root file system since its start.
//!
//! No counter tells the size of a container's writable layer from inside, so the tree is walked. What is in the layer
//! tells itself by its time of status change, which nobody can set back: it is later than the start. A walk costs time,
//! so it is made in a thread of its own, and only when the file system as a whole has filled up enough for the limit to
//! be near, or when the last one is long ago. Files that were unlinked and are still held open count as well: they are
//! found through the processes that hold them.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;

/// Time between two looks at the file system.
const LOOK: Duration = Duration::from_secs(2);
/// A walk is made at least this often.
const WALK_WITHIN: Duration = Duration::from_secs(30);
/// A walk may take this part of the time: what one costs is waited for this many times.
const SHARE: u32 = 20;
/// Unit of `st_blocks`, in bytes.
const BLOCK: u64 = 512;

/// What the watch has found so far.
#[derive(Debug, Default)]
struct Found {
    used: AtomicU64,
    lowest_free: AtomicU64,
}

/// A watch over the root file system, until it is dropped.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    found: Arc<Found>,
    _until: Sender<()>,
}

impl DiskWatch {
    /// Watches from now on. Without a thread to watch in, nothing is measured.
    pub(crate) fn start(limit: u64) -> std::io::Result<Self> {
        let found = Arc::new(Found {
            used: AtomicU64::new(0),
            lowest_free: AtomicU64::new(u64::MAX),
        });
        let (until, dropped) = mpsc::channel();
        let watch = Self {
            found: Arc::clone(&found),
            _until: until,
        };
        thread::Builder::new()
            .name("disk".to_owned())
            .stack_size(512 * 1024)
            .spawn(move || observe(&found, limit, &dropped))?;
        Ok(watch)
    }

    /// Bytes that the build has added, as last measured.
    pub(crate) fn used(&self) -> u64 {
        self.found.used.load(Ordering::Relaxed)
    }

    /// The least room the host's file system had, in bytes; none when it does not tell.
    pub(crate) fn lowest_free(&self) -> Option<u64> {
        let free = self.found.lowest_free.load(Ordering::Relaxed);
        (free != u64::MAX).then_some(free)
    }
}

/// How full a file system is, in bytes.
#[derive(Debug, Clone, Copy)]
struct Space {
    used: u64,
    free: u64,
}

fn space() -> Option<Space> {
    let stat = statvfs("/").ok()?;
    let unit = stat.fragment_size();
    Some(Space {
        used: (stat.blocks() - stat.blocks_free()) * unit,
        free: stat.blocks_available() * unit,
    })
}

fn observe(found: &Found, limit: u64, dropped: &Receiver<()>) {
    let start = now();
    let mut last_walk = Instant::now();
    let mut cost = Duration::ZERO;
    let mut used_then = space().map_or(0, |space| space.used);
    while dropped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        let space = space();
        if let Some(space) = space {
            found.lowest_free.fetch_min(space.free, Ordering::Relaxed);
        }
        let used_now = space.map_or(u64::MAX, |space| space.used);
        let left = limit.saturating_sub(found.used.load(Ordering::Relaxed));
        let is_near = used_now.saturating_sub(used_then) >= left / 2;
        let waited = last_walk.elapsed();
        if waited < cost * SHARE || !(is_near || waited >= WALK_WITHIN) {
            continue;
        }
        let began = Instant::now();
        let added = size(Path::new("/"), start);
        found.used.store(added, Ordering::Relaxed);
        (last_walk, cost, used_then) = (Instant::now(), began.elapsed(), used_now);
    }
}

/// Seconds since 1970; 0 with a clock before that, when every file counts.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// Bytes that were added to a tree on its own file system since this second, unlinked files in use included.
fn size(root: &Path, start: i64) -> u64 {
    match fs::symlink_metadata(root) {
        Ok(top) => named(root, top.dev(), start) + unlinked(top.dev(), start),
        Err(_) => 0,
    }
}

/// Bytes of the files of a tree that lie on one file system and were made or changed since this second.
fn named(root: &Path, device: u64, start: i64) -> u64 {
    let mut total = 0;
    // A file with several names counts once.
    let mut linked = HashSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            // What vanishes meanwhile takes no space.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                if meta.dev() == device {
                    folders.push(entry.path());
                }
            } else if meta.nlink() < 2 || linked.insert((meta.dev(), meta.ino())) {
                total += blocks(&meta, start);
            }
        }
    }
    total
}

fn blocks(meta: &Metadata, start: i64) -> u64 {
    if meta.is_file() && meta.ctime() >= start {
        meta.blocks() * BLOCK
    } else {
        0
    }
}

/// Bytes of files without a name that some process holds open.
fn unlinked(device: u64, start: i64) -> u64 {
    let mut seen = HashSet::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let held = processes
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .iter()
                .all(u8::is_ascii_digit)
        })
        .filter_map(|entry| fs::read_dir(entry.path().join("fd")).ok())
        .flat_map(Iterator::flatten);
    held.filter(|file| is_unlinked(&file.path()))
        .filter_map(|file| fs::metadata(file.path()).ok())
        .filter(|meta| meta.is_file() && meta.dev() == device)
        .filter(|meta| seen.insert(meta.ino()))
        .map(|meta| blocks(&meta, start))
        .sum()
}

/// The kernel says so behind the name (`proc_pid_fd(5)`). The number of names tells nothing on every file system.
fn is_unlinked(descriptor: &Path) -> bool {
    fs::read_link(descriptor)
        .is_ok_and(|name| name.as_os_str().as_encoded_bytes().ends_with(b" (deleted)"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_tree_is_as_large_as_its_files_and_a_second_name_is_free() {
        let folder = std::env::temp_dir().join(format!("millrace-disk-{}", std::process::id()));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        let device = fs::metadata(&folder).unwrap().dev();
        let file = folder.join("a/b/file");
        File::create(&file)
            .unwrap()
            .write_all(&vec![1; 1 << 20])
            .unwrap();
        fs::hard_link(&file, folder.join("again")).unwrap();
        let sparse = File::create(folder.join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let added = named(&folder, device, now() - 60);
        let later = named(&folder, device, now() + 60);
        fs::remove_dir_all(&folder).unwrap();
        assert!((1 << 20..=(1 << 20) + 65_536).contains(&added), "{added}");
        assert_eq!(later, 0, "what was there before does not count");
    }

    #[test]
    fn a_file_without_a_name_counts_while_it_is_open() {
        let path = std::env::temp_dir().join(format!("millrace-unlinked-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![1; 8 << 20]).unwrap();
        let device = file.metadata().unwrap().dev();
        fs::remove_file(&path).unwrap();
        assert!(unlinked(device, 0) >= 8 << 20);
    }
}
