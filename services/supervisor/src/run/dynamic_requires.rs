//! Dynamic build requirements: a package finds out what else it needs while it is built, without network. It leaves a
//! source package that names it; that is installed connected, while nothing of the package runs, and the build begins
//! anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::Supervisor;
use crate::protocol::{REQUIRES_PATH, Rounds, Step, StepEnd};

/// A larger file names no requirements.
const MAX_REQUIRES: u64 = 8 << 20;

impl Supervisor {
    /// Runs a step, and again after each round of requirements that it left.
    pub(super) fn run_in_rounds(&mut self, step: &Step) -> StepEnd {
        let mut end = self.run_step(step);
        let Some(rounds) = &step.rounds else {
            return end;
        };
        for round in 1..=rounds.at_most {
            if !self.is_another_due(rounds, &end) {
                break;
            }
            self.rounds = round;
            self.say(&format!("dynamic build requirements, round {round}"));
            let installed = self.run_step(&rounds.install);
            if installed != StepEnd::Exit(0) || self.limits.is_ending() {
                return installed;
            }
            end = self.run_step(step);
        }
        end
    }

    fn is_another_due(&mut self, rounds: &Rounds, end: &StepEnd) -> bool {
        let may = matches!(end, StepEnd::Exit(code) if rounds.exit_codes.contains(code));
        if !may || self.limits.is_ending() {
            return false;
        }
        match take_requires(rounds) {
            Ok(is_there) => is_there,
            Err(error) => {
                self.faults.push(format!(
                    "dynamic build requirements cannot be read: {error}"
                ));
                false
            }
        }
    }
}

/// Moves the file to its fixed place; tells whether there was one. The package may have put anything in its place, so
/// only a regular file is taken, and only its bytes.
fn take_requires(rounds: &Rounds) -> io::Result<bool> {
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
            copy_plain(path, Path::new(REQUIRES_PATH))?;
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
}
