use millrace_domain::OutcomeKind;
use millrace_store::TestDatabase;

use crate::house::House;
use crate::pollers;

#[tokio::test]
async fn the_schema_goes_up_down_and_up_again_over_data() {
    let house = House::new().await;
    let builder = house.builder("b1").await;
    let (_, claimed) = house.running(builder).await;
    house.accept(claimed, OutcomeKind::Succeeded).await;
    house.submit().await;
    house.release().await;
    let poller = pollers::poller(&house, "old").await;
    let begun = house.submit().await;
    house.submit().await;
    pollers::fetch(&house, poller, 1).await;
    pollers::report(&house, poller, &[pollers::started(begun)]).await;
    house.store().park("queue", "reason", "body").await.unwrap();

    house.store().migrate_down_to(12).await.unwrap();
    let put_back = "select state from tasks where build_id = 3";
    let state = house.database.fetch_text(put_back).await;
    assert_eq!(state.as_deref(), Some("waiting"), "what a poller had");
    house.store().migrate_down_to(0).await.unwrap();
    let left = "select string_agg(tablename, ' ') from pg_tables
        where schemaname = 'public' and tablename not like '\\_sqlx%'";
    assert_eq!(house.database.fetch_text(left).await, None);

    house.store().migrate().await.unwrap();
    assert_eq!(house.store().counts().await.unwrap().waiting, 0);
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
