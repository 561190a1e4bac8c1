//! Scans a package's log while it streams, for what the classification needs: the first line that explains a failure, with
//! its offset, and the names of missing packages. Lines may be cut or joined and may contain any bytes, so every rule is a
//! text search, and a miss costs only a less precise message.

use millrace_domain::FirstError;

use crate::mock::error_lines::{
    Weight, is_about_packaging, quoted_after, unreadable_repository, weigh,
};

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
    /// How far rpmbuild came with the packages themselves, behind all sections of the spec.
    pub packaging: Packaging,
}

/// How far rpmbuild came with the packages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Packaging {
    /// It had not begun, or was at work.
    #[default]
    Unfinished,
    /// It failed there.
    Failed,
    /// It had written each package that it had begun.
    Written,
}

/// Collects [`LogFacts`] from a stream of pieces.
#[derive(Debug, Default)]
pub struct LogScanner {
    line: Vec<u8>,
    line_start: u64,
    cause: Option<FirstError>,
    consequence: Option<FirstError>,
    summary: Option<FirstError>,
    /// Packages that rpmbuild has begun and written since the last section of the spec.
    packages: (u32, u32),
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
        let (begun, written) = self.packages;
        if written > 0 && written >= begun {
            self.facts.packaging = Packaging::Written;
        }
        self.facts
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim();
        if begins_scriptlet(line) {
            // rpmbuild begins a scriptlet only after the one before succeeded, so an earlier "error" was none.
            self.forget_errors();
            self.packages = (0, 0);
        } else if begins_anew(line) {
            self.forget_errors();
            self.facts.missing_packages.clear();
            self.facts.failed_repository = None;
        } else if line.starts_with("Processing files: ") {
            self.packages.0 += 1;
        } else if line.starts_with("Wrote: ") && !line.contains("/SRPMS/") {
            self.packages.1 += 1;
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

    fn forget_errors(&mut self) {
        self.cause = None;
        self.consequence = None;
        self.summary = None;
        self.facts.packaging = Packaging::Unfinished;
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
        if is_about_packaging(line) {
            self.facts.packaging = Packaging::Failed;
        }
        if let Some(name) = unreadable_repository(line) {
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

/// Whether mock begins a call, or the same call of the package manager once more. It begins one only after the call before
/// has succeeded, or found dynamic requirements that were then installed.
fn begins_anew(line: &str) -> bool {
    line == "Start: run"
        || (line.contains(" command failed, retrying, attempt #") && line.contains("WARNING: "))
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
    fn the_header_of_rpms_errors_is_never_the_first_error() {
        // As mock merges rpmbuild's two pipes: the header overtakes, and a line is torn.
        for log in [
            "RPM build errors:\nerror: Bad exit status from /var/tmp/rpm-tmp.x (%prep)\n",
            "error:\nRPM build errors:\n Bad exit status from /var/tmp/rpm-tmp.x (%prep)\n",
            "ERROR: Command failed: \n # /usr/bin/rpmbuild -bb x.spec\nerror: Bad exit status from /var/tmp/rpm-tmp.x (%prep)\n",
        ] {
            assert!(
                first(log)
                    .0
                    .ends_with("Bad exit status from /var/tmp/rpm-tmp.x (%prep)"),
                "{log}"
            );
        }
        assert_eq!(read("RPM build errors:\nerror:\n").first_error, None);
    }

    #[test]
    fn a_repository_of_dnf_5_is_named_by_its_id() {
        let line = "Failed to download metadata (baseurl: \"http://example.org/x\") for repository \"fedora\"\n";
        assert_eq!(read(line).failed_repository.as_deref(), Some("fedora"));
    }

    #[test]
    fn what_another_try_or_another_call_overcame_is_forgotten() {
        let failed = "Error: Failed to download metadata for repo 'fedora': Cannot download repomd.xml\n\
                      No match for argument: a\n";
        for anew in [
            "WARNING: DNF5 command failed, retrying, attempt #2, sleeping 3s\n",
            "Start: run\n",
        ] {
            assert_eq!(read(&format!("{failed}{anew}")), LogFacts::default());
        }
        let again = read(&format!("{failed}Start: run\nNo match for argument: b\n"));
        assert_eq!(again.missing_packages, ["b"]);
    }

    #[test]
    fn packages_are_written_when_each_that_was_begun_is() {
        let begun = "Wrote: /builddir/build/SRPMS/a-1-1.src.rpm\nExecuting(%install): x\n\
                     Processing files: a-1-1.x86_64\nProcessing files: a-debuginfo-1-1.x86_64\n\
                     Wrote: /builddir/build/RPMS/a-1-1.x86_64.rpm\n";
        assert_eq!(
            read(begun).packaging,
            Packaging::Unfinished,
            "rpmbuild is still at work"
        );
        let all = format!(
            "{begun}Wrote: /builddir/build/RPMS/a-debuginfo-1-1.x86_64.rpm\nbackground line 9\n"
        );
        assert_eq!(read(&all).packaging, Packaging::Written);
        assert_eq!(
            read("Executing(%build): x\n").packaging,
            Packaging::Unfinished
        );
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
