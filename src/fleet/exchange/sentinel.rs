//! Asking Sentinel where the store is.

use redis::RedisConnectionInfo;
use redis::aio::MultiplexedConnection;

use super::failure::{ExchangeError, Reason};
use super::session::Session;
use super::way::{Allowance, Way};
use crate::config::StoreServer;

/// What Sentinel may say, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The master of `service`, by the first of Sentinel's servers that names one. A replica that it
/// takes for the master refuses our row, and it is asked again.
pub(super) async fn master(way: &Way, service: &str) -> Result<StoreServer, ExchangeError> {
    let mut last = String::new();
    for server in &way.url.servers {
        match way.in_time(ask(way, server, service)).await {
            Ok(Some(master)) => return Ok(master),
            Ok(None) => last = format!("{}:{} knows none", server.host, server.port),
            Err(error) => last = error.to_string(),
        }
    }
    Err(ExchangeError::Sentinel {
        service: service.to_owned(),
        last,
    })
}

async fn ask(
    way: &Way,
    server: &StoreServer,
    service: &str,
) -> Result<Option<StoreServer>, ExchangeError> {
    // Many a Sentinel asks for no password and refuses one.
    let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
    let named = match ask_as(way, server, service, &nobody).await {
        Err(ExchangeError::Store(Reason::Credentials)) => {
            let ourselves = way.login(RedisConnectionInfo::default());
            ask_as(way, server, service, &ourselves).await?
        }
        named => named?,
    };
    Ok(named.map(|(host, port)| StoreServer { host, port }))
}

async fn ask_as(
    way: &Way,
    server: &StoreServer,
    service: &str,
    greeting: &RedisConnectionInfo,
) -> Result<Option<(String, u16)>, ExchangeError> {
    let stream = way
        .connect(server, Allowance::new(ANSWER_BYTES_MAX))
        .await?;
    let (mut connection, driver) = MultiplexedConnection::new(greeting, stream).await?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    let asking = Session::ask(&mut connection, &command);
    tokio::select! {
        named = asking => named,
        () = driver => Err(ExchangeError::Store(Reason::Broken("closed".to_owned()))),
    }
}
