//! The closed sets of words that only metrics use.

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
        /// The process's file descriptors.
        FileDescriptors = "file_descriptors",
        /// The local ports of a bind address.
        LocalPorts = "local_ports",
    }
);

words!(
    /// How an attempt to connect to kintone ended.
    ConnectResult {
        /// TCP and, where we originate it, TLS stand.
        Ok = "ok",
        /// kintone's name could not be resolved.
        Dns = "dns",
        /// The bind address is not on this host, or has no free port.
        Bind = "bind",
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
