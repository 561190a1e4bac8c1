//! Adds to a report which limit to try next, for each package that hit one.

use millrace_store::{Finished, StoreError};

use crate::state::AppState;

/// Adds the suggestions. The task's own outcome gets that of the package it was taken from.
pub async fn add(state: &AppState, report: &mut Finished) -> Result<(), StoreError> {
    for package in &mut report.packages {
        let Some(hit) = &package.outcome.limit else {
            continue;
        };
        let earlier = state
            .store
            .earlier_use(report.attempt_id, &package.source)
            .await?;
        let suggested = millrace_domain::suggest(hit, earlier, &state.settings.limits);
        package.outcome.suggested_limit = suggested;
        if report.outcome.kind == package.outcome.kind && report.outcome.suggested_limit.is_none() {
            report.outcome.suggested_limit = suggested;
        }
    }
    Ok(())
}
