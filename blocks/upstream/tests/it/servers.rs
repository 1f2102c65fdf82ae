//! Back ends and name servers of tests, all on loopback.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SRV},
    },
};
use kernel::{Clock, Lifecycle, Rng, Stage, Tasks};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

/// Runs what tests need beside them.
pub(crate) fn tasks() -> Tasks {
    Lifecycle::new(Clock::system(), Rng::seeded(1)).tasks(Stage::Blocks)
}

/// Waits until something holds, at most 20 s.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came true: {what}");
}

/// Serves each connection with a function.
pub(crate) async fn serve<F, Fut>(each: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = tasks();
    tasks.clone().spawn("server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            tasks.spawn("connection", each(stream));
        }
    });
    address
}

/// Reads a head of HTTP/1, and says these bytes to it.
pub(crate) async fn says(answer: &'static [u8]) -> SocketAddr {
    serve(move |mut stream| async move {
        read_head(&mut stream).await;
        drop(stream.write_all(answer).await);
    })
    .await
}

pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A port where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A back end that answers checks with a status that the test sets, and counts them.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    status: Arc<AtomicU16>,
    checks: Arc<AtomicUsize>,
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let (status, checks) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let (says, counts) = (status.clone(), checks.clone());
        let address = serve(move |mut stream| {
            let (says, counts) = (says.clone(), counts.clone());
            async move {
                read_head(&mut stream).await;
                counts.fetch_add(1, Ordering::SeqCst);
                let answer = format!("HTTP/1.1 {} x\r\ncontent-length: 0\r\n\r\n", says.load(Ordering::SeqCst));
                drop(stream.write_all(answer.as_bytes()).await);
            }
        })
        .await;
        Self { address, status, checks }
    }

    pub(crate) fn set_status(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn checks(&self) -> usize {
        self.checks.load(Ordering::SeqCst)
    }
}

/// A name server whose answers the test sets. UDP and TCP on one port.
#[derive(Clone)]
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Zone>,
}

#[derive(Default)]
struct Zone {
    records: Mutex<HashMap<(Name, RecordType), Vec<Record>>>,
    questions: AtomicUsize,
    over_tcp: AtomicUsize,
    is_silent: AtomicBool,
    is_failing: AtomicBool,
    /// The one name that fails.
    failing: Mutex<Option<Name>>,
    /// Answers over UDP say that they do not fit.
    is_truncating: AtomicBool,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        // The TCP port may be taken by somebody else: then another pair.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let this = Self { address: udp.local_addr().unwrap(), zone: Arc::default() };
        let (zone, tasks) = (this.zone.clone(), tasks());
        tasks.spawn("udp", async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                if let Some(answer) = zone.answer(&buffer[..length], true) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let zone = this.zone.clone();
        tasks.spawn("tcp", async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let Ok(length) = stream.read_u16().await else { continue };
                let mut question = vec![0; usize::from(length)];
                if stream.read_exact(&mut question).await.is_ok()
                    && let Some(answer) = zone.answer(&question, false)
                {
                    zone.over_tcp.fetch_add(1, Ordering::SeqCst);
                    drop(stream.write_u16(u16::try_from(answer.len()).unwrap()).await);
                    drop(stream.write_all(&answer).await);
                }
            }
        });
        this
    }

    pub(crate) fn set(&self, name: &str, kind: RecordType, ttl: u32, values: &[&str]) {
        let owner = Name::from_ascii(name).unwrap();
        let record = |value: &&str| {
            let data = match kind {
                RecordType::A => RData::A(A(value.parse().unwrap())),
                RecordType::AAAA => RData::AAAA(AAAA(value.parse().unwrap())),
                RecordType::CNAME => RData::CNAME(CNAME(Name::from_ascii(value).unwrap())),
                _ => {
                    let parts: Vec<&str> = value.split(' ').collect();
                    let number = |at: usize| parts[at].parse().unwrap();
                    RData::SRV(SRV::new(number(0), number(1), number(2), Name::from_ascii(parts[3]).unwrap()))
                }
            };
            Record::from_rdata(owner.clone(), ttl, data)
        };
        let records = values.iter().map(record).collect();
        self.zone.records.lock().unwrap_or_else(PoisonError::into_inner).insert((owner.clone(), kind), records);
    }

    pub(crate) fn set_silent(&self, is: bool) {
        self.zone.is_silent.store(is, Ordering::SeqCst);
    }

    pub(crate) fn set_failing(&self, is: bool) {
        self.zone.is_failing.store(is, Ordering::SeqCst);
    }

    pub(crate) fn set_failing_name(&self, name: Option<&str>) {
        let name = name.map(|name| Name::from_ascii(name).unwrap());
        *self.zone.failing.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    pub(crate) fn set_truncating(&self, is: bool) {
        self.zone.is_truncating.store(is, Ordering::SeqCst);
    }

    pub(crate) fn questions(&self) -> usize {
        self.zone.questions.load(Ordering::SeqCst)
    }

    pub(crate) fn over_tcp(&self) -> usize {
        self.zone.over_tcp.load(Ordering::SeqCst)
    }
}

impl Zone {
    fn answer(&self, question: &[u8], is_udp: bool) -> Option<Vec<u8>> {
        if self.is_silent.load(Ordering::SeqCst) {
            return None;
        }
        let question = Message::from_vec(question).ok()?;
        self.questions.fetch_add(1, Ordering::SeqCst);
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_available = true;
        for query in &question.queries {
            answer.add_query(query.clone());
            let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            let mut name = query.name().clone();
            if let Some([alias]) = records.get(&(name.clone(), RecordType::CNAME)).map(Vec::as_slice)
                && let RData::CNAME(target) = &alias.data
            {
                answer.add_answer(alias.clone());
                name = target.0.clone();
            }
            let found = records.get(&(name.clone(), query.query_type()));
            answer.add_answers(found.into_iter().flatten().cloned());
            if !records.keys().any(|(owner, _)| *owner == name) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
        }
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_failing_name = question.queries.iter().any(|query| Some(query.name()) == failing.as_ref());
        if is_failing_name || self.is_failing.load(Ordering::SeqCst) {
            answer.answers.clear();
            answer.metadata.response_code = ResponseCode::ServFail;
        }
        if is_udp && self.is_truncating.load(Ordering::SeqCst) {
            answer.answers.clear();
            answer.metadata.truncation = true;
        }
        answer.to_vec().ok()
    }
}
