//! Asks the echoes, from each address, for as long as the gateway lives.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::judge::Finding;
use super::kept::Kept;
use super::round::{Around, Asking, Found};
use super::rules::{Rules, Use};
use super::say;
use super::standing::{Seen, Standing};
use crate::config::Verify;
use crate::egress::source::{Address, Source};

/// Who asks the echoes. Its clones are one.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    around: Arc<Around>,
    rules: watch::Sender<Option<Arc<Rules>>>,
    /// Addresses whose first round is still to end.
    waiting: watch::Sender<usize>,
}

/// What a round is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// The address, and each echo.
    Address,
    /// Connections that wait.
    Connections,
}

impl Verifier {
    pub(in crate::egress) fn new(rules: Option<Rules>, around: Around) -> Self {
        let asked = rules.is_some();
        let waiting = if asked {
            around.addresses.all().len()
        } else {
            0
        };
        Self(Arc::new(Inner {
            around: Arc::new(around),
            rules: watch::Sender::new(rules.map(Arc::new)),
            waiting: watch::Sender::new(waiting),
        }))
    }

    /// Asks by what the configuration says from here on; `None`: nobody is asked any more.
    pub fn change(&self, verify: Option<&Verify>) {
        self.0
            .rules
            .send_replace(verify.map(|verify| Arc::new(Rules::new(verify))));
    }

    /// Resolves when the echoes have been asked once for each address; at once without `[verify]`.
    pub async fn first_rounds(&self) {
        let mut waiting = self.0.waiting.subscribe();
        // An error means that nobody asks any more, and nothing is to be waited for.
        let _ = waiting.wait_for(|waiting| *waiting == 0).await;
    }

    /// Asks for each address, before its first use and from then on; what was proven is kept in `dir`.
    /// Never returns, but for a fault of ours.
    pub async fn run(&self, dir: &Path) {
        let addresses = self.0.around.addresses.all();
        if addresses.is_empty() {
            return std::future::pending().await;
        }
        let kept = Arc::new(Mutex::new(Kept::open(dir)));
        let mut asking = JoinSet::new();
        for address in addresses {
            let (this, of, kept_of) = (self.clone(), Arc::clone(&address), Arc::clone(&kept));
            asking.spawn(async move { this.follow(&of, &kept_of).await });
            let (this, kept) = (self.clone(), Arc::clone(&kept));
            asking.spawn(async move { this.vouch(&address, &kept).await });
        }
        asking.join_next().await;
    }

    /// Asks every echo once from `source`, whatever is known of it, and goes by what they say. `None`
    /// without `[verify]`.
    pub async fn ask_once(&self, source: Source) -> Option<Found> {
        let rules = self.0.rules.borrow().clone()?;
        let addresses = self.0.around.addresses.all();
        let address = addresses.iter().find(|it| it.source() == source)?;
        let round = address.gate().watch();
        let decide = |finding| {
            address.gate().hear(round, finding, rules.unknown_for);
        };
        let heard = self.0.around.ask(&rules, source, Asking::All, decide);
        Some(heard.await.into())
    }

    /// Has the echoes asked soon how the internet sees `source`: kintone's edge has refused a call from
    /// it, and the customer's list may not be what is wrong.
    pub fn doubt(&self, source: Source) {
        self.0.around.addresses.doubt(source);
    }

    async fn follow(self, address: &Address, kept: &Arc<Mutex<Kept>>) {
        let mut changed = self.0.rules.subscribe();
        let (mut is_first, mut is_remembered) = (true, false);
        if !address.is_in_use() {
            // Nobody waits for one whose day has not come.
            is_first = false;
            self.one_less();
        }
        loop {
            let rules = changed.borrow_and_update().clone();
            let began = Instant::now();
            if address.gate().lapse() {
                self.shut(address.source());
                say::lapsed(address.source());
            }
            if let Some(rules) = &rules {
                address.gate().vouch(rules.connections);
            }
            let next = match &rules {
                Some(rules) if address.is_wanted() => {
                    if !is_remembered {
                        is_remembered = true;
                        remember(address, rules, kept);
                    }
                    self.round(rules, address, kept, Errand::Address).await;
                    Some(began + rules.pause(use_of(address)))
                }
                Some(_) => None,
                None => {
                    address.gate().release();
                    None
                }
            };
            if is_first {
                is_first = false;
                self.one_less();
            }
            let doubtful = match &rules {
                Some(rules) => began + rules.pause_of_doubt(),
                None => began,
            };
            let doubted = async {
                sleep_until(doubtful).await;
                address.gate().doubted().await;
            };
            let next = [next, address.gate().lapses_at()]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                told = changed.changed() => if told.is_err() { return },
                () = address.gate().arrived() => {}
                () = doubted => {}
                () = until(next) => {}
            }
        }
    }

    /// The first round of an address is not waited for any more.
    fn one_less(&self) {
        let one_less = |waiting: &mut usize| *waiting = waiting.saturating_sub(1);
        self.0.waiting.send_modify(one_less);
    }

    /// Asks for connections that wait, one round at a time, each for all that stood when it began.
    async fn vouch(self, address: &Address, kept: &Arc<Mutex<Kept>>) {
        loop {
            address.gate().wished().await;
            let began = Instant::now();
            let rules = self.0.rules.borrow().clone();
            match rules {
                Some(rules) if address.is_wanted() => {
                    self.round(&rules, address, kept, Errand::Connections).await;
                    sleep_until(began + rules.connection_pause).await;
                }
                // No call leaves from it any more, or nobody cares as whom.
                Some(_) | None => address.gate().skip(),
            }
        }
    }

    /// One round of one address, and what follows from it.
    async fn round(
        &self,
        rules: &Arc<Rules>,
        address: &Address,
        kept: &Arc<Mutex<Kept>>,
        errand: Errand,
    ) {
        let (source, gate) = (address.source(), address.gate());
        let (round, whom) = match errand {
            Errand::Address => (gate.watch(), Asking::All),
            // The rules may have ended meanwhile.
            Errand::Connections => (gate.begin(), Asking::enough(rules, &gate.answers())),
        };
        let mut decided = None;
        let decide = |finding| {
            decided = gate.hear(round, finding, rules.unknown_for);
            if let Some(change) = decided {
                if change.before != change.now && change.now != Seen::Published {
                    self.shut(source);
                }
                say::change(source, change);
            }
        };
        let heard = self.0.around.ask(rules, source, whom, decide).await;
        let finding = heard.finding;
        match errand {
            Errand::Address => say::odd(source, &heard),
            // As often as an address in doubt is asked for, from now on.
            Errand::Connections if finding != Finding::Published => gate.doubt(),
            Errand::Connections => {}
        }
        gate.note(heard.answers);
        let proof = match (decided, finding, errand) {
            (Some(_), Finding::Published, Errand::Address) => gate.proven_at(),
            (Some(_), Finding::Other(_), _) => None,
            // A call waits; the next round for the address keeps it.
            (Some(_), Finding::Published, Errand::Connections) => return,
            (Some(_), Finding::Nothing, _) | (None, ..) => return,
        };
        let (kept, unknown_for) = (Arc::clone(kept), rules.unknown_for);
        let keeping = tokio::task::spawn_blocking(move || {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.keep(source, proof, unknown_for);
        });
        // A panic there has been told by the panic hook; the address is judged all the same.
        let _ = keeping.await;
    }

    /// The address is not used from here on, since it leaves as another one, or nobody knows.
    fn shut(&self, source: Source) {
        self.0.around.addresses.distrust(source.bind);
        (self.0.around.close)(source.bind);
    }
}

fn use_of(address: &Address) -> Use {
    let gate = address.gate();
    if gate.is_open() && !gate.is_silent() {
        Use::Proven
    } else {
        Use::Doubtful
    }
}

/// What an earlier process knew of the address counts if no echo answers now.
fn remember(address: &Address, rules: &Rules, kept: &Mutex<Kept>) {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let known = kept.of(address.source(), rules.unknown_for, Timestamp::now());
    if let Some((proven_at, left)) = known {
        let standing = Standing::remembered(proven_at, left, Instant::now());
        address.gate().remember(standing);
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
