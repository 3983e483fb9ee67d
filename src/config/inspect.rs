//! Reads `[inspect]`: the private authority, and for whose CONNECTs it answers.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PublicKeyData as _};

use super::certificate::{CaBundle, CaCertificate};
use super::credential::{pem_text, secret_pem};
use super::grant::{Callers, NamePattern};
use super::name;
use super::read::{Section, Value};
use super::secret::Secret;
use super::source::shown;

const HOUR: Duration = Duration::from_secs(3600);

/// Longest life of a leaf certificate, in days; Apple's clients take no longer ones than 825.
const LEAF_LIFE_DAYS_MAX: u32 = 90;

/// The name of callers without credentials.
const ANONYMOUS: &str = "anonymous";

/// How long before the end of an authority's certificate operators are told.
const EXPIRY_WARNING: SignedDuration = SignedDuration::from_hours(30 * 24);

/// `[inspect]`.
#[derive(Debug, Clone)]
pub struct Inspect {
    /// The private CA's certificate, then those above it.
    pub ca_cert: CaBundle,
    /// The key of its first one, PEM.
    pub ca_key: Secret,
    /// Certificates that callers are told to trust besides: the next CA's, or the last one's.
    pub ca_next: Vec<CaBundle>,
    /// How long the certificates that it signs hold.
    pub leaf_life: Duration,
    /// For which accounts.
    pub accounts: Vec<NamePattern>,
    /// For whose CONNECTs; `*` or names.
    pub callers: Vec<String>,
}

impl Inspect {
    /// How long certificates hold that the private CA signs, unless the file says otherwise.
    pub const LEAF_LIFE: Duration = Duration::from_secs(48 * 3600);

    /// Every certificate that callers are told to trust: the present CA's first.
    pub fn published(&self) -> impl Iterator<Item = &CaCertificate> {
        std::iter::once(&self.ca_cert)
            .chain(&self.ca_next)
            .flat_map(|bundle| &bundle.certificates)
    }
}

/// Reads `[inspect]`.
pub(super) fn inspect(
    root: &mut Section<'_>,
    callers: &Callers,
    zones: &[String],
) -> Option<Inspect> {
    let mut section = root.section("inspect");
    if !section.is_present() {
        return None;
    }
    let now = Timestamp::now();
    let place = section.required(
        "ca_cert",
        "expected the private CA's certificate, a path or PEM; `kintone-egress ca init` makes one",
    );
    let ca_cert = place.as_ref().and_then(|value| bundle(value, now));
    let ca_key = section.required("ca_key", "expected the private CA's key, a path or PEM");
    let ca_key = ca_key.and_then(|value| {
        let key = secret_pem(&value)?;
        let issuer = ca_cert.as_ref().map(CaBundle::issuer);
        is_key_of(&value, &key, issuer).then_some(key)
    });
    let ca_next = section.or("ca_next", Vec::new(), |value| several(value, now));
    let leaf_life = section.or("leaf_life", Inspect::LEAF_LIFE, |value| {
        value.duration(HOUR..=LEAF_LIFE_DAYS_MAX * 24 * HOUR)
    });
    let accounts = section.required("accounts", "expected such as [\"*\"]");
    let accounts = accounts.and_then(|value| {
        value.list_of("patterns of accounts", |entry| name::accounts(entry, zones))
    });
    let names = section.required("callers", "expected such as [\"*\"]");
    let names =
        names.and_then(|value| value.list_of("callers", |entry| known_caller(entry, callers)));
    section.finish();
    let (ca_cert, accounts) = (ca_cert?, accounts?);
    judge_constraints(&place?, ca_cert.issuer(), &accounts, zones);
    Some(Inspect {
        ca_cert,
        ca_key: ca_key?,
        ca_next,
        leaf_life,
        accounts,
        callers: names?,
    })
}

/// One or several places of certificates.
fn several(value: &Value<'_>, now: Timestamp) -> Option<Vec<CaBundle>> {
    if value.raw().as_array().is_some() {
        value.list_of("certificates, each a path or PEM", |entry| {
            bundle(entry, now)
        })
    } else {
        bundle(value, now).map(|bundle| vec![bundle])
    }
}

fn bundle(value: &Value<'_>, now: Timestamp) -> Option<CaBundle> {
    const EXPECTED: &str = "expected the PEM of a CA's certificate, then of those above it";
    let (written, text) = pem_text(value)?;
    let certificates = match CaCertificate::read_pem(&text) {
        Ok(certificates) => certificates,
        Err(fault) => return value.fault(fault.to_string(), EXPECTED),
    };
    for certificate in &certificates {
        if !certificate.may_sign {
            return value.fault(
                format!("{} is no certificate of a CA", shown(&certificate.subject)),
                "expected basicConstraints CA:TRUE and, with a key usage, keyCertSign; \
                 `kintone-egress ca init` makes one",
            );
        }
        judge_validity(value, certificate, now);
    }
    Some(CaBundle {
        written,
        certificates,
    })
}

/// A certificate out of its time is a warning: callers who are not inspected must not suffer for it.
fn judge_validity(value: &Value<'_>, certificate: &CaCertificate, now: Timestamp) {
    const REMEDY: &str =
        "change the CA: make one by `kintone-egress ca init`, name it in `ca_next`";
    let subject = shown(&certificate.subject);
    let (begin, end) = (certificate.not_before, certificate.not_after);
    if end <= now {
        let problem = format!("{subject} has expired at {end}, so callers refuse it");
        value.warn(problem, REMEDY);
    } else if end.duration_since(now) < EXPIRY_WARNING {
        value.warn(format!("{subject} expires at {end}"), REMEDY);
    }
    if begin > now {
        let problem = format!("{subject} is not valid before {begin}");
        value.warn(problem, "is the clock of this host right?");
    }
}

/// Whether `key` can be read and, where the certificate is known, belongs to it.
fn is_key_of(value: &Value<'_>, key: &Secret, issuer: Option<&CaCertificate>) -> bool {
    let Ok(pair) = KeyPair::from_pem(key.expose()) else {
        let problem = "is no private key in PEM";
        let remedy = "expected an unencrypted PKCS#8, SEC1 or PKCS#1 key: ECDSA, RSA or Ed25519";
        return value.fault::<()>(problem, remedy).is_some();
    };
    if issuer.is_none_or(|issuer| issuer.public_key == pair.der_bytes()) {
        return true;
    }
    let problem = "is not the key of the first certificate of `ca_cert`";
    value
        .fault::<()>(problem, "expected both from one `kintone-egress ca init`")
        .is_some()
}

/// What the name constraints of the CA let it sign, against what is to be inspected.
fn judge_constraints(
    value: &Value<'_>,
    issuer: &CaCertificate,
    accounts: &[NamePattern],
    zones: &[String],
) {
    if !issuer.is_constrained() {
        value.warn(
            "has no name constraints, so whoever has its key can pose as any site to those who trust it",
            "make one that is limited to the zones by `kintone-egress ca init`",
        );
    }
    for zone in zones {
        let below = format!(".{zone}");
        let is_meant = |pattern: &NamePattern| match pattern {
            NamePattern::Any => true,
            NamePattern::Exact(account) => account.ends_with(&below),
            NamePattern::Below(suffix) => *suffix == below,
        };
        if accounts.iter().any(is_meant) && !issuer.permits(zone) {
            value.fault::<()>(
                format!("may not sign for {zone}, by its name constraints"),
                "expected a CA for every zone of `accounts`: `kintone-egress ca init --zone …`, \
                 or fewer accounts",
            );
        }
    }
}

fn known_caller(value: &Value<'_>, callers: &Callers) -> Option<String> {
    let text = value.text("\"*\" or the name of a caller")?;
    let is_named = |text| {
        callers
            .named
            .iter()
            .any(|caller| caller.name.as_str() == text)
    };
    let is_anonymous = text == ANONYMOUS && callers.anonymous.is_some();
    if text == "*" || is_anonymous || is_named(text) {
        Some(text.to_owned())
    } else {
        value.fault(
            format!("{} is no caller", shown(text)),
            "expected \"*\", the name of a [[caller]], or \"anonymous\" where [callers] has it",
        )
    }
}
