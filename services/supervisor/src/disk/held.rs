//! What has no name and is held by a process.
//!
//! An open file is found through its descriptor. Some holders show that they hold something, but not what: then a scan
//! says that something is hidden.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::disk::tally::Tally;

/// What the kernel puts behind the name of a file that has lost it (`proc_pid_fd(5)`). The number of links is not reliable
/// on every file system.
const UNLINKED: &[u8] = b" (deleted)";
/// Beginnings of names of mappings that lie in memory only, and look unlinked.
const IN_MEMORY: [&[u8]; 5] = [b"/memfd:", b"/SYSV", b"/dev/", b"/[aio]", b"/anon_hugepage"];
/// Lines of a descriptor's information that count what it holds in turn: files in flight to a socket, and those handed to
/// an `io_uring`.
const HOLDERS: [&str; 2] = ["scm_fds:", "UserFiles:"];

/// Counts unlinked files that processes have open. Returns whether some process may hold one that cannot be seen.
pub(super) fn count(tally: &mut Tally) -> bool {
    let own_users = fs::read_link("/proc/self/ns/user").ok();
    let mut is_hidden = false;
    for process in numbered(Path::new("/proc")) {
        // Each thread can have descriptors of its own, and the first may be gone before the others.
        let threads = process.join("task");
        for thread in numbered(&threads) {
            is_hidden |= is_refused_or(count_open(tally, &thread));
        }
        is_hidden |= is_refused_or(has_unlinked_mapping(&threads));
        // In a user namespace of its own a process can mount a file and unlink it.
        let users = fs::read_link(process.join("ns/user"));
        is_hidden |= is_refused_or(users.map(|users| own_users.as_ref() != Some(&users)));
    }
    is_hidden
}

/// A process that may not be looked at hides what it has; one that has ended has nothing.
fn is_refused_or(answer: io::Result<bool>) -> bool {
    match answer {
        Ok(answer) => answer,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// The folders of processes or threads in a folder of /proc.
fn numbered(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_number =
        |entry: &fs::DirEntry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit);
    entries.filter(is_number).map(|entry| entry.path())
}

/// Counts a thread's open files without a name. Returns whether one of its descriptors holds others.
fn count_open(tally: &mut Tally, thread: &Path) -> io::Result<bool> {
    let mut holds = false;
    for descriptor in fs::read_dir(thread.join("fd"))?.flatten() {
        let path = descriptor.path();
        let name = match fs::read_link(&path) {
            Ok(name) => name,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(_) => continue,
        };
        let name = name.as_os_str().as_bytes();
        if name.ends_with(UNLINKED) {
            tally.add_unnamed(&path);
        } else if name.starts_with(b"socket:") || name == b"anon_inode:[io_uring]" {
            let information = thread.join("fdinfo").join(descriptor.file_name());
            holds |= fs::read_to_string(information).is_ok_and(|text| holds_others(&text));
        }
    }
    Ok(holds)
}

/// Whether a descriptor holds others, by its information in /proc.
fn holds_others(information: &str) -> bool {
    information.lines().any(|line| {
        let count = HOLDERS.iter().find_map(|word| line.strip_prefix(word));
        count.is_some_and(|count| count.trim() != "0")
    })
}

/// Whether a process has mapped a file that has lost its name: it keeps the file without a descriptor.
fn has_unlinked_mapping(threads: &Path) -> io::Result<bool> {
    for thread in numbered(threads) {
        let maps = fs::read(thread.join("maps"))?;
        // A thread that has ended has none; all others have the same.
        if !maps.is_empty() {
            return Ok(maps.split(|byte| *byte == b'\n').any(is_unlinked_mapping));
        }
    }
    Ok(false)
}

fn is_unlinked_mapping(line: &[u8]) -> bool {
    // Nothing before the name has a slash.
    let name = line.iter().position(|byte| *byte == b'/');
    let name = name.map_or(&[][..], |at| &line[at..]);
    name.ends_with(UNLINKED) && !IN_MEMORY.iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_holds_others_is_known_by_its_information() {
        let socket =
            |count| format!("pos:\t0\nflags:\t02\nmnt_id:\t10\nino:\t7\nscm_fds: {count}\n");
        assert!(!holds_others(&socket(0)));
        assert!(holds_others(&socket(12)));
        assert!(holds_others("SqThread:\t-1\nUserFiles:\t3\nUserBufs:\t0\n"));
        assert!(!holds_others("UserFiles:\t0\nUserBufs:\t4\n"));
        assert!(!holds_others(""), "an older kernel says nothing");
    }

    #[test]
    fn a_mapping_is_unlinked_where_its_file_was_and_lies_on_a_disk() {
        let line =
            |name: &str| format!("7f0000000000-7f0000001000 rw-s 00000000 00:28 77    {name}");
        for (name, expected) in [
            ("/var/tmp/big (deleted)", true),
            ("/var/tmp/with a space (deleted)", true),
            ("/usr/lib/libc.so.6", false),
            ("/memfd:x (deleted)", false),
            ("/dev/shm/sem.x (deleted)", false),
            ("/SYSV00000000 (deleted)", false),
            ("[heap]", false),
            ("", false),
        ] {
            assert_eq!(
                is_unlinked_mapping(line(name).as_bytes()),
                expected,
                "{name}"
            );
        }
        assert!(!is_unlinked_mapping(b""));
    }

    #[test]
    fn only_a_refusal_hides_and_an_end_does_not() {
        let error = |kind: io::ErrorKind| is_refused_or(Err(kind.into()));
        assert!(error(io::ErrorKind::PermissionDenied) && !error(io::ErrorKind::NotFound));
        assert!(is_refused_or(Ok(true)) && !is_refused_or(Ok(false)));
    }
}
