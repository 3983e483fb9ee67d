//! What a call that ended shows of each matter. Pure.

use smallvec::SmallVec;

use super::episode::Sign;
use super::matter::{Matter, Subject};
use crate::kintone::answer::Edge;
use crate::model::{Account, Cause, Code, Mode, Outcome, Published, Tenant};

/// A call that ended, as far as people are told of such.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whose kintone.
    pub account: Account,
    /// For whom.
    pub tenant: Option<Tenant>,
    /// By which way in.
    pub mode: Mode,
    /// The published address that it left from.
    pub address: Option<Published>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why kintone failed it.
    pub cause: Option<Cause>,
    /// Whether it waited for a permit.
    pub waited: Waited,
    /// Whose it was.
    pub sender: Sender,
}

/// Who has sent a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A caller.
    Caller,
    /// The gateway, to learn whether an account takes an address, without credentials; or a caller, of
    /// whose try nothing else is meant.
    Probe,
}

/// Whether a call waited for a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It did.
    Yes,
    /// It was admitted at once.
    No,
}

/// What a call showed.
pub type Signs = SmallVec<[(Subject, Sign); 12]>;

/// Failures of these kinds are told to operators, and concern every account.
const OF_THIS_HOST: [Code; 4] = [
    Code::EgressUnavailable,
    Code::Overloaded,
    Code::Internal,
    Code::UpstreamDns,
];

/// Failures of these kinds are told to operators, account by account.
const OF_AN_ACCOUNT: [Code; 5] = [
    Code::RateLimited,
    Code::UpstreamConnect,
    Code::UpstreamTls,
    Code::UpstreamTimeout,
    Code::UpstreamReset,
];

impl Seen {
    /// What an answer shows of which nothing is meant but whether the account takes the address.
    #[must_use]
    pub const fn probed(account: Account, address: Published, said: Edge) -> Self {
        Self {
            account,
            tenant: None,
            mode: Mode::Forward,
            address: Some(address),
            outcome: Outcome::KintoneError,
            // kintone itself asks for credentials, its edge does not.
            cause: Some(match said {
                Edge::LetIn => Cause::Authentication,
                Edge::TurnedAway => Cause::IpNotAllowlisted,
            }),
            waited: Waited::No,
            sender: Sender::Probe,
        }
    }

    /// The failure that it is; `None` if it is none that people are told of.
    #[must_use]
    pub fn failure(&self) -> Option<Subject> {
        let tenant = || self.tenant.clone();
        let matter = match (self.outcome, self.cause) {
            (Outcome::Refused(Code::AccountUnknown), _)
            | (Outcome::KintoneError, Some(Cause::AccountUnknown)) => {
                Matter::AccountUnknown(tenant())
            }
            (Outcome::Refused(Code::QueueFull | Code::WaitExceeded), _) => {
                Matter::LimitFull(tenant())
            }
            (Outcome::Refused(Code::AccountMaintenance), _)
            | (Outcome::KintoneError, Some(Cause::Maintenance)) => Matter::Maintenance,
            (Outcome::KintoneError, Some(Cause::IpNotAllowlisted)) => {
                Matter::AddressRefused(self.address?)
            }
            (Outcome::KintoneError, Some(Cause::Authentication))
                if self.sender == Sender::Caller =>
            {
                Matter::CredentialsRefused(tenant())
            }
            (Outcome::Refused(code), _) if OF_AN_ACCOUNT.contains(&code) => Matter::Broken(code),
            (Outcome::Refused(code), _) if OF_THIS_HOST.contains(&code) => {
                return Some(Subject {
                    account: None,
                    matter: Matter::Broken(code),
                });
            }
            _ => return None,
        };
        Some(self.of_its_account(matter))
    }

    /// All that it shows: at most one failure, and what it proves to be well.
    #[must_use]
    pub fn signs(&self) -> Signs {
        let mut signs = Signs::new();
        let mut well = |subject| signs.push((subject, Sign::Success));
        if self.is_answered() {
            for code in OF_THIS_HOST {
                well(Subject {
                    account: None,
                    matter: Matter::Broken(code),
                });
            }
            for code in OF_AN_ACCOUNT {
                well(self.of_its_account(Matter::Broken(code)));
            }
        }
        let is_a_callers = self.sender == Sender::Caller;
        if is_a_callers && self.is_answered() && self.waited == Waited::No {
            well(self.of_its_account(Matter::LimitFull(self.tenant.clone())));
        }
        if self.is_kintones_own() {
            well(self.of_its_account(Matter::Maintenance));
            well(self.of_its_account(Matter::AccountUnknown(self.tenant.clone())));
            if let Some(address) = self.address {
                well(self.of_its_account(Matter::AddressRefused(address)));
                well(Subject {
                    account: None,
                    matter: Matter::AddressWrong(address),
                });
            }
            let knows_credentials = !matches!(
                self.cause,
                Some(Cause::Authentication | Cause::AccountConcurrency)
            );
            if is_a_callers && knows_credentials {
                let matter = Matter::CredentialsRefused(self.tenant.clone());
                well(self.of_its_account(matter));
            }
        }
        if let Some(subject) = self.failure() {
            signs.push((subject, Sign::Failure));
        }
        signs
    }

    fn of_its_account(&self, matter: Matter) -> Subject {
        Subject {
            account: Some(self.account.clone()),
            matter,
        }
    }

    /// Whether something at kintone or before it answered.
    const fn is_answered(&self) -> bool {
        matches!(self.outcome, Outcome::Ok | Outcome::KintoneError)
    }

    /// Whether kintone itself answered: what stands before it knows neither credentials nor apps. Of
    /// a tunnel that is not known.
    const fn is_kintones_own(&self) -> bool {
        match (self.mode, self.outcome, self.cause) {
            (Mode::Tunnel, ..) => false,
            (_, Outcome::Ok, _) => true,
            (_, Outcome::KintoneError, Some(cause)) => !matches!(
                cause,
                Cause::IpNotAllowlisted
                    | Cause::AccountUnknown
                    | Cause::Maintenance
                    | Cause::UpstreamError
                    | Cause::Unclassified
            ),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(outcome: Outcome, cause: Option<Cause>) -> Seen {
        Seen {
            account: Account::from_normal("acme.cybozu.com"),
            tenant: Tenant::parse("one").ok(),
            mode: Mode::Forward,
            address: Some(Published([192, 0, 2, 1].into())),
            outcome,
            cause,
            waited: Waited::No,
            sender: Sender::Caller,
        }
    }

    fn well(seen: &Seen) -> Vec<&'static str> {
        let signs = seen.signs();
        let well = signs.iter().filter(|(_, sign)| *sign == Sign::Success);
        well.map(|(subject, _)| subject.matter.cause()).collect()
    }

    #[test]
    fn wrong_credentials_prove_that_the_address_is_let_in_and_nothing_of_credentials() {
        let wrong = seen(Outcome::KintoneError, Some(Cause::Authentication));
        let failure = wrong.failure().unwrap();
        assert_eq!(failure.matter.cause(), "authentication");
        let well = well(&wrong);
        assert!(well.contains(&"ip-not-allowlisted"), "{well:?}");
        assert!(!well.contains(&"authentication"), "{well:?}");
    }

    #[test]
    fn what_stands_before_kintone_proves_nothing_of_it() {
        for cause in [
            Cause::IpNotAllowlisted,
            Cause::AccountUnknown,
            Cause::Maintenance,
            Cause::UpstreamError,
            Cause::Unclassified,
        ] {
            let well = well(&seen(Outcome::KintoneError, Some(cause)));
            for of_kintone in ["ip-not-allowlisted", "authentication", "account-unknown"] {
                assert!(!well.contains(&of_kintone), "{cause:?}: {well:?}");
            }
        }
        let tunnel = Seen {
            mode: Mode::Tunnel,
            ..seen(Outcome::Ok, None)
        };
        assert!(!well(&tunnel).contains(&"ip-not-allowlisted"));
    }

    #[test]
    fn a_probe_tells_of_the_address_and_of_nothing_that_only_callers_meet() {
        let account = Account::from_normal("acme.cybozu.com");
        let address = Published([192, 0, 2, 1].into());
        let refused = Seen::probed(account.clone(), address, Edge::TurnedAway);
        let failure = refused.failure().unwrap();
        assert_eq!(failure.matter.cause(), "ip-not-allowlisted");
        let let_in = Seen::probed(account, address, Edge::LetIn);
        assert_eq!(let_in.failure(), None);
        let well = well(&let_in);
        assert!(well.contains(&"ip-not-allowlisted"), "{well:?}");
        for of_callers in ["authentication", "limit-full"] {
            assert!(!well.contains(&of_callers), "{well:?}");
        }
    }

    #[test]
    fn a_call_that_waited_does_not_prove_that_there_is_room() {
        let waited = Seen {
            waited: Waited::Yes,
            ..seen(Outcome::Ok, None)
        };
        assert!(!well(&waited).contains(&"limit-full"));
        assert!(well(&seen(Outcome::Ok, None)).contains(&"limit-full"));
    }

    #[test]
    fn faults_of_callers_are_told_to_nobody() {
        for code in [
            Code::BadRequest,
            Code::Misdirected,
            Code::AuthenticationRequired,
            Code::DestinationForbidden,
            Code::CallerForbidden,
            Code::Draining,
        ] {
            assert_eq!(seen(Outcome::Refused(code), None).failure(), None);
        }
    }

    #[test]
    fn codes_of_our_own_concern_no_customer_but_for_a_full_limit_and_an_unknown_account() {
        for code in Code::ALL {
            let Some(subject) = seen(Outcome::Refused(code), None).failure() else {
                continue;
            };
            let expected = matches!(
                code,
                Code::QueueFull | Code::WaitExceeded | Code::AccountUnknown
            );
            assert_eq!(subject.matter.concerns_customers(), expected, "{code:?}");
        }
    }
}
