//! A caller that writes and reads bytes: nothing between the row and the socket is forgiving.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for a byte that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the gateway.
pub struct Wire {
    stream: Stream,
    unread: Vec<u8>,
}

/// The socket, or TLS on it.
enum Stream {
    Tcp(TcpStream),
    Tls(Box<dyn Bytes>),
}

/// Bytes both ways.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// An answer as it stood on the wire.
#[derive(Debug, Clone, Default)]
pub struct Got {
    /// Heads of 1xx answers before it, in order.
    pub interim: Vec<String>,
    pub head: String,
    pub status: u16,
    pub reason: String,
    /// Without the chunks' framing.
    pub body: Vec<u8>,
    /// The lines of the trailer section.
    pub trailers: Vec<String>,
}

/// The connection ended before an answer was whole; what had come until then.
#[derive(Debug, Clone)]
pub struct Cut {
    pub came: Vec<u8>,
    pub by: End,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Close,
    Reset,
}

impl Got {
    /// The value of the only field of that name; empty where there is none.
    pub fn field(&self, name: &str) -> &str {
        head_value(&self.head, name).unwrap_or_default()
    }

    /// Lines of the head, names in lower case.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.head.split("\r\n").skip(1);
        lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| format!("{}:{value}", name.to_ascii_lowercase()))
            .collect()
    }
}

impl Wire {
    pub async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.expect("the proxy listens");
        stream.set_nodelay(true).expect("a live socket");
        Self {
            stream: Stream::Tcp(stream),
            unread: Vec::new(),
        }
    }

    /// A connection inside another.
    pub fn within(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            stream: Stream::Tls(Box::new(stream)),
            unread: Vec::new(),
        }
    }

    fn stream(&mut self) -> &mut dyn Bytes {
        match &mut self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => &mut **stream,
        }
    }

    /// Writes; what the gateway no longer wants to read is no fault here.
    pub async fn send(&mut self, bytes: &[u8]) {
        let stream = self.stream();
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
    }

    /// Closes for writing.
    pub async fn finish(&mut self) {
        self.stream().shutdown().await.expect("a live socket");
    }

    /// Reads one answer to a request of that method.
    pub async fn answer(&mut self, method: &str) -> Result<Got, Cut> {
        let mut got = Got::default();
        loop {
            let head = self.head().await?;
            let status: u16 = head[9..12].parse().expect("a status");
            if !(100..200).contains(&status) || status == 101 {
                got.status = status;
                let line = head.split("\r\n").next().unwrap_or_default();
                got.reason = line.get(13..).unwrap_or_default().to_owned();
                got.head = head;
                break;
            }
            got.interim.push(head);
        }
        self.body(&mut got, method).await?;
        Ok(got)
    }

    /// The socket, of which nothing was read too far.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.unread.is_empty(), "{:?}", self.unread);
        match self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Tls(_) => panic!("it is TLS's"),
        }
    }

    /// The next head, without its empty line.
    pub async fn head(&mut self) -> Result<String, Cut> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                let rest = self.unread.split_off(end + 4);
                let mut head = std::mem::replace(&mut self.unread, rest);
                head.truncate(end);
                return Ok(String::from_utf8(head).expect("an ASCII head"));
            }
            self.more().await?;
        }
    }

    async fn body(&mut self, got: &mut Got, method: &str) -> Result<(), Cut> {
        let bodiless = method == "HEAD"
            || method == "CONNECT" && got.status == 200
            || matches!(got.status, 204 | 304);
        if bodiless {
            return Ok(());
        }
        let chunked = !got.field("transfer-encoding").is_empty();
        let length = got.field("content-length");
        assert!(
            !chunked || length.is_empty(),
            "an answer with both lengths: {}",
            got.head
        );
        if !chunked && length.is_empty() {
            loop {
                match self.more().await {
                    Ok(()) => {}
                    Err(Cut {
                        came,
                        by: End::Close,
                    }) => {
                        got.body = came;
                        return Ok(());
                    }
                    Err(cut) => return Err(cut),
                }
            }
        }
        let length = length.parse().unwrap_or_default();
        let end = loop {
            match body_end(&self.unread, chunked, length) {
                Some(end) => break end,
                None => self.more().await?,
            }
        };
        let rest = self.unread.split_off(end);
        let raw = std::mem::replace(&mut self.unread, rest);
        if chunked {
            (got.body, got.trailers) = unchunk(&raw);
        } else {
            got.body = raw;
        }
        Ok(())
    }

    /// Reads until the end; what came, and how it ended.
    pub async fn rest(&mut self) -> Cut {
        loop {
            if let Err(cut) = self.more().await {
                return cut;
            }
        }
    }

    async fn more(&mut self) -> Result<(), Cut> {
        let mut came = vec![0; 16 << 10];
        let read = timeout(PATIENCE, self.stream().read(&mut came)).await;
        let by = match read.expect("the gateway says something in time") {
            Ok(0) => End::Close,
            Ok(read) => {
                self.unread.extend_from_slice(&came[..read]);
                return Ok(());
            }
            Err(_) => End::Reset,
        };
        Err(Cut {
            came: std::mem::take(&mut self.unread),
            by,
        })
    }
}

/// Where `needle` begins.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// The value of the first field of that name.
pub fn head_value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Where a body ends, if all of it is there.
pub fn body_end(raw: &[u8], chunked: bool, length: usize) -> Option<usize> {
    if !chunked {
        return (raw.len() >= length).then_some(length);
    }
    let mut at = 0;
    loop {
        let line = find(&raw[at..], b"\r\n")?;
        let size = std::str::from_utf8(&raw[at..at + line]).expect("ASCII");
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        at += line + 2;
        if size == 0 {
            loop {
                let line = find(raw.get(at..)?, b"\r\n")?;
                at += line + 2;
                if line == 0 {
                    return Some(at);
                }
            }
        }
        at += size + 2;
        if raw.len() < at {
            return None;
        }
    }
}

/// The body of whole chunks, and their trailer lines.
pub fn unchunk(mut raw: &[u8]) -> (Vec<u8>, Vec<String>) {
    let mut body = Vec::new();
    loop {
        let end = find(raw, b"\r\n").expect("a chunk size");
        let size = std::str::from_utf8(&raw[..end]).expect("ASCII");
        let size = usize::from_str_radix(size, 16).expect("hexadecimal");
        raw = &raw[end + 2..];
        if size == 0 {
            let trailers = String::from_utf8_lossy(raw).into_owned();
            let lines = trailers.split("\r\n").filter(|line| !line.is_empty());
            return (body, lines.map(str::to_owned).collect());
        }
        body.extend_from_slice(&raw[..size]);
        raw = &raw[size + 2..];
    }
}
