//! Availability of builders: drained by an administrator, or set aside for repeated faults of their own. Which builders can be
//! given work is defined by the database view `ready_builders` alone.

use millrace_domain::{BuilderId, Origin, Outcome, OutcomeKind};

use crate::database::Store;
use crate::database::Tx;
use crate::error::StoreError;
use crate::row::{Time, int4};

/// Whether a builder may take work, as the answer to its heartbeat tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Availability {
    /// An administrator drained it: it takes no work until it is undrained.
    pub drained: bool,
    /// When it was set aside; it returns after passing a self-test since then.
    pub set_aside_at: Option<Time>,
    /// This call ended its set-aside state.
    pub returns: bool,
}

/// Whether an outcome counts against the builder (`Some(true)`), in its favour (`Some(false)`), or neither way: attempts that
/// were cancelled, lost with their builder, or could not be fetched say nothing about it.
fn is_fault(kind: OutcomeKind) -> Option<bool> {
    match kind {
        OutcomeKind::SandboxFailed | OutcomeKind::BuilderDiskFull | OutcomeKind::InternalError => {
            Some(true)
        }
        kind => match kind.origin() {
            Origin::Nobody | Origin::Package => Some(false),
            Origin::Requester | Origin::Infrastructure => None,
        },
    }
}

/// Counts the end of an attempt for or against its builder, which is set aside after `most` faults in a row (0: never). Returns
/// whether this call set it aside. The attempt's row is locked before the builder's, as in a heartbeat.
pub(crate) async fn count_fault(
    tx: &mut Tx,
    builder: Option<BuilderId>,
    outcome: &Outcome,
    most: u32,
) -> Result<bool, StoreError> {
    let (Some(builder), Some(fault)) = (builder, is_fault(outcome.kind)) else {
        return Ok(false);
    };
    // A success of a builder without faults writes nothing.
    let set_aside: Option<bool> = sqlx::query_scalar(
        "update builders b set
             faults = case when $2 then b.faults + 1 else 0 end,
             set_aside_at = case when b.set_aside_at is null and $2 and $3 > 0 and b.faults + 1 >= $3
                 then now() else b.set_aside_at end,
             set_aside_reason = case when b.set_aside_at is null and $2 and $3 > 0 and b.faults + 1 >= $3
                 then (b.faults + 1) || ' attempts in a row ended in a fault of this builder, the last as ' || $4
                 else b.set_aside_reason end
         where b.id = $1 and ($2 or b.faults > 0)
         returning coalesce(b.set_aside_at = now() and $2, false)",
    )
    .bind(builder.0)
    .bind(fault)
    .bind(int4(most))
    .bind(format!("{}: {}", outcome.kind, outcome.message))
    .fetch_optional(&mut **tx)
    .await?;
    Ok(set_aside.unwrap_or(false))
}

impl Store {
    /// Drains a builder: it gets no more work and finishes its attempts. Returns whether the builder exists.
    pub async fn drain_builder(&self, builder: BuilderId) -> Result<bool, StoreError> {
        let sql = "update builders set drained_at = coalesce(drained_at, now()) where id = $1";
        self.set_drained(builder, sql).await
    }

    /// Ends the drain of a builder. Returns whether the builder exists.
    pub async fn undrain_builder(&self, builder: BuilderId) -> Result<bool, StoreError> {
        let sql = "update builders set drained_at = null where id = $1";
        self.set_drained(builder, sql).await
    }

    async fn set_drained(&self, builder: BuilderId, sql: &'static str) -> Result<bool, StoreError> {
        self.within(async {
            let changed = sqlx::query(sql).bind(builder.0).execute(&self.pool).await?;
            Ok(changed.rows_affected() == 1)
        })
        .await
    }

    /// A builder's availability, for the answer to its heartbeat. A builder that was set aside at `passed` and reports a passed
    /// self-test since then becomes available again.
    pub async fn availability(
        &self,
        builder: BuilderId,
        passed: Option<Time>,
    ) -> Result<Availability, StoreError> {
        self.within(async {
            let returns = match passed {
                Some(at) => self.end_set_aside(builder, at).await?,
                None => false,
            };
            let row: Option<(bool, Option<Time>)> = sqlx::query_as(
                "select drained_at is not null, set_aside_at from builders where id = $1",
            )
            .bind(builder.0)
            .fetch_optional(&self.pool)
            .await?;
            let (drained, set_aside_at) = row.unwrap_or_default();
            Ok(Availability {
                drained,
                set_aside_at,
                returns,
            })
        })
        .await
    }

    async fn end_set_aside(
        &self,
        builder: BuilderId,
        set_aside_at: Time,
    ) -> Result<bool, StoreError> {
        let taken = sqlx::query(
            "update builders set set_aside_at = null, set_aside_reason = null, faults = 0
             where id = $1 and set_aside_at = $2",
        )
        .bind(builder.0)
        .bind(set_aside_at)
        .execute(&self.pool)
        .await?;
        Ok(taken.rows_affected() == 1)
    }
}
