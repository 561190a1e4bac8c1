//! Text for people. What came from a package or a server is made harmless for terminals.

mod chroots;
mod pollers;
mod service;

use std::fmt::Write;

use millrace_domain::{Limit, Outcome, Unit};
use serde_json::Value;

use crate::model::{Attempt, AttemptLimits, Build, Builder, Task, Wait};
pub use chroots::{chroot, chroots};
pub use pollers::{access, lens, pollers};
pub use service::{builder, builders, parked, status};

/// Text without control characters but newline and tab, and without those that turn the direction of text around.
pub fn plain(text: &str) -> String {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .filter(|c| *c != '\r')
        .map(|c| {
            if turns(c) || (c.is_control() && c != '\n' && c != '\t') {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// A build with all that is known of it.
pub fn build(build: &Build) -> String {
    let mut out = String::new();
    line(
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
        line(&mut out, &format!("  source {}", source.name));
    }
    for task in &build.tasks {
        task_lines(&mut out, task);
    }
    out
}

fn task_lines(out: &mut String, task: &Task) {
    line(
        out,
        &format!("  task {}  {}  {}", task.id, task.chroot, task.state),
    );
    if let Some(wait) = &task.wait {
        line(out, &format!("    {}", wait_text(wait)));
    }
    if let Some(limit) = &task.raised_limit {
        let text = format!("    raised once after a hit limit: {}", limit_text(limit));
        line(out, &text);
    }
    if let Some(outcome) = &task.outcome {
        outcome_lines(out, outcome, "    ");
    }
    for attempt in &task.attempts {
        attempt_lines(out, attempt);
    }
}

/// Why it waits, its place in the line and when it is expected to start.
fn wait_text(wait: &Wait) -> String {
    let place = wait
        .position
        .map_or_else(String::new, |place| format!(", place {place} in the line"));
    let start = wait.estimated_start.map_or_else(String::new, |time| {
        format!(", starts at about {}", time.format("%Y-%m-%d %H:%M:%S UTC"))
    });
    format!("{}{place}{start}", wait.message)
}

/// The first reason to wait of a build's tasks.
fn first_wait(build: &Build) -> String {
    let wait = build.tasks.iter().find_map(|task| task.wait.as_ref());
    wait.map_or_else(String::new, |wait| format!("  ({})", wait_text(wait)))
}

fn attempt_lines(out: &mut String, attempt: &Attempt) {
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
    line(
        out,
        &format!(
            "    attempt {}  {}  on {builder}{stage}{reason}  log {} bytes  {}",
            attempt.number, attempt.state, attempt.log_size, attempt.id
        ),
    );
    if let Some(limits) = &attempt.limits {
        line(out, &format!("      {}", limits_text(limits)));
    }
    if let Some(wait) = &attempt.waits_for {
        line(out, &format!("      {}", wait.message));
    }
    if let Some(outcome) = &attempt.outcome {
        line(out, &format!("      {}: {}", outcome.kind, outcome.message));
    }
    if !attempt.stages.is_empty() {
        let stages: Vec<String> = attempt
            .stages
            .iter()
            .map(|s| {
                s.seconds.map_or_else(
                    || format!("{} …", s.name),
                    |t| format!("{} {t:.1} s", s.name),
                )
            })
            .collect();
        line(out, &format!("      {}", stages.join(", ")));
    }
    if let Some(text) = chroots::of_attempt(attempt) {
        line(out, &format!("      {text}"));
    }
    for package in &attempt.packages {
        line(
            out,
            &format!("      {}  {}", package.source, package.outcome.kind),
        );
        for file in &package.files {
            line(out, &format!("        {}  {} bytes", file.name, file.size));
        }
    }
}

fn outcome_lines(out: &mut String, outcome: &Outcome, indent: &str) {
    let stage = outcome.stage.map_or(String::new(), |s| format!(" in {s}"));
    line(
        out,
        &format!("{indent}{}{stage}: {}", outcome.kind, outcome.message),
    );
    if let Some(text) = &outcome.exit_text {
        line(out, &format!("{indent}{text}"));
    }
    if let Some(error) = &outcome.first_error {
        line(
            out,
            &format!(
                "{indent}first error, at byte {} of the log: {}",
                error.log_offset, error.text
            ),
        );
    }
    let mut use_seen = Vec::new();
    if let Some(limit) = &outcome.limit {
        use_seen.push(format!("limit {}", limit_text(limit)));
    }
    let in_mib = [
        ("peak memory", outcome.peak_memory_bytes),
        ("with page cache", outcome.peak_memory_with_cache_bytes),
    ];
    for (name, bytes) in in_mib {
        if let Some(bytes) = bytes {
            use_seen.push(format!("{name} {} MiB", bytes.div_ceil(1024 * 1024)));
        }
    }
    if let Some(kills) = outcome.oom_kills.filter(|kills| *kills > 0) {
        use_seen.push(format!("killed for want of memory {kills}"));
    }
    if let Some(cpu) = outcome.cpu_seconds {
        use_seen.push(format!("processor {cpu:.1} s"));
    }
    if let Some(wall) = outcome.wall_seconds {
        use_seen.push(format!("wall {wall:.1} s"));
    }
    let in_bytes = [
        ("source", outcome.source_bytes),
        ("received", outcome.received_bytes),
        ("log", outcome.log_bytes),
        ("results", outcome.result_bytes),
        ("disk", outcome.disk_bytes),
    ];
    for (name, bytes) in in_bytes {
        if let Some(bytes) = bytes {
            use_seen.push(format!("{name} {}", size_text(bytes)));
        }
    }
    if let Some(limit) = &outcome.suggested_limit {
        use_seen.push(format!("try {}", limit_text(limit)));
    }
    if !use_seen.is_empty() {
        line(out, &format!("{indent}{}", use_seen.join(", ")));
    }
    let stages = outcome.stage_seconds.iter();
    let stages: Vec<String> = stages.map(|(name, s)| format!("{name} {s:.1} s")).collect();
    if !stages.is_empty() {
        line(out, &format!("{indent}{}", stages.join(", ")));
    }
}

/// A size in the largest unit of which there is one.
fn size_text(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1_048_576)),
    }
}

fn limits_text(limits: &AttemptLimits) -> String {
    let time = limits
        .timeout_seconds
        .map_or_else(String::new, |seconds| format!(", time {seconds} s"));
    let disk = limits
        .disk_mib
        .map_or_else(String::new, |mib| format!(", disk {mib} MiB"));
    format!("limits: memory {} MiB{time}{disk}", limits.memory_mib)
}

fn limit_text(limit: &Limit) -> String {
    let unit = match limit.unit {
        Unit::MiB => "MiB",
        Unit::Seconds => "s",
    };
    format!("{} {} {unit}", limit.name, limit.value)
}

/// A line for each build.
pub fn builds(builds: &[Build]) -> String {
    let mut out = String::new();
    for build in builds {
        let sources: Vec<&str> = build.sources.iter().map(|s| s.name.as_str()).collect();
        let chroots: Vec<&str> = build.tasks.iter().map(|t| t.chroot.as_str()).collect();
        line(
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

/// One line of progress: each task with its state and stage, or why it waits.
pub fn progress(build: &Build, with_waits: bool) -> String {
    let tasks: Vec<String> = build
        .tasks
        .iter()
        .map(|task| {
            let stage = task
                .latest_attempt()
                .and_then(|a| a.stage)
                .filter(|_| !task.state.is_terminal());
            match (stage, task.wait.as_ref().filter(|_| with_waits)) {
                (Some(stage), _) => format!("{} {} ({stage})", task.chroot, task.state),
                (None, Some(wait)) => {
                    format!("{} {} ({})", task.chroot, task.state, wait_text(wait))
                }
                (None, None) => format!("{} {}", task.chroot, task.state),
            }
        })
        .collect();
    plain(&format!("build {}: {}", build.id, tasks.join(", ")))
}

/// What to say when a build has ended.
pub fn ending(build: &Build) -> String {
    let mut out = String::new();
    for task in &build.tasks {
        line(&mut out, &format!("{}: {}", task.chroot, task.state));
        if let Some(outcome) = &task.outcome {
            outcome_lines(&mut out, outcome, "  ");
        }
    }
    out
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

/// Each item of a page as text, or a sentence where there is none.
fn items(page: &Value, none: &str, item: impl Fn(&Value) -> String) -> String {
    let out: String = (page["items"].as_array().into_iter().flatten())
        .map(item)
        .collect();
    if out.is_empty() {
        format!("{none}\n")
    } else {
        out
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", plain(text).replace('\n', " "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_domain::{OutcomeKind, Stage};

    #[test]
    fn control_characters_do_no_harm() {
        assert_eq!(plain("a\x1b[2Jb\r\n\tc"), "a\u{fffd}[2Jb\n\tc");
        assert_eq!(plain("\u{9b}2J\u{202e}mpr.a"), "\u{fffd}2J\u{fffd}mpr.a");
    }

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

    #[test]
    fn an_outcome_tells_what_was_used() {
        let mut outcome = Outcome::new(OutcomeKind::OutOfMemory, "x");
        outcome.peak_memory_bytes = Some(5 << 20);
        outcome.oom_kills = Some(2);
        outcome.received_bytes = Some(1);
        outcome.log_bytes = Some(2000);
        outcome.result_bytes = Some(3 << 20);
        outcome.stage_seconds.insert(Stage::Build, 1.25);
        let mut out = String::new();
        outcome_lines(&mut out, &outcome, "");
        for part in [
            "peak memory 5 MiB, killed for want of memory 2",
            "received 1 bytes, log 2 KiB, results 3 MiB",
            "build 1.2 s",
        ] {
            assert!(out.contains(part), "{out}");
        }
    }
}
