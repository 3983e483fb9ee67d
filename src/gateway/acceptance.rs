//! Which accounts take which address: kept from one process to the next, and asked of those that tell
//! nothing by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::state::Running;
use crate::admin::readiness::{AcceptanceItem, AccountReport, AddressReport};
use crate::config::Config;
use crate::drain::Stage;
use crate::egress::acceptance::file::{self, AcceptanceError};
use crate::egress::{Egress, Pace, Source, Standing, State, Taken};
use crate::fleet::Fleet;
use crate::fleet::side::Topic;
use crate::kintone::answer::Edge;
use crate::model::{Account, Published};
use crate::notify::sign::Seen;
use crate::proxy::{Outgoing, Probed};
use crate::telemetry::ProbeResult;

/// How often what was learned goes to the disk: what a crash can lose.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// This part of the room in a host's row; what comes behind has the rest.
const PART_OF_ROOM: usize = 2;

/// How often it is looked who is to be asked, at most and at least.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(100);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(15);

/// So often at least it is looked within the shortest time between two probes.
const LOOKS: u32 = 20;

/// Takes over what an earlier process has learned.
pub(super) fn restore(config: &Config, egress: &Egress<Outgoing>) {
    let dir = config.state_dir.display();
    match file::read(&config.state_dir) {
        Ok(accounts) => egress.acceptance().take_over(&accounts),
        Err(error @ AcceptanceError::Damaged(_)) => {
            tracing::error!(
                %dir,
                %error,
                "which accounts take which address is not known any more: it is learned again. What \
                 cannot be read is kept as acceptance.damaged"
            );
            if let Err(error) = file::put_aside(&config.state_dir) {
                tracing::error!(%dir, %error, "it could not be put aside");
            }
        }
        Err(error @ AcceptanceError::Unreadable(_)) => tracing::error!(
            %dir,
            %error,
            "acceptance.json cannot be read: which accounts take which address is learned again"
        ),
    }
}

/// Saves what was learned every ten seconds. Never returns.
pub(super) async fn keep(running: Arc<Running>) {
    let mut tick = interval(SAVE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if running.egress.acceptance().take_changed() {
            save(&running).await;
        }
    }
}

/// Saves it, whether it has changed or not.
pub(super) async fn save(running: &Arc<Running>) {
    let running = Arc::clone(running);
    let written = tokio::task::spawn_blocking(move || {
        let acceptance = running.egress.acceptance();
        let written = file::write(&acceptance.all(), &running.config.load().state_dir);
        if let Err(error) = written {
            acceptance.set_changed();
            tracing::error!(%error, "acceptance.json is not written");
        }
    });
    if let Err(panic) = written.await {
        tracing::error!(%panic, "acceptance.json is not written");
    }
}

/// Tells the other hosts what was learned here, in each round.
pub(super) fn tell(running: &Running, fleet: &Fleet) {
    let egress = Arc::clone(&running.egress);
    let was_cut = AtomicBool::new(false);
    fleet.supply(Topic::Acceptance, move |room| {
        let (content, left_out) = file::told(egress.acceptance().all(), room / PART_OF_ROOM);
        if !was_cut.swap(left_out > 0, Ordering::Relaxed) && left_out > 0 {
            tracing::warn!(
                left_out,
                "accounts of which the other hosts do not hear which address they take: [fleet] side_rows \
                 has no room for them. They are those that were longest not seen"
            );
        }
        content.into()
    });
}

/// Learns what the other hosts have learned, for ever.
pub(super) async fn hear(running: Arc<Running>, fleet: Fleet) {
    let mut rounds = fleet.rounds();
    let mut bad_before = Vec::new();
    while rounds.changed().await.is_ok() {
        let (running, fleet) = (Arc::clone(&running), fleet.clone());
        let heard = tokio::task::spawn_blocking(move || merge(&running, &fleet)).await;
        let bad = heard.unwrap_or_default();
        if bad != bad_before {
            for (host, error) in &bad {
                tracing::error!(
                    host,
                    error,
                    "what a host tells of who takes which address is of no use"
                );
            }
            bad_before = bad;
        }
    }
}

/// The hosts whose word cannot be read, and why.
fn merge(running: &Running, fleet: &Fleet) -> Vec<(String, String)> {
    let mut bad = Vec::new();
    for row in fleet.heard(Topic::Acceptance) {
        match file::decode(&row.content) {
            Ok(accounts) => running.egress.acceptance().take_over(&accounts),
            Err(error) => bad.push((row.host, error.to_string())),
        }
    }
    bad
}

/// Asks accounts whose answers nobody sees, and those that refuse an address, as rarely as the
/// configuration says and so many at once. Never returns.
pub(super) async fn probe(running: Arc<Running>) {
    loop {
        let config = running.config.load_full();
        let acceptance = config.acceptance;
        let shortest = acceptance
            .probe_interval
            .min(acceptance.probe_open_interval);
        sleep((shortest / LOOKS).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX)).await;
        if running.drain.stage() != Stage::Serving {
            continue;
        }
        let pace = Pace {
            interval: acceptance.probe_interval,
            open_interval: acceptance.probe_open_interval,
        };
        let configured: Vec<_> = config.accounts.keys().cloned().collect();
        let may_ask = |account: &Account| config.may_probe(account);
        let due = running.egress.acceptance().due(&configured, pace, may_ask);
        let mut asking = JoinSet::new();
        for (account, source) in due {
            while asking.len() >= acceptance.probes_at_once {
                let _ = asking.join_next().await;
            }
            asking.spawn(ask(Arc::clone(&running), account, source));
        }
        while asking.join_next().await.is_some() {}
    }
}

async fn ask(running: Arc<Running>, account: Account, source: Source) {
    let probed = running.proxy.probe(&account, source).await;
    running.telemetry.probed(
        source.published,
        match probed {
            Probed::Unsent => ProbeResult::Unsent,
            Probed::Sent(None) => ProbeResult::Unknown,
            Probed::Sent(Some(Taken::Accepted)) => ProbeResult::Accepted,
            Probed::Sent(Some(Taken::Refused)) => ProbeResult::Refused,
        },
    );
    if let Probed::Sent(Some(taken)) = probed {
        let said = match taken {
            Taken::Accepted => Edge::LetIn,
            Taken::Refused => Edge::TurnedAway,
        };
        let seen = Seen::probed(account.clone(), source.published, said);
        running.desk.feed.tell(seen);
    }
    if let Probed::Sent(taken) = probed {
        let acceptance = running.egress.acceptance();
        acceptance.asked(&account, source.published, taken);
    }
}

/// Which published addresses an account takes, in the order in which they are published.
pub(super) fn of_account(running: &Running, account: &Account) -> Vec<AcceptanceItem> {
    let known = running.egress.acceptance().of(account).unwrap_or_default();
    let states = running.publisher.states();
    let item = |(address, _): &(Published, _)| {
        let standing = known.at(*address);
        AcceptanceItem {
            address: address.to_string(),
            state: standing.state().word(),
            since: standing.since,
            seen: standing.seen(),
            asked: standing.asked,
        }
    };
    states.iter().map(item).collect()
}

/// Which accounts take a published address: those that were heard of, and those that are configured.
pub(super) fn report(running: &Running, address: Published) -> Option<AddressReport> {
    let states = running.publisher.states();
    let (_, state) = states.iter().find(|(of, _)| *of == address)?;
    let config = running.config.load();
    let mut known: BTreeMap<_, _> = config
        .accounts
        .iter()
        .filter(|(_, settings)| settings.enabled)
        .map(|(account, _)| (account.clone(), Standing::default()))
        .collect();
    let heard = running.egress.acceptance().all().into_iter();
    known.extend(heard.map(|(account, known)| (account, known.at(address))));
    let of = |wanted| {
        let states = known.values().map(Standing::state);
        states.filter(|state| *state == wanted).count()
    };
    let mut accounts: Vec<_> = known.iter().collect();
    accounts.sort_by_key(|(_, standing)| match standing.state() {
        State::Refused => 0,
        State::Unknown => 1,
        State::Accepted => 2,
    });
    let line = |(account, standing): (&Account, &Standing)| AccountReport {
        account: account.to_string(),
        state: standing.state().word(),
        since: standing.since,
        seen: standing.seen(),
        asked: standing.asked,
        probe: config.may_probe(account),
    };
    Some(AddressReport {
        address: address.to_string(),
        state: state.word(),
        accepted: of(State::Accepted),
        refused: of(State::Refused),
        unknown: of(State::Unknown),
        accounts: accounts.into_iter().map(line).collect(),
    })
}
