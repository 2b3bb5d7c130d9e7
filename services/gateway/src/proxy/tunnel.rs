//! A connection that changed its protocol (a websocket): bytes go both ways until one side ends.

use std::time::Duration;

use anyhow::Context;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::headers;

/// How long both connections may take to change over once the answer is on its way.
const CHANGE: Duration = Duration::from_secs(10);

/// A caller's wish to change the protocol of its connection.
#[derive(Debug)]
pub(crate) struct Change {
    /// The connection, once it has changed.
    pub(crate) connection: OnUpgrade,
    /// What it is to speak.
    pub(crate) protocol: HeaderValue,
}

impl Change {
    /// What a request asks for, if it does.
    pub(crate) fn asked(request: &mut Request<Incoming>) -> Option<Self> {
        let protocol = headers::upgrade(request.headers())?;
        Some(Self { connection: hyper::upgrade::on(request), protocol })
    }
}

/// All tunnels of this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tunnels {
    running: TaskTracker,
    cut: CancellationToken,
}

impl Tunnels {
    /// Joins two connections once both have changed over. What the tunnel `holds` is let go when
    /// it ends.
    pub(crate) fn open(&self, caller: OnUpgrade, callee: OnUpgrade, holds: impl Send + 'static) {
        let cut = self.cut.clone();
        self.running.spawn(async move {
            let joined = async {
                let both = async { tokio::try_join!(caller, callee) };
                let (caller, callee) = timeout(CHANGE, both)
                    .await
                    .with_context(|| format!("no change of protocol within {CHANGE:?}"))??;
                let (mut caller, mut callee) = (TokioIo::new(caller), TokioIo::new(callee));
                copy_bidirectional(&mut caller, &mut callee).await?;
                anyhow::Ok(())
            };
            if let Some(Err(error)) = cut.run_until_cancelled(joined).await {
                debug!("a tunnel broke: {error:#}");
            }
            drop(holds);
        });
    }

    /// Cuts them all and waits until they are gone.
    pub(crate) async fn close(&self) {
        self.cut.cancel();
        self.running.close();
        self.running.wait().await;
    }
}
