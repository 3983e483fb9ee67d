use std::net::Ipv4Addr;

use std::time::Duration;

use super::*;
use crate::model::{Account, Published, Tenant};
use crate::notify::matter::Matter;

const SECOND: Duration = Duration::from_secs(1);
const BEGINS_AFTER: Duration = Duration::from_mins(1);
const ENDS_AFTER: Duration = Duration::from_mins(5);

fn nothing_wrong() -> Episodes {
    Episodes::new(EpisodeTerms {
        subjects_max: 10,
        ..EpisodeTerms::default()
    })
}

/// So long after a moment.
fn after(moment: Moment, time: Duration) -> Moment {
    Moment {
        instant: moment.instant + time,
        wall: moment.wall + time,
    }
}

fn subject(account: &str) -> Subject {
    Subject {
        account: Some(Account::from_normal(account)),
        matter: Matter::AddressRefused(Published(Ipv4Addr::new(18, 177, 83, 94))),
    }
}

fn acme() -> Subject {
    subject("acme.cybozu.com")
}

/// Episodes with one of acme open, the time it was first seen, and the time it was told.
fn open() -> (Episodes, Moment, Moment) {
    let mut episodes = nothing_wrong();
    let begin = Moment::now();
    let told = after(begin, BEGINS_AFTER);
    for at in [begin, after(begin, SECOND)] {
        assert_eq!(episodes.hear(acme(), Sign::Failure, at), None);
    }
    let turn = episodes.hear(acme(), Sign::Failure, told);
    let subject = acme();
    assert_eq!(
        turn,
        Some(Turn::Begins {
            subject,
            since: begin
        })
    );
    (episodes, begin, told)
}

#[test]
fn ten_thousand_failures_are_one_beginning_and_one_end() {
    let mut episodes = nothing_wrong();
    let begin = Moment::now();
    let mut now = begin;
    let mut begun = Vec::new();
    for _ in 0..10_000 {
        begun.extend(episodes.hear(acme(), Sign::Failure, now));
        assert_eq!(episodes.end(now), []);
        now = after(now, SECOND / 10);
    }
    assert_eq!(begun.len(), 1);

    let well = now;
    let mut ended = Vec::new();
    for _ in 0..10_000 {
        assert_eq!(episodes.hear(acme(), Sign::Success, now), None);
        ended.extend(episodes.end(now));
        now = after(now, SECOND / 10);
    }
    let end = Turn::Ends {
        subject: acme(),
        since: begin,
        well_since: well,
    };
    assert_eq!(ended, [end]);
}

#[test]
fn neither_many_failures_at_once_nor_two_over_long_are_an_episode() {
    let mut episodes = nothing_wrong();
    let begin = Moment::now();
    let almost = BEGINS_AFTER.checked_sub(SECOND).unwrap();
    for _ in 0..100 {
        assert_eq!(
            episodes.hear(acme(), Sign::Failure, after(begin, almost)),
            None
        );
    }
    let mut episodes = nothing_wrong();
    for at in [begin, after(begin, 10 * BEGINS_AFTER)] {
        assert_eq!(episodes.hear(acme(), Sign::Failure, at), None);
    }
}

#[test]
fn a_success_before_the_beginning_starts_over() {
    let mut episodes = nothing_wrong();
    let begin = Moment::now();
    episodes.hear(acme(), Sign::Failure, begin);
    episodes.hear(acme(), Sign::Failure, after(begin, SECOND));
    episodes.hear(acme(), Sign::Success, after(begin, 2 * SECOND));
    let again = after(begin, BEGINS_AFTER);
    for at in [again, after(again, SECOND), after(again, 2 * SECOND)] {
        assert_eq!(episodes.hear(acme(), Sign::Failure, at), None);
    }
}

#[test]
fn a_failure_among_successes_puts_the_end_off() {
    let (mut episodes, begin, told) = open();
    episodes.hear(acme(), Sign::Success, told);
    episodes.hear(acme(), Sign::Failure, after(told, 4 * BEGINS_AFTER));
    assert_eq!(episodes.end(after(told, ENDS_AFTER)), []);
    let well_since = after(told, ENDS_AFTER);
    episodes.hear(acme(), Sign::Success, well_since);
    assert_eq!(
        episodes.end(after(well_since, ENDS_AFTER.saturating_sub(SECOND))),
        []
    );
    let ended = episodes.end(after(well_since, ENDS_AFTER));
    let subject = acme();
    assert_eq!(
        ended,
        [Turn::Ends {
            subject,
            since: begin,
            well_since
        }]
    );
    assert_eq!(episodes.end(after(well_since, 2 * ENDS_AFTER)), []);
}

#[test]
fn silence_is_no_success() {
    let (mut episodes, _, told) = open();
    assert_eq!(episodes.end(after(told, 1000 * ENDS_AFTER)), []);
}

#[test]
fn of_too_many_subjects_the_longest_silent_suspected_one_goes_and_never_an_open_one() {
    let (mut episodes, _, told) = open();
    episodes.terms.subjects_max = 2;
    for (second, name) in (0..).zip(["a.cybozu.com", "b.cybozu.com"]) {
        episodes.hear(subject(name), Sign::Failure, after(told, second * SECOND));
    }
    assert!(episodes.subjects.contains_key(&acme()));
    assert!(episodes.subjects.contains_key(&subject("b.cybozu.com")));
    assert_eq!((episodes.subjects.len(), episodes.left_out()), (2, 0));

    episodes.terms.subjects_max = 1;
    episodes.subjects.remove(&subject("b.cybozu.com"));
    episodes.hear(subject("c.cybozu.com"), Sign::Failure, told);
    assert_eq!((episodes.subjects.len(), episodes.left_out()), (1, 1));
}

#[test]
fn what_one_address_or_tenant_meets_is_nothing_to_another() {
    let (mut episodes, _, told) = open();
    let of = |tenant: &str| Subject {
        matter: Matter::CredentialsRefused(Tenant::parse(tenant).ok()),
        ..acme()
    };
    for tenant in ["one", "two"] {
        assert_eq!(episodes.hear(of(tenant), Sign::Failure, told), None);
    }
    episodes.hear(of("one"), Sign::Success, told);
    assert_eq!(episodes.end(after(told, ENDS_AFTER)), []);
    assert_eq!(episodes.subjects.len(), 2);
}
