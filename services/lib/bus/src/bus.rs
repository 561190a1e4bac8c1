//! The two connections of a process, and what is opened on them.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::BusConfig;
use crate::error::NotUp;
use crate::fault::Fault;
use crate::link::{Link, LinkState};
use crate::publisher::Publisher;
use crate::topology::{JobRoute, Topology};

/// Connections to the broker. There are two, because a broker under an alarm stops reading from a connection that
/// publishes, and with it from its acknowledgements.
#[derive(Clone)]
pub struct Bus {
    publishing: Link,
    consuming: Link,
    publisher: Publisher,
    topology: Topology,
    stop: CancellationToken,
}

impl Bus {
    /// Returns at once; connections are made, and made again, in the background. Needs a tokio runtime.
    pub fn start(config: BusConfig, topology: Topology) -> Self {
        let stop = CancellationToken::new();
        // Exclusive queues belong to the connection that declares them, so the consuming one declares.
        let consuming = Link::start(config.clone(), "consuming", topology.clone(), stop.clone());
        let publishing = Link::start(config, "publishing", Topology::none(), stop.clone());
        let publisher = Publisher::start(publishing.clone(), consuming.clone());
        Self {
            publishing,
            consuming,
            publisher,
            topology,
            stop,
        }
    }

    /// Adds the queue of a route to the topology: a chroot of another architecture may be added while the frontend runs.
    /// The first message then finds no queue, which has the queue declared, and is published again.
    pub fn expect_jobs(&self, route: &JobRoute) {
        self.topology.add_jobs(route);
    }

    /// The publisher; clones share one channel.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// State of the publishing connection.
    pub fn publishing(&self) -> watch::Receiver<LinkState> {
        self.publishing.state()
    }

    /// State of the consuming connection; up means that the topology is declared, too.
    pub fn consuming(&self) -> watch::Receiver<LinkState> {
        self.consuming.state()
    }

    /// Whether both connections are up.
    pub fn is_up(&self) -> bool {
        self.publishing.now().is_up() && self.consuming.now().is_up()
    }

    /// Waits until both connections are up.
    pub async fn wait_up(&self, within: Duration) -> Result<(), NotUp> {
        let both = async {
            self.consuming.up().await;
            self.publishing.up().await;
        };
        tokio::time::timeout(within, both).await.map_err(|_| {
            let link = if self.consuming.now().is_up() {
                &self.publishing
            } else {
                &self.consuming
            };
            NotUp {
                within,
                reason: link.reason(),
            }
        })
    }

    /// Closes both connections for good; unsettled deliveries go back to their queues.
    pub async fn close(&self) {
        self.stop.cancel();
        for link in [&self.publishing, &self.consuming] {
            let ended = link.ended();
            if tokio::time::timeout(link.config().rpc_deadline, ended)
                .await
                .is_err()
            {
                tracing::debug!("a connection to the broker did not close in time");
            }
        }
    }

    pub(crate) const fn consuming_link(&self) -> &Link {
        &self.consuming
    }

    /// Declares the role's topology again.
    pub(crate) async fn redeclare(&self) -> Result<(), Fault> {
        self.consuming.redeclare().await
    }
}
