//! The fleet: how this host stands in it, hosts evicted and admitted.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;

use super::answers::{Failure, json};
use super::order::Carried;
use super::state::Admin;

/// What operators order about another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetOrder {
    /// It does not run: the others have its part.
    Evict(String),
    /// It may have its part again.
    Admit(String),
}

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/v1/fleet", get(fleet))
        .route("/api/v1/fleet/evict", post(evict))
        .route("/api/v1/fleet/admit", post(admit))
}

/// The query of `POST /api/v1/fleet/evict` and `/admit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostQuery {
    host: String,
    /// The operator's word that the host does not run.
    #[serde(default)]
    stopped: bool,
}

async fn fleet(State(admin): State<Arc<Admin>>) -> Response {
    json(StatusCode::OK, &(admin.fleet)())
}

async fn evict(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<HostQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return bad_query(&rejection),
    };
    if !query.stopped {
        let message = "an evicted host that still runs takes the fleet beyond kintone's limit: make \
                       sure that it does not, and say stopped=true";
        return Failure::answer(StatusCode::BAD_REQUEST, "not_stopped", message);
    }
    carry_out(&admin, &FleetOrder::Evict(query.host))
}

async fn admit(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<HostQuery>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(query)) => carry_out(&admin, &FleetOrder::Admit(query.host)),
        Err(rejection) => bad_query(&rejection),
    }
}

/// Unlike other orders these wait for nothing.
fn carry_out(admin: &Admin, order: &FleetOrder) -> Response {
    match (admin.order_fleet)(order) {
        Ok(()) => json(StatusCode::OK, &Carried::default()),
        Err(fault) => {
            let failure = Failure {
                code: "refused",
                message: "the order was refused and nothing was changed".into(),
                faults: vec![fault],
            };
            json(StatusCode::UNPROCESSABLE_ENTITY, &failure)
        }
    }
}

fn bad_query(rejection: &QueryRejection) -> Response {
    Failure::answer(StatusCode::BAD_REQUEST, "bad_query", rejection.body_text())
}
