//! The database and the broker behind a pipeline: each is a corner of the shared server, or a server of its own for tests
//! that stop or freeze it.

use millrace_bus::testing::TestVhost;
use millrace_store::TestDatabase;
use secrecy::SecretString;

use super::PipelineOptions;
use crate::{PrivateBroker, PrivateDatabase, Settings};

#[expect(clippy::large_enum_variant, reason = "there is one of them in a test")]
pub(super) enum Database {
    Shared(TestDatabase),
    Private(PrivateDatabase),
}

pub(super) enum Broker {
    Shared(TestVhost),
    Private(PrivateBroker),
}

pub(super) async fn start(options: &PipelineOptions, settings: &Settings) -> (Database, Broker) {
    tokio::join!(
        Database::start(options, settings.is_other_release()),
        Broker::start(options)
    )
}

impl Database {
    /// `empty` leaves it to the frontend under test to make the schema.
    async fn start(options: &PipelineOptions, empty: bool) -> Self {
        if options.private_database {
            Self::Private(PrivateDatabase::start().await)
        } else if empty {
            Self::Shared(TestDatabase::create_empty().await)
        } else {
            Self::Shared(TestDatabase::create().await)
        }
    }

    pub(super) fn url(&self) -> SecretString {
        match self {
            Self::Shared(database) => database.url(),
            Self::Private(database) => database.url(),
        }
    }
}

impl Broker {
    async fn start(options: &PipelineOptions) -> Self {
        if options.private_broker {
            Self::Private(PrivateBroker::start_with(options.broker_conf).await)
        } else {
            Self::Shared(TestVhost::create().await)
        }
    }

    pub(super) fn frontend_url(&self) -> SecretString {
        match self {
            Self::Shared(vhost) => vhost.frontend_url(),
            Self::Private(broker) => broker.url(),
        }
    }

    pub(super) fn builder_url(&self) -> SecretString {
        match self {
            Self::Shared(vhost) => vhost.builder_url(),
            Self::Private(broker) => broker.url(),
        }
    }

    pub(super) fn admin_url(&self) -> SecretString {
        match self {
            Self::Shared(vhost) => vhost.admin_url(),
            Self::Private(broker) => broker.url(),
        }
    }

    pub(super) async fn stop(self) {
        match self {
            Self::Shared(vhost) => vhost.delete().await,
            Self::Private(broker) => drop(broker),
        }
    }
}
