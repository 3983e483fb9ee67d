//! An authority for the hosts of a fleet, and the certificates by which they know each other.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::leaf::{CLOCK_SKEW, MintError, random_serial, set_validity};
use crate::config::Secret;

/// The common name of the authority.
const AUTHORITY: &str = "kintone-egress hosts";

/// An authority that signs hosts' certificates and nothing else.
pub struct PeerAuthority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PKCS#8 in PEM: it is needed again for new hosts and new certificates only.
    pub key: Secret,
}

/// A host's certificate.
pub struct PeerFiles {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PKCS#8 in PEM.
    pub key: Secret,
}

impl PeerAuthority {
    /// Makes one: ECDSA P-256, self-signed, for TLS clients and servers, without authorities below it.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn create(now: Timestamp, life: Duration) -> Result<Self, MintError> {
        let key = KeyPair::generate()?;
        let mut ca = params(AUTHORITY, now, life)?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self {
            certificate: ca.self_signed(&key)?.pem(),
            key: Secret::new(key.serialize_pem()),
        })
    }

    /// Signs a new certificate for the host of that name, with a key of its own.
    ///
    /// # Errors
    /// [`MintError`], such as for a name that a certificate cannot hold, or a key that is not that of
    /// the certificate.
    pub fn sign(&self, host: &str, now: Timestamp, life: Duration) -> Result<PeerFiles, MintError> {
        let issuer = KeyPair::from_pem(self.key.expose())?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, issuer)?;
        let key = KeyPair::generate()?;
        let mut leaf = params(host, now, life)?;
        leaf.subject_alt_names = vec![SanType::DnsName(host.try_into()?)];
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.use_authority_key_identifier_extension = true;
        Ok(PeerFiles {
            certificate: leaf.signed_by(&key, &issuer)?.pem(),
            key: Secret::new(key.serialize_pem()),
        })
    }
}

fn params(name: &str, now: Timestamp, life: Duration) -> Result<CertificateParams, MintError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(random_serial()?.into());
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let begin = now.saturating_sub(CLOCK_SKEW).unwrap_or(now);
    let life = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
    let end = now.saturating_add(life).unwrap_or(Timestamp::MAX);
    set_validity(&mut params, begin, end);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params)
}
