//! Adds to a report, for each package that hit a limit, the limit to try next; and the one with which the task may be
//! released again where its project allows that (`auto_raise`).

use millrace_domain::LimitName;
use millrace_store::{Finished, Raise, StoreError, may_be_raised};

use crate::state::AppState;

/// Adds the suggestions. The outcome of the task gets the suggestion of the package that it was taken from.
pub async fn add(state: &AppState, report: &mut Finished) -> Result<(), StoreError> {
    report.outcome.suggested_limit = None;
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
    report.raise = raise(state, report);
    Ok(())
}

/// The limit with which the task may go on, where its project allows that.
fn raise(state: &AppState, report: &Finished) -> Option<Raise> {
    let limit = report.outcome.suggested_limit?;
    if !may_be_raised(report.outcome.kind) {
        return None;
    }
    let memory_mib = u32::try_from(limit.value).unwrap_or(u32::MAX);
    let class = || state.settings.memory_classes.of(memory_mib).name.clone();
    Some(Raise {
        limit,
        memory_class: (limit.name == LimitName::Memory).then(class),
    })
}
