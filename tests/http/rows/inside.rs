//! Rows that end otherwise inside an inspected connection, and why. All others must end the same.

use crate::row::{After, Expect, PASSED, Row};

/// What some rows come to inside.
struct Other {
    why: &'static str,
    expect: Expect,
    rules: &'static [&'static str],
}

const fn refused(status: u16, code: &'static str, detail: &'static str, after: After) -> Expect {
    Expect::Refused {
        status,
        code,
        detail,
        after,
    }
}

const fn misdirected(after: After) -> Expect {
    refused(421, "GW_MISDIRECTED", "", after)
}

const OTHERS: &[Other] = &[
    Other {
        why: "inside, the gateway is in kintone's place: its target is a path",
        expect: Expect::Passed(PASSED),
        rules: &["origin-form is for servers", "asterisk-form is for servers"],
    },
    Other {
        why: "it is no form that any server takes, so there is no better word for it",
        expect: refused(400, "GW_BAD_REQUEST", "unparsable", After::Close),
        rules: &["authority-form is for CONNECT alone"],
    },
    Other {
        why: "the host of CONNECT is the only one that there is inside",
        expect: misdirected(After::Keep),
        rules: &[
            "a destination outside kintone",
            "a destination by address",
            "a destination by IPv6 address",
            "a name that ends with a dot",
            "another port",
            "the plain port under https",
            "a refused body leaves the connection in step",
            "a refused chunked body leaves the connection in step",
            "a refused HEAD has no body",
            "Host is made from the target, whatever came",
            "an empty Host is valid",
            "http is carried by TLS",
            "who calls is asked before where to",
        ],
    },
    Other {
        why: "the same, and its own words close the connection",
        expect: misdirected(After::Close),
        rules: &[
            "a refused caller of HTTP/1.0 is not kept",
            "a caller that asks to close is refused and closed on",
        ],
    },
    Other {
        why: "who calls was proved by CONNECT: credentials inside end here, unread",
        expect: Expect::Passed(PASSED),
        rules: &[
            "no credentials",
            "Authorization is kintone's, not ours",
            "a scheme that we do not speak",
            "credentials that are no base64",
            "credentials twice",
            "a caller that nobody knows",
        ],
    },
    Other {
        why: "no tunnel leads out of an inspected connection",
        expect: refused(405, "GW_BAD_REQUEST", "method_forbidden", After::Close),
        rules: &[
            "CONNECT without a port",
            "CONNECT with an empty port",
            "CONNECT with a port beyond 65535",
            "CONNECT with a scheme",
            "CONNECT in origin-form",
            "CONNECT with userinfo",
            "CONNECT to no host",
            "CONNECT with a body of a length",
            "CONNECT with chunks",
            "a refused CONNECT closes: no credentials",
            "a refused CONNECT closes: HTTP/1.0",
            "a refused CONNECT closes, though it asks to be kept",
            "CONNECT to another port",
            "CONNECT to another port, whose mail server would take orders",
            "CONNECT to another name",
            "CONNECT to an address",
            "CONNECT to an IPv6 address",
        ],
    },
];

/// The same row as it must end inside.
pub fn inside(row: &Row) -> Row {
    let other = OTHERS.iter().find(|other| other.rules.contains(&row.rule));
    let expect = other.map_or(row.expect, |other| other.expect);
    Row { expect, ..*row }
}

/// Every rule that is named here is one of these.
pub fn check_names(rows: &[&[Row]]) {
    for other in OTHERS {
        assert!(!other.why.is_empty());
        for rule in other.rules {
            let known = rows
                .iter()
                .any(|rows| rows.iter().any(|row| row.rule == *rule));
            assert!(known, "no row says {rule:?}");
        }
    }
}
