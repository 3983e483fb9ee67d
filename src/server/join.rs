//! Bytes both ways between a caller's connection and one to whoever serves it elsewhere.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, copy, split};
use tokio::time::timeout;

/// How long a caller may take to close after the other side has.
const CALLER_CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Carries bytes between `caller` and `server` until the server has closed and the caller has too, or has
/// had a moment to. That a caller closes for writing is passed on, and ends nothing else.
///
/// # Errors
/// If either connection breaks.
pub async fn join<C, S>(caller: C, server: S) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    S: AsyncRead + AsyncWrite,
{
    let (from_caller, to_caller) = split(caller);
    let (from_server, to_server) = split(server);
    let mut up = pin!(pass(from_caller, to_server));
    let mut down = pin!(pass(from_server, to_caller));
    tokio::select! {
        biased;
        ended = &mut down => ended?,
        ended = &mut up => {
            ended?;
            return down.await;
        }
    }
    // A caller that keeps its side open is closed on.
    timeout(CALLER_CLOSE_WAIT, up).await.unwrap_or(Ok(()))
}

/// Passes bytes on, and their end.
async fn pass<F, T>(mut from: ReadHalf<F>, mut to: WriteHalf<T>) -> io::Result<()>
where
    F: AsyncRead,
    T: AsyncWrite,
{
    copy(&mut from, &mut to).await?;
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_servers_end_ends_it_and_the_callers_does_not() {
        let ((mut caller, near), (far, mut server)) = (duplex(64), duplex(64));
        let joined = tokio::spawn(join(near, far));
        caller.write_all(b"ask").await.unwrap();
        caller.shutdown().await.unwrap();
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"ask", "and the end of it");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        heard.clear();
        caller.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"answer");
        joined.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_keeps_its_side_open_is_closed_on() {
        let ((caller, near), (far, server)) = (duplex(64), duplex(64));
        drop(server);
        join(near, far).await.unwrap();
        drop(caller);
    }
}
