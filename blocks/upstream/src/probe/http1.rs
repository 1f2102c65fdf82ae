//! A GET over HTTP/1.1 that reads no more than the head of the answer.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{USER_AGENT, told};

/// The longest head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The most fields in it.
const MAX_FIELDS: usize = 100;

/// The status of the final answer.
pub(super) async fn get<S>(mut stream: S, host: &str, path: &str) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|e| told(&e))?;
    stream.flush().await.map_err(|e| told(&e))?;
    let mut head = Vec::with_capacity(1024);
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&head).map_err(|e| format!("not an answer of HTTP/1: {e}"))? {
            httparse::Status::Complete(length) => match response.code.unwrap_or(0) {
                // Switching protocols was not asked for; other interim answers go before the final one.
                status @ 100..=199 if status != 101 => drop(head.drain(..length)),
                status => return Ok(status),
            },
            httparse::Status::Partial if head.len() >= MAX_HEAD_BYTES => {
                return Err("the head of the answer is larger than 16 KiB".to_owned());
            }
            httparse::Status::Partial => {
                let room = u64::try_from(MAX_HEAD_BYTES - head.len()).unwrap_or(0);
                let count = (&mut stream).take(room).read_buf(&mut head).await.map_err(|e| told(&e))?;
                if count == 0 {
                    return Err("closed before the answer".to_owned());
                }
            }
        }
    }
}
