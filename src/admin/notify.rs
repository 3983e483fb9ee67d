//! Mails to customers that are held until an operator decides.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::answers::{Failure, json};
use super::state::Admin;

/// What operators decide about the mails held of a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// They are sent.
    Release,
    /// They are removed: nobody is told.
    Drop,
}

/// The mails held of one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldMails {
    /// The cause, such as `ip-not-allowlisted`.
    pub cause: String,
    /// How many.
    pub mails: usize,
}

/// All that are held.
#[derive(Debug, Serialize)]
struct Held {
    held: Vec<HeldMails>,
}

/// What a decision did.
#[derive(Debug, Serialize)]
struct Decided {
    mails: usize,
}

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/v1/notify/held", get(held))
        .route("/api/v1/notify/release", post(release))
        .route("/api/v1/notify/drop", post(remove))
}

/// The query of `POST /api/v1/notify/release` and `/drop`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CauseQuery {
    cause: String,
}

async fn held(State(admin): State<Arc<Admin>>) -> Response {
    let held = (admin.held_mails)();
    json(StatusCode::OK, &Held { held })
}

async fn release(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<CauseQuery>, QueryRejection>,
) -> Response {
    decide(&admin, query, Decision::Release).await
}

async fn remove(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<CauseQuery>, QueryRejection>,
) -> Response {
    decide(&admin, query, Decision::Drop).await
}

async fn decide(
    admin: &Admin,
    query: Result<Query<CauseQuery>, QueryRejection>,
    decision: Decision,
) -> Response {
    let Query(CauseQuery { cause }) = match query {
        Ok(query) => query,
        Err(rejection) => {
            let said = rejection.body_text();
            return Failure::answer(StatusCode::BAD_REQUEST, "bad_query", said);
        }
    };
    let held = (admin.held_mails)();
    if held.iter().all(|held| held.cause != cause) {
        let causes: Vec<_> = held.into_iter().map(|held| held.cause).collect();
        let message = match causes.as_slice() {
            [] => format!("no mails are held, of {cause} neither"),
            causes => format!("no mails are held of {cause}, but of {}", causes.join(", ")),
        };
        return Failure::answer(StatusCode::NOT_FOUND, "not_held", message);
    }
    let order = Arc::clone(&admin.decide_mails);
    // It moves files.
    let decided = tokio::task::spawn_blocking(move || order(&cause, decision)).await;
    match decided {
        Ok(mails) => json(StatusCode::OK, &Decided { mails }),
        Err(panic) => {
            let said = panic.to_string();
            Failure::answer(StatusCode::INTERNAL_SERVER_ERROR, "panic", said)
        }
    }
}
