//! mock's exit codes in words. The documented meanings are not always the observed ones; these are the observed.

/// What an exit code of mock means, as a person would say it.
pub fn meaning(code: i32) -> String {
    let meaning = match code {
        0 => "success",
        1 => "the package failed, or mock itself did",
        2 => "something was not permitted, or the command line was refused",
        3 => "the chroot's configuration is missing or broken",
        5 => "an option has a bad value, or the source could not be fetched",
        7 => "interrupted",
        10 => "%generate_buildrequires failed",
        11 => "rpmbuild ran into mock's own time limit",
        30 => "a package could not be installed or a repository could not be read",
        32 => "a mount was refused",
        40 => "the source package cannot be installed",
        50 => "no source package was given",
        60 => "another mock works in the same root",
        70 => "the result directory cannot be written",
        137 => "killed",
        143 => "terminated",
        129..=192 => return format!("ended by signal {}", code - 128),
        193..=255 => return format!("rpmbuild was ended by signal {}", 256 - code),
        _ => "a code without a known meaning",
    };
    meaning.to_owned()
}

/// The whole sentence of an outcome's `exit_text`.
pub fn sentence(code: i32) -> String {
    format!("mock exited with {code}: {}", meaning(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_mock_passes_through_are_told_as_signals() {
        assert_eq!(
            sentence(247),
            "mock exited with 247: rpmbuild was ended by signal 9"
        );
        assert_eq!(sentence(139), "mock exited with 139: ended by signal 11");
        assert!(sentence(30).contains("could not be installed"));
        assert!(sentence(99).contains("without a known meaning"));
    }
}
