//! Puts the parts together, and takes them down in order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::body::Body;
use daemon::{Listener, Shutdown, Stage, UnixClient, drain, notify, serve};
use fs_err as fs;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tower::service_fn;
use tracing::info;

use crate::config::Config;
use crate::doors::{self, House};
use crate::login::Login;
use crate::proxy::function::Functions;
use crate::proxy::provider::Provider;
use crate::proxy::tunnel::Tunnels;
use crate::routes::{Link, Live};

/// How long a part that only has to tidy up may take at the end.
const TIDY: Duration = Duration::from_secs(2);

/// The gateway with both doors bound: clients can connect, nobody answers yet.
#[derive(Debug)]
pub(crate) struct Gateway {
    config: Config,
    login: Login,
    functions: Listener,
    console: Listener,
}

impl Gateway {
    /// Reads the password and binds the doors.
    pub(crate) fn open(config: Config) -> anyhow::Result<Self> {
        fs::create_dir_all(&config.run)?;
        let login = Login::open(&config.password_file)?;
        let functions = Listener::tcp(config.functions)?;
        let console = Listener::tcp(config.console)?;
        Ok(Self { config, login, functions, console })
    }

    /// Answers until `shutdown`; then lets running calls end, and saves the route table.
    pub(crate) async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { config, login, functions, console } = self;
        let limits = config.limits;
        let stop = shutdown.token();
        let socket = UnixClient::new(config.provider);
        let live = Arc::new(Live::new(limits.calls));
        let link = Link::open(socket.clone(), Arc::clone(&live), config.run.join("routes.json"));
        let tunnels = Tunnels::default();
        let house = Arc::new(House {
            provider: Provider::new(socket, limits.body_limit, tunnels.clone(), stop.clone()),
            functions: Functions::new(live, limits.clone(), tunnels.clone(), stop.clone()),
            login,
        });
        let door = daemon::Limits {
            connections: limits.connections,
            drain: limits.drain,
            ..daemon::Limits::default()
        };

        let addresses = (address(&functions)?, address(&console)?);
        let inside = Arc::clone(&house);
        let answer = service_fn(move |request| {
            let house = Arc::clone(&inside);
            async move { done(doors::functions::answer(&house, request).await) }
        });
        let functions = tokio::spawn(serve(functions, answer, door, stop.clone()));
        let answer = service_fn(move |request: Request<Incoming>| {
            let house = Arc::clone(&house);
            async move { done(doors::console::answer(&house, request).await) }
        });
        let console = tokio::spawn(serve(console, answer, door, stop));
        let unlink = CancellationToken::new();
        let mut link = tokio::spawn(link.follow(unlink.clone()));

        let (functions_at, console_at) = addresses;
        info!(functions = %functions_at, console = %console_at, "open");
        notify::ready(&format!("functions http://{functions_at} console http://{console_at}"))?;
        tokio::select! {
            () = shutdown.begun() => {}
            ended = &mut link => return ended?.context("following the route table"),
        }

        let calls = async move {
            let (functions, console) = tokio::join!(functions, console);
            functions?.context("functions' origin")?;
            console?.context("console's origin")
        };
        let cut = async move {
            tunnels.close().await;
            Ok(())
        };
        // The link goes last: the provider waits for word of the calls that just ended.
        let routes = async move {
            unlink.cancel();
            link.await?
        };
        drain([
            Stage::new("calls", limits.drain + TIDY, calls),
            Stage::new("tunnels", TIDY, cut),
            Stage::new("route table", TIDY, routes),
        ])
        .await?;
        Ok(())
    }
}

fn address(listener: &Listener) -> anyhow::Result<SocketAddr> {
    listener.local_addr().context("a door has no address")
}

fn done(answer: Response<Body>) -> Result<Response<Body>, Infallible> {
    Ok(answer)
}
