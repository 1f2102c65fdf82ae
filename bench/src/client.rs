//! A small HTTP/1.1 client over one connection kept alive, on a thread of its own: it costs little beside what it measures,
//! and a thread's sleep is exact to some 60 µs where a timer wheel has steps of a millisecond.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server takes connections");
        stream.set_nodelay(true).expect("a socket takes options");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket takes options");
        Self { stream, buffer: vec![0; 64 * 1024] }
    }

    /// Sends a whole request and reads the whole answer; its status.
    pub(crate) fn send(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).expect("the server reads");
        let mut filled = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[filled..]).expect("the server answers");
            assert!(count > 0, "the server closed a connection");
            filled += count;
            if let Some((status, len)) = whole(&self.buffer[..filled]) {
                assert!(len == filled, "an answer came with {} bytes too many", filled - len);
                return status;
            }
        }
    }
}

/// Status and length of an answer with a `Content-Length`, once it is whole.
fn whole(bytes: &[u8]) -> Option<(u16, usize)> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("a head is ASCII");
    let status = text.get(9..12)?.parse().ok()?;
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    };
    let len = head + text.lines().find_map(length).expect("an answer has a Content-Length");
    (bytes.len() >= len).then_some((status, len))
}

/// Follows each code once, over 16 connections.
pub(crate) fn follow_each<'a>(port: u16, codes: impl Iterator<Item = &'a str>) {
    const CONNECTIONS: usize = 16;
    let requests: Vec<Vec<u8>> = codes.map(|code| get(&format!("/{code}"))).collect();
    std::thread::scope(|scope| {
        for share in requests.chunks(requests.len().div_ceil(CONNECTIONS).max(1)) {
            scope.spawn(move || {
                let mut client = Client::connect(port);
                for request in share {
                    assert_eq!(client.send(request), 302, "each link leads on");
                }
            });
        }
    });
}

/// A GET without a body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\n\r\n").into_bytes()
}

/// A creation of a link.
pub(crate) fn creation(destination: &str) -> Vec<u8> {
    let body = format!("{{\"url\":\"{destination}\"}}");
    format!(
        "POST /v1/links HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(whole(answer), Some((201, answer.len())));
        assert_eq!(whole(&answer[..answer.len() - 1]), None);
        assert_eq!(whole(&answer[..20]), None);
    }
}
