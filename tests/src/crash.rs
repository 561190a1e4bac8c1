//! Programs that are killed at a crash point, and started again as if nothing had been.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use crate::settings::repository;
use crate::{Pipeline, Process};

const VARIABLE: &str = "MILLRACE_CRASH_AT";
/// A program that was not killed by then never came to its point.
const DEADLINE: Duration = Duration::from_mins(2);

/// A program with crash points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The first frontend.
    Frontend,
    /// The first builder.
    Builder,
}

impl Program {
    /// The folder of its sources, from the repository's root.
    fn sources(self) -> &'static str {
        match self {
            Self::Frontend => "services/frontend/src",
            Self::Builder => "services/builder/src",
        }
    }

    fn binary(self) -> &'static str {
        match self {
            Self::Frontend => "millrace-frontend",
            Self::Builder => "millrace-builder",
        }
    }
}

/// Names of the crash points in a program's sources, sorted; a name that is used twice is there twice.
pub fn crash_points(program: Program) -> Vec<String> {
    let mut names = Vec::new();
    find_points(&repository().join(program.sources()), &mut names);
    names.sort();
    names
}

fn find_points(folder: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_points(&path, names);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            let points = text.split("crash_point(\"").skip(1);
            names.extend(points.map(|rest| rest.split('"').next().unwrap_or_default().to_owned()));
        }
    }
}

impl Pipeline {
    /// Panics unless the programs under test have crash points.
    pub fn assert_crash_points(&self) {
        for program in [Program::Frontend, Program::Builder] {
            let path = self.settings.bin.join(program.binary());
            let bytes = std::fs::read(&path).unwrap();
            let (first, rest) = VARIABLE.as_bytes().split_at(1);
            let has_points = bytes
                .split(|byte| *byte == first[0])
                .any(|part| part.starts_with(rest));
            assert!(
                has_points,
                "{} does not die at crash points: it is not one of tests/programs, see CONTRIBUTING.md",
                path.display()
            );
        }
    }

    /// Kills a program where it stands, and starts it so that it dies at a point. Does not wait until it is ready: it may
    /// die before.
    pub fn arm(&mut self, program: Program, point: &str) {
        self.start_anew(program, &[(VARIABLE.to_owned(), point.to_owned())]);
    }

    /// Starts a program that has died, or that is killed first; does not wait until it is ready.
    pub fn revive(&mut self, program: Program) {
        self.start_anew(program, &[]);
    }

    /// Waits until a program was killed at its point.
    pub async fn died(&mut self, program: Program, point: &str) {
        let process = self.process(program);
        let status = process.ended(DEADLINE).await;
        let log = process.log();
        let name = point.split('#').next().unwrap_or(point);
        assert_eq!(
            status.signal(),
            Some(9),
            "{program:?} ended by itself: {status}"
        );
        assert_eq!(
            log.lines()
                .rev()
                .find(|line| line.contains("killed at the crash point")),
            Some(format!("killed at the crash point {name}").as_str())
        );
    }

    /// The program's process.
    pub fn process(&mut self, program: Program) -> &mut Process {
        match program {
            Program::Frontend => &mut self.frontends[0],
            Program::Builder => &mut self.builders[0],
        }
    }

    fn start_anew(&mut self, program: Program, env: &[(String, String)]) {
        self.process(program).kill();
        let process = match program {
            Program::Frontend => self.frontend_process(0, self.port(), env),
            Program::Builder => self.builder_process(0, env),
        };
        *self.process(program) = process;
    }
}
