//! What must be true once everything has come to rest, read from the database, the result store, the spool and the
//! container engine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use millrace_tests::until_within;

use crate::environment::Environment;

/// Leases, offers and heartbeats are shorter in these tests.
const REST: Duration = Duration::from_mins(1);

/// Outcomes after which a task goes on.
macro_rules! infrastructure {
    () => {
        "('builder_lost', 'builder_disk_full', 'sandbox_failed', 'repository_unreachable', 'internal_error')"
    };
}

/// What is still under way; nothing after a while.
const UNRESTING: [(&str, &str); 4] = [
    (
        "a task is stuck",
        "select id, state from tasks where state not in ('succeeded', 'failed', 'cancelled')",
    ),
    (
        "an offer or a lease is left",
        "select id, state from attempts where state in ('offered', 'claimed')",
    ),
    (
        "the outbox is not empty",
        "select id, attempt_id from outbox",
    ),
    (
        "a builder's room is not free",
        "select name, free_mib, free_sandboxes from builders where free_mib <> memory_mib or free_sandboxes <> sandboxes",
    ),
];

/// What must never be.
const BROKEN: [(&str, &str); 6] = [
    ("a message was parked", "select reason from parked_messages"),
    (
        "a build has not one task for each chroot",
        "select b.id from builds b left join tasks t on t.build_id = b.id group by b.id
         having count(t.id) <> cardinality(b.chroots)",
    ),
    (
        "an outcome was not accepted once",
        concat!(
            "select t.id, t.state from tasks t where (select count(*) from attempts a where a.task_id = t.id
             and a.state = 'finished' and a.outcome->>'kind' not in ",
            infrastructure!(),
            ") not between case when t.state = 'cancelled' or t.outcome->>'kind' in ",
            infrastructure!(),
            " then 0 else 1 end and 1"
        ),
    ),
    (
        "a task's outcome is not that of its last attempt",
        "select t.id from tasks t join attempts a on a.task_id = t.id where t.state in ('succeeded', 'failed')
         and a.number = (select max(number) from attempts l where l.task_id = t.id)
         and (a.state <> 'finished' or a.outcome->>'kind' is distinct from t.outcome->>'kind')",
    ),
    (
        "a package of an attempt that does not count is in a result",
        concat!(
            "select r.attempt_id, r.name from result_files r join attempts a on a.id = r.attempt_id
             where r.name like '%.rpm' and a.state = 'finished' and a.outcome->>'kind' in ",
            infrastructure!()
        ),
    ),
    (
        "a success has no packages",
        "select t.id from tasks t join sources s on s.build_id = t.build_id and s.sha256 is not null
         where t.state = 'succeeded' and not exists (select from result_files r join attempts a on a.id = r.attempt_id
             where a.task_id = t.id and a.state = 'finished' and r.name like '%.rpm')",
    ),
];

impl Environment {
    /// Looks at everything after a case.
    pub async fn look(&self, case: &str) {
        let database = self.pipeline.shared_database();
        for (what, query) in UNRESTING {
            until_within(REST, &format!("{case}: not: {what}"), async || {
                self.rows(query).await.is_none().then_some(())
            })
            .await;
        }
        for (what, query) in BROKEN {
            assert_eq!(self.rows(query).await, None, "{case}: {what}");
        }
        self.pipeline.assert_nothing_left().await;
        let builds = database
            .fetch_text("select count(*)::text from builds")
            .await;
        assert_eq!(
            builds,
            Some(self.builds.len().to_string()),
            "{case}: builds that were answered for"
        );
        self.look_at_logs(case).await;
    }

    /// Each log is there to its counted end, and tells how the attempt that counts ended.
    async fn look_at_logs(&self, case: &str) {
        let query = "select a.id, a.log_size from attempts a join tasks t on t.id = a.task_id
            where a.state = 'finished' and a.log_size > 0";
        for row in self
            .rows(query)
            .await
            .iter()
            .flat_map(|rows| rows.as_array().unwrap())
        {
            let id = row["id"].as_str().unwrap();
            let folder = self.pipeline.results().join("logs").join(id);
            let sealed = std::fs::metadata(folder.join("log")).map(|file| file.len());
            let size = sealed
                .unwrap_or_else(|_| files_below(&folder).iter().map(|file| size_of(file)).sum());
            assert_eq!(row["log_size"], size, "{case}: bytes of the log of {id}");
        }
    }

    /// Has the janitor find that everything is old, and looks at what it leaves: the files that results name, no more.
    pub async fn look_after_the_janitor(&self) {
        let database = self.pipeline.shared_database();
        let results = self.pipeline.results();
        let yesterday = SystemTime::now() - Duration::from_hours(30);
        for file in files_below(&results.join("staging")) {
            std::fs::File::open(file)
                .unwrap()
                .set_modified(yesterday)
                .unwrap();
        }
        database
            .execute("update attempts set ended_at = ended_at - interval '30 hours'")
            .await;
        database
            .execute("update turns set begun_at = '-infinity'")
            .await;
        until_within(REST, "no upload is left half-way", async || {
            files_below(&results.join("staging"))
                .is_empty()
                .then_some(())
        })
        .await;
        until_within(
            REST,
            "the store holds the files of results, no more and no less",
            async || {
                let stored = below(&results.join("attempts"));
                (stored == self.named_files().await).then_some(())
            },
        )
        .await;
    }

    /// Files that the database names, as paths below `attempts`.
    async fn named_files(&self) -> BTreeSet<String> {
        let query = "select attempt_id || '/' || position || '/' || name || ' ' || size as file from result_files";
        let rows = self.rows(query).await;
        let rows = rows.iter().flat_map(|rows| rows.as_array().unwrap());
        rows.map(|row| row["file"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The rows of a query; none where there are none.
    async fn rows(&self, query: &str) -> Option<serde_json::Value> {
        let all = format!("select json_agg(rows)::text from ({query}) rows");
        let text = self.pipeline.shared_database().fetch_text(&all).await?;
        Some(serde_json::from_str(&text).unwrap())
    }
}

/// All files below a folder with their sizes, as paths from there.
fn below(folder: &Path) -> BTreeSet<String> {
    let files = files_below(folder);
    let name = |path: &PathBuf| {
        format!(
            "{} {}",
            path.strip_prefix(folder).unwrap().display(),
            size_of(path)
        )
    };
    files.iter().map(name).collect()
}

/// One that goes away meanwhile is empty.
fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
