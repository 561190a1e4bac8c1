//! The builder's session with the frontend. A builder enrols with the shared secret and gets a token of its own. When the
//! frontend does not know the token any more, the builder enrols again and replaces it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use millrace_chassis::{
    ApiClient, ApiError, Backoff, BackoffExt, Method, RequestBuilder, Shutdown, Timeouts,
};
use millrace_domain::Token;
use millrace_wire::{EnrolRequest, Enrolled};
use secrecy::SecretString;
use tokio::time::Instant;

/// How long the frontend may take to answer an enrolment.
const ENROL_TIMEOUT: Duration = Duration::from_secs(30);
/// After an enrolment, calls that fail within this time were made with the token before; they do not enrol again.
const RENEWAL_GAP: Duration = Duration::from_secs(5);

/// Why a builder could not enrol.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The frontend's address or the token cannot be used.
    #[error("MILLRACE_FRONTEND_URL or MILLRACE_ENROL_TOKEN cannot be used: {0}")]
    Setting(ApiError),
    /// 401 or 403: the secret for enrolling is wrong.
    #[error(
        "the frontend refuses the enrolment token; MILLRACE_ENROL_TOKEN must be the same as the frontend's"
    )]
    Token,
    /// 409: the frontend knows this builder's id under another token. The value is the identity's folder.
    #[error(
        "the frontend knows this builder's id under another token; remove the folder {0} from the spool to start as a new builder"
    )]
    IdTaken(String),
    /// Any other refusal, with the text of the frontend's answer.
    #[error("the frontend refuses the enrolment: {0}")]
    Refused(String),
    /// The builder was stopped before it had enrolled.
    #[error("stopped before the frontend answered")]
    Stopped,
}

/// Stores the token of an enrolment. A function, so that the session does not depend on the identity.
pub type StoreToken = Box<dyn Fn(&Token) -> std::io::Result<()> + Send + Sync>;

/// What an enrolment is made with.
pub struct Enrolment {
    /// The frontend's address (`MILLRACE_FRONTEND_URL`).
    pub url: String,
    /// The secret for enrolling (`MILLRACE_ENROL_TOKEN`).
    pub enrol_token: SecretString,
    /// What this builder offers, and the token it had before.
    pub offer: EnrolRequest,
    /// Stores the new token in the spool.
    pub store_token: StoreToken,
    /// The identity's folder, for error messages.
    pub folder: String,
}

/// The session of one builder. Clones share it.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    enrolling: ApiClient,
    credentials: RwLock<Credentials>,
    /// When the last enrolment because of an unknown token succeeded; held locked while one is under way.
    renewed: tokio::sync::Mutex<Option<Instant>>,
    offer: EnrolRequest,
    store_token: StoreToken,
    folder: String,
}

/// What calls are made with.
struct Credentials {
    client: ApiClient,
    token: Option<Token>,
}

/// Why one try to enrol failed.
enum EnrolFailure {
    /// Another try may succeed.
    Away(String),
    /// Another try would fail too.
    Permanent(EnrolError),
}

impl Session {
    /// The session of a builder that has not enrolled yet, but may have the token of an earlier process.
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

    /// Enrols; tries again while the frontend does not answer, until the stop.
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

    /// Begins a request that carries the builder's token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.read().client.request(method, path)
    }

    /// Enrols again, because the frontend did not know the token; gives the result as a text for errors. Many calls may
    /// find that out at the same time, and one of them enrols.
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
            EnrolFailure::Away(format!("cannot store the builder's token: {error}"))
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
