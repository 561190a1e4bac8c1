//! Reads the stage of a build from the lines of its output. mock announces its own phases on stderr, as "Start: …" and
//! "Finish: …"; only rpmbuild announces what happens inside rpmbuild, on stdout. A package's own output arrives on stdout
//! too, so it can forge a mark there: marks are for people and for naming a failure, never for deciding what is allowed.

use std::time::Instant;

use crate::clock;
use crate::protocol::StageMark;

/// How much of a line is read, in bytes: enough for every announcement.
const PREFIX: usize = 96;
/// Most marks that are stored; a build has about ten, one that forges them has many.
const MAX_MARKS: usize = 200;

/// A stream of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

/// Finds the beginnings of lines in a stream that arrives in pieces.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    prefix: Vec<u8>,
    start: u64,
}

impl LineSplitter {
    pub(crate) fn new() -> Self {
        Self {
            prefix: Vec::with_capacity(PREFIX),
            start: 0,
        }
    }

    /// Takes a piece that lies at `offset` in the log and calls back with the beginning of each line that ended, and
    /// its offset.
    pub(crate) fn feed(&mut self, offset: u64, piece: &[u8], mut line: impl FnMut(&[u8], u64)) {
        let mut at = offset;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.prefix.is_empty() {
                self.start = at;
            }
            let room = PREFIX - self.prefix.len();
            self.prefix.extend_from_slice(&part[..part.len().min(room)]);
            at += part.len() as u64;
            if part.ends_with(b"\n") {
                line(self.prefix.trim_ascii_end(), self.start);
                self.prefix.clear();
            }
        }
    }
}

/// Follows the stages of a sandbox.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    marks: Vec<StageMark>,
    current: Option<(&'static str, Instant)>,
}

impl Stages {
    /// Reads a line that lies at offset `at` of the log; returns the mark when it begins a stage.
    pub(crate) fn read_line(
        &mut self,
        channel: Channel,
        line: &[u8],
        at: u64,
    ) -> Option<&StageMark> {
        let text = std::str::from_utf8(line).ok()?;
        let stage = match channel {
            Channel::Stderr => stage_by_mock(text)?,
            Channel::Stdout => stage_by_rpmbuild(text, self.current())?,
        };
        self.begin(stage, at)
    }

    /// Begins a stage at offset `at` of the log, unless it is the current one.
    pub(crate) fn begin(&mut self, stage: &'static str, at: u64) -> Option<&StageMark> {
        if self.current() == Some(stage) || self.marks.len() >= MAX_MARKS {
            return None;
        }
        self.end();
        self.current = Some((stage, Instant::now()));
        self.marks.push(StageMark {
            stage: stage.to_owned(),
            start: clock::now(),
            seconds: None,
            log_offset: at,
        });
        self.marks.last()
    }

    /// The current stage, or the last one once it has ended.
    pub(crate) fn current(&self) -> Option<&'static str> {
        self.current.map(|(stage, _)| stage)
    }

    /// Ends the current stage: its mark gets its duration.
    pub(crate) fn end(&mut self) {
        if let (Some(mark), Some((_, since))) = (self.marks.last_mut(), self.current)
            && mark.seconds.is_none()
        {
            mark.seconds = Some(since.elapsed().as_secs_f64());
        }
    }

    /// Ends the current stage and returns all marks.
    pub(crate) fn finish(mut self) -> Vec<StageMark> {
        self.end();
        self.marks
    }
}

/// The glossary's word for a stage that a plan names; none for another word.
pub(crate) fn stage_word(stage: &str) -> Option<&'static str> {
    [
        "buildroot",
        "dependencies",
        "prep",
        "build",
        "install",
        "check",
        "package",
    ]
    .into_iter()
    .find(|known| *known == stage)
}

fn stage_by_mock(line: &str) -> Option<&'static str> {
    let line = line
        .strip_prefix("INFO: ")
        .unwrap_or(line)
        .replacen("(bootstrap)", "", 1);
    if let Some(phase) = line.strip_prefix("Start: ") {
        return match phase {
            "init plugins" | "run" | "chroot init" => Some("buildroot"),
            _ if phase.starts_with("build phase for") || phase.starts_with("build setup for") => {
                Some("dependencies")
            }
            _ if phase.starts_with("rpmbuild") => Some("prep"),
            _ => None,
        };
    }
    // The call that only installs dependencies has no phase of its own for it: it follows the buildroot.
    (line == "Finish: chroot init").then_some("dependencies")
}

fn stage_by_rpmbuild(line: &str, current: Option<&str>) -> Option<&'static str> {
    if let Some(rest) = line.strip_prefix("Executing(%") {
        return match rest.split_once(')')?.0 {
            "prep" => Some("prep"),
            "generate_buildrequires" => Some("dependencies"),
            "build" => Some("build"),
            "install" => Some("install"),
            "check" => Some("check"),
            _ => None,
        };
    }
    // rpmbuild writes the source package during the build's setup as well; that is no packaging yet.
    let builds = matches!(current, Some("prep" | "build" | "install" | "check"));
    (builds && (line.starts_with("Processing files: ") || line.starts_with("Wrote: ")))
        .then_some("package")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages_of(lines: &[(Channel, &str)]) -> Vec<String> {
        let mut stages = Stages::default();
        for (channel, line) in lines {
            stages.read_line(*channel, line.as_bytes(), 0);
        }
        stages.finish().into_iter().map(|m| m.stage).collect()
    }

    #[test]
    fn a_rebuild_goes_through_all_stages() {
        use Channel::{Stderr, Stdout};
        let seen = stages_of(&[
            (Stderr, "Start: init plugins"),
            (Stderr, "Finish: init plugins"),
            (Stderr, "Start: run"),
            (Stderr, "Start: chroot init"),
            (Stderr, "Finish: chroot init"),
            (Stderr, "Start: build phase for bzip2-1.0.8-1.src.rpm"),
            (Stderr, "Start: build setup for bzip2-1.0.8-1.src.rpm"),
            (Stdout, "Wrote: /builddir/build/SRPMS/bzip2-1.0.8-1.src.rpm"),
            (Stderr, "Finish: build setup for bzip2-1.0.8-1.src.rpm"),
            (Stderr, "Start: rpmbuild bzip2-1.0.8-1.src.rpm"),
            (Stdout, "Executing(%prep): /bin/sh -e /var/tmp/rpm-tmp.1"),
            (Stdout, "Executing(%build): /bin/sh -e /var/tmp/rpm-tmp.2"),
            (Stdout, "Executing(%install): /bin/sh -e /var/tmp/rpm-tmp.3"),
            (Stdout, "Executing(%check): /bin/sh -e /var/tmp/rpm-tmp.4"),
            (Stdout, "Processing files: bzip2-1.0.8-1.x86_64"),
            (Stdout, "Wrote: /builddir/build/RPMS/bzip2.rpm"),
            (Stdout, "Executing(%clean): /bin/sh -e /var/tmp/rpm-tmp.5"),
            (Stderr, "Finish: rpmbuild bzip2-1.0.8-1.src.rpm"),
            (Stderr, "Start: clean chroot"),
            (Stderr, "Finish: run"),
        ]);
        assert_eq!(
            seen,
            [
                "buildroot",
                "dependencies",
                "prep",
                "build",
                "install",
                "check",
                "package"
            ]
        );
    }

    #[test]
    fn a_line_on_the_wrong_stream_begins_nothing() {
        assert!(
            stages_of(&[
                (Channel::Stdout, "Start: chroot init"),
                (Channel::Stderr, "Executing(%build): /bin/sh"),
                (Channel::Stdout, " Executing(%build): /bin/sh"),
                (Channel::Stdout, "Executing(%build"),
            ])
            .is_empty()
        );
    }

    #[test]
    fn dynamic_build_requirements_count_as_dependencies() {
        let seen = stages_of(&[
            (Channel::Stderr, "Start(bootstrap): chroot init"),
            (Channel::Stderr, "Start: rpmbuild x"),
            (
                Channel::Stdout,
                "Executing(%generate_buildrequires): /bin/sh",
            ),
            (Channel::Stdout, "Executing(%prep): /bin/sh"),
        ]);
        assert_eq!(seen, ["buildroot", "prep", "dependencies", "prep"]);
    }

    #[test]
    fn pieces_are_joined_and_offsets_point_at_line_starts() {
        let mut lines = LineSplitter::new();
        let mut seen = Vec::new();
        let mut note =
            |line: &[u8], at| seen.push((String::from_utf8_lossy(line).into_owned(), at));
        lines.feed(10, b"ab", &mut note);
        lines.feed(20, b"c\nnext\n", &mut note);
        lines.feed(27, &[b'x'; 500], &mut note);
        lines.feed(527, b"\n\n", &mut note);
        assert_eq!(seen[0], ("abc".to_owned(), 10));
        assert_eq!(seen[1], ("next".to_owned(), 22));
        assert_eq!((seen[2].0.len(), seen[2].1), (PREFIX, 27));
        assert_eq!(seen[3], (String::new(), 528));
    }

    #[test]
    fn a_forger_gets_only_so_many_marks() {
        let mut stages = Stages::default();
        for round in 0..1000 {
            let line = if round % 2 == 0 {
                "Executing(%prep): x"
            } else {
                "Executing(%build): x"
            };
            stages.read_line(Channel::Stdout, line.as_bytes(), round);
        }
        assert_eq!(stages.finish().len(), MAX_MARKS);
    }

    #[test]
    fn each_announcement_of_mock_has_its_stage() {
        for (line, stage) in [
            ("Start: init plugins", Some("buildroot")),
            ("INFO: Start: chroot init", Some("buildroot")),
            ("Start(bootstrap): run", Some("buildroot")),
            ("Finish: chroot init", Some("dependencies")),
            ("Start: build phase for a-1-1.src.rpm", Some("dependencies")),
            ("Start: build setup for a-1-1.src.rpm", Some("dependencies")),
            ("Start: rpmbuild a-1-1.src.rpm", Some("prep")),
            ("Finish: rpmbuild a-1-1.src.rpm", None),
            ("Start: unpacking root cache", None),
            ("ERROR: Start: run", None),
            ("start: run", None),
            ("", None),
        ] {
            assert_eq!(stage_by_mock(line), stage, "{line:?}");
        }
    }

    #[test]
    fn packaging_begins_only_behind_a_stage_of_the_package() {
        let wrote = "Wrote: /builddir/build/SRPMS/a-1-1.src.rpm";
        for before in [
            None,
            Some("buildroot"),
            Some("dependencies"),
            Some("package"),
        ] {
            assert_eq!(stage_by_rpmbuild(wrote, before), None, "{before:?}");
        }
        for before in ["prep", "build", "install", "check"] {
            assert_eq!(stage_by_rpmbuild(wrote, Some(before)), Some("package"));
        }
        let unknown = "Executing(%clean): /bin/sh";
        assert_eq!(stage_by_rpmbuild(unknown, Some("check")), None);
    }

    #[test]
    fn a_line_that_is_no_text_begins_nothing() {
        let mut stages = Stages::default();
        let line = b"Executing(%build): \xff";
        assert!(stages.read_line(Channel::Stdout, line, 0).is_none());
        assert_eq!(stages.current(), None);
        assert!(stages.finish().is_empty());
    }

    #[test]
    fn a_mark_says_where_its_line_lies_and_how_long_the_stage_took() {
        let mut stages = Stages::default();
        let mark = stages
            .read_line(Channel::Stderr, b"Start: run", 120)
            .unwrap();
        assert_eq!((mark.log_offset, mark.seconds), (120, None));
        assert!(
            stages.begin("buildroot", 300).is_none(),
            "it is that stage already"
        );
        stages.begin("prep", 400);
        stages.end();
        assert_eq!(stages.current(), Some("prep"), "the last one stays known");
        let marks = stages.finish();
        let places: Vec<u64> = marks.iter().map(|mark| mark.log_offset).collect();
        assert_eq!(places, [120, 400]);
        assert!(marks.iter().all(|mark| mark.seconds.is_some()));
    }

    #[test]
    fn plans_may_name_only_stages_of_the_glossary() {
        assert_eq!(stage_word("check"), Some("check"));
        assert_eq!(stage_word("Check"), None);
        assert_eq!(stage_word("upload"), None);
    }

    #[test]
    fn carriage_returns_and_blanks_at_a_lines_end_are_left_out() {
        let mut lines = LineSplitter::new();
        let mut seen = Vec::new();
        lines.feed(0, b"Start: run \t\r\n  \r\nrest", |line, at| {
            seen.push((line.to_vec(), at));
        });
        assert_eq!(seen, [(b"Start: run".to_vec(), 0), (Vec::new(), 14)]);
    }
}
