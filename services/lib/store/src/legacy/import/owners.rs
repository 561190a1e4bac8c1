//! Accounts and projects of another site, found or made under the numbers that they have there.

use std::collections::HashMap;

use millrace_domain::{ChrootName, Name, RepositoryUrl};

use crate::database::Tx;
use crate::error::StoreError;
use crate::legacy::import::{ImportedBuild, ImportedProject};

/// What this import has found so far.
#[derive(Debug, Default)]
pub(super) struct Owners {
    accounts: HashMap<(i64, Option<Name>), i64>,
    projects: HashMap<i64, i64>,
}

/// Makes the chroots known, and has our own numbers begin after those of the other site.
pub(super) async fn make_room(tx: &mut Tx, builds: &[ImportedBuild]) -> Result<(), StoreError> {
    let mut chroots: Vec<&ChrootName> = builds
        .iter()
        .flat_map(|build| build.chroots.iter().chain(&build.project.chroots))
        .collect();
    chroots.sort_unstable();
    chroots.dedup();
    sqlx::query(
        "insert into chroots (name, arch, image, mock_root, enabled)
         select n.name, n.arch, '', n.name, false from unnest($1::text[], $2::text[]) as n(name, arch) order by n.name
         on conflict (name) do nothing",
    )
    .bind(chroots.iter().map(|c| c.as_str()).collect::<Vec<_>>())
    .bind(chroots.iter().map(|c| c.arch()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    let most = |number: fn(&ImportedBuild) -> i64| builds.iter().map(number).max().unwrap_or(1);
    sqlx::query(
        "select setval('builds_id_seq', greatest((select last_value from builds_id_seq), $1)),
            setval('accounts_id_seq', greatest((select last_value from accounts_id_seq),
                (select max(coalesce(legacy_id, id)) from accounts), $2)),
            setval('projects_id_seq', greatest((select last_value from projects_id_seq),
                (select max(coalesce(legacy_id, id)) from projects), $3))",
    )
    .bind(most(|build| build.id))
    .bind(most(|build| build.submitter_id.max(build.project.owner_id)))
    .bind(most(|build| build.project.id))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

impl Owners {
    /// Our key of the account that has this number there. Without a name it is the one that was imported under this number,
    /// or a new one, `user<ID>`.
    pub(super) async fn account(
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
                put_account(tx, number, wanted).await?
            }
            None => put_account(tx, number, wanted).await?,
        };
        self.accounts.insert(key, id);
        Ok(id)
    }

    /// Our key of a project of the other site.
    pub(super) async fn project(
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
                 -- Of a project of our own the other site knows nothing better.
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

async fn exists(tx: &mut Tx, name: &str) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar("select exists (select from accounts where name = $1)")
        .bind(name)
        .fetch_one(&mut **tx)
        .await?;
    Ok(found)
}

/// The account of this name, shown under this number from now on.
async fn put_account(tx: &mut Tx, number: i64, name: &str) -> Result<i64, StoreError> {
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
