//! The listeners: API and console on the multi-thread runtime, the public one on a thread per core.

pub(crate) mod api;
pub(crate) mod checks;
pub(crate) mod client;
mod door;
mod lane;
pub(crate) mod public;
pub(crate) mod tls;

use std::{io, net::SocketAddr, time::Duration};

use kernel::Clock;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel keeps while the process is busy.
const BACKLOG: i32 = 4096;
/// Pause after an error of `accept` that says something about the process.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket. A taken port is an error that names the option to change.
pub(crate) fn bind(addr: SocketAddr, option: &str, reuse_port: bool) -> Result<std::net::TcpListener, String> {
    let socket = || -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if reuse_port {
            socket.set_reuse_port(true)?;
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    socket().map_err(|e| match e.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{addr} is taken by another process: choose another address with --set {option}=HOST:PORT")
        }
        io::ErrorKind::PermissionDenied => {
            format!("not allowed to listen on {addr}: choose a port above 1023 with --set {option}=HOST:PORT")
        }
        _ => format!("cannot listen on {addr} ({option}): {e}"),
    })
}

/// The next connection. An error of one connection is passed over; one of the process (out of file descriptors, most likely) is
/// logged and waited out instead of spinning.
async fn accept(listener: &TcpListener, clock: &Clock) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are written whole: waiting for more would only delay them.
                drop(stream.set_nodelay(true));
                return (stream, peer);
            }
            Err(e) if is_of_connection(&e) => {}
            Err(e) => {
                tracing::error!(error = %e, "cannot accept connections");
                clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Ends when a connection has not asked for anything within `limit`; never once it has. The engine's own head timeout starts
/// only when it knows which protocol is spoken, so a client that says nothing would hold its place for ever.
async fn until_silent(clock: &Clock, limit: Duration, has_asked: impl Fn() -> bool) {
    clock.sleep(limit).await;
    if has_asked() {
        std::future::pending::<()>().await;
    }
}

fn is_of_connection(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
