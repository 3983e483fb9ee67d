//! `[quota]`, and the same keys in `[account."DOMAIN"]`.

use std::time::Duration;

use super::caller::WAIT_MAX;
use super::grant::{DailyPolicy, QuotaSettings};
use super::read::Section;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Largest count of calls.
const CALLS_MAX: u64 = 1_000_000;

/// Largest budget of calls a day.
const CALLS_A_DAY_MAX: u64 = 1_000_000_000;

/// Reads the keys of `[quota]` from `section`; what it does not set is `base`'s. `hosts` is how
/// many share it.
pub(super) fn read(section: &mut Section<'_>, base: &QuotaSettings, hosts: usize) -> QuotaSettings {
    let policies = [
        ("warn", DailyPolicy::Warn),
        ("enforce", DailyPolicy::Enforce),
    ];
    let mut quota = QuotaSettings {
        concurrency: section.or("concurrency", base.concurrency, |v| v.integer(1..=100_000)),
        headroom: section.or("headroom", base.headroom, |v| v.integer(0..=100_000)),
        interactive_reserve: section.or("interactive_reserve", base.interactive_reserve, |v| {
            v.integer(0..=100_000)
        }),
        rate: section.or("rate", base.rate, |v| v.number(1_000_000.0)),
        burst: section.or("burst", base.burst, |v| v.integer(1..=CALLS_MAX)),
        queue: section.or("queue", base.queue, |v| v.integer(0..=CALLS_MAX)),
        max_wait: section.or("max_wait", base.max_wait, |v| {
            v.duration(Duration::ZERO..=WAIT_MAX)
        }),
        settle: section.or("settle", base.settle, |v| v.duration(MS..=HOUR)),
        daily_per_app: section.or("daily_per_app", base.daily_per_app, |v| {
            v.integer(1..=CALLS_A_DAY_MAX)
        }),
        daily_policy: section.or("daily_policy", base.daily_policy, |v| v.word(&policies)),
        tunnel_idle: section.or("tunnel_idle", base.tunnel_idle, |v| {
            v.duration(MS..=24 * HOUR)
        }),
        tunnel_yield: section.or("tunnel_yield", base.tunnel_yield, |v| {
            v.duration(Duration::ZERO..=24 * HOUR)
        }),
        tunnel_life: section.or("tunnel_life", base.tunnel_life, |v| {
            v.duration(MS..=7 * 24 * HOUR)
        }),
        tunnel_h2_weight: section.or("tunnel_h2_weight", base.tunnel_h2_weight, |v| {
            v.integer(0..=100_000)
        }),
    };
    check(section, &mut quota, hosts);
    quota
}

/// What we may use of an account's limit at most: the limit less what is left to others, at least 1.
pub(super) fn ours(quota: &QuotaSettings) -> u32 {
    quota.concurrency.saturating_sub(quota.headroom).max(1)
}

fn check(section: &mut Section<'_>, quota: &mut QuotaSettings, hosts: usize) {
    let is_set = |section: &mut Section<'_>, keys: &[&'static str]| {
        keys.iter().any(|key| section.get(key).is_some())
    };
    let ours = ours(quota);
    let reserve_max = ours / 2;
    if quota.interactive_reserve > reserve_max {
        if is_set(section, &["interactive_reserve"]) {
            section.warn(
                "interactive_reserve",
                format!(
                    "is {}, more than half of our {ours} permits",
                    quota.interactive_reserve
                ),
                format!("{reserve_max} is used"),
            );
        }
        quota.interactive_reserve = reserve_max;
    }
    let limit_key = match is_set(section, &["headroom"]) {
        true => "headroom",
        false => "concurrency",
    };
    let is_limit_set = is_set(section, &["concurrency", "headroom"]);
    if is_limit_set && quota.headroom >= quota.concurrency {
        section.warn(
            limit_key,
            format!(
                "headroom {} leaves nothing of concurrency {}",
                quota.headroom, quota.concurrency
            ),
            "1 permit is used; expected headroom below concurrency",
        );
    }
    if is_limit_set && u32::try_from(hosts).is_ok_and(|hosts| ours < hosts) {
        section.warn(
            limit_key,
            format!(
                "the part of each of {hosts} hosts in {ours} permits is 0: only the first host's calls \
                 can pass"
            ),
            format!("expected concurrency of at least headroom + {hosts}"),
        );
    }
    if is_set(section, &["tunnel_h2_weight"]) && quota.tunnel_h2_weight > ours {
        section.warn(
            "tunnel_h2_weight",
            format!(
                "is {}, more than our {ours} permits: such a tunnel takes them all",
                quota.tunnel_h2_weight
            ),
            "expected less, or 0 to refuse h2 at once",
        );
    }
    let is_yield_set = is_set(section, &["tunnel_yield", "tunnel_idle"]);
    if is_yield_set && quota.tunnel_yield > quota.tunnel_idle {
        section.warn(
            "tunnel_yield",
            "is longer than tunnel_idle, so it has no effect",
            "expected less, or \"0s\" for never",
        );
    }
    if quota.rate > 0.0 && quota.rate < 0.001 {
        section.fault(
            "rate",
            format!("is {}", quota.rate),
            "allowed is 0 (none) or at least 0.001 a second",
        );
    }
}
