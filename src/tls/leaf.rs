//! One certificate for all accounts of a zone, such as the strictest clients take it (RFC 5280), and
//! the TLS server that shows it.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Inspect;

/// What is spoken inside, in our order of preference (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How far a caller's clock may be behind ours.
pub(super) const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);

/// Bytes of a serial number: more than 64 random bits, at most 20 bytes (RFC 5280 section 4.1.2.2).
const SERIAL_BYTES: usize = 16;

/// The subject of each certificate. Clients judge the name in `subjectAltName` alone.
const SUBJECT: &str = "kintone-egress";

/// Signs certificates.
pub(super) struct Minter {
    issuer: Issuer<'static, KeyPair>,
    /// Sent after each certificate: the CA's own and those between it and its root.
    chain: Vec<CertificateDer<'static>>,
    ca_end: Timestamp,
    life: Duration,
    provider: Arc<CryptoProvider>,
    tickets: Arc<dyn ProducesTickets>,
}

/// A certificate in use.
pub(super) struct Leaf {
    pub(super) server: Arc<ServerConfig>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

/// Why a certificate cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The CA's key or certificate cannot be used.
    #[error("[inspect] ca_cert and ca_key cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
    /// The certificate cannot be served.
    #[error("[inspect] no TLS with a certificate of the CA: {0}")]
    Tls(#[from] rustls::Error),
    /// The system gave no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
}

impl Minter {
    pub(super) fn new(inspect: &Inspect) -> Result<Self, MintError> {
        let certificates = &inspect.ca_cert.certificates;
        let key = KeyPair::from_pem(inspect.ca_key.expose())?;
        let authority = inspect.ca_cert.issuer();
        let between = certificates.iter().filter(|above| !above.is_root);
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&authority.der, key)?,
            chain: between.map(|above| above.der.clone()).collect(),
            ca_end: authority.not_after,
            life: inspect.leaf_life,
            provider: Arc::new(aws_lc_rs::default_provider()),
            tickets: Ticketer::new()?,
        })
    }

    /// How long a certificate holds.
    pub(super) const fn life(&self) -> Duration {
        self.life
    }

    /// A new certificate, with a key of its own, for every account of `zone`.
    pub(super) fn mint(&self, zone: &str, now: Timestamp) -> Result<Leaf, MintError> {
        let life = SignedDuration::try_from(self.life).unwrap_or(SignedDuration::MAX);
        let not_before = now.saturating_sub(CLOCK_SKEW).unwrap_or(now);
        let not_after = now
            .saturating_add(life)
            .unwrap_or(self.ca_end)
            .min(self.ca_end);
        let key = KeyPair::generate()?;
        let certificate = self.sign(zone, &key, not_before, not_after)?;
        Ok(Leaf {
            server: self.serve(&certificate, &key)?,
            not_before,
            not_after,
        })
    }

    fn sign(
        &self,
        zone: &str,
        key: &KeyPair,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Certificate, MintError> {
        let mut leaf = CertificateParams::default();
        leaf.serial_number = Some(random_serial()?.into());
        leaf.distinguished_name = DistinguishedName::new();
        leaf.distinguished_name.push(DnType::CommonName, SUBJECT);
        leaf.subject_alt_names = vec![SanType::DnsName(format!("*.{zone}").try_into()?)];
        set_validity(&mut leaf, not_before, not_after);
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        Ok(leaf.signed_by(key, &self.issuer)?)
    }

    fn serve(
        &self,
        certificate: &Certificate,
        key: &KeyPair,
    ) -> Result<Arc<ServerConfig>, MintError> {
        let own = std::iter::once(certificate.der().clone());
        let chain = own.chain(self.chain.iter().cloned()).collect();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = aws_lc_rs::sign::any_supported_type(&key)?;
        let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown));
        server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        server.ticketer = Arc::clone(&self.tickets);
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(server))
    }
}

/// A positive random number.
pub(super) fn random_serial() -> Result<Vec<u8>, MintError> {
    let mut serial = vec![0; SERIAL_BYTES];
    getrandom::fill(&mut serial).map_err(MintError::Random)?;
    // The sign is the first bit; with the second one set all bytes are there.
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

/// Sets the time in which a certificate holds, to the second.
pub(super) fn set_validity(certificate: &mut CertificateParams, begin: Timestamp, end: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let [begin, end] = [begin, end].map(|moment| {
        let seconds = u64::try_from(moment.as_second()).unwrap_or_default();
        epoch + Duration::from_secs(seconds)
    });
    certificate.not_before = begin;
    certificate.not_after = end;
}
