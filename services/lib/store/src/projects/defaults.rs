//! What a new installation begins with: the default account and project, and the chroots of the operator's file.

use millrace_domain::{Name, ProjectId};

use crate::chroots::ChrootDef;
use crate::database::Store;
use crate::error::StoreError;

/// A project with its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRow {
    /// Key of the project's row; never changes.
    pub id: ProjectId,
    /// Key of the owner's row in `accounts`.
    pub account_id: i64,
    /// The owner's name, the first part of `owner/project`.
    pub owner: Name,
    /// The project's name, the second part of `owner/project`.
    pub name: Name,
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
