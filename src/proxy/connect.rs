//! What every CONNECT that is let in goes through: the 200, the ClientHello, and the goodbye to one
//! that asks for another name. No byte of the caller is passed on before its ClientHello was judged.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::answer::Answer;
use super::exchange::Exchange;
use super::reply;
use crate::model::{Detail, Host};
use crate::tls::hello::{Alpn, HELLO_SIZE_MAX, Hello, read_hello};

/// The 200: no body, no length (RFC 9110 section 9.3.6).
pub(crate) fn grant(exchange: &mut Exchange) -> Response<Answer> {
    let record = exchange.record();
    record.status = Some(StatusCode::OK.as_u16());
    let mut response = Response::new(Answer::whole(Bytes::new()));
    let (id, address, queued) = (record.id, record.address, record.queued);
    reply::describe(response.headers_mut(), id, address, queued);
    response
}

/// What a ClientHello says.
pub(crate) struct ClientHello {
    pub(crate) sni: Option<String>,
    pub(crate) alpn: Alpn,
}

/// Why no ClientHello was heard.
pub(crate) enum Unheard {
    Gone,
    TooLarge,
    NotTls,
}

impl ClientHello {
    /// Whether it asks for that host and no other.
    ///
    /// # Errors
    /// Why not; it is to be told by `unrecognized_name`.
    pub(crate) fn names(&self, host: &Host) -> Result<(), Detail> {
        match &self.sni {
            None => Err(Detail::SniMissing),
            Some(sni) if sni != host.as_str() => Err(Detail::SniMismatch),
            Some(_) => Ok(()),
        }
    }
}

/// Reads until the ClientHello is complete; returns it with all that was read.
pub(crate) async fn hear(
    stream: &TcpStream,
    early: Bytes,
) -> Result<(ClientHello, Vec<u8>), Unheard> {
    let mut first = Vec::from(early);
    loop {
        match read_hello(&first) {
            Hello::Client { sni, alpn } => return Ok((ClientHello { sni, alpn }, first)),
            Hello::NotTls => return Err(Unheard::NotTls),
            Hello::Incomplete if first.len() >= HELLO_SIZE_MAX => return Err(Unheard::TooLarge),
            Hello::Incomplete => {}
        }
        stream.readable().await.map_err(|_| Unheard::Gone)?;
        match stream.try_read_buf(&mut first) {
            Ok(0) => return Err(Unheard::Gone),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Unheard::Gone),
        }
    }
}

/// How long a caller may take to read the alert before the connection is closed for good.
const GOODBYE_WAIT: Duration = Duration::from_secs(2);

/// Sends the last bytes and lets them arrive: a close with unread bytes would be a reset that can
/// overtake them.
pub(crate) async fn say_goodbye(stream: &TcpStream, last: &[u8]) {
    let until = Instant::now() + GOODBYE_WAIT;
    let goodbye = async {
        stream.writable().await?;
        stream.try_write(last)?;
        socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write)?;
        let mut discarded = vec![0; 4096];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut discarded) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    // Whether it arrived makes no difference to anything that is done from here on.
    let _: Result<std::io::Result<()>, _> = tokio::time::timeout_at(until, goodbye).await;
}
