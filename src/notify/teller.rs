//! Who is told of an episode, and what has been told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::{Offset, TimeZone};

use super::announce::{Announced, Whom};
use super::desk::Desk;
use super::draft::Drafts;
use super::episode::{Episodes, Turn};
use super::job::{Found, Job};
use super::label::Folder;
use super::letter::{self, House, When};
use super::matter::{Audience, Matter, Subject};
use super::memory::{Row, Told};
use super::moment::Moment;
use super::surroundings::Surroundings;
use crate::config::{Config, Notify};
use crate::model::{Account, AppId, Published};

/// For how long it is remembered what was over.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The one who decides whether mails are written, and to whom.
pub(super) struct Teller {
    pub(super) desk: Desk,
    surroundings: Arc<dyn Surroundings>,
    told: HashMap<Subject, Open>,
    /// What was over of late, by reference: other hosts may see it end a little later.
    over: HashMap<String, Moment>,
    jobs: Vec<Job>,
    is_changed: bool,
    /// How many accounts are in use, asked once for a batch.
    active: Option<usize>,
}

/// An open episode that people were told of.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) since: Moment,
    reference: String,
    /// What its mail says of the budget.
    budget: Option<(AppId, u64)>,
    /// Who was told, by this host or by another one of the fleet; `None`: nobody yet.
    pub(super) told: Option<Told>,
}

/// The moment, and what holds in it.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) now: Moment,
    pub(super) config: &'a Config,
    pub(super) notify: &'a Notify,
}

impl Teller {
    /// One who has told nobody yet.
    pub(super) fn new(desk: Desk, surroundings: Arc<dyn Surroundings>) -> Self {
        Self {
            desk,
            surroundings,
            told: HashMap::new(),
            over: HashMap::new(),
            jobs: Vec::new(),
            is_changed: false,
            active: None,
        }
    }

    /// An earlier process told of it.
    pub(super) fn take_over(&mut self, subject: Subject, since: Moment, told: Told) {
        let open = Open {
            since,
            reference: letter::reference(&subject, since.wall),
            budget: None,
            told: Some(told),
        };
        self.told.insert(subject, open);
    }

    /// People were told by another host.
    pub(super) fn know_told(
        &mut self,
        subject: &Subject,
        since: Moment,
        told: Told,
        episodes: &mut Episodes,
    ) {
        if self
            .over
            .contains_key(&letter::reference(subject, since.wall))
        {
            return;
        }
        let known = self.told.get(subject);
        if known.is_some_and(|open| open.told.is_some()) {
            return;
        }
        if !episodes.is_open(subject) {
            episodes.take_over(subject.clone(), since);
        }
        self.is_changed = true;
        self.take_over(subject.clone(), since, told);
    }

    /// An episode begins or is over.
    pub(super) fn turn(
        &mut self,
        turn: Option<Turn>,
        budget: Option<(AppId, u64)>,
        episodes: &mut Episodes,
        scene: Scene<'_>,
    ) {
        match turn {
            None => {}
            Some(Turn::Begins { subject, since }) => {
                let open = Open {
                    since,
                    reference: letter::reference(&subject, since.wall),
                    budget,
                    told: None,
                };
                self.begins(subject, open, episodes, scene);
            }
            Some(Turn::Ends {
                subject,
                well_since,
                ..
            }) => self.ends(&subject, well_since, scene),
        }
    }

    fn begins(
        &mut self,
        subject: Subject,
        mut open: Open,
        episodes: &mut Episodes,
        scene: Scene<'_>,
    ) {
        if let Matter::AddressRefused(address) = subject.matter
            && !self.surroundings.is_sound(address)
        {
            // It begins anew if the account still refuses it when it is right.
            episodes.forget(&subject);
            self.address_is_wrong(address, episodes, scene);
            return;
        }
        self.brake(&subject, scene);
        let account = subject.account.as_ref().map(tracing::field::display);
        let (reference, cause) = (&open.reference, subject.matter.cause());
        tracing::warn!(reference, account, cause, "an episode begins");
        if self.surroundings.leads() {
            self.write_begin(&subject, &mut open, scene);
        }
        self.told.insert(subject, open);
    }

    /// Holds the mails of a cause that begins for too many accounts. Every host knows, and the one that
    /// leads says so.
    fn brake(&mut self, subject: &Subject, scene: Scene<'_>) {
        let Some(account) = &subject.account else {
            return;
        };
        let cause = subject.matter.cause();
        let count = || self.surroundings.active_accounts();
        let active = *self.active.get_or_insert_with(count);
        let terms = scene.notify.brake;
        let mut brake = self.desk.brake();
        let is_held_now = brake.begins(cause, account, terms, active, scene.now);
        let accounts = brake.accounts(cause);
        drop(brake);
        if is_held_now && self.surroundings.leads() {
            tracing::error!(
                cause,
                accounts,
                "so many accounts fail that their mails are held"
            );
            let mails = self.drafts(scene).of_held(subject, accounts);
            self.jobs.push(Job::Hold(cause.to_owned(), mails));
        }
    }

    fn write_begin(&mut self, subject: &Subject, open: &mut Open, scene: Scene<'_>) {
        let is_held = self.desk.brake().holds(subject.matter.cause());
        let told = Told {
            customers: subject.matter.concerns_customers(),
            operators: !is_held,
        };
        let turn = When::Begins(open.since.wall);
        let drafts = self.drafts(scene);
        let mut mails = drafts.of_turn(subject, turn, told, open.budget);
        for mail in &mut mails {
            if is_held && mail.label.audience == Audience::Customers {
                mail.folder = Folder::Held;
            }
        }
        self.jobs.push(Job::Begin(mails));
        self.is_changed = true;
        open.told = Some(told);
    }

    fn ends(&mut self, subject: &Subject, well_since: Moment, scene: Scene<'_>) {
        let Some(open) = self.told.remove(subject) else {
            return;
        };
        self.is_changed = true;
        tracing::info!(reference = open.reference, "an episode is over");
        self.over.retain(|_, at| scene.now.since(*at) < REMEMBERED);
        self.over.insert(open.reference.clone(), scene.now);
        let Some(told) = open.told.filter(|_| self.surroundings.leads()) else {
            return;
        };
        let turn = When::Ends {
            since: open.since.wall,
            well_since: well_since.wall,
        };
        let mails = self.drafts(scene).of_turn(subject, turn, told, None);
        self.jobs.push(Job::End(open.reference, mails));
    }

    /// Operators are told of an address that is refused while it is not seen to be right, unless they
    /// were told already that it is refused by so many.
    fn address_is_wrong(&mut self, address: Published, episodes: &mut Episodes, scene: Scene<'_>) {
        let refused = Matter::AddressRefused(address).cause();
        if self.desk.brake().holds(refused) {
            return;
        }
        let subject = Subject {
            account: None,
            matter: Matter::AddressWrong(address),
        };
        let turn = episodes.open(subject, scene.now);
        self.turn(turn, None, episodes, scene);
    }

    fn drafts<'a>(&self, scene: Scene<'a>) -> Drafts<'a> {
        let Scene {
            now,
            config,
            notify,
        } = scene;
        let addresses = self.surroundings.addresses();
        Drafts {
            config,
            notify,
            house: House::of(config, notify, addresses),
            now: now.wall,
        }
    }

    /// The host that led before has not told of these.
    pub(super) fn tell_the_untold(&mut self, scene: Scene<'_>) {
        if !self.surroundings.leads() {
            return;
        }
        let untold = self.told.iter().filter(|(_, open)| open.told.is_none());
        let untold: Vec<_> = untold.map(|(subject, _)| subject.clone()).collect();
        for subject in untold {
            if let Some(mut open) = self.told.remove(&subject) {
                self.write_begin(&subject, &mut open, scene);
                self.told.insert(subject, open);
            }
        }
    }

    /// Announces what is due, if this host tells people; it counts as announced on every host.
    pub(super) fn announce(&mut self, announced: &mut Announced, scene: Scene<'_>) {
        let japan = TimeZone::fixed(Offset::constant(9));
        let today = scene.now.wall.to_zoned(japan).date();
        let due = announced.due(&self.surroundings.planned(), today);
        if due.is_empty() {
            return;
        }
        for (planned, stage, whom) in due {
            if !self.surroundings.leads() {
                continue;
            }
            let lacks = |account: &Account| {
                whom == Whom::All || !self.surroundings.is_accepted(account, planned.address)
            };
            let mails = self.drafts(scene).of_announcement(planned, stage, lacks);
            let address = planned.address;
            tracing::info!(%address, ?stage, mails = mails.len(), "an address is announced");
            self.jobs.push(Job::Begin(mails));
        }
        self.jobs.push(Job::SaveAnnounced(announced.clone()));
    }

    /// Customers are asked no more to allow an address that is not seen to be right.
    pub(super) fn withdraw_what_is_wrong(&mut self) {
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
    }

    /// What is to be done now.
    pub(super) fn take_jobs(&mut self) -> Vec<Job> {
        self.active = None;
        if std::mem::take(&mut self.is_changed) {
            let rows = self
                .told
                .iter()
                .filter_map(|(subject, open)| Some(Row::new(subject, open.since.wall, open.told?)));
            self.jobs.push(Job::Save(rows.collect()));
        }
        std::mem::take(&mut self.jobs)
    }

    /// How a subject stands.
    pub(super) fn standing(&self, subject: &Subject) -> Option<&Open> {
        self.told.get(subject)
    }

    /// Of whom it turned out that they were not told after all.
    pub(super) fn learn(&mut self, found: Found, episodes: &mut Episodes, scene: Scene<'_>) {
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
            episodes.forget(&subject);
            if let Some(address) = subject.matter.address() {
                self.address_is_wrong(address, episodes, scene);
            }
        }
    }

    /// Changes who counts as told of an episode.
    pub(super) fn amend(&mut self, reference: &str, change: impl FnOnce(&mut Told)) {
        let mut open = self.told.values_mut();
        if let Some(open) = open.find(|open| open.reference == reference) {
            open.told.as_mut().map(change);
            self.is_changed = true;
        }
    }
}
