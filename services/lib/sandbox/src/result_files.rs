//! Judges and writes what comes out of a sandbox. Everything in the archive was made by strangers: only
//! regular files at the top, with safe names and known endings, within caps, are written, and only ever
//! as new files directly in the spool folder.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use millrace_domain::FileName;
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

/// mock's own logs. Asked for one by one when the folder was not read to its end, and taken over the number of files.
pub(crate) const LOGS: [&str; 5] = [
    "build.log",
    "root.log",
    "state.log",
    "installed_pkgs.log",
    "hw_info.log",
];
/// What a result's name may end in.
const ENDINGS: [&str; 5] = [".rpm", ".log", ".json", ".cfg", ".gz"];
/// What a package's name ends in.
const PACKAGE: &[u8] = b".rpm";
/// Refusals that are listed one by one.
const MAX_REFUSALS: usize = 100;
/// Entries that are refused before the rest is not read any more: a result folder may hold millions of them.
const MAX_SKIPPED: usize = 1000;
/// A name in a refusal is cut after this many characters.
const MAX_SHOWN: usize = 120;

/// How much is taken out of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectCaps {
    /// The largest file, in bytes.
    pub file_bytes: u64,
    /// All files together, in bytes.
    pub total_bytes: u64,
    /// The number of files.
    pub files: usize,
}

impl Default for CollectCaps {
    fn default() -> Self {
        Self {
            file_bytes: 4 << 30,
            total_bytes: 16 << 30,
            files: 2000,
        }
    }
}

/// What was taken out and what was not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Files that now lie in the spool folder.
    pub files: Vec<CollectedFile>,
    /// Files that were left, a hundred of them; packages come first.
    pub refused: Vec<RefusedFile>,
    /// Why the folder was not read to its end; what came after that is not even known by name.
    pub unread: Option<&'static str>,
}

/// A file in the spool folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectedFile {
    /// Its name there and in the result.
    pub name: FileName,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 digest, in hexadecimal.
    pub sha256: String,
}

/// A file that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedFile {
    /// Its name, made printable and short.
    pub name: String,
    /// Why, for a person.
    pub reason: String,
}

/// Where results go, how much of them, and what has arrived.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    caps: CollectCaps,
    seen: HashSet<String>,
    taken: u64,
    skipped_bytes: u64,
    skipped: usize,
    collected: Collected,
}

impl Spool {
    pub(crate) fn new(folder: &Path, caps: CollectCaps) -> Self {
        Self {
            folder: folder.to_owned(),
            caps,
            seen: HashSet::new(),
            taken: 0,
            skipped_bytes: 0,
            skipped: 0,
            collected: Collected::default(),
        }
    }

    /// Whether a file of this name was taken.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.seen.contains(name)
    }

    /// What was taken and what was not.
    pub(crate) fn finish(self) -> Collected {
        self.collected
    }

    /// Takes what may be taken. False when it stopped before the archive's end, because skipping what is
    /// too large or too many would mean to read more than all results may have.
    pub(crate) fn take_all(&mut self, archive: impl Read) -> io::Result<bool> {
        let mut archive = Archive::new(archive);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let Some(name) = name_below_top(&entry) else {
                continue;
            };
            if let Err(reason) = self.take(&name, &mut entry)? {
                self.refuse(&name, reason);
                self.collected.unread = self.skip(entry.size());
                if self.collected.unread.is_some() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Counts what is skipped, and says when that is enough.
    fn skip(&mut self, size: u64) -> Option<&'static str> {
        self.skipped += 1;
        self.skipped_bytes = self.skipped_bytes.saturating_add(size);
        if self.skipped_bytes > self.caps.total_bytes {
            Some("what had to be skipped is too large")
        } else {
            (self.skipped >= MAX_SKIPPED).then_some("too many files had to be skipped")
        }
    }

    /// Takes one entry, or says why not.
    fn take(
        &mut self,
        name: &[u8],
        entry: &mut Entry<'_, impl Read>,
    ) -> io::Result<Result<(), &'static str>> {
        let file_name = match self.judge(name, entry.header().entry_type(), entry.size()) {
            Ok(file_name) => file_name,
            Err(reason) => return Ok(Err(reason)),
        };
        let file = self.write(&file_name, entry)?;
        self.taken += file.size;
        self.seen.insert(file_name.to_string());
        self.collected.files.push(file);
        Ok(Ok(()))
    }

    fn judge(&self, name: &[u8], kind: EntryType, size: u64) -> Result<FileName, &'static str> {
        if kind != EntryType::Regular {
            return Err("not a regular file");
        }
        let text = std::str::from_utf8(name).map_err(|_| "its name is no safe file name")?;
        let file_name: FileName = text.parse().map_err(|_| "its name is no safe file name")?;
        if !ENDINGS.iter().any(|ending| text.ends_with(ending)) {
            return Err("not a kind of file that belongs to a result");
        }
        if self.seen.contains(text) {
            return Err("a second file of this name");
        }
        if self.collected.files.len() >= self.caps.files && !LOGS.contains(&text) {
            return Err("too many files");
        }
        if size > self.caps.file_bytes {
            return Err("larger than a file of a result may be");
        }
        if self.taken.saturating_add(size) > self.caps.total_bytes {
            return Err("all results together are larger than they may be");
        }
        Ok(file_name)
    }

    fn write(&self, name: &FileName, content: &mut impl Read) -> io::Result<CollectedFile> {
        let path = self.folder.join(name.as_str());
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        // A new file only: what lies there already, a link above all, is never written through.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(named)?;
        let mut digest = Sha256::new();
        let mut piece = vec![0; 128 * 1024];
        let mut size = 0;
        loop {
            let count = content.read(&mut piece)?;
            if count == 0 {
                break;
            }
            digest.update(&piece[..count]);
            file.write_all(&piece[..count]).map_err(named)?;
            size += count as u64;
        }
        Ok(CollectedFile {
            name: name.clone(),
            size,
            sha256: hex::encode(digest.finalize()),
        })
    }

    fn refuse(&mut self, name: &[u8], reason: &str) {
        let refused = &mut self.collected.refused;
        // A package that is left decides a build's outcome, so it is told at the cost of another file.
        if refused.len() >= MAX_REFUSALS {
            if !name.ends_with(PACKAGE) {
                return;
            }
            refused.pop();
        }
        refused.push(RefusedFile {
            name: printable(name),
            reason: reason.to_owned(),
        });
    }
}

/// The path of an entry below the archive's top folder, or the whole path of a single file; none for the
/// folder itself.
fn name_below_top(entry: &Entry<'_, impl Read>) -> Option<Vec<u8>> {
    let path = entry.path_bytes();
    let is_folder = entry.header().entry_type() == EntryType::Directory;
    match path.iter().position(|byte| *byte == b'/') {
        Some(at) if at + 1 == path.len() => None,
        Some(at) => Some(path[at + 1..].to_vec()),
        None if is_folder => None,
        None => Some(path.into_owned()),
    }
}

fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(MAX_SHOWN)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive as an engine makes it, of a folder `results`.
    fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            let place = header.as_old_mut().name.iter_mut();
            place.zip(name.bytes()).for_each(|(to, from)| *to = from);
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            if *kind == EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    fn small_caps() -> CollectCaps {
        CollectCaps {
            file_bytes: 100,
            total_bytes: 250,
            files: 3,
        }
    }

    fn take(entries: &[(&str, EntryType, &[u8])]) -> (tempfile::TempDir, Collected, bool) {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), small_caps());
        let is_whole = spool.take_all(&archive(entries)[..]).unwrap();
        let collected = spool.finish();
        for file in &collected.files {
            let content = std::fs::read(folder.path().join(file.name.as_str())).unwrap();
            assert_eq!(content.len() as u64, file.size);
            assert_eq!(hex::encode(Sha256::digest(&content)), file.sha256);
        }
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            collected.files.len()
        );
        (folder, collected, is_whole)
    }

    #[test]
    fn results_are_taken_and_everything_else_is_refused_by_name() {
        use EntryType::{Block, Directory, Link, Regular, Symlink};
        let (_folder, collected, is_whole) = take(&[
            ("results/", Directory, b""),
            ("results/a-1-1.noarch.rpm", Regular, b"rpm"),
            ("results/build.log", Regular, b"log"),
            ("results/link.log", Symlink, b""),
            ("results/hard.log", Link, b""),
            ("results/node.log", Block, b""),
            ("results/..", Regular, b"x"),
            ("results/../../etc/x.log", Regular, b"x"),
            ("results/sub/", Directory, b""),
            ("results/sub/x.log", Regular, b"x"),
            ("results/.hidden.log", Regular, b"x"),
            ("results/core", Regular, b"x"),
            ("results/build.log", Regular, b"again"),
        ]);
        let names: Vec<_> = collected.files.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["a-1-1.noarch.rpm", "build.log"]);
        assert_eq!(collected.refused.len(), 10);
        assert!(is_whole);
    }

    #[test]
    fn caps_hold_for_a_file_for_all_and_for_their_number() {
        use EntryType::Regular;
        let (_folder, collected, _) = take(&[
            ("r/0.log", Regular, &[b'x'; 101]),
            ("r/1.log", Regular, &[b'x'; 100]),
            ("r/2.log", Regular, &[b'x'; 100]),
            ("r/3.log", Regular, &[b'x'; 51]),
            ("r/4.log", Regular, b"x"),
            ("r/5.log", Regular, b"x"),
        ]);
        let names: Vec<_> = collected.files.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["1.log", "2.log", "4.log"]);
        assert_eq!(collected.refused.len(), 3);
    }

    #[test]
    fn reading_stops_when_skipping_costs_more_than_all_results_may() {
        use EntryType::Regular;
        let (_folder, collected, is_whole) = take(&[
            ("r/0.log", Regular, &[b'x'; 300]),
            ("r/1.log", Regular, b"x"),
        ]);
        assert!(!is_whole && collected.files.is_empty());
        assert_eq!(collected.refused.len(), 1);
        assert!(collected.unread.is_some());
    }

    /// An archive of very many small files, made while it is read.
    struct Crowd {
        left: u64,
        present: io::Cursor<Vec<u8>>,
        read: u64,
    }

    impl Read for Crowd {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.present.read(into)?;
            if count > 0 || self.left == 0 {
                self.read += count as u64;
                return Ok(count);
            }
            self.left -= 1;
            let name = format!("results/{:07}.log", self.left);
            let mut entry = archive(&[(&name, EntryType::Regular, b"x")]);
            entry.truncate(1024);
            self.present = io::Cursor::new(entry);
            self.read(into)
        }
    }

    #[test]
    fn of_a_million_small_files_some_are_taken_and_the_rest_is_not_even_read() {
        let folder = tempfile::tempdir().unwrap();
        let caps = CollectCaps {
            total_bytes: 1 << 20,
            ..small_caps()
        };
        let mut crowd = Crowd {
            left: 1_000_000,
            present: io::Cursor::default(),
            read: 0,
        };
        let mut spool = Spool::new(folder.path(), caps);
        assert!(!spool.take_all(&mut crowd).unwrap());
        let collected = spool.finish();
        assert_eq!(collected.files.len(), small_caps().files);
        assert_eq!(collected.refused.len(), MAX_REFUSALS);
        assert!(
            collected
                .unread
                .is_some_and(|reason| reason.contains("too many"))
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        assert!(crowd.read < 2 << 20, "{} bytes were read", crowd.read);
    }

    #[test]
    fn a_refused_package_is_told_however_much_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), small_caps());
        let names: Vec<String> = (0..500).map(|n| format!("r/{n}.txt")).collect();
        let mut entries: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), EntryType::Regular, &b""[..]))
            .collect();
        entries.push(("r/link.rpm", EntryType::Symlink, b""));
        assert!(spool.take_all(&archive(&entries)[..]).unwrap());
        let refused = spool.finish().refused;
        assert_eq!(refused.len(), MAX_REFUSALS);
        assert!(refused.iter().any(|file| file.name == "link.rpm"));
    }

    #[test]
    fn names_that_programs_take_for_something_else_are_refused() {
        use EntryType::{Char, Fifo, Regular};
        let (_folder, collected, _) = take(&[
            ("r/-rf.rpm", Regular, b"x"),
            ("r/--help.log", Regular, b"x"),
            ("r/a b.rpm", Regular, b"x"),
            ("r/a\nb.rpm", Regular, b"x"),
            ("r/a\x1b[2J.rpm", Regular, b"x"),
            ("r/\u{202e}mpr.rpm", Regular, b"x"),
            ("r/a;reboot.rpm", Regular, b"x"),
            ("r/$(x).rpm", Regular, b"x"),
            ("r//etc/x.rpm", Regular, b"x"),
            ("r/../x.rpm", Regular, b"x"),
            ("r/null.rpm", Char, b""),
            ("r/pipe.rpm", Fifo, b""),
        ]);
        assert_eq!(collected.files, []);
        assert_eq!(collected.refused.len(), 12);
        let shown = |file: &RefusedFile| file.name.chars().any(char::is_control);
        assert!(!collected.refused.iter().any(shown));
    }

    #[test]
    fn a_link_that_waits_in_the_spool_folder_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        let spool_folder = folder.path().join("spool");
        std::fs::create_dir(&spool_folder).unwrap();
        std::os::unix::fs::symlink(&outside, spool_folder.join("a.log")).unwrap();
        let mut spool = Spool::new(&spool_folder, small_caps());
        let bytes = archive(&[("r/a.log", EntryType::Regular, b"x")]);
        assert!(spool.take_all(&bytes[..]).is_err());
        assert!(!outside.exists());
    }

    #[test]
    fn names_in_refusals_are_printable_and_short() {
        assert_eq!(printable(b"a\nb"), "a\u{fffd}b");
        assert_eq!(printable(&[b'x'; 500]).len(), MAX_SHOWN);
    }
}
