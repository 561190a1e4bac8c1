//! mock's settings in a baked chroot. They are written into mock's user configuration, since only that is read after the
//! chroot's own, and hold in the bake and in each build of its image. mock-offline has no configuration of that kind.

/// Writes the settings into a container; what a bake runs reads it. `deploy/bin/bake-chroots` has it read, too.
pub(crate) const SETTINGS: &str = include_str!("../../proof/settings.sh");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mock_is_told_is_written_where_it_is_read_last() {
        for setting in [
            "config_opts['package_manager_max_attempts'] = 3\n",
            "config_opts['use_container_host_hostname'] = False\n",
            "'keepcache=0'",
            ">>\"$home/.config/mock.cfg\"",
        ] {
            assert!(SETTINGS.contains(setting), "{setting}");
        }
    }
}
