//! Registry of builders: enrolment, lookup by token, and the list for people.

use millrace_domain::{BuilderId, TokenHash};
use sqlx::FromRow;
use uuid::Uuid;

use crate::builders::blockers::{Blockers, DiskShort};
use crate::database::Store;
use crate::error::StoreError;
use crate::row::{RowOf, Time, int4};

/// What a builder sends when it enrols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBuilder {
    /// Identity that the builder keeps over restarts.
    pub id: BuilderId,
    /// Name for people; it need not be unique.
    pub name: String,
    /// Digest of the token that the builder is given with this enrolment.
    pub token_hash: TokenHash,
    /// Digest of its previous token; a known id can be enrolled again only with it.
    pub previous_token_hash: Option<TokenHash>,
    /// Id of the container engine, whose memory all its builders share.
    pub engine_id: String,
    /// Memory that all sandboxes on that engine may use together, in MiB.
    pub engine_budget_mib: u32,
    /// Architectures whose packages it can build.
    pub archs: Vec<String>,
    /// Memory that the builder offers to sandboxes, in MiB.
    pub memory_mib: u32,
    /// The most sandboxes that it runs at once.
    pub sandboxes: u32,
    /// Version of the builder program.
    pub version: String,
    /// Renews the token of a running process: drain state, faults and set-aside state stay as they are.
    pub renewal: bool,
}

/// Answer to an enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// The builder is registered under its new token.
    Enrolled {
        /// It had been set aside; the restart makes it available again.
        returns: bool,
    },
    /// The id belongs to a builder with another token.
    IdTaken,
}

/// A builder that was recognised by its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuilderRow {
    /// Identity of the builder.
    pub id: BuilderId,
    /// The builder's name, for people.
    pub name: String,
    /// Id of the container engine that it uses.
    pub engine_id: String,
}

/// A builder as API and CLI show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuilderView {
    /// Identity of the builder.
    pub id: BuilderId,
    /// The builder's name, for people.
    pub name: String,
    /// Id of the container engine that it uses.
    pub engine_id: String,
    /// Architectures whose packages it can build.
    pub archs: Vec<String>,
    /// Memory that the builder offers to sandboxes, in MiB.
    pub memory_mib: u32,
    /// The most sandboxes that it runs at once.
    pub sandboxes: u32,
    /// Memory that was not reserved at its last heartbeat, in MiB.
    pub free_mib: u32,
    /// Further sandboxes that it could start at its last heartbeat.
    pub free_sandboxes: u32,
    /// What kept it from taking work at its last heartbeat.
    pub blockers: Blockers,
    /// Version of the builder program.
    pub version: String,
    /// When it first enrolled.
    pub enrolled_at: Time,
    /// When its last heartbeat or enrolment arrived.
    pub last_seen_at: Time,
    /// Whether its last heartbeat is at most 25 s old, so that it can be given work.
    pub live: bool,
    /// It was asked to stop: it finishes its attempts and exits.
    pub stopping: bool,
    /// When an administrator drained it; none if it is not drained.
    pub drained_at: Option<Time>,
    /// When it was set aside for repeated faults; none if it is not set aside.
    pub set_aside_at: Option<Time>,
    /// The faults for which it was set aside, as a sentence.
    pub set_aside_reason: Option<String>,
}

#[derive(FromRow)]
struct BuilderColumns {
    id: Uuid,
    name: String,
    engine_id: String,
    archs: Vec<String>,
    memory_mib: i32,
    sandboxes: i32,
    free_mib: i32,
    free_sandboxes: i32,
    disk_free_mib: Option<i32>,
    disk_floor_mib: Option<i32>,
    missing_images: Vec<String>,
    version: String,
    enrolled_at: Time,
    last_seen_at: Time,
    live: bool,
    stopping: bool,
    drained_at: Option<Time>,
    set_aside_at: Option<Time>,
    set_aside_reason: Option<String>,
}

impl Store {
    /// Enrols a builder: registers a new identity, or gives a known one, shown by its previous token, a new token.
    pub async fn enrol_builder(&self, new: &NewBuilder) -> Result<Enrolment, StoreError> {
        self.within(async {
            let (enrolled, returned): (i64, i64) = sqlx::query_as(
                "with before as (
                    -- Whether this enrolment ends a set-aside state.
                    select id from builders where id = $1 and set_aside_at is not null and not $11
                ), enrolled as (
                    -- A known id is updated only if the previous token fits ($4); otherwise no row is returned.
                    insert into builders as b (id, name, token_hash, engine_id, archs, memory_mib, sandboxes,
                        free_mib, free_sandboxes, version)
                    values ($1, $2, $3, $5, $6, $7, $8, $7, $8, $9)
                    on conflict (id) do update set
                        name = excluded.name, token_hash = excluded.token_hash, engine_id = excluded.engine_id,
                        archs = excluded.archs, memory_mib = excluded.memory_mib, sandboxes = excluded.sandboxes,
                        free_mib = excluded.free_mib, free_sandboxes = excluded.free_sandboxes,
                        version = excluded.version, last_seen_at = now(), stopping = b.stopping and $11,
                        -- A builder passes its self-test before it enrols.
                        faults = case when $11 then b.faults else 0 end,
                        set_aside_at = case when $11 then b.set_aside_at end,
                        set_aside_reason = case when $11 then b.set_aside_reason end
                    where b.token_hash = $4
                    returning engine_id
                ), budgeted as (
                    -- The last enrolment decides the budget of the engine.
                    insert into engines (id, budget_mib) select engine_id, $10 from enrolled
                    on conflict (id) do update set budget_mib = excluded.budget_mib
                )
                select (select count(*) from enrolled), (select count(*) from before)",
            )
            .bind(new.id.0)
            .bind(&new.name)
            .bind(new.token_hash.as_bytes())
            .bind(new.previous_token_hash.as_ref().map(TokenHash::as_bytes))
            .bind(&new.engine_id)
            .bind(&new.archs)
            .bind(int4(new.memory_mib))
            .bind(int4(new.sandboxes))
            .bind(&new.version)
            .bind(int4(new.engine_budget_mib))
            .bind(new.renewal)
            .fetch_one(&self.pool)
            .await?;
            Ok(if enrolled == 1 { Enrolment::Enrolled { returns: returned == 1 } } else { Enrolment::IdTaken })
        })
        .await
    }

    /// The builder with this token.
    pub async fn builder_by_token(
        &self,
        hash: &TokenHash,
    ) -> Result<Option<BuilderRow>, StoreError> {
        self.within(async {
            let row: Option<(Uuid, String, String)> =
                sqlx::query_as("select id, name, engine_id from builders where token_hash = $1")
                    .bind(hash.as_bytes())
                    .fetch_optional(&self.pool)
                    .await?;
            Ok(row.map(|(id, name, engine_id)| BuilderRow {
                id: BuilderId(id),
                name,
                engine_id,
            }))
        })
        .await
    }

    /// All builders ordered by name, including those that are not alive.
    pub async fn list_builders(&self) -> Result<Vec<BuilderView>, StoreError> {
        self.within(async {
            let rows: Vec<BuilderColumns> = sqlx::query_as(
                "select id, name, engine_id, archs, memory_mib, sandboxes, free_mib, free_sandboxes,
                     disk_free_mib, disk_floor_mib, missing_images, version,
                     enrolled_at, last_seen_at, last_seen_at > now() - interval '25 seconds' as live,
                     stopping, drained_at, set_aside_at, set_aside_reason
                 from builders order by name, id",
            )
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(builder_view).collect()
        })
        .await
    }
}

fn builder_view(columns: BuilderColumns) -> Result<BuilderView, StoreError> {
    let row = RowOf::new("builders", columns.id);
    let disk = match (columns.disk_free_mib, columns.disk_floor_mib) {
        (Some(free), Some(floor)) => Some(DiskShort {
            free_mib: row.number(free)?,
            floor_mib: row.number(floor)?,
        }),
        (None, _) | (_, None) => None,
    };
    Ok(BuilderView {
        id: BuilderId(columns.id),
        name: columns.name,
        engine_id: columns.engine_id,
        archs: columns.archs,
        memory_mib: row.number(columns.memory_mib)?,
        sandboxes: row.number(columns.sandboxes)?,
        free_mib: row.number(columns.free_mib)?,
        free_sandboxes: row.number(columns.free_sandboxes)?,
        blockers: Blockers {
            disk,
            missing_images: columns.missing_images,
        },
        version: columns.version,
        enrolled_at: columns.enrolled_at,
        last_seen_at: columns.last_seen_at,
        live: columns.live,
        stopping: columns.stopping,
        drained_at: columns.drained_at,
        set_aside_at: columns.set_aside_at,
        set_aside_reason: columns.set_aside_reason,
    })
}
