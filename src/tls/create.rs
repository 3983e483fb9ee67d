//! A new private authority that can sign for kintone's zones and for nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
};

use super::leaf::{CLOCK_SKEW, MintError, random_serial, set_validity};
use crate::config::Secret;

/// What a new authority is to be.
#[derive(Debug, Clone)]
pub struct NewCa {
    /// Its common name, which people see in lists of authorities.
    pub name: String,
    /// Whose it is.
    pub organization: Option<String>,
    /// The zones below which it may sign.
    pub zones: Vec<String>,
    /// How long it holds.
    pub life: Duration,
}

/// An authority that was made.
#[derive(Debug)]
pub struct CaFiles {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PKCS#8 in PEM.
    pub key: Secret,
}

impl NewCa {
    /// Makes it: ECDSA P-256, self-signed, for TLS servers below its zones only (critical name
    /// constraints, no IP addresses), without authorities below it.
    ///
    /// # Errors
    /// [`MintError`], such as for a name or zone that a certificate cannot hold.
    pub fn create(&self, now: Timestamp) -> Result<CaFiles, MintError> {
        let key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.serial_number = Some(random_serial()?.into());
        ca.distinguished_name = DistinguishedName::new();
        if let Some(organization) = &self.organization {
            ca.distinguished_name
                .push(DnType::OrganizationName, organization.as_str());
        }
        ca.distinguished_name
            .push(DnType::CommonName, self.name.as_str());
        let begin = now.saturating_sub(CLOCK_SKEW).unwrap_or(now);
        let life = SignedDuration::try_from(self.life).unwrap_or(SignedDuration::MAX);
        let end = now.saturating_add(life).unwrap_or(Timestamp::MAX);
        set_validity(&mut ca, begin, end);
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        ca.name_constraints = Some(self.constraints());
        Ok(CaFiles {
            certificate: ca.self_signed(&key)?.pem(),
            key: Secret::new(key.serialize_pem()),
        })
    }

    /// A constraint on DNS names leaves IP addresses free (RFC 5280 section 4.2.1.10), so those are
    /// excluded as well.
    fn constraints(&self) -> NameConstraints {
        let zones = self.zones.iter().cloned();
        let every = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        let every =
            every.map(|any| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(any, 0)));
        NameConstraints {
            permitted_subtrees: zones.map(GeneralSubtree::DnsName).collect(),
            excluded_subtrees: every.to_vec(),
        }
    }
}
