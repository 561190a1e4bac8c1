//! The sandboxes' own network: package mirrors are reachable from it, other sandboxes and the services'
//! networks are not.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::ListNetworksOptions;

use crate::engine::Engine;
use crate::error::{SandboxError, status};
use crate::spec::MANAGED;

const MTU: &str = "com.docker.network.driver.mtu";
const ICC: &str = "com.docker.network.bridge.enable_icc";
/// Tries to inspect a network while two have its name.
const AMBIGUOUS_TRIES: u32 = 50;
/// Time between two of them.
const PAUSE: Duration = Duration::from_millis(100);
/// The engines' default bridge: Docker's name and Podman's.
const DEFAULT_BRIDGES: [&str; 2] = ["bridge", "podman"];

/// The network that sandboxes are connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Name of the network on the engine.
    pub name: String,
    /// Largest packet, in bytes; none means that of the engine's default bridge, which fits its host.
    pub mtu: Option<u32>,
}

impl NetworkSpec {
    /// A network with the default bridge's packet size.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mtu: None,
        }
    }
}

impl Engine {
    /// Creates the network unless it exists. An existing one without the rule against traffic between sandboxes is
    /// refused.
    pub async fn ensure_network(&self, network: &NetworkSpec) -> Result<(), SandboxError> {
        let failed = |reason: String| SandboxError::NetworkFailed {
            network: network.name.clone(),
            reason,
        };
        if let Some(options) = self.network_options(&network.name).await? {
            let is_closed = options.get(ICC).is_some_and(|value| value == "false");
            return if is_closed || self.traits.is_podman {
                Ok(())
            } else {
                Err(failed(format!(
                    "it exists without {ICC}=false, so sandboxes could reach each other; remove it or choose another name"
                )))
            };
        }
        let request = self.network_request(network).await?;
        match self.docker.create_network(request).await {
            Ok(made) => {
                if !made.warning.is_empty() {
                    tracing::warn!(
                        network = network.name,
                        engine.warning = made.warning,
                        "sandboxes on this engine may reach each other's ports"
                    );
                }
                self.leave_one(&network.name).await
            }
            // Another builder on this engine was faster.
            Err(fault) if status(&fault) == Some(409) => Ok(()),
            // Podman reports the same with status 500.
            Err(fault) if fault.to_string().contains("already exists") => Ok(()),
            Err(fault) => match SandboxError::of("making the sandbox network", &fault) {
                SandboxError::Refused { reason, .. } => Err(failed(reason)),
                other => Err(other),
            },
        }
    }

    /// Leaves one network of a name where several were made at the same moment: Docker before 25 allows that, and then
    /// takes the name for ambiguous. Everybody keeps the same one, the smallest id, and removes the others, since who
    /// made one of them may have looked before the other was there.
    async fn leave_one(&self, name: &str) -> Result<(), SandboxError> {
        let filters = HashMap::from([("name".to_owned(), vec![name.to_owned()])]);
        let options = ListNetworksOptions {
            filters: Some(filters),
        };
        let looking = |fault| SandboxError::of("looking at networks", &fault);
        let found = self.docker.list_networks(Some(options)).await;
        let mut ids: Vec<String> = found
            .map_err(looking)?
            .into_iter()
            .filter(|found| found.name.as_deref() == Some(name))
            .filter_map(|found| found.id)
            .collect();
        ids.sort();
        for id in ids.iter().skip(1) {
            match self.docker.remove_network(id).await {
                Ok(()) => {}
                Err(fault) if status(&fault) == Some(404) => {}
                Err(fault) => return Err(SandboxError::of("removing a second network", &fault)),
            }
        }
        Ok(())
    }

    async fn network_request(
        &self,
        network: &NetworkSpec,
    ) -> Result<NetworkCreateRequest, SandboxError> {
        let mut options = HashMap::from([(ICC.to_owned(), "false".to_owned())]);
        let mtu = match network.mtu {
            Some(mtu) => Some(mtu.to_string()),
            None => self.default_mtu().await?,
        };
        options.extend(mtu.map(|mtu| (MTU.to_owned(), mtu)));
        Ok(NetworkCreateRequest {
            name: network.name.clone(),
            driver: Some("bridge".to_owned()),
            options: Some(options),
            labels: Some(HashMap::from([(MANAGED.to_owned(), "true".to_owned())])),
            ..NetworkCreateRequest::default()
        })
    }

    async fn default_mtu(&self) -> Result<Option<String>, SandboxError> {
        for name in DEFAULT_BRIDGES {
            if let Some(options) = self.network_options(name).await? {
                return Ok(options.get(MTU).cloned());
            }
        }
        Ok(None)
    }

    /// The options of a network; none when there is no such network.
    async fn network_options(
        &self,
        name: &str,
    ) -> Result<Option<HashMap<String, String>>, SandboxError> {
        let mut tries = 0;
        loop {
            match self.docker.inspect_network(name, None).await {
                Ok(found) => return Ok(Some(found.options.unwrap_or_default())),
                Err(fault) if status(&fault) == Some(404) => return Ok(None),
                // Two were made at the same moment; one of them is about to go.
                Err(fault)
                    if tries < AMBIGUOUS_TRIES && fault.to_string().contains("ambiguous") =>
                {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(fault) => return Err(SandboxError::of("looking at a network", &fault)),
            }
        }
    }
}
