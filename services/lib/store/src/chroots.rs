//! Chroots as data: which there are, and how their images are on the engines of builders.

use millrace_domain::{BuilderId, ChrootName};
use sqlx::FromRow;
use uuid::Uuid;

use crate::database::Store;
use crate::error::StoreError;
use crate::projects::defaults::{ChrootColumns, ChrootDef, ChrootRow};
use crate::row::{RowOf, Time};

/// How it stands with an image on a builder's engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageStanding {
    /// It is there and no bake is due.
    Ready,
    /// It is not there.
    Missing,
    /// It is being baked.
    Baking,
    /// The last bake failed.
    Failed,
}

/// What a builder says of the image of one chroot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReport {
    /// The chroot.
    pub chroot: ChrootName,
    /// How it stands with its image.
    pub standing: ImageStanding,
    /// The digest of the image that builds get; none when there is no image.
    pub digest: Option<String>,
    /// When that image was baked.
    pub baked_at: Option<Time>,
    /// Since when it is being baked, or when that failed.
    pub since: Option<Time>,
    /// Why the last bake failed.
    pub error: Option<String>,
    /// When it is tried again.
    pub next_try_at: Option<Time>,
}

/// The same with who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageView {
    /// The builder.
    pub builder_id: BuilderId,
    /// Its name.
    pub builder: String,
    /// What it says.
    pub told: ImageReport,
}

/// A chroot whose image a builder keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedImage {
    /// The chroot.
    pub chroot: ChrootRow,
    /// How long ago a fresh image was asked for, in milliseconds.
    pub refresh_asked_ms_ago: Option<u64>,
}

/// What became of a new chroot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChrootAdded {
    /// It is there.
    Added,
    /// There is one of this name, with other properties or the same.
    NameTaken,
    /// Another chroot has this image.
    ImageTaken,
    /// There are as many as there may be.
    Full,
}

#[derive(FromRow)]
struct ImageColumns {
    builder_id: Uuid,
    builder: String,
    chroot: String,
    state: String,
    digest: Option<String>,
    baked_at: Option<Time>,
    since: Option<Time>,
    error: Option<String>,
    next_try_at: Option<Time>,
}

#[derive(FromRow)]
struct WantedColumns {
    #[sqlx(flatten)]
    chroot: ChrootColumns,
    asked_ms_ago: Option<i64>,
}

impl ImageStanding {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Missing => "missing",
            Self::Baking => "baking",
            Self::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Ready, Self::Missing, Self::Baking, Self::Failed]
            .into_iter()
            .find(|standing| standing.as_str() == text)
    }
}

/// Adds one where name and image are free and there are fewer than `$6`. An image that two chroots were baked into would
/// be replaced for ever.
const ADD: &str = "
    with known as (
        select count(*) as chroots, count(*) filter (where name = $1) as names, count(*) filter (where image = $3) as images
        from chroots
    ), added as (
        insert into chroots (name, arch, image, mock_root, base)
        select $1, $2, $3, $4, $5 from known where names = 0 and images = 0 and chroots < $6
        on conflict (name) do nothing returning name
    )
    select (select count(*) from added) as added, names, images from known";

impl Store {
    /// Adds a chroot, of `most` at most.
    pub async fn add_chroot(&self, new: &ChrootDef, most: u32) -> Result<ChrootAdded, StoreError> {
        self.within(async {
            let (added, names, images): (i64, i64, i64) = sqlx::query_as(ADD)
                .bind(new.name.as_str())
                .bind(new.name.arch())
                .bind(&new.image)
                .bind(new.mock_root.as_str())
                .bind(&new.base)
                .bind(i64::from(most))
                .fetch_one(&self.pool)
                .await?;
            Ok(match (added, names, images) {
                (1, ..) => ChrootAdded::Added,
                (_, 0, 0) => ChrootAdded::Full,
                (_, 0, _) => ChrootAdded::ImageTaken,
                _ => ChrootAdded::NameTaken,
            })
        })
        .await
    }

    /// Asks for a fresh image on each engine. Says whether there is such a chroot and its images are baked here.
    pub async fn refresh_chroot(&self, name: &ChrootName) -> Result<bool, StoreError> {
        self.within(async {
            let sql =
                "update chroots set refresh_asked_at = now() where name = $1 and base is not null";
            let done = sqlx::query(sql)
                .bind(name.as_str())
                .execute(&self.pool)
                .await?;
            Ok(done.rows_affected() == 1)
        })
        .await
    }

    /// Lets new builds name it, or not. Says whether there is such a chroot.
    pub async fn enable_chroot(
        &self,
        name: &ChrootName,
        enabled: bool,
    ) -> Result<bool, StoreError> {
        self.within(async {
            let sql = "update chroots set enabled = $2 where name = $1";
            let asked = sqlx::query(sql).bind(name.as_str()).bind(enabled);
            Ok(asked.execute(&self.pool).await?.rows_affected() == 1)
        })
        .await
    }

    /// Chroots whose images a builder keeps: the enabled ones of its architectures, and disabled ones that accepted
    /// builds still need.
    pub async fn wanted_images(
        &self,
        builder: BuilderId,
        most: u32,
    ) -> Result<Vec<WantedImage>, StoreError> {
        self.within(async {
            let rows: Vec<WantedColumns> = sqlx::query_as(
                "select c.name, c.arch, c.image, c.mock_root, c.enabled, c.base, c.refresh_asked_at,
                     (extract(epoch from now() - c.refresh_asked_at) * 1000)::bigint as asked_ms_ago
                 from builders b join chroots c on c.arch = any(b.archs)
                 where b.id = $1 and (c.enabled or exists (
                     select from tasks t
                     where t.chroot = c.name and t.state in ('waiting', 'queued') and t.build_id > 0))
                 order by c.name limit $2",
            )
            .bind(builder.0)
            .bind(i64::from(most))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter()
                .map(|row| {
                    Ok(WantedImage {
                        chroot: row.chroot.try_into()?,
                        refresh_asked_ms_ago: row.asked_ms_ago.map(|ms| ms.max(0).unsigned_abs()),
                    })
                })
                .collect()
        })
        .await
    }

    /// Keeps what a builder says of all its images; what it says of unknown chroots is left out.
    pub async fn record_images(
        &self,
        builder: BuilderId,
        told: &[ImageReport],
    ) -> Result<(), StoreError> {
        self.within(async {
            let names: Vec<&str> = told.iter().map(|image| image.chroot.as_str()).collect();
            sqlx::query(
                "with gone as (
                    delete from chroot_images where builder_id = $1 and chroot <> all($2)
                )
                insert into chroot_images (builder_id, chroot, state, digest, baked_at, since, error, next_try_at)
                select $1, i.* from unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                    $7::text[], $8::timestamptz[]) as i(chroot, state, digest, baked_at, since, error, next_try_at)
                join chroots c on c.name = i.chroot order by i.chroot
                on conflict (builder_id, chroot) do update set state = excluded.state, digest = excluded.digest,
                    baked_at = excluded.baked_at, since = excluded.since, error = excluded.error,
                    next_try_at = excluded.next_try_at",
            )
            .bind(builder.0)
            .bind(&names)
            .bind(told.iter().map(|i| i.standing.as_str()).collect::<Vec<_>>())
            .bind(told.iter().map(|i| i.digest.as_deref()).collect::<Vec<_>>())
            .bind(told.iter().map(|i| i.baked_at).collect::<Vec<_>>())
            .bind(told.iter().map(|i| i.since).collect::<Vec<_>>())
            .bind(told.iter().map(|i| i.error.as_deref()).collect::<Vec<_>>())
            .bind(told.iter().map(|i| i.next_try_at).collect::<Vec<_>>())
            .execute(&self.pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// What live builders say of images, by chroot and builder.
    pub async fn list_images(&self) -> Result<Vec<ImageView>, StoreError> {
        self.within(async {
            let rows: Vec<ImageColumns> = sqlx::query_as(
                "select i.*, b.name as builder from chroot_images i join builders b on b.id = i.builder_id
                 where b.last_seen_at > now() - interval '25 seconds' order by i.chroot, b.name, b.id",
            )
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(image_view).collect()
        })
        .await
    }
}

fn image_view(columns: ImageColumns) -> Result<ImageView, StoreError> {
    let row = RowOf::new("chroot_images", &columns.chroot);
    let standing = ImageStanding::parse(&columns.state);
    Ok(ImageView {
        builder_id: BuilderId(columns.builder_id),
        builder: columns.builder,
        told: ImageReport {
            chroot: row.parse(&columns.chroot)?,
            standing: standing.ok_or_else(|| row.fault("no such state of an image"))?,
            digest: columns.digest,
            baked_at: columns.baked_at,
            since: columns.since,
            error: columns.error,
            next_try_at: columns.next_try_at,
        },
    })
}
