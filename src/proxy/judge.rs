//! May this request do what it asks? The contract's order of judgement as far as no other part of
//! the gateway is asked: framing (400), authentication (407), the destination by its name and port
//! (403), the caller's rights (403).
//!
//! Pure: it takes values, tells each step it has taken, and returns the verdict. Live calls and
//! `explain` are judged by this and by nothing else.

use http::request::Parts;

use super::identity::{Identity, IdentityError, Proof};
use super::inner;
use super::options::Options;
use super::reply::{After, Reason};
use super::request::{self, Target};
use super::shared::Rules;
use crate::config::{AccountPolicy, Config};
use crate::drain::Stage;
use crate::kintone::domain::{self, Destination, Door};
use crate::model::{Account, Client, Denial, Detail, Host, Mode};

/// A request, as its judge sees it.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) head: &'a Parts,
    /// What is wrong with it that its parsed form does not show.
    pub(crate) fault: Option<Detail>,
    /// Where it stands.
    pub(crate) place: Place<'a>,
    /// In proof of who sends it.
    pub(crate) proof: Proof<'a>,
    /// Where it comes from.
    pub(crate) client: Client,
    /// How far this host is on its way out.
    pub(crate) stage: Stage,
}

/// Where a request stands.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// On a connection to the proxy.
    Proxy,
    /// On a connection of another host of the fleet, which hands it over; it came that way in.
    Handed(Mode),
    /// Inside an inspected connection.
    Inside {
        /// What its CONNECT named.
        host: &'a Host,
        /// What its CONNECT said about all calls inside.
        options: &'a Options,
    },
}

/// A step that was taken, with what it found out.
pub(crate) enum Step<'a> {
    /// The head is well-formed and asks for this; its options too.
    Framed(Target<'a>),
    /// It is known who sends it.
    Identified(&'a Identity),
    /// It is known what that caller says about it.
    Told(&'a Identity, &'a Options),
    /// It goes to an account that may be reached.
    Destined(&'a Destination, Mode),
}

/// Where a request goes when nothing is wrong with it.
pub(crate) enum Way {
    /// To kintone.
    Call(Judged),
    /// The gateway's own page for load balancers.
    Ready,
    /// What callers are to trust.
    Trust,
    /// How clients are set up.
    Help,
    /// The gateway's own page for callers.
    Me(Identity, Options),
}

/// A call that was let in.
pub(crate) struct Judged {
    pub(crate) identity: Identity,
    pub(crate) options: Options,
    pub(crate) destination: Destination,
    pub(crate) mode: Mode,
}

/// Why a request is not let in, and what becomes of its connection.
pub(crate) type Refused = (Reason, After);

/// Judges a request by `rules`; `hear` is told each step.
///
/// # Errors
/// The first step's refusal.
pub(crate) fn judge(
    rules: &Rules,
    asked: &Asked<'_>,
    mut hear: impl FnMut(Step<'_>),
) -> Result<Way, Refused> {
    let (target, said) = framing(asked)?;
    hear(Step::Framed(target));
    let config = &rules.config;
    let host = match target {
        Target::Forward { host, .. } | Target::Connect { host, .. } | Target::Inside { host } => {
            host
        }
        Target::Own { path: "ready" } => return Ok(Way::Ready),
        Target::Own { path: "help" } => return Ok(Way::Help),
        Target::Own { path: "ca.pem" } if config.inspect.is_some() => return Ok(Way::Trust),
        Target::Own { path: "ca.pem" } => {
            let (status, detail) = (404, Detail::NoAuthority);
            return Err((
                Reason::Denied(Denial::BadRequest { status, detail }),
                After::Keep,
            ));
        }
        Target::Own { path: "me" } => {
            let (identity, options) = authentication(rules, asked, target, said, &mut hear)?;
            let allowed = identity.caller.may_speak(asked.client);
            allowed.map_err(|denial| (Reason::Denied(denial), After::Keep))?;
            return Ok(Way::Me(identity, options));
        }
        Target::Own { .. } => return Err(malformed(Denial::bad_request(Detail::PageUnknown))),
    };
    if asked.stage >= Stage::Stopping {
        return Err((Reason::Denied(Denial::Draining), After::Close));
    }
    let (identity, options) = authentication(rules, asked, target, said, &mut hear)?;
    let denied = |denial| (Reason::Denied(denial), after(target));
    let destination = destination(config, target, host).map_err(denied)?;
    let mode = match (asked.place, target) {
        (Place::Handed(mode), _) => mode,
        (_, Target::Connect { .. }) => rules.mode_of_connect(&identity, &destination),
        (_, Target::Inside { .. }) => Mode::Inspect,
        (_, Target::Forward { .. } | Target::Own { .. }) => Mode::Forward,
    };
    hear(Step::Destined(&destination, mode));
    if mode != Mode::Tunnel && destination.door == Door::ClientCertificate {
        let detail = Detail::ClientCertificateHost;
        return Err(denied(Denial::DestinationForbidden(detail)));
    }
    let (account, tenant) = (&destination.account, options.tenant.as_ref());
    let caller = &identity.caller;
    caller
        .may(config, asked.client, account, tenant, mode)
        .map_err(denied)?;
    Ok(Way::Call(Judged {
        identity,
        options,
        destination,
        mode,
    }))
}

/// Reads the head, and what its headers say about the call.
fn framing<'a>(asked: &Asked<'a>) -> Result<(Target<'a>, Options), Refused> {
    let read = match asked.place {
        Place::Proxy | Place::Handed(_) => request::read(asked.head),
        Place::Inside { host, .. } => inner::read(asked.head, host),
    };
    let target = match (read, asked.fault) {
        (Err(denial @ Denial::BadRequest { .. }), _) => return Err(malformed(denial)),
        (_, Some(fault)) => return Err(malformed(Denial::bad_request(fault))),
        // Where it ends is plain: it is no fault of the connection.
        (Err(denial), None) => return Err((Reason::Denied(denial), After::Keep)),
        (Ok(target), None) => target,
    };
    let said = Options::from_headers(&asked.head.headers)
        .map_err(|error| (Reason::Options(error), After::Close))?;
    Ok((target, said))
}

/// Finds out who sends it, and joins what the user name and the headers say.
fn authentication(
    rules: &Rules,
    asked: &Asked<'_>,
    target: Target<'_>,
    said: Options,
    hear: &mut impl FnMut(Step<'_>),
) -> Result<(Identity, Options), Refused> {
    let identified = rules.directory.identify(asked.proof, asked.client);
    let identity = identified.map_err(|error| match error {
        IdentityError::Unauthenticated(detail) => {
            let denial = Denial::AuthenticationRequired(detail);
            (Reason::Denied(denial), after(target))
        }
        IdentityError::Options(error) => (Reason::Options(error), After::Close),
    })?;
    hear(Step::Identified(&identity));
    let options = match asked.place {
        Place::Proxy | Place::Handed(_) => said
            .or(identity.options.clone())
            .map_err(|error| (Reason::Options(error), After::Close))?,
        Place::Inside { options, .. } => said.within(options),
    };
    hear(Step::Told(&identity, &options));
    Ok((identity, options))
}

/// Whose kintone it is, if that may be reached.
fn destination(config: &Config, target: Target<'_>, host: &str) -> Result<Destination, Denial> {
    let destination =
        domain::judge(host, &config.upstream.zones).map_err(Denial::DestinationForbidden)?;
    request::check_port(target)?;
    check_account(config, &destination.account)?;
    Ok(destination)
}

/// Whether the configuration lets anybody reach this account.
fn check_account(config: &Config, account: &Account) -> Result<(), Denial> {
    match config.upstream.accounts {
        AccountPolicy::Any => Ok(()),
        AccountPolicy::Configured if config.accounts.contains_key(account) => Ok(()),
        AccountPolicy::Configured => {
            Err(Denial::DestinationForbidden(Detail::AccountNotConfigured))
        }
    }
}

/// What becomes of the connection after a refusal: nothing behind a refused CONNECT is read
/// (RFC 9931).
const fn after(target: Target<'_>) -> After {
    match target {
        Target::Connect { .. } => After::Close,
        Target::Forward { .. } | Target::Inside { .. } | Target::Own { .. } => After::Keep,
    }
}

const fn malformed(denial: Denial) -> Refused {
    (Reason::Denied(denial), After::Close)
}
