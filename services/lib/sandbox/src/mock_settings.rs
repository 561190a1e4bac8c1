//! mock's settings in a baked chroot. They are written into mock's user configuration, since only that is read after the
//! chroot's own, and hold in the bake and in each build of its image. mock-offline has no configuration of that kind.

use millrace_domain::ChrootName;

/// Writes the settings into a container. `deploy/bin/bake-chroots` runs it, too.
const SETTINGS: &str = include_str!("../bake/settings.sh");

/// What a bake's container runs: the settings are written, then mock is started.
pub(crate) fn bake_command(variables: &[&str], mock_root: &ChrootName) -> Vec<String> {
    let script = format!("{SETTINGS}exec mock -r \"$1\" --isolation simple --init");
    let call = ["sh", "-c", &script, "sh", mock_root.as_str()];
    let words = ["env"].iter().chain(variables).chain(&call);
    words.map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mock_is_told_comes_before_it_and_stays_in_the_image() {
        let command = bake_command(&["SUDO_UID=1000"], &"x-1-y".parse().unwrap());
        let [.., shell, flag, script, name, root] = &command[..] else {
            panic!("{command:?}");
        };
        assert_eq!([shell, flag, name, root], ["sh", "-c", "sh", "x-1-y"]);
        for setting in [
            "config_opts['package_manager_max_attempts'] = 3\n",
            "config_opts['use_container_host_hostname'] = False\n",
            "'keepcache=0'",
            ">>\"$home/.config/mock.cfg\"",
        ] {
            assert!(script.contains(setting), "{setting}");
        }
        assert!(script.ends_with("\nexec mock -r \"$1\" --isolation simple --init"));
    }
}
