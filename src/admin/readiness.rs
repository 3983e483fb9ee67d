//! Which accounts take a published address: whether it can be moved to.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::answers::{Failure, json};
use super::state::Admin;
use crate::model::Account;

/// What is known of all accounts at a published address; `None` if it is not published.
pub type AskAddress = Box<dyn Fn(Ipv4Addr) -> Option<AddressReport> + Send + Sync>;

/// `/api/v1/readiness`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AddressReport {
    /// The published address.
    pub address: String,
    /// Whether it is used: `planned`, `active` or `retiring`.
    pub state: &'static str,
    /// How many accounts take it.
    pub accepted: usize,
    /// How many do not.
    pub refused: usize,
    /// Of how many nobody knows.
    pub unknown: usize,
    /// Each of them: those that refuse it first, those that take it last, by name.
    pub accounts: Vec<AccountReport>,
}

/// An account at that address.
#[derive(Debug, Clone, Serialize)]
pub struct AccountReport {
    /// Its domain.
    pub account: String,
    /// Whether it takes the address: `accepted`, `refused` or `unknown`.
    pub state: &'static str,
    /// Since when.
    pub since: Option<Timestamp>,
    /// When an answer told it last.
    pub seen: Option<Timestamp>,
    /// When the gateway itself asked last.
    pub asked: Option<Timestamp>,
    /// Whether it may ask.
    pub probe: bool,
}

/// What is known of an account at each published address.
pub type AskAcceptance = Box<dyn Fn(&Account) -> Vec<AcceptanceItem> + Send + Sync>;

/// A published address, and whether an account takes it.
#[derive(Debug, Clone, Serialize)]
pub struct AcceptanceItem {
    /// The published address.
    pub address: String,
    /// Whether the account takes it: `accepted`, `refused` or `unknown`.
    pub state: &'static str,
    /// Since when.
    pub since: Option<Timestamp>,
    /// When an answer told it last.
    pub seen: Option<Timestamp>,
    /// When the gateway itself asked last.
    pub asked: Option<Timestamp>,
}

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/api/v1/readiness", get(readiness))
}

/// The query of `/api/v1/readiness`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressQuery {
    address: Ipv4Addr,
}

async fn readiness(
    State(admin): State<Arc<Admin>>,
    query: Result<Query<AddressQuery>, QueryRejection>,
) -> Response {
    let address = match query {
        Ok(Query(AddressQuery { address })) => address,
        Err(rejection) => {
            let message = rejection.body_text();
            return Failure::answer(StatusCode::BAD_REQUEST, "bad_query", message);
        }
    };
    match (admin.address_report)(address) {
        Some(report) => json(StatusCode::OK, &report),
        None => {
            let message = format!("{address} is no published address of [[egress.address]]");
            Failure::answer(StatusCode::NOT_FOUND, "address_not_found", message)
        }
    }
}
