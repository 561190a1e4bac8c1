//! Outcomes as text: what happened, the first error, and what the package used.

use millrace_domain::{Limit, Outcome, Unit};

use crate::render::text::push_line;

const MIB: u64 = 1024 * 1024;

/// Adds the lines of an outcome, each behind `indent`.
pub fn push_lines(out: &mut String, outcome: &Outcome, indent: &str) {
    let stage = outcome.stage.map_or(String::new(), |s| format!(" in {s}"));
    push_line(
        out,
        &format!("{indent}{}{stage}: {}", outcome.kind, outcome.message),
    );
    if let Some(text) = &outcome.exit_text {
        push_line(out, &format!("{indent}{text}"));
    }
    if let Some(error) = &outcome.first_error {
        push_line(
            out,
            &format!(
                "{indent}first error, at byte {} of the log: {}",
                error.log_offset, error.text
            ),
        );
    }
    let usage = usage(outcome);
    if !usage.is_empty() {
        push_line(out, &format!("{indent}{}", usage.join(", ")));
    }
    let stages = outcome.stage_seconds.iter();
    let stages: Vec<String> = stages.map(|(name, s)| format!("{name} {s:.1} s")).collect();
    if !stages.is_empty() {
        push_line(out, &format!("{indent}{}", stages.join(", ")));
    }
}

/// The limit that was hit, what was measured, and the limit to try next; what was not measured is left out.
fn usage(outcome: &Outcome) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(limit) = &outcome.limit {
        parts.push(format!("limit {}", limit_text(limit)));
    }
    let in_mib = [
        ("peak memory", outcome.peak_memory_bytes),
        ("with page cache", outcome.peak_memory_with_cache_bytes),
    ];
    for (name, bytes) in in_mib {
        if let Some(bytes) = bytes {
            parts.push(format!("{name} {} MiB", bytes.div_ceil(MIB)));
        }
    }
    if let Some(kills) = outcome.oom_kills.filter(|kills| *kills > 0) {
        parts.push(format!("killed for want of memory {kills}"));
    }
    let in_seconds = [
        ("processor", outcome.cpu_seconds),
        ("wall", outcome.wall_seconds),
    ];
    for (name, seconds) in in_seconds {
        if let Some(seconds) = seconds {
            parts.push(format!("{name} {seconds:.1} s"));
        }
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
            parts.push(format!("{name} {}", size_text(bytes)));
        }
    }
    if let Some(limit) = &outcome.suggested_limit {
        parts.push(format!("try {}", limit_text(limit)));
    }
    parts
}

/// A size in the largest unit, up to MiB, that it fills at least once; rounded up.
fn size_text(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..MIB => format!("{} KiB", bytes.div_ceil(1024)),
        MIB.. => format!("{} MiB", bytes.div_ceil(MIB)),
    }
}

/// A limit with its value and unit, such as `memory 2048 MiB`.
pub fn limit_text(limit: &Limit) -> String {
    let unit = match limit.unit {
        Unit::MiB => "MiB",
        Unit::Seconds => "s",
    };
    format!("{} {} {unit}", limit.name, limit.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_domain::{OutcomeKind, Stage};

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
        push_lines(&mut out, &outcome, "");
        for part in [
            "peak memory 5 MiB, killed for want of memory 2",
            "received 1 bytes, log 2 KiB, results 3 MiB",
            "build 1.2 s",
        ] {
            assert!(out.contains(part), "{out}");
        }
    }

    #[test]
    fn an_outcome_shows_where_it_failed_and_what_to_try() {
        let outcome: Outcome = serde_json::from_value(serde_json::json!({
            "kind": "out_of_memory", "stage": "build", "message": "it needs more memory",
            "exit_text": "mock exited with 1",
            "first_error": {"text": "cc1plus: killed\u{1b}", "log_offset": 99},
            "limit": {"name": "memory", "value": 2048, "unit": "mib"},
            "suggested_limit": {"name": "timeout", "value": 60, "unit": "seconds"},
            "cpu_seconds": 1.26, "wall_seconds": 2.0, "oom_kills": 0,
        }))
        .unwrap();
        let mut out = String::new();
        push_lines(&mut out, &outcome, "  ");
        assert_eq!(
            out,
            "  out_of_memory in build: it needs more memory\n  mock exited with 1\n  \
             first error, at byte 99 of the log: cc1plus: killed\u{fffd}\n  \
             limit memory 2048 MiB, processor 1.3 s, wall 2.0 s, try timeout 60 s\n"
        );
    }

    #[test]
    fn what_was_not_measured_is_not_shown() {
        let mut out = String::new();
        let outcome = Outcome::new(OutcomeKind::Succeeded, "built");
        push_lines(&mut out, &outcome, "");
        assert_eq!(out, "succeeded: built\n");
    }

    #[test]
    fn a_size_is_rounded_up_in_the_largest_unit_that_it_fills() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1025, "2 KiB"),
            (MIB - 1, "1024 KiB"),
            (MIB, "1 MiB"),
            (MIB + 1, "2 MiB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }
}
