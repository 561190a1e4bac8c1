//! Scans a package's log while it streams, for what the classification needs: the first line that explains a failure, with
//! its offset, and the names of missing packages. Lines may be cut or joined and may contain any bytes, so every rule is a
//! text search, and a miss costs only a less precise message.

use millrace_domain::FirstError;

use crate::mock::error_lines::{Weight, quoted_after, weigh};

/// The part of a line that is searched, in bytes.
const LINE_CAP: usize = 4096;
/// The part of a line that is recorded, in characters.
const TEXT_CAP: usize = 500;
/// The most missing packages that are recorded.
const NAMES_CAP: usize = 5;

/// What was found in the log of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFacts {
    /// The first line that states a cause, or else the first that states a consequence.
    pub first_error: Option<FirstError>,
    /// Packages that no repository has, as written in the spec; at most five.
    pub missing_packages: Vec<String>,
    /// The repository whose metadata could not be read, by the package manager's id.
    pub failed_repository: Option<String>,
    /// Whether mock or rpm said that the source package cannot be used.
    pub source_unusable: bool,
    /// Whether some program found a full file system.
    pub no_space: bool,
}

/// Collects [`LogFacts`] from a stream of pieces.
#[derive(Debug, Default)]
pub struct LogScanner {
    line: Vec<u8>,
    line_start: u64,
    cause: Option<FirstError>,
    consequence: Option<FirstError>,
    summary: Option<FirstError>,
    facts: LogFacts,
}

impl LogScanner {
    /// Scans the next piece, which begins at `offset` in the attempt's log.
    pub fn feed(&mut self, offset: u64, piece: &[u8]) {
        let mut at = offset;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.line.is_empty() {
                self.line_start = at;
            }
            let room = LINE_CAP - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            at += part.len() as u64;
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    /// What was found, the unfinished last line included.
    pub fn finish(mut self) -> LogFacts {
        self.end_line();
        self.facts.first_error = self.cause.or(self.consequence).or(self.summary);
        self.facts
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim();
        if begins_scriptlet(line) {
            // rpmbuild begins a scriptlet only after the one before succeeded, so an earlier "error" was none.
            self.cause = None;
            self.consequence = None;
            self.summary = None;
        } else if let Some(weight) = weigh(line) {
            self.record_names(line);
            let slot = match weight {
                Weight::Cause => &mut self.cause,
                Weight::Consequence => &mut self.consequence,
                Weight::Summary => &mut self.summary,
            };
            slot.get_or_insert_with(|| FirstError {
                text: printable(line),
                log_offset: self.line_start,
            });
        }
        // The buffer is used again for the next line.
        self.line = bytes;
        self.line.clear();
    }

    /// Records the names and conditions that a line states.
    fn record_names(&mut self, line: &str) {
        self.facts.no_space |= line.contains("No space left on device");
        for words in ["No matching package to install:", "No match for argument:"] {
            let name = quoted_after(line, words).or_else(|| word_after(line, words));
            if let Some(name) = name.map(printable)
                && self.facts.missing_packages.len() < NAMES_CAP
                && !self.facts.missing_packages.contains(&name)
            {
                self.facts.missing_packages.push(name);
            }
        }
        if let Some(name) = quoted_after(line, "Failed to download metadata") {
            self.facts
                .failed_repository
                .get_or_insert_with(|| printable(name));
        }
        self.facts.source_unusable |= ["not an srpm", "Cannot find/open srpm", "not installable"]
            .iter()
            .any(|words| line.contains(words));
    }
}

fn begins_scriptlet(line: &str) -> bool {
    line.starts_with("Executing(%")
}

fn word_after<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    line[line.find(words)? + words.len()..]
        .split_whitespace()
        .next()
}

/// At most 500 characters of a text, with control characters replaced, so that none moves a cursor.
fn printable(text: &str) -> String {
    text.chars()
        .take(TEXT_CAP)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &str) -> LogFacts {
        let mut scanner = LogScanner::default();
        scanner.feed(0, log.as_bytes());
        scanner.finish()
    }

    fn first(log: &str) -> (String, u64) {
        let error = read(log)
            .first_error
            .expect("a line that explains the failure");
        (error.text, error.log_offset)
    }

    #[test]
    fn mocks_own_line_is_shown_only_where_nothing_else_explains_the_failure() {
        let mock = "ERROR: Exception(a.src.rpm) Config(x) 0 minutes 1 seconds\n";
        let rpmbuild = "install: cannot stat 'x': No such file or directory\n";
        for (log, wanted) in [
            (format!("{mock}{rpmbuild}"), rpmbuild),
            (format!("{rpmbuild}{mock}"), rpmbuild),
            (mock.to_owned(), mock),
        ] {
            assert_eq!(read(&log).first_error.unwrap().text, wanted.trim());
        }
    }

    #[test]
    fn the_cause_wins_over_its_consequences_and_knows_its_place() {
        let log = "gcc -c foo.c\nfoo.c:3: error: no\nmake: *** [all] Error 1\n";
        assert_eq!(first(log), ("foo.c:3: error: no".to_owned(), 13));
        assert_eq!(first("a\nmake: *** [all] Error 1").1, 2);
    }

    #[test]
    fn an_error_in_a_scriptlet_that_succeeded_is_forgotten() {
        let log = "Executing(%prep): x\nsed: error: harmless\nExecuting(%build): y\nb.c:1: error: fatal\n";
        assert_eq!(first(log).0, "b.c:1: error: fatal");
    }

    #[test]
    fn pieces_may_end_anywhere() {
        let log = "one\ntwo.c:1: error: three\nfour\n";
        for cut in 0..log.len() {
            let mut scanner = LogScanner::default();
            scanner.feed(100, &log.as_bytes()[..cut]);
            scanner.feed(100 + cut as u64, &log.as_bytes()[cut..]);
            let error = scanner.finish().first_error.unwrap();
            assert_eq!(
                (error.text.as_str(), error.log_offset),
                ("two.c:1: error: three", 104)
            );
        }
    }

    #[test]
    fn missing_packages_and_repositories_are_named() {
        let facts = read(
            "No matching package to install: 'libfoo-devel >= 2'\nNo match for argument: bar\n\
             Error: Failed to download metadata for repo 'example_com_x': Cannot download repomd.xml\n",
        );
        assert_eq!(facts.missing_packages, ["libfoo-devel >= 2", "bar"]);
        assert_eq!(facts.failed_repository.as_deref(), Some("example_com_x"));
    }

    #[test]
    fn long_lines_and_control_characters_are_tamed() {
        let log = format!("error: \u{1b}[31m{}\n", "x".repeat(100_000));
        let (text, _) = first(&log);
        assert_eq!(text.chars().count(), 500);
        assert!(text.starts_with("error:  [31m"));
        assert!(read("ERROR: File is not an srpm: /millrace/source.src.rpm.\n").source_unusable);
    }
}
