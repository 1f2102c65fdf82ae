//! The listeners: API and console on the multi-thread runtime, the public one on a thread per core.

pub(crate) mod api;
pub(crate) mod public;
pub(crate) mod tls;

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps while the process is busy.
const BACKLOG: i32 = 4096;

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

/// Whether an `accept` error says something about one connection only, so that accepting can go on at once.
fn is_connection_error(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
