//! The self-test, started by a builder: in a container with a small memory limit, a child touches more than the limit
//! allows, and a device node is made and opened. What happened is printed as [`SelfTestFacts`], which the builder
//! evaluates.

use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::cgroup::Meter;
use crate::exit_codes::USAGE;
use crate::network::names;
use crate::network::netcut;
use crate::protocol::SelfTestFacts;

/// Argument with which the child is started that touches memory.
pub(crate) const HOG: &str = "selftest-hog";
/// Exit code of the child where it touched everything and was not killed.
const SURVIVED: u8 = 10;
/// Exit code of the child where it was not killed because part of it is in swap.
const SURVIVED_BY_SWAP: u8 = 11;

/// How long a connection on loopback may take.
const REACHED_WITHIN: Duration = Duration::from_secs(1);

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

/// Succeeds where the network is as expected: connected `before` the cut, and after it empty, with loopback and the own
/// name working. Prints what is wrong.
pub(crate) fn links(when: &str) -> ExitCode {
    let wrong = match when {
        "before" if netcut::is_connected() == Some(true) => None,
        "before" => Some("no link but loopback is up".to_owned()),
        _ => netcut::find_leak(&[]).or_else(|| not_reached(&own_places())),
    };
    match wrong {
        None => ExitCode::SUCCESS,
        Some(reason) => {
            println!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Where a machine without a network reaches itself: on loopback, of IPv6 too where the kernel has it, and by its own name.
fn own_places() -> Vec<(&'static str, Option<IpAddr>)> {
    let mut places = vec![("loopback", Some(Ipv4Addr::LOCALHOST.into()))];
    if fs::metadata("/proc/net/if_inet6").is_ok() {
        places.push(("loopback of IPv6", Some(Ipv6Addr::LOCALHOST.into())));
    }
    let own = names::own_addresses().unwrap_or_default();
    places.push(("the own name", own.first().copied()));
    places
}

/// The first place that is not reached.
fn not_reached(places: &[(&'static str, Option<IpAddr>)]) -> Option<String> {
    places.iter().find_map(|(what, address)| {
        let Some(address) = address else {
            return Some(format!("{what} is not known"));
        };
        reach(*address)
            .err()
            .map(|error| format!("{what} ({address}) is not reached: {error}"))
    })
}

fn reach(address: IpAddr) -> io::Result<()> {
    let listener = TcpListener::bind((address, 0))?;
    TcpStream::connect_timeout(&listener.local_addr()?, REACHED_WITHIN).map(drop)
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
    fn a_connected_machine_is_right_before_a_cut_and_wrong_after_it() {
        let text = |code: ExitCode| format!("{code:?}");
        // Whatever this machine has, its own listener is a leak.
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(text(links("after")), text(ExitCode::FAILURE));
        let is_connected = netcut::is_connected() == Some(true);
        assert_eq!(
            text(links("before")) == text(ExitCode::SUCCESS),
            is_connected
        );
    }

    #[test]
    fn a_place_that_is_not_reached_is_named() {
        let here = ("loopback", Some(IpAddr::from(Ipv4Addr::LOCALHOST)));
        assert_eq!(not_reached(&[here]), None);
        assert_eq!(
            not_reached(&[here, ("the own name", None)]).unwrap(),
            "the own name is not known"
        );
        // An address for documentation: nobody has it.
        let elsewhere = ("the own name", Some(IpAddr::from([192, 0, 2, 1])));
        let reason = not_reached(&[here, elsewhere]).unwrap();
        assert!(
            reason.starts_with("the own name (192.0.2.1) is not reached: "),
            "{reason}"
        );
    }
}
