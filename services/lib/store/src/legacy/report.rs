//! What a poller reports of its builds, in one transaction. Only its own live attempts change; what is over, cancelled
//! or somebody else's is named and left alone.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use millrace_domain::{AttemptId, Outcome, OutcomeKind, PollerId, SourceUrl, TaskId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::legacy::finish::{finish, record_success};
use crate::row::int4;

/// What is said of one build. None leaves alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollerReport {
    /// The build's number, which may be anything.
    pub id: i64,
    /// Where its results are.
    pub results: Option<SourceUrl>,
    /// When it began, in seconds since 1970.
    pub started_on: Option<i64>,
    /// When it ended, in seconds since 1970.
    pub ended_on: Option<i64>,
    /// 1: success, 0: failure. Others are no end by themselves.
    pub status: Option<i64>,
}

/// What became of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reported {
    /// Builds that were changed, in the order of the report.
    pub updated: Vec<i64>,
    /// Numbers that no build has.
    pub unknown: Vec<i64>,
    /// Builds that are over, cancelled, or not the poller's.
    pub ignored: Vec<i64>,
    /// Whether the start of an ignored build was reported.
    pub fenced: bool,
    /// Tasks that ended with it.
    pub ended: Vec<TaskId>,
    /// Whether a success waits for its results to be seen.
    pub to_believe: bool,
}

/// A poller's live attempt.
#[derive(Debug, Clone, Copy)]
struct PollerAttempt {
    attempt: AttemptId,
    is_reported: bool,
}

impl Store {
    /// Takes a report; of several entries for one build the last one counts. `margin_seconds` is what a begun build gets
    /// beyond all its packages' times; with `believes`, a success counts at once.
    pub async fn report_of_poller(
        &self,
        poller: PollerId,
        entries: &[PollerReport],
        margin_seconds: u32,
        believes: bool,
    ) -> Result<Reported, StoreError> {
        let last = last_of_each(entries);
        let ids: Vec<i64> = last.iter().map(|entry| entry.id).collect();
        self.within(async {
            let mut tx = self.begin().await?;
            let known = lock_builds(&mut tx, &ids).await?;
            let held = lock_held(&mut tx, poller, &ids).await?;
            let mut reported = Reported::default();
            for entry in &last {
                let attempts: Vec<PollerAttempt> = held
                    .get(&entry.id)
                    .map(|all| {
                        all.iter()
                            .filter(|held| !held.is_reported)
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
                    end(&mut tx, entry, &attempts, believes, &mut reported).await?;
                }
            }
            tx.commit().await?;
            Ok(reported)
        })
        .await
    }

    /// Keeps what a poller said, for people.
    pub async fn note_report(
        &self,
        poller: PollerId,
        said: &serde_json::Value,
    ) -> Result<(), StoreError> {
        self.within(async {
            sqlx::query(
                "update legacy_pollers set reported_at = now(), reported = $2 where id = $1",
            )
            .bind(poller.0)
            .bind(Json(said))
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

/// Locks all tasks of these builds; which of the builds there are.
async fn lock_builds(tx: &mut Tx, ids: &[i64]) -> Result<BTreeSet<i64>, StoreError> {
    let rows: Vec<i64> = sqlx::query_scalar(
        "select t.build_id from tasks t where t.build_id = any($1) order by t.id for no key update",
    )
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn lock_held(
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
    let mut held: BTreeMap<i64, Vec<PollerAttempt>> = BTreeMap::new();
    for (build, attempt, is_reported) in rows {
        held.entry(build).or_default().push(PollerAttempt {
            attempt: AttemptId(attempt),
            is_reported,
        });
    }
    Ok(held)
}

/// From its start on, a build is the poller's for as long as all its packages may take, however often it polls.
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
            update tasks t set state = 'running', started_at = least($3, now())
            from attempts a
            where t.build_id = $1 and t.state = 'queued' and a.id = t.current_attempt and a.state = 'claimed'
                and a.poller_id = $2
            returning t.current_attempt
        ), size as (
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
    believes: bool,
    reported: &mut Reported,
) -> Result<(), StoreError> {
    let Some(outcome) = outcome_of(entry) else {
        return Ok(());
    };
    for held in attempts {
        if outcome.kind.is_success() && !believes {
            record_success(tx, held.attempt, entry).await?;
            reported.to_believe = true;
        } else {
            let ended_at = entry.ended_on.map(time);
            let ended = finish(tx, held.attempt, &outcome, ended_at).await?;
            reported.ended.extend(ended);
        }
    }
    Ok(())
}

/// How the build ended, if it did: `status` says it, and an end without a status is one that nobody can vouch for.
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

/// A poller's time. What lies outside of all calendars counts as its beginning.
pub(super) fn time(seconds: i64) -> DateTime<chrono::Utc> {
    let within = seconds.clamp(0, 253_402_300_799);
    DateTime::from_timestamp(within, 0).unwrap_or_default()
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
