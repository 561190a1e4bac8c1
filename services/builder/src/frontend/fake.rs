//! A frontend for tests: it keeps what it is given, and can be away, forget its builders and revoke leases.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use millrace_domain::{BuilderId, Token};
use millrace_wire::{
    ClaimGranted, ClaimRefusal, ClaimRequest, DeclineRequest, EnrolRequest, Enrolled,
    HeartbeatAnswer, LogAccepted, SHA256_HEADER,
};
use serde::Deserialize;
use serde_json::json;

use crate::frontend::client::FrontendClient;
use crate::frontend::session::{Enrolment, Session};

/// What the fake knows and does.
#[derive(Debug, Default)]
pub struct FakeState {
    /// The one token that is accepted; none: nobody enrolled.
    pub token: Option<String>,
    /// Enrolments so far.
    pub enrolments: u32,
    /// The log.
    pub log: Vec<u8>,
    /// Sizes of the log's pieces.
    pub pieces: Vec<usize>,
    /// Calls that are answered with 503 from now on.
    pub away_for: u32,
    /// All leases are gone.
    pub revoked: bool,
    /// Refuse claims so.
    pub refusal: Option<ClaimRefusal>,
    /// Nonces of claims.
    pub nonces: Vec<String>,
    /// Declined attempts.
    pub declined: Vec<DeclineRequest>,
    /// Uploaded files: path and digest.
    pub files: Vec<(String, String)>,
}

/// A running fake.
#[derive(Clone)]
pub struct FakeFrontend {
    state: Arc<Mutex<FakeState>>,
    url: String,
}

type Shared = State<Arc<Mutex<FakeState>>>;

impl FakeFrontend {
    /// Starts on a free port; ends with the test's runtime.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(FakeState::default()));
        let router = Router::new()
            .route("/builder/v1/enrol", post(enrol))
            .route("/builder/v1/claim", post(claim))
            .route("/builder/v1/decline", post(decline))
            .route("/builder/v1/heartbeat", post(heartbeat))
            .route("/builder/v1/attempts/{attempt}/log", post(log))
            .route(
                "/builder/v1/attempts/{attempt}/files/{position}/{name}",
                put(file),
            )
            .route("/builder/v1/sources/{sha256}", get(source))
            .with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { state, url }
    }

    /// What it knows.
    pub fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client that has not enrolled.
    pub fn client(&self) -> (Session, FrontendClient) {
        let enrolment = Enrolment {
            url: self.url.clone(),
            enrol_token: "enrol".into(),
            offer: EnrolRequest {
                renewal: false,
                builder_id: BuilderId::generate(),
                name: "test".to_owned(),
                previous_token: Some(Token::new("old")),
                engine_id: "engine".to_owned(),
                engine_budget_mib: 1024,
                archs: vec!["x86_64".to_owned()],
                memory_mib: 1024,
                sandboxes: 1,
                version: "0".to_owned(),
            },
            store_token: Box::new(|_| Ok(())),
            folder: "folder".to_owned(),
        };
        let session = Session::new(enrolment).unwrap();
        (session.clone(), FrontendClient::new(session))
    }
}

/// It has no source at all.
async fn source(State(state): Shared, headers: HeaderMap) -> Response {
    with(&state, &headers, |_| StatusCode::NOT_FOUND.into_response())
}

/// Refuses a call that a real frontend would refuse.
fn admit(state: &mut FakeState, headers: &HeaderMap) -> Result<(), Box<Response>> {
    if state.away_for > 0 {
        state.away_for -= 1;
        return Err(Box::new(StatusCode::SERVICE_UNAVAILABLE.into_response()));
    }
    let bearer = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::to_owned);
    if state.token.is_none() || bearer != state.token {
        return Err(Box::new(StatusCode::UNAUTHORIZED.into_response()));
    }
    if state.revoked {
        return Err(Box::new(StatusCode::GONE.into_response()));
    }
    Ok(())
}

fn with<T: IntoResponse>(
    state: &Mutex<FakeState>,
    headers: &HeaderMap,
    answer: impl FnOnce(&mut FakeState) -> T,
) -> Response {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    match admit(&mut state, headers) {
        Ok(()) => answer(&mut state).into_response(),
        Err(refusal) => *refusal,
    }
}

async fn enrol(State(state): Shared, Json(_): Json<EnrolRequest>) -> Json<Enrolled> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.enrolments += 1;
    let token = format!("token-{}", state.enrolments);
    state.token = Some(token.clone());
    Json(Enrolled {
        token: Token::new(token),
        heartbeat_seconds: 5,
        lease_seconds: 45,
        memory_classes_gib: vec![2, 4],
    })
}

async fn claim(
    State(state): Shared,
    headers: HeaderMap,
    Json(claim): Json<ClaimRequest>,
) -> Response {
    with(&state, &headers, |state| {
        state.nonces.push(claim.nonce.expose().to_owned());
        match state.refusal {
            // A problem document that also has the reason, as the real one answers.
            Some(reason) => (
                StatusCode::CONFLICT,
                Json(json!({"type": "urn:x", "title": "no", "status": 409, "reason": reason})),
            )
                .into_response(),
            None => Json(ClaimGranted {
                lease_token: Token::new("lease"),
                lease_seconds: 45,
            })
            .into_response(),
        }
    })
}

async fn decline(
    State(state): Shared,
    headers: HeaderMap,
    Json(decline): Json<DeclineRequest>,
) -> Response {
    with(&state, &headers, |state| {
        state.declined.push(decline);
        StatusCode::NO_CONTENT
    })
}

async fn heartbeat(State(state): Shared, headers: HeaderMap) -> Response {
    with(&state, &headers, |_| {
        Json(HeartbeatAnswer {
            self_test: None,
            attempts: Vec::new(),
            drain: false,
            reserve_mib: None,
        })
    })
}

#[derive(Deserialize)]
struct Offset {
    offset: usize,
}

async fn log(
    State(state): Shared,
    Query(Offset { offset }): Query<Offset>,
    headers: HeaderMap,
    piece: Bytes,
) -> Response {
    with(&state, &headers, |state| {
        let fits = offset == state.log.len();
        if fits {
            state.log.extend_from_slice(&piece);
            state.pieces.push(piece.len());
        }
        let size = state.log.len() as u64;
        let status = if fits {
            StatusCode::OK
        } else {
            StatusCode::CONFLICT
        };
        (status, Json(LogAccepted { size }))
    })
}

async fn file(
    State(state): Shared,
    Path((_, position, name)): Path<(String, u32, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    with(&state, &headers, |state| {
        let declared = headers
            .get(SHA256_HEADER)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let length = headers.get("content-length").cloned();
        if length.and_then(|value| value.to_str().ok()?.parse().ok()) != Some(body.len()) {
            return StatusCode::LENGTH_REQUIRED;
        }
        state.files.push((format!("{position}/{name}"), declared));
        StatusCode::NO_CONTENT
    })
}
