//! The small tables: `[limits]`, `[admin]`, `[state]`, `[log]`, `[drain]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::credential::secret;
use super::read::{Section, Value};
use super::secret::Secret;
use super::shape::{AccessLog, Admin, Drain, Limits, Log};
use super::source::shown;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Smallest `head_size`, in bytes: the HTTP parser's own.
const HEAD_SIZE_MIN: u64 = 8 << 10;
const HEAD_SIZE_MAX: u64 = 1 << 20;

/// Shorter tokens can be guessed, in characters.
const ADMIN_TOKEN_LENGTH_MIN: usize = 16;

/// Reads `[limits]`.
pub(super) fn limits(root: &mut Section<'_>) -> Limits {
    let mut section = root.section("limits");
    let default = Limits::default();
    let time = |value: &Value<'_>| value.duration(MS..=HOUR);
    let count = |value: &Value<'_>| value.integer(1..=1_000_000);
    let limits = Limits {
        connections: section.or("connections", default.connections, count),
        connections_per_network_address: section.or(
            "connections_per_network_address",
            default.connections_per_network_address,
            count,
        ),
        head_size: section.or("head_size", default.head_size, |value| {
            value.size(HEAD_SIZE_MIN..=HEAD_SIZE_MAX)
        }),
        head_timeout: section.or("head_timeout", default.head_timeout, time),
        handshake_timeout: section.or("handshake_timeout", default.handshake_timeout, time),
        caller_idle: section.or("caller_idle", default.caller_idle, time),
        stall_timeout: section.or("stall_timeout", default.stall_timeout, time),
        h2_streams: section.or("h2_streams", default.h2_streams, |value| {
            value.integer(1..=1000)
        }),
        account_series: section.or("account_series", default.account_series, |value| {
            value.integer(0..=100_000)
        }),
    };
    section.finish();
    limits
}

/// Reads `[admin]`.
pub(super) fn admin(root: &mut Section<'_>) -> Admin {
    let mut section = root.section("admin");
    let token = section.get("token").and_then(|value| admin_token(&value));
    section.finish();
    Admin { token }
}

fn admin_token(value: &Value<'_>) -> Option<Secret> {
    let token = secret(value)?;
    let text = token.expose();
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return value.fault(
            "has characters that a header cannot carry",
            "expected visible ASCII without spaces, such as `kintone-egress hash-token --generate` makes",
        );
    }
    if text.len() < ADMIN_TOKEN_LENGTH_MIN {
        value.warn(
            format!("is shorter than {ADMIN_TOKEN_LENGTH_MIN} characters"),
            "make one with `kintone-egress hash-token --generate`",
        );
    }
    Some(token)
}

/// Reads `[state]`; `default` is where the state lives when the file does not say.
pub(super) fn state_dir(root: &mut Section<'_>, default: &Path) -> PathBuf {
    let mut section = root.section("state");
    let dir = section.or("dir", default.to_owned(), Value::path);
    section.finish();
    dir
}

/// Reads `[log]`.
pub(super) fn log(root: &mut Section<'_>) -> Log {
    let mut section = root.section("log");
    let level = section.or("level", "info".to_owned(), level);
    let access = section.or("access", AccessLog::Stdout, access);
    section.finish();
    Log { level, access }
}

/// Filter directives. A word that is no level would be taken for a module's name, and nothing
/// would be logged; so bare words must be levels.
fn level(value: &Value<'_>) -> Option<String> {
    const LEVEL: &str =
        "off, error, warn, info, debug or trace, or such as \"info,kintone_egress=debug\"";
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = value.text(LEVEL)?;
    let is_meant = |directive: &str| directive.contains('=') || LEVELS.contains(&directive.trim());
    if text.split(',').all(is_meant) && EnvFilter::builder().parse(text).is_ok() {
        Some(text.to_owned())
    } else {
        value.fault(format!("is {}", shown(text)), format!("expected {LEVEL}"))
    }
}

fn access(value: &Value<'_>) -> Option<AccessLog> {
    const ACCESS: &str = "\"stdout\", \"off\" or the path of a file";
    match value.text(ACCESS)? {
        "stdout" => Some(AccessLog::Stdout),
        "off" => Some(AccessLog::Off),
        text if ["stdout", "stderr", "off", "none", "-"]
            .contains(&text.to_lowercase().as_str()) =>
        {
            value.fault(
                format!("is {text:?}"),
                format!("expected {ACCESS}; a file of that name is \"./{text}\""),
            )
        }
        _ => value.path().map(AccessLog::File),
    }
}

/// Reads `[drain]`.
pub(super) fn drain(root: &mut Section<'_>) -> Drain {
    let mut section = root.section("drain");
    let time = |value: &Value<'_>| value.duration(Duration::ZERO..=HOUR);
    let drain = Drain {
        announce: section.or("announce", 5 * SECOND, time),
        grace: section.or("grace", 30 * SECOND, time),
    };
    section.finish();
    drain
}
