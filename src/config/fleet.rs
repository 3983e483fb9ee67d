//! `[fleet]`: which host this is, and among which hosts the limits are shared.

use super::credential::secret_url;
use super::name;
use super::read::{Section, Value};
use super::shape::Fleet;
use super::source::shown;

/// Reads `[fleet]`. `environment_host` is `$KINTONE_EGRESS_HOST`, `host_name` the system's.
pub(super) fn read(
    root: &mut Section<'_>,
    environment_host: Option<&str>,
    host_name: &str,
) -> Fleet {
    let mut section = root.section("fleet");
    let configured = section.get("host").and_then(|value| name::host(&value));
    if let (Some(configured), Some(environment)) = (&configured, environment_host)
        && configured != environment
    {
        section.warn(
            "host",
            format!(
                "is {configured:?}, but $KINTONE_EGRESS_HOST is {}",
                shown(environment)
            ),
            "the file wins; leave it out where one file serves all hosts",
        );
    }
    let host = configured.unwrap_or_else(|| environment_host.unwrap_or(host_name).to_owned());
    let hosts = section.get("hosts").and_then(|value| hosts(&value));
    let redis = section.get("redis").and_then(|value| {
        secret_url(
            &value,
            &["redis", "rediss", "redis+sentinel", "rediss+sentinel"],
        )
    });
    if let Some(hosts) = &hosts
        && !hosts.contains(&host)
    {
        section.fault(
            "hosts",
            format!("lacks this host, {}", shown(&host)),
            "add it, or set `host` or $KINTONE_EGRESS_HOST to one of them",
        );
    }
    section.finish();
    Fleet {
        hosts: hosts.unwrap_or_else(|| vec![host.clone()]),
        host,
        redis,
    }
}

fn hosts(value: &Value<'_>) -> Option<Vec<String>> {
    let mut hosts: Vec<String> = Vec::new();
    for entry in value.list("host names")? {
        let Some(host) = name::host(&entry) else {
            continue;
        };
        if hosts.contains(&host) {
            entry.fault::<()>(format!("names {host:?} again"), "each host stands once");
        } else {
            hosts.push(host);
        }
    }
    if hosts.is_empty() {
        return value.fault(
            "is empty",
            "expected the names of all hosts, this one among them",
        );
    }
    Some(hosts)
}
