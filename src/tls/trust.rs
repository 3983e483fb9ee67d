//! What callers are to trust, as one file: PEM, each certificate with a comment about it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::{CaBundle, CaCertificate, Inspect};

/// Characters of base64 on a line of PEM (RFC 7468 section 2).
const LINE_CHARACTERS: usize = 64;

/// Every certificate that callers are to trust, the one that signs first. Text before a certificate
/// is a comment (RFC 7468 section 5.2); it is ASCII, which some readers insist on.
#[must_use]
pub fn trust_pem(inspect: &Inspect) -> String {
    let present = bundle_pem(&inspect.ca_cert, "signs now");
    let next = inspect.ca_next.iter();
    next.fold(present, |text, bundle| {
        text + "\n" + &bundle_pem(bundle, "trusted for a change of the authority")
    })
}

fn bundle_pem(bundle: &CaBundle, role: &str) -> String {
    let mut certificates = bundle.certificates.iter();
    let first = certificates.next().map(|issuer| pem(issuer, role));
    certificates.fold(first.unwrap_or_default(), |text, above| {
        text + "\n" + &pem(above, "stands above it")
    })
}

fn pem(certificate: &CaCertificate, role: &str) -> String {
    let subject: String = certificate
        .subject
        .chars()
        .flat_map(char::escape_default)
        .collect();
    let mut text = format!(
        "# {subject}: {role}\n# SHA-256 {}\n# valid from {} to {}\n-----BEGIN CERTIFICATE-----\n",
        certificate.fingerprint(),
        certificate.not_before,
        certificate.not_after,
    );
    let body = STANDARD.encode(&certificate.der);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE_CHARACTERS));
        let _ = writeln!(text, "{line}");
        rest = tail;
    }
    text + "-----END CERTIFICATE-----\n"
}
