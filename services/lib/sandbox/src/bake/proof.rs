//! The proof that builds in a chroot are unprivileged: a source package that looks at the rpmbuild that builds it, and
//! fails unless its real, effective and saved uid are not 0, it holds no capability, and setuid(0) is refused. It is built
//! in each bake, and by a builder in a sandbox where an image does not say that its bake did so under the same profile.

use std::fmt;

use millrace_domain::ChrootName;

use super::mock_settings::SETTINGS;
use crate::archive;
use crate::profile::Profile;

/// The source package; `proof/make` makes it from the spec file beside it.
pub const PROOF_SOURCE: &[u8] = include_bytes!("../../proof/millrace-proof.src.rpm");
/// What a bake's container runs, and where it lies there beside the source package.
const BAKE_PROGRAM: &str = include_str!("../../proof/bake.sh");
const BAKE_PATH: &str = "/millrace/bake.sh";
const BAKE_SOURCE: &str = "/millrace/proof.src.rpm";
const BAKE_SETTINGS: &str = "/millrace/settings.sh";
/// Label of an image with the profile under which its bake proved it. `deploy/bin/bake-chroots` writes it too.
pub(crate) const PROVED: &str = "millrace.unprivileged";
/// Beginning of all that the proof says.
const MARK: &str = "millrace-proof: ";

/// What the log of a build of [`PROOF_SOURCE`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// rpmbuild and `%build` are unprivileged.
    Unprivileged,
    /// They are not, for this reason.
    Refused(String),
    /// The build did not get so far.
    Unknown,
}

impl Verdict {
    /// Reads the log. A single refusal counts more than anything else in it.
    pub fn in_log(log: &str) -> Self {
        let said = || {
            log.lines()
                .filter_map(|line| Some(line.split_once(MARK)?.1.trim()))
        };
        let refusal = said().find_map(|text| text.strip_prefix("refused: "));
        match refusal {
            Some(reason) => Self::Refused(reason.chars().filter(|c| !c.is_control()).collect()),
            None if said().any(|text| text == "unprivileged") => Self::Unprivileged,
            None => Self::Unknown,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unprivileged => f.write_str("builds are unprivileged"),
            Self::Refused(reason) => write!(f, "the chroot is refused: {reason}"),
            Self::Unknown => f.write_str("it was not proved that builds are unprivileged"),
        }
    }
}

/// The command of a bake. Its variables are not the container's, which the image would keep.
pub(crate) fn bake_command(variables: &[&str], mock_root: &ChrootName) -> Vec<String> {
    let call = ["sh", BAKE_PATH, mock_root.as_str()];
    let words = ["env"].iter().chain(variables).chain(&call);
    words.map(|word| (*word).to_owned()).collect()
}

/// Whether the log of a bake is past mock's init.
pub(crate) fn has_begun(log: &str) -> bool {
    log.lines().any(|line| line.starts_with(MARK))
}

/// The archive that a bake's container gets, to be unpacked at its root.
pub(crate) fn bake_archive() -> Vec<u8> {
    archive::of_contents(&[
        (BAKE_PATH, BAKE_PROGRAM.as_bytes()),
        (BAKE_SETTINGS, SETTINGS.as_bytes()),
        (BAKE_SOURCE, PROOF_SOURCE),
    ])
}

/// The line that labels a committed image as proved under this profile.
pub(crate) fn label(profile: Profile) -> String {
    format!("LABEL {PROVED}={profile}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_package_is_made_from_the_spec_file() {
        let spec = include_bytes!("../../proof/millrace-proof.spec");
        let holds = PROOF_SOURCE.windows(spec.len()).any(|piece| piece == spec);
        assert!(holds, "run proof/make");
        let text = String::from_utf8_lossy(spec);
        for looked_at in [
            "CapEff",
            "CapPrm",
            "\"real\", \"effective\", \"saved\"",
            "setuid(0)",
        ] {
            assert!(text.contains(looked_at), "{looked_at}");
        }
    }

    #[test]
    fn a_refusal_outweighs_and_silence_proves_nothing() {
        let good = "Executing(%build): /bin/sh\nmillrace-proof: unprivileged\n";
        assert_eq!(Verdict::in_log(good), Verdict::Unprivileged);
        let bad = "error: lua script failed: [string \"<lua>\"]:3: millrace-proof: refused: rpmbuild runs as root\n";
        let refused = Verdict::Refused("rpmbuild runs as root".to_owned());
        assert_eq!(Verdict::in_log(&format!("{good}{bad}")), refused);
        assert_eq!(
            Verdict::in_log("millrace-proof: ended with 0\n"),
            Verdict::Unknown
        );
        assert_eq!(
            Verdict::in_log("echo millrace-proof: unprivileged or not"),
            Verdict::Unknown
        );
    }

    #[test]
    fn a_bake_never_calls_the_wrapper_and_leaves_nothing_of_ours() {
        let command = bake_command(&["SUDO_UID=1000"], &"x-1-y".parse().unwrap());
        assert_eq!(
            command.join(" "),
            "env SUDO_UID=1000 sh /millrace/bake.sh x-1-y"
        );
        assert!(BAKE_PROGRAM.contains("own=/usr/libexec/mock/mock"));
        assert!(
            BAKE_PROGRAM.contains("*/consolehelper)") && BAKE_PROGRAM.contains("rm -rf /millrace")
        );
        let archive = bake_archive();
        assert_eq!(archive.len() % 512, 0);
        let mut names = tar::Archive::new(&archive[..]);
        let names: Vec<_> = names
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned())
            .collect();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(BAKE_PROGRAM.contains(&format!("\n. {BAKE_SETTINGS}")));
    }
}
