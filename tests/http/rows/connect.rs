//! CONNECT: its target, its refusals, and nothing behind them.

use crate::row::{After, Row, bad, refused};

pub const ROWS: &[Row] = &[
    bad(
        "CONNECT without a port",
        "RFC 9110 9.3.6",
        "port_missing",
        b"CONNECT {a} HTTP/1.1\r\n{std}\r\n",
    ),
    bad(
        "CONNECT with an empty port",
        "RFC 9110 9.3.6",
        "port_missing",
        b"CONNECT {a}: HTTP/1.1\r\n{std}\r\n",
    ),
    bad(
        "CONNECT with a port beyond 65535",
        "RFC 9110 9.3.6",
        "port_missing",
        b"CONNECT {a}:65979 HTTP/1.1\r\n{std}\r\n",
    ),
    bad(
        "CONNECT with a scheme",
        "RFC 9112 3.2.3",
        "unparsable",
        b"CONNECT https://{a}:443 HTTP/1.1\r\n{std}\r\n",
    ),
    bad(
        "CONNECT with a path",
        "RFC 9112 3.2.3",
        "unparsable",
        b"CONNECT {a}:443/x HTTP/1.1\r\n{std}\r\n",
    ),
    bad(
        "CONNECT in origin-form",
        "RFC 9112 3.2.3",
        "port_missing",
        b"CONNECT / HTTP/1.1\r\n{std}\r\n",
    ),
    bad(
        "CONNECT with userinfo",
        "RFC 9112 3.2.3",
        "userinfo",
        b"CONNECT u@{a}:443 HTTP/1.1\r\n{std}\r\n",
    ),
    bad(
        "CONNECT to no host",
        "RFC 9112 3.2.3",
        "host_invalid",
        b"CONNECT :443 HTTP/1.1\r\n{std}\r\n",
    ),
    bad(
        "CONNECT without Host",
        "RFC 9112 3.2",
        "host_missing",
        b"CONNECT {a}:443 HTTP/1.1\r\n{auth}\r\n",
    ),
    bad(
        "CONNECT with two Hosts",
        "RFC 9112 3.2",
        "host_repeated",
        b"CONNECT {a}:443 HTTP/1.1\r\nHost: x\r\n{std}\r\n",
    ),
    bad(
        "CONNECT with a body of a length",
        "RFC 9110 9.3.6; hardening",
        "framing_ambiguous",
        b"CONNECT {a}:443 HTTP/1.1\r\n{std}Content-Length: 5\r\n\r\nhello",
    ),
    bad(
        "CONNECT with chunks",
        "RFC 9110 9.3.6; hardening",
        "framing_ambiguous",
        b"CONNECT {a}:443 HTTP/1.1\r\n{std}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "a refused CONNECT closes: no credentials",
        "RFC 9931",
        (407, "GW_AUTHENTICATION_REQUIRED", "no_credentials"),
        After::Close,
        b"CONNECT {a}:443 HTTP/1.1\r\nHost: {a}:443\r\n\r\n",
    ),
    refused(
        "a refused CONNECT closes: HTTP/1.0",
        "RFC 9931",
        (407, "GW_AUTHENTICATION_REQUIRED", "no_credentials"),
        After::Close,
        b"CONNECT {a}:443 HTTP/1.0\r\n\r\n",
    ),
    refused(
        "a refused CONNECT closes, though it asks to be kept",
        "RFC 9931",
        (407, "GW_AUTHENTICATION_REQUIRED", "no_credentials"),
        After::Close,
        b"CONNECT {a}:443 HTTP/1.1\r\nHost: {a}:443\r\nConnection: keep-alive\r\nProxy-Connection: keep-alive\r\n\r\n",
    ),
    refused(
        "CONNECT to another port",
        "RFC 9110 9.3.6",
        (403, "GW_DESTINATION_FORBIDDEN", "port_forbidden"),
        After::Close,
        b"CONNECT {a}:22 HTTP/1.1\r\n{std}\r\n",
    ),
    refused(
        "CONNECT to another port, whose mail server would take orders",
        "RFC 9110 9.3.6",
        (403, "GW_DESTINATION_FORBIDDEN", "port_forbidden"),
        After::Close,
        b"CONNECT {a}:25 HTTP/1.1\r\n{std}\r\n",
    ),
    refused(
        "CONNECT to another name",
        "RFC 9110 9.3.6",
        (403, "GW_DESTINATION_FORBIDDEN", "not_a_kintone_domain"),
        After::Close,
        b"CONNECT www.example.com:443 HTTP/1.1\r\n{std}\r\n",
    ),
    refused(
        "CONNECT to an address",
        "contract 4",
        (403, "GW_DESTINATION_FORBIDDEN", "not_a_kintone_domain"),
        After::Close,
        b"CONNECT 127.0.0.1:443 HTTP/1.1\r\n{std}\r\n",
    ),
    refused(
        "CONNECT to an IPv6 address",
        "contract 4",
        (403, "GW_DESTINATION_FORBIDDEN", "not_a_kintone_domain"),
        After::Close,
        b"CONNECT [::1]:443 HTTP/1.1\r\n{std}\r\n",
    ),
];
