//! A small disk of one test's own, which the test fills and frees: a tmpfs.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted disk; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

/// Whether this machine lets a test mount a disk: as root, or through `sudo` without a password. Says so where it does
/// not.
pub fn can_mount() -> bool {
    let can = is_root() || sudo(&["true"]);
    if !can {
        println!(
            "NOT TESTED HERE: full disks; run as root, or with sudo that asks for no password"
        );
    }
    can
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn sudo(command: &[&str]) -> bool {
    let run = Command::new("sudo").arg("-n").args(command).output();
    run.is_ok_and(|output| output.status.success())
}

fn run_as_root(command: &[&str]) {
    if is_root() {
        let output = Command::new(command[0]).args(&command[1..]).output();
        let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}"));
        assert!(output.status.success(), "{command:?}: {output:?}");
    } else {
        assert!(sudo(command), "sudo -n {command:?} failed");
    }
}

impl SmallDisk {
    /// Mounts a disk of so many MiB on a folder, which is made.
    pub fn mount(path: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={mib}m,mode=1777");
        let folder = path.to_str().unwrap();
        run_as_root(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", folder]);
        Self {
            path: path.to_owned(),
        }
    }

    /// Fills it but for so many KiB.
    pub fn fill(&self, leave_kib: u64) {
        let mut filler = File::create(self.filler()).unwrap();
        let piece = vec![0x5a; 64 << 10];
        while filler.write_all(&piece).is_ok() {}
        let size = filler.metadata().unwrap().len();
        filler
            .set_len(size.saturating_sub(leave_kib << 10))
            .unwrap();
    }

    /// Gives back what was filled.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let folder = self.path.to_str().unwrap_or_default();
        // Processes that still have files open there end with the test.
        let command = ["umount", "--lazy", folder];
        if std::thread::panicking() {
            Command::new(command[0]).args(&command[1..]).output().ok();
        } else {
            run_as_root(&command);
        }
    }
}
