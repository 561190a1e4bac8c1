//! Second read for owner queues that the fair-share selection has used up: reads them at least twice as deep, up to the
//! size of their release window.

use std::collections::HashSet;

use sqlx::FromRow;

use crate::database::Tx;
use crate::error::StoreError;
use crate::row::int4;
use crate::scheduler::fair_share::{Candidate, OwnerQueue, Remainder};
use crate::scheduler::index_conditions::{tasks_in_line, tasks_in_line_by_need};
use crate::scheduler::window::{ReleaseScope, Window};

/// Of each of these queues the `$6` oldest tasks (`is_old`), and as many of its smallest that fit in `$5` MiB. Takes no
/// locks.
const READ_MORE: &str = concat!(
    "
    -- Queues are numbered from 1 in the order of the arrays. Waiting raises a task by one class per $7 seconds.
    select l.line, t.id, t.memory_mib::bigint, t.is_old,
        least(2, l.priority + floor(extract(epoch from now() - t.created_at)::float8 / $7))::smallint as class
    from unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[])
        with ordinality as l(arch, memory_class, priority, owner_id, fit_mib, depth, line)
    cross join lateral (
        -- The oldest, by tasks_in_line. Tasks in $8 have a reservation and need no selection.
        (select t.id, t.memory_mib, t.created_at, true as is_old from tasks t
        where t.arch = l.arch and t.memory_class = l.memory_class and t.priority = l.priority
            and t.owner_id = l.owner_id and ",
    tasks_in_line!(),
    "
            and t.id <> all($8::bigint[])
        order by t.id limit l.depth)
        union all
        -- The smallest, by tasks_in_line_by_need: they find what fits behind many tasks that do not.
        (select t.id, t.memory_mib, t.created_at, false from tasks t
        where t.arch = l.arch and t.memory_class = l.memory_class and t.priority = l.priority
            and t.owner_id = l.owner_id and ",
    tasks_in_line_by_need!(),
    "
            and t.id <> all($8::bigint[]) and t.memory_mib <= l.fit_mib
        order by t.memory_mib, t.id limit l.depth)
    ) t"
);

#[derive(FromRow)]
struct Columns {
    #[sqlx(rename = "line")]
    queue: i64,
    id: i64,
    memory_mib: i64,
    is_old: bool,
    class: i16,
}

/// Reads the queues with these indexes further and replaces their tasks by what was found.
pub(crate) async fn read_more(
    tx: &mut Tx,
    queues: &mut [OwnerQueue],
    exhausted: &[usize],
    scope: &ReleaseScope<'_>,
) -> Result<(), StoreError> {
    let windows = scope.windows;
    let depths: Vec<i64> = exhausted
        .iter()
        .map(|index| depth(queues, exhausted, windows, *index))
        .collect();
    let asked = || exhausted.iter().map(|index| &queues[*index]);
    let window = |queue: &OwnerQueue| &windows[queue.window];
    let rows: Vec<Columns> = sqlx::query_as(READ_MORE)
        .bind(asked().map(|q| &*window(q).arch).collect::<Vec<_>>())
        .bind(
            asked()
                .map(|q| &*window(q).memory_class)
                .collect::<Vec<_>>(),
        )
        .bind(asked().map(|q| q.priority).collect::<Vec<_>>())
        .bind(asked().map(|q| q.owner_id).collect::<Vec<_>>())
        .bind(asked().map(|q| window(q).fit_mib).collect::<Vec<_>>())
        .bind(&depths)
        .bind(int4(scope.config.age_seconds.max(1)))
        .bind(scope.ready_ids())
        .fetch_all(&mut **tx)
        .await?;
    let mut by_queue: Vec<Vec<Columns>> = exhausted.iter().map(|_| Vec::new()).collect();
    for row in rows {
        // Queues are numbered from 1, in the order in which they were sent.
        if let Some(of_queue) = usize::try_from(row.queue - 1)
            .ok()
            .and_then(|n| by_queue.get_mut(n))
        {
            of_queue.push(row);
        }
    }
    for ((index, rows), depth) in exhausted.iter().zip(by_queue).zip(depths) {
        let queue = &mut queues[*index];
        let (tasks, remainder) = keep_fitting(&rows, depth, &windows[queue.window]);
        queue.tasks = tasks;
        queue.remainder = remainder;
    }
    Ok(())
}

/// How many tasks of a queue to read: twice as many as before, or its share of the window among the queues that are read
/// with it, but no more than the window takes.
fn depth(queues: &[OwnerQueue], exhausted: &[usize], windows: &[Window], index: usize) -> i64 {
    let OwnerQueue { window, tasks, .. } = &queues[index];
    let of_window = exhausted
        .iter()
        .filter(|other| queues[**other].window == *window)
        .count();
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX / 2);
    let share = windows[*window].size / number(of_window).max(1) + 1;
    (2 * number(tasks.len()))
        .max(share)
        .min(windows[*window].size)
}

/// Keeps the tasks that fit, oldest first, and says what else the queue has.
fn keep_fitting(rows: &[Columns], depth: i64, window: &Window) -> (Vec<Candidate>, Remainder) {
    let fits = |row: &&Columns| row.memory_mib <= window.fit_mib;
    let count = |is_old: bool| rows.iter().filter(|row| row.is_old == is_old).count();
    let is_all = |count: usize| i64::try_from(count).is_ok_and(|count| count < depth);
    let remainder = if is_all(count(true)) && rows.iter().all(|row| fits(&row)) {
        Remainder::Empty
    } else if is_all(count(false)) || depth >= window.size {
        Remainder::OutOfReach
    } else {
        Remainder::Unread
    };
    let mut seen = HashSet::new();
    let mut tasks: Vec<Candidate> = rows
        .iter()
        .filter(fits)
        // While the queue can be read further, a task that was not read may be older than the smallest ones.
        .filter(|row| row.is_old || remainder != Remainder::Unread)
        .filter(|row| seen.insert(row.id))
        .map(candidate)
        .collect();
    if tasks.is_empty() {
        tasks = rows.iter().filter(fits).map(candidate).collect();
    }
    tasks.sort_by_key(|task| task.id);
    (tasks, remainder)
}

fn candidate(row: &Columns) -> Candidate {
    Candidate {
        id: row.id,
        memory_mib: row.memory_mib,
        class: row.class,
    }
}
