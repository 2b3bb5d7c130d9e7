//! Where connections come from.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use fs_err as fs;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::Peer;

/// TCP connections that wait in the kernel until one is free.
const BACKLOG: u32 = 1024;

/// A connection of either kind.
pub type Stream = Either<TcpStream, UnixStream>;

/// A bound socket: clients can connect from now on.
#[derive(Debug)]
pub struct Listener(Either<TcpListener, UnixListener>);

impl Listener {
    /// Listens on the Unix socket `path`, reachable by whom `mode` lets (`0o660`: owner and group).
    ///
    /// Missing parent folders are made; a socket that a dead process left is replaced. The file
    /// appears under its name only when it has its permissions and answers.
    ///
    /// # Errors
    /// When the file cannot be made; the path is in the message.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn unix(path: &Path, mode: u32) -> anyhow::Result<Self> {
        Self::unix_at(path, mode).with_context(|| format!("listening on `{}`", path.display()))
    }

    fn unix_at(path: &Path, mode: u32) -> anyhow::Result<Self> {
        let name = path.file_name().context("it names no file")?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut temporary = OsString::from(".");
        temporary.push(name);
        let temporary = path.with_file_name(temporary);
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&temporary)
            .with_context(|| format!("binding `{}`", temporary.display()))?;
        fs::set_permissions(&temporary, PermissionsExt::from_mode(mode))?;
        fs::rename(&temporary, path)?;
        Ok(Self(Either::Right(listener)))
    }

    /// Listens on a TCP port; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound; it is in the message.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn tcp(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = bind(address).with_context(|| format!("listening on {address}"))?;
        Ok(Self(Either::Left(listener)))
    }

    /// The TCP address in use; none for a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Either::Left(tcp) => tcp.local_addr().ok(),
            Either::Right(_) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.0 {
            Either::Left(tcp) => {
                let (stream, address) = tcp.accept().await?;
                // Answers are written whole: waiting to fill a packet only delays them.
                stream.set_nodelay(true)?;
                Ok((Either::Left(stream), Peer::Tcp(address)))
            }
            Either::Right(unix) => {
                let (stream, _) = unix.accept().await?;
                Ok((Either::Right(stream), Peer::Unix))
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Connections inherit it: a peer that vanished without a word is noticed in the end.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
