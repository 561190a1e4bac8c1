use millrace_domain::{EarlierUse, OutcomeKind};

use crate::harness::{Harness, report};

/// Ends a build of a package with this use.
async fn used(harness: &Harness, source: &str, kind: OutcomeKind, peak: u64, wall: f64) {
    let builder = harness.builder("b1").await;
    let (_, claimed) = harness.running(builder).await;
    let mut report = report(claimed, kind);
    report.packages[0].source = source.parse().unwrap();
    report.packages[0].outcome.peak_memory_bytes = Some(peak);
    report.packages[0].outcome.wall_seconds = Some(wall);
    harness.store().accept(&report).await.unwrap();
}

#[tokio::test]
async fn the_use_of_earlier_versions_is_found_by_name_and_failures_do_not_count() {
    let harness = Harness::new().await;
    for peak in 1..=20 {
        let source = format!("foo-bar-1.{peak}-2.src.rpm");
        used(&harness, &source, OutcomeKind::Succeeded, peak, 10.0).await;
    }
    used(
        &harness,
        "foo-bar-2-1.src.rpm",
        OutcomeKind::BuildFailed,
        1000,
        1e6,
    )
    .await;
    used(
        &harness,
        "foo-3-1.src.rpm",
        OutcomeKind::Succeeded,
        2000,
        1e6,
    )
    .await;
    let builder = harness.builder("b1").await;
    let (_, claimed) = harness.running(builder).await;
    let earlier = async |name: &str| {
        let source = name.parse().unwrap();
        harness
            .store()
            .earlier_use(claimed.attempt, &source)
            .await
            .unwrap()
    };
    let found = earlier("foo-bar-9-9.src.rpm").await;
    assert_eq!(found.peak_memory_bytes, Some(19), "of 95 in 100 no more");
    assert_eq!(found.wall_seconds, Some(10.0));
    assert_eq!(
        earlier("foo-bar.src.rpm").await,
        found,
        "a name without version"
    );
    assert_eq!(earlier("new-1-1.src.rpm").await, EarlierUse::default());
}
