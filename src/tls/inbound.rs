//! TLS that we answer, for callers whose calls are inspected.

use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, Error as RustlsError, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why a handshake with a caller came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The caller does not take our certificate: it says so by one of the alerts that RFC 8446
    /// section 6.2 has for that.
    #[error("the caller distrusts the certificate: {0:?}")]
    Distrusted(AlertDescription),
    /// The two have no TLS in common, or what came is none.
    #[error("TLS with the caller: {0}")]
    Failed(#[source] io::Error),
    /// The caller closed meanwhile.
    #[error("the caller has left: {0}")]
    Gone(#[source] io::Error),
}

/// Shakes hands on `stream` as `config` says. The caller of this function bounds the time.
///
/// # Errors
/// [`AcceptError`], after the alert that tells it was sent.
pub async fn accept<S>(config: Arc<ServerConfig>, stream: S) -> Result<TlsStream<S>, AcceptError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let accepting = TlsAcceptor::from(config).accept(stream);
    accepting.await.map_err(classify)
}

fn classify(error: io::Error) -> AcceptError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(RustlsError::AlertReceived(alert)) if is_distrust(*alert) => {
            AcceptError::Distrusted(*alert)
        }
        // It gave up without a reason that would help anybody.
        Some(RustlsError::AlertReceived(
            AlertDescription::CloseNotify | AlertDescription::UserCanceled,
        ))
        | None => AcceptError::Gone(error),
        Some(_) => AcceptError::Failed(error),
    }
}

/// Whether a client says by this alert that it does not take our certificate. Which one it sends
/// differs: OpenSSL and rustls say `unknown_ca`, Java `certificate_unknown`, Go `bad_certificate`; who
/// trusts another authority of the same name may find its signature wrong and say `decrypt_error`.
const fn is_distrust(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}
