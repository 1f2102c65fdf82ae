use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

/// A TCP proxy that can be cut or stalled, to see what a client does when the network does that.
///
/// Dropping it cuts every connection and frees the port.
#[derive(Debug)]
pub struct CutProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    trap: Option<Trap>,
    trap_count: usize,
    connections: Vec<(TcpStream, TcpStream)>,
    connection_count: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Stall,
    Cut,
    Over,
}

#[derive(Debug, Clone)]
struct Trap {
    needle: Vec<u8>,
    /// Whether the server still gets the bytes (and its answer is lost).
    forward: bool,
}

impl CutProxy {
    /// Listens on a free loopback port and forwards to `to`.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, crate::free_port())).expect("the port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                mode: Mode::Pass,
                trap: None,
                trap_count: 0,
                connections: Vec::new(),
                connection_count: 0,
            }),
            changed: Condvar::new(),
        });
        let acceptor = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                match acceptor.state().mode {
                    Mode::Over => break,
                    Mode::Cut => continue,
                    Mode::Pass | Mode::Stall => {}
                }
                let Ok(server) = TcpStream::connect(to) else { continue };
                acceptor.join(client, server);
            }
        });
        Self { address, shared }
    }

    /// A proxy before a local port.
    ///
    /// # Panics
    /// When no port is free.
    pub fn to_port(port: u16) -> Self {
        Self::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections were forwarded since the start.
    pub fn connection_count(&self) -> usize {
        self.shared.state().connection_count
    }

    /// Closes every connection and refuses new ones until [`Self::heal`].
    pub fn cut(&self) {
        self.shared.set(Mode::Cut);
    }

    /// Closes the connections of now; new ones pass.
    pub fn cut_once(&self) {
        self.shared.state().close_all();
    }

    /// Holds every byte, in both directions, on connections that stay open, until [`Self::heal`].
    pub fn stall(&self) {
        self.shared.set(Mode::Stall);
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        self.shared.set(Mode::Pass);
    }

    /// The next connection on which the client sends `needle` is closed before the server gets it. Looks inside single
    /// reads, which on loopback are whole messages of the size of a statement.
    pub fn cut_before(&self, needle: &[u8]) {
        self.shared.state().trap = Some(Trap { needle: needle.to_vec(), forward: false });
    }

    /// The next connection on which the client sends `needle` is closed once the server has answered, and the answer is lost.
    pub fn cut_after(&self, needle: &[u8]) {
        self.shared.state().trap = Some(Trap { needle: needle.to_vec(), forward: true });
    }

    /// How often a trap set by [`Self::cut_before`] or [`Self::cut_after`] went off.
    pub fn trap_count(&self) -> usize {
        self.shared.state().trap_count
    }
}

impl Drop for CutProxy {
    fn drop(&mut self) {
        self.shared.set(Mode::Over);
        // Wakes the acceptor, which then ends.
        TcpStream::connect(self.address).ok();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the proxy's state is held")
    }

    fn set(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        if matches!(mode, Mode::Cut | Mode::Over) {
            state.close_all();
        }
        self.changed.notify_all();
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let copies = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
        let (Ok(from_client), Ok(to_server), Ok(held_client), Ok(held_server)) = copies else { return };
        client.set_nodelay(true).ok();
        server.set_nodelay(true).ok();
        {
            let mut state = self.state();
            if matches!(state.mode, Mode::Cut | Mode::Over) {
                return;
            }
            state.connection_count += 1;
            state.connections.push((held_client, held_server));
        }
        let swallow = Arc::new(Mutex::new(false));
        let (up, down, told) = (Arc::clone(self), Arc::clone(self), Arc::clone(&swallow));
        thread::spawn(move || up.copy_up(from_client, to_server, &told));
        thread::spawn(move || down.copy_down(server, client, &swallow));
    }

    fn copy_up(&self, mut from: TcpStream, mut to: TcpStream, swallow: &Mutex<bool>) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let chunk = &buffer[..length];
            self.pass_stall();
            let mut state = self.state();
            let sprung = state.trap.take_if(|trap| chunk.windows(trap.needle.len()).any(|w| w == trap.needle));
            state.trap_count += usize::from(sprung.is_some());
            drop(state);
            match sprung {
                Some(Trap { forward: false, .. }) => break,
                Some(Trap { forward: true, .. }) => {
                    *swallow.lock().expect("the flag is never held over a panic") = true;
                }
                None => {}
            }
            if to.write_all(chunk).is_err() {
                break;
            }
        }
        close(&from, &to);
    }

    fn copy_down(&self, mut from: TcpStream, mut to: TcpStream, swallow: &Mutex<bool>) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            self.pass_stall();
            let lost = *swallow.lock().expect("the flag is never held over a panic");
            if lost || to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        close(&from, &to);
    }

    fn pass_stall(&self) {
        let state = self.state();
        let waited = self.changed.wait_while(state, |state| state.mode == Mode::Stall);
        drop(waited.expect("no panic while the proxy's state is held"));
    }
}

impl State {
    fn close_all(&mut self) {
        for (client, server) in self.connections.drain(..) {
            close(&client, &server);
        }
    }
}

fn close(one: &TcpStream, other: &TcpStream) {
    one.shutdown(Shutdown::Both).ok();
    other.shutdown(Shutdown::Both).ok();
}
