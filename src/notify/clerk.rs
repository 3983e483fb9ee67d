//! The one task that hears of calls, of other hosts and of the time, and has mails written.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::announce::Announced;
use super::company::{Company, Heard, Standing};
use super::desk::{Desk, Event, Inbox};
use super::episode::{Change, Episodes, Sign};
use super::feed::Switch;
use super::job::carry_out;
use super::matter::{Matter, Subject};
use super::memory;
use super::moment::Moment;
use super::sign::Seen;
use super::surroundings::Surroundings;
use super::teller::{Scene, Teller};
use crate::kintone::day::Day;

/// How often ends are looked for, and mails are written: those of a moment together, and with them which
/// episodes are open.
const TICK: Duration = Duration::from_secs(1);

/// What another host saw longer ago than this, and than `begins_after`, is old to a host that hears it
/// first: it was told already, or it will be seen again.
const FRESH_MIN: Duration = Duration::from_secs(60);

/// Most calls that are judged before mails are written.
const BATCH: usize = 1024;

/// The one who tells people.
pub struct Clerk {
    inbox: Inbox,
    surroundings: Arc<dyn Surroundings>,
    episodes: Episodes,
    company: Company,
    teller: Teller,
    day: Day,
    /// `None`: it cannot be known, so nothing is announced.
    announced: Option<Announced>,
}

impl Clerk {
    /// One that tells of what comes into `inbox`.
    #[must_use]
    pub fn new(desk: Desk, inbox: Inbox, surroundings: Arc<dyn Surroundings>) -> Self {
        let notify = surroundings.config().notify.clone();
        let terms = notify.map(|notify| notify.terms).unwrap_or_default();
        Self {
            inbox,
            episodes: Episodes::new(terms),
            company: Company::default(),
            teller: Teller::new(desk, Arc::clone(&surroundings)),
            surroundings,
            day: Day::of(Moment::now().wall),
            announced: None,
        }
    }

    /// Tells people, for ever.
    pub async fn run(mut self) {
        self.take_over().await;
        self.recall().await;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut batch, mut events) = (Vec::with_capacity(BATCH), Vec::new());
        loop {
            let mut is_time = false;
            tokio::select! {
                _ = tick.tick() => is_time = true,
                // Neither is ever closed: this holds the other ends itself.
                _ = self.inbox.calls.recv_many(&mut batch, BATCH) => {}
                _ = self.inbox.events.recv_many(&mut events, BATCH) => {}
            }
            let config = self.surroundings.config();
            let Some(notify) = &config.notify else {
                self.teller.desk.feed.switch(Switch::Off);
                batch.clear();
                events.clear();
                continue;
            };
            self.teller.desk.feed.switch(Switch::On);
            self.episodes.set_terms(notify.terms);
            let scene = Scene {
                now: Moment::now(),
                config: &config,
                notify,
            };
            for (seen, at) in batch.drain(..) {
                self.hear(&seen, Scene { now: at, ..scene });
            }
            for event in events.drain(..) {
                self.note(event, scene);
            }
            self.follow();
            if is_time {
                self.tell_the_others();
                self.look(scene);
                self.settle(scene).await;
            }
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
            self.teller.take_over(subject, since, row.told);
        }
        self.follow();
    }

    /// What an earlier process announced.
    async fn recall(&mut self) {
        let dir = self.surroundings.config().state_dir.clone();
        let read = spawn_blocking(move || Announced::read(&dir)).await;
        match read {
            Ok(Ok(announced)) => self.announced = Some(announced),
            Ok(Err(error)) => tracing::error!(
                %error,
                "announcements.json cannot be read: no address is announced before the next start"
            ),
            Err(panic) => tracing::error!(%panic, "announcements.json cannot be read"),
        }
    }

    /// Tells the feed and the other hosts what is followed.
    fn follow(&mut self) {
        let changes = self.episodes.take_changes();
        self.teller.desk.feed.note(&changes);
        for change in &changes {
            match change {
                Change::Entered(subject) => self.company.follow(subject),
                Change::Left(subject) => self.company.leave(subject),
            }
        }
    }

    fn hear(&mut self, seen: &Seen, scene: Scene<'_>) {
        for (subject, sign) in seen.signs() {
            let turn = self.episodes.hear(subject.clone(), sign, scene.now);
            if self.episodes.follows(&subject) {
                self.company.note(&subject, sign, scene.now);
            }
            self.teller.turn(turn, None, &mut self.episodes, scene);
        }
    }

    fn note(&mut self, event: Event, scene: Scene<'_>) {
        match event {
            Event::BudgetNear(account, app, percent) => {
                let subject = Subject {
                    account: Some(account),
                    matter: Matter::BudgetNear,
                };
                let turn = self.episodes.open(subject, scene.now);
                let budget = Some((app, percent));
                self.teller.turn(turn, budget, &mut self.episodes, scene);
            }
            Event::Heard(host, content) => self.hear_host(&host, &content, scene),
            Event::NotTold(references) => {
                for reference in references {
                    self.teller.amend(&reference, |told| told.customers = false);
                }
            }
        }
    }

    /// What another host has seen counts like what this one has.
    fn hear_host(&mut self, host: &str, content: &[u8], scene: Scene<'_>) {
        let fresh = scene.notify.terms.begins_after.max(FRESH_MIN);
        let news = match self.company.hear(host, content, scene.now, fresh) {
            Ok(news) => news,
            Err(error) => {
                tracing::error!(host, %error, "what a host tells of failures is of no use");
                return;
            }
        };
        for Heard {
            subject,
            signs,
            told,
        } in news
        {
            if let Some((since, told)) = told {
                let since = scene.now.at(since);
                self.teller
                    .know_told(&subject, since, told, &mut self.episodes);
            }
            for sign in signs {
                let turn = self.episodes.hear(subject.clone(), sign, scene.now);
                self.teller.turn(turn, None, &mut self.episodes, scene);
            }
        }
    }

    /// What the time alone shows.
    fn look(&mut self, scene: Scene<'_>) {
        let now = scene.now;
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
        if let Some(announced) = &mut self.announced {
            self.teller.announce(announced, scene);
        }
        self.teller.withdraw_what_is_wrong();
        for turn in self.episodes.end(now) {
            self.teller
                .turn(Some(turn), None, &mut self.episodes, scene);
        }
        self.teller.tell_the_untold(scene);
    }

    /// Has done what was decided.
    async fn settle(&mut self, scene: Scene<'_>) {
        self.follow();
        let jobs = self.teller.take_jobs();
        if jobs.is_empty() {
            return;
        }
        let (spool, terms) = (Arc::clone(&self.teller.desk.spool), scene.notify.spool);
        let dir = scene.config.state_dir.clone();
        let done = spawn_blocking(move || carry_out(&spool, terms, &dir, jobs)).await;
        match done {
            Ok(found) => self.teller.learn(found, &mut self.episodes, scene),
            Err(panic) => tracing::error!(%panic, "people could not be told"),
        }
    }

    fn tell_the_others(&self) {
        let room = self.surroundings.word_bytes_max();
        if room == 0 {
            return;
        }
        let word = self.company.word(room, |subject| {
            let open = self.teller.standing(subject)?;
            Some(Standing {
                since: open.since.wall,
                told: open.told,
            })
        });
        self.teller.desk.word.store(Arc::new(word));
    }
}
