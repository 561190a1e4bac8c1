//! Dynamic build requirements: while it is built, without network, a package finds out what else it needs, and rpmbuild
//! leaves a source package that names these requirements. They are installed with the network connected, while nothing of
//! the package runs, and the build step runs again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::Supervisor;
use crate::protocol::{REQUIRES_PATH, Rounds, Step, StepEnd};

/// Largest source package that is read for requirements, in bytes.
const MAX_REQUIRES: u64 = 8 << 20;

impl Supervisor {
    /// Runs a step, and again after each round of requirements that it left.
    pub(super) fn run_with_dynamic_requires(&mut self, step: &Step) -> StepEnd {
        let mut end = self.run_step(step);
        let Some(rounds) = &step.rounds else {
            return end;
        };
        for round in 1..=rounds.at_most {
            if !self.is_another_due(rounds, &end) {
                break;
            }
            self.rounds = round;
            self.log_line(&format!("dynamic build requirements, round {round}"));
            let installed = self.run_step(&rounds.install);
            if installed != StepEnd::Exit(0) || self.limits.is_ending() {
                return installed;
            }
            end = self.run_step(step);
        }
        end
    }

    fn is_another_due(&mut self, rounds: &Rounds, end: &StepEnd) -> bool {
        let may_lack_requires =
            matches!(end, StepEnd::Exit(code) if rounds.exit_codes.contains(code));
        if !may_lack_requires || self.limits.is_ending() {
            return false;
        }
        match take_requires(rounds, Path::new(REQUIRES_PATH)) {
            Ok(was_left) => was_left,
            Err(error) => {
                self.faults.push(format!(
                    "dynamic build requirements cannot be read: {error}"
                ));
                false
            }
        }
    }
}

/// Moves the file that names requirements to its fixed place; whether there was one. The package may have put anything
/// there, so only a regular file is taken, and only its bytes.
fn take_requires(rounds: &Rounds, to: &Path) -> io::Result<bool> {
    for folder in expand(&rounds.folder) {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let mut names: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                name.as_encoded_bytes().ends_with(rounds.suffix.as_bytes())
            })
            .map(|entry| entry.path())
            .collect();
        names.sort();
        if let Some(path) = names.first() {
            copy_plain(path, to)?;
            fs::remove_file(path)?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn copy_plain(from: &Path, to: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(from)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > MAX_REQUIRES {
        return Err(io::Error::other("it is no small regular file"));
    }
    io::copy(&mut file.take(MAX_REQUIRES), &mut File::create(to)?).map(drop)
}

/// The folders that a path with `*` in place of some folders stands for, in order of their names.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = if part == "*" {
            let mut below: Vec<PathBuf> = found
                .iter()
                .filter_map(|folder| fs::read_dir(folder).ok())
                .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
                .collect();
            below.sort();
            below
        } else {
            found.into_iter().map(|folder| folder.join(part)).collect()
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_star_stands_for_one_folder() {
        let home = std::env::temp_dir().join(format!("millrace-rounds-{}", std::process::id()));
        fs::create_dir_all(home.join("a/root/SRPMS")).unwrap();
        fs::create_dir_all(home.join("b/root/SRPMS")).unwrap();
        let found = expand(&format!("{}/*/root/SRPMS", home.display()));
        fs::remove_dir_all(&home).unwrap();
        assert_eq!(
            found,
            [home.join("a/root/SRPMS"), home.join("b/root/SRPMS")]
        );
    }

    #[test]
    fn only_a_regular_file_is_taken() {
        let home = std::env::temp_dir().join(format!("millrace-requires-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("plain"), "x").unwrap();
        symlink(home.join("plain"), home.join("link")).unwrap();
        let to = home.join("to");
        let taken = copy_plain(&home.join("plain"), &to).is_ok();
        let followed = copy_plain(&home.join("link"), &to).is_ok();
        let device = copy_plain(Path::new("/dev/zero"), &to).is_ok();
        fs::remove_dir_all(&home).unwrap();
        assert!(taken && !followed && !device);
    }

    /// A folder of its own for a test, and the rounds of a step that leaves its file in a folder below it.
    fn left_in(home: &Path) -> Rounds {
        let step = Step {
            name: "requires".into(),
            argv: vec!["true".into()],
            arguments_from: None,
            env: Vec::new(),
            stage: None,
            network: None,
            rounds: None,
        };
        Rounds {
            exit_codes: vec![11],
            folder: format!("{}/*/SRPMS", home.display()),
            suffix: ".nosrc.rpm".into(),
            install: Box::new(step),
            at_most: 3,
        }
    }

    fn fresh_home(name: &str) -> PathBuf {
        let home = std::env::temp_dir().join(format!("millrace-{name}-{}", std::process::id()));
        fs::create_dir_all(home.join("root/SRPMS")).unwrap();
        home
    }

    #[test]
    fn the_first_file_with_the_ending_is_moved_to_its_place() {
        let home = fresh_home("take");
        let rounds = left_in(&home);
        let (folder, to) = (home.join("root/SRPMS"), home.join("to"));
        for (name, text) in [
            ("a.src.rpm", "no"),
            ("c.nosrc.rpm", "later"),
            ("b.nosrc.rpm", "first"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let taken = take_requires(&rounds, &to).unwrap();
        let text = fs::read_to_string(&to).unwrap();
        let mut left: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        fs::remove_dir_all(&home).unwrap();
        assert!(taken && text == "first");
        assert_eq!(left, ["a.src.rpm", "c.nosrc.rpm"]);
    }

    #[test]
    fn without_a_file_there_is_no_further_round() {
        let home = fresh_home("none");
        let rounds = left_in(&home);
        let taken = take_requires(&rounds, &home.join("to"));
        fs::remove_dir_all(&home).unwrap();
        assert!(!taken.unwrap());
        assert!(!take_requires(&rounds, Path::new("/nonexistent/to")).unwrap());
    }

    #[test]
    fn what_a_package_puts_in_the_files_place_is_an_error_and_is_not_followed() {
        let home = fresh_home("planted");
        let rounds = left_in(&home);
        let (planted, to) = (home.join("root/SRPMS/x.nosrc.rpm"), home.join("to"));
        symlink("/etc/passwd", &planted).unwrap();
        let link = take_requires(&rounds, &to).is_err();
        fs::remove_file(&planted).unwrap();
        fs::create_dir(&planted).unwrap();
        let folder = take_requires(&rounds, &to).is_err();
        fs::remove_dir(&planted).unwrap();
        File::create(&planted)
            .unwrap()
            .set_len(MAX_REQUIRES + 1)
            .unwrap();
        let large = take_requires(&rounds, &to).is_err();
        let copied = to.exists();
        fs::remove_dir_all(&home).unwrap();
        assert!(link && folder && large && !copied);
    }
}
