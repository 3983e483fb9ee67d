//! What a gateway of a fleet finds again when it starts, and what begins with it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::state::Running;
use super::{acceptance, days, evidence, notices, publication, record};
use crate::config::Config;
use crate::config::file::Environment;
use crate::fleet::exchange::Exchange;
use crate::fleet::ledger::{Access, Before, Kept, Left};
use crate::fleet::moment::Moment;
use crate::fleet::{Driver, Fleet, Keep};
use crate::quota::{Boot, Found, RecordError, since_boot};

/// Where the ledger is kept, in the state directory.
const FILE: &str = "fleet";
/// How long a host that goes takes to tell the others its last word.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);
/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// What there is to begin a fleet with.
pub(super) struct Beginning {
    pub(super) exchange: Exchange,
    pub(super) left: Left,
    pub(super) keep: Keep,
}

impl Beginning {
    /// Reads what an earlier start left; `found` is what the flight record says of it. `None`: nothing
    /// is shared.
    pub(super) fn of(
        exchange: Option<Exchange>,
        config: &Config,
        environment: &Environment,
        found: &Found,
    ) -> Result<Option<Self>, RecordError> {
        let boot = record::boot(environment)?;
        let dir = &config.state_dir;
        let evict_after = config.fleet.exchange.evict_after;
        Ok(exchange.map(|exchange| Self::new(exchange, dir, evict_after, boot, found)))
    }

    fn new(
        exchange: Exchange,
        dir: &Path,
        evict_after: Duration,
        boot: Boot,
        found: &Found,
    ) -> Self {
        let path = dir.join(FILE);
        let left = left(&path, boot, found, evict_after);
        match &left.before {
            Before::Nothing => tracing::info!("no ledger of a fleet: this host has lent nothing"),
            Before::Kept(kept) => {
                let lent: u32 = kept.lent.iter().map(|(_, permits)| permits).sum();
                tracing::info!(
                    lent,
                    "permits that the last process had lent stay away for a while"
                );
            }
            Before::Unknown(_) => tracing::warn!(
                "nobody knows what the last process had lent: calls wait until every other host has \
                 answered, or until no such loan can last"
            ),
        }
        let name = boot.name();
        let keep: Keep = Arc::new(move |bytes| write(&path, &name, bytes));
        Self {
            exchange,
            left,
            keep,
        }
    }
}

/// Begins the fleet, with its first beat, before any call is served.
pub(super) async fn begin(
    running: &Arc<Running>,
    beginning: Beginning,
    background: &mut JoinSet<()>,
) {
    let config = running.config.load_full();
    let quotas = running.quotas.clone();
    let Beginning {
        exchange,
        left,
        keep,
    } = beginning;
    let driver = Driver::begin(&config, exchange, quotas, left, keep, workers());
    let (fleet, driver, side) = driver.await;
    days::tell(running, &fleet);
    background.spawn(days::hear(Arc::clone(running), fleet.clone()));
    background.spawn(notices::share(Arc::clone(running), fleet.clone()));
    acceptance::tell(running, &fleet);
    background.spawn(acceptance::hear(Arc::clone(running), fleet.clone()));
    publication::tell(running, &fleet);
    background.spawn(publication::hear(Arc::clone(running), fleet.clone()));
    evidence::tell(running, &fleet);
    background.spawn(evidence::hear(Arc::clone(&running.recorder), fleet.clone()));
    background.spawn(mark(config.state_dir.join(FILE), fleet.clone(), &config));
    // Set once, here.
    let _ = running.fleet.set(fleet);
    background.spawn(driver.run());
    background.spawn(side.run());
}

/// Tells the other hosts what has become of this one, which has drained.
pub(super) async fn take_leave(running: &Running) {
    if let Some(fleet) = running.fleet.get() {
        fleet.tell_now(LAST_WORD_MAX).await;
    }
}

/// How many threads serve calls.
pub(super) fn workers() -> u32 {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    u32::try_from(workers).unwrap_or(u32::MAX)
}

/// Marks the ledger's file with the time while the others may hear of this host, for ever: the next start
/// of it sees by that whether they can have evicted it. The time is at most a tenth of `evict_after` old.
fn mark(path: PathBuf, fleet: Fleet, config: &Config) -> impl Future<Output = ()> + use<> {
    let beat = config.fleet.exchange.beat;
    let every = (config.fleet.exchange.evict_after / 10).max(beat);
    async move {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let store = fleet.view().store;
            if !store.is_up || store.age.is_none_or(|age| age > beat * 2) {
                continue;
            }
            let path = path.clone();
            let marked = tokio::task::spawn_blocking(move || touch(&path)).await;
            if let Ok(Err(error)) = marked {
                tracing::debug!(%error, "the ledger's file is not marked");
            }
        }
    }
}

fn touch(path: &Path) -> io::Result<()> {
    let file = fs::OpenOptions::new().append(true).open(path)?;
    file.set_modified(SystemTime::now())
}

/// What is left of an earlier start. After `evict_after` without a word the others may have evicted this
/// host, and it takes nothing until they have answered.
fn left(path: &Path, boot: Boot, found: &Found, evict_after: Duration) -> Left {
    let before = before(path, boot, found);
    let marked = fs::metadata(path).and_then(|file| file.modified());
    let age = marked.ok().and_then(|at| at.elapsed().ok());
    let access = match &before {
        Before::Nothing => Access::Open,
        Before::Kept(_) if age.is_some_and(|age| age < evict_after) => Access::Open,
        Before::Kept(_) | Before::Unknown(_) => Access::Unproven,
    };
    Left { before, access }
}

fn before(path: &Path, boot: Boot, found: &Found) -> Before {
    let now = Moment::from_boot(since_boot());
    let text = match read(path) {
        Ok(Some(text)) => text,
        // A fleet that is new to this host. One that lost its state has no flight record either.
        Ok(None) if matches!(found, Found::Nothing | Found::SameBoot | Found::Closed) => {
            return Before::Nothing;
        }
        Ok(None) | Err(_) => return Before::Unknown(now),
    };
    let line = text.iter().position(|byte| *byte == b'\n');
    let Some((name, bytes)) = line.map(|at| text.split_at(at)) else {
        return Before::Unknown(now);
    };
    if name == boot.name().as_bytes() {
        return Kept::decode(&bytes[1..]).map_or(Before::Unknown(now), Before::Kept);
    }
    match found {
        // The same machine, started again: whatever was lent was lent before.
        Found::Closed | Found::PowerLoss => Before::Unknown(Moment::from_boot(Duration::ZERO)),
        Found::Nothing | Found::SameBoot | Found::Moved | Found::Missing | Found::Damaged(_) => {
            Before::Unknown(now)
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => fs::read(path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes it whole or not at all, for a start in the same run of the kernel: that sees what was
/// written, on disk or not. After the end of the machine the name of the run is another one.
///
/// The mark of the file stays: that something is kept does not mean that others have heard of this host.
fn write(path: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside: PathBuf = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(&[name.as_bytes(), b"\n", bytes].concat())?;
    if let Ok(marked) = fs::metadata(path).and_then(|file| file.modified()) {
        file.set_modified(marked)?;
    }
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(dir: &Path, id: &str) -> Boot {
        let kernel = dir.join("proc/sys/kernel/random");
        fs::create_dir_all(&kernel).unwrap();
        fs::write(kernel.join("boot_id"), id).unwrap();
        fs::write(dir.join("proc/uptime"), "100.00 1.00\n").unwrap();
        Boot::read(dir).unwrap()
    }

    #[test]
    fn what_was_kept_is_found_in_the_same_boot_and_doubted_in_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let same = boot(dir.path(), "7d16c1d4-6b0f-4a0e-9f6b-0c8c3f1f0a11\n");
        let of = |boot, found: &Found| before(&path, boot, found);
        assert_eq!(of(same, &Found::SameBoot), Before::Nothing);
        assert!(
            matches!(of(same, &Found::Missing), Before::Unknown(at) if at.since_boot() > Duration::ZERO)
        );
        let kept = Kept {
            incarnation: 7,
            ..Kept::default()
        };
        write(&path, &same.name(), &kept.encode()).unwrap();
        assert_eq!(of(same, &Found::SameBoot), Before::Kept(kept));
        let other = boot(dir.path(), "11111111-6b0f-4a0e-9f6b-0c8c3f1f0a11\n");
        let since_boot = Before::Unknown(Moment::default());
        assert_eq!(of(other, &Found::PowerLoss), since_boot);
        assert_eq!(of(other, &Found::Closed), since_boot);
        assert_ne!(of(other, &Found::Moved), since_boot);
        for (age_s, access) in [
            (0, Access::Open),
            (299, Access::Open),
            (301, Access::Unproven),
        ] {
            let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            let at = SystemTime::now() - Duration::from_secs(age_s);
            file.set_modified(at).unwrap();
            let left = left(&path, same, &Found::SameBoot, Duration::from_secs(300));
            assert_eq!(left.access, access, "{age_s} s ago");
        }
        write(&path, &same.name(), &Kept::default().encode()).unwrap();
        let left = left(&path, same, &Found::SameBoot, Duration::from_secs(300));
        assert_eq!(
            left.access,
            Access::Unproven,
            "keeping is no word of others"
        );
        touch(&path).unwrap();
        let marked = fs::metadata(&path).unwrap().modified().unwrap();
        assert!(marked.elapsed().unwrap() < Duration::from_secs(60));
        for damaged in ["", "no line end", "name\nbytes"] {
            fs::write(&path, damaged).unwrap();
            assert!(
                matches!(of(same, &Found::SameBoot), Before::Unknown(_)),
                "{damaged:?}"
            );
        }
    }
}
