//! What carries a message out, by either way.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;

use super::failure::SendError;
use super::hook::{Hook, Place, Scheme};
use super::label::{Label, Way};
use super::smtp::{self, Server};
use super::surroundings::Surroundings;
use crate::config::Notify;

/// What is open to send by.
pub(super) enum Session {
    /// The mail server, logged in.
    Mail(Box<smtp::Session>),
    /// The webhook, to which nothing is open between messages.
    Webhook(Hook),
}

/// Whether the configuration says where messages of this way go.
pub(super) const fn is_configured(way: Way, notify: &Notify) -> bool {
    match way {
        Way::Mail => notify.mail.is_some(),
        Way::Webhook => notify.webhook.is_some(),
    }
}

impl Session {
    /// Opens what carries messages of this way.
    pub(super) async fn open(
        way: Way,
        notify: &Notify,
        surroundings: &Arc<dyn Surroundings>,
    ) -> Result<Self, SendError> {
        let missing = || SendError::Server("[notify] does not say where to".to_owned());
        match way {
            Way::Mail => {
                let server = Server::of(notify).ok_or_else(missing)?;
                server.open().await.map(|open| Self::Mail(Box::new(open)))
            }
            Way::Webhook => {
                let place = Place::of(notify).ok_or_else(missing)?;
                let tls = match place.scheme() {
                    Scheme::Clear => None,
                    Scheme::Tls => Some(connector(notify, surroundings).await?),
                };
                Ok(Self::Webhook(Hook::new(place, tls)))
            }
        }
    }

    /// Sends what a label belongs to. After an error the session is of no use any more.
    pub(super) async fn send(&mut self, label: &Label, content: Vec<u8>) -> Result<(), SendError> {
        match self {
            Self::Mail(session) => session.send(&label.from, &label.to, &content).await,
            Self::Webhook(hook) => hook.post(&label.id(), content).await,
        }
    }

    /// Takes leave.
    pub(super) async fn close(self) {
        match self {
            Self::Mail(session) => session.close().await,
            Self::Webhook(_) => {}
        }
    }
}

/// Trust anchors are read from the disk, each time: they may have been renewed.
async fn connector(
    notify: &Notify,
    surroundings: &Arc<dyn Surroundings>,
) -> Result<TlsConnector, SendError> {
    let (surroundings, ca_file) = (Arc::clone(surroundings), notify.ca_file.clone());
    let built = spawn_blocking(move || surroundings.connector(ca_file.as_deref()));
    match built.await {
        Ok(built) => built.map_err(SendError::Server),
        Err(panic) => Err(SendError::Server(panic.to_string())),
    }
}
