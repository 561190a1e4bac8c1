//! Sources and files of attempts on a real directory.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use millrace_domain::AttemptId;
use millrace_results::{AttemptFile, Expected, ResultError, ResultStore, Sha256, StoredFile};
use sha2::Digest;
use tempfile::TempDir;

const MIB: usize = 1 << 20;

async fn open() -> (TempDir, ResultStore) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/results", folder.path().display());
    let store = ResultStore::open(&url).await.unwrap();
    (folder, store)
}

fn parts(bytes: &[u8]) -> BoxStream<'static, io::Result<Bytes>> {
    let parts: Vec<io::Result<Bytes>> = bytes
        .chunks(10_000)
        .map(|part| Ok(Bytes::copy_from_slice(part)))
        .collect();
    stream::iter(parts).boxed()
}

/// A sender that breaks off after some bytes.
fn broken(bytes: &[u8]) -> BoxStream<'static, io::Result<Bytes>> {
    parts(bytes)
        .chain(stream::once(async { Err(io::Error::other("gone")) }))
        .boxed()
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256::from_bytes(sha2::Sha256::digest(bytes).into())
}

fn expected(bytes: &[u8]) -> Expected {
    Expected {
        sha256: sha256(bytes),
        size: bytes.len() as u64,
        cap: 100 * MIB as u64,
    }
}

fn file(name: &str) -> AttemptFile {
    AttemptFile {
        attempt: AttemptId::generate(),
        position: 1,
        name: name.parse().unwrap(),
    }
}

async fn read(file: &StoredFile, range: Option<std::ops::Range<u64>>) -> Vec<u8> {
    let parts: Vec<Bytes> = file
        .stream(range)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    parts.concat()
}

/// All files below a folder, by their path in it.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        for entry in std::fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// Cleaning up after a dropped upload happens in the background.
async fn until_no_files(folder: &Path) {
    tokio::time::timeout(Duration::from_secs(10), async {
        while !files(folder).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_source_comes_back_as_it_was_stored() {
    let (folder, store) = open().await;
    let bytes: Vec<u8> = (0..3 * MIB + 17).map(|i| i.to_le_bytes()[1]).collect();
    let stored = store.put_source(parts(&bytes), u64::MAX).await.unwrap();
    assert_eq!(stored.size, bytes.len() as u64);
    assert_eq!(stored.sha256, sha256(&bytes));
    assert!(store.has_source(&stored.sha256).await.unwrap());

    let source = store.source(&stored.sha256).await.unwrap();
    assert_eq!(source.size(), bytes.len() as u64);
    assert!(source.etag().is_some_and(|tag| !tag.contains('"')));
    assert_eq!(read(&source, None).await, bytes);
    assert_eq!(read(&source, Some(5..5)).await, b"");
    assert_eq!(
        read(&source, Some(1_000_000..1_300_000)).await,
        bytes[1_000_000..1_300_000]
    );
    let digest = stored.sha256.as_str();
    assert_eq!(
        files(folder.path()),
        [format!("results/sources/{}/{digest}", &digest[..2])]
    );
}

#[tokio::test]
async fn an_empty_source_is_a_source() {
    let (_folder, store) = open().await;
    let stored = store.put_source(parts(b""), 10).await.unwrap();
    let source = store.source(&stored.sha256).await.unwrap();
    assert_eq!(source.size(), 0);
    assert_eq!(read(&source, None).await, b"");
}

#[tokio::test]
async fn the_same_source_sent_many_times_at_once_is_one_source() {
    let (folder, store) = open().await;
    let bytes = vec![7; 2 * MIB];
    let uploads = (0..8).map(|_| store.put_source(parts(&bytes), u64::MAX));
    let stored = futures_util::future::try_join_all(uploads).await.unwrap();
    assert!(stored.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(files(folder.path()).len(), 1);
    let source = store.source(&stored[0].sha256).await.unwrap();
    assert_eq!(read(&source, None).await, bytes);
}

#[tokio::test]
async fn what_is_too_large_or_breaks_off_leaves_nothing() {
    let (folder, store) = open().await;
    let bytes = vec![1; 2 * MIB];
    assert!(matches!(
        store.put_source(parts(&bytes), 2 * MIB as u64 - 1).await,
        Err(ResultError::TooLarge { cap }) if cap == 2 * MIB as u64 - 1
    ));
    let error = store
        .put_source(broken(&bytes), u64::MAX)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the sender broke off: gone");
    until_no_files(folder.path()).await;
    assert!(matches!(
        store.source(&sha256(&bytes)).await,
        Err(ResultError::NotFound(_))
    ));
}

#[tokio::test]
async fn an_upload_that_is_dropped_half_way_leaves_nothing() {
    let (folder, store) = open().await;
    let endless = stream::repeat(Bytes::from(vec![0; MIB]))
        .take(5)
        .map(Ok::<Bytes, io::Error>)
        .chain(stream::pending());
    let upload = store.put_source(endless, u64::MAX);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), upload)
            .await
            .is_err()
    );
    until_no_files(folder.path()).await;
}

#[tokio::test]
async fn a_file_is_visible_only_when_it_is_what_was_announced() {
    let (folder, store) = open().await;
    let bytes = vec![3; MIB + 5];
    let name = file("foo-1~rc1^git+2-1.x86_64.rpm");

    let other = Expected {
        sha256: sha256(b"other"),
        ..expected(&bytes)
    };
    assert!(matches!(
        store.put_attempt_file(&name, other, parts(&bytes)).await,
        Err(ResultError::DigestMismatch { .. })
    ));
    for size in [MIB as u64, MIB as u64 + 6] {
        let wrong = Expected {
            size,
            ..expected(&bytes)
        };
        assert!(matches!(
            store.put_attempt_file(&name, wrong, parts(&bytes)).await,
            Err(ResultError::SizeMismatch { expected, .. }) if expected == size
        ));
    }
    let capped = Expected {
        cap: 10,
        ..expected(&bytes)
    };
    assert!(matches!(
        store.put_attempt_file(&name, capped, parts(&bytes)).await,
        Err(ResultError::TooLarge { cap: 10 })
    ));
    assert!(matches!(
        store
            .put_attempt_file(&name, expected(&bytes), broken(&bytes))
            .await,
        Err(ResultError::Input(_))
    ));
    assert_eq!(store.has_attempt_file(&name).await.unwrap(), None);
    assert!(store.attempt_file(&name).await.unwrap_err().is_not_found());
    until_no_files(folder.path()).await;

    store
        .put_attempt_file(&name, expected(&bytes), parts(&bytes))
        .await
        .unwrap();
    assert_eq!(
        store.has_attempt_file(&name).await.unwrap(),
        Some(bytes.len() as u64)
    );
    let stored = store.attempt_file(&name).await.unwrap();
    assert_eq!(read(&stored, None).await, bytes);
    assert_eq!(
        files(folder.path()),
        [format!(
            "results/attempts/{}/1/foo-1~rc1^git+2-1.x86_64.rpm",
            name.attempt
        )]
    );
}

#[tokio::test]
async fn a_complete_file_outlives_a_failed_repetition() {
    let (_folder, store) = open().await;
    let name = file("foo.rpm");
    store
        .put_attempt_file(&name, expected(b"good"), parts(b"good"))
        .await
        .unwrap();
    let failed = store
        .put_attempt_file(&name, expected(b"good"), broken(b"go"))
        .await;
    assert!(failed.is_err());
    let stored = store.attempt_file(&name).await.unwrap();
    assert_eq!(read(&stored, None).await, b"good");
}

#[tokio::test]
async fn deleting_an_attempt_takes_its_files_and_log_and_nothing_else() {
    let (folder, store) = open().await;
    let (gone, kept) = (file("a.rpm"), file("b.rpm"));
    for name in [&gone, &kept] {
        store
            .put_attempt_file(name, expected(b"x"), parts(b"x"))
            .await
            .unwrap();
        store
            .append_log(name.attempt, 0, Bytes::from_static(b"log"))
            .await
            .unwrap();
    }
    // What a write leaves that was cut off by a crash.
    let left = folder
        .path()
        .join(format!("results/logs/{}/0#1", gone.attempt));
    std::fs::write(left, "half").unwrap();
    store.delete_attempt(gone.attempt).await.unwrap();
    store.delete_attempt(gone.attempt).await.unwrap();
    assert_eq!(store.has_attempt_file(&gone).await.unwrap(), None);
    assert_eq!(store.log_length(gone.attempt).await.unwrap(), 0);
    assert_eq!(store.log_length(kept.attempt).await.unwrap(), 3);
    assert_eq!(files(folder.path()).len(), 2);
}

#[tokio::test]
async fn sweeping_removes_old_leftovers_only() {
    let (folder, store) = open().await;
    assert_eq!(store.sweep_staging(Duration::ZERO).await.unwrap(), 0);
    let staging = folder.path().join("results/staging");
    std::fs::create_dir_all(&staging).unwrap();
    std::fs::write(staging.join("left#1"), "half").unwrap();
    std::fs::write(staging.join("complete"), "whole").unwrap();
    let hour = Duration::from_hours(1);
    assert_eq!(store.sweep_staging(hour).await.unwrap(), 0);
    assert_eq!(store.sweep_staging(Duration::ZERO).await.unwrap(), 2);
    assert_eq!(files(folder.path()).len(), 0);
}

#[tokio::test]
async fn only_an_absolute_directory_opens_a_store() {
    for bad in [
        "",
        "results",
        "/var/lib",
        "s3://bucket/x",
        "file://elsewhere/x",
        "file:///",
        "file:///proc/no/such",
    ] {
        let error = ResultStore::open(bad).await.unwrap_err();
        assert!(
            matches!(error, ResultError::BadUrl { .. }),
            "{bad}: {error}"
        );
    }
}
