//! Which path answers what.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use jiff::civil::Date;
use prometheus::TEXT_FORMAT;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::answers::{
    AccountDetail, AccountItem, AccountLimits, Accounts, AddressItem, Addresses, AppToday, Failure,
    FailureItem, Ready, RequestItem, Requests, Sort, json, text,
};
use super::days;
use super::fleet;
use super::guard::{self, Names, Refused};
use super::notify;
use super::order::{AfterDrain, Command, Order};
use super::page;
use super::readiness;
use super::state::Admin;
use crate::model::Account;
use crate::telemetry::{AppTodayView, LiveFilter};

/// Longest list that one answer holds.
const LIST_MAX: usize = 1000;

/// Length of a list unless the request says otherwise.
const LIST_DEFAULT: usize = 100;

/// How long an order may take to be carried out.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);

type Shared = State<Arc<Admin>>;

/// The whole admin listener.
pub fn router(admin: Arc<Admin>) -> Router {
    let guarded = Arc::clone(&admin);
    read_only_routes()
        .merge(fleet::routes())
        .merge(readiness::routes())
        .merge(notify::routes())
        .route("/", get(status_page))
        .route("/api/v1/config", get(config))
        .route("/api/v1/accounts", get(accounts))
        .route("/api/v1/accounts/{domain}", get(account))
        .route("/api/v1/accounts/{domain}/days", get(days::answer))
        .route("/api/v1/accounts/{domain}/confirm", post(confirm))
        .route("/api/v1/addresses", get(addresses))
        .route("/api/v1/requests", get(requests))
        .route("/api/v1/evidence", get(evidence))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/drain", post(drain).delete(undrain))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(guarded, guard_admin))
        .with_state(admin)
}

/// The `metrics` listener: `/metrics`, `/healthz` and `/readyz`, under any name, nothing else.
pub fn read_only_router(admin: Arc<Admin>) -> Router {
    read_only_routes()
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(guard_read_only))
        .with_state(admin)
}

fn read_only_routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
}

async fn guard_admin(State(admin): Shared, request: Request, next: Next) -> Response {
    let token = (admin.token)();
    let verdict = guard::judge(&request, Names::Own(&admin.own_names))
        .and_then(|()| guard::judge_change(&request, token.as_ref()));
    match verdict {
        Ok(()) => next.run(request).await,
        Err(refused) => refuse(refused),
    }
}

async fn guard_read_only(request: Request, next: Next) -> Response {
    match guard::judge(&request, Names::Any) {
        Ok(()) => next.run(request).await,
        Err(refused) => refuse(refused),
    }
}

fn refuse(refused: Refused) -> Response {
    let (status, code) = match refused {
        Refused::Origin | Refused::Host | Refused::NotLoopback => {
            (StatusCode::FORBIDDEN, "forbidden")
        }
        Refused::Body => (StatusCode::PAYLOAD_TOO_LARGE, "body_not_accepted"),
        Refused::Token => (StatusCode::UNAUTHORIZED, "unauthorized"),
    };
    let mut answer = Failure::answer(status, code, refused.to_string());
    if refused == Refused::Token {
        let challenge = http::HeaderValue::from_static("Bearer realm=\"kintone-egress\"");
        let headers = answer.headers_mut();
        headers.insert(http::header::WWW_AUTHENTICATE, challenge);
    }
    answer
}

async fn metrics(State(admin): Shared) -> Response {
    let body = admin.telemetry.expose(&admin.views());
    text(StatusCode::OK, TEXT_FORMAT, body)
}

async fn healthy() -> Response {
    text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".into())
}

async fn ready(State(admin): Shared) -> Response {
    let ready = Ready::from((admin.readiness)());
    let status = if ready.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, &ready)
}

async fn status_page(State(admin): Shared) -> Response {
    page::answer(&admin)
}

async fn config(State(admin): Shared) -> Response {
    json(StatusCode::OK, &(admin.config_json)())
}

/// The query of `/api/v1/accounts`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountsQuery {
    /// Part of the domain.
    #[serde(default)]
    q: String,
    #[serde(default)]
    sort: Sort,
    limit: Option<usize>,
}

async fn accounts(
    State(admin): Shared,
    query: Result<Query<AccountsQuery>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(rejection) => return bad_query(&rejection),
    };
    let wanted = query.q.to_ascii_lowercase();
    let mut accounts: Vec<AccountItem> = (admin.accounts)()
        .iter()
        .filter(|view| view.account.as_str().contains(&wanted))
        .map(AccountItem::from)
        .collect();
    query.sort.order(&mut accounts);
    let total = accounts.len();
    accounts.truncate(query.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX));
    let permits = (admin.balance)();
    let answer = Accounts {
        accounts,
        total,
        permits,
    };
    json(StatusCode::OK, &answer)
}

async fn account(State(admin): Shared, domain: Result<Path<String>, PathRejection>) -> Response {
    let Ok(Path(domain)) = domain else {
        return not_found().await;
    };
    let domain = domain.to_ascii_lowercase();
    let Some(view) = (admin.account)(&domain) else {
        let message = format!("{domain} is neither configured nor in use or known on this host");
        return Failure::answer(StatusCode::NOT_FOUND, "account_not_found", message);
    };
    let failures = admin.telemetry.recent_failures(&view.account);
    let detail = AccountDetail {
        item: AccountItem::from(&view),
        limits: AccountLimits::from(&(admin.quota)(&view.account)),
        tenants: view.tenants,
        waiting: view.waiting,
        addresses: (admin.addresses)(),
        acceptance: (admin.acceptance)(&view.account),
        apps_today: apps_today(&admin, &view.account),
        failures: failures.into_iter().map(FailureItem::from).collect(),
    };
    json(StatusCode::OK, &detail)
}

/// The apps of an account, the one with most calls first.
fn apps_today(admin: &Admin, account: &Account) -> Vec<AppToday> {
    let mut apps: Vec<_> = (admin.apps_today)()
        .into_iter()
        .filter(|app| app.account == *account)
        .collect();
    apps.sort_unstable_by_key(|app| (Reverse(app.requests), app.app));
    apps.truncate(LIST_MAX);
    let item = |app: AppTodayView| AppToday {
        app: app.app.into(),
        requests: app.requests,
    };
    apps.into_iter().map(item).collect()
}

async fn addresses(State(admin): Shared) -> Response {
    let views = (admin.addresses)();
    let ports = admin.ports.count(&views);
    let port_of = |view: &crate::telemetry::AddressView| {
        let found = ports.iter().find(|(address, _)| *address == view.published);
        found.map(|(_, count)| *count)
    };
    let addresses = views
        .into_iter()
        .map(|view| AddressItem {
            local_ports_used: port_of(&view),
            view,
        })
        .collect();
    json(StatusCode::OK, &Addresses { addresses })
}

/// The query of `/api/v1/requests`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestsQuery {
    account: Option<String>,
    caller: Option<String>,
    /// A time such as `30s`, `500ms` or `2m`.
    older_than: Option<String>,
    limit: Option<usize>,
}

async fn requests(
    State(admin): Shared,
    query: Result<Query<RequestsQuery>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(rejection) => return bad_query(&rejection),
    };
    let older_than = match query.older_than.as_deref().map(parse_time) {
        None => None,
        Some(Some(time)) => Some(time),
        Some(None) => {
            let message = "older_than is a whole number with ms, s, m or h, such as 30s";
            return Failure::answer(StatusCode::BAD_REQUEST, "bad_query", message);
        }
    };
    let filter = LiveFilter {
        account: query.account.map(|it| it.to_ascii_lowercase()),
        caller: query.caller,
        older_than,
    };
    let limit = query.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX);
    let (calls, total) = admin.telemetry.live().snapshot(&filter, limit);
    let requests = calls.into_iter().map(RequestItem::from).collect();
    json(StatusCode::OK, &Requests { requests, total })
}

/// The query of `/api/v1/evidence`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EvidenceQuery {
    account: String,
    /// A day in Japan, such as `2026-11-25`.
    day: Date,
}

async fn evidence(
    State(admin): Shared,
    query: Result<Query<EvidenceQuery>, QueryRejection>,
) -> Response {
    let Query(EvidenceQuery { account, day }) = match query {
        Ok(query) => query,
        Err(rejection) => return bad_query(&rejection),
    };
    let ask = Arc::clone(&admin.evidence);
    let asked = tokio::task::spawn_blocking(move || ask(&account.to_ascii_lowercase(), day)).await;
    match asked.unwrap_or_else(|panic| Err(panic.to_string())) {
        Ok(statement) => json(StatusCode::OK, &statement),
        Err(problem) => {
            let message = format!("the record of {day} cannot be read: {problem}");
            Failure::answer(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", message)
        }
    }
}

/// The query of `POST /api/v1/drain`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainQuery {
    exit: Option<bool>,
}

async fn reload(State(admin): Shared) -> Response {
    carry_out(&admin, Order::Reload).await
}

async fn drain(State(admin): Shared, query: Result<Query<DrainQuery>, QueryRejection>) -> Response {
    let after = match query {
        Ok(Query(DrainQuery { exit: Some(false) })) => AfterDrain::Stay,
        Ok(Query(DrainQuery {
            exit: Some(true) | None,
        })) => AfterDrain::Exit,
        Err(rejection) => return bad_query(&rejection),
    };
    carry_out(&admin, Order::Drain(after)).await
}

async fn undrain(State(admin): Shared) -> Response {
    carry_out(&admin, Order::Undrain).await
}

async fn confirm(State(admin): Shared, domain: Result<Path<String>, PathRejection>) -> Response {
    let Ok(Path(domain)) = domain else {
        return not_found().await;
    };
    let account = Account::from_normal(&domain.to_ascii_lowercase());
    carry_out(&admin, Order::Confirm(account)).await
}

async fn carry_out(admin: &Admin, order: Order) -> Response {
    let (answer, answered) = oneshot::channel();
    if admin.commands.try_send(Command { order, answer }).is_err() {
        let message = "the gateway takes no orders at this moment";
        return Failure::answer(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
    }
    match timeout(ORDER_TIMEOUT, answered).await {
        Ok(Ok(Ok(carried))) => json(StatusCode::OK, &carried),
        Ok(Ok(Err(refusal))) => {
            let failure = Failure {
                code: "refused",
                message: "the order was refused and nothing was changed".into(),
                faults: refusal.faults,
            };
            json(StatusCode::UNPROCESSABLE_ENTITY, &failure)
        }
        Ok(Err(_)) => {
            let message = "the gateway is ending";
            Failure::answer(StatusCode::SERVICE_UNAVAILABLE, "ending", message)
        }
        Err(_) => {
            let message = "the order was taken, but not carried out in 30 s";
            Failure::answer(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
        }
    }
}

async fn not_found() -> Response {
    Failure::answer(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
}

async fn method_not_allowed() -> Response {
    let message = "this path does not take this method";
    Failure::answer(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
}

fn bad_query(rejection: &QueryRejection) -> Response {
    Failure::answer(StatusCode::BAD_REQUEST, "bad_query", rejection.body_text())
}

/// `250ms`, `30s`, `5m`, `1h`, or a bare number of seconds.
fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" | "" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_numbers_with_a_unit() {
        assert_eq!(parse_time("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_time("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_time("30"), Some(Duration::from_secs(30)));
        assert_eq!(parse_time("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse_time("1h"), Some(Duration::from_secs(3600)));
        for bad in ["", "s", "1d", "-1s", "1.5s", "99999999999999999999s"] {
            assert_eq!(parse_time(bad), None, "{bad:?}");
        }
    }
}
