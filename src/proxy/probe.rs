//! Asks an account for one page without credentials, to learn whether it takes an address.

use std::sync::LazyLock;
use std::time::Duration;

use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{Method, Request};
use tokio::time::timeout;

use super::held::hold;
use super::shared::Shared;
use super::upload::Outgoing;
use crate::egress::{Checkout, Fence, Source, Taken};
use crate::kintone::answer::{Coding, Concurrency, Edge, Said, cause, code_of, edge};
use crate::model::{Account, CallerName, Host, Mode, Priority};
use crate::quota::{Ask, Permit, Term};

/// A page of kintone's API that tells nobody anything without credentials: kintone itself refuses it
/// with a code of its own, its edge without one.
const PAGE: &str = "/k/v1/app.json?id=1";

/// Longest wait for its answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who asks, among those who share an account's permits.
static ASKER: LazyLock<Option<CallerName>> =
    LazyLock::new(|| CallerName::parse("kintone-egress-probe"));

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// Nothing was sent: there was no permit at once, or no way.
    Unsent,
    /// It was sent; `None`: what came back says nothing.
    Sent(Option<Taken>),
}

/// Asks `account` from `source`.
pub(super) async fn probe(shared: &Shared, account: &Account, source: Source) -> Probed {
    let Some(asker) = ASKER.as_ref() else {
        return Probed::Unsent;
    };
    let ask = Ask {
        account,
        mode: Mode::Forward,
        tenant: None,
        caller: asker,
        priority: Priority::Batch,
        caller_wait: None,
        call_wait: Some(Duration::ZERO),
        weight: 1,
        term: Term::Short,
    };
    let Ok(mut permit) = shared.quotas.admit(ask).await else {
        return Probed::Unsent;
    };
    let host = Host::from_normal(account.as_str());
    let egress = &shared.egress;
    let Ok(checkout) = egress.checkout_to_probe(&host, source).await else {
        return Probed::Unsent;
    };
    let fence = permit.sent();
    let answered = timeout(PATIENCE, answer(&host, checkout, fence, permit)).await;
    let said = answered.ok().flatten();
    Probed::Sent(said.map(|edge| match edge {
        Edge::LetIn => Taken::Accepted,
        Edge::TurnedAway => Taken::Refused,
    }))
}

/// What the answer says. Dropped before its end, the permit settles.
async fn answer(
    host: &Host,
    mut checkout: Checkout<Outgoing>,
    fence: Option<Fence>,
    mut permit: Permit,
) -> Option<Edge> {
    let sent = checkout.send(request(host)?, fence, None).await;
    let mut response = sent.ok()?;
    let coding = Coding::of(response.headers());
    let held = hold(response.body_mut(), coding).await;
    let headers = response.headers();
    let said = held.reader.said(held.end.of_body());
    let named = code_of(headers);
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    let cause = failed.then(|| cause(status, named, said));
    let code = match said {
        Said::Error { code, .. } => named.or(Some(code)),
        Said::OAuth(_) | Said::NoError | Said::Unreadable => named,
    };
    let figures = Concurrency::read(headers);
    match cause {
        Some(cause) => permit.failed(figures.limit, figures.running, Some(cause)),
        None => permit.answered(figures.limit, figures.running),
    }
    permit.finish();
    edge(figures, code, cause)
}

fn request(host: &Host) -> Option<Request<Outgoing>> {
    let agent = concat!("kintone-egress-probe/", env!("CARGO_PKG_VERSION"));
    Request::builder()
        .method(Method::GET)
        .uri(PAGE)
        .header(HOST, host.as_str())
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, agent)
        .header(CONNECTION, "close")
        .body(Outgoing::Empty)
        .ok()
}
