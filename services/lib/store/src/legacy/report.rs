//! Accepts the report of a poller in one transaction. Only the poller's own live attempts change; builds that have ended,
//! were cancelled or belong to another builder are named in the answer and left alone.

use std::collections::{BTreeMap, BTreeSet};

use millrace_domain::{AttemptId, Outcome, OutcomeKind, PollerId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::legacy::finish::{finish, record_success};
use crate::legacy::types::{PollerReport, Reported, time};
use crate::row::int4;

/// A poller's live attempt.
#[derive(Debug, Clone, Copy)]
struct PollerAttempt {
    id: AttemptId,
    /// Its success was reported and waits to be verified.
    is_reported: bool,
}

impl Store {
    /// Accepts a report; of several entries for one build the last one counts. `margin_seconds` is the lease of a started
    /// build beyond the sum of its packages' time limits. With `trusts_success` a success counts at once; otherwise the
    /// attempt waits until its results were verified.
    pub async fn accept_poller_report(
        &self,
        poller: PollerId,
        entries: &[PollerReport],
        margin_seconds: u32,
        trusts_success: bool,
    ) -> Result<Reported, StoreError> {
        let last = last_of_each(entries);
        let ids: Vec<i64> = last.iter().map(|entry| entry.id).collect();
        self.within(async {
            let mut tx = self.begin().await?;
            let known = lock_builds(&mut tx, &ids).await?;
            let attempts_of = lock_attempts(&mut tx, poller, &ids).await?;
            let mut reported = Reported::default();
            for entry in &last {
                let attempts: Vec<PollerAttempt> = attempts_of
                    .get(&entry.id)
                    .map(|all| {
                        all.iter()
                            .filter(|attempt| !attempt.is_reported)
                            .copied()
                            .collect()
                    })
                    .unwrap_or_default();
                if !known.contains(&entry.id) {
                    reported.unknown.push(entry.id);
                } else if attempts.is_empty() {
                    reported.ignored.push(entry.id);
                    reported.fenced |= entry.started_on.is_some();
                } else {
                    reported.updated.push(entry.id);
                    note_start(&mut tx, poller, entry, margin_seconds).await?;
                    end(&mut tx, entry, &attempts, trusts_success, &mut reported).await?;
                }
            }
            tx.commit().await?;
            Ok(reported)
        })
        .await
    }

    /// Stores a poller's last report, which `millrace poller lens` shows.
    pub async fn note_report(
        &self,
        poller: PollerId,
        report: &serde_json::Value,
    ) -> Result<(), StoreError> {
        self.within(async {
            sqlx::query(
                "update legacy_pollers set reported_at = now(), reported = $2 where id = $1",
            )
            .bind(poller.0)
            .bind(Json(report))
            .execute(&self.pool)
            .await?;
            Ok(())
        })
        .await
    }
}

/// The last entry of each build, in the order in which builds were first named.
fn last_of_each(entries: &[PollerReport]) -> Vec<&PollerReport> {
    let mut order = Vec::new();
    let mut last: BTreeMap<i64, &PollerReport> = BTreeMap::new();
    for entry in entries {
        if last.insert(entry.id, entry).is_none() {
            order.push(entry.id);
        }
    }
    order
        .iter()
        .filter_map(|id| last.get(id).copied())
        .collect()
}

/// Locks all tasks of these builds and returns the builds that exist.
async fn lock_builds(tx: &mut Tx, ids: &[i64]) -> Result<BTreeSet<i64>, StoreError> {
    let rows: Vec<i64> = sqlx::query_scalar(
        "select t.build_id from tasks t where t.build_id = any($1) order by t.id for no key update",
    )
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Locks the poller's live attempts of these builds, by build.
async fn lock_attempts(
    tx: &mut Tx,
    poller: PollerId,
    ids: &[i64],
) -> Result<BTreeMap<i64, Vec<PollerAttempt>>, StoreError> {
    let rows: Vec<(i64, Uuid, bool)> = sqlx::query_as(
        "select t.build_id, a.id, a.poller_report is not null
         from attempts a join tasks t on t.id = a.task_id and t.current_attempt = a.id
         where t.build_id = any($2) and a.state = 'claimed' and a.poller_id = $1
         order by a.id for no key update of a",
    )
    .bind(poller.0)
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?;
    let mut found: BTreeMap<i64, Vec<PollerAttempt>> = BTreeMap::new();
    for (build, attempt, is_reported) in rows {
        found.entry(build).or_default().push(PollerAttempt {
            id: AttemptId(attempt),
            is_reported,
        });
    }
    Ok(found)
}

/// Records the start of a build. From then on its lease lasts as long as all its packages may take, however often the poller
/// polls.
async fn note_start(
    tx: &mut Tx,
    poller: PollerId,
    entry: &PollerReport,
    margin_seconds: u32,
) -> Result<(), StoreError> {
    if let Some(results) = &entry.results {
        sqlx::query("update builds set results_url = $2 where id = $1")
            .bind(entry.id)
            .bind(results.as_str())
            .execute(&mut **tx)
            .await?;
    }
    let Some(started_on) = entry.started_on else {
        return Ok(());
    };
    sqlx::query(
        "with begun as (
            -- Tasks of the build that the poller has and has not started; locked by `lock_builds`.
            update tasks t set state = 'running', started_at = least($3, now())
            from attempts a
            where t.build_id = $1 and t.state = 'queued' and a.id = t.current_attempt and a.state = 'claimed'
                and a.poller_id = $2
            returning t.current_attempt
        ), size as (
            -- Packages × chroots × time limit + margin.
            select (select count(*) from sources s where s.build_id = b.id) * cardinality(b.chroots) * b.timeout_seconds
                + $4 as seconds
            from builds b where b.id = $1
        )
        update attempts a set phase = 'building', lease_until = now() + size.seconds * interval '1 second'
        from begun, size where a.id = begun.current_attempt and a.state = 'claimed'",
    )
    .bind(entry.id)
    .bind(poller.0)
    .bind(time(started_on))
    .bind(int4(margin_seconds))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn end(
    tx: &mut Tx,
    entry: &PollerReport,
    attempts: &[PollerAttempt],
    trusts_success: bool,
    reported: &mut Reported,
) -> Result<(), StoreError> {
    let Some(outcome) = outcome_of(entry) else {
        return Ok(());
    };
    for attempt in attempts {
        if outcome.kind.is_success() && !trusts_success {
            record_success(tx, attempt.id, entry).await?;
            reported.to_verify = true;
        } else {
            let ended_at = entry.ended_on.map(time);
            let ended = finish(tx, attempt.id, &outcome, ended_at).await?;
            reported.ended.extend(ended);
        }
    }
    Ok(())
}

/// Outcome of the build, if the entry ends it: by `status`, or by `ended_on` without a status, which counts as a failure.
fn outcome_of(entry: &PollerReport) -> Option<Outcome> {
    match (entry.status, entry.ended_on) {
        (Some(1), _) => Some(Outcome::new(
            OutcomeKind::Succeeded,
            "the poller reported success",
        )),
        (Some(0), _) => Some(Outcome::new(
            OutcomeKind::BuildFailed,
            "the poller reported a failure; its own logs, at the results' address, say more",
        )),
        (_, Some(_)) => Some(Outcome::new(
            OutcomeKind::BuildFailed,
            "unknown: the poller reported an end without a status",
        )),
        (_, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: i64, status: Option<i64>, ended_on: Option<i64>) -> PollerReport {
        PollerReport {
            id,
            ended_on,
            status,
            ..PollerReport::default()
        }
    }

    #[test]
    fn of_several_entries_the_last_one_counts_in_the_place_of_the_first() {
        let entries = [
            entry(2, Some(0), None),
            entry(1, None, None),
            entry(2, Some(1), None),
        ];
        let last = last_of_each(&entries);
        assert_eq!(last, [&entries[2], &entries[1]]);
    }

    #[test]
    fn a_status_or_an_end_ends_and_only_one_is_a_success() {
        let kind = |status, ended_on| outcome_of(&entry(1, status, ended_on)).map(|o| o.kind);
        assert_eq!(kind(Some(1), None), Some(OutcomeKind::Succeeded));
        assert_eq!(kind(Some(0), Some(7)), Some(OutcomeKind::BuildFailed));
        assert_eq!(kind(None, Some(7)), Some(OutcomeKind::BuildFailed));
        assert_eq!(kind(Some(5), Some(7)), Some(OutcomeKind::BuildFailed));
        assert_eq!(kind(Some(5), None), None);
        assert_eq!(kind(None, None), None);
    }
}
