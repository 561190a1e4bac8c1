//! Which program mock is. Where mock comes from its RPM, `mock` of PATH is a link to consolehelper, which refuses root or
//! tells mock to build as uid 0; mock's own program lies beside it and is the one that is called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::protocol::MOCK;

/// mock's own program, as its RPM installs it.
const OWN: &str = "usr/libexec/mock/mock";
/// The wrapper of the package usermode.
const WRAPPER: &str = "consolehelper";
/// Where programs are looked for without PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// The program that a step calls: mock's own for `mock`, else the one that is named.
pub(crate) fn resolve(program: &str) -> Result<PathBuf, String> {
    if program != MOCK {
        return Ok(program.into());
    }
    let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
    mock_in(Path::new("/"), &path)
}

fn mock_in(root: &Path, path: &str) -> Result<PathBuf, String> {
    let own = root.join(OWN);
    if is_program(&own) {
        return Ok(own);
    }
    let found = (path.split(':').filter(|folder| folder.starts_with('/')))
        .map(|folder| root.join(&folder[1..]).join(MOCK))
        .find(|file| is_program(file));
    let Some(found) = found else {
        return Err(format!("there is neither /{OWN} nor {MOCK} in {path}"));
    };
    if is_wrapper(&found) {
        return Err(format!(
            "{} is a link to consolehelper, through which package code can run as root, and mock's own program \
             /{OWN} is not there",
            found.display()
        ));
    }
    Ok(found)
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Whether the links from this file lead to the wrapper.
fn is_wrapper(file: &Path) -> bool {
    let target = fs::canonicalize(file);
    target.is_ok_and(|target| target.file_name().is_some_and(|name| name == WRAPPER))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// An image's file system with these programs, and a link `usr/bin/mock` to consolehelper where one is wanted.
    fn image(name: &str, programs: &[&str], is_linked: bool) -> PathBuf {
        let root =
            std::env::temp_dir().join(format!("millrace-mock-{name}-{}", std::process::id()));
        let _none = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir_all(root.join("usr/libexec/mock")).unwrap();
        for program in programs {
            fs::write(root.join(program), "#!/bin/sh\n").unwrap();
            fs::set_permissions(root.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        if is_linked {
            symlink("consolehelper", root.join("usr/bin/mock")).unwrap();
        }
        root
    }

    fn found(root: &Path) -> Result<PathBuf, String> {
        let found = mock_in(root, "bin:/usr/local/bin:/usr/bin");
        fs::remove_dir_all(root).unwrap();
        found.map(|file| file.strip_prefix(root).unwrap().to_owned())
    }

    #[test]
    fn mocks_own_program_comes_before_its_name() {
        let rpm = image("rpm", &["usr/bin/consolehelper", OWN], true);
        assert_eq!(found(&rpm), Ok(OWN.into()));
        let plain = image("plain", &["usr/bin/mock"], false);
        assert_eq!(found(&plain), Ok("usr/bin/mock".into()));
    }

    #[test]
    fn a_link_to_consolehelper_alone_is_no_mock() {
        let wrapped = image("wrapped", &["usr/bin/consolehelper"], true);
        let reason = found(&wrapped).unwrap_err();
        assert!(
            reason.contains("consolehelper") && reason.contains(OWN),
            "{reason}"
        );
        let dangling = image("dangling", &[], true);
        assert!(found(&dangling).unwrap_err().contains("neither"));
    }

    #[test]
    fn a_program_without_permission_is_none() {
        let root = image("plain-file", &["usr/bin/mock"], false);
        fs::write(root.join(OWN), "").unwrap();
        fs::set_permissions(root.join(OWN), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(found(&root), Ok("usr/bin/mock".into()));
    }

    #[test]
    fn other_programs_are_called_by_their_name() {
        assert_eq!(resolve("createrepo_c"), Ok("createrepo_c".into()));
        assert_eq!(resolve("/millrace/mock"), Ok("/millrace/mock".into()));
    }
}
