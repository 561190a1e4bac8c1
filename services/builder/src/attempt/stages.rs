//! The supervisor's stages in the words of the domain.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use millrace_domain::{Stage, StageTime};
use millrace_supervisor::{Notice, Sample, StageMark};
use tokio::sync::mpsc;

use crate::attempt_registry::RunningAttempt;

/// A supervisor's mark; none when it is from a newer supervisor that knows more stages.
fn stage(mark: &StageMark) -> Option<(Stage, DateTime<Utc>)> {
    let start = DateTime::parse_from_rfc3339(&mark.start).ok()?;
    Some((mark.stage.parse().ok()?, start.with_timezone(&Utc)))
}

/// The stages of a report.
pub fn of_report(marks: &[StageMark]) -> Vec<StageTime> {
    marks
        .iter()
        .filter_map(|mark| {
            let (name, start) = stage(mark)?;
            Some(StageTime {
                name,
                start,
                seconds: mark.seconds,
            })
        })
        .collect()
}

/// How long each stage took, in seconds.
pub fn total_seconds(stages: &[StageTime]) -> BTreeMap<Stage, f64> {
    let mut total_seconds = BTreeMap::new();
    for stage in stages {
        *total_seconds.entry(stage.name).or_default() += stage.seconds.unwrap_or(0.0);
    }
    total_seconds
}

/// Notes stages while a sandbox tells of them; ends with the sandbox. Gives the last sample that it told.
pub async fn follow_notices(
    notices: Option<mpsc::Receiver<Notice>>,
    running: &RunningAttempt,
) -> Option<Sample> {
    let mut notices = notices?;
    let mut last = None;
    while let Some(notice) = notices.recv().await {
        match notice {
            Notice::Stage(mark) => {
                if let Some((name, start)) = stage(&mark) {
                    running.begin_stage(name, start);
                }
            }
            Notice::Sample(sample) => last = Some(sample),
            Notice::StepStarted { .. }
            | Notice::StepEnded(_)
            | Notice::Network { .. }
            | Notice::Report(_) => {}
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_stages_and_times_are_passed_over() {
        let mark = |stage: &str, start: &str| StageMark {
            stage: stage.to_owned(),
            start: start.to_owned(),
            seconds: Some(1.0),
            log_offset: 0,
        };
        let stages = of_report(&[
            mark("prep", "2026-01-01T00:00:00.000Z"),
            mark("dancing", "2026-01-01T00:00:00.000Z"),
            mark("build", "yesterday"),
        ]);
        assert_eq!(stages.len(), 1);
        assert_eq!(stages[0].name, Stage::Prep);
        let twice = [stages[0].clone(), stages[0].clone()];
        assert_eq!(total_seconds(&twice), BTreeMap::from([(Stage::Prep, 2.0)]));
    }
}
