//! The corpus of answers: what each codec makes of each. `docs/answers.md` is this table, as it was last seen.

use std::{fmt::Write as _, path::Path, sync::Arc};

use tokio::io::AsyncWriteExt as _;
use wire::{Codec, Target};

use crate::world::{BackEnd, end, get, head, outcome, pool, send, worker};

/// How an answer is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Whole,
    ByteByByte,
}

/// What comes of one request answered with `answer`, after which the back end closes.
fn run(method: &'static str, answer: &[u8], codec: Codec, cut: Cut) -> String {
    let answer: Arc<[u8]> = answer.into();
    let mut seen = String::new();
    worker(async {
        let back = BackEnd::start_with(
            |target| Target { codec, ..target },
            move |_, mut stream| {
                let answer = answer.clone();
                async move {
                    head(&mut stream).await;
                    let step = if cut == Cut::Whole { answer.len().max(1) } else { 1 };
                    for piece in answer.chunks(step) {
                        // The other end may have refused it already.
                        drop(stream.write_all(piece).await);
                        tokio::task::yield_now().await;
                    }
                    drop(stream.shutdown().await);
                    end(&mut stream).await;
                }
            },
        )
        .await;
        let pool = pool();
        let mut request = get("/");
        *request.method_mut() = method.parse().unwrap();
        seen = match outcome(send(&pool, &back, request).await).await {
            Ok((status, body)) if body.len() > 40 => format!("{status}, {} bytes", body.len()),
            Ok((status, body)) => format!("{status} `{}`", String::from_utf8_lossy(&body).escape_debug()),
            Err(label) => format!("refused: {label}"),
        };
    });
    seen
}

/// What it is, the method asked with, the answer, and what the own codec has to make of it.
type Row = (&'static str, &'static str, Vec<u8>, &'static str);

fn corpus() -> Vec<Row> {
    let row = |what, answer: &str, own| (what, "GET", answer.replace('\n', "\r\n").into_bytes(), own);
    let raw = |what, answer: &str, own| (what, "GET", answer.as_bytes().to_vec(), own);
    let head = |what, answer: &str, own| (what, "HEAD", answer.replace('\n', "\r\n").into_bytes(), own);
    let ok = "200 `hi`";
    let no = "refused: malformed";
    vec![
        row("a length", "HTTP/1.1 200 OK\ncontent-length: 2\n\nhi", ok),
        row("chunks", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n1\nh\n1\ni\n0\n\n", ok),
        row("neither: until the connection closes", "HTTP/1.1 200 OK\n\nhi", ok),
        row("HTTP/1.0", "HTTP/1.0 200 OK\n\nhi", ok),
        row("no reason phrase", "HTTP/1.1 200\ncontent-length: 2\n\nhi", ok),
        row("any case of names and codings", "HTTP/1.1 200 OK\nTRANSFER-ENCODING: Chunked\n\n2\nhi\n0\n\n", ok),
        row("no body with 204", "HTTP/1.1 204 No Content\n\n", "204 ``"),
        row("204 with a length, and the bytes", "HTTP/1.1 204 No Content\ncontent-length: 2\n\nhi", "204 ``"),
        row("304 with the length of what is not sent", "HTTP/1.1 304 Not Modified\ncontent-length: 9\n\n", "304 ``"),
        head("HEAD with the length of what is not sent", "HTTP/1.1 200 OK\ncontent-length: 9\n\n", "200 ``"),
        head("HEAD with chunks announced", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n", "200 ``"),
        head("HEAD answered with a body", "HTTP/1.1 200 OK\ncontent-length: 2\n\nhi", "200 ``"),
        row("more than the length", "HTTP/1.1 200 OK\ncontent-length: 2\n\nhi there", ok),
        row("a second answer behind the first", "HTTP/1.1 200 OK\ncontent-length: 2\n\nhiHTTP/1.1 200 OK\n\n", ok),
        row("100 before the answer", "HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\ncontent-length: 2\n\nhi", ok),
        row("103 before the answer", "HTTP/1.1 103 Early Hints\nlink: </a>\n\nHTTP/1.1 200 OK\n\nhi", ok),
        row("101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\nconnection: upgrade\nupgrade: x\n\n", no),
        row("chunk extensions", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2;a=b;c=\"d\"\nhi\n0;e\n\n", ok),
        row("trailers", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nhi\n0\nx-sum: 1\n\n", ok),
        row("nothing", "", "refused: reset"),
        row("less than a head", "HTTP/1.1 200 OK\ncontent-le", "refused: reset"),
        row("less than the length", "HTTP/1.1 200 OK\ncontent-length: 3\n\nhi", "refused: reset"),
        row("chunks without an end", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nhi\n", "refused: reset"),
        row("not HTTP", "SSH-2.0-OpenSSH_9.2\n", no),
        row("HTTP/2 frames", "\0\0\u{12}\u{4}\0\0\0\0\0", no),
        row("HTTP/0.9: no head at all", "<html>hi</html>", no),
        row("HTTP/2.0 in the status line", "HTTP/2.0 200 OK\n\nhi", no),
        row("HTTP/1.2", "HTTP/1.2 200 OK\ncontent-length: 2\n\nhi", no),
        row("a status of two digits", "HTTP/1.1 20 OK\n\nhi", no),
        row("a status of four digits", "HTTP/1.1 2000 OK\n\nhi", no),
        row("status 099", "HTTP/1.1 099 Low\ncontent-length: 2\n\nhi", no),
        row("status 999", "HTTP/1.1 999 Odd\ncontent-length: 2\n\nhi", "999 `hi`"),
        row(
            "both length and chunks",
            "HTTP/1.1 200 OK\ncontent-length: 2\ntransfer-encoding: chunked\n\n2\nhi\n0\n\n",
            no,
        ),
        row("chunks and length", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\ncontent-length: 2\n\n2\nhi\n0\n\n", no),
        row("two lengths that differ", "HTTP/1.1 200 OK\ncontent-length: 2\ncontent-length: 3\n\nhi", no),
        row("two lengths that are equal", "HTTP/1.1 200 OK\ncontent-length: 2\ncontent-length: 2\n\nhi", no),
        row("a list of lengths", "HTTP/1.1 200 OK\ncontent-length: 2, 2\n\nhi", no),
        row("a length with a sign", "HTTP/1.1 200 OK\ncontent-length: +2\n\nhi", no),
        row("a negative length", "HTTP/1.1 200 OK\ncontent-length: -2\n\nhi", no),
        row("a hexadecimal length", "HTTP/1.1 200 OK\ncontent-length: 0x2\n\nhi", no),
        row("an empty length", "HTTP/1.1 200 OK\ncontent-length: \n\nhi", no),
        row("a length past 64 bits", "HTTP/1.1 200 OK\ncontent-length: 18446744073709551618\n\nhi", no),
        row("an unknown coding", "HTTP/1.1 200 OK\ntransfer-encoding: gzip\n\nhi", no),
        row("a coding below chunks", "HTTP/1.1 200 OK\ntransfer-encoding: gzip, chunked\n\n2\nhi\n0\n\n", no),
        row("chunks twice", "HTTP/1.1 200 OK\ntransfer-encoding: chunked, chunked\n\n2\nhi\n0\n\n", no),
        row(
            "chunks in two fields",
            "HTTP/1.1 200 OK\ntransfer-encoding: chunked\ntransfer-encoding: chunked\n\n0\n\n",
            no,
        ),
        row("chunks below another coding", "HTTP/1.1 200 OK\ntransfer-encoding: chunked, identity\n\n2\nhi\n0\n\n", no),
        row(
            "a coding that only looks like chunked",
            "HTTP/1.1 200 OK\ntransfer-encoding: xchunked\n\n2\nhi\n0\n\n",
            no,
        ),
        row("chunks in HTTP/1.0", "HTTP/1.0 200 OK\ntransfer-encoding: chunked\n\n2\nhi\n0\n\n", no),
        row("a folded line", "HTTP/1.1 200 OK\nx-a: b\n c\ncontent-length: 2\n\nhi", no),
        row("a folded length", "HTTP/1.1 200 OK\ncontent-length:\n 2\n\nhi", no),
        row("a blank before the colon", "HTTP/1.1 200 OK\ncontent-length : 2\n\nhi", no),
        row("a blank before the name", "HTTP/1.1 200 OK\n content-length: 2\n\nhi", no),
        row("no colon", "HTTP/1.1 200 OK\ncontent-length 2\n\nhi", no),
        row("an empty name", "HTTP/1.1 200 OK\n: 2\n\nhi", no),
        row("NUL in a value", "HTTP/1.1 200 OK\nx: a\0b\ncontent-length: 2\n\nhi", no),
        raw("CR in a value", "HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 2\r\n\r\nhi", no),
        raw("lines that end with LF alone", "HTTP/1.1 200 OK\ncontent-length: 2\n\nhi", ok),
        raw(
            "a chunk size line that ends with LF alone",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n",
            no,
        ),
        raw(
            "LF alone behind an extension",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a\nhi\r\n0\r\n\r\n",
            no,
        ),
        raw("LF alone behind a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\n0\r\n\r\n", no),
        row("a chunk longer than its size", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nhi!\n0\n\n", no),
        row("a chunk size with a sign", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n+2\nhi\n0\n\n", no),
        row("a chunk size with 0x", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n0x2\nhi\n0\n\n", no),
        row("a chunk size behind a blank", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n 2\nhi\n0\n\n", no),
        row("a chunk without a size", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n;a\nhi\n0\n\n", no),
        row(
            "a chunk size past 64 bits",
            "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n10000000000000002\nhi\n0\n\n",
            no,
        ),
        row("a trailer that is no field", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nhi\n0\nbad\n\n", no),
        (
            "a head of 1 MiB",
            "GET",
            format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(1 << 20)).into_bytes(),
            "refused: too_large",
        ),
        (
            "101 fields",
            "GET",
            format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101)).into_bytes(),
            "refused: too_large",
        ),
        (
            "a megabyte",
            "GET",
            [b"HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n".to_vec(), vec![b'a'; 1 << 20]].concat(),
            "200, 1048576 bytes",
        ),
    ]
}

#[test]
fn each_answer_has_its_outcome_however_it_is_cut() {
    for (what, method, answer, own) in corpus() {
        assert_eq!(run(method, &answer, Codec::Own, Cut::Whole), own, "{what}");
        if answer.len() < 1000 {
            assert_eq!(run(method, &answer, Codec::Own, Cut::ByteByByte), own, "{what}, byte by byte");
        }
    }
}

/// hyper is asked the same. Where it differs it is the one that is less strict: whatever it refuses is refused.
#[test]
fn the_paper_says_what_both_codecs_do() {
    let mut paper = "# Answers of back ends\n\n\
        What the gateway makes of an answer, by its own codec of HTTP/1 and by hyper's client connection, which the tests send the same bytes through and in which an empty cell \
        says: the same. A refused answer is a 502 for the client, and its connection is closed. Generated: run the tests of \
        `base/wire` with `WRITE_PAPERS=1`.\n\n| answer | own codec | hyper |\n|---|---|---|\n"
        .to_owned();
    for (what, method, answer, own) in corpus() {
        let hyper = run(method, &answer, Codec::Hyper, Cut::Whole);
        let is_refused = |outcome: &str| outcome.starts_with("refused");
        assert!(is_refused(own) || !is_refused(&hyper), "{what}: own {own}, hyper {hyper}");
        // Which of two words hyper has for a refusal is no difference.
        let differs = if is_refused(own) && is_refused(&hyper) || hyper == own { "" } else { &hyper };
        writeln!(paper, "| {what} | {own} | {differs} |").unwrap();
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/answers.md");
    if std::env::var_os("WRITE_PAPERS").is_some() {
        std::fs::write(&file, &paper).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(written, paper, "docs/answers.md is not as it is: run the tests with WRITE_PAPERS=1");
}
