//! Waits until the network is as a step needs it.

use std::path::Path;
use std::time::Instant;

use super::Supervisor;
use crate::network::names;
use crate::network::netcut::{self, CHANGE_WITHIN, CHECK_EVERY};
use crate::protocol::{HOME, Network, Notice};

impl Supervisor {
    /// Makes the network as a step wants it, or says why that cannot be.
    pub(super) fn prepare_network(&mut self, wanted: Network) -> Result<(), String> {
        let named = match wanted {
            Network::Cut => {
                self.wait_for_network(wanted)?;
                self.networks.join_empty()?;
                if let Some(leak) = netcut::find_leak(&names::resolvers()) {
                    return Err(format!("its network is not empty: {leak}"));
                }
                self.names.cover(Path::new(HOME))
            }
            Network::Connected => {
                self.networks.join_engines()?;
                self.wait_for_network(wanted)?;
                self.names.uncover()
            }
        };
        // The build goes on: without its own names it is slower, or knows no resolver and says so.
        if let Err(error) = named {
            self.faults
                .push(format!("the sandbox's names were not changed: {error}"));
        }
        Ok(())
    }

    /// Requests the network from the builder and waits until the links show it. Meanwhile every limit applies.
    fn wait_for_network(&mut self, wanted: Network) -> Result<(), String> {
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
    let is_connected = netcut::is_connected().ok_or("the network's links cannot be read")?;
    Ok(match wanted {
        Network::Cut => !is_connected,
        Network::Connected => is_connected && netcut::has_route(),
    })
}
