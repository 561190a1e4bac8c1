use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;

const MIB: usize = 1 << 20;
const NO_LIMIT: Amount = Amount {
    bytes: u64::MAX,
    entries: u64::MAX,
};

/// An empty folder of a test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("millrace-disk-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// What its tree adds from a second on.
    fn named(&self, start: i64) -> Amount {
        let mut tally = Tally::new(&self.0, start, NO_LIMIT).unwrap();
        assert!(!tree::count(&mut tally, &self.0));
        tally.amount()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn amount(bytes: u64, entries: u64) -> Amount {
    Amount { bytes, entries }
}

fn file(path: &Path, length: usize) -> File {
    let mut file = File::create(path).unwrap();
    file.write_all(&vec![1; length]).unwrap();
    file
}

#[test]
fn a_tree_is_as_large_as_its_files_and_a_second_name_takes_no_space() {
    let folder = Folder::new("tree");
    fs::create_dir_all(folder.0.join("a/b")).unwrap();
    let first = folder.0.join("a/b/file");
    file(&first, MIB);
    fs::hard_link(&first, folder.0.join("again")).unwrap();
    let sparse = File::create(folder.0.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let added = folder.named(now() - 60);
    let space = MIB as u64..=(MIB + 65_536) as u64;
    assert!(space.contains(&added.bytes), "{added:?}");
    assert_eq!(
        added.entries, 5,
        "two folders, two names of a file, a sparse file"
    );
    let later = folder.named(now() + 60);
    assert_eq!(
        later,
        Amount::default(),
        "what was there before is left out"
    );
}

#[test]
fn every_kind_of_file_is_an_entry_and_what_it_takes_counts() {
    let folder = Folder::new("kinds");
    let long = "x".repeat(1000);
    symlink(&long, folder.0.join("link")).unwrap();
    symlink("/", folder.0.join("root")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.0.join("socket")).unwrap();
    File::create(folder.0.join("empty")).unwrap();
    for number in 0..500 {
        let name = format!("folder/{number:0200}");
        fs::create_dir_all(folder.0.join(name)).unwrap();
    }
    let top = fs::symlink_metadata(folder.0.join("folder")).unwrap();
    let added = folder.named(0);
    assert_eq!(added.entries, 4 + 1 + 500);
    let folders = std::os::unix::fs::MetadataExt::blocks(&top) * 512;
    assert!(folders > 0 && added.bytes > folders, "{added:?}, {folders}");
}

#[test]
fn folders_of_other_file_systems_are_not_entered() {
    let folder = Folder::new("foreign");
    fs::create_dir_all(folder.0.join("a")).unwrap();
    let mut tally = Tally::new(Path::new("/proc"), 0, NO_LIMIT).unwrap();
    file(&folder.0.join("a/file"), MIB);
    tree::count(&mut tally, &folder.0);
    assert_eq!(tally.amount().entries, 1, "the folder itself");
}

#[test]
fn a_walk_ends_where_the_limit_is_passed() {
    let folder = Folder::new("limit");
    for number in 0..100 {
        File::create(folder.0.join(number.to_string())).unwrap();
    }
    let mut tally = Tally::new(&folder.0, 0, amount(u64::MAX, 10)).unwrap();
    tree::count(&mut tally, &folder.0);
    assert_eq!(tally.amount().entries, 11);
}

#[test]
fn folders_deeper_than_a_path_is_long_are_out_of_reach() {
    let folder = Folder::new("deep");
    let name = "d".repeat(250);
    let script = format!("for i in $(seq 20); do mkdir {name} && cd -P {name} || exit; done");
    let shell = std::process::Command::new("/bin/bash")
        .args(["-c", &script])
        .current_dir(&folder.0)
        .status();
    assert!(shell.unwrap().success());
    let mut tally = Tally::new(&folder.0, 0, NO_LIMIT).unwrap();
    assert!(tree::count(&mut tally, &folder.0));
    let removed = std::process::Command::new("rm")
        .arg("-r")
        .arg(&folder.0)
        .status();
    assert!(removed.unwrap().success());
}

#[test]
fn a_file_without_a_name_counts_once_while_it_is_open() {
    let folder = Folder::new("unlinked");
    let path = folder.0.join("file");
    let file = file(&path, 8 * MIB);
    let again = file.try_clone().unwrap();
    fs::remove_file(&path).unwrap();
    let mut own = Tally::new(&folder.0, 0, NO_LIMIT).unwrap();
    for descriptor in [&file, &again] {
        let number = std::os::fd::AsRawFd::as_raw_fd(descriptor);
        own.add_unnamed(Path::new(&format!("/proc/self/fd/{number}")));
    }
    let space = 8 * MIB as u64..9 * MIB as u64;
    assert!(space.contains(&own.amount().bytes), "{own:?}");
    assert_eq!(own.amount().entries, 1);
    // Whatever else the host's processes hold.
    let mut all = Tally::new(&folder.0, now() - 60, NO_LIMIT).unwrap();
    held::count(&mut all);
    assert!(all.amount().bytes >= 8 * MIB as u64, "{all:?}");
}

#[test]
fn a_tree_that_cannot_be_read_is_empty() {
    let scan = scan(Path::new("/nonexistent/tree"), 0, NO_LIMIT);
    assert_eq!((scan.seen, scan.has_hidden), (Amount::default(), false));
}

#[test]
fn a_watch_begins_with_nothing_measured() {
    let watch = DiskWatch::start(amount(1 << 30, 1000)).unwrap();
    assert_eq!(
        (watch.used(), watch.lowest_free()),
        (Amount::default(), None)
    );
    assert_eq!(watch.hit(), None);
    assert!(space().is_some_and(|space| space.used.bytes > 0));
}

#[test]
fn the_limit_that_is_passed_is_named() {
    let limit = Amount::limit(Some(100), Some(10));
    assert_eq!(amount(100, 10).over(limit), None);
    assert_eq!(amount(101, 11).over(limit), Some(LimitHit::Disk));
    assert_eq!(amount(100, 11).over(limit), Some(LimitHit::DiskEntries));
    assert_eq!(
        amount(1 << 60, 11).over(Amount::limit(None, Some(11))),
        None
    );
}

fn scanned(seen: u64, has_hidden: bool) -> Scan {
    Scan {
        seen: amount(seen, seen),
        has_hidden,
    }
}

#[test]
fn what_others_use_is_not_the_builds() {
    let mut account = Account::new(amount(1000, 1000));
    let settle =
        |account: &mut Account, used, scan| account.settle(amount(used, used), &scan).bytes;
    assert_eq!(settle(&mut account, 9000, scanned(100, false)), 100);
    // It begins to hide something: what others had before that is not its own.
    assert_eq!(settle(&mut account, 9000, scanned(100, true)), 100);
    assert_eq!(settle(&mut account, 9500, scanned(100, true)), 600);
    // What was seen and is in flight now has not gone.
    assert_eq!(settle(&mut account, 9500, scanned(0, true)), 600);
    assert_eq!(settle(&mut account, 9600, scanned(50, false)), 50);
}

#[test]
fn what_others_free_does_not_make_room_for_what_is_hidden() {
    let mut account = Account::new(amount(1000, 1000));
    let used = account.settle(amount(400, 400), &scanned(0, true));
    assert_eq!(used, Amount::default());
    assert_eq!(
        account.settle(amount(900, 900), &scanned(0, true)),
        amount(500, 500)
    );
}

#[test]
fn a_scan_is_due_when_the_limit_may_be_near_or_the_last_one_is_old() {
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let limit = amount(100, 1000);
    let due = |after: Duration, cost: Duration, grown, used| {
        let schedule = Schedule {
            limit,
            last: start,
            cost,
        };
        schedule.is_due(start + after, grown, amount(used, 0))
    };
    let quick = Duration::from_millis(10);
    assert!(!due(2 * second, quick, amount(0, 0), 0));
    assert!(!due(2 * second, quick, amount(49, 499), 0));
    assert!(
        due(2 * second, quick, amount(50, 0), 0),
        "half of the bytes left"
    );
    assert!(
        due(2 * second, quick, amount(0, 500), 0),
        "half of the entries left"
    );
    assert!(due(2 * second, quick, amount(5, 0), 90), "of what is left");
    assert!(
        due(SCAN_WITHIN, quick, amount(0, 0), 0),
        "the last one is old"
    );
    let slow = 2 * second;
    assert!(
        !due(39 * second, slow, amount(99, 0), 0),
        "scans take a share of the time"
    );
    assert!(due(40 * second, slow, amount(99, 0), 0));
    assert!(
        due(2 * second, slow, amount(100, 0), 0),
        "it may be over the limit"
    );
    assert!(!due(second, slow, amount(100, 0), 0));
}
