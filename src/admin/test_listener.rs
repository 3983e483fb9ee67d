//! An admin listener of a gateway that is made up, for tests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::admin::ports::PortCount;
use crate::admin::readiness::AcceptanceItem;
use crate::admin::{
    Admin, CONNECTIONS, Carried, Command, Order, Readiness, Refusal, read_only_router, router,
    spawn,
};
use crate::config::Secret;
use crate::kintone::day::Day;
use crate::model::{
    Account, AppId, Bind, CallerName, CountedApp, Priority, Published, Purpose, Tenant,
};
use crate::quota::{ArchiveError, DayRow};
use crate::telemetry::test_support::config;
use crate::telemetry::{
    AccessLogHandle, AccountLoad, AccountView, AddressView, Balance, FleetView, MailView, Presence,
    PublishedView, Telemetry, TenantView, WaitingView,
};

/// A listener that answers until it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) readiness: Arc<Mutex<Readiness>>,
    pub(crate) commands: mpsc::Receiver<Command>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Admin,
    ReadOnly,
}

impl Running {
    pub(crate) fn start(kind: Kind, token: Option<&'static str>) -> Self {
        let config = config(&["acme.cybozu.com"], 10);
        let telemetry = Telemetry::new(&config, AccessLogHandle::off(), "1.2.3");
        let readiness = Arc::new(Mutex::new(Readiness::default()));
        let (orders, commands) = mpsc::channel(1);
        let of_admin = Arc::clone(&readiness);
        let admin = Arc::new(Admin {
            telemetry: Arc::clone(&telemetry),
            accounts: Box::new(|| vec![acme(), busy()]),
            account: Box::new(|domain| (domain == "acme.cybozu.com").then(acme)),
            quota: Box::new(move |account| config.quota_of(account).clone()),
            addresses: Box::new(|| vec![address()]),
            apps_today: Box::new(Vec::new),
            today: Box::new(|| Day::parse("2026-11-25").unwrap()),
            days: Box::new(days),
            balance: Box::new(|| Balance {
                acquired: 9,
                released: 7,
                held: 2,
            }),
            readiness: Box::new(move || of_admin.lock().unwrap().clone()),
            evidence: Arc::new(|_, _| Err("no record".into())),
            address_report: Box::new(|_| None),
            acceptance: Box::new(acceptance),
            published: Box::new(PublishedView::default),
            draining: Box::new(|| false),
            fleet: Box::new(FleetView::default),
            mail: Box::new(MailView::default),
            held_mails: Box::new(Vec::new),
            decide_mails: Arc::new(|_, _| 0),
            order_fleet: Box::new(|_| Err("this host is alone".to_owned())),
            config_json: Box::new(|| json!({"admin": {"token": "***"}})),
            token: Box::new(move || token.map(|it| Secret::new(it.into()))),
            own_names: vec!["gw-a".into()],
            version: "1.2.3",
            commands: orders,
            ports: PortCount::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = match kind {
            Kind::Admin => router(admin),
            Kind::ReadOnly => read_only_router(admin),
        };
        let shutdown = async {
            let _ = stopped.await;
        };
        let thread = spawn("admin", listener, router, CONNECTIONS, shutdown).unwrap();
        Self {
            address,
            telemetry,
            readiness,
            commands,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Sends a head as it stands and returns status and body.
    pub(crate) fn raw(&self, head: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    pub(crate) fn ask(&self, line: &str, headers: &str) -> (u16, String) {
        let host = if headers.contains("Host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        self.raw(&format!(
            "{line} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n"
        ))
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path}"), "")
    }

    pub(crate) fn get_json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Carries out the next order that comes.
    pub(crate) fn answer_next(&mut self, with: Result<Carried, Refusal>) -> JoinHandle<Order> {
        let (_, none) = mpsc::channel(1);
        let mut commands = std::mem::replace(&mut self.commands, none);
        std::thread::spawn(move || {
            let command = commands.blocking_recv().unwrap();
            command.answer.send(with).unwrap();
            command.order
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(crate) fn acme() -> AccountView {
    AccountView {
        account: Account::from_normal("acme.cybozu.com"),
        load: AccountLoad {
            limit: 100,
            allowed: 80,
            inflight: 8,
            oldest_wait: Some(Duration::from_millis(1500)),
            ..AccountLoad::default()
        },
        tenants: vec![TenantView {
            tenant: Tenant::parse("company-1").unwrap(),
            inflight: 8,
            queued: 1,
            requests_total: 5,
            permit_seconds_total: 1.5,
        }],
        waiting: vec![WaitingView {
            caller: CallerName::parse("call-events").unwrap(),
            tenant: None,
            priority: Priority::Batch,
            queued: 1,
        }],
    }
}

pub(crate) fn busy() -> AccountView {
    AccountView {
        account: Account::from_normal("busy.cybozu.com"),
        load: AccountLoad {
            allowed: 80,
            inflight: 80,
            queued: 200,
            ..AccountLoad::default()
        },
        tenants: Vec::new(),
        waiting: Vec::new(),
    }
}

pub(crate) fn address() -> AddressView {
    AddressView {
        published: Published([18, 177, 83, 94].into()),
        bind: Bind([127, 0, 0, 1].into()),
        state: "active",
        presence: Presence::Up,
        since: Some(Duration::from_secs(60)),
        verification: None,
        connections: 4,
        pooled: 3,
    }
}

/// One address, of which only one account has told anything.
fn acceptance(account: &Account) -> Vec<AcceptanceItem> {
    let is_acme = account.as_str() == "acme.cybozu.com";
    let since = is_acme.then_some(Timestamp::UNIX_EPOCH);
    vec![AcceptanceItem {
        address: address().published.to_string(),
        state: if is_acme { "refused" } else { "unknown" },
        since,
        seen: since,
        asked: None,
    }]
}

/// Two rows of one day, of one account.
fn days(domain: &str, from: Day, to: Day) -> Result<Vec<DayRow>, ArchiveError> {
    let day = Day::parse("2026-11-24").unwrap();
    if domain != "acme.cybozu.com" || !(from..=to).contains(&day) {
        return Ok(Vec::new());
    }
    let row = |app, purpose: Option<&str>, tenant: Option<&str>, requests| DayRow {
        day,
        app,
        purpose: purpose.and_then(Purpose::parse),
        tenant: tenant.and_then(|tenant| Tenant::parse(tenant).ok()),
        requests,
        uncertain: 1,
    };
    Ok(vec![
        row(
            CountedApp::Known(AppId(7)),
            Some("incoming"),
            Some("c-1"),
            12,
        ),
        row(CountedApp::Unknown, None, None, 3),
    ])
}
