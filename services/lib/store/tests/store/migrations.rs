use millrace_domain::OutcomeKind;
use millrace_store::TestDatabase;

use crate::harness::Harness;
use crate::pollers;

#[tokio::test]
async fn the_schema_goes_up_down_and_up_again_over_data() {
    let harness = Harness::new().await;
    let builder = harness.builder("b1").await;
    let (_, claimed) = harness.running(builder).await;
    harness.accept(claimed, OutcomeKind::Succeeded).await;
    harness.submit().await;
    harness.release().await;
    let poller = pollers::poller(&harness, "old").await;
    let begun = harness.submit().await;
    harness.submit().await;
    pollers::fetch(&harness, poller, 1).await;
    pollers::report(&harness, poller, &[pollers::started(begun)]).await;
    harness
        .store()
        .park("queue", "reason", "body")
        .await
        .unwrap();

    harness.store().migrate_down_to(12).await.unwrap();
    let put_back = "select state from tasks where build_id = 3";
    let state = harness.database.fetch_text(put_back).await;
    assert_eq!(state.as_deref(), Some("waiting"), "what a poller had");
    harness.store().migrate_down_to(0).await.unwrap();
    let left = "select string_agg(tablename, ' ') from pg_tables
        where schemaname = 'public' and tablename not like '\\_sqlx%'";
    assert_eq!(harness.database.fetch_text(left).await, None);

    harness.store().migrate().await.unwrap();
    assert_eq!(harness.store().counts().await.unwrap().waiting, 0);
}

#[tokio::test]
async fn several_frontends_may_migrate_at_once() {
    let database = TestDatabase::create_empty().await;
    let runs = (0..4).map(|_| {
        let store = database.store().clone();
        tokio::spawn(async move { store.migrate().await })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap().unwrap();
    }
}
