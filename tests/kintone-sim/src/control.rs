//! The control port: a small JSON API over plain HTTP.
//!
//! | call | does |
//! |---|---|
//! | `GET /healthz` | answers `ok` |
//! | `GET /ledger?last=N` | sums, source addresses, sockets and the last N requests (default 1000) |
//! | `GET /accounting?domain=D` | the exact figures of an account |
//! | `DELETE /accounting?domain=D` | begins them anew |
//! | `GET /tenant/D` | the account's settings |
//! | `PUT /tenant/D` | turns the knobs in the body; others stay; creates the account when there is none |
//! | `POST /fault` | arms a fault |
//! | `DELETE /fault` | disarms all |

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::fault::Fault;
use crate::ledger::{Execution, Socket, Stamp};
use crate::tenant::{Tenant, TenantSettings};
use crate::world::World;

/// Longest request body, bytes.
const BODY_MAX: usize = 1024 * 1024;
/// Requests shown by `GET /ledger` when it does not say how many.
const LAST_DEFAULT: usize = 1000;

/// Accepts until the simulator stops.
pub(crate) async fn accept(listener: TcpListener, world: Arc<World>) {
    let stop = world.stop.clone();
    let accepting = async {
        loop {
            let Ok((tcp, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let world = Arc::clone(&world);
            let stop = world.stop.clone();
            let service = service_fn(move |request| serve(Arc::clone(&world), request));
            let http = http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
            tokio::spawn(async move {
                // A control connection that ends badly concerns its client only.
                let _ = stop.run_until_cancelled(http).await;
            });
        }
    };
    stop.run_until_cancelled(accepting).await;
}

/// A refusal: its status and why.
type Refusal = (StatusCode, String);

async fn serve(
    world: Arc<World>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or_default();
    let done = answer(&world, &head.method, path, query, &body);
    let (status, body) = match done {
        Ok(body) => (StatusCode::OK, body),
        Err((status, why)) => (status, json!({"error": why})),
    };
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

fn answer(
    world: &World,
    method: &Method,
    path: &str,
    query: &str,
    body: &[u8],
) -> Result<Value, Refusal> {
    if let Some(domain) = path.strip_prefix("/tenant/") {
        return match method.as_str() {
            "GET" => shown(&*tenant(world, domain)?.settings()),
            "PUT" => put_tenant(world, domain, body),
            _ => Err(not_allowed()),
        };
    }
    match (method.as_str(), path) {
        ("GET", "/healthz") => Ok(json!("ok")),
        ("GET", "/ledger") => Ok(ledger(world, query)),
        ("GET", "/accounting") => shown(&named_tenant(world, query)?.accounting()),
        ("DELETE", "/accounting") => {
            named_tenant(world, query)?.restart_accounting();
            Ok(json!({}))
        }
        ("POST", "/fault") => {
            let fault: Fault = serde_json::from_slice(body).map_err(|e| bad(&e))?;
            world.faults.arm(fault);
            Ok(json!({}))
        }
        ("DELETE", "/fault") => {
            world.faults.clear();
            Ok(json!({}))
        }
        (_, "/healthz" | "/ledger" | "/accounting" | "/fault") => Err(not_allowed()),
        (_, _) => Err((StatusCode::NOT_FOUND, "no such path".to_owned())),
    }
}

/// Lays the keys of the body over the settings that are.
fn put_tenant(world: &World, domain: &str, body: &[u8]) -> Result<Value, Refusal> {
    let given: serde_json::Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| bad(&error))?;
    let current = world
        .tenant(domain)
        .map_or_else(TenantSettings::default, |tenant| {
            TenantSettings::clone(&tenant.settings())
        });
    let mut settings = shown(&current)?;
    for (key, value) in given {
        settings[key] = value;
    }
    let settings: TenantSettings = serde_json::from_value(settings).map_err(|e| bad(&e))?;
    let answer = shown(&settings)?;
    world
        .tenant_or_new(domain)
        .update(|current| *current = settings);
    Ok(answer)
}

fn tenant(world: &World, domain: &str) -> Result<Arc<Tenant>, Refusal> {
    world
        .tenant(domain)
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("no account {domain:?}")))
}

fn named_tenant(world: &World, query: &str) -> Result<Arc<Tenant>, Refusal> {
    tenant(world, parameter(query, "domain").unwrap_or_default())
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(have, _)| *have == name)
        .map(|(_, value)| value)
}

fn bad(error: &serde_json::Error) -> Refusal {
    (StatusCode::BAD_REQUEST, error.to_string())
}

fn not_allowed() -> Refusal {
    let why = "no such method here".to_owned();
    (StatusCode::METHOD_NOT_ALLOWED, why)
}

fn shown(value: &impl serde::Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value)
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn ledger(world: &World, query: &str) -> Value {
    let last = parameter(query, "last")
        .and_then(|last| last.parse().ok())
        .unwrap_or(LAST_DEFAULT);
    let ledger = world.book.snapshot();
    let sources = ledger.sources();
    let skipped = ledger.executions.len().saturating_sub(last);
    let executions: Vec<Value> = ledger.executions[skipped..]
        .iter()
        .map(|execution| execution_json(world, execution))
        .collect();
    let sockets: Vec<Value> = ledger
        .sockets
        .iter()
        .map(|socket| socket_json(world, socket))
        .collect();
    json!({"totals": ledger.totals, "sources": sources, "sockets": sockets, "executions": executions})
}

fn stamp_json(world: &World, stamp: Stamp) -> Value {
    let since_start = stamp.at - world.started;
    json!({"sequence": stamp.sequence, "at_seconds": since_start.as_secs_f64()})
}

fn socket_json(world: &World, socket: &Socket) -> Value {
    json!({
        "peer": socket.peer, "local": socket.local, "sni": socket.sni, "requests": socket.requests, "tls_ok": socket.tls_ok,
        "opened": stamp_json(world, socket.opened), "closed": socket.closed.map(|stamp| stamp_json(world, stamp)),
    })
}

fn execution_json(world: &World, execution: &Execution) -> Value {
    json!({
        "socket": execution.socket, "peer": execution.peer, "host": execution.host, "domain": execution.domain,
        "method": execution.method, "effective_method": execution.effective_method, "path": execution.path,
        "query": execution.query, "headers": execution.headers, "body_length": execution.body_length,
        "body_sha256": execution.body_sha256, "file_sha256": execution.file_sha256,
        "start": stamp_json(world, execution.start), "end": execution.end.map(|stamp| stamp_json(world, stamp)),
        "status": execution.status, "auth": execution.auth, "admitted": execution.admitted,
        "executed": execution.executed, "client_left": execution.client_left, "fault": execution.fault,
    })
}
