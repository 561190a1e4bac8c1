//! What a poller authenticates itself with: a secret address for its lists and a password for its reports.

use millrace_chassis::random_bytes;
use millrace_domain::{Name, Token};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::http::api::pollers::model::{Poller, load};
use crate::state::AppState;

/// A poller with its address and password, which are shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct PollerAccess {
    #[serde(flatten)]
    #[schema(inline)]
    poller: Poller,
    /// Address of the frontend for the poller's configuration; a secret, since it identifies the poller.
    url: String,
    /// Password for its reports, accepted with any user name.
    secret: String,
}

/// Freshly drawn secrets of a poller; the database gets their digests only.
pub struct Secrets {
    /// Part of its address.
    pub token: Token,
    /// Its password for reports.
    pub password: Token,
}

impl Secrets {
    /// Draws a new address part and password from the system's random source.
    pub fn generate() -> Result<Self, ApiError> {
        Ok(Self {
            token: random_token()?,
            password: random_token()?,
        })
    }
}

fn random_token() -> Result<Token, ApiError> {
    random_bytes()
        .map(Token::from_bytes)
        .map_err(ApiError::internal)
}

impl PollerAccess {
    /// Reads the poller and adds the secrets that it was just given.
    pub async fn load(state: &AppState, name: &Name, secrets: &Secrets) -> Result<Self, ApiError> {
        Ok(Self {
            poller: load(state, name).await?.into(),
            url: state.settings.links.poller(&secrets.token),
            secret: secrets.password.expose().to_owned(),
        })
    }
}
