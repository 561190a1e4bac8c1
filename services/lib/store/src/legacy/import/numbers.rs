//! Numbers and chroots of another site: makes room for them before builds are imported.

use millrace_domain::ChrootName;

use crate::database::Tx;
use crate::error::StoreError;
use crate::legacy::import::types::ImportedBuild;

/// Adds the named chroots, disabled, where they are unknown, and moves our own sequences behind the numbers of the other site.
pub(crate) async fn reserve_numbers(
    tx: &mut Tx,
    builds: &[ImportedBuild],
) -> Result<(), StoreError> {
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
