//! Whose turn it is among what waits.

use std::collections::HashMap;

use millrace_domain::{AttemptId, BuildId, Limits, TaskId};
use sqlx::FromRow;

use crate::catalog::ChrootColumns;
use crate::picture::sources_of;
use crate::release::{ReleaseConfig, ReleasedTask};
use crate::row::{RowOf, int4};
use crate::store::Tx;
use crate::window::Window;
use crate::{SourceView, StoreError};

#[derive(FromRow)]
struct TaskColumns {
    id: i64,
    build_id: i64,
    attempts_made: i32,
    memory_class: String,
    owner: String,
    project: String,
    repositories: Vec<String>,
    memory_mib: i32,
    timeout_seconds: i32,
    is_some_held: Option<bool>,
    #[sqlx(flatten)]
    chroot: ChrootColumns,
}

/// The tasks whose turn it is, and those named in `$8`, whose builder was kept free and has the room now.
///
/// What waits is a number of groups: one for each owner, class of priority and need. They are found one after the other
/// by index, each with its oldest task, so neither the length of the backlog matters nor tasks that no builder has room
/// for. Of all owners only as many are looked at more closely as tasks can be released, those with the best first task:
/// whatever the others have comes later. Two tasks of one owner count one after the other (`turn`), so that owners
/// alternate. A task locked by someone else is being cancelled: it is passed over.
const TURNS: &str = "
    with recursive w as (
        select * from unnest($1::text[], $2::text[], $3::bigint[], $6::bigint[], $7::bigint[])
            as w(arch, memory_class, size, room_mib, fit_mib)
    ), groups as (
        select w.*, g.*
        from w cross join lateral (
            select t.owner_id, t.priority, t.memory_mib, t.id, t.created_at from tasks t
            where t.arch = w.arch and t.memory_class = w.memory_class
                and t.state = 'waiting' and t.current_attempt is null and not t.delayed
            order by t.owner_id, t.priority, t.memory_mib, t.id limit 1
        ) g
        union all
        select g.arch, g.memory_class, g.size, g.room_mib, g.fit_mib, n.*
        from groups g cross join lateral (
            select t.owner_id, t.priority, t.memory_mib, t.id, t.created_at from tasks t
            where t.arch = g.arch and t.memory_class = g.memory_class
                and t.state = 'waiting' and t.current_attempt is null and not t.delayed
                and (t.owner_id, t.priority, t.memory_mib)
                    > (g.owner_id, g.priority, case when g.memory_mib < g.fit_mib then g.memory_mib else 2147483647 end)
            order by t.owner_id, t.priority, t.memory_mib, t.id limit 1
        ) n
    ), active as (
        select c.owner_id, c.tasks, coalesce(a.max_running, $5) as cap
        from (
            select t.owner_id, count(*) as tasks from tasks t
            where t.current_attempt is not null and t.state in ('waiting', 'queued', 'running')
            group by t.owner_id
        ) c join accounts a on a.id = c.owner_id
    ), heads as (
        select g.*, coalesce(a.tasks, 0) as active, coalesce(a.cap, $5) as cap,
            least(2, g.priority + floor(extract(epoch from now() - g.created_at)::float8 / $4)::integer) as class
        from groups g left join active a on a.owner_id = g.owner_id
        where g.memory_mib <= g.fit_mib
    ), firsts as (
        select h.*, first_value(h.class) over own as first_class, first_value(h.id) over own as first_id
        from heads h where h.active < h.cap
        window own as (partition by h.arch, h.memory_class, h.owner_id order by h.class desc, h.id)
    ), ranked as (
        select f.*, dense_rank() over (
            partition by f.arch, f.memory_class order by f.first_class desc, f.active, f.first_id) as rank
        from firsts f
    ), candidates as (
        select r.arch, r.memory_class, r.size, r.room_mib, r.owner_id, r.memory_mib, r.active, t.id,
            least(2, r.priority + floor(extract(epoch from now() - t.created_at)::float8 / $4)::integer) as class,
            coalesce(a.max_running, $5) as cap
        from ranked r join accounts a on a.id = r.owner_id
        cross join lateral (
            select t.id, t.created_at from tasks t
            where t.arch = r.arch and t.memory_class = r.memory_class and t.owner_id = r.owner_id
                and t.priority = r.priority and t.memory_mib = r.memory_mib
                and t.state = 'waiting' and t.current_attempt is null and not t.delayed
                and t.not_before <= now() and t.id <> all($8::bigint[])
            order by t.id limit r.size
        ) t
        where r.rank <= (select sum(size) from w)
    ), turns as (
        select c.*, row_number() over (partition by c.owner_id order by c.class desc, c.id) as turn from candidates c
    ), places as (
        select t.*, row_number() over line as place, sum(t.memory_mib) over line as used_mib
        from turns t where t.active + t.turn <= t.cap
        window line as (partition by t.arch, t.memory_class order by t.class desc, t.active + t.turn, t.id)
    ), chosen as (
        select id, place from places where place <= size and used_mib <= room_mib
        union all
        select k.id, 0 from unnest($8::bigint[]) as k(id)
    ), taken as (
        select t.*, chosen.place from chosen join tasks t on t.id = chosen.id
        where t.state = 'waiting' and t.current_attempt is null
        order by t.id
        for no key update of t skip locked
    )
    select t.id, t.build_id, t.attempts_made, t.memory_class, o.name as owner, p.name as project,
        b.repositories, b.memory_mib, b.timeout_seconds, c.name, c.arch, c.image, c.mock_root, c.enabled,
        (select bool_or(active + turn > cap) from turns) or (select bool_or(active >= cap) from heads)
            or (select bool_or(memory_mib > fit_mib) from groups) as is_some_held
    from taken t join builds b on b.id = t.build_id join projects p on p.id = b.project_id
        join accounts o on o.id = p.account_id join chroots c on c.name = t.chroot
    order by t.place, t.id";

/// Locks the tasks whose turn it is, those `kept` first; also says whether others wait for room, or for their owner's.
pub(crate) async fn take_tasks(
    tx: &mut Tx,
    windows: &[Window],
    kept: &[i64],
    config: &ReleaseConfig,
) -> Result<(Vec<ReleasedTask>, bool), StoreError> {
    let texts = |text: fn(&Window) -> &str| windows.iter().map(text).collect::<Vec<_>>();
    let numbers = |number: fn(&Window) -> i64| windows.iter().map(number).collect::<Vec<_>>();
    let rows: Vec<TaskColumns> = sqlx::query_as(TURNS)
        .bind(texts(|w| &w.arch))
        .bind(texts(|w| &w.memory_class))
        .bind(numbers(|w| w.size))
        .bind(int4(config.age_seconds.max(1)))
        .bind(int4(config.owner_running))
        .bind(numbers(|w| w.room_mib))
        .bind(numbers(|w| w.fit_mib))
        .bind(kept)
        .fetch_all(&mut **tx)
        .await?;
    let size: i64 = windows.iter().map(|window| window.size).sum();
    let is_full = i64::try_from(rows.len()).is_ok_and(|taken| taken >= size);
    // Where windows are open and nothing could be taken, all that waits is held by its owner's limit or its size.
    let more = is_full
        || rows
            .first()
            .is_none_or(|row| row.is_some_held.unwrap_or(false));
    let builds: Vec<i64> = rows.iter().map(|row| row.build_id).collect();
    let sources = sources_of(tx, &builds).await?;
    let tasks: Result<Vec<_>, _> = rows
        .into_iter()
        .map(|columns| released_task(columns, &sources))
        .collect();
    Ok((tasks?, more))
}

fn released_task(
    columns: TaskColumns,
    sources: &HashMap<BuildId, Vec<SourceView>>,
) -> Result<ReleasedTask, StoreError> {
    let row = RowOf::new("tasks", columns.id);
    let build_id = BuildId(columns.build_id);
    Ok(ReleasedTask {
        attempt_id: AttemptId::generate(),
        attempt_number: row.number(columns.attempts_made.saturating_add(1))?,
        task_id: TaskId(columns.id),
        build_id,
        owner: row.parse(&columns.owner)?,
        project: row.parse(&columns.project)?,
        chroot: columns.chroot.try_into()?,
        memory_class: columns.memory_class,
        sources: sources.get(&build_id).cloned().unwrap_or_default(),
        repositories: row.parse_all(&columns.repositories)?,
        limits: Limits {
            memory_mib: row.number(columns.memory_mib)?,
            timeout_seconds: row.number(columns.timeout_seconds)?,
        },
    })
}
