//! `fleet status`, `evict` and `admit`: what the gateway that runs on this host is asked about its
//! fleet, over its admin listener.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpStream;

use crate::config::Config;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// How this host stands.
    Status,
    /// That another host is evicted; it does not run.
    Evict(String),
    /// That an evicted host is admitted again.
    Admit(String),
    /// Which accounts take that published address.
    Readiness(Ipv4Addr),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no gateway answers at {0} ([listen] admin): start it, or ask on another host ({1})")]
    Unreachable(SocketAddr, std::io::Error),
    /// It does not answer.
    #[error("the gateway at {0} does not answer within 10 s")]
    Silent(SocketAddr),
    /// What it says is no answer.
    #[error("what answers at {0} ([listen] admin) is no gateway of this version: {1}")]
    Strange(SocketAddr, String),
    /// The token cannot be sent.
    #[error("[admin] token cannot stand in a header; take one of plain ASCII")]
    Token,
    /// It says no.
    #[error("refused: {0}")]
    Refused(String),
}

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Asks the gateway that runs on this host under `config`; its answer as lines of text.
///
/// # Errors
/// [`AskError`], with the remedy.
pub async fn ask(config: &Config, wish: &Wish) -> Result<String, AskError> {
    let address = config.listen.admin;
    let (method, path) = request(wish);
    let (status, body) = talk(config, method, &path).await?;
    let strange = |what: String| AskError::Strange(address, what);
    let answer: serde_json::Value =
        serde_json::from_slice(&body).map_err(|error| strange(error.to_string()))?;
    match (status, wish) {
        (StatusCode::OK, Wish::Status | Wish::Readiness(_)) => {
            serde_json::to_string_pretty(&answer)
                .map(|text| text + "\n")
                .map_err(|error| strange(error.to_string()))
        }
        (StatusCode::OK, Wish::Evict(host)) => Ok(format!(
            "{host} is evicted: the other hosts have its part within seconds. Before it starts again: \
             kintone-egress fleet admit {host}\n"
        )),
        (StatusCode::OK, Wish::Admit(host)) => Ok(format!(
            "{host} is admitted: it has its part as soon as the other hosts have left it to it\n"
        )),
        _ => {
            let fault = answer["faults"][0].as_str();
            let said = fault.or_else(|| answer["message"].as_str());
            match said {
                Some(said) => Err(AskError::Refused(said.to_owned())),
                None => Err(strange(format!("status {status}"))),
            }
        }
    }
}

/// What the gateway that runs on this host under `config` answers.
///
/// # Errors
/// [`AskError`], but for what the answer says.
pub(super) async fn talk(
    config: &Config,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), AskError> {
    let asking = tokio::time::timeout(PATIENCE, exchange(config, method, path));
    let silent = |_| AskError::Silent(config.listen.admin);
    asking.await.map_err(silent)?
}

async fn exchange(
    config: &Config,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), AskError> {
    let address = config.listen.admin;
    let strange = |what: String| AskError::Strange(address, what);
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| AskError::Unreachable(address, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| strange(error.to_string()))?;
    let talking = async {
        let answer = sender
            .send_request(head(config, method, path)?)
            .await
            .map_err(|error| strange(error.to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
        let body = body.await.map_err(|error| strange(error.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(connection, talking);
    tokio::select! {
        biased;
        answer = &mut talking => answer,
        // What came before the end is still to be read.
        _ = &mut connection => talking.await,
    }
}

fn request(wish: &Wish) -> (Method, String) {
    let name = |host: &str| utf8_percent_encode(host, NON_ALPHANUMERIC).to_string();
    match wish {
        Wish::Status => (Method::GET, "/api/v1/fleet".to_owned()),
        Wish::Readiness(address) => (Method::GET, format!("/api/v1/readiness?address={address}")),
        Wish::Evict(host) => (
            Method::POST,
            format!("/api/v1/fleet/evict?stopped=true&host={}", name(host)),
        ),
        Wish::Admit(host) => (
            Method::POST,
            format!("/api/v1/fleet/admit?host={}", name(host)),
        ),
    }
}

fn head(config: &Config, method: Method, path: &str) -> Result<Request<Empty<Bytes>>, AskError> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, config.listen.admin.to_string());
    if let Some(token) = &config.admin.token {
        let credentials = format!("Bearer {}", token.expose());
        request = request.header(header::AUTHORIZATION, credentials);
    }
    // All but the token is percent-encoded or ours.
    request.body(Empty::new()).map_err(|_| AskError::Token)
}
