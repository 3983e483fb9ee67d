//! `/api/v1/accounts/DOMAIN/days`: what was counted for an account on the days of a span, as JSON or
//! CSV.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::answers::{Failure, json, text};
use super::state::Admin;
use crate::kintone::day::Day;
use crate::model::{CountedApp, Purpose, Tenant};
use crate::quota::DayRow;
use crate::telemetry::views::{shown, shown_or_null};

/// Days that are told unless the request says otherwise, today among them.
const DAYS_DEFAULT: u32 = 30;

/// What the request asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DaysQuery {
    /// The first day, such as `2026-11-01`.
    from: Option<String>,
    /// The last day.
    to: Option<String>,
    format: Option<Format>,
}

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Csv,
}

/// The answer in JSON.
#[derive(Debug, Serialize)]
struct Days<'a> {
    /// The account.
    account: &'a str,
    /// The first day that is told.
    from: String,
    /// The last one.
    to: String,
    /// The day that goes on, from 09:00 to 09:00 Japan time.
    today: String,
    /// The counts of this host, by day, app, purpose and tenant.
    days: Vec<DayItem>,
}

/// Calls of one day, app, purpose and tenant.
#[derive(Debug, Serialize)]
struct DayItem {
    #[serde(serialize_with = "shown")]
    day: Day,
    app: AppName,
    #[serde(serialize_with = "shown_or_null")]
    purpose: Option<Purpose>,
    #[serde(serialize_with = "shown_or_null")]
    tenant: Option<Tenant>,
    requests: u64,
    uncertain: u64,
}

/// An app's number, or the word for those that have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AppName {
    /// The app ID.
    Number(u64),
    /// `unknown` or `other`.
    Word(String),
}

/// Answers the request.
pub(super) async fn answer(
    State(admin): State<Arc<Admin>>,
    domain: Result<Path<String>, PathRejection>,
    query: Result<Query<DaysQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Ok(Path(domain)) = domain else {
        return Failure::answer(StatusCode::NOT_FOUND, "not_found", "there is nothing here");
    };
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return bad_query(rejection.body_text()),
    };
    let domain = domain.to_ascii_lowercase();
    let today = (admin.today)();
    let (from, to) = match span(&query, today) {
        Ok(span) => span,
        Err(message) => return bad_query(message),
    };
    let asked = {
        let (admin, domain) = (Arc::clone(&admin), domain.clone());
        tokio::task::spawn_blocking(move || (admin.days)(&domain, from, to)).await
    };
    let rows = match asked {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Failure::answer(status, "days_unreadable", error.to_string());
        }
        Err(panic) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Failure::answer(status, "internal", panic.to_string());
        }
    };
    if rows.is_empty() && (admin.account)(&domain).is_none() {
        let message = format!(
            "{domain} is neither configured nor in use on this host, and has no calls from {from} \
             to {to}"
        );
        return Failure::answer(StatusCode::NOT_FOUND, "account_not_found", message);
    }
    match query.format.unwrap_or_else(|| preferred(&headers)) {
        Format::Csv => text(
            StatusCode::OK,
            "text/csv; charset=utf-8; header=present",
            csv(&domain, &rows),
        ),
        Format::Json => {
            let days = Days {
                account: &domain,
                from: from.to_string(),
                to: to.to_string(),
                today: today.to_string(),
                days: rows.into_iter().map(DayItem::from).collect(),
            };
            json(StatusCode::OK, &days)
        }
    }
}

/// The first and the last day that are asked for.
fn span(query: &DaysQuery, today: Day) -> Result<(Day, Day), String> {
    let read = |name, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => Day::parse(text)
            .map(Some)
            .ok_or_else(|| format!("{name} is a date such as {today}")),
    };
    let to = read("to", &query.to)?.unwrap_or(today);
    let from = read("from", &query.from)?.unwrap_or_else(|| to.before(DAYS_DEFAULT - 1));
    if from > to {
        return Err(format!("from is {from}, after to, which is {to}"));
    }
    Ok((from, to))
}

/// CSV where it is asked for by name, and JSON is not (RFC 9110 section 12.5.1).
fn preferred(headers: &HeaderMap) -> Format {
    let accepts = |kind: &str| {
        let values = headers.get_all(header::ACCEPT).iter();
        let mut ranges = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|v| v.split(','));
        ranges.any(|range| {
            let name = range.split(';').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case(kind)
        })
    };
    if accepts("text/csv") && !accepts("application/json") {
        Format::Csv
    } else {
        Format::Json
    }
}

/// RFC 4180. No name can hold a comma, a quote or a line's end.
fn csv(account: &str, rows: &[DayRow]) -> String {
    let mut csv = "day,account,app,purpose,tenant,requests,uncertain\r\n".to_owned();
    for row in rows {
        let DayRow {
            day,
            app,
            requests,
            uncertain,
            ..
        } = row;
        let purpose = row.purpose.as_ref().map_or("", Purpose::as_str);
        let tenant = row.tenant.as_ref().map_or("", Tenant::as_str);
        // Writing to a string does not fail.
        let _ = write!(
            csv,
            "{day},{account},{app},{purpose},{tenant},{requests},{uncertain}\r\n"
        );
    }
    csv
}

fn bad_query(message: String) -> Response {
    Failure::answer(StatusCode::BAD_REQUEST, "bad_query", message)
}

impl From<DayRow> for DayItem {
    fn from(row: DayRow) -> Self {
        Self {
            day: row.day,
            app: row.app.into(),
            purpose: row.purpose,
            tenant: row.tenant,
            requests: row.requests,
            uncertain: row.uncertain,
        }
    }
}

impl From<CountedApp> for AppName {
    fn from(app: CountedApp) -> Self {
        match app {
            CountedApp::Known(app) => Self::Number(app.0),
            CountedApp::Unknown | CountedApp::Other => Self::Word(app.to_string()),
        }
    }
}
