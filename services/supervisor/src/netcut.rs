//! The network cut. Dependencies are installed connected; the package's own code runs with loopback only. The
//! supervisor cannot cut its own network, so it requests that from the builder, which disconnects the container through
//! the engine. The supervisor starts the step only once `/proc` shows no link but loopback.

use std::fs;
use std::time::Duration;

/// How long the builder may take to disconnect or to connect.
pub(crate) const CHANGE_WITHIN: Duration = Duration::from_secs(30);
/// Time between two checks of the links meanwhile.
pub(crate) const CHECK_EVERY: Duration = Duration::from_millis(10);

/// Whether any link but loopback is there; none when that cannot be read.
pub(crate) fn is_connected() -> Option<bool> {
    fs::read_to_string("/proc/net/dev")
        .ok()
        .map(|table| has_links(&table))
}

/// Whether there is a default route. A link appears before its addresses and routes do.
pub(crate) fn has_route() -> bool {
    let routes = |path: &str| fs::read_to_string(path).unwrap_or_default();
    leads_out(&routes("/proc/net/route"))
}

/// `/proc/net/dev` (`proc_pid_net(5)`): two lines of heading, then one a link, `NAME: counters`.
fn links(table: &str) -> impl Iterator<Item = (&str, &str)> {
    table
        .lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| {
            // Tunnels that the kernel makes in every namespace lead nowhere until a privileged process sets them up.
            !matches!(
                name.trim(),
                "lo" | "tunl0"
                    | "gre0"
                    | "gretap0"
                    | "erspan0"
                    | "ip_vti0"
                    | "ip6_vti0"
                    | "sit0"
                    | "ip6tnl0"
                    | "ip6gre0"
            )
        })
}

fn has_links(table: &str) -> bool {
    links(table).next().is_some()
}

/// What came in over all links, in bytes: the first counter of each.
fn bytes_in(table: &str) -> u64 {
    links(table)
        .filter_map(|(_, counters)| counters.split_whitespace().next()?.parse::<u64>().ok())
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
        self.add(bytes_in(
            &fs::read_to_string("/proc/net/dev").unwrap_or_default(),
        ))
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
fn leads_out(table: &str) -> bool {
    table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .any(|destination| destination == "00000000")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "Inter-|   Receive |  Transmit\n face |bytes    packets\n";

    #[test]
    fn loopback_and_the_kernels_idle_tunnels_are_no_connection() {
        assert!(!has_links(&format!(
            "{HEADING}    lo:  100 1\n tunl0: 0 0\n"
        )));
        assert!(has_links(&format!(
            "{HEADING}    lo:  100 1\n  eth0:  100 1\n"
        )));
        assert!(has_links(&format!("{HEADING}veth12:0 0\n")));
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
        assert!(!leads_out(heading));
        assert!(!leads_out(&format!("{heading}eth0\t000011AC\t00000000\n")));
        assert!(leads_out(&format!("{heading}eth0\t00000000\t010011AC\n")));
    }

    #[test]
    fn several_links_are_summed_up_and_broken_lines_count_nothing() {
        let table = format!(
            "{HEADING}    lo: 900 1\n  eth0: 100 7 0\n  eth1:25 1\n  eth2: x\n  eth3:\nnonsense\n"
        );
        assert_eq!(bytes_in(&table), 125);
        assert!(has_links(&table));
        assert!(!has_links("") && !has_links(HEADING));
    }

    #[test]
    fn a_link_that_is_connected_anew_counts_from_zero_again() {
        let mut received = ReceivedBytes::default();
        let seen = [10, 0, 0, 5, 0, 7].map(|now| received.add(now));
        assert_eq!(seen, [10, 10, 10, 15, 15, 22]);
    }

    #[test]
    fn a_broken_table_of_routes_leads_nowhere() {
        assert!(!leads_out(""));
        assert!(!leads_out("Iface\tDestination\neth0\n\n"));
        assert!(!leads_out("00000000 00000000\n"), "the heading is no route");
    }
}
