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
    /// What the gateway hears when the client does not trust its authority.
    pub(crate) distrust: Distrust,
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
    /// `CONNECT`, TLS with the gateway, HTTP/1.1 inside.
    InspectH1,
    /// `CONNECT`, TLS with the gateway, HTTP/2 inside.
    InspectH2,
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

/// How a client leaves when it does not trust the gateway's authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distrust {
    /// With an alert of TLS that says why.
    Told,
    /// It closes: its verdict comes after its part of the handshake, or its alert does not get out.
    Silent,
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
    pub(crate) const ALL: [Self; 5] = [
        Self::ForwardHttp,
        Self::Forward,
        Self::Tunnel,
        Self::InspectH1,
        Self::InspectH2,
    ];

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
            Self::InspectH1 => "inspect-h1",
            Self::InspectH2 => "inspect-h2",
        }
    }

    /// As the access log calls it.
    pub(crate) fn in_log(self) -> &'static str {
        match self {
            Self::ForwardHttp | Self::Forward => "forward",
            Self::Tunnel => "tunnel",
            Self::InspectH1 | Self::InspectH2 => "inspect",
        }
    }

    /// The version of HTTP that a client must have used, if it tells.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::ForwardHttp | Self::Forward | Self::Tunnel | Self::InspectH1 => "HTTP/1.1",
            Self::InspectH2 => "HTTP/2",
        }
    }

    /// Whether the gateway ends the TLS of a `CONNECT`.
    pub(crate) fn is_inspected(self) -> bool {
        matches!(self, Self::InspectH1 | Self::InspectH2)
    }

    /// Whether the gateway sees each call of a client, so that a call is what it refuses.
    pub(crate) fn sees_calls(self) -> bool {
        self != Self::Tunnel
    }

    /// Whether a client asks for `CONNECT` first, which may be refused.
    pub(crate) fn connects(self) -> bool {
        self == Self::Tunnel || self.is_inspected()
    }
}

const fn client(name: &'static str, modes: &'static [Mode]) -> Client {
    Client {
        name,
        modes,
        of_connect: Shows::Code,
        of_call: Shows::Code,
        of_407: None,
        distrust: Distrust::Told,
        fields: Fields::All,
    }
}

use Mode::{Forward, ForwardHttp, InspectH1, InspectH2, Tunnel};

/// Every client that is run.
pub(crate) const CLIENTS: &[Client] = &[
    client(
        "curl",
        &[ForwardHttp, Forward, Tunnel, InspectH1, InspectH2],
    ),
    Client {
        distrust: Distrust::Silent,
        ..client("wget", &[ForwardHttp, Tunnel, InspectH1])
    },
    client("requests", &[ForwardHttp, Tunnel, InspectH1]),
    Client {
        ..client("httpx", &[ForwardHttp, Tunnel, InspectH1, InspectH2])
    },
    Client {
        distrust: Distrust::Silent,
        ..client("aiohttp", &[ForwardHttp, Tunnel, InspectH1])
    },
    Client {
        of_call: Shows::Message,
        ..client("pyntone", &[Tunnel, InspectH1])
    },
    client("sdk-6.1.4", &[Forward]),
    Client {
        distrust: Distrust::Silent,
        ..client("sdk-6.2.1", &[Tunnel, InspectH1])
    },
    Client {
        of_connect: Shows::Status,
        of_407: Some(Shows::Status),
        distrust: Distrust::Silent,
        ..client("undici", &[ForwardHttp, Tunnel, InspectH1, InspectH2])
    },
    Client {
        of_connect: Shows::Status,
        distrust: Distrust::Silent,
        ..client("got", &[ForwardHttp, Tunnel, InspectH1])
    },
    Client {
        fields: Fields::Values,
        distrust: Distrust::Silent,
        ..client("cli-kintone", &[Tunnel, InspectH1])
    },
    Client {
        of_connect: Shows::Status,
        distrust: Distrust::Silent,
        ..client("java", &[ForwardHttp, Tunnel, InspectH1, InspectH2])
    },
];
