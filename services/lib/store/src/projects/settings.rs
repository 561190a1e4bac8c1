//! What a project has set.

use millrace_domain::Name;

use crate::database::Store;
use crate::error::StoreError;

/// A project's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectView {
    /// Its owner.
    pub owner: Name,
    /// Its name.
    pub name: Name,
    /// A task that hit a limit is released once more with a larger one.
    pub auto_raise: bool,
}

const SET: &str = "
    update projects set auto_raise = $3
    where name = $2 and account_id = (select id from accounts where name = $1) returning auto_raise";

const READ: &str = "
    select auto_raise from projects
    where name = $2 and account_id = (select id from accounts where name = $1) and $3::boolean is null";

impl Store {
    /// A project's settings, after those that are given were set.
    pub async fn project(
        &self,
        owner: &Name,
        name: &Name,
        auto_raise: Option<bool>,
    ) -> Result<Option<ProjectView>, StoreError> {
        self.within(async {
            let statement = match auto_raise {
                Some(_) => SET,
                None => READ,
            };
            let found: Option<bool> = sqlx::query_scalar(statement)
                .bind(owner.as_str())
                .bind(name.as_str())
                .bind(auto_raise)
                .fetch_optional(&self.pool)
                .await?;
            Ok(found.map(|auto_raise| ProjectView {
                owner: owner.clone(),
                name: name.clone(),
                auto_raise,
            }))
        })
        .await
    }
}
