//! A host of the laboratory: a network namespace with a thread that lives in it.

use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::thread;

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A host. What is spawned on it opens its sockets there, and so do the programs it starts.
pub(crate) struct Host {
    runtime: Handle,
    _stop: oneshot::Sender<()>,
}

impl Host {
    /// Moves a thread into the namespace of this name.
    pub(crate) fn enter(name: &'static str) -> anyhow::Result<Self> {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let entered = enter(name).and_then(|()| {
                    let mut runtime = tokio::runtime::Builder::new_current_thread();
                    Ok(runtime.enable_all().build()?)
                });
                match entered {
                    Ok(runtime) => {
                        // Whoever waits for this waits until it is told.
                        let _ = tell.send(Ok(runtime.handle().clone()));
                        let _ = runtime.block_on(stopped);
                    }
                    Err(error) => {
                        let _ = tell.send(Err(error));
                    }
                }
            })?;
        let runtime = told.recv().context("the thread of a host has died")??;
        Ok(Self {
            runtime,
            _stop: stop,
        })
    }

    /// Runs something on this host, beside what already runs there.
    pub(crate) fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(work)
    }

    /// Runs something on this host to its end.
    pub(crate) async fn run<F>(&self, work: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn(work).await.expect("it does not panic")
    }
}

/// Moves the calling thread into the network namespace of this name.
pub(crate) fn enter(name: &str) -> anyhow::Result<()> {
    let path = Path::new("/run/netns").join(name);
    let namespace = File::open(&path).with_context(|| format!("{}", path.display()))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {name}"))
}
