//! Asks the echoes, from each address, for as long as the gateway lives.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::echo::{Means, Trouble};
use super::judge::{Answer, Finding, judge};
use super::kept::Kept;
use super::rules::{Rules, Use};
use super::say;
use super::standing::{Seen, Standing};
use crate::config::Verify;
use crate::egress::resolve::Resolver;
use crate::egress::source::{Address, Addresses, Source};
use crate::model::Bind;
use crate::tls::Outbound;

/// Who asks the echoes. Its clones are one.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    around: Around,
    rules: watch::Sender<Option<Arc<Rules>>>,
    /// Addresses whose first round is still to end.
    waiting: watch::Sender<usize>,
}

/// What it works with.
pub(in crate::egress) struct Around {
    pub(in crate::egress) addresses: Arc<Addresses>,
    pub(in crate::egress) resolver: Resolver,
    pub(in crate::egress) allow_networks: Vec<Ipv4Net>,
    pub(in crate::egress) tls: Arc<ArcSwap<Outbound>>,
    /// Closes idle connections from an address.
    pub(in crate::egress) close: Box<dyn Fn(Bind) + Send + Sync>,
}

/// What a round of one address has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the answers mean.
    pub finding: Finding,
    /// What each echo said, by its scheme, host and port.
    pub answers: Vec<(String, Answer)>,
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
            around,
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
        let mut following = JoinSet::new();
        for address in addresses {
            let (this, kept) = (self.clone(), Arc::clone(&kept));
            following.spawn(async move { this.follow(&address, &kept).await });
        }
        following.join_next().await;
    }

    /// Asks every echo once from `source`, whatever is known of it, and goes by what they say. `None`
    /// without `[verify]`.
    pub async fn ask_once(&self, source: Source) -> Option<Found> {
        let rules = self.0.rules.borrow().clone()?;
        let addresses = self.0.around.addresses.all();
        let address = addresses.iter().find(|it| it.source() == source)?;
        let arrival = address.gate().watch();
        let decide = |finding| {
            address.gate().hear(arrival, finding, rules.unknown_for);
        };
        Some(self.ask(&rules, source, decide).await)
    }

    /// Has the echoes asked soon how the internet sees `source`: kintone's edge has refused a call from
    /// it, and the customer's list may not be what is wrong.
    pub fn doubt(&self, source: Source) {
        self.0.around.addresses.doubt(source);
    }

    async fn follow(self, address: &Address, kept: &Arc<Mutex<Kept>>) {
        let mut changed = self.0.rules.subscribe();
        let (mut is_first, mut is_remembered) = (true, false);
        loop {
            let rules = changed.borrow_and_update().clone();
            let began = Instant::now();
            if address.gate().lapse() {
                self.shut(address.source());
                say::lapsed(address.source());
            }
            let next = match &rules {
                Some(rules) if address.is_wanted() => {
                    if !is_remembered {
                        is_remembered = true;
                        remember(address, rules, kept);
                    }
                    self.round(rules, address, kept).await;
                    let now = if address.gate().is_open() {
                        Use::Open
                    } else {
                        Use::Shut
                    };
                    Some(began + rules.pause(now))
                }
                Some(_) => None,
                None => {
                    address.gate().release();
                    None
                }
            };
            if is_first {
                is_first = false;
                let one_less = |waiting: &mut usize| *waiting = waiting.saturating_sub(1);
                self.0.waiting.send_modify(one_less);
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

    /// One round of one address, and what follows from it.
    async fn round(&self, rules: &Arc<Rules>, address: &Address, kept: &Arc<Mutex<Kept>>) {
        let source = address.source();
        let arrival = address.gate().watch();
        let mut decided = None;
        let decide = |finding| {
            decided = address.gate().hear(arrival, finding, rules.unknown_for);
            if let Some(change) = decided {
                if change.before != change.now && change.now != Seen::Published {
                    self.shut(source);
                }
                say::change(source, change);
            }
        };
        let found = self.ask(rules, source, decide).await;
        say::odd(source, &found);
        address.gate().note(found.answers);
        let proof = match (decided, found.finding) {
            (Some(_), Finding::Published) => address.gate().proven_at(),
            (Some(_), Finding::Other(_)) => None,
            (Some(_), Finding::Nothing) | (None, _) => return,
        };
        let (kept, unknown_for) = (Arc::clone(kept), rules.unknown_for);
        let keeping = tokio::task::spawn_blocking(move || {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.keep(source, proof, unknown_for);
        });
        // A panic there has been told by the panic hook; the address is judged all the same.
        let _ = keeping.await;
    }

    /// Asks every echo from `source`, all at once; tells what that means as soon as it is certain.
    async fn ask(
        &self,
        rules: &Arc<Rules>,
        source: Source,
        mut decide: impl FnMut(Finding),
    ) -> Found {
        let mut asking = JoinSet::new();
        for at in 0..rules.echoes.len() {
            let (this, rules) = (self.clone(), Arc::clone(rules));
            asking.spawn(async move { (at, this.ask_one(&rules, at, source.bind).await) });
        }
        let mut answers = vec![None; rules.echoes.len()];
        let mut finding = None;
        while let Some(ended) = asking.join_next().await {
            // An echo whose task has died says nothing, which is seen at the end.
            let Ok((at, answer)) = ended else { continue };
            answers[at] = Some(answer);
            if finding.is_none() {
                finding = judge(source.published.0, &answers);
                finding.into_iter().for_each(&mut decide);
            }
        }
        let silent = Answer::Nothing(Trouble::Broken);
        let answers = answers.into_iter().map(|answer| answer.unwrap_or(silent));
        let answers: Vec<Answer> = answers.collect();
        let finding = finding.unwrap_or_else(|| {
            let complete: Vec<_> = answers.iter().copied().map(Some).collect();
            let finding = judge(source.published.0, &complete).unwrap_or(Finding::Nothing);
            decide(finding);
            finding
        });
        let names = rules.echoes.iter().map(|echo| echo.name.clone());
        Found {
            finding,
            answers: names.zip(answers).collect(),
        }
    }

    async fn ask_one(&self, rules: &Rules, at: usize, bind: Bind) -> Answer {
        let around = &self.0.around;
        let tls = around.tls.load_full();
        let means = Means {
            resolver: &around.resolver,
            allow_networks: &around.allow_networks,
            tls: &tls,
        };
        let answer = timeout(rules.timeout, rules.echoes[at].ask(bind, &means)).await;
        answer.unwrap_or(Answer::Nothing(Trouble::Timeout))
    }

    /// The address is not used from here on, since it leaves as another one, or nobody knows.
    fn shut(&self, source: Source) {
        self.0.around.addresses.distrust(source.bind);
        (self.0.around.close)(source.bind);
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
