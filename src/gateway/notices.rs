//! Telling people: what the desk asks of the gateway, and what runs for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::state::Running;
use crate::admin::{Decision, HeldMails};
use crate::config::{AddressState, Config};
use crate::egress::{AddressSnapshot, State};
use crate::fleet::Fleet;
use crate::fleet::side::Topic;
use crate::model::{Account, Published};
use crate::notify::announce::Planned;
use crate::notify::label::{Figures, Way};
use crate::notify::{Clerk, Event, Inbox, Surroundings, post};
use crate::telemetry::{MailView, WebhookView};
use crate::tls::outbound::to_own_server;

/// A host that has told nothing for so many rounds tells people nothing either.
const SILENT_ROUNDS: u32 = 4;

/// What is followed gets this part of a host's row; the calls of the day get half of it.
const PART_OF_A_ROW: usize = 8;

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
        bound.is_none_or(AddressSnapshot::is_usable)
    }

    fn leads(&self) -> bool {
        let Some(fleet) = self.fleet.get() else {
            return true;
        };
        let config = self.config.load();
        let patience = config.fleet.exchange.side_every * SILENT_ROUNDS;
        let rows = fleet.heard(Topic::Episodes);
        let silent = |host: &&String| {
            let row = rows.iter().find(|row| row.host == **host);
            // Who has just started has heard nobody yet.
            row.map_or_else(|| self.desk.age(), |row| row.age) > patience
        };
        let hosts = config.fleet.hosts.iter();
        let mut before = hosts.filter(|host| **host < config.fleet.host);
        before.all(|host| silent(&host))
    }

    fn word_bytes_max(&self) -> usize {
        let fleet = self.fleet.get();
        fleet.map_or(0, |fleet| fleet.side_bytes_max() / PART_OF_A_ROW)
    }

    fn planned(&self) -> Vec<Planned> {
        let shown = self.publisher.shown();
        let entries = shown.list.entries.iter();
        let planned = entries.filter(|entry| entry.state == AddressState::Planned);
        planned
            .map(|entry| Planned {
                address: entry.address,
                from: entry.valid_from,
            })
            .collect()
    }

    fn is_accepted(&self, account: &Account, address: Published) -> bool {
        let known = self.egress.acceptance().of(account);
        known.is_some_and(|known| known.at(address).state() == State::Accepted)
    }

    fn addresses(&self) -> Vec<Published> {
        let states = self.publisher.states();
        let active = states.into_iter();
        active
            .filter(|(_, state)| *state == AddressState::Active)
            .map(|(address, _)| address)
            .collect()
    }

    fn connector(&self, ca_file: Option<&Path>) -> Result<TlsConnector, String> {
        to_own_server(ca_file).map_err(|error| error.to_string())
    }
}

/// Tells the other hosts what is followed here, and hears what they follow, for ever.
pub(super) async fn share(running: Arc<Running>, fleet: Fleet) {
    let desk = running.desk.clone();
    fleet.supply(Topic::Episodes, move |_| desk.word().into());
    let mut rounds = fleet.rounds();
    while rounds.changed().await.is_ok() {
        for row in fleet.heard(Topic::Episodes) {
            let heard = Event::Heard(row.host, row.content.to_vec());
            running.desk.tell(heard);
        }
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
    } = running.desk.spool.figures(Way::Mail);
    let posted = running.desk.spool.figures(Way::Webhook);
    MailView {
        queued,
        held,
        dead,
        overdue: overdue(oldest_due),
        sent,
        given_up,
        lost: refused,
        signs_lost: running.desk.feed.lost(),
        webhook: WebhookView {
            queued: posted.queued,
            dead: posted.dead,
            overdue: overdue(posted.oldest_due),
            sent: posted.sent,
            given_up: posted.given_up,
            lost: posted.refused,
        },
    }
}

fn overdue(oldest_due: Option<Timestamp>) -> Duration {
    let late = oldest_due.map(|due| Timestamp::now().duration_since(due));
    let late = late.and_then(|late| Duration::try_from(late).ok());
    late.unwrap_or_default()
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

/// Tells people of what calls show, and brings the mails to the server and the rest to the webhook, for
/// ever.
pub(super) fn spawn(running: &Arc<Running>, inbox: Inbox, background: &mut JoinSet<()>) {
    let desk = running.desk.clone();
    running.proxy.tell(desk.feed.clone());
    let surroundings: Arc<dyn Surroundings> = Arc::clone(running) as _;
    let spool = Arc::clone(&desk.spool);
    for way in [Way::Mail, Way::Webhook] {
        let (spool, surroundings) = (Arc::clone(&spool), Arc::clone(&surroundings));
        background.spawn(post::deliver(way, spool, surroundings));
    }
    background.spawn(Clerk::new(desk, inbox, surroundings).run());
}
