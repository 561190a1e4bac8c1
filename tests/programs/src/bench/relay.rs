//! What a tick of the relay costs, however much waits: the look for what may be released, the release itself, and the
//! step that keeps builders free for large tasks. The floor of each is the same with 1,000 waiting tasks.

use std::time::{Duration, Instant};

use millrace_domain::{BuilderId, Priority, Token};
use millrace_store::{Backlog, ChrootDef, NewBuilder, ReleaseConfig, ReserveConfig, TestDatabase};
use serde_json::Value;

use crate::stats::{Row, median, percentile};

const CHROOT: &str = "fedora-44-x86_64";
const BACKLOGS: [u32; 3] = [1_000, 10_000, 100_000];
const OWNERS: [u32; 3] = [1, 100, 1_000];
/// Sandboxes that are free at each tick.
const WINDOWS: [u32; 3] = [0, 8, 200];
/// Ticks with statistics as they are after the tasks arrived, and as many after `ANALYZE`.
const TICKS: u32 = 200;
const NEEDS: [(u32, &str); 6] = [
    (2048, "2g"),
    (1024, "2g"),
    (4096, "4g"),
    (3000, "4g"),
    (8192, "8g"),
    (65536, "64g"),
];
const PRIORITIES: [Priority; 4] = [
    Priority::Normal,
    Priority::Normal,
    Priority::Background,
    Priority::High,
];

/// Runs it.
pub async fn measure() -> Vec<Row> {
    let mut rows = Vec::new();
    for owners in OWNERS {
        let mut floors = Vec::new();
        for tasks in BACKLOGS {
            let scene = Scene::set(tasks, owners).await;
            for (place, window) in WINDOWS.into_iter().enumerate() {
                let mut samples = scene.ticks(window).await;
                let (p50, p99) = (median(&mut samples), percentile(&mut samples, 0.99));
                if tasks == BACKLOGS[0] {
                    floors.push((p50, p99));
                    continue;
                }
                let name = |what| {
                    format!("(d) tick, {tasks} waiting, {owners} owners, room {window}, {what}")
                };
                let (floor50, floor99) = floors[place];
                if tasks == BACKLOGS[2] {
                    rows.push(Row::new(&name("p50"), p50, "ms").floor(floor50));
                }
                let row = Row::new(&name("p99"), p99, "ms").floor(floor99);
                rows.push(row.aim("<= 20 ms"));
            }
        }
    }
    rows
}

struct Scene {
    database: TestDatabase,
    backlog: Backlog<'static>,
}

impl Scene {
    /// The tasks arrive while plans made for an empty database are in use.
    async fn set(tasks: u32, owners: u32) -> Self {
        let database = TestDatabase::create().await;
        let name = "main".parse().unwrap();
        let chroot = ChrootDef {
            name: CHROOT.parse().unwrap(),
            image: "image".to_owned(),
            mock_root: CHROOT.parse().unwrap(),
            base: None,
        };
        let store = database.store();
        store
            .ensure_defaults(&name, &name, &[chroot])
            .await
            .unwrap();
        let backlog = Backlog {
            tasks: 1,
            owners,
            chroot: CHROOT,
            needs: &NEEDS,
            priorities: &PRIORITIES,
        };
        let scene = Self { database, backlog };
        scene.database.add_backlog(&scene.backlog).await;
        scene.offer(8).await;
        scene.tick().await;
        scene.database.finish_released().await;
        let all = Backlog {
            tasks,
            ..scene.backlog.clone()
        };
        scene.database.add_backlog(&all).await;
        scene
    }

    /// One builder with this many free sandboxes and room for all of them.
    async fn offer(&self, sandboxes: u32) {
        self.database
            .execute("update builders set last_seen_at = '-infinity'")
            .await;
        let builder = NewBuilder {
            id: BuilderId::generate(),
            name: format!("b{sandboxes}"),
            token_hash: Token::new(format!("token {sandboxes}")).hash(),
            previous_token_hash: None,
            engine_id: format!("engine {sandboxes}"),
            engine_budget_mib: 32_768 * sandboxes.max(1),
            archs: vec!["x86_64".to_owned()],
            memory_mib: 32_768 * sandboxes.max(1),
            sandboxes,
            version: "1".to_owned(),
            renewal: false,
        };
        self.database.store().enrol_builder(&builder).await.unwrap();
    }

    /// Milliseconds of each tick; in between what was released ends, and as much arrives.
    async fn ticks(&self, window: u32) -> Vec<f64> {
        self.offer(window).await;
        let mut samples = Vec::new();
        for tick in 0..2 * TICKS {
            if tick == TICKS {
                self.database.execute("analyze").await;
            }
            self.database
                .execute(
                    "update builders set last_seen_at = now() where last_seen_at > '-infinity'",
                )
                .await;
            samples.push(self.tick().await.as_secs_f64() * 1000.0);
            let ended = self.database.finish_released().await;
            let arrived = Backlog {
                tasks: u32::try_from(ended).unwrap(),
                ..self.backlog.clone()
            };
            self.database.add_backlog(&arrived).await;
        }
        samples
    }

    async fn tick(&self) -> Duration {
        let store = self.database.store();
        let owner_running = 100_000;
        let reserve = ReserveConfig {
            after_seconds: 300,
            owner_running,
        };
        let release = ReleaseConfig {
            owner_running,
            ..ReleaseConfig::default()
        };
        let begun = Instant::now();
        store.reserve(&reserve).await.unwrap();
        store
            .release_tasks(&release, |_| Value::Null)
            .await
            .unwrap();
        begun.elapsed()
    }
}
