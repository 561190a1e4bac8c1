//! What is removed, what stays, and a disk that is really full.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashSet;
use std::future::ready;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use millrace_domain::AttemptId;
use millrace_results::{AttemptFile, Expected, ResultError, ResultStore, Sha256};
use sha2::Digest;
use tempfile::TempDir;

const HOUR: Duration = Duration::from_hours(1);

async fn open(folder: &Path) -> ResultStore {
    let url = format!("file://{}/results", folder.display());
    ResultStore::open(&url).await.unwrap()
}

fn parts(bytes: &[u8]) -> BoxStream<'static, io::Result<Bytes>> {
    let parts: Vec<io::Result<Bytes>> = bytes
        .chunks(64 << 10)
        .map(|part| Ok(Bytes::copy_from_slice(part)))
        .collect();
    stream::iter(parts).boxed()
}

fn expected(bytes: &[u8]) -> Expected {
    Expected {
        sha256: Sha256::from_bytes(sha2::Sha256::digest(bytes).into()),
        size: bytes.len() as u64,
        cap: 1 << 30,
    }
}

fn file(attempt: AttemptId, name: &str) -> AttemptFile {
    AttemptFile {
        attempt,
        position: 0,
        name: name.parse().unwrap(),
    }
}

fn source_path(folder: &Path, sha256: &Sha256) -> std::path::PathBuf {
    let text = sha256.as_str();
    folder.join("results/sources").join(&text[..2]).join(text)
}

fn make_old(path: &Path) {
    let then = std::time::SystemTime::now() - 2 * HOUR;
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(then).unwrap();
}

#[tokio::test]
async fn of_an_attempts_files_those_named_stay_and_the_log_goes_by_itself() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let attempt = AttemptId::generate();
    for name in ["a.rpm", "b.rpm"] {
        let named = file(attempt, name);
        let put = store.put_attempt_file(&named, expected(b"x"), parts(b"x"));
        put.await.unwrap();
    }
    store
        .append_log(attempt, 0, Bytes::from_static(b"log"))
        .await
        .unwrap();
    assert_eq!(store.attempts_with_files().await.unwrap(), [attempt]);
    let kept = HashSet::from([(0, "a.rpm".parse().unwrap())]);
    assert_eq!(store.keep_attempt_files(attempt, &kept).await.unwrap(), 1);
    let size = async |name: &str| store.has_attempt_file(&file(attempt, name)).await;
    assert_eq!(size("a.rpm").await.unwrap(), Some(1));
    assert_eq!(size("b.rpm").await.unwrap(), None);
    store.delete_attempt_files(attempt).await.unwrap();
    assert_eq!(size("a.rpm").await.unwrap(), None);
    assert_eq!(store.attempts_with_files().await.unwrap(), []);
    assert_eq!(store.log_length(attempt).await.unwrap(), 3);
    store.delete_log(attempt).await.unwrap();
    assert_eq!(store.log_length(attempt).await.unwrap(), 0);
}

#[tokio::test]
async fn a_source_goes_only_when_it_is_old_and_unnamed() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let source = store
        .put_source(parts(b"source"), 100)
        .await
        .unwrap()
        .sha256;
    let path = source_path(folder.path(), &source);
    assert_eq!(store.old_sources(HOUR).await.unwrap(), []);
    make_old(&path);
    assert_eq!(
        store.old_sources(HOUR).await.unwrap(),
        std::slice::from_ref(&source)
    );
    let removed = store.remove_source(&source, HOUR, ready(true)).await;
    assert!(!removed.unwrap(), "a build names it");
    store.touch_source(&source).await.unwrap();
    let removed = store.remove_source(&source, HOUR, ready(false)).await;
    assert!(!removed.unwrap(), "a submission is about to name it");
    assert!(store.has_source(&source).await.unwrap());
    make_old(&path);
    let removed = store.remove_source(&source, HOUR, ready(false)).await;
    assert!(removed.unwrap());
    let touched = store.touch_source(&source).await;
    assert!(touched.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_source_that_is_leaving_cannot_be_touched_and_comes_back_after_a_crash() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let source = store
        .put_source(parts(b"source"), 100)
        .await
        .unwrap()
        .sha256;
    make_old(&source_path(folder.path(), &source));
    let asked = async {
        assert!(
            store
                .touch_source(&source)
                .await
                .unwrap_err()
                .is_not_found()
        );
        std::future::pending::<bool>().await
    };
    let removal = store.remove_source(&source, HOUR, asked);
    // The frontend dies in between.
    assert!(
        tokio::time::timeout(Duration::from_millis(300), removal)
            .await
            .is_err()
    );
    assert!(!store.has_source(&source).await.unwrap());
    assert_eq!(
        store.old_sources(HOUR).await.unwrap(),
        std::slice::from_ref(&source)
    );
    assert!(store.has_source(&source).await.unwrap());
}

/// A file system of 4 MiB; unmounted at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(folder.path());
        match mount.output() {
            Ok(done) if done.status.success() => Some(Self(folder)),
            refused => {
                println!(
                    "NOT TESTED: a full result store; no tmpfs can be mounted here: {refused:?}"
                );
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ended = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn files_below(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| {
        let entries = entries.map(|entry| entry.unwrap().path());
        entries
            .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
            .sum()
    })
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_stored_nothing_is_left_and_room_helps() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let root = disk.0.path();
    let store = open(root).await;
    store.check_room().await.unwrap();
    let ballast = root.join("ballast");
    std::fs::write(&ballast, vec![0; 2 << 20]).unwrap();
    let big = vec![7; 3 << 20];
    let attempt = AttemptId::generate();
    let put = store.put_source(parts(&big), 1 << 30).await;
    assert!(matches!(put, Err(ResultError::Full)), "{put:?}");
    let rpm = file(attempt, "a.rpm");
    let put = store
        .put_attempt_file(&rpm, expected(&big), parts(&big))
        .await;
    assert!(matches!(put, Err(ResultError::Full)), "{put:?}");
    let put = store.append_log(attempt, 0, Bytes::from(big.clone())).await;
    assert!(matches!(put, Err(ResultError::Full)), "{put:?}");
    let begun = std::time::Instant::now();
    while files_below(&root.join("results")) > 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "something was left"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    std::fs::remove_file(&ballast).unwrap();
    store
        .put_attempt_file(&rpm, expected(&big), parts(&big))
        .await
        .unwrap();
    let stored = store.attempt_file(&rpm).await.unwrap();
    assert_eq!(stored.size(), big.len() as u64);
    // Half a mebibyte is left, less than is asked for.
    std::fs::write(&ballast, vec![0; 512 << 10]).unwrap();
    assert!(matches!(store.check_room().await, Err(ResultError::Full)));
}
