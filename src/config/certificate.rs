//! What a certificate of an authority says, as far as the gateway and its operators need it.

use std::fmt;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints};
use x509_parser::parse_x509_certificate;

/// One or more certificates, as the file gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaBundle {
    /// Where they stand: a path, or the PEM text itself.
    pub written: String,
    /// The certificates, in their order; at least one.
    pub certificates: Vec<CaCertificate>,
}

/// An authority's certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct CaCertificate {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Whose it is, such as `CN=kintone-egress CA`.
    pub subject: String,
    /// From when it holds.
    pub not_before: Timestamp,
    /// Until when it holds.
    pub not_after: Timestamp,
    /// Whether it signed itself, as roots do.
    pub is_root: bool,
    /// Whether it may sign others: it is a CA (RFC 5280 section 4.2.1.9), and its key usage, if
    /// there is one, has `keyCertSign` (section 4.2.1.3).
    pub may_sign: bool,
    /// The bits of its public key.
    pub public_key: Vec<u8>,
    permitted: Option<Vec<String>>,
    excluded: Vec<String>,
}

/// Why a text is not a list of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// There is no PEM section of a certificate, or one is broken.
    #[error("holds no certificate in PEM")]
    NotPem,
    /// A section is no X.509 certificate.
    #[error("holds a certificate that cannot be read")]
    Malformed,
}

impl CaBundle {
    /// The first one, whose key signs.
    #[must_use]
    pub fn issuer(&self) -> &CaCertificate {
        &self.certificates[0]
    }
}

impl CaCertificate {
    /// Reads every certificate of a PEM text; other sections and the text between them do not
    /// matter.
    ///
    /// # Errors
    /// [`CertificateFault`]; a text without any is one.
    pub fn read_pem(text: &str) -> Result<Vec<Self>, CertificateFault> {
        let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
            .map(|section| Self::read(section.map_err(|_| CertificateFault::NotPem)?))
            .collect::<Result<Vec<_>, _>>()?;
        match certificates.is_empty() {
            true => Err(CertificateFault::NotPem),
            false => Ok(certificates),
        }
    }

    fn read(der: CertificateDer<'static>) -> Result<Self, CertificateFault> {
        let malformed = CertificateFault::Malformed;
        let (_, parsed) = parse_x509_certificate(&der).map_err(|_| malformed)?;
        let time = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|_| malformed)
        };
        let constraints = parsed.name_constraints().map_err(|_| malformed)?;
        let constraints = constraints.map(|found| found.value);
        Ok(Self {
            subject: parsed.subject().to_string(),
            not_before: time(parsed.validity().not_before)?,
            not_after: time(parsed.validity().not_after)?,
            is_root: parsed.subject().as_raw() == parsed.issuer().as_raw(),
            may_sign: may_sign(&parsed).ok_or(malformed)?,
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
            permitted: constraints.and_then(permitted),
            excluded: constraints.map(excluded).unwrap_or_default(),
            der,
        })
    }

    /// SHA-256 of the certificate as `openssl x509 -fingerprint -sha256` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let bytes = Sha256::digest(&self.der);
        let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }

    /// Whether it is limited to some DNS names (RFC 5280 section 4.2.1.10).
    #[must_use]
    pub const fn is_constrained(&self) -> bool {
        self.permitted.is_some()
    }

    /// Whether its name constraints let it sign for names below `zone`.
    #[must_use]
    pub fn permits(&self, zone: &str) -> bool {
        let within = |base: &String| {
            let base = base.trim_start_matches('.');
            let stem = zone.strip_suffix(base);
            base.is_empty() || stem.is_some_and(|stem| stem.is_empty() || stem.ends_with('.'))
        };
        let permitted = self.permitted.as_ref();
        permitted.is_none_or(|bases| bases.iter().any(within)) && !self.excluded.iter().any(within)
    }
}

/// Whether it is a CA that may sign certificates; `None` if its extensions cannot be read.
fn may_sign(parsed: &X509Certificate<'_>) -> Option<bool> {
    let basic = parsed.basic_constraints().ok()?;
    let usage = parsed.key_usage().ok()?;
    let is_ca = basic.is_some_and(|basic| basic.value.ca);
    Some(is_ca && usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

/// The DNS names it is limited to; `None` if it is limited to none.
fn permitted(constraints: &NameConstraints<'_>) -> Option<Vec<String>> {
    let names = dns_names(constraints.permitted_subtrees.as_deref()?);
    (!names.is_empty()).then_some(names)
}

fn excluded(constraints: &NameConstraints<'_>) -> Vec<String> {
    constraints
        .excluded_subtrees
        .as_deref()
        .map(dns_names)
        .unwrap_or_default()
}

fn dns_names(subtrees: &[GeneralSubtree<'_>]) -> Vec<String> {
    subtrees
        .iter()
        .filter_map(|subtree| {
            if let GeneralName::DNSName(name) = subtree.base {
                Some(name.to_ascii_lowercase())
            } else {
                None
            }
        })
        .collect()
}

impl fmt::Debug for CaCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject, self.fingerprint())
    }
}
