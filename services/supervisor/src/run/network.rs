//! Waits until the network is as a step needs it.

use std::time::Instant;

use super::Supervisor;
use crate::netcut::{self, CHANGE_WITHIN, CHECK_EVERY};
use crate::protocol::{Network, Notice};

impl Supervisor {
    /// Requests the network from the builder and waits until the links show it. Meanwhile every limit applies.
    pub(super) fn wait_for_network(&mut self, wanted: Network) -> Result<(), String> {
        if is_network(wanted)? {
            return Ok(());
        }
        // A link's counters vanish with it.
        self.received.update();
        self.send_notice(&Notice::Network { wanted });
        let until = Instant::now() + CHANGE_WITHIN;
        loop {
            self.wait(None, Some(Instant::now() + CHECK_EVERY));
            self.check_limits(true);
            if self.limits.is_ending() {
                return Err("the sandbox is ended".to_owned());
            }
            if is_network(wanted)? {
                self.received.update();
                return Ok(());
            }
            if Instant::now() >= until {
                let what = match wanted {
                    Network::Cut => "cut",
                    Network::Connected => "connected",
                };
                return Err(format!(
                    "the network was not {what} within {} s",
                    CHANGE_WITHIN.as_secs()
                ));
            }
        }
    }
}

/// Whether the network is as wanted: connected means that there is a default route as well.
fn is_network(wanted: Network) -> Result<bool, String> {
    let is_connected =
        netcut::is_connected().ok_or("the network's links cannot be read from /proc/net/dev")?;
    Ok(match wanted {
        Network::Cut => !is_connected,
        Network::Connected => is_connected && netcut::has_route(),
    })
}
