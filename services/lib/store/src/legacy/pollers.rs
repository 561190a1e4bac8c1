//! Pollers of 2012 as rows: their names and secrets, which builds are routed to them, and their last list and report.
//!
//! A build goes as a whole either to one poller in execute mode or to the queue. That is decided when it is submitted. A poller
//! that stops polling loses its builds to the queue; nothing moves from the queue to a poller.

use millrace_domain::{ChrootName, Fence, Name, PollerId, PollerMode, TokenHash};
use sqlx::FromRow;
use sqlx::types::Json;

use crate::database::Store;
use crate::error::StoreError;
use crate::row::{RowOf, Time, int4};

/// A poller to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPoller {
    /// The poller's name, unique among those not removed.
    pub name: Name,
    /// Whether it only watches the list, or builds what it is given.
    pub mode: PollerMode,
    /// Digest of the secret token in its `/legacy/<token>/` address.
    pub token_hash: TokenHash,
    /// Digest of the password that it sends with reports.
    pub secret_hash: TokenHash,
    /// Only builds of these projects (`owner/name`) are routed to it; of any where it is empty.
    pub projects: Vec<String>,
    /// Only builds in these chroots alone are routed to it; in any where it is empty.
    pub chroots: Vec<ChrootName>,
    /// Percentage of the matching builds that are routed to it.
    pub share_percent: u32,
    /// Answer to a late report of a build that the poller has lost: ignored, or refused with 409.
    pub fence: Fence,
    /// Seconds without a GET after which the poller counts as stopped.
    pub silence_seconds: u32,
}

/// A poller as API and CLI show it.
#[derive(Debug, Clone, PartialEq)]
pub struct PollerView {
    /// Key of the poller's row.
    pub id: PollerId,
    /// The poller's name, unique among those not removed.
    pub name: Name,
    /// Whether it only watches the list, or builds what it is given.
    pub mode: PollerMode,
    /// Projects whose builds are routed to it.
    pub projects: Vec<String>,
    /// Chroots whose builds are routed to it.
    pub chroots: Vec<ChrootName>,
    /// Percentage of the matching builds that are routed to it.
    pub share_percent: u32,
    /// Answer to a late report of a build that the poller has lost: ignored, or refused with 409.
    pub fence: Fence,
    /// When it was added.
    pub created_at: Time,
    /// Whether builds are routed to it: it polled, or was added, within its time of silence.
    pub alive: bool,
    /// When it last fetched its list.
    pub fetched_at: Option<Time>,
    /// Numbers of the builds in its last list.
    pub fetched: Vec<i64>,
    /// When it last sent a report.
    pub reported_at: Option<Time>,
    /// Its last report, as it was understood.
    pub reported: Option<serde_json::Value>,
}

/// A poller that was recognised by its token or password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollerCaller {
    /// Key of the poller's row.
    pub id: PollerId,
    /// The poller's name, unique among those not removed.
    pub name: Name,
    /// Whether it only watches the list, or builds what it is given.
    pub mode: PollerMode,
    /// Answer to a late report of a build that the poller has lost: ignored, or refused with 409.
    pub fence: Fence,
    /// Digest of the password that it sends with reports.
    pub secret_hash: Vec<u8>,
}

#[derive(FromRow)]
struct PollerColumns {
    id: i64,
    name: String,
    mode: String,
    projects: Vec<String>,
    chroots: Vec<String>,
    share_percent: i32,
    fence: String,
    created_at: Time,
    alive: bool,
    fetched_at: Option<Time>,
    fetched: Option<Vec<i64>>,
    reported_at: Option<Time>,
    reported: Option<Json<serde_json::Value>>,
}

#[derive(FromRow)]
struct CallerColumns {
    id: i64,
    name: String,
    mode: String,
    fence: String,
    secret_hash: Vec<u8>,
}

impl Store {
    /// Adds a poller; false if the name is taken.
    pub async fn add_poller(&self, new: &NewPoller) -> Result<bool, StoreError> {
        self.within(async {
            let added = sqlx::query(
                "insert into legacy_pollers (name, mode, token_hash, secret_hash, projects, chroots, share_percent, fence, alive_until)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9 * interval '1 second')
                 on conflict (name) where removed_at is null do nothing",
            )
            .bind(new.name.as_str())
            .bind(new.mode.as_str())
            .bind(new.token_hash.as_bytes())
            .bind(new.secret_hash.as_bytes())
            .bind(&new.projects)
            .bind(new.chroots.iter().map(ChrootName::as_str).collect::<Vec<_>>())
            .bind(int4(new.share_percent))
            .bind(new.fence.as_str())
            .bind(int4(new.silence_seconds))
            .execute(&self.pool)
            .await?;
            Ok(added.rows_affected() == 1)
        })
        .await
    }

    /// All pollers ordered by name, without removed ones.
    pub async fn list_pollers(&self) -> Result<Vec<PollerView>, StoreError> {
        self.pollers(None).await
    }

    /// A poller by its name.
    pub async fn find_poller(&self, name: &Name) -> Result<Option<PollerView>, StoreError> {
        Ok(self.pollers(Some(name)).await?.pop())
    }

    async fn pollers(&self, name: Option<&Name>) -> Result<Vec<PollerView>, StoreError> {
        self.within(async {
            let rows: Vec<PollerColumns> = sqlx::query_as(
                "select id, name, mode, projects, chroots, share_percent, fence, created_at, alive_until > now() as alive,
                     fetched_at, fetched, reported_at, reported
                 from legacy_pollers where removed_at is null and ($1::text is null or name = $1) order by name",
            )
            .bind(name.map(Name::as_str))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(poller_view).collect()
        })
        .await
    }

    /// Replaces a poller's token and password; false if there is no such poller.
    pub async fn rotate_poller(
        &self,
        name: &Name,
        token_hash: &TokenHash,
        secret_hash: &TokenHash,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let rotated = sqlx::query(
                "update legacy_pollers set token_hash = $2, secret_hash = $3 where name = $1 and removed_at is null",
            )
            .bind(name.as_str())
            .bind(token_hash.as_bytes())
            .bind(secret_hash.as_bytes())
            .execute(&self.pool)
            .await?;
            Ok(rotated.rows_affected() == 1)
        })
        .await
    }

    /// Removes a poller; false if there is no such poller. Its builds go to the queue with the next sweep.
    pub async fn remove_poller(&self, name: &Name) -> Result<bool, StoreError> {
        self.within(async {
            let removed: i64 = sqlx::query_scalar(
                "with removed as (
                    update legacy_pollers set removed_at = now(), alive_until = now()
                    where name = $1 and removed_at is null returning id
                ), claimed as (
                    -- The poller's live attempts, locked in order of their keys as everywhere.
                    select id from attempts where state = 'claimed' and poller_id in (select id from removed)
                    order by id for no key update
                ), ended as (
                    -- The next sweep finds these leases expired and moves the builds.
                    update attempts a set lease_until = now() from claimed where a.id = claimed.id and a.state = 'claimed'
                )
                select count(*) from removed",
            )
            .bind(name.as_str())
            .fetch_one(&self.pool)
            .await?;
            Ok(removed == 1)
        })
        .await
    }

    /// The poller whose `/legacy/<token>/` address has this token.
    pub async fn poller_by_token(
        &self,
        token: &TokenHash,
    ) -> Result<Option<PollerCaller>, StoreError> {
        self.poller_where("token_hash = $1", token).await
    }

    /// The poller with this password.
    pub async fn poller_by_secret(
        &self,
        secret: &TokenHash,
    ) -> Result<Option<PollerCaller>, StoreError> {
        self.poller_where("secret_hash = $1", secret).await
    }

    async fn poller_where(
        &self,
        condition: &'static str,
        hash: &TokenHash,
    ) -> Result<Option<PollerCaller>, StoreError> {
        self.within(async {
            let sql = format!(
                "select id, name, mode, fence, secret_hash from legacy_pollers where {condition} and removed_at is null"
            );
            let row: Option<CallerColumns> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .bind(hash.as_bytes())
                .fetch_optional(&self.pool)
                .await?;
            row.map(caller).transpose()
        })
        .await
    }
}

fn caller(columns: CallerColumns) -> Result<PollerCaller, StoreError> {
    let row = RowOf::new("legacy_pollers", columns.id);
    Ok(PollerCaller {
        id: PollerId(columns.id),
        name: row.parse(&columns.name)?,
        mode: row.parse(&columns.mode)?,
        fence: row.parse(&columns.fence)?,
        secret_hash: columns.secret_hash,
    })
}

fn poller_view(columns: PollerColumns) -> Result<PollerView, StoreError> {
    let row = RowOf::new("legacy_pollers", columns.id);
    Ok(PollerView {
        id: PollerId(columns.id),
        name: row.parse(&columns.name)?,
        mode: row.parse(&columns.mode)?,
        projects: columns.projects,
        chroots: row.parse_all(&columns.chroots)?,
        share_percent: row.number(columns.share_percent)?,
        fence: row.parse(&columns.fence)?,
        created_at: columns.created_at,
        alive: columns.alive,
        fetched_at: columns.fetched_at,
        fetched: columns.fetched.unwrap_or_default(),
        reported_at: columns.reported_at,
        reported: columns.reported.map(|Json(report)| report),
    })
}
