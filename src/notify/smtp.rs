//! The mail server: STARTTLS and AUTH, one mail after another over one connection.
//!
//! `smtps://` is TLS from the first byte. `smtp://` asks for STARTTLS and goes no further without it
//! (RFC 3207); on loopback alone it goes on in the clear where none is offered, and takes any
//! certificate where it is: nobody between could read or change what stays on this machine, and clear
//! text would be taken too.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use tokio::time::timeout;

use super::failure::SendError;
use crate::config::Notify;

/// The mail server.
#[derive(Clone)]
pub struct Server {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    ca_file: Option<PathBuf>,
    timeout: Duration,
}

/// An open connection to it, logged in.
pub struct Session {
    connection: AsyncSmtpConnection,
    timeout: Duration,
}

/// How the connection is kept from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte.
    Tls,
    /// STARTTLS, or nothing.
    StartTls,
    /// STARTTLS where it is offered, whatever the certificate: the server is this machine.
    Loopback,
}

impl Server {
    /// The server of `[notify]`; `None` if there is none.
    #[must_use]
    pub fn of(notify: &Notify) -> Option<Self> {
        let url = notify.mail.as_ref()?.smtp.expose();
        // The configuration has judged its form.
        let (scheme, rest) = url.split_once("://").unwrap_or(("smtp", url));
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let place = place.split('/').next().unwrap_or_default();
        let authority = place.parse::<http::uri::Authority>().ok();
        let host = authority.as_ref().map_or(place, |place| place.host());
        let host = host.trim_matches(['[', ']']).to_owned();
        let is_loopback =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
        let (security, default_port) = match (scheme, is_loopback) {
            ("smtps", _) => (Security::Tls, 465),
            (_, false) => (Security::StartTls, 587),
            (_, true) => (Security::Loopback, 25),
        };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pair = user.and_then(|user| user.split_once(':'));
        Some(Self {
            port: authority
                .and_then(|place| place.port_u16())
                .unwrap_or(default_port),
            host,
            security,
            credentials: pair.map(|(user, word)| Credentials::new(decoded(user), decoded(word))),
            ca_file: notify.ca_file.clone(),
            timeout: notify.spool.timeout,
        })
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// [`SendError::Server`], with what the server said.
    pub async fn open(&self) -> Result<Session, SendError> {
        let opened = timeout(self.timeout, self.connect()).await;
        match opened {
            Ok(Ok(connection)) => Ok(Session {
                connection,
                timeout: self.timeout,
            }),
            Ok(Err(error)) => Err(SendError::Server(format!("{}: {error}", self.place()))),
            Err(_) => Err(SendError::Server(format!(
                "{}: no connection within {:?}",
                self.place(),
                self.timeout
            ))),
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, ConnectError> {
        let hello = ClientId::default();
        let tls = self.tls().await?;
        let place = (self.host.as_str(), self.port);
        let wrapper = (self.security == Security::Tls).then(|| tls.clone());
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(place, None, &hello, wrapper, None).await?;
        match self.security {
            Security::Tls => {}
            Security::StartTls if !connection.can_starttls() => return Err(ConnectError::Clear),
            Security::Loopback if !connection.can_starttls() => {}
            Security::StartTls | Security::Loopback => connection.starttls(tls, &hello).await?,
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }

    async fn tls(&self) -> Result<TlsParameters, ConnectError> {
        let mut tls = TlsParameters::builder(self.host.clone());
        if self.security == Security::Loopback {
            tls = tls.dangerous_accept_invalid_certs(true);
        }
        if let Some(path) = &self.ca_file {
            let unreadable = |error: String| ConnectError::Trust(path.clone(), error);
            let pem = tokio::fs::read(path).await;
            let pem = pem.map_err(|error| unreadable(error.to_string()))?;
            let anchor = Certificate::from_pem(&pem);
            tls = tls.add_root_certificate(anchor.map_err(|error| unreadable(error.to_string()))?);
        }
        Ok(tls.build()?)
    }

    fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("{0}")]
    Smtp(#[from] lettre::transport::smtp::Error),
    #[error(
        "the server offers no STARTTLS, and nothing is sent in the clear; use smtps:// or let it \
         offer STARTTLS"
    )]
    Clear,
    #[error("[notify] ca_file {path} cannot be used: {1}", path = .0.display())]
    Trust(PathBuf, String),
}

impl Session {
    /// Sends a mail. After an error the session is of no use any more.
    ///
    /// # Errors
    /// [`SendError`], with what the server said.
    pub async fn send(&mut self, from: &str, to: &str, mail: &[u8]) -> Result<(), SendError> {
        let address = |text: &str| text.parse().map_err(|_| SendError::Never(unfit(text)));
        let envelope = Envelope::new(Some(address(from)?), vec![address(to)?]);
        let envelope = envelope.map_err(|error| SendError::Never(error.to_string()))?;
        let sending = timeout(self.timeout, self.connection.send(&envelope, mail));
        let Ok(sent) = sending.await else {
            let within = format!("no answer within {:?}", self.timeout);
            return Err(SendError::Server(within));
        };
        sent.map(|_| ()).map_err(|error| {
            let said = error.to_string();
            if error.is_permanent() || error.is_client() {
                SendError::Never(said)
            } else if error.is_transient() {
                SendError::Later(said)
            } else {
                SendError::Server(said)
            }
        })
    }

    /// Takes leave.
    pub async fn close(mut self) {
        // What was sent is at the server, whatever it says now.
        let _ = timeout(self.timeout, self.connection.quit()).await;
    }
}

fn unfit(address: &str) -> String {
    format!("{address} is no mail address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn server(url: &str) -> Server {
        let mut notify = Notify::for_tests();
        if let Some(mail) = &mut notify.mail {
            mail.smtp = Secret::new(url.to_owned());
        }
        Server::of(&notify).unwrap()
    }

    #[test]
    fn the_clear_is_for_loopback_alone() {
        for (url, place, security) in [
            (
                "smtp://127.0.0.1:2525",
                "127.0.0.1:2525",
                Security::Loopback,
            ),
            ("smtp://u:p@localhost", "localhost:25", Security::Loopback),
            ("smtp://u:p@[::1]:26", "::1:26", Security::Loopback),
            ("smtp://u:p@192.0.2.1", "192.0.2.1:587", Security::StartTls),
            (
                "smtp://mail.example.jp:25",
                "mail.example.jp:25",
                Security::StartTls,
            ),
            ("smtps://u:p@127.0.0.1", "127.0.0.1:465", Security::Tls),
        ] {
            let server = server(url);
            assert_eq!(
                (server.place().as_str(), server.security),
                (place, security),
                "{url}"
            );
        }
    }

    #[test]
    fn user_and_password_are_decoded() {
        let expected = Credentials::new("a@b".to_owned(), "p:/@w".to_owned());
        let server = server("smtp://a%40b:p%3A%2F%40w@127.0.0.1");
        assert_eq!(server.credentials, Some(expected));
    }
}
