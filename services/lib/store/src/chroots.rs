//! Chroots as rows: which ones the installation offers, and the state of each chroot's image on the engine of each builder.

use millrace_domain::{BuilderId, ChrootName};
use sqlx::FromRow;
use uuid::Uuid;

use crate::database::Store;
use crate::error::StoreError;
use crate::row::{RowOf, Time};

/// A chroot as the operator configures it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChrootDef {
    /// Its name, which also tells the architecture.
    pub name: ChrootName,
    /// The image with the initialised chroot.
    pub image: String,
    /// The name of mock's configuration inside the image.
    pub mock_root: ChrootName,
    /// The image that builders bake it from; none when the image is made elsewhere.
    pub base: Option<String>,
}

/// A chroot as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChrootRow {
    /// The chroot's name, such as `fedora-44-x86_64`; unique.
    pub name: ChrootName,
    /// The architecture, which is the last part of the name.
    pub arch: String,
    /// The image with the initialised chroot.
    pub image: String,
    /// The name of mock's configuration inside the image.
    pub mock_root: ChrootName,
    /// Whether new builds may name it.
    pub enabled: bool,
    /// The image that builders bake it from; none when the image is made elsewhere.
    pub base: Option<String>,
    /// When a fresh image was last asked for.
    pub refresh_asked_at: Option<Time>,
}

/// State of a chroot's image on the engine of one builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageStanding {
    /// The engine has the image, and it is fresh enough.
    Ready,
    /// The engine does not have the image and no bake has begun.
    Missing,
    /// A builder of the engine is baking the image now.
    Baking,
    /// The last bake failed; another follows after a delay.
    Failed,
}

/// What a builder reports about the image of one chroot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReport {
    /// Which chroot's image is reported.
    pub chroot: ChrootName,
    /// Present, missing, being baked, or failed.
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

/// An [`ImageReport`] together with the builder that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageView {
    /// The builder that reported.
    pub builder_id: BuilderId,
    /// That builder's name, for people.
    pub builder: String,
    /// What the builder last reported.
    pub report: ImageReport,
}

/// A chroot whose image a builder has to have on its engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedImage {
    /// The chroot, with the names of its image and of the base to bake it from.
    pub chroot: ChrootRow,
    /// How long ago a fresh image was asked for, in milliseconds.
    pub refresh_asked_ms_ago: Option<u64>,
}

/// Answer to [`Store::add_chroot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChrootAdded {
    /// The chroot was stored.
    Added,
    /// A chroot of this name exists already, with the same properties or with others.
    NameTaken,
    /// Another chroot uses this image.
    ImageTaken,
    /// The installation has as many chroots as the setting allows.
    Full,
}

#[derive(FromRow)]
pub(crate) struct ChrootColumns {
    pub(crate) name: String,
    pub(crate) arch: String,
    pub(crate) image: String,
    pub(crate) mock_root: String,
    pub(crate) enabled: bool,
    pub(crate) base: Option<String>,
    pub(crate) refresh_asked_at: Option<Time>,
}

impl TryFrom<ChrootColumns> for ChrootRow {
    type Error = StoreError;

    fn try_from(columns: ChrootColumns) -> Result<Self, StoreError> {
        let row = RowOf::new("chroots", &columns.name);
        Ok(Self {
            name: row.parse(&columns.name)?,
            mock_root: row.parse(&columns.mock_root)?,
            arch: columns.arch,
            image: columns.image,
            enabled: columns.enabled,
            base: columns.base,
            refresh_asked_at: columns.refresh_asked_at,
        })
    }
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

/// Inserts a chroot if its name and its image are unused and there are fewer than `$6` chroots. Two chroots with one image would
/// replace each other's bake for ever.
const ADD: &str = "
    with known as (
        -- Reads all of `chroots`, a table of some dozen rows, to tell the reason of a refusal.
        select count(*) as chroots, count(*) filter (where name = $1) as names, count(*) filter (where image = $3) as images
        from chroots
    ), added as (
        -- `on conflict` covers a concurrent insert of the same name.
        insert into chroots (name, arch, image, mock_root, base)
        select $1, $2, $3, $4, $5 from known where names = 0 and images = 0 and chroots < $6
        on conflict (name) do nothing returning name
    )
    select (select count(*) from added) as added, names, images from known";

impl Store {
    /// Adds a chroot, unless there are `most` chroots already.
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

    /// All chroots ordered by name, disabled ones included.
    pub async fn list_chroots(&self) -> Result<Vec<ChrootRow>, StoreError> {
        self.within(async {
            let rows: Vec<ChrootColumns> = sqlx::query_as(
                "select name, arch, image, mock_root, enabled, base, refresh_asked_at from chroots order by name",
            )
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(ChrootRow::try_from).collect()
        })
        .await
    }

    /// Requests a fresh bake on every engine; returns false if the chroot does not exist or is baked elsewhere.
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

    /// Allows or forbids new builds to name the chroot; returns whether the chroot exists.
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

    /// Chroots whose images a builder has to have: the enabled ones of its architectures, and disabled ones that accepted
    /// builds still need. At most `most`.
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

    /// Replaces what is stored of a builder's images by its newest reports; reports of unknown chroots are ignored.
    pub async fn record_images(
        &self,
        builder: BuilderId,
        reports: &[ImageReport],
    ) -> Result<(), StoreError> {
        self.within(async {
            let names: Vec<&str> = reports.iter().map(|image| image.chroot.as_str()).collect();
            sqlx::query(
                "with gone as (
                    -- Rows of chroots that the builder does not report any more; primary key (builder_id, chroot).
                    delete from chroot_images where builder_id = $1 and chroot <> all($2)
                )
                -- In order of the key, so that two reports of one builder cannot deadlock.
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
            .bind(reports.iter().map(|i| i.standing.as_str()).collect::<Vec<_>>())
            .bind(reports.iter().map(|i| i.digest.as_deref()).collect::<Vec<_>>())
            .bind(reports.iter().map(|i| i.baked_at).collect::<Vec<_>>())
            .bind(reports.iter().map(|i| i.since).collect::<Vec<_>>())
            .bind(reports.iter().map(|i| i.error.as_deref()).collect::<Vec<_>>())
            .bind(reports.iter().map(|i| i.next_try_at).collect::<Vec<_>>())
            .execute(&self.pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// The image reports of builders seen within the last 25 s, ordered by chroot and builder.
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
        report: ImageReport {
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
