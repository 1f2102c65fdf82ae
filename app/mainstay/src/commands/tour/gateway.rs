//! The tour's visit to the gateway.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
};

use serde_json::{Value, json};

use super::{Tour, server::Server};

const CONFIG: &str = "/v1/gateway/config";

/// A back end of the tour's own, which answers with its name until the tour is over.
fn back_end(name: &'static str) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let serve = move |mut stream: std::net::TcpStream| {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while head.len() < 16 << 10 && stream.read_exact(&mut byte).is_ok() {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                head.clear();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        }
    };
    // At most so many connections: the tour makes few.
    std::thread::spawn(move || {
        for stream in listener.incoming().take(1_000).flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

fn document(a: SocketAddr, b: SocketAddr, greeting: &str) -> Value {
    json!({
        "upstreams": [{ "name": "tour", "endpoints": [{ "address": a.to_string() }, { "address": b.to_string() }],
                        "balance": { "algorithm": "round_robin" } }],
        "routes": [
            { "name": "tour", "match": { "path": { "prefix": "/tour" } }, "forward": { "to": [{ "upstream": "tour" }] } },
            { "name": "hello", "match": { "path": { "exact": "/tour/hello" } }, "respond": { "body": greeting } },
            { "name": "links", "service": "links" },
        ],
    })
}

/// A document is put; requests go to back ends; one is drained; an explanation; a mistake changes nothing; a version comes back.
pub(super) fn run(tour: &mut Tour, server: &Server) -> Result<(), String> {
    let (a, b) = (back_end("a")?, back_end("b")?);
    let first = json!({ "document": document(a, b, "hello"), "message": "the tour" });
    let put = server.api.send("PUT", CONFIG, &[("if-none-match", "*")], Some(&first))?;
    tour.expect("PUT /v1/gateway/config", &put, 200, &format!("ETag {}", put.header("etag")));

    let mut counts = [0, 0];
    for _ in 0..10 {
        let body = server.public.send("GET", "/tour/x", &[], None)?.body;
        counts[0] += usize::from(body == b"a");
        counts[1] += usize::from(body == b"b");
    }
    tour.saw(
        "10 × GET /tour/x of the public listener",
        &format!("{} by a, {} by b", counts[0], counts[1]),
        counts == [5, 5],
    );

    let drain = json!({ "endpoint": a.to_string() });
    let drained = server.api.send("POST", "/v1/gateway/upstreams/tour/drain", &[], Some(&drain))?;
    tour.expect("POST /v1/gateway/upstreams/tour/drain", &drained, 200, "one endpoint takes no more requests");
    let mut by_b = 0;
    for _ in 0..10 {
        by_b += usize::from(server.public.send("GET", "/tour/x", &[], None)?.body == b"b");
    }
    tour.saw("10 × the same", &format!("{by_b} by b"), by_b == 10);

    let question = json!({ "method": "GET", "url": "http://localhost//tour/../tour/hello" });
    let told = server.api.call("POST", "/v1/gateway/explain", Some(&question))?;
    let path = told["path"].as_str().unwrap_or_default().to_owned();
    let route = told["route"].as_str().unwrap_or_default().to_owned();
    tour.saw(
        "POST /v1/gateway/explain of //tour/../tour/hello",
        &format!("route {route} by path {path}"),
        route == "hello",
    );

    let mut wrong = document(a, b, "wrong");
    wrong["routes"][0]["forward"]["to"][0]["upstream"] = json!("nobody");
    let refused = server.api.send("PUT", CONFIG, &[], Some(&json!({ "document": wrong })))?;
    tour.expect("PUT one that names nobody", &refused, 422, "nothing changes");
    let greet = || server.public.send("GET", "/tour/hello", &[], None).map(|answer| answer.body);
    tour.saw("GET /tour/hello", "as before", greet()? == b"hello");

    let second = json!({ "document": document(a, b, "good day"), "message": "politer" });
    tour.expect("PUT another greeting", &server.api.send("PUT", CONFIG, &[], Some(&second))?, 200, "");
    tour.saw("GET /tour/hello", "good day", greet()? == b"good day");
    let back = server.api.send("POST", &format!("{CONFIG}/rollback"), &[], Some(&json!({ "version": 1 })))?;
    tour.expect("POST /v1/gateway/config/rollback", &back, 200, "version 3 is version 1 again");
    tour.saw("GET /tour/hello", "hello", greet()? == b"hello");
    Ok(())
}
