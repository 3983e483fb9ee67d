//! The life of one request: what the edge refuses, the place in the account, the work (which outlives its client), the answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::answer::{Answer, AnswerBody, BodyEnd, JSON, Pace, Payload};
use crate::api;
use crate::api::auth::Identity;
use crate::body::{self, Taken};
use crate::cut::{Cut, Measure};
use crate::error::ApiError;
use crate::fault::{FaultKind, Stage};
use crate::head::Head;
use crate::server::Connection;
use crate::tenant::{
    AdmissionOrder, DeniedAnswer, Maintenance, Reported, Tenant, TenantSettings, WhenClientLeaves,
};
use crate::visit::{self, Visit};
use crate::wire::Order;

/// Longest request target that is served, bytes.
const TARGET_MAX: usize = 8192;
/// A request that is refused is answered when its body, up to this size, has been read, so that its connection stays usable.
const DRAIN_MAX: u64 = 1024 * 1024;

/// Answers one request.
pub(crate) async fn serve(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let (mut visit, head) = arrive(&connection, &request);
    let body = request.into_body();
    let tenant = match edge(&connection, &head) {
        Ok(tenant) => tenant,
        Err(answer) => return Ok(refuse(visit, body, *answer).await),
    };
    let settings = tenant.settings();
    let fault = connection.world.faults.hit(
        Stage::Call,
        &tenant.domain,
        &head.path,
        head.effective.as_str(),
    );
    if let Some(fault) = &fault {
        visit.hit(fault);
        if let Some(instead) = instead(fault, &head, &tenant, &settings) {
            return Ok(or_never(answer_instead(visit, body, instead).await).await);
        }
    }
    if settings.admission == AdmissionOrder::AfterAuthentication
        && let Err(error) = Identity::of(&head, &settings)
    {
        let answer = error.answer(settings.errors, head.language());
        return Ok(refuse(visit, body, answer.report(tenant.reported())).await);
    }
    let reported = match tenant.enter(&connection.world.book) {
        Ok(slot) => {
            let reported = slot.reported;
            visit.admit(slot);
            reported
        }
        Err(reported) => {
            let answer = too_many(&head, &settings, reported);
            return Ok(refuse(visit, body, answer).await);
        }
    };
    let work = Work {
        head,
        tenant,
        settings,
        reported,
        fault,
    };
    Ok(or_never(work.detached(visit, body).await).await)
}

/// An answer, or none at all because the connection is being ended.
async fn or_never(response: Option<Response<AnswerBody>>) -> Response<AnswerBody> {
    match response {
        Some(response) => response,
        None => std::future::pending().await,
    }
}

/// Opens the request's line in the ledger.
fn arrive(connection: &Arc<Connection>, request: &Request<Incoming>) -> (Visit, Head) {
    let head = Head::of(request);
    let book = &connection.world.book;
    let start = book.stamp();
    let line = book.begin(|| head.execution(connection, start), connection.peer.socket);
    if line.is_none() {
        connection.wire.take_head();
    }
    let method = if head.method == Method::HEAD {
        visit::Method::Head
    } else {
        visit::Method::Other
    };
    let visit = Visit::new(
        Arc::clone(&connection.world),
        Arc::clone(&connection.wire),
        line,
        method,
    );
    (visit, head)
}

/// What is judged before kintone itself, in the order of a web server in front of it.
fn edge(connection: &Connection, head: &Head) -> Result<Arc<Tenant>, Box<Answer>> {
    if head.target_length > TARGET_MAX {
        let answer = Answer::text(StatusCode::URI_TOO_LONG, "Request URL/URI Too Large");
        return Err(Box::new(answer));
    }
    let port = connection.peer.local_port;
    let named = connection
        .sni
        .as_deref()
        .is_none_or(|sni| is_same_host(&head.host, sni, port));
    if !named {
        let answer = Answer::text(StatusCode::MISDIRECTED_REQUEST, "Misdirected Request");
        return Err(Box::new(answer));
    }
    let tenant = connection
        .world
        .tenant(&head.host)
        .ok_or_else(|| Box::new(Answer::unknown_tenant()))?;
    let settings = tenant.settings();
    match settings.maintenance {
        Maintenance::Off => {}
        Maintenance::Text503 => return Err(Box::new(Answer::unavailable())),
        Maintenance::Html502 => return Err(Box::new(Answer::overload())),
    }
    let source = connection.peer.peer.ip();
    match &settings.allow {
        Some(allowed) if !allowed.contains(&source) => Err(Box::new(denied(&settings, head))),
        Some(_) | None => Ok(tenant),
    }
}

/// Whether a `Host` is the server name, without a port or with 443 or the port that the simulator stands in for it.
fn is_same_host(host: &str, sni: &str, local_port: u16) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "443"));
    name.eq_ignore_ascii_case(sni) && (port == "443" || port.parse() == Ok(local_port))
}

fn denied(settings: &TenantSettings, head: &Head) -> Answer {
    match settings.denied {
        DeniedAnswer::Html403 => Answer::html(
            StatusCode::FORBIDDEN,
            "アクセスが制限されています。 Access is restricted.",
        ),
        DeniedAnswer::Html401 => Answer::html(StatusCode::UNAUTHORIZED, "認証が必要です。")
            .with("www-authenticate", "Basic realm=\"cybozu.com\""),
        DeniedAnswer::Json401 => ApiError::new(
            401,
            "CB_AU01",
            "Authentication required.",
            "認証が必要です。",
        )
        .answer(settings.errors, head.language()),
    }
}

fn too_many(head: &Head, settings: &TenantSettings, reported: Reported) -> Answer {
    ApiError::too_many_requests()
        .answer(settings.errors, head.language())
        .report(reported)
}

/// What comes in place of kintone's own answer.
enum Instead {
    Answer(Answer),
    /// The answer, while the request's body is unread.
    Early(Answer),
    Order(Order),
}

fn instead(
    fault: &FaultKind,
    head: &Head,
    tenant: &Tenant,
    settings: &TenantSettings,
) -> Option<Instead> {
    let status = |status: u16| StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the faults that are left change the answer of work that is done"
    )]
    let answer = match fault {
        FaultKind::TooManyRequests => {
            let Reported { limit, .. } = tenant.reported();
            let running = limit + 1;
            too_many(head, settings, Reported { limit, running })
        }
        FaultKind::Overload => Answer::overload(),
        FaultKind::Unavailable => Answer::unavailable(),
        FaultKind::RedirectToLogin => Answer::redirect_to_login(),
        FaultKind::HtmlPage => Answer::html(StatusCode::OK, "ログイン"),
        FaultKind::Json {
            status: number,
            code,
            message,
        } => {
            let id = crate::draw::identifier(20);
            let body = serde_json::json!({"code": code, "id": id, "message": message});
            let mut answer = Answer::new(status(*number), JSON, body.to_string());
            if let Ok(code) = http::HeaderValue::from_str(code) {
                let name = http::HeaderName::from_static("x-cybozu-error");
                answer.headers.push((name, code));
            }
            answer.report(tenant.reported())
        }
        FaultKind::Status {
            status: number,
            content_type,
            body,
        } => Answer::new(status(*number), content_type, body.clone()),
        FaultKind::Verbatim {
            status: number,
            headers,
            body,
        } => {
            let mut answer = Answer::new(status(*number), "", body.clone());
            // Headers that are none are left out.
            answer.headers = headers
                .iter()
                .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
                .collect();
            answer
        }
        FaultKind::EarlyAnswer { status: number } => {
            let answer = Answer::text(status(*number), "early");
            return Some(Instead::Early(answer));
        }
        FaultKind::ExpectationFailed if !head.text("expect").is_empty() => {
            let answer = Answer::text(StatusCode::EXPECTATION_FAILED, "Expectation Failed");
            return Some(Instead::Early(answer));
        }
        FaultKind::ResetBeforeAnswer => return Some(Instead::Order(Order::Reset)),
        _ => return None,
    };
    Some(Instead::Answer(answer))
}

async fn answer_instead(
    visit: Visit,
    body: Incoming,
    instead: Instead,
) -> Option<Response<AnswerBody>> {
    match instead {
        Instead::Answer(answer) => Some(refuse(visit, body, answer).await),
        Instead::Early(answer) => Some(respond(visit, answer, Pace::default())),
        Instead::Order(order) => {
            visit.end_connection(order);
            None
        }
    }
}

async fn refuse(visit: Visit, mut body: Incoming, answer: Answer) -> Response<AnswerBody> {
    let mut read = 0;
    while read < DRAIN_MAX {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => break,
        }
    }
    visit.note(|execution| execution.body_length = read);
    respond(visit, answer, Pace::default())
}

fn respond(visit: Visit, answer: Answer, pace: Pace) -> Response<AnswerBody> {
    visit.note(|execution| execution.status = answer.status.as_u16());
    if answer.executed {
        visit.executed();
    }
    AnswerBody::respond(answer, pace, visit)
}

/// A request that has its place.
struct Work {
    head: Head,
    tenant: Arc<Tenant>,
    settings: Arc<TenantSettings>,
    reported: Reported,
    fault: Option<FaultKind>,
}

impl Work {
    /// Does the work in a task of its own, so that it goes on when the connection ends.
    async fn detached(self, visit: Visit, body: Incoming) -> Option<Response<AnswerBody>> {
        if self.fault == Some(FaultKind::NoContinue) {
            visit.wire().withhold_interim();
        }
        if self.settings.client_left == WhenClientLeaves::Stops {
            return self.run(visit, body).await;
        }
        let (done, answer) = oneshot::channel();
        let stop = visit.world().stop.clone();
        tokio::spawn(async move {
            let work = stop.run_until_cancelled(self.run(visit, body));
            if let Some(Some(response)) = work.await {
                // When the client has gone, the response is dropped here, and with it the visit ends.
                let _ = done.send(response);
            }
        });
        answer.await.ok()
    }

    async fn run(self, visit: Visit, body: Incoming) -> Option<Response<AnswerBody>> {
        let Ok(taken) = body::take(body, &self.head, visit.world().book.keep).await else {
            // The request never became whole, so there is nothing to execute and nobody to answer.
            visit.abandon();
            return None;
        };
        note_body(&visit, &taken);
        let latency = self.tenant.latency(&self.head.path);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let answer = api::answer(&self.head, &self.tenant, &self.settings, taken)
            .unwrap_or_else(|error| error.answer(self.settings.errors, self.head.language()))
            .report(self.reported);
        match self.fault {
            Some(fault) => spoil(visit, answer, &fault).await,
            None => Some(respond(visit, answer, Pace::default())),
        }
    }
}

fn note_body(visit: &Visit, taken: &Taken) {
    visit.note(|execution| {
        execution.body_length = taken.length;
        execution.body_sha256.clone_from(&taken.sha256);
        execution.file_sha256 = taken.file.as_ref().map(|file| file.sha256.clone());
    });
}

/// What a fault makes of the answer to work that was done.
async fn spoil(
    visit: Visit,
    mut answer: Answer,
    fault: &FaultKind,
) -> Option<Response<AnswerBody>> {
    let mut pace = Pace::default();
    let length = match &answer.payload {
        Payload::Bytes(bytes) => bytes.len() as u64,
        Payload::Synthetic(length) => *length,
        Payload::Endless => u64::MAX,
    };
    let cut = |after, then| visit.wire().cut_answer(Cut::new(after, then));
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the faults that are left had their effect before the work"
    )]
    match fault {
        FaultKind::ResetAfterExecuting => {
            return unanswered(visit, &answer, Order::Reset);
        }
        FaultKind::Garbage => {
            let garbage = b"\x16\x03\x03 this is not HTTP \xff\xfe\r\n\r\n".as_slice();
            return unanswered(visit, &answer, Order::Raw(garbage.into()));
        }
        FaultKind::SlowHead { wait_ms } => {
            tokio::time::sleep(Duration::from_millis(*wait_ms)).await;
        }
        FaultKind::SlowBody { bytes, tick_ms } => {
            pace.bytes = *bytes;
            pace.tick = Duration::from_millis(*tick_ms);
        }
        FaultKind::HalfBodyThenReset => cut(Measure::Body(length / 2), Order::Reset),
        FaultKind::ResetAfterBytes { bytes } => cut(Measure::Answer(*bytes), Order::Reset),
        FaultKind::StallAfterBytes { bytes } => cut(Measure::Answer(*bytes), Order::Stall),
        FaultKind::AnswerThenStall => pace.end = BodyEnd::Never,
        FaultKind::EndlessBody => answer.payload = Payload::Endless,
        FaultKind::CloseAfterAnswer => visit.wire().close_after_answer(),
        FaultKind::CloseIdle { after_ms } => visit
            .wire()
            .close_when_idle(Duration::from_millis(*after_ms)),
        _ => {}
    }
    Some(respond(visit, answer, pace))
}

/// The work was done and its client will not learn of it.
fn unanswered(visit: Visit, answer: &Answer, order: Order) -> Option<Response<AnswerBody>> {
    if answer.executed {
        visit.executed();
    }
    visit.end_connection(order);
    None
}
