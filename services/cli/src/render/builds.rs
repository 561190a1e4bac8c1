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
    use crate::testing::{attempt_json, build, build_json};
    use serde_json::json;

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

    /// A build of two tasks: one with all that an attempt can show, and one that waits.
    fn full() -> Build {
        let mut json = build_json("running", &[("a-1-x", "failed"), ("b-1-x", "waiting")]);
        let outcome = json!({"kind": "build_failed", "stage": "build", "message": "make failed"});
        json["tasks"][0]["outcome"] = outcome.clone();
        json["tasks"][0]["raised_limit"] = json!({"name": "memory", "value": 4096, "unit": "mib"});
        let mut attempt = attempt_json(1, "finished", Some("b1"));
        attempt["reason"] = json!("first try");
        attempt["stage"] = json!("upload");
        attempt["log_size"] = json!(1234);
        attempt["limits"] = json!({"memory_mib": 2048, "timeout_seconds": 60, "disk_mib": 9});
        attempt["waits_for"] = json!({"message": "the result store is full"});
        attempt["outcome"] = outcome.clone();
        attempt["stages"] = json!([
            {"name": "prep", "start": "2026-01-02T03:04:05Z", "seconds": 1.26},
            {"name": "build", "start": "2026-01-02T03:04:06Z", "seconds": null},
        ]);
        attempt["image_digest"] = json!("sha256:0123456789abcdef");
        let file = json!({"name": "a-1.rpm", "size": 77, "sha256": "00", "url": "x"});
        attempt["packages"] = json!([{"source": "a.src.rpm", "outcome": outcome, "files": [file]}]);
        json["tasks"][0]["attempts"] = json!([attempt, attempt_json(2, "offered", None)]);
        json["tasks"][1]["wait"] = json!({"message": "no builder has room", "position": 2});
        build(&json)
    }

    #[test]
    fn a_build_is_shown_with_its_tasks_attempts_packages_and_files() {
        assert_eq!(
            details(&full()),
            "\
build 7  running  main/main  submitted 2026-01-02 03:04:05 UTC
  source a-1-1.src.rpm
  task 1  a-1-x  failed
    raised once after a hit limit: memory 4096 MiB
    build_failed in build: make failed
    attempt 1  finished  on b1  in upload  (first try)  log 1234 bytes  a1
      limits: memory 2048 MiB, time 60 s, disk 9 MiB
      the result store is full
      build_failed: make failed
      prep 1.3 s, build …
      image sha256:0123456789ab
      a.src.rpm  build_failed
        a-1.rpm  77 bytes
    attempt 2  offered  on no builder yet  log 0 bytes  a2
  task 2  b-1-x  waiting
    no builder has room, place 2 in the line
"
        );
    }

    #[test]
    fn an_attempt_of_a_poller_is_on_the_poller() {
        let mut json = build_json("running", &[("a-1-x", "running")]);
        let mut attempt = attempt_json(1, "claimed", None);
        attempt["poller"] = json!("p1");
        json["tasks"][0]["attempts"] = json!([attempt]);
        let text = details(&build(&json));
        assert!(text.contains("attempt 1  claimed  on p1  log"), "{text}");
    }

    #[test]
    fn a_list_has_a_line_per_build_with_the_first_wait_reason() {
        assert_eq!(
            list(&[
                full(),
                build(&build_json("succeeded", &[("a-1-x", "succeeded")]))
            ]),
            "       7  running    a-1-x b-1-x  a-1-1.src.rpm  (no builder has room, place 2 in the line)\n       \
             7  succeeded  a-1-x  a-1-1.src.rpm\n"
        );
        assert_eq!(list(&[]), "no builds\n");
    }

    #[test]
    fn the_summary_of_an_ended_build_has_each_task_with_its_outcome() {
        assert_eq!(
            summary(&full()),
            "a-1-x: failed\n  build_failed in build: make failed\nb-1-x: waiting\n"
        );
    }

    #[test]
    fn names_from_outside_cannot_write_to_the_terminal() {
        let mut json = build_json("running", &[("a\u{1b}[2J", "running")]);
        json["sources"] = json!([{"name": "a\n  task 9  b  succeeded"}]);
        let build = build(&json);
        let shown = details(&build) + &list(std::slice::from_ref(&build)) + &progress(&build, true);
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(!shown.contains("\n  task 9"), "{shown}");
    }
}
