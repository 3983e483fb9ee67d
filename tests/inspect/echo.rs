//! A kintone that answers each request with the body that it brought, cut as a header of it says.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::pieces::{Cut, Pieces};

/// Which seed the answer is cut by.
pub const SEED: &str = "x-seed";

/// An echo for every account of cybozu.cn.
pub struct Echo {
    pub address: SocketAddr,
    pub ca_pem: String,
}

impl Echo {
    pub async fn start() -> Self {
        let (ca_pem, acceptor) = authority();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(tls) = acceptor.accept(stream).await {
                        let serving = http1::Builder::new()
                            .serve_connection(TokioIo::new(tls), service_fn(answer));
                        serving.await.ok();
                    }
                });
            }
        });
        Self { address, ca_pem }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Cut>, hyper::Error> {
    let seed = request.headers()[SEED].to_str().expect("a number");
    let mut pieces = Pieces::new(seed.parse().expect("a number"));
    let body = request.into_body().collect().await?.to_bytes();
    let mut response = Response::new(());
    if pieces.tells_length() {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, body.len().into());
    }
    Ok(response.map(|()| pieces.cut(&body)))
}

/// An authority, and TLS with a certificate of its for every account.
fn authority() -> (String, TlsAcceptor) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let pem = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["*.cybozu.cn".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("a pair");
    (pem, TlsAcceptor::from(Arc::new(config)))
}
