//! The builder's standing with the frontend: enrolled with the shared secret, it has a token of its own, which is
//! replaced by enrolling again where the frontend does not know it any more.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use millrace_chassis::{
    ApiClient, ApiError, Backoff, BackoffExt, Method, RequestBuilder, Shutdown, Timeouts,
};
use millrace_domain::Token;
use millrace_wire::{EnrolRequest, Enrolled};
use secrecy::SecretString;
use tokio::time::Instant;

/// An enrolment later than this is none.
const ENROL_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls that were on their way with the token from before are over after this time.
const RENEWAL_GAP: Duration = Duration::from_secs(5);

/// Why a builder could not enrol.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The frontend's address or the token cannot be used.
    #[error("MILLRACE_FRONTEND_URL or MILLRACE_ENROL_TOKEN cannot be used: {0}")]
    Setting(ApiError),
    /// 401.
    #[error(
        "the frontend refuses the enrolment token; MILLRACE_ENROL_TOKEN must be the same as the frontend's"
    )]
    Token,
    /// 409.
    #[error(
        "the frontend knows this builder's id under another token; remove the folder {0} from the spool to start as a new builder"
    )]
    IdTaken(String),
    /// Any other refusal.
    #[error("the frontend refuses the enrolment: {0}")]
    Refused(String),
    /// The stop came first.
    #[error("stopped before the frontend answered")]
    Stopped,
}

/// Keeps the token of an enrolment; told where so that the client needs no identity.
pub type StoreToken = Box<dyn Fn(&Token) -> std::io::Result<()> + Send + Sync>;

/// What an enrolment is made with.
pub struct Enrolment {
    /// The frontend's address.
    pub url: String,
    /// The secret for enrolling.
    pub enrol_token: SecretString,
    /// What this builder offers, and the token it had before.
    pub offer: EnrolRequest,
    /// Keeps the new token.
    pub store_token: StoreToken,
    /// The identity's folder, for messages.
    pub folder: String,
}

/// The standing of one builder. Clones share it.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    enrolling: ApiClient,
    credentials: RwLock<Credentials>,
    renewed: tokio::sync::Mutex<Option<Instant>>,
    offer: EnrolRequest,
    store_token: StoreToken,
    folder: String,
}

struct Credentials {
    client: ApiClient,
    token: Option<Token>,
}

/// Why one try to enrol failed.
enum EnrolFailure {
    /// It may work a little later.
    Away(String),
    /// It will not.
    Permanent(EnrolError),
}

impl Session {
    /// A builder that has not enrolled yet, but may have a token of an earlier time.
    pub fn new(enrolment: Enrolment) -> Result<Self, EnrolError> {
        let timeouts = Timeouts {
            connect: Duration::from_secs(5),
            // Each call has a deadline of its own; a frontend syncs a large file before it answers.
            idle: Duration::from_mins(5),
        };
        let enrolling =
            ApiClient::with_timeouts(&enrolment.url, Some(enrolment.enrol_token), timeouts)
                .map_err(EnrolError::Setting)?;
        let token = enrolment.offer.previous_token.clone();
        let client = with_token(&enrolling, token.as_ref());
        Ok(Self {
            inner: Arc::new(Inner {
                enrolling,
                credentials: RwLock::new(Credentials { client, token }),
                renewed: tokio::sync::Mutex::new(None),
                offer: enrolment.offer,
                store_token: enrolment.store_token,
                folder: enrolment.folder,
            }),
        })
    }

    /// Enrols, waiting for a frontend that is away until the stop.
    pub async fn enrol(&self, shutdown: &Shutdown) -> Result<Enrolled, EnrolError> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match self.enrol_once(false).await {
                Ok(enrolled) => return Ok(enrolled),
                Err(EnrolFailure::Permanent(error)) => return Err(error),
                Err(EnrolFailure::Away(reason)) => {
                    tracing::warn!("waiting for the frontend to enrol: {reason}");
                }
            }
            if !backoff.pause(shutdown.soft()).await {
                return Err(EnrolError::Stopped);
            }
        }
    }

    /// A request with the builder's token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.read().client.request(method, path)
    }

    /// Enrols again, because the frontend did not know the token; says how that went. Many calls find out at the
    /// same time, some with the token from before, and one of them enrols.
    pub async fn renew(&self) -> String {
        let mut renewed = self.inner.renewed.lock().await;
        if renewed.is_some_and(|at| at.elapsed() < RENEWAL_GAP) {
            return "enrolled again a moment ago".to_owned();
        }
        match self.enrol_once(true).await {
            Ok(_) => {
                *renewed = Some(Instant::now());
                tracing::warn!("the frontend did not know this builder's token; enrolled again");
                "enrolled again".to_owned()
            }
            Err(EnrolFailure::Away(reason)) => reason,
            Err(EnrolFailure::Permanent(error)) => {
                tracing::error!("cannot enrol again: {error}");
                error.to_string()
            }
        }
    }

    async fn enrol_once(&self, renewal: bool) -> Result<Enrolled, EnrolFailure> {
        let inner = &self.inner;
        let mut offer = inner.offer.clone();
        offer.renewal = renewal;
        offer.previous_token.clone_from(&self.read().token);
        let request = inner.enrolling.request(Method::POST, "/builder/v1/enrol");
        let call = inner.enrolling.json::<Enrolled>(request.json(&offer));
        let enrolled = tokio::time::timeout(ENROL_TIMEOUT, call)
            .await
            .map_err(|_| EnrolFailure::Away("no answer in time".to_owned()))?
            .map_err(|error| self.failure(&error))?;
        (inner.store_token)(&enrolled.token).map_err(|error| {
            EnrolFailure::Away(format!("cannot keep the builder's token: {error}"))
        })?;
        let mut credentials = inner
            .credentials
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        credentials.client = with_token(&inner.enrolling, Some(&enrolled.token));
        credentials.token = Some(enrolled.token.clone());
        Ok(enrolled)
    }

    fn failure(&self, error: &ApiError) -> EnrolFailure {
        if error.is_transient() {
            return EnrolFailure::Away(error.to_string());
        }
        EnrolFailure::Permanent(match error.status() {
            Some(401 | 403) => EnrolError::Token,
            Some(409) => EnrolError::IdTaken(self.inner.folder.clone()),
            _ => EnrolError::Refused(error.to_string()),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Credentials> {
        self.inner
            .credentials
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn with_token(client: &ApiClient, token: Option<&Token>) -> ApiClient {
    match token {
        Some(token) => client.with_token(token.expose().into()),
        None => client.clone(),
    }
}
