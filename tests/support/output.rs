//! Everything the gateway wrote.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A writer that keeps what it is given. Clones are the same one.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    /// All of it.
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(bytes.clone()).expect("the log is UTF-8")
    }

    /// The log lines so far.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let text = self.text();
        text.lines()
            .map(|line| serde_json::from_str(line).expect("each line is JSON"))
            .collect()
    }

    /// The same as `line_of` for one of very many lines.
    pub async fn wait_for(&self, id: &str) -> serde_json::Value {
        let mark = format!("\"id\":\"{id}\"");
        for _ in 0..2000 {
            let found = {
                let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                // What came last is looked at first.
                let lines = bytes.rsplit(|byte| *byte == b'\n');
                let mut lines = lines.map(|line| std::str::from_utf8(line).expect("UTF-8"));
                lines.find(|line| line.contains(&mark)).map(str::to_owned)
            };
            if let Some(line) = found {
                return serde_json::from_str(&line).expect("each line is JSON");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no log line of {id}");
    }

    /// The line of the call with this identifier; waits until it is written.
    pub async fn line_of(&self, id: &str) -> serde_json::Value {
        for _ in 0..1000 {
            if let Some(line) = self.lines().into_iter().find(|line| line["id"] == id) {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no log line of {id}");
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
