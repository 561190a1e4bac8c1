//! The supervisor's stages in the words of the domain.

use chrono::{DateTime, Utc};
use millrace_domain::{Stage, StageTime};
use millrace_supervisor::{Notice, StageMark};
use tokio::sync::mpsc;

use crate::live::Live;

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

/// Notes stages while a sandbox tells of them; ends with the sandbox.
pub async fn follow(notices: Option<mpsc::Receiver<Notice>>, live: &Live) {
    let Some(mut notices) = notices else { return };
    while let Some(notice) = notices.recv().await {
        if let Notice::Stage(mark) = notice
            && let Some((name, start)) = stage(&mark)
        {
            live.begin_stage(name, start);
        }
    }
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
    }
}
