//! The simulator's own authority and the certificates it shows, good and bad.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use jiff::{ToSpan, Zoned};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The host names that a good certificate covers: an account under each zone of kintone, and its
/// client-certificate name (`.s.`).
const NAMES: [&str; 6] = [
    "*.cybozu.com",
    "*.s.cybozu.com",
    "*.kintone.com",
    "*.s.kintone.com",
    "*.cybozu.cn",
    "*.s.cybozu.cn",
];

/// A certificate authority for tests. Callers of the simulator trust its [`Authority::pem`].
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a fresh authority that lives in memory only.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn generate() -> anyhow::Result<Self> {
        Self::named("kintone-sim test CA")
    }

    fn named(name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(
            &mut params,
            &Days {
                from: -1,
                until: 3650,
            },
        )?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// Reads `ca.pem` and `ca.key` from the folder, or makes and writes them (the key with mode 0600)
    /// when there is neither.
    ///
    /// # Errors
    /// When the folder cannot be used, or only one of the two files is there, or they are not an authority.
    pub fn load_or_create(folder: &Path) -> anyhow::Result<Self> {
        let (pem_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        if pem_path.exists() || key_path.exists() {
            let read = |path: &Path| {
                fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            };
            let pem = read(&pem_path)?;
            let key = KeyPair::from_pem(&read(&key_path)?)
                .with_context(|| format!("{} is not a key", key_path.display()))?;
            let issuer = Issuer::from_ca_cert_pem(&pem, key)
                .with_context(|| format!("{} is not a certificate", pem_path.display()))?;
            return Ok(Self { pem, issuer });
        }
        let authority = Self::generate()?;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&key_path)
            .and_then(|mut file| file.write_all(authority.issuer.key().serialize_pem().as_bytes()))
            .with_context(|| format!("cannot write {}", key_path.display()))?;
        fs::write(&pem_path, &authority.pem)
            .with_context(|| format!("cannot write {}", pem_path.display()))?;
        Ok(authority)
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    fn issue(&self, names: &[&str], days: Days) -> anyhow::Result<Arc<CertifiedKey>> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "kintone-sim");
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_validity(&mut params, &days)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Arc::new(CertifiedKey::new(
            vec![certificate.der().clone()],
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?,
        )))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// Validity of a certificate, in days from today.
struct Days {
    from: i64,
    until: i64,
}

/// Which certificate a handshake is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Good,
    WrongName,
    Expired,
    Untrusted,
    /// None: the handshake ends with a fatal alert.
    Nothing,
}

/// One TLS configuration for each certificate that may be shown.
pub(crate) struct Certificates {
    good: Arc<ServerConfig>,
    wrong_name: Arc<ServerConfig>,
    expired: Arc<ServerConfig>,
    untrusted: Arc<ServerConfig>,
    nothing: Arc<ServerConfig>,
}

impl Certificates {
    pub(crate) fn new(authority: &Authority) -> anyhow::Result<Self> {
        let valid = || Days {
            from: -1,
            until: 90,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = |key: Option<Arc<CertifiedKey>>| server_config(&provider, key);
        Ok(Self {
            good: config(Some(authority.issue(&NAMES, valid())?))?,
            wrong_name: config(Some(authority.issue(&["*.example.com"], valid())?))?,
            expired: config(Some(authority.issue(
                &NAMES,
                Days {
                    from: -90,
                    until: -2,
                },
            )?))?,
            untrusted: config(Some(
                Authority::named("Nobody's test CA")?.issue(&NAMES, valid())?,
            ))?,
            nothing: config(None)?,
        })
    }

    pub(crate) fn config(&self, shown: Shown) -> Arc<ServerConfig> {
        Arc::clone(match shown {
            Shown::Good => &self.good,
            Shown::WrongName => &self.wrong_name,
            Shown::Expired => &self.expired,
            Shown::Untrusted => &self.untrusted,
            Shown::Nothing => &self.nothing,
        })
    }
}

/// Shows the same certificate, or none, to whoever asks.
#[derive(Debug)]
struct Always(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    key: Option<Arc<CertifiedKey>>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The day so many days from today, as year, month and day (UTC).
fn day(days: i64) -> anyhow::Result<(i32, u8, u8)> {
    let day = Zoned::now()
        .with_time_zone(jiff::tz::TimeZone::UTC)
        .checked_add(days.days())?;
    Ok((
        i32::from(day.year()),
        u8::try_from(day.month())?,
        u8::try_from(day.day())?,
    ))
}

fn set_validity(params: &mut CertificateParams, days: &Days) -> anyhow::Result<()> {
    let (year, month, date) = day(days.from)?;
    params.not_before = rcgen::date_time_ymd(year, month, date);
    let (year, month, date) = day(days.until)?;
    params.not_after = rcgen::date_time_ymd(year, month, date);
    Ok(())
}
