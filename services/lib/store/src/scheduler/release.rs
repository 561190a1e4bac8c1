//! The release window: how much of what waits is handed to the broker, and whose turn it is. Only what is still here
//! can be cancelled, ordered and explained, so no more is released than live builders have room for, times a factor.
//!
//! Room is computed from the claims in the database, not from what builders said some seconds ago; which
//! builders are alive is told by their heartbeats. A route's row lock makes releases of that route take turns.

use std::collections::HashMap;

use sqlx::types::Json;
use uuid::Uuid;

use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::outbox::LEASE_SECONDS;
use crate::outbox::OutboxEntry;
use crate::row::int4;
use crate::scheduler::reservations::take_kept;
use crate::scheduler::routes::{ANY_WAITING, REQUEUE_DUE, lock_routes};
use crate::scheduler::select::take_tasks;
use crate::scheduler::types::{Release, ReleaseConfig, ReleasedTask};
use crate::scheduler::window::open_windows;

impl Store {
    /// Releases waiting tasks of each route as far as its window is open: an attempt and an outbox row each. The
    /// higher class of priority goes first, then the owner with the fewest tasks under way, then the oldest. `body`
    /// makes the message of the order, which the store does not understand.
    pub async fn release_tasks<F>(
        &self,
        config: &ReleaseConfig,
        mut body: F,
    ) -> Result<Release, StoreError>
    where
        F: FnMut(&ReleasedTask) -> serde_json::Value + Send,
    {
        self.within(async {
            // Mostly nothing waits: that is found out without a transaction.
            let (any, any_due): (bool, bool) =
                sqlx::query_as(ANY_WAITING).fetch_one(&self.pool).await?;
            if any_due {
                sqlx::query(REQUEUE_DUE).execute(&self.pool).await?;
            }
            if !any && !any_due {
                return Ok(Release::default());
            }
            let mut tx = self.begin().await?;
            let routes = lock_routes(&mut tx).await?;
            if routes.archs.is_empty() {
                // Another frontend releases them this very moment.
                return nothing(tx, true).await;
            }
            let kept = take_kept(&mut tx, &routes, config).await?;
            let (windows, mut held_back) = open_windows(&mut tx, &routes, config).await?;
            if windows.is_empty() && kept.is_empty() {
                return nothing(tx, held_back).await;
            }
            let (tasks, more) = take_tasks(&mut tx, &self.rota, &windows, &kept, config).await?;
            held_back |= more;
            if tasks.is_empty() {
                return nothing(tx, held_back).await;
            }
            let bodies = tasks.iter().map(&mut body).collect();
            let entries = offer(&mut tx, tasks, bodies).await?;
            tx.commit().await?;
            Ok(Release { entries, held_back })
        })
        .await
    }
}

/// Lets go of the routes before it returns: a transaction that is only dropped would hold them a moment longer, and the
/// next look would pass over them.
async fn nothing(tx: Tx, held_back: bool) -> Result<Release, StoreError> {
    tx.rollback().await?;
    Ok(Release {
        entries: Vec::new(),
        held_back,
    })
}

/// Makes attempts and outbox rows for locked tasks.
async fn offer(
    tx: &mut Tx,
    tasks: Vec<ReleasedTask>,
    bodies: Vec<serde_json::Value>,
) -> Result<Vec<OutboxEntry>, StoreError> {
    let rows: Vec<(i64, Uuid)> = sqlx::query_as(
        "with new as (
            select * from unnest($1::uuid[], $3::jsonb[], $5::integer[], $6::integer[]) with ordinality
                as n(attempt_id, body, timeout_seconds, disk_mib, turn)
        ), offered as (
            update tasks t set current_attempt = ($1::uuid[])[array_position($2::bigint[], t.id)],
                attempts_made = t.attempts_made + 1
            where t.id = any($2) and t.state = 'waiting' and t.current_attempt is null
            returning t.id, t.current_attempt, t.attempts_made, t.memory_mib, t.arch, t.memory_class
        ), made as (
            insert into attempts (id, task_id, number, memory_mib, timeout_seconds, disk_mib)
            select o.current_attempt, o.id, o.attempts_made, o.memory_mib, new.timeout_seconds, new.disk_mib
            from offered o join new on new.attempt_id = o.current_attempt
        )
        insert into outbox (attempt_id, task_id, arch, memory_class, body, free_at)
        select o.current_attempt, o.id, o.arch, o.memory_class, new.body, now() + $4 * interval '1 second'
        from offered o join new on new.attempt_id = o.current_attempt order by new.turn
        returning id, attempt_id",
    )
    .bind(tasks.iter().map(|t| t.attempt_id.0).collect::<Vec<_>>())
    .bind(tasks.iter().map(|t| t.task_id.0).collect::<Vec<_>>())
    .bind(bodies.iter().map(Json).collect::<Vec<_>>())
    .bind(LEASE_SECONDS)
    .bind(tasks.iter().map(|t| int4(t.limits.timeout_seconds)).collect::<Vec<_>>())
    .bind(tasks.iter().map(|t| t.disk_mib.map(int4)).collect::<Vec<_>>())
    .fetch_all(&mut **tx)
    .await?;
    if rows.len() != tasks.len() {
        let problem = format!(
            "{} of {} locked tasks could be offered",
            rows.len(),
            tasks.len()
        );
        return Err(StoreError::inconsistent(
            "tasks",
            "(release)".to_owned(),
            problem,
        ));
    }
    let ids: HashMap<Uuid, i64> = rows
        .into_iter()
        .map(|(id, attempt)| (attempt, id))
        .collect();
    let entry = |(task, body): (ReleasedTask, serde_json::Value)| OutboxEntry {
        // Every attempt has its row, or the counts above would differ.
        id: ids.get(&task.attempt_id.0).copied().unwrap_or_default(),
        attempt_id: task.attempt_id,
        task_id: task.task_id,
        arch: task.chroot.arch,
        memory_class: task.memory_class,
        body,
    };
    Ok(tasks.into_iter().zip(bodies).map(entry).collect())
}
