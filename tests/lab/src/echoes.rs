//! Echoes on the internet: real ones, and one that says what it is told.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::host::Host;
use crate::site::{ECHO_PORT, ECHOES, LIAR};

/// The echoes, until they are dropped.
pub(crate) struct Echoes {
    lie: Arc<Mutex<Option<Ipv4Addr>>>,
    _honest: Child,
    _liar: JoinHandle<()>,
}

impl Echoes {
    /// Starts the program at the honest addresses, and the liar.
    pub(crate) async fn start(host: &Host, program: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.arg("echo");
        for address in ECHOES {
            command
                .arg("--listen")
                .arg(format!("{address}:{ECHO_PORT}"));
        }
        command
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command.kill_on_drop(true);
        // On the thread of the host, whose namespace the program inherits.
        let honest = host.run(async move { command.spawn() }).await?;
        let listener = host.run(TcpListener::bind((LIAR, ECHO_PORT))).await?;
        let lie = Arc::<Mutex<Option<Ipv4Addr>>>::default();
        let told = Arc::clone(&lie);
        let liar = host.spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let says = lock(&told).map_or_else(|| peer.ip().to_string(), |lie| lie.to_string());
                // Whoever does not wait for the answer does not want it.
                let _ = answer(stream, &says).await;
            }
        });
        let echoes = Self {
            lie,
            _honest: honest,
            _liar: liar,
        };
        echoes.until_there(host).await?;
        Ok(echoes)
    }

    /// From here on the liar says this of every address; `None`: what it sees.
    pub(crate) fn liar_says(&self, lie: Option<Ipv4Addr>) {
        *lock(&self.lie) = lie;
    }

    async fn until_there(&self, host: &Host) -> anyhow::Result<()> {
        for address in ECHOES {
            let connecting = async move {
                for _ in 0..500 {
                    if TcpStream::connect((address, ECHO_PORT)).await.is_ok() {
                        return Some(());
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                None
            };
            host.run(connecting)
                .await
                .context("the echo does not start")?;
        }
        Ok(())
    }
}

async fn answer(mut stream: TcpStream, says: &str) -> std::io::Result<()> {
    let mut head = [0; 1024];
    let _ = stream.read(&mut head).await?;
    let length = says.len();
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{says}");
    stream.write_all(answer.as_bytes()).await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
