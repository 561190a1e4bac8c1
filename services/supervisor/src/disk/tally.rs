//! Adds up what was made or changed since the start. It is known by its time of status change, which no program can set
//! back.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::disk::Amount;

/// Unit of `st_blocks`, in bytes.
const BLOCK: u64 = 512;

/// The sum so far.
#[derive(Debug)]
pub(super) struct Tally {
    device: u64,
    start: i64,
    limit: Amount,
    sum: Amount,
    /// What was counted and may come again: files with several names, and those that a process holds.
    counted: HashSet<(u64, u64)>,
}

impl Tally {
    /// Nothing so far of the file system that this path lies on; none where it has none.
    pub(super) fn new(root: &Path, start: i64, limit: Amount) -> Option<Self> {
        let top = fs::symlink_metadata(root).ok()?;
        Some(Self {
            device: top.dev(),
            start,
            limit,
            sum: Amount::default(),
            counted: HashSet::new(),
        })
    }

    pub(super) fn amount(&self) -> Amount {
        self.sum
    }

    /// Whether the sum is over a limit, and nothing more needs to be counted.
    pub(super) fn is_over(&self) -> bool {
        self.sum.over(self.limit).is_some()
    }

    /// Whether something lies on this file system.
    pub(super) fn is_ours(&self, meta: &Metadata) -> bool {
        meta.dev() == self.device
    }

    /// Counts a name. Each one is an entry; a file with several names takes its space once.
    pub(super) fn add_named(&mut self, meta: &Metadata, path: impl FnOnce() -> PathBuf) {
        if meta.ctime() < self.start {
            return;
        }
        self.sum.entries += 1;
        let has_one_name = meta.nlink() < 2 || meta.is_dir();
        if has_one_name || self.counted.insert((meta.dev(), meta.ino())) {
            self.sum.bytes += allotted(meta, path);
        }
    }

    /// Counts something without a name that lies on this file system and can be reached by this path.
    pub(super) fn add_unnamed(&mut self, path: &Path) {
        let Ok(meta) = fs::metadata(path) else { return };
        let is_new = self.is_ours(&meta) && meta.ctime() >= self.start;
        if is_new && self.counted.insert((meta.dev(), meta.ino())) {
            self.sum.entries += 1;
            self.sum.bytes += allotted(&meta, || path.to_owned());
        }
    }
}

/// Bytes that a file takes. While a file is open, a file system in user space (fuse-overlayfs) goes on showing the blocks
/// it had when it was opened; it is asked again where those are fewer than the file is long.
fn allotted(meta: &Metadata, path: impl FnOnce() -> PathBuf) -> u64 {
    let blocks = meta.blocks();
    if !meta.is_file() || blocks * BLOCK >= meta.len() {
        return blocks * BLOCK;
    }
    // Not `SYMLINK_NOFOLLOW`: the path of an open file is a link of /proc.
    let now = statx(CWD, path(), AtFlags::STATX_FORCE_SYNC, StatxFlags::BLOCKS);
    now.map_or(blocks, |now| now.stx_blocks) * BLOCK
}
