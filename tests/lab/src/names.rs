//! The name server: a real one (hickory), which lies as a scenario tells it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::{RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use crate::host::Host;
use crate::site::{KINTONE, KINTONE_V6, NAME_SERVER};

/// What the name server says of a name.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These addresses, those of the type that was asked for, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// This code and no record.
    Code(ResponseCode),
    /// Not a word.
    Nothing,
}

/// The name server, until it is dropped.
pub(crate) struct Names {
    book: Arc<Book>,
    _server: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Book {
    scripts: Mutex<HashMap<String, VecDeque<Says>>>,
    asked: Mutex<Vec<(String, RecordType)>>,
}

impl Names {
    /// Starts it.
    pub(crate) async fn start(host: &Host) -> anyhow::Result<Self> {
        let book = Arc::new(Book::default());
        let handler = Handler(Arc::clone(&book));
        let (udp, tcp) = host
            .run(async {
                let udp = UdpSocket::bind((NAME_SERVER, 53)).await?;
                let tcp = TcpListener::bind((NAME_SERVER, 53)).await?;
                anyhow::Ok((udp, tcp))
            })
            .await?;
        let server = host.spawn(async move {
            let mut server = Server::new(handler);
            server.register_socket(udp);
            server.register_listener(tcp, Duration::from_secs(5), 4096);
            // It ends when the laboratory does.
            let _ = server.block_until_done().await;
        });
        Ok(Self {
            book,
            _server: server,
        })
    }

    /// From here on every name is kintone's, by IPv4 and IPv6, for a minute.
    pub(crate) fn tell_the_truth(&self) {
        lock(&self.book.scripts).clear();
        lock(&self.book.asked).clear();
    }

    /// What is said of a name, one answer after another; the last one stands.
    pub(crate) fn says(&self, name: &str, answers: impl IntoIterator<Item = Says>) {
        let answers = answers.into_iter().collect();
        lock(&self.book.scripts).insert(name.to_owned(), answers);
    }

    /// What was asked since the truth was told last.
    pub(crate) fn asked(&self) -> Vec<(String, RecordType)> {
        lock(&self.book.asked).clone()
    }
}

/// Kintone's true addresses.
pub(crate) fn truth(ttl: u32) -> Says {
    let mut addresses: Vec<IpAddr> = KINTONE.map(IpAddr::V4).to_vec();
    addresses.push(IpAddr::V6(KINTONE_V6));
    Says::Addresses(addresses, ttl)
}

struct Handler(Arc<Book>);

impl Handler {
    fn next(&self, name: &str) -> Says {
        let mut scripts = lock(&self.0.scripts);
        match scripts.get_mut(name) {
            Some(script) if script.len() > 1 => script.pop_front(),
            Some(script) => script.front().cloned(),
            None => None,
        }
        .unwrap_or_else(|| truth(60))
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let unanswered = ResponseInfo::from(Header {
            metadata,
            counts: HeaderCounts::default(),
        });
        let Ok(asked) = request.request_info() else {
            return unanswered;
        };
        let (name, kind) = (asked.query.name().to_string(), asked.query.query_type());
        let name = name.trim_end_matches('.').to_owned();
        lock(&self.0.asked).push((name.clone(), kind));
        let mut records = Vec::new();
        match self.next(&name) {
            Says::Nothing => return unanswered,
            Says::Code(code) => metadata.response_code = code,
            Says::Addresses(addresses, ttl) => {
                let name = asked.query.original().name().clone();
                records = records_of(&addresses, kind)
                    .map(|data| Record::from_rdata(name.clone(), ttl, data))
                    .collect();
            }
        }
        let answer = MessageResponseBuilder::from_message_request(request);
        let answer = answer.build(metadata, &records, [], [], []);
        response.send_response(answer).await.unwrap_or(unanswered)
    }
}

/// The records of the type that was asked for.
fn records_of(addresses: &[IpAddr], kind: RecordType) -> impl Iterator<Item = RData> {
    let is = move |address: &&IpAddr| {
        kind == match address {
            IpAddr::V4(_) => RecordType::A,
            IpAddr::V6(_) => RecordType::AAAA,
        }
    };
    addresses.iter().filter(is).map(|address| match address {
        IpAddr::V4(address) => RData::A((*address).into()),
        IpAddr::V6(address) => RData::AAAA((*address).into()),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
