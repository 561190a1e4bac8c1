//! What the suite takes from its environment: the same suite runs against real mock.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Settings of the suite.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Chroot to build in: `MILLRACE_TEST_CHROOT`.
    pub chroot: String,
    /// Its baked image: `MILLRACE_TEST_CHROOT_IMAGE`.
    pub image: String,
    /// What that is baked from: `MILLRACE_TEST_BASE_IMAGE`.
    pub base: String,
    /// Name of mock's configuration in the image: `MILLRACE_TEST_MOCK_ROOT`.
    pub mock_root: String,
    /// The engine's socket: `MILLRACE_TEST_ENGINE_URL`.
    pub engine: String,
    /// Sandbox profile: `MILLRACE_TEST_PROFILE`.
    pub profile: String,
    /// Folder with the fixtures' source packages: `MILLRACE_TEST_FIXTURES`.
    pub fixtures: PathBuf,
    /// Folder with the binaries: `MILLRACE_TEST_BIN`.
    pub bin: PathBuf,
    /// The supervisor, linked statically: `MILLRACE_TEST_SUPERVISOR`.
    pub supervisor: PathBuf,
}

impl Settings {
    /// Whether the programs under test are those of another release, whose schema may be another one.
    pub fn is_other_release(&self) -> bool {
        std::env::var_os("MILLRACE_TEST_RECORD").is_some()
    }

    /// Reads the environment; defaults fit what `make test` prepares.
    pub fn from_env() -> Self {
        let root = repository();
        let chroot = variable("MILLRACE_TEST_CHROOT", "debian-13-x86_64");
        Self {
            image: variable(
                "MILLRACE_TEST_CHROOT_IMAGE",
                &format!("millrace-offline/chroot-{chroot}"),
            ),
            base: variable("MILLRACE_TEST_BASE_IMAGE", "millrace-offline/mock:13"),
            mock_root: variable("MILLRACE_TEST_MOCK_ROOT", &chroot),
            chroot,
            engine: variable("MILLRACE_TEST_ENGINE_URL", "unix:///var/run/docker.sock"),
            profile: variable("MILLRACE_TEST_PROFILE", "capabilities"),
            supervisor: variable(
                "MILLRACE_TEST_SUPERVISOR",
                &root
                    .join("target/image/millrace-supervisor")
                    .display()
                    .to_string(),
            )
            .into(),
            fixtures: variable(
                "MILLRACE_TEST_FIXTURES",
                &root.join("target/fixtures").display().to_string(),
            )
            .into(),
            bin: variable(
                "MILLRACE_TEST_BIN",
                &root.join("target/release").display().to_string(),
            )
            .into(),
        }
    }
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name)
        .ok()
        .filter(|v| !v.is_empty())
        .unwrap_or_else(|| default.to_owned())
}

/// A number that sizes a test or a measurement, by its variable; panics where the variable holds another thing, so that a
/// long form is not the short one by a slip.
pub fn sized_by<T: FromStr>(name: &str, default: T) -> T {
    let Some(text) = std::env::var_os(name) else {
        return default;
    };
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("{name} is no number: {}", text.display()))
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
