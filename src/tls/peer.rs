//! TLS between the hosts of a fleet: TLS 1.3, both sides show a certificate of the fleet's own
//! authority, and each is known by the name in it.

use std::io;
use std::sync::Arc;

use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, Error as RustlsError, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream as ClientStream;
use tokio_rustls::server::TlsStream as ServerStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{CaBundle, Peer};

/// What is spoken between hosts.
const PROTOCOL: &[u8] = b"http/1.1";

/// Both ends of TLS between hosts. There is no way to switch the verification off, and nothing is
/// resumed: every connection proves anew who is at its ends.
#[derive(Clone)]
pub struct PeerTls {
    client: TlsConnector,
    server: TlsAcceptor,
    /// The other hosts, by the names in their certificates.
    others: Arc<[(String, ServerName<'static>)]>,
}

/// Why TLS between hosts cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum PeerTlsError {
    /// `ca` cannot be used.
    #[error("[fleet.peer] ca: {0}")]
    Authority(RustlsError),
    /// `ca` cannot be used to verify the others.
    #[error("[fleet.peer] ca: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// `key` cannot be read.
    #[error("[fleet.peer] key: {0}")]
    Key(#[from] rustls_pki_types::pem::Error),
    /// `cert` and `key` cannot be used.
    #[error("[fleet.peer] cert and key: {0}")]
    Certificate(#[from] RustlsError),
}

/// Why a handshake with another host came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// TLS failed: the alert, or what is wrong with the other side's certificate.
    #[error("TLS with the other host: {0}")]
    Failed(#[from] io::Error),
    /// It has a certificate of the authority, for a name that is none of the other hosts'.
    #[error("the certificate names none of the other hosts")]
    Stranger,
    /// It is no host of this fleet.
    #[error("{0} is no other host of this fleet")]
    Unknown(String),
}

impl PeerTls {
    /// TLS as `peer` says, from the host `own` to the others.
    ///
    /// # Errors
    /// [`PeerTlsError`]. A configuration that was read by [`load`](crate::config::file::load) has a
    /// certificate, the key to it and an authority.
    pub fn new(peer: &Peer, own: &str) -> Result<Self, PeerTlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = [&rustls::version::TLS13];
        let roots = Arc::new(roots(&peer.ca)?);
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain(&peer.cert), key(peer)?)?;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        client.resumption = Resumption::disabled();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(chain(&peer.cert), key(peer)?)?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let others = peer.listen.keys().filter(|host| *host != own);
        let others = others.filter_map(|host| {
            let name = ServerName::try_from(host.clone()).ok()?;
            Some((host.clone(), name))
        });
        Ok(Self {
            client: TlsConnector::from(Arc::new(client)),
            server: TlsAcceptor::from(Arc::new(server)),
            others: others.collect(),
        })
    }

    /// Shakes hands as a client of the host of that name. The caller bounds the time.
    ///
    /// # Errors
    /// [`PeerError`]. That the other side does not take our certificate shows in the first read only
    /// (RFC 8446 section 4.4.2.4): nothing of a call may count as sent before an answer has come.
    pub async fn connect<S>(&self, host: &str, stream: S) -> Result<ClientStream<S>, PeerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let other = self.others.iter().find(|(name, _)| name == host);
        let (_, name) = other.ok_or_else(|| PeerError::Unknown(host.to_owned()))?;
        Ok(self.client.connect(name.clone(), stream).await?)
    }

    /// Shakes hands as a server; which host is at the other end. The caller bounds the time.
    ///
    /// # Errors
    /// [`PeerError`], after the alert that tells it was sent.
    pub async fn accept<S>(&self, stream: S) -> Result<(Arc<str>, ServerStream<S>), PeerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.server.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let shown = shown.first().ok_or(PeerError::Stranger)?;
        let shown = ParsedCertificate::try_from(shown).map_err(|_| PeerError::Stranger)?;
        let is = |name| verify_server_name(&shown, name).is_ok();
        let other = self.others.iter().find(|(_, name)| is(name));
        let (host, _) = other.ok_or(PeerError::Stranger)?;
        Ok((host.as_str().into(), stream))
    }
}

fn roots(ca: &CaBundle) -> Result<RootCertStore, PeerTlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in &ca.certificates {
        let added = roots.add(certificate.der.clone());
        added.map_err(PeerTlsError::Authority)?;
    }
    Ok(roots)
}

fn chain(bundle: &CaBundle) -> Vec<CertificateDer<'static>> {
    let certificates = bundle.certificates.iter();
    certificates.map(|one| one.der.clone()).collect()
}

fn key(peer: &Peer) -> Result<PrivateKeyDer<'static>, PeerTlsError> {
    Ok(PrivateKeyDer::from_pem_slice(peer.key.expose().as_bytes())?)
}
