//! Waits until the network is what a step needs.

use std::time::Instant;

use super::Supervisor;
use crate::netcut::{self, LOOK, PATIENCE};
use crate::protocol::{Network, Notice};

impl Supervisor {
    /// Asks the builder for it and waits until it is so. Meanwhile every limit holds.
    pub(super) fn reach(&mut self, wanted: Network) -> Result<(), String> {
        if is_so(wanted)? {
            return Ok(());
        }
        // A link that is cut off takes its counters along.
        self.received.look();
        self.tell(&Notice::Network { wanted });
        let until = Instant::now() + PATIENCE;
        loop {
            self.wait(None, Some(Instant::now() + LOOK));
            self.keep_limits(true);
            if self.limits.is_ending() {
                return Err("the sandbox is ended".to_owned());
            }
            if is_so(wanted)? {
                self.received.look();
                return Ok(());
            }
            if Instant::now() >= until {
                let what = match wanted {
                    Network::Cut => "cut",
                    Network::Connected => "connected",
                };
                return Err(format!(
                    "the network was not {what} within {} s",
                    PATIENCE.as_secs()
                ));
            }
        }
    }
}

fn is_so(wanted: Network) -> Result<bool, String> {
    let is_connected =
        netcut::is_connected().ok_or("the network's links cannot be read from /proc/net/dev")?;
    Ok(match wanted {
        Network::Cut => !is_connected,
        Network::Connected => is_connected && netcut::has_route(),
    })
}
