//! A request on its way to kintone, from the first byte until the head of the answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::carriage::{Carriage, read_without_caller};
use super::exchange::Exchange;
use super::headers::{self, Trailers};
use super::upload::{Outgoing, Upload};
use super::wire;
use crate::egress::{Arrival, Checkout, Fence, SendError, Witness};
use crate::kintone::answer::{self as knowledge, Concurrency, TOO_MANY_RUNNING};
use crate::model::{Detail, Outcome};
use crate::quota::{Charge, Permit};
use crate::server::Connection;

/// A request that was handed to a connection, with all that it holds. It can outlive its caller.
pub(crate) struct Flight {
    landing: Landing,
    permit: Permit,
    upload: Option<Arc<Upload>>,
    /// What it counts for.
    charge: Option<Arc<Charge>>,
}

type Landing = Pin<Box<dyn Future<Output = (Sent, Checkout<Outgoing>)> + Send>>;

/// What came of a request that was handed to a connection.
pub(crate) type Sent = Result<Response<Incoming>, SendError>;

/// What the caller expects before its body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expectation {
    Nothing,
    /// kintone's 100 (RFC 9110 section 10.1.1).
    Continue,
}

impl Flight {
    /// Hands a request to a connection. Nothing moves before [`Flight::landing`] is awaited.
    pub(crate) fn begin(
        head: Parts,
        expectation: Expectation,
        upload: Option<Arc<Upload>>,
        permit: Permit,
        (mut checkout, fence): (Checkout<Outgoing>, Option<Fence>),
        listener: Option<Weak<Connection>>,
        charge: Option<Arc<Charge>>,
    ) -> Self {
        let request = request(head, expectation, upload.as_ref(), listener);
        let witness = charge.clone().map(|charge| charge as Arc<dyn Witness>);
        let landing = Box::pin(async move {
            let sent = checkout.send(request, fence, witness).await;
            (sent, checkout)
        });
        Self {
            landing,
            permit,
            upload,
            charge,
        }
    }

    /// Completes when the head of the answer has come, or none will.
    pub(crate) async fn landing(&mut self) -> (Sent, Checkout<Outgoing>) {
        self.landing.as_mut().await
    }

    /// What is still held when it has landed.
    pub(crate) fn landed(self, checkout: Checkout<Outgoing>) -> Carriage {
        let Self {
            permit,
            upload,
            landing: _,
            charge: _,
        } = self;
        Carriage {
            permit,
            checkout,
            upload,
        }
    }

    /// Closes the connection before kintone's end was seen: the permit settles.
    pub(crate) fn abort(self, exchange: &mut Exchange) {
        exchange.record().permit = Some(self.permit.held());
    }

    fn not_counted(&self) {
        if let Some(charge) = &self.charge {
            charge.take_back();
        }
    }

    /// Awaits kintone's end for a caller that has left.
    pub(crate) async fn land_without_caller(mut self, mut exchange: Exchange, limit: Duration) {
        match tokio::time::timeout(limit, self.landing()).await {
            Ok((Ok(response), checkout)) => {
                let code = knowledge::code_of(response.headers());
                if code == Some(TOO_MANY_RUNNING) {
                    self.not_counted();
                }
                let mut carriage = self.landed(checkout);
                let said = Concurrency::read(response.headers());
                if response.status().as_u16() < 400 {
                    carriage.permit.answered(said.limit, said.running);
                } else {
                    carriage.permit.failed(said.limit, said.running, None);
                }
                let record = exchange.record();
                (record.kintone_running, record.kintone_limit) = (said.running, said.limit);
                read_without_caller(response.into_body(), carriage, exchange, limit).await;
            }
            Ok((Err(error), _)) => {
                if error.arrival == Arrival::Never {
                    self.not_counted();
                }
                exchange.ended(Outcome::CallerGone, Some(Detail::ResponseReset));
                self.abort(&mut exchange);
            }
            Err(_) => {
                exchange.ended(Outcome::CallerGone, Some(Detail::ResponseTimeout));
                self.abort(&mut exchange);
            }
        }
    }
}

/// The request of one try; `listener` is told of the 1xx answers.
fn request(
    head: Parts,
    expectation: Expectation,
    upload: Option<&Arc<Upload>>,
    listener: Option<Weak<Connection>>,
) -> Request<Outgoing> {
    let (body, tell) = match (upload, expectation) {
        (None, _) => (Outgoing::Empty, None),
        (Some(upload), Expectation::Nothing) => (upload.reader(), None),
        (Some(upload), Expectation::Continue) => {
            let (body, tell) = upload.reader_after_continue();
            (body, Some(tell))
        }
    };
    let mut request = Request::from_parts(head, body);
    if tell.is_some() || listener.is_some() {
        pass_interim_on(&mut request, tell, listener);
    }
    request
}

/// Lets the body go when kintone says 100, and passes every other 1xx answer on. A 100 ends here: the
/// caller gets the server's own, when its body is first read (RFC 9110 section 15.2).
fn pass_interim_on(
    request: &mut Request<Outgoing>,
    tell: Option<oneshot::Sender<()>>,
    listener: Option<Weak<Connection>>,
) {
    let tell = Mutex::new(tell);
    hyper::ext::on_informational(request, move |response| {
        let status = response.status();
        if status != StatusCode::CONTINUE {
            if let Some(caller) = listener.as_ref().and_then(Weak::upgrade) {
                let head = interim_head(status, response.version(), response.headers().clone());
                caller.inform(&head);
            }
            return;
        }
        if let Some(tell) = tell.lock().ok().and_then(|mut tell| tell.take()) {
            // Nobody listens when the body is already on its way.
            let _ = tell.send(());
        }
    });
}

/// A 1xx head as it goes over the caller's wire.
fn interim_head(status: StatusCode, received: Version, mut headers: HeaderMap) -> Vec<u8> {
    headers::to_caller(&mut headers, status, received, Trailers::Dropped);
    headers.remove(header::CONTENT_LENGTH);
    wire::interim(status, &headers)
}

/// Completes when kintone has owed an answer for `limit`: since the head, or since the last byte of
/// the body.
pub(crate) async fn silence(upload: Option<&Upload>, limit: Duration) {
    let mut since = Instant::now();
    loop {
        tokio::time::sleep_until(since + limit).await;
        match upload.map(Upload::last_progress) {
            Some(progress) if progress > since => since = progress,
            Some(_) | None => return,
        }
    }
}
