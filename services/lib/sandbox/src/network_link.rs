//! Connects and disconnects a running sandbox as its supervisor asks. The supervisor looks for itself whether that
//! has come true, and ends its sandbox where it does not: nothing here has to be believed.

use std::time::Duration;

use bollard::errors::Error as EngineFault;
use bollard::models::{NetworkConnectRequest, NetworkDisconnectRequest};
use millrace_domain::Backoff;
use millrace_supervisor::Network;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::engine::Engine;

/// Tries for each wish; the supervisor waits 30 s.
const TRIES: u32 = 5;
/// Time before the second try, which doubles, and at most before a later one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Serves the wishes of one sandbox until it is dropped.
#[derive(Debug)]
pub(crate) struct Wiring(JoinHandle<()>);

impl Wiring {
    /// Serves a container that was started on this network, if on any.
    pub(crate) fn serve(
        engine: &Engine,
        container: &str,
        network: Option<&str>,
        mut wishes: mpsc::Receiver<Network>,
    ) -> Self {
        let cable = Cable {
            engine: engine.clone(),
            container: container.to_owned(),
            network: network.map(str::to_owned),
        };
        Self(tokio::spawn(async move {
            while let Some(wanted) = wishes.recv().await {
                cable.make_so(wanted).await;
            }
        }))
    }
}

impl Drop for Wiring {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Cable {
    engine: Engine,
    container: String,
    network: Option<String>,
}

impl Cable {
    async fn make_so(&self, wanted: Network) {
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

/// A repeated request finds done what it asks for.
fn already(fault: EngineFault, words: &str) -> Result<(), EngineFault> {
    if fault.to_string().contains(words) {
        Ok(())
    } else {
        Err(fault)
    }
}
