//! Each exit code of mock 6.7 that was seen, with its stage and what the log said, and those that are only documented.

use super::*;

/// What a log as mock and its tools write it told.
fn facts_of(log: &str) -> LogFacts {
    let mut reader = LogScanner::default();
    reader.feed(0, log.as_bytes());
    reader.finish()
}

/// Codes, stages and words as observed of mock 6.7; one row or more for each code and for each way a failure looks.
const OBSERVED: &[(i32, &str, &str, OutcomeKind)] = &[
    (
        1,
        "build",
        "foo.c:3: error: expected ';'\n",
        OutcomeKind::BuildFailed,
    ),
    (
        1,
        "prep",
        "error: Bad exit status from /var/tmp/x (%prep)\n",
        OutcomeKind::BuildFailed,
    ),
    (
        1,
        "check",
        "error: Bad exit status from /var/tmp/x (%check)\n",
        OutcomeKind::BuildFailed,
    ),
    (
        1,
        "package",
        "error: File not found: /builddir/x\n",
        OutcomeKind::BuildFailed,
    ),
    (
        1,
        "package",
        "error: Architecture is not included: x86_64\n",
        OutcomeKind::BuildFailed,
    ),
    (
        1,
        "dependencies",
        "error: line 9: Unknown tag: Foo\n",
        OutcomeKind::BuildFailed,
    ),
    (
        1,
        "build",
        "fork: Resource temporarily unavailable\n",
        OutcomeKind::BuildFailed,
    ),
    (
        1,
        "buildroot",
        "ERROR: Cannot find/open srpm: x.src.rpm. Error: 2\n",
        OutcomeKind::SourceFailed,
    ),
    (
        1,
        "buildroot",
        "ERROR: x.rpm is not an srpm!\n",
        OutcomeKind::SourceFailed,
    ),
    (
        1,
        "buildroot",
        "ERROR: Cannot find/open srpm: --frobnicate\n",
        OutcomeKind::SourceFailed,
    ),
    (
        1,
        "buildroot",
        "Traceback (most recent call last)\n",
        OutcomeKind::SandboxFailed,
    ),
    (
        2,
        "buildroot",
        "ERROR: The most common cause: not in group mock\n",
        OutcomeKind::SandboxFailed,
    ),
    (
        3,
        "buildroot",
        "ERROR: Could not find required config file\n",
        OutcomeKind::SandboxFailed,
    ),
    (4, "buildroot", "", OutcomeKind::SandboxFailed),
    (
        5,
        "buildroot",
        "ERROR: Bad option\n",
        OutcomeKind::SandboxFailed,
    ),
    (7, "build", "", OutcomeKind::SandboxFailed),
    (
        10,
        "dependencies",
        "error: in %generate_buildrequires\n",
        OutcomeKind::BuildFailed,
    ),
    (11, "build", "", OutcomeKind::TimedOut),
    (
        30,
        "dependencies",
        "No matching package to install: 'foo'\n",
        OutcomeKind::DependencyFailed,
    ),
    (
        30,
        "prep",
        "No matching package to install: 'foo'\n",
        OutcomeKind::DependencyFailed,
    ),
    (
        30,
        "dependencies",
        "Error: Failed to download metadata for repo 'own'\n",
        OutcomeKind::RepositoryUnreachable,
    ),
    (30, "buildroot", "", OutcomeKind::RepositoryUnreachable),
    (
        32,
        "buildroot",
        "mount: permission denied\n",
        OutcomeKind::SandboxFailed,
    ),
    (
        40,
        "dependencies",
        "Source RPM is not installable\n",
        OutcomeKind::SourceFailed,
    ),
    (50, "buildroot", "", OutcomeKind::SandboxFailed),
    (
        60,
        "buildroot",
        "Build root is locked by another process.\n",
        OutcomeKind::SandboxFailed,
    ),
    (
        70,
        "buildroot",
        "Could not create dir\n",
        OutcomeKind::SandboxFailed,
    ),
    (137, "build", "", OutcomeKind::SandboxFailed),
    (143, "build", "", OutcomeKind::SandboxFailed),
    (245, "build", "", OutcomeKind::BuildFailed),
    (247, "build", "", OutcomeKind::BuildFailed),
];

/// Documented, and never seen.
const UNSEEN: [i32; 11] = [6, 20, 25, 31, 65, 80, 90, 110, 120, 129, 141];

#[test]
fn every_exit_code_that_was_observed_has_its_judgement() {
    for (code, stage, log, kind) in OBSERVED {
        let outcome = exit(*code, stage)
            .with(|case| case.facts = facts_of(log))
            .classify();
        assert_eq!(outcome.kind, *kind, "{code} in {stage}: {log}{outcome:?}");
        assert_eq!(outcome.exit_code, Some(*code));
        let text = outcome.exit_text.unwrap();
        assert!(text.contains(&code.to_string()), "{text}");
        assert!(!outcome.message.is_empty());
    }
    // None of them may end a build without a word.
    for code in UNSEEN {
        assert_eq!(exit(code, "buildroot").kind(), OutcomeKind::SandboxFailed);
        assert_ne!(exit(code, "build").kind(), OutcomeKind::Succeeded, "{code}");
    }
}

#[test]
fn a_full_disk_of_the_host_shows_in_three_codes() {
    for code in [1, 2, 30] {
        let full = exit(code, "dependencies")
            .with(|case| case.facts = facts_of("cp: write error: No space left on device\n"))
            .reported(|report| report.lowest_free_bytes = Some(MIB));
        assert_eq!(full.kind(), OutcomeKind::BuilderDiskFull, "{code}");
    }
}
