//! Everything that has a name.

use std::ffi::OsString;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::tally::Tally;

/// A folder whose entries were counted, with the folders in it that are still to be read. Those are counted first and read
/// afterwards: a limit is passed without reading thousands of empty folders, which takes a file system in user space long.
struct Folder {
    path: PathBuf,
    inner: Vec<OsString>,
}

/// Counts the tree, folders of other file systems left out. Returns whether part of it is out of reach: a build can nest
/// folders deeper than a path is long.
pub(super) fn count(tally: &mut Tally, root: &Path) -> bool {
    let mut is_out_of_reach = false;
    let mut open = Vec::new();
    let mut next = Some(root.to_owned());
    while let Some(path) = next {
        match read(tally, path) {
            Ok(folder) => open.push(folder),
            Err(error) => is_out_of_reach |= is_there(&error),
        }
        if tally.is_over() {
            break;
        }
        next = next_folder(&mut open);
    }
    is_out_of_reach
}

/// The next folder to read, in the innermost one that has any.
fn next_folder(open: &mut Vec<Folder>) -> Option<PathBuf> {
    loop {
        let folder = open.last_mut()?;
        if let Some(name) = folder.inner.pop() {
            return Some(folder.path.join(name));
        }
        open.pop();
    }
}

/// Counts the entries of a folder, as far as the limit goes.
fn read(tally: &mut Tally, path: PathBuf) -> io::Result<Folder> {
    let mut inner = Vec::new();
    for entry in fs::read_dir(&path)? {
        match add(tally, &entry?) {
            Ok(is_folder) => inner.extend(is_folder),
            Err(error) if is_there(&error) => return Err(error),
            Err(_) => {}
        }
        if tally.is_over() {
            break;
        }
    }
    Ok(Folder { path, inner })
}

/// Counts an entry. Returns its name where it is a folder to be read.
fn add(tally: &mut Tally, entry: &DirEntry) -> io::Result<Option<OsString>> {
    let meta = entry.metadata()?;
    tally.add_named(&meta, || entry.path());
    Ok((meta.is_dir() && tally.is_ours(&meta)).then(|| entry.file_name()))
}

/// What vanishes meanwhile takes no space.
fn is_there(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
