//! Settings of a project, which its owner can change.

use millrace_domain::Name;

use crate::database::Store;
use crate::error::StoreError;

/// A project's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectView {
    /// The owner's name, the first part of `owner/project`.
    pub owner: Name,
    /// The project's name, the second part of `owner/project`.
    pub name: Name,
    /// Whether a task that hit a limit is retried once with a larger one.
    pub auto_raise: bool,
}

const SET: &str = "
    update projects set auto_raise = $3
    where name = $2 and account_id = (select id from accounts where name = $1) returning auto_raise";

const READ: &str = "
    select auto_raise from projects
    where name = $2 and account_id = (select id from accounts where name = $1) and $3::boolean is null";

impl Store {
    /// Changes the given settings of a project and returns all its settings; none if the project does not exist.
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
