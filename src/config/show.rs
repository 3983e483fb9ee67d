//! The effective configuration, defaults filled in, secrets `***`.

use toml::{Table, Value};

use super::circuit::{Circuit, MaintenanceWindow};
use super::grant::{AccountSettings, Caller, Callers, DailyPolicy, QuotaSettings, TenantRule};
use super::inspect::Inspect;
use super::notify;
use super::shape::{
    AccessLog, AccountPolicy, Config, EgressAddress, Log, Public, StaticAnswer, Upstream,
};
use super::show_fleet;
use super::table::{count, duration, set, set_some, strings, table};
use super::unit::format_size;
use super::verify::Verify;

/// What stands for a secret.
const HIDDEN: &str = "***";

/// The effective configuration as TOML, in the order of the documentation.
#[must_use]
pub fn effective_toml(config: &Config) -> String {
    effective(config).to_string()
}

/// The effective configuration as JSON, with the same keys as in the file.
#[must_use]
pub fn effective_json(config: &Config) -> serde_json::Value {
    serde_json::to_value(effective(config)).unwrap_or_default()
}

fn effective(config: &Config) -> Table {
    let mut root = Table::new();
    set(&mut root, "listen", listen(config));
    set(&mut root, "egress", egress(config));
    set(&mut root, "public", public(&config.public));
    let evidence = [
        ("keep", format!("{}d", config.evidence.keep_days).into()),
        ("accounts", count(config.evidence.accounts)),
    ];
    set(&mut root, "evidence", table(evidence));
    set(&mut root, "acceptance", config.acceptance.shown());
    set(&mut root, "upstream", upstream(&config.upstream));
    callers(&mut root, &config.callers);
    set(&mut root, "quota", quota(&config.quota));
    let accounts = config
        .accounts
        .iter()
        .map(|(name, settings)| (name.to_string(), account(settings)));
    let accounts: Table = accounts.collect();
    set_some(
        &mut root,
        "account",
        (!accounts.is_empty()).then_some(accounts),
    );
    circuit(&mut root, &config.circuit);
    set_some(&mut root, "inspect", config.inspect.as_ref().map(inspect));
    set(&mut root, "limits", limits(config));
    set(&mut root, "fleet", show_fleet::fleet(&config.fleet));
    set_some(&mut root, "verify", config.verify.as_ref().map(verify));
    let notify = config.notify.as_ref();
    let notify = notify.map(|it| notify::show(it, HIDDEN));
    set_some(&mut root, "notify", notify);
    let token = config.admin.token.as_ref();
    set_some(
        &mut root,
        "admin",
        token.map(|_| table([("token", HIDDEN.into())])),
    );
    set(
        &mut root,
        "state",
        table([("dir", config.state_dir.display().to_string().into())]),
    );
    set(&mut root, "log", log(&config.log));
    let drain = [
        ("announce", duration(config.drain.announce)),
        ("grace", duration(config.drain.grace)),
    ];
    set(&mut root, "drain", table(drain));
    root
}

fn log(log: &Log) -> Table {
    let access = match &log.access {
        AccessLog::Stdout => "stdout".to_owned(),
        AccessLog::Off => "off".to_owned(),
        AccessLog::File(path) => path.display().to_string(),
    };
    table([
        ("level", log.level.clone().into()),
        ("access", access.into()),
    ])
}

fn circuit(root: &mut Table, circuit: &Circuit) {
    set(root, "circuit", circuit.settings.shown());
    let windows: Vec<_> = circuit
        .windows
        .iter()
        .map(MaintenanceWindow::shown)
        .collect();
    let windows = (!windows.is_empty()).then_some(windows);
    set_some(root, "maintenance", windows);
}

fn listen(config: &Config) -> Table {
    let listen = &config.listen;
    let mut section = table([
        ("proxy", strings(&listen.proxy)),
        ("admin", listen.admin.to_string().into()),
    ]);
    set_some(
        &mut section,
        "metrics",
        listen.metrics.map(|socket| socket.to_string()),
    );
    set_some(
        &mut section,
        "public",
        listen.public.map(|socket| socket.to_string()),
    );
    if !listen.proxy_tls.is_empty() {
        set(&mut section, "proxy_tls", strings(&listen.proxy_tls));
    }
    if let Some(tls) = &listen.tls {
        let files = [("cert", &tls.cert), ("key", &tls.key)];
        let mut files = table(files.map(|(key, path)| (key, path.display().to_string().into())));
        set_some(
            &mut files,
            "client_ca",
            tls.client_ca
                .as_ref()
                .map(|path| path.display().to_string()),
        );
        set(&mut section, "tls", files);
    }
    section
}

fn address(address: &EgressAddress) -> Value {
    let mut section = table([("published", address.published.to_string().into())]);
    match address.bind {
        Some(bind) => set(&mut section, "bind", bind.to_string()),
        // No host has a bind: this one does not use the address.
        None => set(&mut section, "bind", Table::new()),
    }
    set(&mut section, "state", address.state.word());
    set_some(
        &mut section,
        "valid_from",
        address.valid_from.map(|date| date.to_string()),
    );
    set_some(
        &mut section,
        "retire_after",
        address.retire_after.map(|date| date.to_string()),
    );
    section.into()
}

fn egress(config: &Config) -> Table {
    let addresses: Vec<_> = config.addresses.iter().map(address).collect();
    table([
        (
            "minimum_notice",
            format!("{}d", config.notice.minimum_days).into(),
        ),
        ("overlap", format!("{}d", config.notice.overlap_days).into()),
        ("address", addresses.into()),
    ])
}

fn public(public: &Public) -> Table {
    let mut section = table([("connections", count(public.connections))]);
    set_some(&mut section, "service", public.service.clone());
    set_some(&mut section, "contact", public.contact.clone());
    set_some(&mut section, "url", public.url.clone());
    section
}

fn upstream(upstream: &Upstream) -> Table {
    let accounts = match upstream.accounts {
        AccountPolicy::Any => "any",
        AccountPolicy::Configured => "configured",
    };
    let mut section = table([
        ("zones", upstream.zones.clone().into()),
        ("accounts", accounts.into()),
    ]);
    set_some(
        &mut section,
        "ca_file",
        upstream
            .ca_file
            .as_ref()
            .map(|path| path.display().to_string()),
    );
    section.extend(table([
        ("allow_networks", strings(&upstream.allow_networks)),
        ("connect_timeout", duration(upstream.connect_timeout)),
        ("response_timeout", duration(upstream.response_timeout)),
        ("pool_idle", duration(upstream.pool_idle)),
        ("pool_life", duration(upstream.pool_life)),
        ("pool_per_host", count(upstream.pool_per_host)),
        ("pool_total", count(upstream.pool_total)),
        ("replay", format_size(upstream.replay as u64).into()),
    ]));
    let resolve: Table = upstream.resolve.iter().map(static_answer).collect();
    set_some(
        &mut section,
        "resolve",
        (!resolve.is_empty()).then_some(resolve),
    );
    section
}

fn static_answer(answer: &StaticAnswer) -> (String, Value) {
    let address = match answer.port {
        Some(port) => format!("{}:{port}", answer.address),
        None => answer.address.to_string(),
    };
    (answer.pattern.to_string(), address.into())
}

fn callers(root: &mut Table, callers: &Callers) {
    let named: Vec<_> = callers.named.iter().map(caller).collect();
    if !named.is_empty() {
        set(root, "caller", named);
    }
    if let Some(anonymous) = &callers.anonymous {
        let section = [
            ("anonymous", true.into()),
            ("networks", strings(&anonymous.networks)),
        ];
        set(root, "callers", table(section));
    }
}

fn caller(caller: &Caller) -> Value {
    let mut section = table([("name", caller.name.as_str().into())]);
    if !caller.tokens.is_empty() {
        set(
            &mut section,
            "token_sha256",
            vec![HIDDEN; caller.tokens.len()],
        );
    }
    set_some(&mut section, "certificate", caller.certificate.clone());
    if !caller.networks.is_empty() {
        set(&mut section, "networks", strings(&caller.networks));
    }
    let tenants = match &caller.tenants {
        TenantRule::Any => vec!["*".to_owned()],
        TenantRule::Only(patterns) => patterns.iter().map(ToString::to_string).collect(),
    };
    let modes: Vec<_> = caller.modes.iter().map(|mode| mode.label()).collect();
    section.extend(table([
        ("accounts", strings(&caller.accounts)),
        ("tenants", tenants.into()),
        ("modes", modes.into()),
        ("priority", caller.priority.label().into()),
    ]));
    set_some(&mut section, "max_wait", caller.max_wait.map(duration));
    set(&mut section, "enabled", caller.enabled);
    section.into()
}

fn quota(quota: &QuotaSettings) -> Table {
    let policy = match quota.daily_policy {
        DailyPolicy::Warn => "warn",
        DailyPolicy::Enforce => "enforce",
    };
    let daily_per_app = i64::try_from(quota.daily_per_app).unwrap_or(i64::MAX);
    table([
        ("concurrency", quota.concurrency.into()),
        ("headroom", quota.headroom.into()),
        ("interactive_reserve", quota.interactive_reserve.into()),
        ("rate", quota.rate.into()),
        ("burst", quota.burst.into()),
        ("queue", quota.queue.into()),
        ("max_wait", duration(quota.max_wait)),
        ("settle", duration(quota.settle)),
        ("daily_per_app", daily_per_app.into()),
        ("daily_policy", policy.into()),
        ("tunnel_idle", duration(quota.tunnel_idle)),
        ("tunnel_yield", duration(quota.tunnel_yield)),
        ("tunnel_life", duration(quota.tunnel_life)),
        ("tunnel_h2_weight", quota.tunnel_h2_weight.into()),
    ])
}

fn account(settings: &AccountSettings) -> Value {
    let mut section = table([("enabled", settings.enabled.into())]);
    section.extend(quota(&settings.quota));
    let accepts = settings.accepts.iter().map(ToString::to_string);
    let accepts: Vec<_> = accepts.collect();
    set_some(
        &mut section,
        "accepts",
        (!accepts.is_empty()).then_some(accepts),
    );
    set_some(&mut section, "probe", settings.probe);
    set(&mut section, "contacts", settings.contacts.clone());
    let tenants = settings.tenants.iter().map(|(name, settings)| {
        let mut section = table([("weight", settings.weight.into())]);
        set_some(&mut section, "concurrency", settings.concurrency);
        set(&mut section, "contacts", settings.contacts.clone());
        (name.to_string(), section.into())
    });
    let tenants: Table = tenants.collect();
    set_some(
        &mut section,
        "tenant",
        (!tenants.is_empty()).then_some(tenants),
    );
    section.into()
}

fn inspect(inspect: &Inspect) -> Table {
    let next = inspect.ca_next.iter();
    let next: Vec<_> = next.map(|bundle| bundle.written.clone()).collect();
    table([
        ("ca_cert", inspect.ca_cert.written.clone().into()),
        ("ca_key", HIDDEN.into()),
        ("ca_next", next.into()),
        ("leaf_life", duration(inspect.leaf_life)),
        ("accounts", strings(&inspect.accounts)),
        ("callers", inspect.callers.clone().into()),
    ])
}

fn limits(config: &Config) -> Table {
    let limits = &config.limits;
    table([
        ("connections", count(limits.connections)),
        (
            "connections_per_network_address",
            count(limits.connections_per_network_address),
        ),
        ("head_size", format_size(limits.head_size as u64).into()),
        ("head_timeout", duration(limits.head_timeout)),
        ("handshake_timeout", duration(limits.handshake_timeout)),
        ("caller_idle", duration(limits.caller_idle)),
        ("stall_timeout", duration(limits.stall_timeout)),
        ("h2_streams", limits.h2_streams.into()),
        ("account_series", count(limits.account_series)),
    ])
}

fn verify(verify: &Verify) -> Table {
    table([
        ("urls", verify.urls.clone().into()),
        ("interval", duration(verify.interval)),
        ("timeout", duration(verify.timeout)),
        ("unknown_for", duration(verify.unknown_for)),
        ("connections", verify.connections.word().into()),
        ("connection_pause", duration(verify.connection_pause)),
    ])
}
