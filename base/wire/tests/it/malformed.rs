//! The corpus of answers: what the codec makes of each, which is what `docs/wire.md` says.

use crate::world::{BackEnd, get, outcome, pool, send, worker};

/// Sends one GET to a back end that answers with these bytes and closes.
pub(crate) fn check(answer: &str, expected: Result<(u16, &str), &'static str>) {
    let bytes = answer.to_owned();
    worker(async move {
        let back = BackEnd::saying_once(bytes.clone()).await;
        let seen = outcome(send(&pool(), &back, get("/")).await).await;
        let expected = expected.map(|(status, body)| (status, body.as_bytes().to_vec()));
        assert_eq!(seen, expected, "{bytes:?}");
    });
}

#[test]
fn a_first() {
    check("HTTP/1.1 200 OK\r\n\r\nuntil close", Ok((200, "until close")));
}
