use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Version 2 with command, family and transport, and what follows.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2, &[command, family], &length, body].concat()
}

fn check(input: &[u8], expected: &str) {
    let seen = match decode(input) {
        Ok(Decoded::Whole(header, len)) => {
            assert_eq!(len, input.len(), "{input:?}");
            header.addresses.map_or("nobody".to_owned(), |(a, b)| format!("{a} to {b}"))
        }
        Ok(Decoded::Part { .. }) => "part".to_owned(),
        Err(e) => e.0.to_owned(),
    };
    assert_eq!(seen, expected, "{:?}", String::from_utf8_lossy(input));
}

#[test]
fn the_corpus_of_version_1() {
    for (line, expected) in [
        // The examples of section 2.1, the longest lines included.
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "192.168.0.1:56324 to 192.168.0.11:443"),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            "255.255.255.255:65535 to 255.255.255.255:65535",
        ),
        ("PROXY TCP6 2001:db8::1 ::1 1 0\r\n", "[2001:db8::1]:1 to [::1]:0"),
        ("PROXY UNKNOWN\r\n", "nobody"),
        ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", "nobody"),
        ("PROXY UNKNOWN whatever it says\r\n", "nobody"),
        ("", "part"),
        ("P", "part"),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r", "part"),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n", "the line does not end with CRLF"),
        ("PROXY UNKNOWN\n", "the line does not end with CRLF"),
        ("GET / HTTP/1.1\r\n", "it begins otherwise"),
        ("proxy UNKNOWN\r\n", "it begins otherwise"),
        ("PROXY\r\n", "it begins otherwise"),
        ("PROXY \r\n", "a port is missing"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "a port is missing"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", "there are words after the ports"),
        ("PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", "a port is not a number of 0 to 65535"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", "a port is not a number of 0 to 65535"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", "a port is not a number of 0 to 65535"),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", "a port is not a number of 0 to 65535"),
        ("PROXY TCP4 ::1 5.6.7.8 1 2\r\n", "an address is not one of its family"),
        ("PROXY TCP6 1.2.3.4 ::1 1 2\r\n", "an address is not one of its family"),
        ("PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", "an address is not one of its family"),
        ("PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n", "an address is not one of its family"),
        ("PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "the family is not TCP4, TCP6 or UNKNOWN"),
        ("PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", "the family is not TCP4, TCP6 or UNKNOWN"),
    ] {
        check(line.as_bytes(), expected);
    }
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    check(&endless, "the line does not end within 107 bytes");
    check(b"PROXY UNKNOWN \xff\xff\r\n", "the line is not ASCII");
}

#[test]
fn the_corpus_of_version_2() {
    let v4 = [10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80];
    let with = |extra: &[u8]| [&v4, extra].concat();
    let v6 = [&[0x20; 16][..], &[0x30; 16], &[0, 1, 0, 2]].concat();
    for (input, expected) in [
        (v2(0x21, 0x11, &v4), "10.0.0.1:4660 to 10.0.0.2:80"),
        (v2(0x21, 0x12, &v4), "10.0.0.1:4660 to 10.0.0.2:80"),
        (
            v2(0x21, 0x21, &v6),
            "[2020:2020:2020:2020:2020:2020:2020:2020]:1 to [3030:3030:3030:3030:3030:3030:3030:3030]:2",
        ),
        (v2(0x21, 0x31, &[0; 216]), "nobody"),
        (v2(0x21, 0x00, &[]), "nobody"),
        (v2(0x21, 0x00, &[4, 0, 0]), "nobody"),
        (v2(0x21, 0x10, &v4), "nobody"),
        (v2(0x20, 0x00, &[]), "nobody"),
        // LOCAL: what follows is skipped, whatever it is.
        (v2(0x20, 0x11, &v4), "nobody"),
        (v2(0x20, 0x11, &[1, 0xff]), "nobody"),
        (v2(0x21, 0x11, &with(&[4, 0, 2, 9, 9, 5, 0, 0])), "10.0.0.1:4660 to 10.0.0.2:80"),
        (v2(0x21, 0x11, &with(&[4, 0, 3, 9, 9])), "an extension is longer than what is there"),
        (v2(0x21, 0x11, &with(&[4, 0])), "an extension is longer than what is there"),
        (v2(0x21, 0x11, &v4[..11]), "it is too short for its addresses"),
        (v2(0x21, 0x21, &v4), "it is too short for its addresses"),
        (v2(0x21, 0x31, &v4), "it is too short for its addresses"),
        (v2(0x22, 0x11, &v4), "its version or command is unknown"),
        (v2(0x11, 0x11, &v4), "its version or command is unknown"),
        (v2(0x31, 0x11, &v4), "its version or command is unknown"),
        (v2(0x21, 0x13, &v4), "its transport is unknown"),
        (v2(0x21, 0x41, &v4), "its family is unknown"),
        (v2(0x21, 0x11, &with(&[3, 0, 3, 1, 2, 3])), "its checksum is not of four bytes"),
        (v2(0x21, 0x11, &with(&[3, 0, 4, 1, 2, 3, 4])), "its checksum does not hold"),
        (v2(0x21, 0x11, &[0; 5000]), "it is longer than 4096 bytes"),
        (V2[..11].to_vec(), "part"),
        (v2(0x21, 0x11, &v4)[..20].to_vec(), "part"),
        ([&V2[..11], b"\r"].concat(), "it begins otherwise"),
    ] {
        check(&input, expected);
    }
}

#[test]
fn a_checksum_that_holds_is_taken() {
    // The value for "123456789" that every description of CRC-32C gives.
    assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
    let mut header = Vec::new();
    let addresses = Some((addr("10.0.0.1:1"), addr("10.0.0.2:2")));
    encode(ProxyVersion::V2, addresses, Transport::Stream, &[(tlv::CRC32C, &[0; 4]), (tlv::NOOP, b"x")], &mut header);
    let sum = crc32c(&[&header]).to_be_bytes();
    let at = FIXED_BYTES + 12 + 3;
    header[at..at + 4].copy_from_slice(&sum);
    check(&header, "10.0.0.1:1 to 10.0.0.2:2");
    header[FIXED_BYTES] ^= 1;
    check(&header, "its checksum does not hold");
}

#[test]
fn extensions_come_back_and_families_are_made_the_same() {
    let mut header = Vec::new();
    let addresses = Some((addr("[::ffff:10.0.0.1]:1"), addr("[2001:db8::2]:2")));
    let with: &[(u8, &[u8])] = &[(tlv::AUTHORITY, b"shop.example"), (tlv::UNIQUE_ID, &[0; 5000]), (tlv::ALPN, b"h2")];
    encode(ProxyVersion::V2, addresses, Transport::Datagram, with, &mut header);
    let Ok(Decoded::Whole(read, _)) = decode(&header) else { panic!("{header:?}") };
    assert_eq!(read.source(), Some(addr("[::ffff:10.0.0.1]:1")));
    assert_eq!(read.transport, Transport::Datagram);
    assert_eq!(read.extension(tlv::AUTHORITY), Some(b"shop.example".as_slice()));
    assert_eq!(read.extension(tlv::ALPN), Some(b"h2".as_slice()));
    assert_eq!(read.extension(tlv::UNIQUE_ID), None);
    let mut line = Vec::new();
    encode(ProxyVersion::V1, addresses, Transport::Stream, &[], &mut line);
    assert_eq!(line, b"PROXY TCP6 ::ffff:10.0.0.1 2001:db8::2 1 2\r\n");
}

#[tokio::test]
async fn accept_takes_the_header_and_not_a_byte_more_however_it_is_cut() {
    let addresses = Some((addr("192.0.2.7:4711"), addr("198.51.100.1:443")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut whole = Vec::new();
        encode(version, addresses, Transport::Stream, &[(tlv::AUTHORITY, &[b'a'; 300])], &mut whole);
        let length = whole.len();
        whole.extend_from_slice(b"PROXY \r\n\r\nrest");
        for cut in [1, 5, 6, 11, 12, 15, 16, 17, length - 1, length, length + 3] {
            let (client, server) = tokio::join!(TcpStream::connect(at), listener.accept());
            let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
            client.set_nodelay(true).unwrap();
            let (first, last) = whole.split_at(cut.min(whole.len()));
            let send = async {
                client.write_all(first).await.unwrap();
                tokio::task::yield_now().await;
                client.write_all(last).await.unwrap();
                client.shutdown().await.unwrap();
            };
            let receive = async {
                let header = accept(&mut server).await.unwrap();
                let mut rest = Vec::new();
                server.read_to_end(&mut rest).await.unwrap();
                (header, rest)
            };
            let ((), (header, rest)) = tokio::join!(send, receive);
            assert_eq!(header.addresses, addresses, "{version:?} cut at {cut}");
            assert_eq!(rest, b"PROXY \r\n\r\nrest", "{version:?} cut at {cut}");
        }
    }
}

#[tokio::test]
async fn accept_refuses_what_is_no_header_and_what_ends_within_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    for (sent, kind) in [
        (b"GET / HTTP/1.1\r\n\r\n".as_slice(), io::ErrorKind::InvalidData),
        (b"\x16\x03\x01\x02\x00", io::ErrorKind::InvalidData),
        (b"PROXY TCP4 1.2.3.4", io::ErrorKind::UnexpectedEof),
        (b"", io::ErrorKind::UnexpectedEof),
    ] {
        let (client, server) = tokio::join!(TcpStream::connect(at), listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(accept(&mut server).await.unwrap_err().kind(), kind, "{sent:?}");
    }
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

/// Bytes that look like headers often enough.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let tail = prop::collection::vec(any::<u8>(), 0..300);
    let begin = prop_oneof![
        Just(Vec::new()),
        Just(b"PROXY ".to_vec()),
        Just(b"PROXY TCP4 1.2.3.4 ".to_vec()),
        Just(V2.to_vec()),
        (any::<u8>(), any::<u8>(), 0..300_u16).prop_map(|(command, family, length)| {
            [V2, &[0x20 | command & 3, family & 0x3f], &length.to_be_bytes()].concat()
        }),
    ];
    (begin, tail).prop_map(|(begin, tail)| [begin, tail].concat())
}

proptest! {
    #[test]
    fn any_bytes_are_a_part_a_header_or_refused(input in any_bytes()) {
        match decode(&input) {
            Ok(Decoded::Whole(_, len)) => {
                prop_assert!(len <= input.len() && len <= MAX_BYTES);
                // Every byte of it was needed, and those behind it say nothing.
                prop_assert_eq!(decode(&input[..len]), decode(&input));
                let is_part = matches!(decode(&input[..len - 1]), Ok(Decoded::Part { .. }));
                prop_assert!(is_part);
            }
            Ok(Decoded::Part { missing }) => {
                prop_assert!(missing > 0 && input.len() + missing <= MAX_BYTES);
                // Less would not be enough.
                let more = [input.as_slice(), &vec![b'\n'; missing - 1]].concat();
                let is_whole = matches!(decode(&more), Ok(Decoded::Whole(..)));
                prop_assert!(!is_whole || missing == 1);
            }
            Err(_) => {}
        }
    }

    #[test]
    fn what_is_encoded_is_read_back(a in any_address(), b in any_address(), is_v1 in any::<bool>()) {
        let version = if is_v1 { ProxyVersion::V1 } else { ProxyVersion::V2 };
        let mut header = Vec::new();
        encode(version, Some((a, b)), Transport::Stream, &[], &mut header);
        let Ok(Decoded::Whole(read, len)) = decode(&header) else { return Err(TestCaseError::fail("not read")) };
        prop_assert_eq!(len, header.len());
        let (c, d) = read.addresses.unwrap();
        prop_assert_eq!((c.ip().to_canonical(), c.port()), (a.ip(), a.port()));
        prop_assert_eq!((d.ip().to_canonical(), d.port()), (b.ip(), b.port()));
    }
}
