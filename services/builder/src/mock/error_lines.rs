//! Finds the lines of a log that say why a build failed. Every rule is a plain text search. The log is written by the
//! package, so nothing here decides what is allowed, only which line a person is shown first.

/// How well a line explains a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// mock's own line that a call of it failed. It is written to another stream than rpmbuild's lines, so on a loaded host it
    /// may overtake them in the log.
    Summary,
    /// The consequence of a failure, such as make's last line.
    Consequence,
    /// The failure itself, such as a compiler's error.
    Cause,
}

/// Texts anywhere in a line that states a cause.
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

/// Texts at the beginning of a line that states a cause.
const CAUSE_BEGINNINGS: &[&str] = &["error[", "FAIL: ", "not ok ", "Killed"];

/// The beginning of mock's own line about a failed call.
const MOCK_FAILED: &str = "ERROR: Exception(";

/// Texts of tools that report a failure which happened elsewhere.
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

/// How well a line explains a failure; none for a line that is not about one.
pub fn weigh(line: &str) -> Option<Weight> {
    // A line of a shell's trace is a command, not its result.
    if line.starts_with('+') {
        return None;
    }
    if line.starts_with(MOCK_FAILED) {
        return Some(Weight::Summary);
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

/// Whether a line has `error:` as compilers, linkers, configure and rpm write it, but not in a flag such as `-Werror`.
fn says_error(line: &str) -> bool {
    line.match_indices("error:").any(|(at, _)| {
        line[..at]
            .chars()
            .next_back()
            .is_none_or(|before| before == ' ' || before == ':' || before == '\t')
    })
}

/// The text between the first quotes after `words`; none when there are no quotes, or nothing between them.
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
            "install: cannot stat 'no-such-file': No such file or directory",
        ] {
            assert_eq!(weigh(line), Some(Weight::Consequence), "{line}");
        }
    }

    #[test]
    fn mocks_own_line_explains_least() {
        let line = "ERROR: Exception(/millrace/source.src.rpm) Config(x) 0 minutes 2 seconds";
        assert_eq!(weigh(line), Some(Weight::Summary));
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
