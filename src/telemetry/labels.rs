//! The closed sets of words that only metrics use.

use crate::model::Detail;

macro_rules! words {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }
        impl $type {
            /// Every one there is, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word used in metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words!(
    /// Why a call was sent to kintone again.
    Retry {
        /// kintone refused it at admission (`GAIA_TO04`), and the wait allowed another try.
        AccountConcurrency = "account_concurrency",
        /// A connection of the pool had been closed before anything was sent on it.
        StaleConnection = "stale_connection",
        /// The loan of permits on which it would have gone had ended before its first byte.
        LoanEnded = "loan_ended",
        /// kintone's edge refused the address that it came from; it left from another one.
        AddressRefused = "address_refused",
        /// The connection broke after sending; an effective GET, which is safe to repeat.
        Reset = "reset",
    }
);

words!(
    /// What ran out, or was not done in time, because a caller asked too much of this host.
    LimitName {
        /// `[limits] connections`.
        Connections = "connections",
        /// `[limits] connections_per_network_address`.
        ConnectionsPerAddress = "connections_per_network_address",
        /// `[limits] head_size`.
        HeadSize = "head_size",
        /// `[limits] head_timeout`.
        HeadTimeout = "head_timeout",
        /// `[limits] handshake_timeout`.
        HandshakeTimeout = "handshake_timeout",
        /// `[limits] caller_idle`.
        CallerIdle = "caller_idle",
        /// `[limits] stall_timeout`.
        StallTimeout = "stall_timeout",
        /// `[upstream] pool_per_host`.
        PoolPerHost = "pool_per_host",
        /// `[upstream] pool_total`.
        PoolTotal = "pool_total",
        /// `[limits] account_series`.
        AccountSeries = "account_series",
        /// The process's file descriptors.
        FileDescriptors = "file_descriptors",
        /// The local ports of a bind address.
        LocalPorts = "local_ports",
        /// The process's memory.
        Memory = "memory",
        /// The places of the flight record.
        FlightRecord = "flight_record",
        /// The rows of the daily counts.
        DailyRows = "daily_rows",
    }
);

words!(
    /// How an attempt to connect to kintone ended.
    ConnectResult {
        /// TCP and, where we originate it, TLS stand.
        Ok = "ok",
        /// kintone's name could not be resolved.
        Dns = "dns",
        /// No socket could be bound: the address is not on this host, or it has no free port.
        Bind = "bind",
        /// An echo saw it leave as another address, or nobody knows as which one: it was dropped unused.
        Unproven = "unproven",
        /// Refused.
        Refused = "refused",
        /// Not in time.
        Timeout = "timeout",
        /// No way there.
        Unreachable = "unreachable",
        /// Broken while connecting.
        Reset = "reset",
        /// TLS failed.
        Tls = "tls",
    }
);

words!(
    /// What became of a call that was to be handed to another host.
    HandedResult {
        /// That host has answered it, well or with a refusal.
        Answered = "answered",
        /// Nothing was sent: that host cannot be reached, or is not ready.
        Unreachable = "unreachable",
        /// That host broke off without an answer: the outcome is unknown.
        Lost = "lost",
        /// The caller left before the answer.
        CallerGone = "caller_gone",
    }
);

words!(
    /// What came of asking an account whether it takes an address.
    ProbeResult {
        /// kintone itself answered.
        Accepted = "accepted",
        /// kintone's edge refused the address.
        Refused = "refused",
        /// No answer, or one that says neither.
        Unknown = "unknown",
        /// Nothing was sent: there was no permit at once, or no way.
        Unsent = "unsent",
    }
);

words!(
    /// What a tunnel's ClientHello offers.
    Alpn {
        /// `http/1.1`, without `h2`.
        H1 = "h1",
        /// `h2`, whatever else.
        H2 = "h2",
        /// No ALPN extension.
        None = "none",
    }
);

words!(
    /// A refusal of kintone that tells something about the account's limits.
    Rejection {
        /// Too many calls at once; refused at admission.
        ConcurrencyAdmission = "GAIA_TO04",
        /// Too many calls at once, told after admission; the work may have been done.
        ConcurrencyAfter = "GAIA_TM12",
        /// Status 503.
        Unavailable = "503",
    }
);

words!(
    /// How the TLS handshake of an inspected connection ended.
    Handshake {
        /// Well, and the caller speaks HTTP/1.
        H1 = "h1",
        /// Well, and the caller speaks HTTP/2.
        H2 = "h2",
        /// The caller does not take our certificate: it must be told to trust the private CA.
        CallerDistrustsCa = "caller_distrusts_ca",
        /// It asked for no name, or for another one than CONNECT.
        Sni = "sni",
        /// What came behind the CONNECT is no TLS.
        NotTls = "not_tls",
        /// It took longer than `[limits] handshake_timeout`.
        Timeout = "timeout",
        /// No version or cipher in common, a broken message, or the drain's end.
        Failed = "failed",
        /// The caller closed meanwhile.
        Gone = "gone",
    }
);

impl LimitName {
    /// The limit that a refusal's word tells of, if it tells of one.
    #[must_use]
    pub fn of(detail: Detail) -> Option<Self> {
        const LIMITS: [(Detail, LimitName); 12] = [
            (Detail::TargetTooLong, LimitName::HeadSize),
            (Detail::CallerIdle, LimitName::CallerIdle),
            (Detail::Connections, LimitName::Connections),
            (
                Detail::ConnectionsPerAddress,
                LimitName::ConnectionsPerAddress,
            ),
            (Detail::HeadTooLarge, LimitName::HeadSize),
            (Detail::HeadTimeout, LimitName::HeadTimeout),
            (Detail::HelloTimeout, LimitName::HandshakeTimeout),
            (Detail::HandshakeTimeout, LimitName::HandshakeTimeout),
            (Detail::CallerStalled, LimitName::StallTimeout),
            (Detail::FileDescriptors, LimitName::FileDescriptors),
            (Detail::LocalPorts, LimitName::LocalPorts),
            (Detail::Memory, LimitName::Memory),
        ];
        find(&LIMITS, detail)
    }
}

impl ConnectResult {
    /// How an attempt ended that failed for this reason; `None` for a reason of another kind.
    #[must_use]
    pub fn of(detail: Detail) -> Option<Self> {
        const RESULTS: [(Detail, ConnectResult); 21] = [
            (Detail::DnsNotFound, ConnectResult::Dns),
            (Detail::DnsServfail, ConnectResult::Dns),
            (Detail::DnsTimeout, ConnectResult::Dns),
            (Detail::DnsFailed, ConnectResult::Dns),
            (Detail::AddressAbsent, ConnectResult::Bind),
            (Detail::AddressUnverified, ConnectResult::Unproven),
            (Detail::AddressMismatch, ConnectResult::Unproven),
            (Detail::LocalPorts, ConnectResult::Bind),
            (Detail::FileDescriptors, ConnectResult::Bind),
            (Detail::ConnectRefused, ConnectResult::Refused),
            (Detail::ConnectTimeout, ConnectResult::Timeout),
            (Detail::ConnectUnreachable, ConnectResult::Unreachable),
            (Detail::ConnectReset, ConnectResult::Reset),
            (Detail::TlsExpired, ConnectResult::Tls),
            (Detail::TlsNotYetValid, ConnectResult::Tls),
            (Detail::TlsNameMismatch, ConnectResult::Tls),
            (Detail::TlsUntrusted, ConnectResult::Tls),
            (Detail::TlsRevoked, ConnectResult::Tls),
            (Detail::TlsCertificate, ConnectResult::Tls),
            (Detail::TlsProtocol, ConnectResult::Tls),
            (Detail::TlsTimeout, ConnectResult::Tls),
        ];
        find(&RESULTS, detail)
    }
}

fn find<T: Copy>(pairs: &[(Detail, T)], detail: Detail) -> Option<T> {
    let found = pairs.iter().find(|(known, _)| *known == detail);
    found.map(|(_, word)| *word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_find_their_words_and_others_find_none() {
        assert_eq!(
            LimitName::of(Detail::HelloTimeout),
            Some(LimitName::HandshakeTimeout)
        );
        assert_eq!(LimitName::of(Detail::WrongToken), None);
        assert_eq!(ConnectResult::of(Detail::WrongToken), None);
        for &detail in Detail::ALL {
            let expected = match detail.label().split('_').next() {
                Some("dns") => Some(ConnectResult::Dns),
                Some("tls") => Some(ConnectResult::Tls),
                _ => continue,
            };
            assert_eq!(ConnectResult::of(detail), expected, "{detail}");
        }
    }
}
