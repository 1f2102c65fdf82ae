//! What is sent, what is given, and what becomes of the connection.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
};
use wire::SendOptions;

use crate::world::{BackEnd, bytes, end, get, head, outcome, pool, post, send, send_with, worker};

/// A body that is fed by hand.
fn fed() -> (mpsc::Sender<Bytes>, impl http_body::Body<Data = Bytes, Error = std::io::Error>) {
    let (feed, mut fed) = mpsc::channel::<Bytes>(1);
    let stream =
        futures_util::stream::poll_fn(move |cx| fed.poll_recv(cx).map(|data| data.map(|d| Ok(Frame::data(d)))));
    (feed, StreamBody::new(stream))
}

#[test]
fn one_connection_serves_request_after_request() {
    worker(async {
        let back =
            BackEnd::saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\r\nConnection: x-c\r\nx-c: d\r\n\r\nhi")
                .await;
        let pool = pool();
        for _ in 0..3 {
            let answer = send(&pool, &back, get("/a")).await.unwrap();
            assert_eq!(answer.headers()["x-a"], "b");
            assert!(!answer.headers().contains_key("x-c"), "Connection names it");
            assert!(!answer.headers().contains_key("connection"));
            assert_eq!(answer.body().as_full(), Some(&b"hi"[..]));
        }
        assert_eq!(back.accepted.get(), 1);
        assert_eq!((pool.stats().opened_count, pool.stats().reused_count, pool.stats().idle_count), (1, 2, 1));
    });
}

const CHUNKED: &[u8] = b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";

#[test]
fn a_body_goes_out_with_its_length_or_in_chunks() {
    worker(async {
        let back = BackEnd::start(|_, mut stream| async move {
            loop {
                let head = head(&mut stream).await;
                let body = if head.contains("content-length: 5\r\n") {
                    bytes(&mut stream, 5).await
                } else if head.contains("transfer-encoding: chunked\r\n") {
                    bytes(&mut stream, CHUNKED.len()).await
                } else {
                    break;
                };
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(&[answer.as_bytes(), &body].concat()).await.unwrap();
            }
        })
        .await;
        let pool = pool();
        assert_eq!(outcome(send(&pool, &back, post("/", "hello")).await).await, Ok((200, b"hello".to_vec())));
        let (feed, body) = fed();
        let feeder = async move {
            feed.send("abc".into()).await.unwrap();
            feed.send("d".into()).await.unwrap();
        };
        let request = Request::post("/").header("host", "shop").body(body).unwrap();
        let (answer, ()) = tokio::join!(send(&pool, &back, request), feeder);
        assert_eq!(outcome(answer).await, Ok((200, CHUNKED.to_vec())));
    });
}

#[test]
fn an_answer_may_begin_and_end_before_the_request_does() {
    worker(async {
        // An echo: each piece comes back before the next is sent.
        let back = BackEnd::start(|_, mut stream| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            let (mut from, mut to) = stream.split();
            drop(tokio::io::copy(&mut from, &mut to).await);
        })
        .await;
        let pool = pool();
        let (feed, body) = fed();
        let request = Request::post("/").body(body).unwrap();
        let mut body = send(&pool, &back, request).await.unwrap().into_body();
        for piece in ["one", "two", "three"] {
            feed.send(piece.into()).await.unwrap();
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), piece);
        }
        drop(feed);
        assert!(body.frame().await.is_none());
        assert_eq!(pool.stats().idle_count, 1, "all was sent and all was read");
    });
}

#[test]
fn an_early_refusal_is_the_answer_though_the_body_was_not_taken() {
    worker(async {
        let back = BackEnd::start(|_, mut stream| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
            stream.shutdown().await.unwrap();
            end(&mut stream).await;
        })
        .await;
        let pool = pool();
        let body = vec![7; 32 << 20];
        assert_eq!(outcome(send(&pool, &back, post("/", body)).await).await, Ok((413, b"no".to_vec())));
        let (feed, body) = fed();
        let request = Request::post("/").body(body).unwrap();
        assert_eq!(outcome(send(&pool, &back, request).await).await, Ok((413, b"no".to_vec())));
        assert_eq!(pool.stats().idle_count, 0, "the back end still waits for a body there");
        drop(feed);
    });
}

#[test]
fn a_stale_connection_is_noticed_or_the_request_sent_again() {
    worker(async {
        let (closed, mut has_closed) = mpsc::channel(10);
        let back = BackEnd::start(move |_, mut stream| {
            let closed = closed.clone();
            async move {
                head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
                // The next request is read and not answered.
                head(&mut stream).await;
                drop(stream);
                closed.send(()).await.unwrap();
            }
        })
        .await;
        let pool = pool();
        let hi = Ok((200, b"hi".to_vec()));
        assert_eq!(outcome(send(&pool, &back, get("/")).await).await, hi);
        assert_eq!(outcome(send(&pool, &back, get("/")).await).await, hi);
        has_closed.recv().await.unwrap();
        assert_eq!((back.accepted.get(), pool.stats().replayed_count), (2, 1));
        // A POST may have been acted upon.
        assert_eq!(outcome(send(&pool, &back, post("/", "")).await).await, Err("reset"));
        assert_eq!(back.accepted.get(), 2);
    });
}

#[test]
fn what_is_not_idempotent_goes_on_no_connection_that_the_kernel_knows_is_closed() {
    worker(async {
        let back = BackEnd::start(|_, mut stream| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
        })
        .await;
        let pool = pool();
        for expected in 1..4 {
            assert_eq!(outcome(send(&pool, &back, post("/", "")).await).await, Ok((200, b"hi".to_vec())));
            assert_eq!(back.accepted.get(), expected);
        }
    });
}

#[test]
fn a_body_dropped_in_the_middle_closes_the_connection() {
    worker(async {
        let (gone, is_gone) = oneshot::channel();
        let gone = RefCell::new(Some(gone));
        let back = BackEnd::start(move |_, mut stream| {
            let gone = gone.borrow_mut().take();
            async move {
                head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi").await.unwrap();
                end(&mut stream).await;
                gone.unwrap().send(()).unwrap();
            }
        })
        .await;
        let pool = pool();
        let answer = send(&pool, &back, get("/")).await.unwrap();
        drop(answer);
        is_gone.await.unwrap();
        assert_eq!(pool.stats().idle_count, 0);
    });
}

#[test]
fn interim_answers_are_passed_over_or_handed_on() {
    worker(async {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let back = BackEnd::saying(format!("{interim}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")).await;
        let pool = pool();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = |status: StatusCode, headers: http::HeaderMap| {
            seen.borrow_mut().push((status.as_u16(), headers.get("link").cloned()));
        };
        let options = SendOptions { on_interim: Some(&note), ..SendOptions::default() };
        assert_eq!(outcome(send_with(&pool, &back, get("/"), &options).await).await, Ok((200, b"hi".to_vec())));
        assert_eq!(*seen.borrow(), [(100, None), (103, Some(HeaderValue::from_static("</a>")))]);
        let endless = BackEnd::saying("HTTP/1.1 102 Processing\r\n\r\n".repeat(17)).await;
        assert_eq!(outcome(send(&pool, &endless, get("/")).await).await, Err("malformed"));
    });
}

#[test]
fn an_upgrade_gives_the_connection_with_what_came_on_it() {
    worker(async {
        let back = BackEnd::start(|_, mut stream| async move {
            let head = head(&mut stream).await;
            assert!(head.contains("connection: upgrade\r\nupgrade: echo\r\n"), "{head}");
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst";
            stream.write_all(answer).await.unwrap();
            let (mut from, mut to) = stream.split();
            drop(tokio::io::copy(&mut from, &mut to).await);
        })
        .await;
        let pool = pool();
        let echo = HeaderValue::from_static("echo");
        let options = SendOptions { upgrade: Some(&echo), ..SendOptions::default() };
        let mut answer = send_with(&pool, &back, get("/"), &options).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["upgrade"]), (101, &echo));
        let mut upgraded = answer.body_mut().take_upgraded().unwrap();
        let mut five = [0; 5];
        upgraded.read_exact(&mut five).await.unwrap();
        assert_eq!(&five, b"first");
        upgraded.write_all(b"again").await.unwrap();
        upgraded.read_exact(&mut five).await.unwrap();
        assert_eq!(&five, b"again");
        assert_eq!(pool.stats().idle_count, 0);
    });
}

#[test]
fn who_takes_too_long_is_cut_off_and_named() {
    let short = Duration::from_millis(30);
    let options = SendOptions { first_byte: short, idle: short, ..SendOptions::default() };
    worker(async move {
        let pool = pool();
        let silent = BackEnd::start(|_, mut stream| async move { end(&mut stream).await }).await;
        assert_eq!(outcome(send_with(&pool, &silent, get("/"), &options).await).await, Err("first_byte_timeout"));
        let half = BackEnd::start(|_, mut stream| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi").await.unwrap();
            end(&mut stream).await;
        })
        .await;
        assert_eq!(outcome(send_with(&pool, &half, get("/"), &options).await).await, Err("idle_timeout"));
        let deaf = BackEnd::start(|_, stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        let large = post("/", vec![7; 32 << 20]);
        assert_eq!(outcome(send_with(&pool, &deaf, large, &options).await).await, Err("idle_timeout"));
        let (feed, body) = fed();
        let slow = Request::post("/").body(body).unwrap();
        assert_eq!(outcome(send_with(&pool, &silent, slow, &options).await).await, Err("request_timeout"));
        drop(feed);
        assert_eq!(pool.stats().idle_count, 0);
    });
}

#[test]
fn a_client_that_does_not_read_is_not_the_back_ends_fault() {
    worker(async {
        let (go, may_go) = oneshot::channel::<()>();
        let may_go = RefCell::new(Some(may_go));
        let back = BackEnd::start(move |_, mut stream| {
            let may_go = may_go.borrow_mut().take();
            async move {
                head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhi").await.unwrap();
                drop(may_go.unwrap().await);
                stream.write_all(b"ho").await.unwrap();
                end(&mut stream).await;
            }
        })
        .await;
        let pool = pool();
        let options = SendOptions { idle: Duration::from_millis(30), ..SendOptions::default() };
        let mut body = send_with(&pool, &back, get("/"), &options).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hi");
        // Longer than the timeout, without asking for more.
        tokio::time::sleep(Duration::from_millis(100)).await;
        go.send(()).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ho");
    });
}

#[test]
fn nobody_there_is_replayable() {
    worker(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let target = std::sync::Arc::new(wire::Target::new(address));
        let (parts, body) = post("/", "x").into_parts();
        let e = pool().send(&target, &parts, body, &SendOptions::default()).await.unwrap_err();
        assert_eq!((e.label(), e.is_replayable()), ("connect", true));
    });
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_is_not_passed_off_as_whole() {
    struct Liar(u64, Full<Bytes>);
    impl http_body::Body for Liar {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            std::pin::Pin::new(&mut self.1).poll_frame(cx)
        }
        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(self.0)
        }
    }
    worker(async {
        let back = BackEnd::start(|_, mut stream| async move { end(&mut stream).await }).await;
        for said in [1, 3] {
            let request = Request::post("/").body(Liar(said, Full::new("ab".into()))).unwrap();
            assert_eq!(outcome(send(&pool(), &back, request).await).await, Err("request_body"), "{said}");
        }
    });
}

#[test]
fn a_connection_with_something_behind_the_answer_serves_nobody_else() {
    worker(async {
        let evil = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong";
        for first in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
        ] {
            let answer = format!("{first}{evil}");
            let back = BackEnd::start(move |number, mut stream| {
                let answer = if number == 0 { answer.clone() } else { "HTTP/1.1 204 No Content\r\n\r\n".to_owned() };
                async move {
                    while !head(&mut stream).await.is_empty() {
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            })
            .await;
            let pool = pool();
            outcome(send(&pool, &back, get("/")).await).await.unwrap();
            assert_eq!(pool.stats().idle_count, 0, "{first:?}");
            assert_eq!(outcome(send(&pool, &back, get("/")).await).await, Ok((204, Vec::new())), "{first:?}");
        }
    });
}
