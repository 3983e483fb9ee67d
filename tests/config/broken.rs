//! Every way to get it wrong: the place, the key, and the way out.

use kintone_egress::config::place::Severity::{self, Error, Warning};

use super::{LEAST, faults};

/// Asserts that `text` has one fault alone, at the mark `‸`, of `key`, and that its remedy (or
/// problem) has `word`.
#[track_caller]
fn wrong(severity: Severity, text: &str, key: &str, word: &str) {
    let (before, after) = text.split_once('‸').expect("a mark");
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    let found = faults(&format!("{before}{after}"));
    let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
    let shown = shown.join("\n");
    assert_eq!(found.len(), 1, "one fault: {shown}");
    let fault = &found[0];
    assert_eq!((fault.line, fault.column), (line, column), "{shown}");
    assert_eq!(fault.key, key, "{shown}");
    assert_eq!(fault.severity, severity, "{shown}");
    assert!(
        fault.remedy.contains(word) || fault.problem.contains(word),
        "{word:?}: {shown}"
    );
    let warning = if severity == Warning { "warning: " } else { "" };
    let expected = format!(
        "conf/test.toml:{line}:{column}: {key}: {warning}{}, {}",
        fault.problem, fault.remedy
    );
    assert_eq!(shown, expected);
}

/// The same for what stands after the least usable file.
#[track_caller]
fn wrong_after(severity: Severity, text: &str, key: &str, word: &str) {
    wrong(severity, &format!("{LEAST}{text}"), key, word);
}

const CALLER: &str = "[[egress.address]]\npublished = \"18.177.83.94\"\n[[caller]]\n";
const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// The same for the keys of a caller that is in order, with a token of its own.
#[track_caller]
fn wrong_caller(severity: Severity, text: &str, key: &str, word: &str) {
    wrong(
        severity,
        &format!("{CALLER}name = \"a\"\ntoken_sha256 = \"{HASH}\"\n{text}"),
        key,
        word,
    );
}

#[test]
fn syntax() {
    wrong(Error, "[log]\nlevel = \"info‸\n", "syntax", "expected `\"`");
    wrong_after(Error, "[log‸\n", "syntax", "]");
    wrong_after(
        Error,
        "[drain]\ngrace = \"1s\"\n‸grace = \"2s\"\n",
        "syntax",
        "once",
    );
    wrong_after(Error, "[drain]\n[log]\n[‸drain]\n", "syntax", "once");
}

#[test]
fn keys_that_nobody_knows() {
    wrong_after(
        Error,
        "[quota]\n‸concurency = 5\n",
        "quota.concurency",
        "did you mean \"concurrency\"",
    );
    wrong_after(
        Error,
        "[‸quotas]\nrate = 1\n",
        "quotas",
        "did you mean \"quota\"",
    );
    wrong_after(
        Error,
        "[log]\n‸banana = 1\n",
        "log.banana",
        "allowed: level, access",
    );
    wrong_after(
        Error,
        "[account.\"a.cybozu.com\"]\n  ‸weight = 1\n",
        "account.\"a.cybozu.com\".weight",
        "allowed",
    );
    wrong_caller(
        Error,
        "‸network = [\"10.0.0.0/8\"]\n",
        "caller[0].network",
        "networks",
    );
    wrong_after(
        Error,
        "[log]\n‸\"\\u001b[31m\" = 1\n",
        "log.\"\\u{1b}[31m\"",
        "allowed",
    );
}

#[test]
fn types() {
    wrong_after(
        Error,
        "[quota]\nconcurrency = ‸\"50\"\n",
        "quota.concurrency",
        "whole number",
    );
    wrong_after(Error, "[quota]\nrate = ‸true\n", "quota.rate", "number");
    wrong_after(Error, "[drain]\ngrace = ‸30\n", "drain.grace", "\"250ms\"");
    wrong_after(
        Error,
        "[upstream]\nzones = ‸\"cybozu.com\"\n",
        "upstream.zones",
        "list",
    );
    wrong_after(
        Error,
        "[upstream]\nallow_networks = [\"10.0.0.0/8\", ‸7]\n",
        "upstream.allow_networks[1]",
        "network",
    );
    wrong_after(Error, "‸[caller]\nname = \"a\"\n", "caller", "[[caller]]");
    wrong(
        Error,
        "log = ‸5\n[[egress.address]]\npublished = \"18.177.83.94\"\n[callers]\nanonymous = true\n",
        "log",
        "table",
    );
}

#[test]
fn ranges() {
    wrong_after(
        Error,
        "[quota]\nconcurrency = ‸0\n",
        "quota.concurrency",
        "from 1",
    );
    wrong_after(
        Error,
        "[quota]\nconcurrency = ‸-5\n",
        "quota.concurrency",
        "from 1",
    );
    wrong_after(
        Error,
        "[quota]\nconcurrency = ‸0xffffffffffff\n",
        "quota.concurrency",
        "0xffffffffffff",
    );
    wrong_after(Error, "[quota]\nrate = ‸-1\n", "quota.rate", "from 0");
    wrong_after(Error, "[quota]\nrate = ‸nan\n", "quota.rate", "from 0");
    wrong_after(Error, "[quota]\nrate = ‸inf\n", "quota.rate", "from 0");
    wrong_after(Error, "[quota]\nrate = ‸0.0001\n", "quota.rate", "0.001");
    wrong_after(Error, "[quota]\nburst = ‸0\n", "quota.burst", "from 1");
    wrong_after(
        Error,
        "[quota]\nsettle = ‸\"0s\"\n",
        "quota.settle",
        "\"1s\"",
    );
    wrong_after(
        Error,
        "[upstream]\nconnect_timeout = ‸\"0s\"\n",
        "upstream.connect_timeout",
        "\"1ms\"",
    );
    wrong_after(
        Error,
        "[upstream]\nreplay = ‸\"64KB\"\n",
        "upstream.replay",
        "\"64KiB\"",
    );
    wrong_after(
        Error,
        "[upstream]\nreplay = ‸\"1GiB\"\n",
        "upstream.replay",
        "\"16MiB\"",
    );
    wrong_after(
        Error,
        "[limits]\nhead_size = ‸100\n",
        "limits.head_size",
        "\"8KiB\"",
    );
    wrong_after(
        Error,
        "[limits]\nconnections = ‸0\n",
        "limits.connections",
        "from 1",
    );
    wrong_after(
        Error,
        "[drain]\ngrace = ‸\"5 s\"\n",
        "drain.grace",
        "\"1m30s\"",
    );
    wrong_after(Error, "[log]\nlevel = ‸\"inof\"\n", "log.level", "info");
    wrong_after(
        Error,
        "[log]\naccess = ‸\"Stdout\"\n",
        "log.access",
        "\"stdout\"",
    );
    wrong_after(Error, "[state]\ndir = ‸\"\"\n", "state.dir", "path");
}

#[test]
fn listeners() {
    wrong_after(
        Error,
        "[listen]\nadmin = ‸\"localhost:9180\"\n",
        "listen.admin",
        "not a name",
    );
    wrong_after(
        Error,
        "[listen]\nmetrics = ‸\"0.0.0.0:9180\"\n",
        "listen.metrics",
        "port of its own",
    );
    wrong_after(
        Error,
        "[listen]\nproxy = [\"127.0.0.1:1\", ‸\"127.0.0.1:1\"]\n",
        "listen.proxy[1]",
        "port of its own",
    );
    wrong_after(
        Error,
        "[listen]\nproxy = ‸[]\n",
        "listen.proxy",
        "at least one",
    );
    wrong_after(
        Warning,
        "[listen]\nadmin = ‸\"10.0.0.1:9180\"\n",
        "listen.admin",
        "`metrics`",
    );
    wrong_caller(
        Warning,
        "[listen]\nproxy = [‸\"10.0.0.1:3128\"]\n",
        "listen.proxy[0]",
        "in clear",
    );
}

#[test]
fn the_published_list() {
    let callers = "[callers]\nanonymous = true\n";
    let one = "[[egress.address]]\npublished = \"18.177.83.94\"\n";
    wrong(
        Error,
        &format!("‸{callers}"),
        "egress.address",
        "bind for this host",
    );
    wrong(
        Error,
        &format!("{callers}[[egress.address]]\npublished = ‸\"2001:db8::1\"\n{one}"),
        "egress.address[0].published",
        "IPv4 only",
    );
    wrong(
        Error,
        &format!("{callers}[[egress.address]]\npublished = ‸\"224.0.0.1\"\n{one}"),
        "egress.address[0].published",
        "IPv4",
    );
    wrong(
        Error,
        &format!("{callers}{one}‸[[egress.address]]\n"),
        "egress.address[1].published",
        "customers allow",
    );
    wrong(
        Error,
        &format!("{callers}{one}[[egress.address]]\npublished = ‸\"18.177.83.94\"\n"),
        "egress.address[1].published",
        "once",
    );
    wrong(
        Error,
        &format!(
            "{callers}{one}[[egress.address]]\npublished = \"18.177.83.95\"\nbind = ‸\"18.177.83.94\"\n"
        ),
        "egress.address[1].bind",
        "another bind",
    );
    wrong(
        Error,
        &format!("{callers}{one}state = ‸\"retired\"\n"),
        "egress.address[0].state",
        "\"retiring\"",
    );
    wrong(
        Error,
        &format!("{callers}{one}valid_from = ‸2026-12-01T09:00:00\n"),
        "egress.address[0].valid_from",
        "a date",
    );
    wrong(
        Error,
        &format!("{callers}{one}valid_from = 2027-01-01\nretire_after = ‸2026-12-01\n"),
        "egress.address[0].retire_after",
        "later",
    );
    wrong(
        Error,
        &format!(
            "{callers}[egress]\naddress = ‸[{{ published = \"18.177.83.94\", state = \"planned\" }}]\n"
        ),
        "egress.address",
        "active",
    );
    let fleet = "[fleet]\nhosts = [\"gw-a\", \"gw-b\"]\n";
    wrong(
        Error,
        &format!("{callers}{fleet}{one}bind = {{ gw-a = \"10.0.0.1\", ‸gw-c = \"10.0.0.2\" }}\n"),
        "egress.address[0].bind.gw-c",
        "correct the name",
    );
    wrong(
        Warning,
        &format!("{callers}{one}bind = {{ gw-a = \"10.0.0.1\", ‸gw-c = \"10.0.0.2\" }}\n"),
        "egress.address[0].bind.gw-c",
        "[fleet] hosts",
    );
}

#[test]
fn kintone() {
    wrong_after(
        Error,
        "[upstream]\nzones = [‸\"com\"]\n",
        "upstream.zones[0]",
        "\"cybozu.com\"",
    );
    wrong_after(
        Error,
        "[upstream]\nzones = [‸\"*.cybozu.com\"]\n",
        "upstream.zones[0]",
        "write \"cybozu.com\"",
    );
    wrong_after(
        Error,
        "[upstream]\nzones = [‸\"Cybozu.com\"]\n",
        "upstream.zones[0]",
        "write \"cybozu.com\"",
    );
    wrong_after(
        Error,
        "[upstream]\nzones = [\"cybozu.com\", ‸\"s.cybozu.com\"]\n",
        "upstream.zones[1]",
        "leave it out",
    );
    wrong_after(
        Error,
        "[upstream]\nzones = ‸[]\n",
        "upstream.zones",
        "cybozu.com",
    );
    wrong_after(
        Error,
        "[upstream]\naccounts = ‸\"all\"\n",
        "upstream.accounts",
        "\"any\"",
    );
    wrong_after(
        Warning,
        "[upstream]\naccounts = ‸\"configured\"\n",
        "upstream.accounts",
        "[account",
    );
    wrong_after(
        Error,
        "[upstream]\nallow_networks = [‸\"10.0.0.0/33\"]\n",
        "upstream.allow_networks[0]",
        "10.0.0.0/8",
    );
    wrong_after(
        Error,
        "[upstream]\nallow_networks = [‸\"::1\"]\n",
        "upstream.allow_networks[0]",
        "IPv4",
    );
    wrong_after(
        Warning,
        "[upstream]\nallow_networks = [‸\"10.1.2.3/8\"]\n",
        "upstream.allow_networks[0]",
        "10.0.0.0/8",
    );
    wrong_after(
        Warning,
        "[upstream]\nallow_networks = ‸[\"0.0.0.0/0\"]\n",
        "upstream.allow_networks",
        "laboratory",
    );
    wrong_after(
        Error,
        "[upstream]\nca_file = ‸\"absent.pem\"\n",
        "upstream.ca_file",
        "PEM",
    );
    wrong_after(
        Error,
        "[upstream]\nca_file = ‸\"/dev/null\"\n",
        "upstream.ca_file",
        "no certificate",
    );
    wrong_after(
        Error,
        "[upstream]\nca_file = ‸\"$CREDENTIALS_DIRECTORY/ca\"\n",
        "upstream.ca_file",
        "LoadCredential",
    );
    wrong_after(
        Error,
        "[upstream.resolve]\n\"a.cybozu.com\" = ‸\"[::1]:443\"\n",
        "upstream.resolve.\"a.cybozu.com\"",
        "IP:PORT",
    );
    wrong_after(
        Error,
        "[upstream.resolve]\n\"a.cybozu.com\" = ‸\"8.8.8.8:0\"\n",
        "upstream.resolve.\"a.cybozu.com\"",
        "IP:PORT",
    );
    wrong_after(
        Error,
        "[upstream.resolve]\n‸\"*\" = \"8.8.8.8\"\n",
        "upstream.resolve.\"*\"",
        "*.cybozu.com",
    );
    wrong_after(
        Warning,
        "[upstream.resolve]\n‸\"a.example.com\" = \"8.8.8.8\"\n",
        "upstream.resolve.\"a.example.com\"",
        "zones",
    );
    wrong_after(
        Warning,
        "[upstream.resolve]\n\"a.cybozu.com\" = ‸\"10.0.0.1\"\n",
        "upstream.resolve.\"a.cybozu.com\"",
        "`allow_networks`",
    );
}

#[test]
fn callers() {
    let egress = "[[egress.address]]\npublished = \"18.177.83.94\"\n";
    wrong(Error, &format!("‸{egress}"), "caller", "[[caller]]");
    wrong(
        Error,
        &format!("{egress}‸[[caller]]\ntoken_sha256 = \"{HASH}\"\n"),
        "caller[0].name",
        "A-Z",
    );
    wrong(
        Error,
        &format!("{egress}‸[[caller]]\nname = \"a\"\n"),
        "caller[0].token_sha256",
        "hash-token",
    );
    wrong(
        Error,
        &format!("{CALLER}name = \"a\"\ntoken_sha256 = ‸\"my-token\"\n"),
        "caller[0].token_sha256",
        "hash-token",
    );
    wrong(
        Error,
        &format!("{CALLER}name = \"a\"\ntoken_sha256 = ‸[]\n"),
        "caller[0].token_sha256",
        "1 to 16",
    );
    wrong(
        Error,
        &format!("{CALLER}name = \"a\"\ntoken_sha256 = [\"{HASH}\", ‸\"{HASH}\"]\n"),
        "caller[0].token_sha256[1]",
        "once",
    );
    wrong_caller(
        Error,
        &format!("[[caller]]\nname = \"b\"\ntoken_sha256 = ‸\"{HASH}\"\n"),
        "caller[1].token_sha256",
        "--generate",
    );
    wrong_caller(
        Error,
        "[[caller]]\nname = ‸\"a\"\nnetworks = [\"10.0.0.1\"]\n",
        "caller[1].name",
        "of its own",
    );
    wrong(
        Error,
        &format!("{CALLER}name = ‸\"a b\"\nnetworks = [\"10.0.0.1\"]\n"),
        "caller[0].name",
        "A-Z",
    );
    wrong(
        Error,
        &format!("{CALLER}name = ‸\"unknown\"\nnetworks = [\"10.0.0.1\"]\n"),
        "caller[0].name",
        "another name",
    );
    wrong_caller(
        Error,
        "networks = [‸\"10.0.0.0-10.0.0.9\"]\n",
        "caller[0].networks[0]",
        "10.0.0.0/8",
    );
    wrong_caller(
        Error,
        "accounts = [‸\"*.example.com\"]\n",
        "caller[0].accounts[0]",
        "*.cybozu.com",
    );
    wrong_caller(
        Error,
        "accounts = [‸\"Acme.cybozu.com\"]\n",
        "caller[0].accounts[0]",
        "write \"acme.cybozu.com\"",
    );
    wrong_caller(
        Error,
        "tenants = [‸\"企業\"]\n",
        "caller[0].tenants[0]",
        "prefix*",
    );
    wrong_caller(
        Error,
        "modes = [‸\"connect\"]\n",
        "caller[0].modes[0]",
        "\"tunnel\"",
    );
    wrong_caller(Error, "modes = ‸[]\n", "caller[0].modes", "at least one");
    wrong_caller(
        Error,
        "priority = ‸\"high\"\n",
        "caller[0].priority",
        "\"batch\"",
    );
    wrong_caller(
        Error,
        "max_wait = ‸\"1w\"\n",
        "caller[0].max_wait",
        "duration",
    );
    wrong(
        Warning,
        &format!("{CALLER}name = \"a\"\nnetworks = ‸[\"0.0.0.0/0\"]\n"),
        "caller[0].networks",
        "narrower",
    );
    let other = "[[caller]]\nname = \"b\"\nnetworks = ‸[\"10.0.0.0/8\"]\n";
    wrong(
        Error,
        &format!("{CALLER}name = \"a\"\nnetworks = [\"10.0.0.0/8\"]\n{other}"),
        "caller[1].networks",
        "of its own",
    );
    wrong_caller(
        Warning,
        "[callers]\nnetworks = ‸[\"10.0.0.0/8\"]\n",
        "callers.networks",
        "anonymous = true",
    );
}

#[test]
fn anonymous_callers_off_loopback_need_networks() {
    let text = format!("{LEAST}[listen]\nproxy = [\"0.0.0.0:3128\"]\n");
    let found = faults(&text);
    let fault = found
        .iter()
        .find(|fault| fault.severity == Error)
        .expect("a fault");
    assert_eq!(
        (fault.line, fault.column, fault.key.as_str()),
        (5, 13, "callers.anonymous")
    );
    assert!(fault.remedy.contains("networks"));
    let networks = text.replace("true\n", "true\nnetworks = [\"10.0.0.0/8\"]\n");
    assert!(
        faults(&networks)
            .iter()
            .all(|fault| fault.severity == Warning)
    );
}

#[test]
fn quotas_and_accounts() {
    wrong_after(
        Warning,
        "[quota]\ninteractive_reserve = ‸41\n",
        "quota.interactive_reserve",
        "40 is used",
    );
    wrong_after(
        Warning,
        "[quota]\nheadroom = ‸100\n",
        "quota.headroom",
        "below concurrency",
    );
    wrong_after(
        Warning,
        "[account.\"a.cybozu.com\"]\nconcurrency = ‸20\n",
        "account.\"a.cybozu.com\".concurrency",
        "below concurrency",
    );
    wrong_after(
        Warning,
        "[fleet]\nhosts = [\"gw-a\", \"gw-b\"]\n[quota]\nconcurrency = ‸21\n",
        "quota.concurrency",
        "headroom + 2",
    );
    wrong_after(
        Warning,
        "[quota]\ntunnel_yield = ‸\"2m\"\n",
        "quota.tunnel_yield",
        "\"0s\"",
    );
    wrong_after(
        Warning,
        "[quota]\ntunnel_h2_weight = ‸81\n",
        "quota.tunnel_h2_weight",
        "0 to refuse",
    );
    wrong_after(
        Error,
        "[account.‸\"acme\"]\n",
        "account.acme",
        "acme.cybozu.com",
    );
    wrong_after(
        Error,
        "[account.‸\"a.b.cybozu.com\"]\n",
        "account.\"a.b.cybozu.com\"",
        "one label",
    );
    wrong_after(
        Error,
        "[account.‸\"xn--abc.cybozu.com\"]\n",
        "account.\"xn--abc.cybozu.com\"",
        "one label",
    );
    wrong_after(
        Error,
        "[account.‸\"acme.s.cybozu.com\"]\n",
        "account.\"acme.s.cybozu.com\"",
        "[account.\"acme.cybozu.com\"]",
    );
    wrong_after(
        Error,
        "[account.‸\"ACME.cybozu.com\"]\n",
        "account.\"ACME.cybozu.com\"",
        "[account.\"acme.cybozu.com\"]",
    );
    let account = "[account.\"a.cybozu.com\"]\n";
    wrong_after(
        Error,
        &format!("{account}contacts = [‸\"nobody\"]\n"),
        "account.\"a.cybozu.com\".contacts[0]",
        "mail address",
    );
    let tenant = format!("{account}tenant.t");
    wrong_after(
        Error,
        &format!("{tenant}.weight = ‸0\n"),
        "account.\"a.cybozu.com\".tenant.t.weight",
        "from 1",
    );
    wrong_after(
        Warning,
        &format!("{tenant}.concurrency = ‸101\n"),
        "account.\"a.cybozu.com\".tenant.t.concurrency",
        "no effect",
    );
    wrong_after(
        Error,
        &format!("{account}tenant.‸\"a b\".weight = 1\n"),
        "account.\"a.cybozu.com\".tenant.\"a b\"",
        "1 to 64",
    );
}

#[test]
fn the_fleet() {
    wrong_after(
        Error,
        "[fleet]\nhosts = ‸[\"gw-b\"]\n",
        "fleet.hosts",
        "$KINTONE_EGRESS_HOST",
    );
    wrong_after(
        Error,
        "[fleet]\nhosts = [\"gw-a\", ‸\"gw-a\"]\n",
        "fleet.hosts[1]",
        "once",
    );
    wrong_after(Error, "[fleet]\nhosts = ‸[]\n", "fleet.hosts", "all hosts");
    wrong_after(
        Error,
        "[fleet]\nhosts = [\"gw-a\", ‸\"gw b\"]\n",
        "fleet.hosts[1]",
        "A-Z",
    );
}

#[test]
fn what_is_not_built_and_would_weaken_a_promise() {
    wrong_after(
        Error,
        "‸[verify]\nurl = \"https://echo.example/ip\"\n",
        "verify",
        "left out",
    );
    wrong_after(
        Error,
        "[quota]\ndaily_policy = ‸\"enforce\"\n",
        "quota.daily_policy",
        "left out",
    );
    wrong_after(
        Error,
        "[account.\"a.cybozu.com\"]\ndaily_policy = ‸\"enforce\"\n",
        "account.\"a.cybozu.com\".daily_policy",
        "left out",
    );
    wrong_after(
        Warning,
        "[quota]\ndaily_per_app = ‸5\n",
        "quota.daily_per_app",
        "no effect",
    );
}

#[test]
fn the_small_tables() {
    wrong_after(
        Warning,
        "[admin]\ntoken = ‸\"short\"\n",
        "admin.token",
        "--generate",
    );
    wrong_after(Error, "[admin]\ntoken = ‸\"\"\n", "admin.token", "file");
    wrong_after(
        Error,
        "[admin]\ntoken = ‸\"has a space in the middle\"\n",
        "admin.token",
        "visible ASCII",
    );
    wrong_after(
        Error,
        "[admin]\ntoken = { file = ‸\"absent\" }\n",
        "admin.token.file",
        "readable",
    );
    wrong_after(
        Error,
        "[admin]\ntoken = ‸{ file = \"/dev/null\" }\n",
        "admin.token",
        "empty",
    );
}

#[test]
fn a_file_with_many_faults_tells_them_all_in_order() {
    let text = format!(
        "{LEAST}[quota]\nburst = 0\nqueu = 5\n[log]\nlevel = 5\n[verify]\ninterval = \"0s\"\n"
    );
    let found = faults(&text);
    let places: Vec<_> = found
        .iter()
        .map(|fault| (fault.line, fault.column, fault.key.as_str()))
        .collect();
    let expected = [
        (7, 9, "quota.burst"),
        (8, 1, "quota.queu"),
        (10, 9, "log.level"),
        (11, 1, "verify"),
        (11, 1, "verify.urls"),
        (12, 12, "verify.interval"),
    ];
    assert_eq!(places, expected);
}

#[test]
fn no_fault_repeats_a_secret() {
    let text = format!(
        "{CALLER}name = \"a\"\ntoken_sha256 = \"canary-1\"\n[admin]\ntoken = \"canary-2 \"\n\
         [fleet]\nredis = \"canary-3\"\n[notify]\nsmtp = \"http://canary-4\"\n\
         [verify]\nurl = \"https://canary-5@host/\"\n[inspect]\nca_key = [\"canary-6\"]\n"
    );
    let found = faults(&text);
    assert!(found.len() > 6);
    for fault in found {
        assert!(!fault.to_string().contains("canary"), "{fault}");
    }
}
