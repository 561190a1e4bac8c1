//! What builds refer to: the default account and project, and the operator's chroots.

use millrace_domain::{ChrootName, Name, ProjectId};
use sqlx::FromRow;

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
    /// Its name.
    pub name: ChrootName,
    /// Its architecture.
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

/// A project with its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRow {
    /// The project.
    pub id: ProjectId,
    /// The owner's account.
    pub account_id: i64,
    /// The owner's name.
    pub owner: Name,
    /// The project's name.
    pub name: Name,
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

impl Store {
    /// Makes the default account and project where they are missing, and those of the operator's chroots that are not
    /// there yet. One that is there stays as it is, disabled too; of an earlier release it gets its base.
    pub async fn ensure_defaults(
        &self,
        account: &Name,
        project: &Name,
        chroots: &[ChrootDef],
    ) -> Result<ProjectRow, StoreError> {
        self.within(async {
            let mut tx = self.begin().await?;
            let names: Vec<&str> = chroots.iter().map(|c| c.name.as_str()).collect();
            sqlx::query(
                "insert into chroots (name, arch, image, mock_root, base)
                 select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) as n(name)
                 order by n.name
                 on conflict (name) do update set base = excluded.base
                 where chroots.base is null and chroots.image = excluded.image",
            )
            .bind(&names)
            .bind(chroots.iter().map(|c| c.name.arch()).collect::<Vec<_>>())
            .bind(chroots.iter().map(|c| c.image.as_str()).collect::<Vec<_>>())
            .bind(chroots.iter().map(|c| c.mock_root.as_str()).collect::<Vec<_>>())
            .bind(chroots.iter().map(|c| c.base.as_deref()).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await?;
            let account_id: i64 = sqlx::query_scalar(
                "insert into accounts (name) values ($1)
                 on conflict (name) do update set name = excluded.name returning id",
            )
            .bind(account.as_str())
            .fetch_one(&mut *tx)
            .await?;
            let id: i64 = sqlx::query_scalar(
                "insert into projects (account_id, name, chroots)
                 values ($1, $2, (select coalesce(array_agg(c.name order by c.name), '{}') from chroots c where c.enabled))
                 on conflict (account_id, name) do update set chroots = excluded.chroots returning id",
            )
            .bind(account_id)
            .bind(project.as_str())
            .fetch_one(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(ProjectRow {
                id: ProjectId(id),
                account_id,
                owner: account.clone(),
                name: project.clone(),
            })
        })
        .await
    }

    /// All chroots by name, disabled ones too.
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

    /// A project by its owner and name.
    pub async fn find_project(
        &self,
        owner: &Name,
        name: &Name,
    ) -> Result<Option<ProjectRow>, StoreError> {
        self.within(async {
            let row: Option<(i64, i64)> = sqlx::query_as(
                "select p.id, p.account_id from projects p join accounts a on a.id = p.account_id
                 where a.name = $1 and p.name = $2",
            )
            .bind(owner.as_str())
            .bind(name.as_str())
            .fetch_optional(&self.pool)
            .await?;
            Ok(row.map(|(id, account_id)| ProjectRow {
                id: ProjectId(id),
                account_id,
                owner: owner.clone(),
                name: name.clone(),
            }))
        })
        .await
    }
}
