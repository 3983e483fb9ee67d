//! Who is told of what, and when: the one task that hears of calls and has mails written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::desk::{Desk, Event, Inbox};
use super::draft::Drafts;
use super::episode::{Episodes, Sign, Turn};
use super::feed::Switch;
use super::job::{Found, Job, carry_out};
use super::label::Folder;
use super::letter::{self, House, When};
use super::matter::{Audience, Matter, Subject};
use super::memory::{self, Row, Told};
use super::moment::Moment;
use super::sign::Seen;
use super::surroundings::Surroundings;
use crate::config::{Config, Notify};
use crate::kintone::day::Day;
use crate::model::{AppId, Published};

/// How often ends are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Most calls that are judged before mails are written.
const BATCH: usize = 1024;

/// The one who tells people.
pub struct Clerk {
    desk: Desk,
    inbox: Inbox,
    surroundings: Arc<dyn Surroundings>,
    episodes: Episodes,
    told: HashMap<Subject, Open>,
    jobs: Vec<Job>,
    is_changed: bool,
    day: Day,
    /// How many accounts are in use, asked once for a batch.
    active: Option<usize>,
}

/// An open episode that people were told of.
#[derive(Clone, Debug)]
struct Open {
    since: Moment,
    reference: String,
    told: Told,
}

impl Clerk {
    /// One that tells of what comes into `inbox`.
    #[must_use]
    pub fn new(desk: Desk, inbox: Inbox, surroundings: Arc<dyn Surroundings>) -> Self {
        let notify = surroundings.config().notify.clone();
        let terms = notify.map(|notify| notify.terms).unwrap_or_default();
        Self {
            desk,
            inbox,
            surroundings,
            episodes: Episodes::new(terms),
            told: HashMap::new(),
            jobs: Vec::new(),
            is_changed: false,
            day: Day::of(Moment::now().wall),
            active: None,
        }
    }

    /// Tells people, for ever.
    pub async fn run(mut self) {
        self.take_over().await;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // The feed is never closed: this holds one end of it itself.
                _ = self.inbox.calls.recv_many(&mut batch, BATCH) => {}
                Some(event) = self.inbox.events.recv() => self.note(event),
            }
            let config = self.surroundings.config();
            let Some(notify) = &config.notify else {
                self.desk.feed.switch(Switch::Off);
                batch.clear();
                continue;
            };
            self.desk.feed.switch(Switch::On);
            self.active = None;
            self.episodes.set_terms(notify.terms);
            for (seen, at) in batch.drain(..) {
                self.hear(&seen, at, &config);
            }
            self.look(Moment::now(), &config);
            self.settle(&config, notify).await;
        }
    }

    /// The episodes that an earlier process told of.
    async fn take_over(&mut self) {
        let dir = self.surroundings.config().state_dir.clone();
        let read = spawn_blocking(move || memory::read(&dir)).await;
        let rows = match read {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                tracing::error!(%error, "the open episodes cannot be read; people may be told again");
                return;
            }
            Err(panic) => {
                tracing::error!(%panic, "the open episodes cannot be read; people may be told again");
                return;
            }
        };
        let now = Moment::now();
        for row in rows {
            let Some(subject) = row.subject() else {
                continue;
            };
            let since = now.at(row.since);
            self.episodes.take_over(subject.clone(), since);
            if subject.matter == Matter::BudgetNear && Day::of(row.since) != self.day {
                self.episodes.hear(subject.clone(), Sign::Success, now);
            }
            let open = Open {
                since,
                reference: letter::reference(&subject, row.since),
                told: row.told,
            };
            self.told.insert(subject, open);
        }
        self.desk.feed.note(&self.episodes.take_changes());
    }

    fn hear(&mut self, seen: &Seen, at: Moment, config: &Config) {
        for (subject, sign) in seen.signs() {
            let turn = self.episodes.hear(subject, sign, at);
            self.turn(turn, None, at, config);
        }
    }

    fn note(&mut self, event: Event) {
        let config = self.surroundings.config();
        match event {
            Event::BudgetNear(account, app, percent) => {
                let now = Moment::now();
                let subject = Subject {
                    account: Some(account),
                    matter: Matter::BudgetNear,
                };
                let turn = self.episodes.open(subject, now);
                self.turn(turn, Some((app, percent)), now, &config);
            }
            Event::NotTold(references) => {
                for reference in references {
                    self.amend(&reference, |told| told.customers = false);
                }
            }
        }
    }

    /// What the time alone shows.
    fn look(&mut self, now: Moment, config: &Config) {
        let today = Day::of(now.wall);
        if today != self.day {
            self.day = today;
            let open = self.episodes.all_open();
            let near = open.filter(|(subject, _)| subject.matter == Matter::BudgetNear);
            let near: Vec<_> = near.map(|(subject, _)| subject.clone()).collect();
            for subject in near {
                self.episodes.hear(subject, Sign::Success, now);
            }
        }
        let open = self.told.keys();
        let mut asked: Vec<_> = open
            .filter(|subject| matches!(subject.matter, Matter::AddressRefused(_)))
            .filter_map(|subject| subject.matter.address())
            .collect();
        asked.sort();
        asked.dedup();
        for address in asked {
            if !self.surroundings.is_sound(address) {
                self.jobs.push(Job::Withdraw(address));
            }
        }
        for turn in self.episodes.end(now) {
            self.turn(Some(turn), None, now, config);
        }
    }

    fn turn(
        &mut self,
        turn: Option<Turn>,
        budget: Option<(AppId, u64)>,
        now: Moment,
        config: &Config,
    ) {
        let Some(notify) = &config.notify else { return };
        match turn {
            None => {}
            Some(Turn::Begins { subject, since }) => {
                self.begins(subject, since, budget, now, config, notify);
            }
            Some(Turn::Ends {
                subject,
                since,
                well_since,
            }) => {
                let Some(open) = self.told.remove(&subject) else {
                    return;
                };
                self.is_changed = true;
                let turn = When::Ends {
                    since: since.wall,
                    well_since: well_since.wall,
                };
                let drafts = self.drafts(now, config, notify);
                let mails = drafts.of_turn(&subject, turn, open.told, None);
                tracing::info!(reference = open.reference, "an episode is over");
                self.jobs.push(Job::End(open.reference, mails));
            }
        }
    }

    fn begins(
        &mut self,
        subject: Subject,
        since: Moment,
        budget: Option<(AppId, u64)>,
        now: Moment,
        config: &Config,
        notify: &Notify,
    ) {
        if let Matter::AddressRefused(address) = subject.matter
            && !self.surroundings.is_sound(address)
        {
            // It begins anew if the account still refuses it when it is right.
            self.episodes.forget(&subject);
            self.address_is_wrong(address, now, config);
            return;
        }
        let cause = subject.matter.cause();
        let count = || self.surroundings.active_accounts();
        let active = *self.active.get_or_insert_with(count);
        let mut brake = self.desk.brake();
        let is_held_now = subject
            .account
            .as_ref()
            .is_some_and(|account| brake.begins(cause, account, notify.brake, active, now));
        let is_held = brake.holds(cause);
        let accounts = brake.accounts(cause);
        drop(brake);
        if is_held_now {
            let drafts = self.drafts(now, config, notify);
            let mails = drafts.of_held(&subject, accounts);
            tracing::error!(
                cause,
                accounts,
                "so many accounts fail that their mails are held"
            );
            self.jobs.push(Job::Hold(cause.to_owned(), mails));
        }
        let told = Told {
            customers: subject.matter.concerns_customers(),
            operators: !is_held,
        };
        let turn = When::Begins(since.wall);
        let drafts = self.drafts(now, config, notify);
        let mut mails = drafts.of_turn(&subject, turn, told, budget);
        for mail in &mut mails {
            if is_held && mail.label.audience == Audience::Customers {
                mail.folder = Folder::Held;
            }
        }
        let reference = letter::reference(&subject, since.wall);
        let account = subject.account.as_ref().map(tracing::field::display);
        tracing::warn!(
            reference,
            account,
            cause,
            mails = mails.len(),
            "an episode begins"
        );
        self.jobs.push(Job::Begin(mails));
        self.is_changed = true;
        let open = Open {
            since,
            reference,
            told,
        };
        self.told.insert(subject, open);
    }

    /// Operators are told of an address that is refused while it is not seen to be right, unless they
    /// were told already that it is refused by so many.
    fn address_is_wrong(&mut self, address: Published, now: Moment, config: &Config) {
        let refused = Matter::AddressRefused(address).cause();
        if self.desk.brake().holds(refused) {
            return;
        }
        let subject = Subject {
            account: None,
            matter: Matter::AddressWrong(address),
        };
        let turn = self.episodes.open(subject, now);
        self.turn(turn, None, now, config);
    }

    fn drafts<'a>(&self, now: Moment, config: &'a Config, notify: &'a Notify) -> Drafts<'a> {
        let addresses = self.surroundings.addresses();
        Drafts {
            config,
            notify,
            house: House::of(config, notify, addresses),
            now: now.wall,
        }
    }

    /// Has done what was decided.
    async fn settle(&mut self, config: &Config, notify: &Notify) {
        self.desk.feed.note(&self.episodes.take_changes());
        if self.is_changed {
            let rows = self.told.iter();
            let rows = rows.map(|(subject, open)| Row::new(subject, open.since.wall, open.told));
            self.jobs.push(Job::Save(rows.collect()));
            self.is_changed = false;
        }
        if self.jobs.is_empty() {
            return;
        }
        let jobs = std::mem::take(&mut self.jobs);
        let (spool, terms) = (Arc::clone(&self.desk.spool), notify.spool);
        let dir = config.state_dir.clone();
        let done = spawn_blocking(move || carry_out(&spool, terms, &dir, jobs)).await;
        match done {
            Ok(found) => self.learn(found, config),
            Err(panic) => tracing::error!(%panic, "people could not be told"),
        }
    }

    /// Of whom it turned out that they were not told after all.
    fn learn(&mut self, found: Found, config: &Config) {
        for reference in found.hushed {
            self.amend(&reference, |told| told.operators = false);
        }
        for reference in found.withdrawn {
            let mut told = self.told.iter();
            let subject = told.find(|(_, open)| open.reference == reference);
            let Some(subject) = subject.map(|(subject, _)| subject.clone()) else {
                continue;
            };
            self.told.remove(&subject);
            self.is_changed = true;
            self.episodes.forget(&subject);
            if let Some(address) = subject.matter.address() {
                self.address_is_wrong(address, Moment::now(), config);
            }
        }
    }

    fn amend(&mut self, reference: &str, change: impl Fn(&mut Told)) {
        let mut open = self.told.values_mut();
        if let Some(open) = open.find(|open| open.reference == reference) {
            change(&mut open.told);
            self.is_changed = true;
        }
    }
}
