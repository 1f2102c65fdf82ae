use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use testkit::{CutProxy, wait_until};

/// Answers every message with itself and counts the bytes it got.
fn echo() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, testkit::free_port())).unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let counter = Arc::clone(&counter);
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    counter.fetch_add(length, Ordering::SeqCst);
                    if stream.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (port, count)
}

fn connect(proxy: &CutProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).unwrap()
}

/// One message there and back; what came back (empty when the connection was closed).
fn exchange(stream: &mut TcpStream, message: &[u8]) -> Vec<u8> {
    let mut answer = [0; 64];
    let length = stream.write_all(message).and_then(|()| stream.read(&mut answer)).unwrap_or(0);
    answer[..length].to_vec()
}

#[test]
fn it_passes_cuts_refuses_and_heals() {
    let (port, _) = echo();
    let proxy = CutProxy::to_port(port);
    let mut stream = connect(&proxy);
    assert_eq!(exchange(&mut stream, b"one"), b"one");
    proxy.cut();
    assert_eq!(exchange(&mut stream, b"two"), b"");
    assert_eq!(exchange(&mut connect(&proxy), b"three"), b"");
    proxy.heal();
    assert_eq!(exchange(&mut connect(&proxy), b"four"), b"four");
    assert_eq!(proxy.connection_count(), 2);
}

#[test]
fn a_stall_holds_bytes_without_closing() {
    let (port, count) = echo();
    let proxy = CutProxy::to_port(port);
    let mut stream = connect(&proxy);
    assert_eq!(exchange(&mut stream, b"a"), b"a");
    proxy.stall();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stream.write_all(b"bb").unwrap();
    let error = stream.read(&mut [0; 8]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 1, "the server got nothing while stalled");
    proxy.heal();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"bb");
}

#[test]
fn a_trap_cuts_before_or_after_the_server_acted() {
    let (port, count) = echo();
    let proxy = CutProxy::to_port(port);
    proxy.cut_before(b"COMMIT");
    let mut stream = connect(&proxy);
    assert_eq!(exchange(&mut stream, b"INSERT"), b"INSERT");
    assert_eq!(exchange(&mut stream, b"COMMIT"), b"");
    assert_eq!(count.load(Ordering::SeqCst), 6, "the server never saw it");

    proxy.cut_after(b"COMMIT");
    assert_eq!(exchange(&mut connect(&proxy), b"COMMIT"), b"");
    wait_until(Duration::from_secs(10), "the server to have got it", || count.load(Ordering::SeqCst) == 12);
    assert_eq!(proxy.trap_count(), 2);
    assert_eq!(exchange(&mut connect(&proxy), b"COMMIT"), b"COMMIT", "a trap goes off once");
}
