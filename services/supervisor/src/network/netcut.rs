//! The network cut. Dependencies are installed connected; the package's own code runs with loopback only. It is cut twice:
//! the builder disconnects the container through the engine, as the supervisor requests it, and the supervisor joins an
//! empty network (`netns.rs`). The step starts only once no link but loopback is up, nothing listens, and nothing answers.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// How long the builder may take to disconnect or to connect.
pub(crate) const CHANGE_WITHIN: Duration = Duration::from_secs(30);
/// Time between two checks of the links meanwhile.
pub(crate) const CHECK_EVERY: Duration = Duration::from_millis(10);

/// Docker's resolver, on loopback of every container that is or was on a network of its own.
const DOCKERS_RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
/// Where resolvers answer.
const DOMAIN: u16 = 53;
/// How long an answer may take. A network with loopback alone refuses at once.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);
/// Tables of the kernel that have a heading and then one line for each socket of the network.
const SOCKET_TABLES: [&str; 11] = [
    "tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6", "packet",
];

/// Whether any link but loopback is up; none when that cannot be read. The kernel's own flags say which, not names.
pub(crate) fn is_connected() -> Option<bool> {
    let links: Vec<_> = getifaddrs().ok()?.map(|link| link.flags).collect();
    Some(links.iter().copied().any(leads_out))
}

/// Whether a link with these flags leads anywhere. Tunnels that the kernel makes in every network are down.
fn leads_out(flags: InterfaceFlags) -> bool {
    flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
}

/// Whether there is a default route. A link appears before its addresses and routes do.
pub(crate) fn has_route() -> bool {
    has_default(&table("route"))
}

/// What of a network that is to be empty is open; none where nothing is. `resolvers` are asked besides Docker's.
pub(crate) fn find_leak(resolvers: &[IpAddr]) -> Option<String> {
    match is_connected() {
        None => return Some("its links cannot be read".to_owned()),
        Some(true) => return Some("a link other than loopback is up".to_owned()),
        Some(false) => {}
    }
    if has_route() {
        return Some("it has a default route".to_owned());
    }
    if let Some(name) = SOCKET_TABLES.iter().find(|name| has_sockets(&table(name))) {
        return Some(format!("a socket is open in it (/proc/net/{name})"));
    }
    [DOCKERS_RESOLVER]
        .iter()
        .chain(resolvers)
        .map(|address| SocketAddr::new(*address, DOMAIN))
        .find(|at| is_answered(*at))
        .map(|at| format!("{at} answers, or swallows what it is asked"))
}

fn has_sockets(table: &str) -> bool {
    table.lines().skip(1).any(|line| !line.trim().is_empty())
}

/// Whether anything but a refusal comes from an address, by TCP or UDP. Silence counts: somebody took the question.
fn is_answered(at: SocketAddr) -> bool {
    let is_silent = |kind| matches!(kind, ErrorKind::TimedOut | ErrorKind::WouldBlock);
    match TcpStream::connect_timeout(&at, ANSWER_WITHIN) {
        Ok(_) => return true,
        Err(error) if is_silent(error.kind()) => return true,
        Err(_) => {}
    }
    match ask(at) {
        Ok(()) => true,
        Err(error) => is_silent(error.kind()),
    }
}

fn ask(at: SocketAddr) -> io::Result<()> {
    let any: IpAddr = match at {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.connect(at)?;
    socket.send(&[0])?;
    socket.recv(&mut [0]).map(drop)
}

/// A table of the network that this thread is in; empty where the kernel has none.
fn table(name: &str) -> String {
    fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default()
}

/// `/proc/net/dev` (`proc_pid_net(5)`): two lines of heading, then one a link, `NAME: counters`.
fn counters(table: &str) -> impl Iterator<Item = &str> {
    table
        .lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() != "lo")
        .map(|(_, counters)| counters)
}

/// What came in over all links but loopback, in bytes: the first counter of each.
fn bytes_in(table: &str) -> u64 {
    counters(table)
        .filter_map(|counters| counters.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Counts what the container receives over its network. A link's counter vanishes with the link when it is cut, and
/// begins at zero when it is connected again.
#[derive(Debug, Default)]
pub(crate) struct ReceivedBytes {
    of_former_links: u64,
    last: u64,
}

impl ReceivedBytes {
    /// Reads the links' counters and returns all bytes received so far. To be called before each cut as well.
    pub(crate) fn update(&mut self) -> u64 {
        self.add(bytes_in(&table("dev")))
    }

    fn add(&mut self, now: u64) -> u64 {
        if now < self.last {
            self.of_former_links += self.last;
        }
        self.last = now;
        self.of_former_links + now
    }
}

/// `/proc/net/route`: a heading, then one line a route, the destination in the second column.
fn has_default(table: &str) -> bool {
    table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .any(|destination| destination == "00000000")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const HEADING: &str = "Inter-|   Receive |  Transmit\n face |bytes    packets\n";

    #[test]
    fn a_link_that_is_up_leads_out_whatever_its_name_and_loopback_does_not() {
        let (up, loopback) = (InterfaceFlags::IFF_UP, InterfaceFlags::IFF_LOOPBACK);
        assert!(leads_out(up) && leads_out(up | InterfaceFlags::IFF_POINTOPOINT));
        assert!(!leads_out(up | loopback) && !leads_out(InterfaceFlags::empty()));
    }

    #[test]
    fn a_table_with_a_line_below_its_heading_has_a_socket() {
        assert!(!has_sockets("") && !has_sockets("  sl  local_address\n"));
        assert!(has_sockets(
            "  sl  local_address\n   0: 0B00007F:9D91 00000000:0000 0A\n"
        ));
    }

    #[test]
    fn who_listens_or_swallows_answers_and_who_refuses_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (tcp, udp) = (listener.local_addr().unwrap(), silent.local_addr().unwrap());
        assert!(is_answered(tcp) && is_answered(udp));
        drop((listener, silent));
        assert!(!is_answered(tcp) && !is_answered(udp));
    }

    #[test]
    fn this_machines_open_sockets_are_a_leak() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(find_leak(&[]).is_some());
    }

    #[test]
    fn what_came_in_is_counted_over_cuts() {
        let table = |bytes: u64| format!("{HEADING}    lo: 900 1\n  eth0: {bytes} 7 0\n");
        assert_eq!(bytes_in(&table(5000)), 5000);
        assert_eq!(bytes_in(&format!("{HEADING}    lo: 900 1\n")), 0);
        let mut received = ReceivedBytes::default();
        for (now, total) in [(100, 100), (5000, 5000), (0, 5000), (70, 5070), (90, 5090)] {
            assert_eq!(received.add(now), total);
        }
    }

    #[test]
    fn a_way_out_is_a_default_route() {
        let heading = "Iface\tDestination\tGateway\n";
        assert!(!has_default(heading));
        assert!(!has_default(&format!(
            "{heading}eth0\t000011AC\t00000000\n"
        )));
        assert!(has_default(&format!("{heading}eth0\t00000000\t010011AC\n")));
    }

    #[test]
    fn several_links_are_summed_up_and_broken_lines_count_nothing() {
        let table = format!(
            "{HEADING}    lo: 900 1\n  eth0: 100 7 0\n  eth1:25 1\n  eth2: x\n  eth3:\nnonsense\n"
        );
        assert_eq!(bytes_in(&table), 125);
        assert_eq!(bytes_in("") + bytes_in(HEADING), 0);
    }

    #[test]
    fn a_link_that_is_connected_anew_counts_from_zero_again() {
        let mut received = ReceivedBytes::default();
        let seen = [10, 0, 0, 5, 0, 7].map(|now| received.add(now));
        assert_eq!(seen, [10, 10, 10, 15, 15, 22]);
    }

    #[test]
    fn a_broken_table_of_routes_leads_nowhere() {
        assert!(!has_default(""));
        assert!(!has_default("Iface\tDestination\neth0\n\n"));
        assert!(
            !has_default("00000000 00000000\n"),
            "the heading is no route"
        );
    }
}
