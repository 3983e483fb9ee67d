//! Telling people: what the desk asks of the gateway, and what runs for it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::state::Running;
use crate::admin::{Decision, HeldMails};
use crate::config::{AddressState, Config};
use crate::egress::Presence;
use crate::model::Published;
use crate::notify::label::Figures;
use crate::notify::{Clerk, Inbox, Surroundings, post};
use crate::telemetry::MailView;

impl Surroundings for Running {
    fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    fn active_accounts(&self) -> usize {
        self.quotas.usages().len()
    }

    fn is_sound(&self, address: Published) -> bool {
        let addresses = self.egress.addresses();
        let bound = addresses.iter().find(|one| one.published == address);
        // Of an address that another host binds nothing is known here.
        bound.is_none_or(|one| one.presence == Presence::Up)
    }

    fn addresses(&self) -> Vec<Published> {
        let states = self.publisher.states();
        let active = states.into_iter();
        active
            .filter(|(_, state)| *state == AddressState::Active)
            .map(|(address, _)| address)
            .collect()
    }
}

/// How the mails stand.
pub(super) fn mail(running: &Running) -> MailView {
    let Figures {
        queued,
        held,
        dead,
        oldest_due,
        sent,
        given_up,
        refused,
    } = running.desk.spool.figures();
    let late = oldest_due.map(|due| Timestamp::now().duration_since(due));
    MailView {
        queued,
        held,
        dead,
        overdue: late
            .and_then(|late| Duration::try_from(late).ok())
            .unwrap_or_default(),
        sent,
        given_up,
        lost: refused,
        signs_lost: running.desk.feed.lost(),
    }
}

/// The mails held, by cause.
pub(super) fn held(running: &Running) -> Vec<HeldMails> {
    let held = running.desk.held().into_iter();
    held.map(|(cause, mails)| HeldMails { cause, mails })
        .collect()
}

/// Carries out what operators decide about the mails held of a cause. It blocks on the disk.
pub(super) fn decide(running: &Running, cause: &str, decision: Decision) -> usize {
    let mails = match decision {
        Decision::Release => running.desk.release(cause),
        Decision::Drop => running.desk.drop_held(cause),
    };
    tracing::warn!(
        cause,
        ?decision,
        mails,
        "an operator has decided about the mails held"
    );
    mails
}

/// Tells people of what calls show, and brings the mails to the server, for ever.
pub(super) fn spawn(running: &Arc<Running>, inbox: Inbox, background: &mut JoinSet<()>) {
    let desk = running.desk.clone();
    running.proxy.tell(desk.feed.clone());
    let surroundings: Arc<dyn Surroundings> = Arc::clone(running) as _;
    let spool = Arc::clone(&desk.spool);
    background.spawn(post::deliver(spool, Arc::clone(&surroundings)));
    background.spawn(Clerk::new(desk, inbox, surroundings).run());
}
