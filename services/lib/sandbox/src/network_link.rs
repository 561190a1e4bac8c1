//! Connects a running sandbox to its network and disconnects it, as its supervisor requests. The supervisor checks the
//! links itself and ends its sandbox where they are not as requested, so nothing here has to be trusted.

use std::time::Duration;

use bollard::errors::Error as EngineFault;
use bollard::models::{NetworkConnectRequest, NetworkDisconnectRequest};
use millrace_domain::Backoff;
use millrace_supervisor::Network;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::engine::Engine;

/// Tries for each request; the supervisor waits 30 s.
const TRIES: u32 = 5;
/// Time before the second try, which doubles, and at most before a later one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Serves the network requests of one sandbox until it is dropped.
#[derive(Debug)]
pub(crate) struct NetworkLink(JoinHandle<()>);

impl NetworkLink {
    /// Serves a container that was started on this network, if on any.
    pub(crate) fn serve(
        engine: &Engine,
        container: &str,
        network: Option<&str>,
        mut network_requests: mpsc::Receiver<Network>,
    ) -> Self {
        let link = Link {
            engine: engine.clone(),
            container: container.to_owned(),
            network: network.map(str::to_owned),
        };
        Self(tokio::spawn(async move {
            while let Some(wanted) = network_requests.recv().await {
                link.apply(wanted).await;
            }
        }))
    }
}

impl Drop for NetworkLink {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A container and the network it is connected to; no network means loopback only.
struct Link {
    engine: Engine,
    container: String,
    network: Option<String>,
}

impl Link {
    async fn apply(&self, wanted: Network) {
        let Some(network) = &self.network else {
            return;
        };
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        for _ in 0..TRIES {
            let done = match wanted {
                Network::Cut => self.disconnect(network).await,
                Network::Connected => self.connect(network).await,
            };
            let Err(fault) = done else { return };
            tracing::warn!(
                container.id = self.container,
                ?wanted,
                "a sandbox's network is not changed yet: {fault}"
            );
            // Without jitter: no other sandbox waits for this one.
            tokio::time::sleep(backoff.delay(1.0)).await;
        }
        tracing::error!(
            container.id = self.container,
            ?wanted,
            "a sandbox's network could not be changed; its supervisor ends it"
        );
    }

    async fn disconnect(&self, network: &str) -> Result<(), EngineFault> {
        let request = NetworkDisconnectRequest {
            container: self.container.clone(),
            force: Some(true),
        };
        let done = self
            .engine
            .docker
            .disconnect_network(network, request)
            .await;
        done.or_else(|fault| already(fault, "is not connected"))
    }

    async fn connect(&self, network: &str) -> Result<(), EngineFault> {
        let request = NetworkConnectRequest {
            container: self.container.clone(),
            ..NetworkConnectRequest::default()
        };
        let done = self.engine.docker.connect_network(network, request).await;
        done.or_else(|fault| already(fault, "already"))
    }
}

/// Counts a refusal as done where it says that the link is as requested: a request is repeated after a lost answer.
fn already(fault: EngineFault, words: &str) -> Result<(), EngineFault> {
    if fault.to_string().contains(words) {
        Ok(())
    } else {
        Err(fault)
    }
}
