//! The database and the broker behind a pipeline.

use millrace_bus::testing::TestVhost;
use millrace_store::TestDatabase;
use secrecy::SecretString;

use crate::{PrivateBroker, PrivateDatabase};

/// Database and broker: shared servers with a corner for this test, or servers of its own.
#[expect(clippy::large_enum_variant, reason = "there is one of them in a test")]
pub(super) enum Services {
    Shared {
        database: TestDatabase,
        vhost: TestVhost,
    },
    Private {
        database: PrivateDatabase,
        broker: PrivateBroker,
    },
}

impl Services {
    /// `empty` leaves it to the frontend under test to make the schema.
    pub(super) async fn start(private: bool, empty: bool, broker_conf: &str) -> Self {
        if private {
            let (database, broker) = tokio::join!(
                PrivateDatabase::start(),
                PrivateBroker::start_with(broker_conf)
            );
            Self::Private { database, broker }
        } else {
            let database = if empty {
                TestDatabase::create_empty().await
            } else {
                TestDatabase::create().await
            };
            Self::Shared {
                database,
                vhost: TestVhost::create().await,
            }
        }
    }

    pub(super) fn database_url(&self) -> SecretString {
        match self {
            Self::Shared { database, .. } => database.url(),
            Self::Private { database, .. } => database.url(),
        }
    }

    pub(super) fn frontend_broker(&self) -> SecretString {
        match self {
            Self::Shared { vhost, .. } => vhost.frontend_url(),
            Self::Private { broker, .. } => broker.url(),
        }
    }

    pub(super) fn builder_broker(&self) -> SecretString {
        match self {
            Self::Shared { vhost, .. } => vhost.builder_url(),
            Self::Private { broker, .. } => broker.url(),
        }
    }

    pub(super) fn admin_broker(&self) -> SecretString {
        match self {
            Self::Shared { vhost, .. } => vhost.admin_url(),
            Self::Private { broker, .. } => broker.url(),
        }
    }

    pub(super) async fn stop(self) {
        if let Self::Shared { database, vhost } = self {
            vhost.delete().await;
            drop(database);
        }
    }
}
