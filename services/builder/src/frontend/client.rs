//! The frontend's `/builder/v1` as a builder calls it. Every call tells three endings apart: it worked, the frontend
//! is away and the same call may work later, or it refuses for good. A token that the frontend no longer knows is
//! replaced by enrolling again; to the caller that is just "away".

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use millrace_chassis::{Method, Problem, RequestBuilder, Response};
use millrace_domain::{AttemptId, FileName, Token};
use millrace_wire::{
    ChrootsAnswer, ChrootsRequest, ClaimGranted, ClaimRefusal, ClaimRefused, ClaimRequest,
    DeclineRequest, HeartbeatAnswer, HeartbeatRequest, LEASE_HEADER, LogAccepted, ManifestFile,
    SHA256_HEADER,
};
use serde::de::DeserializeOwned;

use crate::frontend::call_error::CallError;
use crate::frontend::session::Session;
use crate::frontend::transfer;

/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// An answer to a claim.
#[derive(Debug)]
pub enum Claimed {
    /// The attempt is ours.
    Granted(ClaimGranted),
    /// It is not, and the message is done with.
    Refused(ClaimRefusal),
}

/// Talks to the frontend. Clones share connections and token.
#[derive(Clone)]
pub struct FrontendClient {
    session: Session,
}

impl FrontendClient {
    /// A client of a builder that has enrolled, or is about to.
    pub fn new(session: Session) -> Self {
        Self { session }
    }

    /// Asks for an attempt.
    pub async fn claim(&self, claim: &ClaimRequest) -> Result<Claimed, CallError> {
        let (status, body) = self
            .exchange(self.post("/builder/v1/claim").json(claim))
            .await?;
        match status {
            200 => Ok(Claimed::Granted(decode(&body)?)),
            409 | 410 => {
                let refused: ClaimRefused = decode(&body)?;
                Ok(Claimed::Refused(refused.reason))
            }
            _ => Err(refused(status, &body)),
        }
    }

    /// Hands an order back.
    pub async fn decline(&self, decline: &DeclineRequest) -> Result<(), CallError> {
        let request = self.post("/builder/v1/decline").json(decline);
        let (status, body) = self.exchange(request).await?;
        expect_success(status, &body)
    }

    /// Says what this builder has, and hears what to do with it.
    pub async fn heartbeat(&self, beat: &HeartbeatRequest) -> Result<HeartbeatAnswer, CallError> {
        let request = self.post("/builder/v1/heartbeat").json(beat);
        let (status, body) = self.exchange(request).await?;
        expect_success(status, &body)?;
        decode(&body)
    }

    /// Says how the images of chroots are, and hears which are wanted.
    pub async fn chroots(&self, told: &ChrootsRequest) -> Result<ChrootsAnswer, CallError> {
        let request = self.post("/builder/v1/chroots").json(told);
        let (status, body) = self.exchange(request).await?;
        expect_success(status, &body)?;
        decode(&body)
    }

    /// Sends a piece of a log; the answer says where the next one begins, whether or not this one was wanted.
    pub async fn send_log(
        &self,
        attempt: AttemptId,
        lease: &Token,
        offset: u64,
        piece: Bytes,
    ) -> Result<LogAccepted, CallError> {
        let path = format!("/builder/v1/attempts/{attempt}/log?offset={offset}");
        let request = self
            .post(&path)
            .header(LEASE_HEADER, lease.expose())
            .body(piece);
        let (status, body) = self.exchange(request).await?;
        match status {
            200 | 409 => decode(&body),
            410 => Err(CallError::LeaseGone),
            _ => Err(refused(status, &body)),
        }
    }

    /// Uploads a file of a result from the spool.
    pub async fn send_file(
        &self,
        attempt: AttemptId,
        lease: &Token,
        position: u32,
        file: &ManifestFile,
        from: &Path,
    ) -> Result<(), CallError> {
        // A file name has no character that a path would need encoded but these two.
        let name = millrace_chassis::path_segment(file.name.as_str());
        let path = format!("/builder/v1/attempts/{attempt}/files/{position}/{name}");
        let (body, progress) = transfer::upload(from).await?;
        let request = self
            .request(Method::PUT, &path)
            .header(LEASE_HEADER, lease.expose())
            .header(SHA256_HEADER, &file.sha256)
            .header("content-length", file.size)
            .body(body);
        let (status, body) = transfer::while_moving(progress, self.answer(request)).await?;
        match status {
            410 => Err(CallError::LeaseGone),
            _ => expect_success(status, &body),
        }
    }

    /// Begins to read a stored source.
    pub async fn source(&self, sha256: &str) -> Result<Response, CallError> {
        let digest = millrace_chassis::path_segment(sha256);
        self.begin_to_read(&format!("/builder/v1/sources/{digest}"))
            .await
    }

    /// Begins to read a file that an earlier attempt made.
    pub async fn result(
        &self,
        attempt: AttemptId,
        position: u32,
        name: &FileName,
    ) -> Result<Response, CallError> {
        let name = millrace_chassis::path_segment(name.as_str());
        let path = format!("/builder/v1/attempts/{attempt}/files/{position}/{name}");
        self.begin_to_read(&path).await
    }

    async fn begin_to_read(&self, path: &str) -> Result<Response, CallError> {
        let request = self.request(Method::GET, path);
        let response = within(CALL_TIMEOUT, request.send())
            .await
            .map_err(CallError::Away)?
            .map_err(|error| away(&error.without_url()))?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(response);
        }
        let body = read(response).await?;
        self.check_session(status).await?;
        not_later(status, &body)?;
        Err(refused(status, &body))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.session.request(method, path)
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<(u16, Vec<u8>), CallError> {
        within(CALL_TIMEOUT, self.answer(request))
            .await
            .map_err(CallError::Away)?
    }

    async fn answer(&self, request: RequestBuilder) -> Result<(u16, Vec<u8>), CallError> {
        let response = request
            .send()
            .await
            .map_err(|error| away(&error.without_url()))?;
        let status = response.status().as_u16();
        let body = read(response).await?;
        self.check_session(status).await?;
        if status == 507 {
            return Err(CallError::StoreFull(refused(status, &body).to_string()));
        }
        not_later(status, &body)?;
        Ok((status, body))
    }

    /// Enrols again where the frontend does not know the token any more.
    async fn check_session(&self, status: u16) -> Result<(), CallError> {
        match status {
            401 => Err(CallError::Away(self.session.renew().await)),
            _ => Ok(()),
        }
    }
}

/// How long a call without a large body may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

async fn within<F: Future>(deadline: Duration, call: F) -> Result<F::Output, String> {
    tokio::time::timeout(deadline, call)
        .await
        .map_err(|_| format!("no answer within {} s", deadline.as_secs()))
}

fn away(error: &dyn std::error::Error) -> CallError {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    CallError::Away(format!("cannot reach the frontend: {cause}"))
}

async fn read(mut response: Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| away(&error.without_url()))?
    {
        if body.len() + part.len() > MAX_ANSWER_BYTES {
            return Err(CallError::Away(
                "the frontend's answer is too large".to_owned(),
            ));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    // A proxy's answer in the frontend's place is not the frontend's word.
    serde_json::from_slice(body)
        .map_err(|error| CallError::Away(format!("unexpected answer from the frontend: {error}")))
}

/// An answer that only says "later" is none.
fn not_later(status: u16, body: &[u8]) -> Result<(), CallError> {
    if status >= 500 || matches!(status, 408 | 425 | 429) {
        return Err(CallError::Away(refused(status, body).to_string()));
    }
    Ok(())
}

fn expect_success(status: u16, body: &[u8]) -> Result<(), CallError> {
    if (200..300).contains(&status) {
        Ok(())
    } else {
        Err(refused(status, body))
    }
}

fn refused(status: u16, body: &[u8]) -> CallError {
    let reason = serde_json::from_slice::<Problem>(body)
        .ok()
        .map(|problem| problem.to_string())
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "no reason given".to_owned());
    CallError::Refused { status, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::fake::FakeFrontend;
    use crate::frontend::session::EnrolError;
    use millrace_chassis::Shutdown;

    fn claim_request() -> ClaimRequest {
        ClaimRequest {
            attempt_id: AttemptId::generate(),
            nonce: Token::new("nonce"),
        }
    }

    #[tokio::test]
    async fn enrolling_waits_for_a_frontend_that_is_away() {
        let fake = FakeFrontend::start().await;
        let (session, client) = fake.client();
        assert!(matches!(
            client.claim(&claim_request()).await,
            Err(CallError::Away(_))
        ));
        assert_eq!(fake.state().enrolments, 1, "an unknown token enrols again");
        session.enrol(&Shutdown::manual()).await.unwrap();
        assert!(matches!(
            client.claim(&claim_request()).await,
            Ok(Claimed::Granted(_))
        ));
    }

    #[tokio::test]
    async fn a_stop_ends_the_waiting() {
        let (session, _) = FakeFrontend::start().await.client();
        let shutdown = Shutdown::manual();
        shutdown.stop();
        // The first try may still succeed; a stopped builder does not go on to a second.
        let enrolled = session.enrol(&shutdown).await;
        assert!(matches!(enrolled, Ok(_) | Err(EnrolError::Stopped)));
    }

    #[tokio::test]
    async fn a_refused_claim_tells_why() {
        let fake = FakeFrontend::start().await;
        let (session, client) = fake.client();
        session.enrol(&Shutdown::manual()).await.unwrap();
        fake.state().refusal = Some(ClaimRefusal::Avoid);
        assert!(matches!(
            client.claim(&claim_request()).await,
            Ok(Claimed::Refused(ClaimRefusal::Avoid))
        ));
    }

    #[tokio::test]
    async fn an_outage_is_away_and_a_lost_lease_is_gone() {
        let fake = FakeFrontend::start().await;
        let (session, client) = fake.client();
        session.enrol(&Shutdown::manual()).await.unwrap();
        let send = || {
            client.send_log(
                AttemptId(uuid::Uuid::nil()),
                client_lease(),
                0,
                Bytes::new(),
            )
        };
        fake.state().away_for = 1;
        assert!(matches!(send().await, Err(CallError::Away(_))));
        fake.state().revoked = true;
        assert!(matches!(send().await, Err(CallError::LeaseGone)));
    }

    #[tokio::test]
    async fn a_source_that_an_outage_holds_back_is_not_refused() {
        let fake = FakeFrontend::start().await;
        let (session, client) = fake.client();
        session.enrol(&Shutdown::manual()).await.unwrap();
        fake.state().away_for = 1;
        let source = client.source("00").await;
        assert!(matches!(source, Err(CallError::Away(_))), "{source:?}");
        let source = client.source("00").await;
        assert!(
            matches!(source, Err(CallError::Refused { status: 404, .. })),
            "{source:?}"
        );
    }

    fn client_lease() -> &'static Token {
        static LEASE: std::sync::LazyLock<Token> = std::sync::LazyLock::new(|| Token::new("lease"));
        &LEASE
    }
}
