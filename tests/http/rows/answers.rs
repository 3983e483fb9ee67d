//! What kintone answers, and what becomes of it.

use crate::kintone::Then;
use crate::row::{Outcome, Reaction};

const GET: &[u8] = b"GET https://{a}/k/v1/app.json HTTP/1.1\r\n{std}\r\n";
const HEAD: &[u8] = b"HEAD https://{a}/k/v1/app.json HTTP/1.1\r\n{std}\r\n";
const OLD: &[u8] =
    b"POST https://{a}/k/v1/record.json HTTP/1.0\r\n{std}Content-Length: 2\r\n\r\n{}";

const fn row(
    rule: &'static str,
    source: &'static str,
    reply: &'static [u8],
    outcome: Outcome,
) -> Reaction {
    Reaction {
        rule,
        source,
        send: b"",
        reply,
        then: Then::Keep,
        outcome,
        reused: false,
    }
}

const fn ok(body: &'static [u8]) -> Outcome {
    Outcome::Whole {
        status: 200,
        has: &[],
        lacks: &[],
        body,
    }
}

const UNPARSABLE: Outcome = Outcome::Refused("response_unparsable");

pub const ROWS: &[Reaction] = &[
    Reaction {
        reused: true,
        ..row("a length", "RFC 9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", ok(b"hello"))
    },
    Reaction {
        reused: true,
        ..row(
            "chunks",
            "RFC 9112 7.1",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            ok(b"hello"),
        )
    },
    Reaction {
        reused: true,
        send: OLD,
        ..row(
            "no chunks for an HTTP/1.0 caller",
            "RFC 9112 6.1",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Outcome::Whole { status: 200, has: &["connection: close"], lacks: &["transfer-encoding"], body: b"hello" },
        )
    },
    Reaction {
        then: Then::Close,
        ..row("a body by the end of the connection", "RFC 9112 6.3", b"HTTP/1.1 200 OK\r\n\r\nhello", ok(b"hello"))
    },
    Reaction {
        then: Then::Close,
        send: OLD,
        ..row("the same for an HTTP/1.0 caller", "RFC 9112 6.3", b"HTTP/1.1 200 OK\r\n\r\nhello", ok(b"hello"))
    },
    row(
        "an answer that says close",
        "RFC 9112 9.6",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        ok(b"{}"),
    ),
    row(
        "an answer of HTTP/1.0 ends its connection and is passed on as ours",
        "RFC 9112 2.3",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        Outcome::Whole { status: 200, has: &["via: 1.0 kintone-egress"], lacks: &["connection"], body: b"{}" },
    ),
    Reaction {
        reused: true,
        ..row(
            "what Connection names ends here",
            "RFC 9110 7.6.1",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: 1\r\n\r\n{}",
            Outcome::Whole { status: 200, has: &["x-kept: 1"], lacks: &["x-private", "connection"], body: b"{}" },
        )
    },
    Reaction {
        reused: true,
        ..row(
            "kintone cannot speak for the gateway",
            "contract 5",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKintone-Egress-Cause: x\r\nKintone-Egress-Any: 1\r\nProxy-Authenticate: Digest\r\nProxy-Authentication-Info: x\r\n\r\n{}",
            Outcome::Whole {
                status: 200,
                has: &[],
                lacks: &["kintone-egress-cause", "kintone-egress-any", "proxy-authenticate", "proxy-authentication-info"],
                body: b"{}",
            },
        )
    },
    Reaction {
        reused: true,
        ..row(
            "Via is appended, Date kept, repeated lines in order",
            "RFC 9110 7.6.3 6.6.1 5.3",
            b"HTTP/1.1 200 OK\r\nVia: 1.1 front\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\n{}",
            Outcome::Whole {
                status: 200,
                has: &[
                    "via: 1.1 front",
                    "via: 1.1 kintone-egress",
                    "date: Thu, 01 Jan 1970 00:00:00 GMT",
                    "set-cookie: a=1",
                    "set-cookie: b=2",
                ],
                lacks: &[],
                body: b"{}",
            },
        )
    },
    Reaction {
        reused: true,
        ..row(
            "Date is added where it is missing",
            "RFC 9110 6.6.1",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            Outcome::Whole { status: 200, has: &["date: {any}"], lacks: &[], body: b"{}" },
        )
    },
    Reaction {
        reused: true,
        ..row(
            "a 407 always has a challenge, and it is ours",
            "RFC 9110 15.5.8",
            b"HTTP/1.1 407 X\r\nContent-Length: 2\r\nProxy-Authenticate: Digest realm=x\r\n\r\n{}",
            Outcome::Whole {
                status: 407,
                has: &["proxy-authenticate: Basic realm=\"kintone-egress\""],
                lacks: &[],
                body: b"{}",
            },
        )
    },
    Reaction {
        reused: true,
        ..row(
            "white space before the colon is removed",
            "RFC 9112 5.1",
            b"HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length: 2\r\n\r\n{}",
            Outcome::Whole { status: 200, has: &["x-a: 1"], lacks: &["x-a "], body: b"{}" },
        )
    },
    Reaction {
        reused: true,
        ..row(
            "equal lengths on two lines become one",
            "RFC 9110 8.6",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
            Outcome::Whole { status: 200, has: &["content-length: 2"], lacks: &[], body: b"{}" },
        )
    },
    Reaction {
        reused: true,
        ..row(
            "a list of equal lengths becomes one",
            "RFC 9110 8.6",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}",
            Outcome::Whole { status: 200, has: &["content-length: 2"], lacks: &[], body: b"{}" },
        )
    },
    Reaction {
        send: HEAD,
        reused: true,
        ..row(
            "the answer to HEAD has the length and no body",
            "RFC 9112 6.3",
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
            Outcome::Whole { status: 200, has: &["content-length: 500"], lacks: &[], body: b"" },
        )
    },
    Reaction {
        send: HEAD,
        ..row(
            "a body behind the answer to HEAD is never an answer",
            "RFC 9112 6.3",
            b"HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            ok(b""),
        )
    },
    Reaction {
        reused: true,
        ..row("204 has no body", "RFC 9112 6.3", b"HTTP/1.1 204 No Content\r\n\r\n", Outcome::Whole { status: 204, has: &[], lacks: &["content-length", "transfer-encoding"], body: b"" })
    },
    row(
        "a body behind 204 is never an answer",
        "RFC 9112 6.3",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 43\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        Outcome::Whole { status: 204, has: &[], lacks: &["content-length"], body: b"" },
    ),
    Reaction {
        send: GET,
        reused: true,
        ..row("304 has no body", "RFC 9112 6.3", b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", Outcome::Whole { status: 304, has: &["etag: \"a\""], lacks: &["transfer-encoding"], body: b"" })
    },
    row(
        "octets behind an answer are never another",
        "RFC 9112 6.3 9.2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ok(b"{}"),
    ),
    row(
        "octets behind the last chunk are never another",
        "RFC 9112 6.3 9.2",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ok(b"{}"),
    ),
    Reaction {
        then: Then::Late(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
        ..row(
            "octets that come while a connection is idle close it",
            "RFC 9112 9.2",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            ok(b"{}"),
        )
    },
    Reaction {
        then: Then::Late(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"),
        ..row(
            "a 408 that nobody asked for is nobody's answer",
            "RFC 9110 15.5.9",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            ok(b"{}"),
        )
    },
    row("different lengths", "RFC 9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", UNPARSABLE),
    row("a list of different lengths", "RFC 9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}x", UNPARSABLE),
    row("a length with a sign", "RFC 9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}", UNPARSABLE),
    row("a negative length", "RFC 9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}", UNPARSABLE),
    row("an empty length", "RFC 9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n{}", UNPARSABLE),
    row("a length beyond 64 bits", "RFC 9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551617\r\n\r\n{}", UNPARSABLE),
    Reaction {
        send: HEAD,
        ..row("different lengths in the answer to HEAD", "RFC 9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", UNPARSABLE)
    },
    row("both lengths", "RFC 9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", UNPARSABLE),
    row("both lengths, the other way round", "RFC 9112 6.3", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n", UNPARSABLE),
    Reaction {
        then: Then::Close,
        ..row("a coding that is not chunked", "RFC 9112 6.1; hardening", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}", UNPARSABLE)
    },
    row("a coding before chunked", "RFC 9112 6.1; hardening", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", UNPARSABLE),
    row("chunked twice", "RFC 9112 6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", UNPARSABLE),
    row("chunks in HTTP/1.0", "RFC 9112 6.1", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", UNPARSABLE),
    row("a folded line", "RFC 9112 5.2", b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\n{}", UNPARSABLE),
    row("a bare CR", "RFC 9112 2.2", b"HTTP/1.1 200 OK\r\nX-A: 1\rX-B: 2\r\nContent-Length: 2\r\n\r\n{}", UNPARSABLE),
    row("NUL in a value", "RFC 9110 5.5", b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\n{}", UNPARSABLE),
    row("white space before the first field", "RFC 9112 2.2", b"HTTP/1.1 200 OK\r\n X-A: 1\r\nContent-Length: 2\r\n\r\n{}", UNPARSABLE),
    row("a name that is no token", "RFC 9110 5.1", b"HTTP/1.1 200 OK\r\nX(A): 1\r\nContent-Length: 2\r\n\r\n{}", UNPARSABLE),
    row("a line without a colon", "RFC 9112 5", b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\n{}", UNPARSABLE),
    row("a status that is no number", "RFC 9112 4", b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\n{}", UNPARSABLE),
    row("a status of four digits", "RFC 9110 15", b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}", UNPARSABLE),
    row("a status below 100", "RFC 9110 15", b"HTTP/1.1 099 X\r\nContent-Length: 2\r\n\r\n{}", UNPARSABLE),
    row("another version", "RFC 9112 2.3", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", UNPARSABLE),
    row("no HTTP at all", "RFC 9112 4", b"SSH-2.0-OpenSSH_9.2\r\n", UNPARSABLE),
    row("a switch that was not asked for", "RFC 9110 15.2.2", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", UNPARSABLE),
    Reaction {
        then: Then::Close,
        ..row("a head that breaks off", "RFC 9112 8", b"HTTP/1.1 200 OK\r\nContent-Le", Outcome::Refused("response_reset"))
    },
    Reaction {
        then: Then::Close,
        ..row("no answer at all", "RFC 9112 8", b"", Outcome::Refused("response_reset"))
    },
    Reaction {
        then: Then::Reset,
        ..row("a reset instead of an answer", "RFC 9112 8", b"", Outcome::Refused("response_reset"))
    },
    Reaction {
        then: Then::Close,
        ..row("a body shorter than its length", "RFC 9112 8", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", Outcome::Cut)
    },
    Reaction {
        then: Then::Close,
        send: OLD,
        ..row("the same for an HTTP/1.0 caller", "RFC 9112 8", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", Outcome::Cut)
    },
    Reaction {
        then: Then::Reset,
        ..row("a reset within the body", "RFC 9112 8", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", Outcome::Cut)
    },
    Reaction {
        then: Then::Close,
        ..row("chunks without the last one", "RFC 9112 8", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Outcome::Cut)
    },
    Reaction {
        then: Then::Close,
        send: OLD,
        ..row("the same for an HTTP/1.0 caller, whose end is the close", "RFC 9112 8", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Outcome::Cut)
    },
    Reaction {
        then: Then::Close,
        ..row("a chunk that breaks off", "RFC 9112 8", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", Outcome::Cut)
    },
    row("a chunk size that is no number", "RFC 9112 7.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n", Outcome::Cut),
    row("a chunk size beyond 64 bits", "RFC 9112 7.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n10000000000000002\r\n{}\r\n0\r\n\r\n", Outcome::Cut),
    row("a chunk longer than its size", "RFC 9112 7.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n", Outcome::Cut),
    Reaction {
        then: Then::Cut,
        ..row("an end that TLS does not confirm", "RFC 9112 9.8", b"HTTP/1.1 200 OK\r\n\r\nhello", Outcome::Cut)
    },
    Reaction {
        then: Then::Cut,
        send: OLD,
        ..row("the same for an HTTP/1.0 caller", "RFC 9112 9.8", b"HTTP/1.1 200 OK\r\n\r\nhello", Outcome::Cut)
    },
    Reaction {
        then: Then::Cut,
        ..row("a whole answer before an end that TLS does not confirm", "RFC 9112 9.8", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", ok(b"{}"))
    },
    Reaction {
        reused: true,
        ..row(
            "trailers that were not announced, or for a caller that takes none, end here",
            "RFC 9110 6.5.1",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\n{}\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n",
            Outcome::Whole { status: 200, has: &[], lacks: &["trailer", "x-sum"], body: b"{}" },
        )
    },
];
