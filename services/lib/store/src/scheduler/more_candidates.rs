//! Lines of which more is to be known than their first task.

use std::collections::HashSet;

use sqlx::FromRow;

use crate::database::Tx;
use crate::error::StoreError;
use crate::row::int4;
use crate::scheduler::fair_share::{Line, Rest, Waiting};
use crate::scheduler::types::ReleaseConfig;
use crate::scheduler::window::Window;

/// Of each of these lines the `$6` oldest tasks (`is_old`), and as many of its smallest need.
const READ_ON: &str = "
    select l.line, t.id, t.memory_mib::bigint, t.is_old,
        least(2, l.priority + floor(extract(epoch from now() - t.created_at)::float8 / $7))::smallint as class
    from unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[])
        with ordinality as l(arch, memory_class, priority, owner_id, fit_mib, depth, line)
    cross join lateral (
        (select t.id, t.memory_mib, t.created_at, true as is_old from tasks t
        where t.arch = l.arch and t.memory_class = l.memory_class and t.priority = l.priority
            and t.owner_id = l.owner_id and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.priority >= 0
            and t.id <> all($8::bigint[])
        order by t.id limit l.depth)
        union all
        (select t.id, t.memory_mib, t.created_at, false from tasks t
        where t.arch = l.arch and t.memory_class = l.memory_class and t.priority = l.priority
            and t.owner_id = l.owner_id and t.state = 'waiting' and t.current_attempt is null and not t.delayed and t.owner_id > 0
            and t.id <> all($8::bigint[]) and t.memory_mib <= l.fit_mib
        order by t.memory_mib, t.id limit l.depth)
    ) t";

#[derive(FromRow)]
struct Columns {
    line: i64,
    id: i64,
    memory_mib: i64,
    is_old: bool,
    class: i16,
}

/// Reads these lines, by their index, at least twice as far, but no further than their windows.
pub(crate) async fn read_on(
    tx: &mut Tx,
    lines: &mut [Line],
    short: &[usize],
    windows: &[Window],
    kept: &[i64],
    config: &ReleaseConfig,
) -> Result<(), StoreError> {
    let depths: Vec<i64> = short
        .iter()
        .map(|l| depth(lines, short, windows, *l))
        .collect();
    let window = |line: &usize| &windows[lines[*line].window];
    let rows: Vec<Columns> = sqlx::query_as(READ_ON)
        .bind(short.iter().map(|l| &*window(l).arch).collect::<Vec<_>>())
        .bind(
            short
                .iter()
                .map(|l| &*window(l).memory_class)
                .collect::<Vec<_>>(),
        )
        .bind(short.iter().map(|l| lines[*l].priority).collect::<Vec<_>>())
        .bind(short.iter().map(|l| lines[*l].owner_id).collect::<Vec<_>>())
        .bind(short.iter().map(|l| window(l).fit_mib).collect::<Vec<_>>())
        .bind(&depths)
        .bind(int4(config.age_seconds.max(1)))
        .bind(kept)
        .fetch_all(&mut **tx)
        .await?;
    let mut found: Vec<Vec<Columns>> = short.iter().map(|_| Vec::new()).collect();
    for row in rows {
        // Numbered from 1, in the order in which they were sent.
        if let Some(of_line) = usize::try_from(row.line - 1)
            .ok()
            .and_then(|n| found.get_mut(n))
        {
            of_line.push(row);
        }
    }
    for ((line, rows), depth) in short.iter().zip(found).zip(depths) {
        let Window { size, fit_mib, .. } = windows[lines[*line].window];
        let (tasks, rest) = known(&rows, depth, size, fit_mib);
        lines[*line].tasks = tasks;
        lines[*line].rest = rest;
    }
    Ok(())
}

fn depth(lines: &[Line], short: &[usize], windows: &[Window], line: usize) -> i64 {
    let Line { window, tasks, .. } = &lines[line];
    let of_window = short
        .iter()
        .filter(|l| lines[**l].window == *window)
        .count();
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX / 2);
    let share = windows[*window].size / number(of_window).max(1) + 1;
    (2 * number(tasks.len()))
        .max(share)
        .min(windows[*window].size)
}

/// What fits, oldest first.
fn known(rows: &[Columns], depth: i64, size: i64, fit_mib: i64) -> (Vec<Waiting>, Rest) {
    let count = |is_old: bool| rows.iter().filter(|row| row.is_old == is_old).count();
    let is_all = |count: usize| i64::try_from(count).is_ok_and(|count| count < depth);
    let rest = if is_all(count(true)) && rows.iter().all(|row| row.memory_mib <= fit_mib) {
        Rest::Nothing
    } else if is_all(count(false)) || depth >= size {
        Rest::OutOfReach
    } else {
        Rest::Unread
    };
    let fits = |row: &&Columns| row.memory_mib <= fit_mib;
    let mut seen = HashSet::new();
    let mut tasks: Vec<Waiting> = rows
        .iter()
        .filter(fits)
        // Of what was not read something may be older than the smallest ones.
        .filter(|row| row.is_old || rest != Rest::Unread)
        .filter(|row| seen.insert(row.id))
        .map(waiting)
        .collect();
    if tasks.is_empty() {
        tasks = rows.iter().filter(fits).map(waiting).collect();
    }
    tasks.sort_by_key(|task| task.id);
    (tasks, rest)
}

fn waiting(row: &Columns) -> Waiting {
    Waiting {
        id: row.id,
        memory_mib: row.memory_mib,
        class: row.class,
    }
}
