//! The self-test, started by a builder: in a container with a small memory limit, a child touches more than the limit
//! allows, and a device node is made and opened. What happened is printed as [`SelfTestFacts`], which the builder
//! evaluates.

use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::cgroup::Meter;
use crate::exit_codes::USAGE;
use crate::netcut;
use crate::protocol::SelfTestFacts;

/// Argument with which the child is started that touches memory.
pub(crate) const HOG: &str = "selftest-hog";
/// Exit code of the child where it touched everything and was not killed.
const SURVIVED: u8 = 10;
/// Exit code of the child where it was not killed because part of it is in swap.
const SURVIVED_BY_SWAP: u8 = 11;

/// Runs the self-test and prints its facts.
pub(crate) fn run(mib: &str) -> ExitCode {
    match facts(mib).and_then(|facts| Ok(serde_json::to_string(&facts)?)) {
        Ok(line) => match writeln!(io::stdout(), "{line}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("millrace-supervisor: the self-test did not run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn facts(mib: &str) -> io::Result<SelfTestFacts> {
    let mut meter = Meter::start();
    let status = Command::new("/proc/self/exe").args([HOG, mib]).status()?;
    let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let survived_by_swap = status.code() == Some(SURVIVED_BY_SWAP.into());
    Ok(SelfTestFacts {
        memory_limit_bytes: meter.limit(),
        hog_survived: survived_by_swap || status.code() == Some(SURVIVED.into()),
        hog_signal: status.signal(),
        oom_kills: meter.sample().oom_kills,
        survived_by_swap,
        device_node_opens: device_node_opens(),
        capabilities: field(&own, "CapEff").map(str::to_owned),
        no_new_privileges: field(&own, "NoNewPrivs").map(|value| value == "1"),
    })
}

/// Succeeds where the network links are as expected: some `before` the cut, none but loopback after it.
pub(crate) fn links(when: &str) -> ExitCode {
    let is_right = netcut::is_connected() == Some(when == "before");
    if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Touches the given number of MiB, with bytes that no kernel merges or leaves out.
pub(crate) fn hog(mib: &str) -> ExitCode {
    let Ok(mib) = mib.parse::<usize>() else {
        return ExitCode::from(USAGE);
    };
    let mut held = Vec::new();
    for round in 0..mib {
        let byte = u8::try_from(round % 255).unwrap_or(0) + 1;
        held.push(vec![byte; 1 << 20]);
    }
    let has_swapped = Meter::start().swap() > 0;
    black_box(&held);
    ExitCode::from(if has_swapped {
        SURVIVED_BY_SWAP
    } else {
        SURVIVED
    })
}

/// Makes the node of /dev/null on the root file system and opens it.
fn device_node_opens() -> Option<bool> {
    const NODE: &str = "/millrace-selftest-node";
    mknod(
        NODE,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o600),
        makedev(1, 3),
    )
    .ok()?;
    let opens = fs::File::open(NODE).is_ok();
    // The container is thrown away, the node with it.
    let _leftover = fs::remove_file(NODE);
    Some(opens)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_status_file_are_found_by_their_whole_name() {
        let status = "Name:\tx\nCapEffective:\t1\nCapEff:\t00000000882400fb\nNoNewPrivs:\t1\n";
        assert_eq!(field(status, "CapEff"), Some("00000000882400fb"));
        assert_eq!(field(status, "Seccomp"), None);
    }

    #[test]
    fn a_hog_without_a_number_is_a_usage_error() {
        let text = |code: ExitCode| format!("{code:?}");
        for bad in ["", "-1", "1.5", "many"] {
            assert_eq!(text(hog(bad)), text(ExitCode::from(USAGE)), "{bad:?}");
        }
    }

    #[test]
    fn links_are_either_there_or_cut() {
        let text = |code: ExitCode| format!("{code:?}");
        let is_connected = netcut::is_connected() == Some(true);
        let (before, after) = (text(links("before")), text(links("after")));
        assert_ne!(before, after);
        assert_eq!(before == text(ExitCode::SUCCESS), is_connected);
    }
}
