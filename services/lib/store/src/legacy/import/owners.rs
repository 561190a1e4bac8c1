//! Accounts and projects of another site: found or created under the numbers that they have there.

use std::collections::HashMap;

use millrace_domain::{ChrootName, Name, RepositoryUrl};

use crate::database::Tx;
use crate::error::StoreError;
use crate::legacy::import::types::ImportedProject;

/// Keys of the accounts and projects that this import has already resolved.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    accounts: HashMap<(i64, Option<Name>), i64>,
    projects: HashMap<i64, i64>,
}

impl Owners {
    /// Our key of the account that has this number there. Without a name it is the account that was imported under this number,
    /// or a new one called `user<ID>`.
    pub(crate) async fn account(
        &mut self,
        tx: &mut Tx,
        number: i64,
        name: Option<&Name>,
    ) -> Result<i64, StoreError> {
        let key = (number, name.cloned());
        if let Some(found) = self.accounts.get(&key) {
            return Ok(*found);
        }
        let made_up = format!("user{number}");
        let shown: Option<(i64, String, bool)> = sqlx::query_as(
            "select id, name, legacy_id is not null from accounts where coalesce(legacy_id, id) = $1",
        )
        .bind(number)
        .fetch_optional(&mut **tx)
        .await?;
        let wanted = name.map_or(made_up.as_str(), Name::as_str);
        let id = match shown {
            Some((id, known, _)) if known == wanted => id,
            Some((id, _, true)) if name.is_none() => id,
            Some((id, known, true)) if known == made_up && !exists(tx, wanted).await? => {
                sqlx::query("update accounts set name = $2 where id = $1")
                    .bind(id)
                    .bind(wanted)
                    .execute(&mut **tx)
                    .await?;
                id
            }
            Some((id, ..)) => {
                sqlx::query(
                    "update accounts set legacy_id = nextval('accounts_id_seq') where id = $1",
                )
                .bind(id)
                .execute(&mut **tx)
                .await?;
                upsert_account(tx, number, wanted).await?
            }
            None => upsert_account(tx, number, wanted).await?,
        };
        self.accounts.insert(key, id);
        Ok(id)
    }

    /// Our key of a project of the other site.
    pub(crate) async fn project(
        &mut self,
        tx: &mut Tx,
        project: &ImportedProject,
    ) -> Result<i64, StoreError> {
        let owner = self
            .account(tx, project.owner_id, project.owner.as_ref())
            .await?;
        if let Some(found) = self.projects.get(&project.id) {
            return Ok(*found);
        }
        sqlx::query(
            "update projects set legacy_id = nextval('projects_id_seq')
             where coalesce(legacy_id, id) = $1 and (account_id, name) is distinct from ($2, $3)",
        )
        .bind(project.id)
        .bind(owner)
        .bind(project.name.as_str())
        .execute(&mut **tx)
        .await?;
        let id = sqlx::query_scalar(
            "insert into projects as p (account_id, name, legacy_id, chroots, repositories, created_at)
             values ($2, $3, $1, $4, $5, coalesce($6, now()))
             on conflict (account_id, name) do update set legacy_id = excluded.legacy_id,
                 -- A project of our own keeps its chroots and repositories; one that was imported before is updated.
                 chroots = case when p.legacy_id is null then p.chroots else excluded.chroots end,
                 repositories = case when p.legacy_id is null then p.repositories else excluded.repositories end
             returning id",
        )
        .bind(project.id)
        .bind(owner)
        .bind(project.name.as_str())
        .bind(project.chroots.iter().map(ChrootName::as_str).collect::<Vec<_>>())
        .bind(project.repositories.iter().map(RepositoryUrl::as_str).collect::<Vec<_>>())
        .bind(project.created_at)
        .fetch_one(&mut **tx)
        .await?;
        self.projects.insert(project.id, id);
        Ok(id)
    }
}

/// Whether an account has this name.
async fn exists(tx: &mut Tx, name: &str) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar("select exists (select from accounts where name = $1)")
        .bind(name)
        .fetch_one(&mut **tx)
        .await?;
    Ok(found)
}

/// Creates the account or finds it by its name, and shows it under this number from now on.
async fn upsert_account(tx: &mut Tx, number: i64, name: &str) -> Result<i64, StoreError> {
    let id = sqlx::query_scalar(
        "insert into accounts (name, legacy_id) values ($2, $1)
         on conflict (name) do update set legacy_id = excluded.legacy_id returning id",
    )
    .bind(number)
    .bind(name)
    .fetch_one(&mut **tx)
    .await?;
    Ok(id)
}
