//! TLS towards kintone: always verified, never with another provider than the one named here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{CertificateError, ClientConfig, Error as RustlsError};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::model::{Detail, Failure, Host};

/// Originates TLS 1.2 and 1.3 with ALPN `http/1.1`. Certificates are verified against the system's
/// trust store and the extra anchors of the configuration. There is no way to switch that off.
#[derive(Clone)]
pub struct Outbound {
    connector: TlsConnector,
}

/// Why TLS towards kintone cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of extra trust anchors cannot be read as PEM.
    #[error("{path}: {source}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// The file of extra trust anchors holds no certificate.
    #[error("{0}: no certificate in it")]
    CaFileEmpty(PathBuf),
    /// There is no usable trust anchor, or one of the extra ones is malformed.
    #[error("trust anchors: {0}")]
    Anchors(RustlsError),
    /// The provider does not support the protocol versions.
    #[error("TLS provider: {0}")]
    Provider(RustlsError),
}

/// Host names whose sessions are kept for resumption.
const RESUMABLE_HOSTS: usize = 1024;

/// rustls keeps this many tickets a host, and divides the size of its store by it.
const TICKETS_PER_HOST: usize = 8;

impl Outbound {
    /// Loads the trust anchors: the system's, and those of `ca_file` (PEM) besides.
    ///
    /// # Errors
    /// [`TlsError`] if the file is unreadable or holds no certificate, or if no anchor is left.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let mut config = verified(ca_file)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(RESUMABLE_HOSTS * TICKETS_PER_HOST);
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Shakes hands as a client of `host` on a connected stream. The caller bounds the time.
    ///
    /// # Errors
    /// [`Failure::Tls`] with what exactly is wrong with the certificate or the protocol;
    /// [`Failure::Connect`] if the connection broke meanwhile. Nothing was sent in either case.
    pub async fn handshake<S>(&self, host: &Host, stream: S) -> Result<TlsStream<S>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.as_str().to_owned()).map_err(|_| Failure::Internal)?;
        self.connector
            .connect(name, stream)
            .await
            .map_err(|error| classify(&error))
    }
}

/// TLS to a server of the operator's own, such as a store: verified as kintone is, without ALPN.
///
/// # Errors
/// As [`Outbound::new`].
pub fn to_own_server(ca_file: Option<&Path>) -> Result<TlsConnector, TlsError> {
    Ok(TlsConnector::from(Arc::new(verified(ca_file)?)))
}

fn verified(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let extra = ca_file.map(read_anchors).transpose()?.unwrap_or_default();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).map_err(TlsError::Anchors)?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn read_anchors(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |source| TlsError::CaFile {
        path: path.to_owned(),
        source,
    };
    let anchors = CertificateDer::pem_file_iter(path)
        .map_err(fault)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(fault)?;
    if anchors.is_empty() {
        return Err(TlsError::CaFileEmpty(path.to_owned()));
    }
    Ok(anchors)
}

/// What a failed handshake means.
fn classify(error: &io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(RustlsError::InvalidCertificate(certificate)) => {
            Failure::Tls(classify_certificate(certificate))
        }
        Some(RustlsError::NoCertificatesPresented) => Failure::Tls(Detail::TlsCertificate),
        Some(_) => Failure::Tls(Detail::TlsProtocol),
        None if error.kind() == io::ErrorKind::TimedOut => Failure::Tls(Detail::TlsTimeout),
        None => Failure::Connect(Detail::ConnectReset),
    }
}

fn classify_certificate(error: &CertificateError) -> Detail {
    use CertificateError as E;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls adds variants; whatever it is, the certificate is at fault"
    )]
    match error {
        E::Expired | E::ExpiredContext { .. } => Detail::TlsExpired,
        E::NotValidYet | E::NotValidYetContext { .. } => Detail::TlsNotYetValid,
        E::NotValidForName | E::NotValidForNameContext { .. } => Detail::TlsNameMismatch,
        E::UnknownIssuer | E::BadSignature => Detail::TlsUntrusted,
        E::Revoked => Detail::TlsRevoked,
        _ => Detail::TlsCertificate,
    }
}
