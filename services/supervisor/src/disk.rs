//! The sandbox's own disk space: how much the build has added to the root file system since its start.
//!
//! No counter tells the size of a container's writable layer from inside, so the tree is scanned. A file in the layer
//! is known by its time of status change, which no program can set back: it is later than the start. A scan costs time,
//! so it is made in a thread of its own, and only when the file system as a whole has filled up enough for the limit to
//! be near, or when the last scan was long ago. Files that were unlinked and are still open count as well: they are found
//! through the processes that have them open.

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

/// Time between two checks of the file system's free space.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// The tree is scanned at least this often.
const SCAN_WITHIN: Duration = Duration::from_secs(30);
/// Time between two scans, as a multiple of what the last one took.
const SCAN_PAUSES: u32 = 20;
/// Unit of `st_blocks`, in bytes.
const BLOCK: u64 = 512;

/// The latest measurements, in bytes.
#[derive(Debug, Default)]
struct Measured {
    used: AtomicU64,
    lowest_free: AtomicU64,
}

/// A watch over the root file system, until it is dropped.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    measured: Arc<Measured>,
    _until: Sender<()>,
}

impl DiskWatch {
    /// Measures from now on; an error where no thread can be started for it.
    pub(crate) fn start(limit: u64) -> std::io::Result<Self> {
        let measured = Arc::new(Measured {
            used: AtomicU64::new(0),
            lowest_free: AtomicU64::new(u64::MAX),
        });
        let (until, dropped) = mpsc::channel();
        let watch = Self {
            measured: Arc::clone(&measured),
            _until: until,
        };
        thread::Builder::new()
            .name("disk".to_owned())
            .stack_size(512 * 1024)
            .spawn(move || observe(&measured, limit, &dropped))?;
        Ok(watch)
    }

    /// Bytes that the build has added, as last measured.
    pub(crate) fn used(&self) -> u64 {
        self.measured.used.load(Ordering::Relaxed)
    }

    /// Least free space of the host's file system so far, in bytes; none when it cannot be read.
    pub(crate) fn lowest_free(&self) -> Option<u64> {
        let free = self.measured.lowest_free.load(Ordering::Relaxed);
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

fn observe(measured: &Measured, limit: u64, dropped: &Receiver<()>) {
    let start = now();
    let mut last_scan = Instant::now();
    let mut cost = Duration::ZERO;
    let mut used_then = space().map_or(0, |space| space.used);
    while dropped.recv_timeout(CHECK_EVERY) == Err(RecvTimeoutError::Timeout) {
        let space = space();
        if let Some(space) = space {
            measured
                .lowest_free
                .fetch_min(space.free, Ordering::Relaxed);
        }
        let used_now = space.map_or(u64::MAX, |space| space.used);
        let left = limit.saturating_sub(measured.used.load(Ordering::Relaxed));
        let grown = used_now.saturating_sub(used_then);
        if !is_scan_due(last_scan.elapsed(), cost, grown, left) {
            continue;
        }
        let began = Instant::now();
        let added = size(Path::new("/"), start);
        measured.used.store(added, Ordering::Relaxed);
        (last_scan, cost, used_then) = (Instant::now(), began.elapsed(), used_now);
    }
}

/// Whether to scan the tree: `since_last` scan, which took `cost`, the file system as a whole has `grown`, while the build
/// may still add what is `left` of its limit.
fn is_scan_due(since_last: Duration, cost: Duration, grown: u64, left: u64) -> bool {
    let is_limit_near = grown >= left / 2;
    since_last >= cost * SCAN_PAUSES && (is_limit_near || since_last >= SCAN_WITHIN)
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

/// The kernel says so behind the name (`proc_pid_fd(5)`). The number of links is not reliable on every file system.
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

    #[test]
    fn links_and_folders_take_no_space_and_foreign_file_systems_are_left_out() {
        let folder =
            std::env::temp_dir().join(format!("millrace-disk-links-{}", std::process::id()));
        fs::create_dir_all(folder.join("a")).unwrap();
        let device = fs::metadata(&folder).unwrap().dev();
        std::os::unix::fs::symlink("/dev/zero", folder.join("a/link")).unwrap();
        std::os::unix::fs::symlink("/", folder.join("root")).unwrap();
        assert_eq!(named(&folder, device, 0), 0);
        fs::write(folder.join("a/file"), vec![1; 64 << 10]).unwrap();
        let elsewhere = named(&folder.join("a"), device + 1, 0);
        let here = named(&folder, device, 0);
        fs::remove_dir_all(&folder).unwrap();
        assert!(here >= 64 << 10);
        assert_eq!(
            elsewhere, here,
            "files count, only folders of others are not entered"
        );
    }

    #[test]
    fn a_tree_that_cannot_be_read_is_empty() {
        assert_eq!(size(Path::new("/nonexistent/tree"), 0), 0);
        assert_eq!(named(Path::new("/nonexistent/tree"), 0, 0), 0);
    }

    #[test]
    fn only_descriptors_of_unlinked_files_count_as_unlinked() {
        let path = std::env::temp_dir().join(format!("millrace-named-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let before = is_unlinked(Path::new(&descriptor));
        fs::remove_file(&path).unwrap();
        assert!(!before && is_unlinked(Path::new(&descriptor)));
        assert!(!is_unlinked(Path::new("/proc/self/fd/none")));
    }

    #[test]
    fn a_watch_begins_with_nothing_measured() {
        let watch = DiskWatch::start(1 << 30).unwrap();
        assert_eq!((watch.used(), watch.lowest_free()), (0, None));
        assert!(space().is_some_and(|space| space.used > 0));
    }

    #[test]
    fn a_scan_is_due_when_the_limit_may_be_near_or_the_last_one_is_old() {
        let second = Duration::from_secs(1);
        let quick = Duration::from_millis(10);
        assert!(!is_scan_due(2 * second, quick, 0, 100));
        assert!(!is_scan_due(2 * second, quick, 49, 100));
        assert!(
            is_scan_due(2 * second, quick, 50, 100),
            "half of what is left"
        );
        assert!(
            is_scan_due(SCAN_WITHIN, quick, 0, 100),
            "the last one is old"
        );
        assert!(
            is_scan_due(2 * second, quick, 0, 0),
            "over the limit already"
        );
        let slow = 10 * second;
        assert!(
            !is_scan_due(199 * second, slow, 100, 0),
            "scans take a share of the time"
        );
        assert!(is_scan_due(200 * second, slow, 0, 100));
    }
}
