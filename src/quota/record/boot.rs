//! Which run of which machine's kernel this is, and how long it has lasted.

use std::fs::read_to_string;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::layout::{BootId, MachineId, Stamp};

/// Which run of the kernel this is, and how long it had lasted when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// Differs from run to run.
    pub(super) id: BootId,
    /// Which machine it is; `None`: it has no name.
    pub(super) machine: Option<MachineId>,
    /// Time since it began, suspensions included.
    pub(super) up: Duration,
}

/// The kernel does not say which run it is.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} cannot be read; without it a restart of the process cannot be told from one of the \
     machine: mount /proc, and leave ProcSubset=pid out of the unit"
)]
pub struct BootError {
    /// What could not be read.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl Boot {
    /// Asks the kernel (proc(5): `sys/kernel/random/boot_id` and `uptime`) and reads `/etc/machine-id`
    /// of the file system at `root`. Many containers have no machine id, and need none.
    ///
    /// # Errors
    /// [`BootError`] if a file of the kernel cannot be read or understood.
    pub fn read(root: &Path) -> Result<Self, BootError> {
        let read = |name: &str| {
            let path = root.join(name);
            match read_to_string(&path) {
                Ok(text) => Ok((path, text)),
                Err(source) => Err(BootError { path, source }),
            }
        };
        let unclear = |path| BootError {
            path,
            source: io::ErrorKind::InvalidData.into(),
        };
        let (path, text) = read("proc/sys/kernel/random/boot_id")?;
        let id = halves(&text).ok_or_else(|| unclear(path))?;
        let machine = read("etc/machine-id").ok();
        let machine = machine.and_then(|(_, text)| halves(&text));
        let (path, text) = read("proc/uptime")?;
        let seconds = text.split(' ').next().and_then(|text| text.parse().ok());
        let up = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Self {
            id: BootId(id),
            machine: machine.map(MachineId),
            up: up.ok_or_else(|| unclear(path))?,
        })
    }

    /// Which run of which machine's kernel it is, as a line of text.
    #[must_use]
    pub fn name(&self) -> String {
        let BootId([high, low]) = self.id;
        let machine = self.machine.map_or([0; 2], |machine| machine.0);
        format!(
            "{high:016x}{low:016x} {:016x}{:016x}",
            machine[0], machine[1]
        )
    }

    /// When it was looked at.
    pub(super) fn now(self) -> Stamp {
        Stamp::of(self.up)
    }

    /// How long before that `stamp` was; zero if it was not.
    pub(super) fn since(self, stamp: Stamp) -> Duration {
        Duration::from_nanos(self.now().0.saturating_sub(stamp.0))
    }
}

/// The halves of 128 bits in hexadecimal.
fn halves(text: &str) -> Option<[u64; 2]> {
    let digits = text.trim_end().replace('-', "");
    let id = u128::from_str_radix(&digits, 16).ok()?;
    Some([(id >> 64) as u64, id as u64])
}

impl Stamp {
    /// The time, by `CLOCK_BOOTTIME`: unlike tokio's clock it counts while the machine sleeps, as
    /// kintone does.
    pub(super) fn now() -> Self {
        // Linux has this clock since 2.6.39; without it a call would seem to have settled.
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME");
        Self::of(now.into())
    }

    fn of(up: Duration) -> Self {
        Self(u64::try_from(up.as_nanos()).unwrap_or(u64::MAX).max(1))
    }
}
