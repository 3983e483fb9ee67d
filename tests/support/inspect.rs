//! Inspected connections: a private authority, and callers who trust it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use kintone_egress::tls::NewCa;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Plan;
use super::caller::{Answer, Caller};

/// A private authority that a gateway is given.
pub struct PrivateCa {
    /// What callers are to trust.
    pub pem: String,
    key: String,
}

impl PrivateCa {
    pub fn new() -> Self {
        let ca = NewCa {
            name: "test CA".into(),
            organization: None,
            zones: ["cybozu.com", "kintone.com", "cybozu.cn"]
                .map(String::from)
                .into(),
            life: Duration::from_secs(60 * 24 * 3600),
        };
        let made = ca.create(Timestamp::now()).expect("a certificate");
        Self {
            pem: made.certificate,
            key: made.key.expose().to_owned(),
        }
    }

    /// `[inspect]` for all accounts and callers.
    pub fn table(&self) -> String {
        self.table_for(r#"["*"]"#, r#"["*"]"#)
    }

    /// `[inspect]` for these.
    pub fn table_for(&self, accounts: &str, callers: &str) -> String {
        format!(
            "[inspect]\nca_cert = \"\"\"\n{}\"\"\"\nca_key = \"\"\"\n{}\"\"\"\n\
             accounts = {accounts}\ncallers = {callers}\n",
            self.pem, self.key
        )
    }

    /// `plan` with all CONNECTs inspected.
    pub fn plan(&self, plan: Plan) -> Plan {
        Plan {
            tables: format!("{}{}", self.table(), plan.tables),
            ..plan
        }
    }
}

impl Caller {
    /// TLS inside a CONNECT of its own.
    pub async fn secured(&self, host: &str) -> Result<TlsStream<TcpStream>, Answer> {
        let tunnel = self.open_tunnel(host).await?;
        Ok(self.tls(tunnel, host).await.expect("TLS with the gateway"))
    }

    /// HTTP/2 inside a CONNECT of its own.
    pub async fn h2(&self, host: &str) -> Result<http2::SendRequest<Full<Bytes>>, Answer> {
        let tls = self.clone().offering(&[b"h2"]).secured(host).await?;
        Ok(Self::h2_over(tls).await)
    }

    /// HTTP/2 on a connection that agreed on it.
    pub async fn h2_over(tls: TlsStream<TcpStream>) -> http2::SendRequest<Full<Bytes>> {
        let io = TokioIo::new(tls);
        let shaken = http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) = shaken.expect("HTTP/2");
        tokio::spawn(async move { connection.await.ok() });
        sender
    }

    /// HTTP/1 inside a CONNECT of its own.
    pub async fn h1(&self, host: &str) -> Result<http1::SendRequest<Full<Bytes>>, Answer> {
        let tls = self.clone().offering(&[b"http/1.1"]).secured(host).await?;
        Ok(Self::h1_over(tls).await)
    }

    /// HTTP/1 on a connection that agreed on it.
    pub async fn h1_over(tls: TlsStream<TcpStream>) -> http1::SendRequest<Full<Bytes>> {
        let shaken = http1::handshake(TokioIo::new(tls)).await;
        let (sender, connection) = shaken.expect("HTTP/1");
        tokio::spawn(async move { connection.await.ok() });
        sender
    }
}
