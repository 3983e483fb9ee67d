//! The table: each client, the ways in that it can use, and what it shows of a refusal.

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    /// As `tests/clients/run` knows it.
    pub(crate) name: &'static str,
    /// The ways in that it can use, in the order of the matrix.
    pub(crate) modes: &'static [Mode],
    /// What it shows of a `CONNECT` that is refused.
    pub(crate) of_connect: Shows,
    /// What it shows of a call that is refused.
    pub(crate) of_call: Shows,
    /// What it shows of 407, if that differs.
    pub of_407: Option<Shows>,
    /// What of a record it gives back.
    pub(crate) fields: Fields,
}

/// A way in, as a client takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `GET http://…` in absolute form.
    ForwardHttp,
    /// `GET https://…` in absolute form.
    Forward,
    /// `CONNECT`, TLS end to end.
    Tunnel,
}

/// The least that a client shows of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// The gateway's code.
    Code,
    /// The sentence of the answer, without its code.
    Message,
    /// The status alone: the code is on the page `/.kintone-egress/me`.
    Status,
}

/// What of a record a client gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fields {
    /// All of kintone's answer.
    All,
    /// Values of fields, in CSV.
    Values,
}

impl Mode {
    /// All of them, in the order of the matrix.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::ForwardHttp, Self::Forward, Self::Tunnel];

    /// By the name of a test.
    pub(crate) fn of(name: &str) -> Self {
        let found = Self::ALL
            .into_iter()
            .find(|mode| mode.name().replace('-', "_") == name);
        found.expect("a mode's name")
    }

    /// As `tests/clients/run` knows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ForwardHttp => "forward-http",
            Self::Forward => "forward",
            Self::Tunnel => "tunnel",
        }
    }

    /// As the access log calls it.
    pub(crate) fn in_log(self) -> &'static str {
        match self {
            Self::ForwardHttp | Self::Forward => "forward",
            Self::Tunnel => "tunnel",
        }
    }

    /// Whether the gateway sees each call of a client, so that a call is what it refuses.
    pub(crate) fn sees_calls(self) -> bool {
        self != Self::Tunnel
    }

    /// Whether a client asks for `CONNECT` first, which may be refused.
    pub(crate) fn connects(self) -> bool {
        matches!(self, Self::Tunnel)
    }
}

const fn client(name: &'static str, modes: &'static [Mode]) -> Client {
    Client {
        name,
        modes,
        of_connect: Shows::Code,
        of_call: Shows::Code,
        of_407: None,
        fields: Fields::All,
    }
}

use Mode::{Forward, ForwardHttp, Tunnel};

/// Every client that is run.
pub(crate) const CLIENTS: &[Client] = &[
    client("curl", &[ForwardHttp, Forward, Tunnel]),
    client("wget", &[ForwardHttp, Tunnel]),
    client("requests", &[ForwardHttp, Tunnel]),
    client("httpx", &[ForwardHttp, Tunnel]),
    client("aiohttp", &[ForwardHttp, Tunnel]),
    Client {
        of_call: Shows::Message,
        ..client("pyntone", &[Tunnel])
    },
    client("sdk-6.1.4", &[Forward]),
    client("sdk-6.2.1", &[Tunnel]),
    Client {
        of_connect: Shows::Status,
        of_407: Some(Shows::Status),
        ..client("undici", &[ForwardHttp, Tunnel])
    },
    Client {
        of_connect: Shows::Status,
        ..client("got", &[ForwardHttp, Tunnel])
    },
    Client {
        fields: Fields::Values,
        ..client("cli-kintone", &[Tunnel])
    },
    Client {
        of_connect: Shows::Status,
        ..client("java", &[ForwardHttp, Tunnel])
    },
];
