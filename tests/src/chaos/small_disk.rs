//! A builder's disk that can be filled: a small file system in memory, where this process may mount one.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE_MIB: usize = 64;
const STUFFING: &str = "stuffing";

/// A mounted file system; unmounted when it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one on a new folder, or says why that cannot be.
    pub fn mount(path: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(path).unwrap();
        let options = format!("size={SIZE_MIB}m,mode=0700");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "millrace-chaos"])
            .arg(path)
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(Self {
                path: path.to_owned(),
            })
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> std::io::Result<()> {
        let mut file = File::create(self.path.join(STUFFING))?;
        let block = vec![b'x'; 1 << 20];
        for _ in 0..=SIZE_MIB {
            if let Err(error) = file.write_all(&block) {
                return if error.kind() == std::io::ErrorKind::StorageFull {
                    Ok(())
                } else {
                    Err(error)
                };
            }
        }
        Err(std::io::Error::other("the disk takes more than it holds"))
    }

    /// Makes room again.
    pub fn free(&self) -> std::io::Result<()> {
        std::fs::remove_file(self.path.join(STUFFING))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still have files open.
        Command::new("umount")
            .arg("--lazy")
            .arg(&self.path)
            .output()
            .ok();
    }
}
