//! One connection to the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, PushInfo, PushKind, RedisError, Value};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::failure::ExchangeError;
use super::sentinel;
use super::way::{Allowance, Way};
use crate::config::StoreServer;

/// A connection on which we have introduced ourselves, and may hear nudges.
#[derive(Debug)]
pub(super) struct Session {
    connection: MultiplexedConnection,
    driver: AbortHandle,
    allowance: Allowance,
    bounds: Bounds,
}

/// What comes over a connection at most, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// One row.
    pub(super) row: usize,
    /// One answer: every row at its longest, and what Redis says around them.
    pub(super) answer: usize,
}

/// The channel on which nudges come, and who is told of them.
#[derive(Debug, Clone)]
pub(super) struct Nudges {
    pub(super) channel: String,
    pub(super) bell: Arc<Notify>,
}

impl Session {
    /// Connects to the store, which Sentinel may have to name first.
    pub(super) async fn open(
        way: &Way,
        nudges: Option<&Nudges>,
        bounds: Bounds,
    ) -> Result<Self, ExchangeError> {
        let server = match &way.url.sentinel {
            None => way.url.servers[0].clone(),
            Some(service) => sentinel::master(way, service).await?,
        };
        let meeting = Self::meet(way, &server, nudges, bounds);
        way.in_time(meeting).await
    }

    async fn meet(
        way: &Way,
        server: &StoreServer,
        nudges: Option<&Nudges>,
        bounds: Bounds,
    ) -> Result<Self, ExchangeError> {
        let allowance = Allowance::new(bounds.answer);
        let stream = way.connect(server, allowance.clone()).await?;
        let bell = nudges.map(|nudges| Arc::clone(&nudges.bell));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if let (PushKind::Message, Some(bell)) = (push.kind, &bell) {
                    bell.notify_one();
                }
                Ok::<_, RedisError>(())
            });
        let made = MultiplexedConnection::new_with_config(&way.greeting(), stream, config).await?;
        let (connection, driver) = made;
        let driver = tokio::spawn(driver).abort_handle();
        let mut session = Self {
            connection,
            driver,
            allowance,
            bounds,
        };
        if let Some(nudges) = nudges {
            session.connection.subscribe(&nudges.channel).await?;
        }
        Ok(session)
    }

    /// The values of these keys, as far as they can be rows.
    pub(super) async fn read(
        &mut self,
        keys: &[String],
        limit: Duration,
    ) -> Result<Vec<Option<Bytes>>, ExchangeError> {
        let command = redis::cmd("MGET").arg(keys).to_owned();
        let rows: Vec<Value> = self.tell(&command, limit).await?;
        let mut rows: Vec<_> = rows.into_iter().map(|row| self.row_of(row)).collect();
        rows.resize(keys.len(), None);
        Ok(rows)
    }

    /// Puts a row in its place.
    pub(super) async fn put(
        &mut self,
        key: &str,
        row: &[u8],
        life: Duration,
        limit: Duration,
    ) -> Result<(), ExchangeError> {
        let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let mut command = redis::cmd("SET");
        command.arg(key).arg(row).arg("PX").arg(life_ms);
        self.tell(&command, limit).await
    }

    /// Says a word to all who listen.
    pub(super) async fn say(
        &mut self,
        channel: &str,
        word: &str,
        limit: Duration,
    ) -> Result<(), ExchangeError> {
        let command = redis::cmd("PUBLISH").arg(channel).arg(word).to_owned();
        self.tell(&command, limit).await
    }

    async fn tell<T: FromRedisValue>(
        &mut self,
        command: &redis::Cmd,
        limit: Duration,
    ) -> Result<T, ExchangeError> {
        self.allowance.set(self.bounds.answer);
        let asked = Self::ask(&mut self.connection, command);
        let answered = tokio::time::timeout(limit, asked).await;
        answered.unwrap_or(Err(ExchangeError::ResponseTimeout { limit }))
    }

    /// A row as it hung there; anything else is none.
    fn row_of(&self, value: Value) -> Option<Bytes> {
        let Value::BulkString(row) = value else {
            return None;
        };
        (row.len() <= self.bounds.row).then(|| Bytes::from(row))
    }

    /// Asks whatever `command` asks.
    pub(super) async fn ask<T: FromRedisValue>(
        connection: &mut MultiplexedConnection,
        command: &redis::Cmd,
    ) -> Result<T, ExchangeError> {
        Ok(command.query_async(connection).await?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
