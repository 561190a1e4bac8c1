//! Everything that has a name.

use std::fs::{self, DirEntry, ReadDir};
use std::io;
use std::path::Path;

use crate::disk::tally::Tally;

/// Counts the tree, folders of other file systems left out. Returns whether part of it is out of reach: a build can nest
/// folders deeper than a path is long.
pub(super) fn count(tally: &mut Tally, root: &Path) -> bool {
    let mut is_out_of_reach = false;
    // The folders that are being read, rather than the paths of those to read: a million of those take memory that
    // belongs to the build.
    let mut open: Vec<ReadDir> = fs::read_dir(root).into_iter().collect();
    while let Some(folder) = open.last_mut() {
        if tally.is_over() {
            break;
        }
        let entry = match folder.next() {
            Some(Ok(entry)) => entry,
            Some(Err(error)) => {
                is_out_of_reach |= is_there(&error);
                continue;
            }
            None => {
                open.pop();
                continue;
            }
        };
        match enter(tally, &entry) {
            Ok(inner) => open.extend(inner),
            Err(error) => is_out_of_reach |= is_there(&error),
        }
    }
    is_out_of_reach
}

/// Counts an entry, and opens it where it is a folder.
fn enter(tally: &mut Tally, entry: &DirEntry) -> io::Result<Option<ReadDir>> {
    let meta = entry.metadata()?;
    tally.add_named(&meta, || entry.path());
    if meta.is_dir() && tally.is_ours(&meta) {
        return fs::read_dir(entry.path()).map(Some);
    }
    Ok(None)
}

/// What vanishes meanwhile takes no space.
fn is_there(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
