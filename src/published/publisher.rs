//! The list of a running gateway: judged at the start and as days pass, remembered, rendered.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::documents::Site;
use super::judge::{Alarm, Judged, judge};
use super::list::List;
use super::memory::Memory;
use super::store;
use crate::config::{AddressState, Config, Public};
use crate::model::Published;

/// Publishes the list, and remembers what it published.
#[derive(Debug)]
pub struct Publisher {
    dir: PathBuf,
    memory: Mutex<Remembering>,
    shown: ArcSwap<Shown>,
}

/// What is published at this moment.
#[derive(Debug)]
pub struct Shown {
    /// The list.
    pub list: List,
    /// Where it is not what the configuration says.
    pub alarms: Vec<Alarm>,
    /// All files.
    pub site: Site,
    public: Public,
}

#[derive(Debug)]
struct Remembering {
    memory: Memory,
    /// What stands on the disk.
    written: Option<Memory>,
    damaged: Option<Alarm>,
}

/// What would be published at `now` by `config`, with what its state directory remembers. Nothing is
/// written.
#[must_use]
pub fn current(config: &Config, now: Timestamp) -> (List, Vec<Alarm>) {
    let (memory, damaged) = remembered(&config.state_dir);
    let Judged {
        list, mut alarms, ..
    } = judge(&config.addresses, memory.as_ref(), config.notice, now);
    alarms.extend(damaged);
    (list, alarms)
}

/// `config` with the state of each address as it is published.
#[must_use]
pub fn in_force(config: &Arc<Config>, states: &[(Published, AddressState)]) -> Arc<Config> {
    let published = |of: Published| states.iter().find(|(one, _)| *one == of);
    let differs = config.addresses.iter().any(|address| {
        published(address.published).is_some_and(|(_, state)| *state != address.state)
    });
    if !differs {
        return Arc::clone(config);
    }
    let mut config = Config::clone(config);
    for address in &mut config.addresses {
        if let Some((_, state)) = published(address.published) {
            address.state = *state;
        }
    }
    Arc::new(config)
}

/// What `dir` remembers, or why that cannot be known.
fn remembered(dir: &Path) -> (Option<Memory>, Option<Alarm>) {
    match store::read(dir) {
        Ok(memory) => (memory, None),
        Err(error) => {
            let alarm = Alarm::MemoryDamaged {
                problem: error.to_string(),
                kept: store::DAMAGED,
            };
            (None, Some(alarm))
        }
    }
}

impl Publisher {
    /// Publishes the list of `config` as of `now`, as its state directory remembers it. A memory that
    /// cannot be used is put aside, and an alarm tells so for as long as this process lives: calls
    /// go on, since the addresses in use are most likely right.
    #[must_use]
    pub fn open(config: &Config, now: Timestamp) -> Self {
        let dir = config.state_dir.clone();
        let (written, damaged) = remembered(&dir);
        if damaged.is_some()
            && let Err(error) = store::put_aside(&dir)
        {
            tracing::warn!(%error, dir = %dir.display(), "the damaged list was not put aside");
        }
        let Judged {
            list,
            memory,
            alarms,
        } = judge(&config.addresses, written.as_ref(), config.notice, now);
        let mut remembering = Remembering {
            memory,
            written,
            damaged,
        };
        let alarms = remembering.complete(&dir, alarms);
        say(&[], &alarms);
        let site = Site::render(&list, &config.public, now);
        Self {
            dir,
            memory: Mutex::new(remembering),
            shown: ArcSwap::from_pointee(Shown {
                list,
                alarms,
                site,
                public: config.public.clone(),
            }),
        }
    }

    /// Judges again, by what was published last. Tells whether another address is used than before.
    /// It may wait for the disk.
    pub fn refresh(&self, config: &Config, now: Timestamp) -> bool {
        let mut remembering = self.remembering();
        let before = self.shown();
        let Judged {
            list,
            memory,
            alarms,
        } = judge(
            &config.addresses,
            Some(&remembering.memory),
            config.notice,
            now,
        );
        remembering.memory = memory;
        let alarms = remembering.complete(&self.dir, alarms);
        drop(remembering);
        if list == before.list && alarms == before.alarms && config.public == before.public {
            return false;
        }
        say(&before.alarms, &alarms);
        let is_moved = list.states() != before.list.states();
        if is_moved {
            tracing::info!(addresses = ?list.states(), "the published list has changed");
        }
        let site = if list == before.list && config.public == before.public {
            before.site.clone()
        } else {
            Site::render(&list, &config.public, now)
        };
        self.shown.store(Arc::new(Shown {
            list,
            alarms,
            site,
            public: config.public.clone(),
        }));
        is_moved
    }

    /// What hosts tell each other of what they published.
    #[must_use]
    pub fn told(&self) -> Vec<u8> {
        self.remembering().memory.told()
    }

    /// Takes what other hosts know better. Whether anything was, so that the list is to be judged again
    /// ([`Self::refresh`]).
    pub fn learn(&self, told: &[Memory]) -> bool {
        let mut remembering = self.remembering();
        let before = remembering.memory.clone();
        let learned = told
            .iter()
            .fold(before.clone(), |memory, told| memory.learned(told));
        let is_new = learned != before;
        remembering.memory = learned;
        is_new
    }

    /// What is published at this moment.
    #[must_use]
    pub fn shown(&self) -> Arc<Shown> {
        self.shown.load_full()
    }

    fn remembering(&self) -> MutexGuard<'_, Remembering> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of each address at this moment.
    #[must_use]
    pub fn states(&self) -> Vec<(Published, AddressState)> {
        self.shown.load().list.states()
    }
}

impl Remembering {
    /// Writes what is new, and says with the other alarms what stands in the way.
    fn complete(&mut self, dir: &Path, mut alarms: Vec<Alarm>) -> Vec<Alarm> {
        if self.written.as_ref() != Some(&self.memory) {
            match store::write(dir, &self.memory) {
                Ok(()) => self.written = Some(self.memory.clone()),
                Err(error) => alarms.push(Alarm::MemoryUnwritable {
                    problem: error.to_string(),
                }),
            }
        }
        alarms.extend(self.damaged.clone());
        alarms
    }
}

/// Tells each alarm when it comes, and when it has gone.
fn say(before: &[Alarm], now: &[Alarm]) {
    for alarm in now.iter().filter(|alarm| !before.contains(alarm)) {
        tracing::error!(alarm = alarm.label(), "{alarm}");
    }
    for alarm in before.iter().filter(|alarm| !now.contains(alarm)) {
        tracing::info!(alarm = alarm.label(), "over: {alarm}");
    }
}
