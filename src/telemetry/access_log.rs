//! Where access-log lines go: a bounded buffer and a thread that writes it out.
//!
//! A call appends its line to the buffer under a short lock and goes on; it never waits for the
//! disk. A line that finds the buffer full is dropped and counted.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::sink::Sink;

/// Bytes of lines that may wait for the writer: some 12,000 lines, about a second of a busy host.
const BUFFER_BYTES: usize = 8 << 20;

/// What the writer keeps of its buffer after it had to be larger.
const BUFFER_KEPT_BYTES: usize = 256 << 10;

/// How long the writer gathers lines before it writes them, so that a busy host pays one system
/// call for many lines.
const GATHER: Duration = Duration::from_millis(10);

/// The access log, as its users hold it. Clones are the same log.
#[derive(Clone, Debug)]
pub struct AccessLogHandle(Option<Arc<Shared>>);

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be opened for appending.
    #[error("the access log {path} cannot be opened")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The writer's thread cannot be started.
    #[error("the thread of the access log cannot be started: {0}")]
    Thread(io::Error),
}

/// What became of the lines when the log was shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Every line is written or counted as dropped.
    All,
    /// The writer still hung at the deadline.
    DeadlinePassed,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Tells the writer: lines came, or an order.
    wake: Condvar,
    /// Tells who shuts the log: the writer is done.
    done: Condvar,
    dropped: AtomicU64,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    count: u64,
    reopen: bool,
    closing: bool,
    ended: bool,
}

/// How the last write went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Well,
    Failing,
}

impl AccessLogHandle {
    /// Writes to standard output.
    ///
    /// # Errors
    /// [`AccessLogError::Thread`].
    pub fn stdout() -> Result<Self, AccessLogError> {
        Self::start(Sink::Writer(Box::new(io::stdout())), BUFFER_BYTES)
    }

    /// Appends to the file at `path`, which is made if it is absent.
    ///
    /// # Errors
    /// Both kinds of [`AccessLogError`].
    pub fn file(path: &Path) -> Result<Self, AccessLogError> {
        let sink = Sink::open(path).map_err(|source| AccessLogError::Open {
            path: path.to_owned(),
            source,
        })?;
        Self::start(sink, BUFFER_BYTES)
    }

    /// Writes nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Writes to `writer`; for tests and for programs that embed the gateway.
    ///
    /// # Errors
    /// [`AccessLogError::Thread`].
    pub fn to_writer(writer: Box<dyn Write + Send>) -> Result<Self, AccessLogError> {
        Self::start(Sink::Writer(writer), BUFFER_BYTES)
    }

    /// Whether lines go anywhere, so that none is composed in vain.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a whole line, its line end included; never waits for the disk.
    pub fn append(&self, line: &[u8]) {
        let Some(shared) = &self.0 else { return };
        let mut queue = shared.lock();
        if queue.closing || queue.lines.len() + line.len() > shared.capacity {
            drop(queue);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = queue.lines.is_empty();
        let half = shared.capacity / 2;
        let was_below_half = queue.lines.len() < half;
        queue.lines.extend_from_slice(line);
        queue.count += 1;
        let crossed_half = was_below_half && queue.lines.len() >= half;
        drop(queue);
        if was_empty || crossed_half {
            shared.wake.notify_one();
        }
    }

    /// Lines lost so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |shared| shared.dropped.load(Ordering::Relaxed))
    }

    /// Opens the file again by its name, after it was rotated away.
    pub fn reopen(&self) {
        if let Some(shared) = &self.0 {
            shared.lock().reopen = true;
            shared.wake.notify_one();
        }
    }

    /// Takes no further line and waits until those taken are written, but at most `deadline`.
    pub fn shutdown(&self, deadline: Duration) -> Flushed {
        let Some(shared) = &self.0 else {
            return Flushed::All;
        };
        let mut queue = shared.lock();
        queue.closing = true;
        shared.wake.notify_one();
        let (queue, _) = shared
            .done
            .wait_timeout_while(queue, deadline, |queue| !queue.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if queue.ended {
            Flushed::All
        } else {
            Flushed::DeadlinePassed
        }
    }

    fn start(sink: Sink, capacity: usize) -> Result<Self, AccessLogError> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            wake: Condvar::new(),
            done: Condvar::new(),
            dropped: AtomicU64::new(0),
            capacity,
        });
        let of_writer = Arc::clone(&shared);
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || of_writer.write_out(sink))
            .map_err(AccessLogError::Thread)?;
        Ok(Self(Some(shared)))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's life. Two buffers change places, so that no line is copied twice.
    fn write_out(&self, mut sink: Sink) {
        let mut batch = Vec::new();
        let mut health = Health::Well;
        loop {
            let count;
            let reopen;
            let closing;
            {
                let mut queue = self.gather();
                std::mem::swap(&mut queue.lines, &mut batch);
                count = std::mem::take(&mut queue.count);
                reopen = std::mem::take(&mut queue.reopen);
                closing = queue.closing;
            }
            // What came before the order to reopen belongs to the old file.
            health = self.write_batch(&mut sink, &batch, count, health);
            batch.clear();
            batch.shrink_to(BUFFER_KEPT_BYTES);
            if reopen {
                sink.reopen();
            }
            if closing {
                self.lock().ended = true;
                self.done.notify_all();
                return;
            }
        }
    }

    /// Waits for the first line or an order, then a little for more lines.
    fn gather(&self) -> MutexGuard<'_, Queue> {
        let queue = self
            .wake
            .wait_while(self.lock(), |queue| {
                queue.lines.is_empty() && !queue.closing && !queue.reopen
            })
            .unwrap_or_else(PoisonError::into_inner);
        let half = self.capacity / 2;
        let (queue, _) = self
            .wake
            .wait_timeout_while(queue, GATHER, |queue| {
                queue.lines.len() < half && !queue.closing && !queue.reopen
            })
            .unwrap_or_else(PoisonError::into_inner);
        queue
    }

    /// Writes and says how it went; only a change is worth a line in the program's own log.
    fn write_batch(&self, sink: &mut Sink, batch: &[u8], count: u64, before: Health) -> Health {
        if batch.is_empty() {
            return before;
        }
        let written = sink.writer().write_all(batch);
        match written.and_then(|()| sink.writer().flush()) {
            Ok(()) => {
                if before == Health::Failing {
                    let lines = self.dropped.load(Ordering::Relaxed);
                    tracing::warn!(lines, "the access log is written again; lines were lost");
                }
                Health::Well
            }
            Err(error) => {
                self.dropped.fetch_add(count, Ordering::Relaxed);
                if before == Health::Well {
                    tracing::error!(%error, "the access log cannot be written; lines are lost");
                }
                // A line may have been cut in its middle; the next one begins on its own.
                let _ = sink.writer().write_all(b"\n");
                Health::Failing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Passes what is written on, one message a write, and writes only when told to go on.
    struct Gate {
        go_on: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // A closed channel means that the test waits for nothing more.
            let _ = self.go_on.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_hangs_costs_lines_that_are_counted_and_nothing_else() {
        let (open, go_on) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let sink = Sink::Writer(Box::new(Gate { go_on, written }));
        let log = AccessLogHandle::start(sink, 40).unwrap();
        let line = b"123456789\n";
        log.append(line);
        // The writer takes the first line and hangs in it; from there, four lines fill the buffer.
        open.send(()).unwrap();
        assert_eq!(lines.recv_timeout(SOON).unwrap(), line);
        for _ in 0..100 {
            log.append(line);
        }
        let dropped = log.dropped();
        assert!((92..=96).contains(&dropped), "{dropped}");
        assert_eq!(log.shutdown(Duration::ZERO), Flushed::DeadlinePassed);

        drop(open);
        assert_eq!(log.shutdown(SOON), Flushed::All);
        let kept: usize = lines.try_iter().map(|bytes| bytes.len() / line.len()).sum();
        assert_eq!(kept as u64 + dropped, 100);
        log.append(line);
        assert_eq!(log.dropped(), dropped + 1, "a closed log takes no line");
    }

    #[test]
    fn a_rotated_file_is_written_to_its_end_and_the_new_one_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("log"), folder.path().join("log.1"));
        let log = AccessLogHandle::file(&path).unwrap();
        log.append(b"before\n");
        std::fs::rename(&path, &rotated).unwrap();
        log.reopen();
        // The order is carried out before anything else is taken.
        while log.0.as_ref().unwrap().lock().reopen || !path.exists() {
            thread::yield_now();
        }
        log.append(b"after\n");
        assert_eq!(log.shutdown(SOON), Flushed::All);
        assert_eq!(std::fs::read(&rotated).unwrap(), b"before\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"after\n");
    }

    #[test]
    fn lines_that_cannot_be_written_count_as_dropped() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLogHandle::to_writer(Box::new(Full)).unwrap();
        log.append(b"1\n");
        log.append(b"2\n");
        assert_eq!(log.shutdown(SOON), Flushed::All);
        assert_eq!(log.dropped(), 2);
    }

    #[test]
    fn a_log_that_is_off_takes_nothing_and_has_nothing_to_flush() {
        let log = AccessLogHandle::off();
        log.append(b"line\n");
        assert!(!log.is_on());
        assert_eq!((log.dropped(), log.shutdown(SOON)), (0, Flushed::All));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = AccessLogHandle::file(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"));
    }
}
