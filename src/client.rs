//! One HTTP/1.1 connection that requests are sent on, and the task that moves its bytes.
//!
//! hyper hands a request to that task through a channel. Of a request that is put in just as the task
//! ends, nobody is told: it lies in the channel until the last handle on it is gone (tokio issue 7714),
//! and whoever holds one and waits for the answer waits for ever. A [`Client`] knows the end of the task
//! too; then it lets go of the handle, and hyper says of such a request that it was not sent.

use std::pin::pin;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinHandle;

/// A connection that requests are sent on. Dropping it lets the connection end.
#[derive(Debug)]
pub struct Client<B> {
    /// `None` once the connection has ended under a request.
    handle: Option<SendRequest<B>>,
    task: JoinHandle<()>,
}

/// A request to which there is no answer.
#[derive(Debug)]
pub struct Unanswered<B> {
    /// What hyper says of it; nothing where the connection had ended before.
    pub error: Option<hyper::Error>,
    /// The request, where nothing of it was sent.
    pub request: Option<Request<B>>,
}

impl<B> Client<B> {
    /// A connection by hyper's handle on it, and the task that has the connection itself and ends with it.
    #[must_use]
    pub const fn new(handle: SendRequest<B>, task: JoinHandle<()>) -> Self {
        Self {
            handle: Some(handle),
            task,
        }
    }

    /// Whether it can carry no request any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.as_ref().is_none_or(SendRequest::is_closed)
    }

    /// Whether it can carry a request now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.handle.as_ref().is_some_and(SendRequest::is_ready)
    }

    /// Waits until it can carry a request; whether it ever will.
    pub async fn ready(&mut self) -> bool {
        match &mut self.handle {
            Some(handle) => handle.ready().await.is_ok(),
            None => false,
        }
    }
}

impl<B: Body + 'static> Client<B> {
    /// Sends a request, and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Unanswered`], when the connection ends first.
    pub async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, Unanswered<B>> {
        let Some(handle) = &mut self.handle else {
            return Err(Unanswered {
                error: None,
                request: Some(request),
            });
        };
        let mut sending = pin!(handle.try_send_request(request));
        let sent = tokio::select! {
            biased;
            sent = &mut sending => sent,
            _ = &mut self.task => {
                self.handle = None;
                sending.await
            }
        };
        sent.map_err(|mut failed| Unanswered {
            request: failed.take_message(),
            error: Some(failed.into_error()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper::client::conn::http1::handshake;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    type TestClient = Client<Empty<Bytes>>;

    async fn client() -> (TestClient, DuplexStream) {
        let (near, far) = tokio::io::duplex(1 << 10);
        let (handle, connection) = handshake(TokioIo::new(near)).await.unwrap();
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        (Client::new(handle, task), far)
    }

    fn request() -> Request<Empty<Bytes>> {
        Request::get("/").body(Empty::new()).unwrap()
    }

    #[tokio::test]
    async fn what_is_answered_comes_back_and_the_connection_is_used_again() {
        let (mut client, mut far) = client().await;
        for _ in 0..2 {
            assert!(client.ready().await && client.is_ready() && !client.is_closed());
            let answering = async {
                let mut head = [0; 18];
                far.read_exact(&mut head).await.unwrap();
                let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                far.write_all(answer).await.unwrap();
            };
            let (sent, ()) = tokio::join!(client.send(request()), answering);
            assert_eq!(sent.unwrap().status(), 204);
        }
    }

    #[tokio::test]
    async fn what_was_not_sent_comes_back_and_what_was_does_not() {
        let (mut gone, far) = client().await;
        drop(far);
        for _ in 0..2 {
            let unanswered = gone.send(request()).await.unwrap_err();
            assert!(unanswered.request.is_some());
        }
        assert!(gone.is_closed() && !gone.is_ready() && !gone.ready().await);
        let (mut cut, mut far) = client().await;
        let reading = async {
            far.read_exact(&mut [0; 18]).await.unwrap();
            drop(far);
        };
        let (sent, ()) = tokio::join!(cut.send(request()), reading);
        let unanswered = sent.unwrap_err();
        assert!(unanswered.request.is_none() && unanswered.error.is_some());
    }

    /// Without the end of the task one of some ten thousand waits for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_waits_on_a_connection_that_ends_as_the_request_comes() {
        for _ in 0..50_000 {
            let (mut client, far) = client().await;
            let closing = tokio::spawn(async move { drop(far) });
            let sending = client.send(request());
            let sent = tokio::time::timeout(Duration::from_secs(5), sending).await;
            assert!(sent.expect("it is told").is_err());
            closing.await.unwrap();
        }
    }
}
