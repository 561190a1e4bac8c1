//! Which lines of a log tell why a build failed. Every rule is a plain search: a log is written by the package, so
//! nothing here decides what is allowed, only what a person is shown first.

/// How much a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The consequence of a failure, such as make's last words.
    Consequence,
    /// The failure itself.
    Cause,
}

/// Words that stand in the line of a failure, wherever they stand in it.
const CAUSES: &[&str] = &[
    "No matching package to install:",
    "No match for argument:",
    "nothing provides ",
    "Failed to download metadata",
    "No space left on device",
    "undefined reference to",
    "cannot find -l",
    "command not found",
    "CMake Error",
    "SyntaxError:",
    "ModuleNotFoundError:",
    "Segmentation fault",
    "virtual memory exhausted",
    "Cannot allocate memory",
    "MemoryError",
    "Can not copy",
    "not an srpm",
    "Cannot find/open srpm",
    "is not installable",
    "Installed (but unpackaged) file(s) found",
];

/// Words that begin the line of a failure.
const CAUSE_BEGINNINGS: &[&str] = &["error[", "FAIL: ", "not ok ", "Killed"];

/// Words of those who report a failure that happened elsewhere.
const CONSEQUENCES: &[&str] = &[
    ": *** [",
    "Bad exit status from",
    "RPM build errors:",
    "No such file or directory",
    "Traceback (most recent call last)",
    "FAILED",
    "ERROR: ",
    "Error: ",
];

/// How much a line tells of a failure; nothing for most lines.
pub fn weigh(line: &str) -> Option<Weight> {
    // What a shell traces is a command, not what came of it.
    if line.starts_with('+') {
        return None;
    }
    if line.contains("Bad exit status from") {
        return Some(Weight::Consequence);
    }
    if says_error(line)
        || CAUSES.iter().any(|words| line.contains(words))
        || CAUSE_BEGINNINGS.iter().any(|words| line.starts_with(words))
        || line.ends_with(" Killed")
    {
        return Some(Weight::Cause);
    }
    CONSEQUENCES
        .iter()
        .any(|words| line.contains(words))
        .then_some(Weight::Consequence)
}

/// `error:` as compilers, linkers, configure and rpm write it, and no flag such as `-Werror`.
fn says_error(line: &str) -> bool {
    line.match_indices("error:").any(|(at, _)| {
        line[..at]
            .chars()
            .next_back()
            .is_none_or(|before| before == ' ' || before == ':' || before == '\t')
    })
}

/// The part of a line between the first quotes after some words.
pub fn quoted_after<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    let rest = &line[line.find(words)? + words.len()..];
    let open = rest.find(['\'', '"'])?;
    let quote = if rest[open..].starts_with('"') {
        '"'
    } else {
        '\''
    };
    let inner = &rest[open + 1..];
    Some(&inner[..inner.find(quote)?]).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_all_trades_are_causes() {
        for line in [
            "foo.c:3:5: error: expected ';' before 'return'",
            "configure: error: no acceptable C compiler found",
            "error[E0425]: cannot find value `x`",
            "error: Failed build dependencies:",
            "cc1: fatal error: Killed signal terminated program cc1",
            "foo.c:(.text+0x5): undefined reference to `bar'",
            "No matching package to install: 'libfoo-devel'",
            "/bin/sh: line 1: 12345 Killed",
            "FAIL: tests/one",
        ] {
            assert_eq!(weigh(line), Some(Weight::Cause), "{line}");
        }
    }

    #[test]
    fn last_words_are_consequences() {
        for line in [
            "make: *** [Makefile:3: all] Error 1",
            "error: Bad exit status from /var/tmp/rpm-tmp.x (%build)",
            "RPM build errors:",
            "ERROR: Exception(/millrace/source.src.rpm) Config(x) 0 minutes 2 seconds",
        ] {
            assert_eq!(weigh(line), Some(Weight::Consequence), "{line}");
        }
    }

    #[test]
    fn commands_and_flags_tell_nothing() {
        for line in [
            "gcc -O2 -Werror=format-security -c foo.c",
            "+ echo 'error: not one'",
            "checking for error_at_line... yes",
            "Finish: run",
        ] {
            assert_eq!(weigh(line), None, "{line}");
        }
    }

    #[test]
    fn names_are_taken_from_their_quotes() {
        assert_eq!(
            quoted_after("x No match: 'a-b' y", "No match:"),
            Some("a-b")
        );
        assert_eq!(quoted_after("repo \"it's\": x", "repo"), Some("it's"));
        assert_eq!(quoted_after("repo 'open", "repo"), None);
        assert_eq!(quoted_after("repo ''", "repo"), None);
        assert_eq!(quoted_after("other", "repo"), None);
    }
}
