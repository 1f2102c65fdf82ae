//! Another service decides.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::world::{World, get, request};

const AUTH: &str = "http://auth.internal/check";

fn policy(change: &Value) -> Value {
    let mut policy = json!({
        "name": "ask", "forward": { "url": AUTH, "to_backend": ["x-user"], "to_client": ["set-cookie"], "subject": "x-user" },
    });
    for (name, value) in change.as_object().unwrap() {
        policy["forward"][name] = value.clone();
    }
    policy
}

fn answer(status: u16, headers: &[(&str, &str)]) -> Response<Bytes> {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Bytes::from("body")).unwrap()
}

#[tokio::test]
async fn only_2xx_lets_in_and_the_rest_is_told() {
    let world = World::new().await;
    let chain = world.chain(json!([policy(&json!({}))]));
    for (status, told, body) in [
        (200, 200, ""),
        (204, 200, ""),
        (302, 302, "body"),
        (401, 401, "body"),
        (403, 403, "body"),
        (500, 503, ""),
        (502, 503, ""),
    ] {
        world.outside.serve(AUTH, move |_| {
            Some(answer(
                status,
                &[
                    ("x-user", "ann"),
                    ("location", "/in"),
                    ("connection", "x-hop"),
                    ("x-hop", "1"),
                    ("transfer-encoding", "chunked"),
                ],
            ))
        });
        let seen = get("/").header("x-user", "root").at(&chain).await;
        assert_eq!(seen.status, told, "{status}");
        if told == 200 {
            assert_eq!((seen.sent("x-user"), &*seen.identity.as_ref().unwrap().subject), (Some("ann"), "ann"));
        } else if told != 503 {
            assert_eq!(seen.body, body);
            assert_eq!(
                (seen.got("location"), seen.got("x-hop"), seen.got("transfer-encoding")),
                (Some("/in"), None, None)
            );
        }
    }
    world.outside.is_away(AUTH);
    assert_eq!(
        get("/").at(&chain).await.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "a service that is away lets nobody in"
    );
    // Let in without a name: the client's own is gone all the same.
    world.outside.serve(AUTH, |_| Some(answer(200, &[("set-cookie", "a=1")])));
    let seen = get("/").header("x_user", "root").at(&chain).await;
    assert_eq!((seen.sent("x_user"), seen.identity.is_none(), seen.got("set-cookie")), (None, true, Some("a=1")));
}

#[tokio::test]
async fn the_service_is_told_the_truth() {
    let world = World::new().await;
    let chain = world
        .chain(json!([policy(&json!({ "request_headers": ["authorization", "x-forwarded-uri", "x-forwarded-for"] }))]));
    world.outside.serve(AUTH, |_| Some(answer(200, &[])));
    request("DELETE", "/admin?x=1")
        .bearer("t")
        .header("x-forwarded-uri", "/public")
        .header("x-forwarded-for", "127.0.0.1")
        .header("cookie", "c=1")
        .at(&chain)
        .await;
    let asked = &world.outside.asked(AUTH)[0];
    let told = |name: &str| asked.headers().get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(told("x-forwarded-uri"), ["/admin?x=1"]);
    assert_eq!(told("x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(told("x-forwarded-method"), ["DELETE"]);
    assert_eq!(told("x-forwarded-host"), ["app.example.com"]);
    assert_eq!(told("authorization"), ["Bearer t"]);
    assert!(told("cookie").is_empty());
}

/// FORWARD-2.
#[tokio::test]
async fn an_answer_is_believed_again_for_the_same_question_alone() {
    let world = World::new().await;
    let chain = world.chain(json!([policy(&json!({ "cache": "10s" }))]));
    world.outside.serve(AUTH, |_| Some(answer(200, &[("x-user", "ann"), ("set-cookie", "a=1")])));
    let ask = async |path: &str, token: &str, peer: &str| get(path).bearer(token).from(peer).at(&chain).await;
    let first = ask("/a", "t", "192.0.2.1").await;
    assert_eq!(first.got("set-cookie"), Some("a=1"));
    let again = ask("/a", "t", "192.0.2.1").await;
    assert_eq!((again.status.as_u16(), again.sent("x-user"), again.got("set-cookie")), (200, Some("ann"), None));
    assert_eq!(world.outside.asked(AUTH).len(), 1);
    ask("/b", "t", "192.0.2.1").await;
    ask("/a", "u", "192.0.2.1").await;
    ask("/a", "t", "192.0.2.2").await;
    request("POST", "/a").bearer("t").from("192.0.2.1").at(&chain).await;
    assert_eq!(world.outside.asked(AUTH).len(), 5, "each another question");
    world.outside.serve(AUTH, |_| Some(answer(403, &[])));
    assert_eq!(ask("/a", "t", "192.0.2.1").await.status, 200);
    world.later(10);
    assert_eq!(ask("/a", "t", "192.0.2.1").await.status, 403);
    world.outside.serve(AUTH, |_| Some(answer(200, &[])));
    assert_eq!(ask("/a", "t", "192.0.2.1").await.status, 200, "a refusal is not kept");
}
