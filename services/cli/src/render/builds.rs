//! Builds as text: one in full, a list of them, the progress of a waiting command, and how a build ended.

use millrace_domain::StageTime;

use crate::model::{Attempt, AttemptLimits, Build, Builder, Task, Wait};
use crate::render::chroots;
use crate::render::outcome::{limit_text, push_lines};
use crate::render::text::{push_line, sanitize};

/// One build with its sources, tasks, attempts, packages and files.
pub fn details(build: &Build) -> String {
    let mut out = String::new();
    push_line(
        &mut out,
        &format!(
            "build {}  {}  {}/{}  submitted {}",
            build.id,
            build.state,
            build.owner,
            build.project,
            build.submitted_at.format("%Y-%m-%d %H:%M:%S UTC")
        ),
    );
    for source in &build.sources {
        push_line(&mut out, &format!("  source {}", source.name));
    }
    for task in &build.tasks {
        push_task(&mut out, task);
    }
    out
}

fn push_task(out: &mut String, task: &Task) {
    push_line(
        out,
        &format!("  task {}  {}  {}", task.id, task.chroot, task.state),
    );
    if let Some(wait) = &task.wait {
        push_line(out, &format!("    {}", wait_text(wait)));
    }
    if let Some(limit) = &task.raised_limit {
        let text = format!("    raised once after a hit limit: {}", limit_text(limit));
        push_line(out, &text);
    }
    if let Some(outcome) = &task.outcome {
        push_lines(out, outcome, "    ");
    }
    for attempt in &task.attempts {
        push_attempt(out, attempt);
    }
}

/// Why a task waits, its place among those that wait, and when it is expected to start.
fn wait_text(wait: &Wait) -> String {
    let place = wait
        .position
        .map_or_else(String::new, |place| format!(", place {place} in the line"));
    let start = wait.estimated_start.map_or_else(String::new, |time| {
        format!(", starts at about {}", time.format("%Y-%m-%d %H:%M:%S UTC"))
    });
    format!("{}{place}{start}", wait.message)
}

/// The wait reason of the first task that has one, in brackets.
fn first_wait(build: &Build) -> String {
    let wait = build.tasks.iter().find_map(|task| task.wait.as_ref());
    wait.map_or_else(String::new, |wait| format!("  ({})", wait_text(wait)))
}

fn push_attempt(out: &mut String, attempt: &Attempt) {
    let builder = attempt
        .builder
        .as_ref()
        .map(Builder::name)
        .or(attempt.poller.as_deref())
        .unwrap_or("no builder yet");
    let stage = attempt.stage.map_or(String::new(), |s| format!("  in {s}"));
    let reason = attempt
        .reason
        .as_deref()
        .map_or(String::new(), |r| format!("  ({r})"));
    push_line(
        out,
        &format!(
            "    attempt {}  {}  on {builder}{stage}{reason}  log {} bytes  {}",
            attempt.number, attempt.state, attempt.log_size, attempt.id
        ),
    );
    if let Some(limits) = &attempt.limits {
        push_line(out, &format!("      {}", limits_text(limits)));
    }
    if let Some(wait) = &attempt.waits_for {
        push_line(out, &format!("      {}", wait.message));
    }
    if let Some(outcome) = &attempt.outcome {
        push_line(out, &format!("      {}: {}", outcome.kind, outcome.message));
    }
    let stages: Vec<String> = attempt.stages.iter().map(stage_text).collect();
    if !stages.is_empty() {
        push_line(out, &format!("      {}", stages.join(", ")));
    }
    if let Some(text) = chroots::of_attempt(attempt) {
        push_line(out, &format!("      {text}"));
    }
    for package in &attempt.packages {
        push_line(
            out,
            &format!("      {}  {}", package.source, package.outcome.kind),
        );
        for file in &package.files {
            push_line(out, &format!("        {}  {} bytes", file.name, file.size));
        }
    }
}

/// A stage and how long it took; an ellipsis while it runs.
fn stage_text(stage: &StageTime) -> String {
    match stage.seconds {
        Some(seconds) => format!("{} {seconds:.1} s", stage.name),
        None => format!("{} …", stage.name),
    }
}

/// The limits that an attempt was given; the builder decides those that are left out.
fn limits_text(limits: &AttemptLimits) -> String {
    let time = limits
        .timeout_seconds
        .map_or_else(String::new, |seconds| format!(", time {seconds} s"));
    let disk = limits
        .disk_mib
        .map_or_else(String::new, |mib| format!(", disk {mib} MiB"));
    format!("limits: memory {} MiB{time}{disk}", limits.memory_mib)
}

/// One line per build: number, state, chroots, sources, and why it waits.
pub fn list(builds: &[Build]) -> String {
    let mut out = String::new();
    for build in builds {
        let sources: Vec<&str> = build.sources.iter().map(|s| s.name.as_str()).collect();
        let chroots: Vec<&str> = build.tasks.iter().map(|t| t.chroot.as_str()).collect();
        push_line(
            &mut out,
            &format!(
                "{:>8}  {:<9}  {}  {}{}",
                build.id,
                build.state,
                chroots.join(" "),
                sources.join(" "),
                first_wait(build)
            ),
        );
    }
    if builds.is_empty() {
        out.push_str("no builds\n");
    }
    out
}

/// Each task with its state, and with its stage while it runs; `with_waits` adds why it waits. One line without its end.
pub fn progress(build: &Build, with_waits: bool) -> String {
    let tasks: Vec<String> = build
        .tasks
        .iter()
        .map(|task| {
            let stage = task
                .latest_attempt()
                .and_then(|a| a.stage)
                .filter(|_| !task.state.is_terminal())
                .map(|stage| format!(" ({stage})"));
            let wait = task.wait.as_ref().filter(|_| with_waits);
            let remark = stage.or_else(|| wait.map(|wait| format!(" ({})", wait_text(wait))));
            format!(
                "{} {}{}",
                task.chroot,
                task.state,
                remark.unwrap_or_default()
            )
        })
        .collect();
    sanitize(&format!("build {}: {}", build.id, tasks.join(", ")))
}

/// How each task of an ended build ended.
pub fn summary(build: &Build) -> String {
    let mut out = String::new();
    for task in &build.tasks {
        push_line(&mut out, &format!("{}: {}", task.chroot, task.state));
        if let Some(outcome) = &task.outcome {
            push_lines(&mut out, outcome, "  ");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_waits_says_why_its_place_and_when_it_starts() {
        let wait = |position, estimated_start| Wait {
            message: "behind 3 tasks".to_owned(),
            position,
            estimated_start,
        };
        let start = chrono::DateTime::from_timestamp(0, 0);
        assert_eq!(
            wait_text(&wait(Some(4), start)),
            "behind 3 tasks, place 4 in the line, starts at about 1970-01-01 00:00:00 UTC"
        );
        assert_eq!(wait_text(&wait(None, None)), "behind 3 tasks");
    }
}
