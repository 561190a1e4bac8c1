//! Source packages that end in a known way; `tests/fixtures/*/expected.toml` tells which.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::settings::{Settings, repository};

/// A fixture with its source package.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// The folder's name.
    pub name: String,
    /// Path of the source package that `make-srpms.sh` made.
    pub srpm: PathBuf,
    /// How it ends.
    pub expected: Expected,
}

/// The contents of `expected.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The outcome's kind.
    pub outcome: String,
    /// The stage in which it ends.
    pub stage: Option<String>,
    /// A part of the outcome's message.
    pub message: Option<String>,
    /// A part of the first error line.
    pub first_error: Option<String>,
    /// A part of the log.
    pub log: Option<String>,
    /// mock's own exit code.
    pub exit_code: Option<i32>,
    /// The least peak of memory, in MiB.
    pub peak_at_least_mib: Option<u64>,
    /// The highest peak of memory, in MiB.
    pub peak_at_most_mib: Option<u64>,
    /// Memory limit in MB to submit it with.
    pub memory: Option<u32>,
    /// Time limit in seconds to submit it with.
    pub timeout: Option<u32>,
    /// Settings of the builder that it needs.
    #[serde(default)]
    pub builder: BTreeMap<String, String>,
}

/// A fixture by name.
pub fn fixture(name: &str) -> Fixture {
    let folder = repository().join("tests/fixtures").join(name);
    let text = std::fs::read_to_string(folder.join("expected.toml"))
        .unwrap_or_else(|e| panic!("fixture {name}: {e}"));
    let expected = toml::from_str(&text).unwrap_or_else(|e| panic!("fixture {name}: {e}"));
    Fixture {
        name: name.to_owned(),
        srpm: srpm(name),
        expected,
    }
}

/// All fixtures, by name.
pub fn fixtures() -> Vec<Fixture> {
    let mut names: Vec<String> = std::fs::read_dir(repository().join("tests/fixtures"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("expected.toml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.iter().map(|name| fixture(name)).collect()
}

impl Fixture {
    /// The fixture of this name.
    pub fn named(name: &str) -> Self {
        fixture(name)
    }

    /// Path of the source package as text.
    pub fn path(&self) -> &str {
        self.srpm.to_str().unwrap()
    }

    /// Arguments for `millrace submit` that carry the fixture's limits.
    pub fn limits(&self) -> Vec<String> {
        let memory = self
            .expected
            .memory
            .map(|m| ["--memory".to_owned(), m.to_string()]);
        let timeout = self
            .expected
            .timeout
            .map(|t| ["--timeout".to_owned(), t.to_string()]);
        [memory, timeout].into_iter().flatten().flatten().collect()
    }
}

/// Makes a source package of a spec that a test writes itself; gives its path in the folder.
pub fn source_package(name: &str, spec: &str, folder: &Path) -> String {
    let settings = Settings::from_env();
    let script = "mkdir -p /tmp/in /tmp/out && cat >/tmp/in/it.spec && \
                  rpmbuild -bs --quiet --nodeps --undefine dist --define '_topdir /tmp/top' \
                  --define '_srcrpmdir /tmp/out' /tmp/in/it.spec >&2 && cat /tmp/out/*.src.rpm";
    let mut child = Command::new("docker")
        .args(["run", "--rm", "--interactive", "--network", "none"])
        .args(["--entrypoint", "sh", &settings.image, "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(spec.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "rpmbuild made no source package of {name}"
    );
    let path = folder.join(format!("{name}-1.0-1.src.rpm"));
    std::fs::write(&path, output.stdout).unwrap();
    path.to_str().unwrap().to_owned()
}

fn srpm(name: &str) -> PathBuf {
    let folder = Settings::from_env().fixtures;
    std::fs::read_dir(&folder)
        .unwrap_or_else(|e| {
            panic!(
                "{}: {e}; run tests/fixtures/make-srpms.sh first",
                folder.display()
            )
        })
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| is_srpm_of(n, name))
        })
        .unwrap_or_else(|| panic!("{} holds no source package of {name}", folder.display()))
}

/// `<name>.src.rpm`, or `<name>-<version>-<release>.src.rpm`.
fn is_srpm_of(file: &str, name: &str) -> bool {
    let Some(stem) = file.strip_suffix(".src.rpm") else {
        return false;
    };
    stem == name || stem.rsplitn(3, '-').nth(2) == Some(name)
}
