//! `explain`: the decision that the gateway would take about a call, step by step, in the order of
//! judgement and by the code that judges live calls.
//!
//! What it cannot know it says: `--as` is taken at its word, so no token is looked at; how many
//! permits are in use, whether the host drains, and what DNS and kintone will answer are known to the
//! running gateway only. Nothing is sent; the addresses of this host are looked for as the gateway
//! does it, by binding a socket to each.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;

use super::question::ANONYMOUS;
use super::wording::{self, Written};
use crate::config::Config;
use crate::drain::Stage;
use crate::egress::{Addresses, Preview, preview};
use crate::kintone::domain::Destination;
use crate::model::{Account, Client, Code, Denial, Detail};
use crate::proxy::{Asked, Judged, Language, Place, Proof, Reason, Rules, Step, Way, judge};
use crate::published::{current, in_force};
use crate::quota::{Ask, Budget, Closure, Terms};
use crate::tls::Authority;

pub use super::question::Question;
pub use crate::model::Mode;

/// Explains the decisions under one configuration, on this host.
pub struct Explainer {
    rules: Arc<Rules>,
    addresses: Addresses,
}

/// A decision, step by step.
#[derive(Debug)]
pub struct Explanation {
    steps: Vec<Taken>,
    verdict: Verdict,
}

#[derive(Debug)]
enum Verdict {
    Allowed(Allowed),
    Refused(Refusal),
}

/// What nothing stands against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowed {
    /// A call to kintone.
    Call,
    /// One of the gateway's own pages.
    OwnPage,
}

#[derive(Debug)]
struct Refusal {
    code: Code,
    status: StatusCode,
    /// What the caller is told: the sentence, and what to do.
    told: [String; 2],
}

/// A step of the judgement.
#[derive(Debug)]
struct Taken {
    name: &'static str,
    result: &'static str,
    text: String,
}

/// The steps in the order of judgement.
const FRAMING: &str = "framing";
const AUTHENTICATION: &str = "authentication";
const DESTINATION: &str = "destination";
const RIGHTS: &str = "rights";
const ADDRESS: &str = "address";
const CIRCUIT: &str = "circuit";
const QUOTA: &str = "quota";
const NAME: &str = "name";

const OK: &str = "ok";
const REFUSED: &str = "refused";
/// It depends on what only the running gateway knows.
const DEPENDS: &str = "depends";

impl Explainer {
    /// Reads the rules, and looks which addresses are published as in use and on this host.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        let (list, _) = current(&config, Timestamp::now());
        let config = in_force(&config, &list.states());
        // One that cannot sign keeps a gateway from starting, and decides about no call.
        let authority = Authority::of(&config, None).unwrap_or_default();
        Self {
            addresses: Addresses::new(&config.addresses),
            rules: Rules::new(config, authority, None),
        }
    }

    /// The decision about one call.
    #[must_use]
    pub fn explain(&self, question: &Question) -> Explanation {
        let mut steps = Vec::new();
        let verdict = match self.decide(question, &mut steps) {
            Ok(allowed) => Verdict::Allowed(allowed),
            Err((reason, account)) => {
                let config = &self.rules.config;
                steps.push(Taken {
                    name: step_of(reason.code()),
                    result: REFUSED,
                    text: wording::refusal(config, question, reason, account.as_ref()),
                });
                Verdict::Refused(Refusal::new(reason, account.as_ref()))
            }
        };
        Explanation { steps, verdict }
    }

    fn decide(
        &self,
        question: &Question,
        steps: &mut Vec<Taken>,
    ) -> Result<Allowed, (Reason, Option<Account>)> {
        let config = &self.rules.config;
        let asking = question.asking(config.limits.head_size);
        let asking = asking.map_err(|reason| (reason, None))?;
        let client = Client(SocketAddr::new(question.client(config), 0));
        let asked = Asked {
            head: &asking.head,
            fault: asking.fault,
            place: Place::Proxy,
            proof: match question.user.as_str() {
                ANONYMOUS => Proof::Headers(&asking.head.headers),
                user => Proof::Assumed(user),
            },
            client,
            stage: Stage::Serving,
        };
        let mut account = None;
        let judged = judge(&self.rules, &asked, |step| {
            if let Step::Destined(destination, _) = step {
                account = Some(destination.account.clone());
            }
            if let Some((name, text)) = taken(&asked, &step) {
                steps.push(Taken::new(name, OK, text));
            }
        });
        let refused = |reason| (reason, account.clone());
        let judged = match judged.map_err(|(reason, _)| refused(reason))? {
            Way::Call(judged) => judged,
            Way::Me(..) | Way::Trust | Way::Help => return Ok(Allowed::OwnPage),
            Way::Ready => {
                let usable = self.leave_from(steps);
                usable.map_err(|denial| refused(Reason::Denied(denial)))?;
                return Ok(Allowed::OwnPage);
            }
        };
        let caller = judged.identity.caller.rule();
        let text = wording::rights(question, caller, client);
        steps.push(Taken::new(RIGHTS, OK, text));
        if let Some(text) = wording::way(question, judged.mode) {
            steps.push(Taken::new(RIGHTS, OK, text.to_owned()));
        }
        let judged = self
            .look_inside(question, client, judged, steps)
            .map_err(refused)?;
        self.way_out(&judged, steps)
            .map_err(|denial| refused(Reason::Denied(denial)))?;
        Ok(Allowed::Call)
    }

    /// What is decided about the call inside, if that was asked and the connection is inspected.
    fn look_inside(
        &self,
        question: &Question,
        client: Client,
        connect: Judged,
        steps: &mut Vec<Taken>,
    ) -> Result<Judged, Reason> {
        if connect.mode != Mode::Inspect {
            return Ok(connect);
        }
        let Some(asking) = question.inside()? else {
            return Ok(connect);
        };
        let asked = Asked {
            head: &asking.head,
            fault: asking.fault,
            place: Place::Inside {
                host: &connect.destination.host,
                options: &connect.options,
            },
            proof: Proof::Known(&connect.identity),
            client,
            stage: Stage::Serving,
        };
        let judged = judge(&self.rules, &asked, |step| {
            if let (Step::Framed(_), Some((name, text))) = (&step, taken(&asked, &step)) {
                steps.push(Taken::new(name, OK, text));
            }
        });
        match judged.map_err(|(reason, _)| reason)? {
            Way::Call(judged) => Ok(judged),
            Way::Ready | Way::Trust | Way::Help | Way::Me(..) => Ok(connect),
        }
    }

    /// Whether an address of this host can be used.
    fn leave_from(&self, steps: &mut Vec<Taken>) -> Result<(), Denial> {
        self.addresses.choose()?;
        let text = wording::addresses(&self.addresses);
        steps.push(Taken::new(ADDRESS, OK, text));
        Ok(())
    }

    /// Whether kintone serves the account, as far as it was announced or written down.
    fn served(&self, account: &Account) -> Result<String, Denial> {
        let config = &self.rules.config;
        let now = Timestamp::now();
        if let Some(end) = config.circuit.planned_end(account, now) {
            let left = end.duration_since(now).unsigned_abs();
            let why = Detail::MaintenancePlanned;
            return Err(Denial::AccountMaintenance(why, Some(left)));
        }
        let Ok(closures) = Closure::read_all(&config.state_dir) else {
            return Ok(wording::circuit(Written::Unreadable));
        };
        let table = config.circuit.tables.get(account);
        let is_closed = closures.iter().any(|closure| {
            closure.account == account.as_str()
                && (table.is_none() || table == closure.table.as_ref())
        });
        if is_closed {
            return Err(Denial::AccountUnknown);
        }
        Ok(wording::circuit(Written::Nothing))
    }

    /// What comes behind the caller's rights: an address, whether kintone serves the account, the
    /// quota, the destination's address.
    fn way_out(&self, judged: &Judged, steps: &mut Vec<Taken>) -> Result<(), Denial> {
        let config = &self.rules.config;
        self.leave_from(steps)?;
        let Destination { host, account, .. } = &judged.destination;
        steps.push(Taken::new(CIRCUIT, OK, self.served(account)?));
        let quota = config.quota_of(account);
        let weight = match judged.mode {
            Mode::Forward | Mode::Inspect => 1,
            Mode::Tunnel => quota.tunnel_h2_weight.max(1),
        };
        let ask = Ask {
            mode: judged.mode,
            ..judged.identity.ask(&judged.options, account, weight)
        };
        let terms = Terms::of(config, &ask);
        for text in wording::quota(config, &ask, &terms, judged.mode, quota.tunnel_h2_weight) {
            steps.push(Taken::new(QUOTA, DEPENDS, text));
        }
        let budget = Budget::of(config, account);
        let text = wording::budget(config, budget, ask.priority, judged.mode);
        steps.push(Taken::new(QUOTA, DEPENDS, text));
        let preview = preview(&config.upstream, host)?;
        let result = match preview {
            Preview::Static(_) => OK,
            Preview::Resolver => DEPENDS,
        };
        steps.push(Taken::new(NAME, result, wording::name(host, preview)));
        Ok(())
    }
}

impl Explanation {
    /// The code of the refusal; `None`: the call is let through when its turn comes.
    #[must_use]
    pub const fn refused(&self) -> Option<Code> {
        match &self.verdict {
            Verdict::Allowed(_) => None,
            Verdict::Refused(refusal) => Some(refusal.code),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Taken { name, result, text } in &self.steps {
            writeln!(f, "{name:<15} {result:<8} {text}")?;
        }
        match &self.verdict {
            Verdict::Allowed(Allowed::Call) => writeln!(
                f,
                "allowed: it is sent to kintone when its turn comes, unless this host drains"
            ),
            Verdict::Allowed(Allowed::OwnPage) => {
                writeln!(f, "allowed: the gateway answers it itself")
            }
            Verdict::Refused(refusal) => {
                let [message, hint] = &refusal.told;
                let status = refusal.status.as_u16();
                writeln!(f, "refused: {status} {}", refusal.code.name())?;
                writeln!(f, "  message: {message}\n  hint: {hint}")
            }
        }
    }
}

impl Refusal {
    fn new(reason: Reason, account: Option<&Account>) -> Self {
        let (message, hint) = reason.told(account, Language::En);
        Self {
            code: reason.code(),
            status: reason.status(),
            told: [message, hint.to_owned()],
        }
    }
}

impl Taken {
    fn new(name: &'static str, result: &'static str, text: String) -> Self {
        Self { name, result, text }
    }
}

/// The step that a refusal with this code belongs to.
const fn step_of(code: Code) -> &'static str {
    match code {
        Code::BadRequest | Code::Misdirected => FRAMING,
        Code::AuthenticationRequired => AUTHENTICATION,
        Code::DestinationForbidden => DESTINATION,
        Code::CallerForbidden => RIGHTS,
        Code::EgressUnavailable => ADDRESS,
        Code::AccountMaintenance | Code::AccountUnknown => CIRCUIT,
        Code::RateLimited | Code::QueueFull | Code::WaitExceeded | Code::DailyBudget => QUOTA,
        Code::Draining
        | Code::Overloaded
        | Code::UpstreamDns
        | Code::UpstreamConnect
        | Code::UpstreamTls
        | Code::UpstreamTimeout
        | Code::UpstreamReset
        | Code::Internal => NAME,
    }
}

/// What a step found out, in words; `None` where another step says it.
fn taken(asked: &Asked<'_>, step: &Step<'_>) -> Option<(&'static str, String)> {
    match step {
        Step::Framed(target) => {
            let text = wording::target(&asked.head.method, *target);
            Some((FRAMING, text))
        }
        Step::Identified(_) => None,
        Step::Told(identity, options) => {
            Some((AUTHENTICATION, wording::identity(identity, options)))
        }
        Step::Destined(destination, _) => {
            let Destination { host, account, .. } = destination;
            Some((
                DESTINATION,
                format!("account {account}, host {host}, port 443"),
            ))
        }
    }
}
