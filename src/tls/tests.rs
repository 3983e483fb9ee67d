//! The private authority: what it signs, when, and for whom.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::parse_x509_certificate;

use super::authority::Authority;
use super::create::{CaFiles, NewCa};
use crate::config::Config;
use crate::config::file::{Environment, parse};
use crate::model::Host;

const ZONES: [&str; 3] = ["cybozu.com", "kintone.com", "cybozu.cn"];
const DAY: Duration = Duration::from_secs(24 * 3600);

fn new_ca(zones: &[&str]) -> CaFiles {
    let ca = NewCa {
        name: "test CA".to_owned(),
        organization: Some("Example".to_owned()),
        zones: zones.iter().map(ToString::to_string).collect(),
        life: 365 * DAY,
    };
    ca.create(Timestamp::now()).unwrap()
}

fn config(ca: &CaFiles, more: &str) -> Config {
    let (certificate, key) = (&ca.certificate, ca.key.expose());
    let text = format!(
        "[[egress.address]]\npublished = \"18.177.83.94\"\n[callers]\nanonymous = true\n\
         [inspect]\nca_cert = '''{certificate}'''\nca_key = '''{key}'''\n\
         accounts = [\"*.cybozu.com\"]\ncallers = [\"*\"]\n{more}"
    );
    let environment = Environment {
        host_name: "gw-a".to_owned(),
        ..Environment::default()
    };
    let loaded = parse(&text, Path::new("/etc/gw.toml"), &environment);
    loaded.unwrap_or_else(|faults| panic!("{faults}")).config
}

fn authority(ca: &CaFiles) -> Arc<Authority> {
    Authority::of(&config(ca, ""), None).unwrap().unwrap()
}

fn host(name: &str) -> Host {
    Host::from_normal(name)
}

/// Shakes hands as a caller who trusts `ca` alone; what came of it: the protocol and the chain.
fn shake_hands(
    ca: &CaFiles,
    server: &Arc<ServerConfig>,
    name: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&str],
) -> Result<(Option<Vec<u8>>, Vec<CertificateDer<'static>>), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let mut bytes = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        bytes.clear();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut &bytes[..]).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut &bytes[..]).unwrap();
        client.process_new_packets()?;
    }
    let chain = client.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
    Ok((client.alpn_protocol().map(<[u8]>::to_vec), chain))
}

fn leaf_of(ca: &CaFiles, authority: &Authority, name: &str) -> CertificateDer<'static> {
    let server = authority.server_config(&host(name)).unwrap();
    let versions = &[&rustls::version::TLS13];
    let (_, mut chain) = shake_hands(ca, &server, name, versions, &[]).unwrap();
    chain.remove(0)
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    parse_x509_certificate(der).unwrap().1
}

#[test]
fn callers_of_both_versions_and_protocols_are_answered() {
    let ca = new_ca(&ZONES);
    let authority = authority(&ca);
    for name in [
        "acme.cybozu.com",
        "s.cybozu.com",
        "a-b.kintone.com",
        "x.cybozu.cn",
    ] {
        let server = authority.server_config(&host(name)).unwrap();
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            for (offered, chosen) in [
                (&["http/1.1", "h2"][..], Some("h2")),
                (&["http/1.1"], Some("http/1.1")),
                (&[], None),
            ] {
                let (protocol, chain) =
                    shake_hands(&ca, &server, name, &[version], offered).unwrap();
                assert_eq!(protocol.as_deref(), chosen.map(str::as_bytes), "{name}");
                assert_eq!(chain.len(), 1, "a root is not sent");
            }
        }
        let refused = shake_hands(&ca, &server, name, rustls::ALL_VERSIONS, &["spdy/3"]);
        assert!(refused.is_err(), "neither HTTP/2 nor HTTP/1.1");
    }
}

#[test]
fn hosts_outside_the_zones_and_those_that_ask_for_a_certificate_are_not_covered() {
    let authority = authority(&new_ca(&ZONES[..2]));
    for name in ["acme.cybozu.com", "s.cybozu.com", "acme.kintone.com"] {
        assert!(authority.covers(&host(name)), "{name}");
    }
    for name in [
        "acme.s.cybozu.com",
        "s.s.kintone.com",
        "acme.cybozu.cn",
        "acme.example.com",
        "cybozu.com",
        "com",
        "",
    ] {
        assert!(!authority.covers(&host(name)), "{name}");
        assert!(authority.server_config(&host(name)).is_none(), "{name}");
    }
}

#[test]
fn a_leaf_says_all_that_strict_clients_ask_for_and_no_more() {
    let ca = new_ca(&ZONES);
    let der = leaf_of(&ca, &authority(&ca), "acme.cybozu.com");
    let leaf = parsed(&der);
    let root = CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap();
    let root = parsed(&root);
    leaf.verify_signature(Some(root.public_key())).unwrap();
    assert_eq!(leaf.issuer().as_raw(), root.subject().as_raw());
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature());
    assert_eq!(usage.value.flags, 1, "and nothing else");
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && !purposes.client_auth && !purposes.any);
    let basic = leaf.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && !basic.value.ca);
    let names = &leaf
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(names[..], [GeneralName::DNSName("*.cybozu.com")]);
    let key_identifier = |certificate: &X509Certificate<'_>| {
        let mut extensions = certificate.iter_extensions();
        let found = extensions.find_map(|extension| {
            if let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() {
                Some(id.0.to_vec())
            } else {
                None
            }
        });
        found.unwrap()
    };
    let issuer = leaf.iter_extensions().find_map(|extension| {
        if let ParsedExtension::AuthorityKeyIdentifier(id) = extension.parsed_extension() {
            id.key_identifier.as_ref()
        } else {
            None
        }
    });
    assert_eq!(issuer.unwrap().0, key_identifier(&root));
    assert_ne!(key_identifier(&leaf), key_identifier(&root));
    let serial = leaf.raw_serial();
    assert!(
        (9..=20).contains(&serial.len()) && serial[0] & 0x80 == 0,
        "{serial:?}"
    );
    let now = Timestamp::now().as_second();
    let validity = leaf.validity();
    let before = now - validity.not_before.timestamp();
    let after = validity.not_after.timestamp() - now;
    assert!((3600..3700).contains(&before), "{before} s: clocks differ");
    assert!((48 * 3600 - 100..=48 * 3600).contains(&after), "{after} s");
}

#[test]
fn an_authority_signs_for_its_zones_only() {
    let ca = new_ca(&["cybozu.com"]);
    let root = CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap();
    let root = parsed(&root);
    let constraints = root.name_constraints().unwrap().unwrap();
    assert!(constraints.critical);
    let permitted = constraints.value.permitted_subtrees.as_ref().unwrap();
    assert_eq!(permitted.len(), 1);
    assert_eq!(permitted[0].base, GeneralName::DNSName("cybozu.com"));
    let excluded = constraints.value.excluded_subtrees.as_ref().unwrap();
    let excluded: Vec<_> = excluded
        .iter()
        .map(|subtree| subtree.base.clone())
        .collect();
    assert_eq!(
        excluded,
        [
            GeneralName::IPAddress(&[0; 8]),
            GeneralName::IPAddress(&[0; 32])
        ]
    );
    let basic = root.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && basic.value.ca);
    assert_eq!(basic.value.path_len_constraint, Some(0));
    let usage = root.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && !usage.digital_signature());
    assert!(root.subject().to_string().contains("CN=test CA"));
}

#[test]
fn a_certificate_is_kept_for_half_of_its_life_and_then_replaced_once() {
    let ca = new_ca(&ZONES);
    let authority = authority(&ca);
    let acme = host("acme.cybozu.com");
    let now = Timestamp::now();
    let at = |hours: i64| {
        let moment = now + SignedDuration::from_hours(hours);
        authority.server_config_at(&acme, moment).unwrap()
    };
    let first = at(0);
    assert!(Arc::ptr_eq(&first, &at(0)));
    let other = host("other.cybozu.com");
    assert!(
        Arc::ptr_eq(&first, &authority.server_config_at(&other, now).unwrap()),
        "one for the zone"
    );
    assert!(Arc::ptr_eq(&first, &at(23)), "half of 48 h is not over");
    let second = at(25);
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&second, &at(26)));
    let third = at(1000);
    assert!(
        !Arc::ptr_eq(&second, &third),
        "the old one has ended, unused"
    );
    let fourth = at(0);
    assert!(!Arc::ptr_eq(&third, &fourth), "a clock that was set back");
    assert!(Arc::ptr_eq(&fourth, &at(1)));
}

#[test]
fn many_who_come_at_a_renewal_get_one_new_certificate() {
    let ca = new_ca(&ZONES);
    let authority = authority(&ca);
    let acme = host("acme.cybozu.com");
    // After the end of the first one nobody can go on with it.
    let later = Timestamp::now() + SignedDuration::from_hours(100);
    let ready = std::sync::Barrier::new(8);
    let given: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    ready.wait();
                    authority.server_config_at(&acme, later).unwrap()
                })
            })
            .collect();
        asking
            .into_iter()
            .map(|asker| asker.join().unwrap())
            .collect()
    });
    assert!(given.iter().all(|server| Arc::ptr_eq(server, &given[0])));
}

#[test]
fn no_leaf_outlives_its_authority() {
    let ca = NewCa {
        name: "short".to_owned(),
        organization: None,
        zones: vec!["cybozu.com".to_owned()],
        life: Duration::from_secs(7200),
    };
    let ca = ca.create(Timestamp::now()).unwrap();
    let der = leaf_of(&ca, &authority(&ca), "acme.cybozu.com");
    let root = CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap();
    let end = |der| parsed(der).validity().not_after.timestamp();
    assert_eq!(end(&der), end(&root));
}

#[test]
fn a_reload_makes_a_new_authority_only_for_a_new_ca() {
    let ca = new_ca(&ZONES);
    let before = authority(&ca);
    let again = |config: &Config| Authority::of(config, Some(&before)).unwrap();
    let same = config(&ca, "[quota]\nconcurrency = 7\n");
    assert!(Arc::ptr_eq(&again(&same).unwrap(), &before));
    let changed = [
        config(&ca, "leaf_life = \"24h\"\n"),
        config(&new_ca(&ZONES), ""),
        config(&ca, "[upstream]\nzones = [\"cybozu.com\"]\n"),
    ];
    for changed in &changed {
        assert!(!Arc::ptr_eq(&again(changed).unwrap(), &before));
    }
    let off = Config {
        inspect: None,
        ..same
    };
    assert!(again(&off).is_none());
}

#[test]
fn an_intermediate_is_sent_along_and_the_root_is_not() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let authority_of = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.use_authority_key_identifier_extension = true;
        params
    };
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = authority_of("root").self_signed(&root_key).unwrap();
    let issuer = Issuer::new(authority_of("root"), root_key);
    let between = authority_of("between").signed_by(&key, &issuer).unwrap();
    let company = |certificate: String| CaFiles {
        certificate,
        key: crate::config::Secret::new(key.serialize_pem()),
    };
    let both = company(between.pem() + &root.pem());
    let server = authority(&both)
        .server_config(&host("acme.cybozu.com"))
        .unwrap();
    let (_, chain) = shake_hands(
        &company(root.pem()),
        &server,
        "acme.cybozu.com",
        rustls::ALL_VERSIONS,
        &[],
    )
    .unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(&chain[1], between.der());
}

#[test]
fn the_authoritys_limits_hold_against_its_own_key() {
    // Whoever has the key signs for another site: callers refuse it.
    let ca = new_ca(&ZONES);
    let key = rcgen::KeyPair::from_pem(ca.key.expose()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca.certificate, key).unwrap();
    let own = rcgen::KeyPair::generate().unwrap();
    let root = CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
    for (name, accepted) in [
        ("acme.cybozu.com", true),
        ("www.example.com", false),
        ("evilcybozu.com", false),
        ("127.0.0.1", false),
    ] {
        let leaf = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&own, &issuer).unwrap();
        let verified = rustls::client::danger::ServerCertVerifier::verify_server_cert(
            &*verifier,
            leaf.der(),
            &[],
            &name.to_owned().try_into().unwrap(),
            &[],
            UnixTime::now(),
        );
        assert_eq!(verified.is_ok(), accepted, "{name}: {verified:?}");
    }
}
