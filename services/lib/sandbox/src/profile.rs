//! The two profiles in which mock can work in a container: all privileges, or the capabilities that it needs.

use std::fmt;
use std::str::FromStr;

use bollard::models::HostConfig;

/// The capabilities that mock needs: with these it installs, mounts and builds as in a privileged container, but cannot
/// open a device of the host.
const CAPABILITIES: [&str; 11] = [
    "SYS_ADMIN",
    "SYS_CHROOT",
    "SETUID",
    "SETGID",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    MKNOD,
    "KILL",
    "SETFCAP",
];
const MKNOD: &str = "MKNOD";

/// The same capabilities as the kernel shows them.
pub(crate) const CAPABILITY_BITS: u64 = 0x8824_00fb;

/// Capabilities and devices of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// All capabilities and devices. Lets a build reach devices of its host.
    Privileged,
    /// Eleven capabilities, the default seccomp filter, no new privileges, no devices.
    Capabilities,
}

impl Profile {
    /// The engine's settings for this profile. Without `device_nodes`, the right to make them is left
    /// out: where a made node cannot be opened, mock must see the making fail to bind the host's instead.
    pub(crate) fn apply(self, host: &mut HostConfig, device_nodes: bool, has_apparmor: bool) {
        match self {
            Self::Privileged => host.privileged = Some(true),
            Self::Capabilities => {
                host.cap_drop = Some(vec!["ALL".to_owned()]);
                let wanted = CAPABILITIES
                    .iter()
                    .filter(|name| device_nodes || **name != MKNOD);
                host.cap_add = Some(wanted.map(|name| (*name).to_owned()).collect());
                let mut options = vec!["no-new-privileges".to_owned()];
                if has_apparmor {
                    // The engine's default AppArmor profile forbids every mount, and mock has to mount.
                    options.push("apparmor=unconfined".to_owned());
                }
                host.security_opt = Some(options);
            }
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Privileged => "privileged",
            Self::Capabilities => "capabilities",
        })
    }
}

/// A word that names no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no sandbox profile; expected 'privileged' or 'capabilities'")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "privileged" => Ok(Self::Privileged),
            "capabilities" => Ok(Self::Capabilities),
            other => Err(UnknownProfile(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_others_are_named() {
        for profile in [Profile::Privileged, Profile::Capabilities] {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        let error = "root".parse::<Profile>().unwrap_err();
        assert!(error.to_string().contains("'root'"));
    }

    #[test]
    fn the_capability_profile_drops_all_others() {
        let mut host = HostConfig::default();
        Profile::Capabilities.apply(&mut host, true, false);
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(
            host.cap_add.unwrap().len(),
            CAPABILITY_BITS.count_ones() as usize
        );
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!(host.privileged, None);
    }

    #[test]
    fn without_device_nodes_only_their_making_is_left_out() {
        let mut host = HostConfig::default();
        Profile::Capabilities.apply(&mut host, false, true);
        let added = host.cap_add.unwrap();
        assert!(added.len() == 10 && !added.iter().any(|name| name == MKNOD));
        assert!(
            host.security_opt
                .unwrap()
                .contains(&"apparmor=unconfined".to_owned())
        );
    }
}
