//! Many waiting tasks at once, and builders that finish what is released.

use millrace_domain::Priority;
use sqlx::AssertSqlSafe;

use crate::row::{int4, rank};
use crate::testing::TestDatabase;

/// Waiting tasks of owners, needs and priorities that follow each other in turn.
#[derive(Debug, Clone)]
pub struct Backlog<'a> {
    /// How many.
    pub tasks: u32,
    /// Of this many owners, named `owner-1` and so on.
    pub owners: u32,
    /// A chroot that exists.
    pub chroot: &'a str,
    /// Memory limits in MiB, each with its class.
    pub needs: &'a [(u32, &'a str)],
    /// Classes of priority.
    pub priorities: &'a [Priority],
}

const OWNERS: &str = "
    with missing as (
        insert into accounts (name) select 'owner-' || n from generate_series(1, $1) n
        on conflict do nothing returning id
    )
    insert into projects (account_id, name) select id, 'main' from missing";

const TASKS: &str = "
    with new as (
        select n, p.id as project_id, a.id as owner_id, c.name as chroot, c.arch,
            ($4::integer[])[1 + n / $2 % cardinality($4)] as memory_mib,
            ($5::text[])[1 + n / $2 % cardinality($4)] as memory_class,
            ($6::smallint[])[1 + n / $2 / cardinality($4) % cardinality($6)] as priority
        from generate_series($7::integer, $1 - 1) n
        join accounts a on a.name = 'owner-' || 1 + n % $2
        join projects p on p.account_id = a.id and p.name = 'main'
        join chroots c on c.name = $3
    ), numbered as (
        select row_number() over (order by n) as place, new.* from new
    ), build as (
        insert into builds (project_id, submitter_id, chroots, repositories, memory_mib, timeout_seconds, priority)
        select project_id, owner_id, array[chroot], '{}', memory_mib, 1800, priority from numbered order by place
        returning id
    ), placed as (
        select id, row_number() over (order by id) as place from build
    ), source as (
        insert into sources (build_id, position, name, url)
        select id, 0, 'hello-1-1.src.rpm', 'http://source/hello-1-1.src.rpm' from placed
    ), route as (
        insert into routes (arch, memory_class) select distinct arch, memory_class from numbered on conflict do nothing
    )
    insert into tasks (build_id, chroot, arch, memory_class, memory_mib, owner_id, priority)
    select b.id, n.chroot, n.arch, n.memory_class, n.memory_mib, n.owner_id, n.priority
    from numbered n join placed b on b.place = n.place order by b.id";

const FINISH: &str = r#"
    with over as (
        delete from outbox returning attempt_id
    ), attempt as (
        update attempts a set state = 'finished', outcome = '{"kind": "succeeded", "message": "it ended"}', ended_at = now()
        from over where a.id = over.attempt_id
    )
    update tasks t set state = 'succeeded', ended_at = now(), started_at = now() - interval '1 minute',
        outcome = '{"kind": "succeeded", "message": "it ended"}'
    from over where t.current_attempt = over.attempt_id"#;

#[expect(
    clippy::missing_panics_doc,
    reason = "everything here panics, as the type says"
)]
impl TestDatabase {
    /// Adds waiting tasks, as if they had been submitted one after the other.
    pub async fn add_backlog(&self, backlog: &Backlog<'_>) {
        let Backlog {
            tasks,
            owners,
            chroot,
            needs,
            priorities,
        } = backlog;
        self.add_owners(*owners).await;
        // One after the other, or the statement's time would run out.
        for first in (0..*tasks).step_by(10_000) {
            let end = (*tasks).min(first.saturating_add(10_000));
            let added = sqlx::query(AssertSqlSafe(TASKS))
                .bind(int4(end))
                .bind(int4(*owners))
                .bind(chroot)
                .bind(needs.iter().map(|need| int4(need.0)).collect::<Vec<_>>())
                .bind(needs.iter().map(|need| need.1).collect::<Vec<_>>())
                .bind(priorities.iter().map(|p| rank(*p)).collect::<Vec<_>>())
                .bind(int4(first))
                .execute(&self.store.pool)
                .await
                .unwrap_or_else(|error| panic!("tasks in {chroot}: {error}"));
            assert_eq!(added.rows_affected(), u64::from(end - first), "{chroot}");
        }
    }

    /// Adds owners named `owner-1` to this number, with a project `main` each, so far as they do not exist.
    pub async fn add_owners(&self, owners: u32) {
        let add = sqlx::query(AssertSqlSafe(OWNERS)).bind(int4(owners));
        if let Err(error) = add.execute(&self.store.pool).await {
            panic!("{owners} owners: {error}");
        }
    }

    /// Ends all that was released, as if builders had been very fast; says how much that was.
    pub async fn finish_released(&self) -> u64 {
        self.execute(FINISH).await
    }
}
