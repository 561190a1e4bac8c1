//! Logs on a real directory: growing, read meanwhile, sealed.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use millrace_domain::AttemptId;
use millrace_results::{ResultError, ResultStore};
use proptest::prelude::*;
use tempfile::TempDir;

async fn open() -> (TempDir, ResultStore, AttemptId) {
    let folder = tempfile::tempdir().unwrap();
    let store = ResultStore::open(&format!("file://{}", folder.path().display()))
        .await
        .unwrap();
    (folder, store, AttemptId::generate())
}

async fn append(store: &ResultStore, attempt: AttemptId, offset: u64, text: &str) {
    store
        .append_log(attempt, offset, Bytes::copy_from_slice(text.as_bytes()))
        .await
        .unwrap();
}

async fn read(store: &ResultStore, attempt: AttemptId, from: u64, max: usize) -> (String, bool) {
    let part = store.read_log(attempt, from, max).await.unwrap();
    (String::from_utf8(part.bytes.to_vec()).unwrap(), part.sealed)
}

async fn whole(store: &ResultStore, attempt: AttemptId, from: u64) -> Vec<u8> {
    let parts: Vec<Bytes> = store.log_stream(attempt, from).try_collect().await.unwrap();
    parts.concat()
}

#[tokio::test]
async fn chunks_in_any_order_and_twice_make_one_log() {
    let (_folder, store, id) = open().await;
    append(&store, id, 6, "world\n").await;
    assert_eq!(store.log_length(id).await.unwrap(), 0);
    assert_eq!(read(&store, id, 0, 100).await, (String::new(), false));
    append(&store, id, 0, "hello ").await;
    append(&store, id, 0, "hello ").await;
    append(&store, id, 0, "hel").await;
    assert_eq!(store.log_length(id).await.unwrap(), 12);
    assert_eq!(read(&store, id, 0, 100).await.0, "hello world\n");
    assert_eq!(read(&store, id, 4, 4).await.0, "o wo");
    assert_eq!(read(&store, id, 8, 100).await.0, "rld\n");
    assert_eq!(read(&store, id, 12, 100).await, (String::new(), false));
}

#[tokio::test]
async fn a_longer_repetition_replaces_a_chunk() {
    let (_folder, store, id) = open().await;
    append(&store, id, 0, "one").await;
    append(&store, id, 0, "one two").await;
    append(&store, id, 3, " two three").await;
    assert_eq!(whole(&store, id, 0).await, b"one two three");
    assert_eq!(store.seal_log(id).await.unwrap(), 13);
    assert_eq!(whole(&store, id, 0).await, b"one two three");
}

#[tokio::test]
async fn a_sealed_log_is_one_object_and_takes_no_more() {
    let (folder, store, id) = open().await;
    append(&store, id, 0, "hello ").await;
    append(&store, id, 6, "world").await;
    assert_eq!(store.seal_log(id).await.unwrap(), 11);
    assert_eq!(store.seal_log(id).await.unwrap(), 11);
    assert_eq!(read(&store, id, 0, 100).await, ("hello world".into(), true));
    assert_eq!(read(&store, id, 9, 1).await, ("l".into(), true));
    assert_eq!(read(&store, id, 11, 9).await, (String::new(), true));
    assert_eq!(read(&store, id, u64::MAX, 9).await, (String::new(), true));
    let objects = std::fs::read_dir(folder.path().join(format!("logs/{id}")))
        .unwrap()
        .count();
    assert_eq!(objects, 1);

    append(&store, id, 6, "world").await;
    let late = store
        .append_log(id, 11, Bytes::from_static(b"!"))
        .await
        .unwrap_err();
    assert!(matches!(late, ResultError::Sealed { length: 11 }));
}

#[tokio::test]
async fn a_log_without_a_line_can_be_sealed() {
    let (_folder, store, id) = open().await;
    assert_eq!(store.seal_log(id).await.unwrap(), 0);
    assert_eq!(read(&store, id, 0, 10).await, (String::new(), true));
}

#[tokio::test]
async fn a_gap_is_named_and_offsets_after_it_stay_true() {
    let (_folder, store, id) = open().await;
    append(&store, id, 0, "begin\n").await;
    append(&store, id, 1_006, "end\n").await;
    append(&store, id, 1_015, "!").await;
    assert_eq!(read(&store, id, 0, 100).await.0, "begin\n");
    assert_eq!(store.seal_log(id).await.unwrap(), 1_016);
    let log = String::from_utf8(whole(&store, id, 0).await).unwrap();
    assert!(log.starts_with("begin\n[millrace: 1000 bytes of the log did not arrive]  "));
    assert_eq!(&log[1_005..], "\nend\n    \n!");
}

#[tokio::test]
async fn nonsense_offsets_are_refused() {
    let (_folder, store, id) = open().await;
    for offset in [1 << 40, u64::MAX] {
        assert!(matches!(
            store.append_log(id, offset, Bytes::from_static(b"x")).await,
            Err(ResultError::TooLarge { .. })
        ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_misses_nothing_while_the_log_grows_and_is_sealed_by_two() {
    for _ in 0..10 {
        let (_folder, store, id) = open().await;
        let text: Vec<String> = (0..200).map(|line| format!("line {line}\n")).collect();
        let expected = text.concat();
        let follower = tokio::spawn({
            let store = store.clone();
            async move {
                let mut seen = Vec::new();
                loop {
                    let part = store.read_log(id, seen.len() as u64, 37).await.unwrap();
                    if part.bytes.is_empty() && part.sealed {
                        return String::from_utf8(seen).unwrap();
                    }
                    seen.extend_from_slice(&part.bytes);
                }
            }
        });
        let mut offset = 0;
        for line in &text {
            append(&store, id, offset, line).await;
            offset += line.len() as u64;
        }
        let (one, two) = tokio::join!(store.seal_log(id), store.seal_log(id));
        assert_eq!((one.unwrap(), two.unwrap()), (offset, offset));
        let seen = tokio::time::timeout(Duration::from_secs(30), follower).await;
        assert_eq!(seen.unwrap().unwrap(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_chunks_of_a_text_read_back_as_the_text(
        text in prop::collection::vec(any::<u8>(), 1..2_000),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..12),
        from in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_folder, store, id) = open().await;
            // Some overlapping pieces, then two that surely cover everything.
            let half = text.len() / 2;
            let mut pieces: Vec<(usize, usize)> = cuts.iter()
                .map(|(a, b)| (a.index(text.len()), b.index(text.len())))
                .map(|(a, b)| (a.min(b), a.max(b)))
                .collect();
            pieces.extend([(half, text.len()), (0, half)]);
            for (start, end) in pieces {
                let bytes = Bytes::copy_from_slice(&text[start..end]);
                store.append_log(id, start as u64, bytes).await.unwrap();
            }
            let from = from.index(text.len());
            assert_eq!(whole(&store, id, from as u64).await, &text[from..]);
            assert_eq!(store.log_length(id).await.unwrap(), text.len() as u64);
            assert_eq!(store.seal_log(id).await.unwrap(), text.len() as u64);
            assert_eq!(whole(&store, id, from as u64).await, &text[from..]);
        });
    }
}
