//! Where keys are held. [`decide`] is the whole logic, pure; a store makes it atomic.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use kernel::{Problem, Timestamp};

use super::{IdempotencyToken, KEPT_HEADERS};

/// A future behind a pointer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One request that asks for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose key it is.
    pub scope: String,
    /// The key; 1 to 255 visible ASCII characters.
    pub key: String,
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
    /// What the handler gets; the same for every try.
    pub token: IdempotencyToken,
    /// Random: tells this try from every other, so that one whose lease was taken over cannot finish it.
    pub holder: [u8; 16],
    /// The time of this try.
    pub now: Timestamp,
    /// Until when this try holds the key if nothing more is heard of it.
    pub lease_until: Timestamp,
    /// When the key is forgotten.
    pub expires_at: Timestamp,
}

/// What a store keeps under (scope, key).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Of the request that the key stands for.
    pub fingerprint: [u8; 32],
    /// The try that holds it.
    pub holder: [u8; 16],
    /// Until when, while there is no answer.
    pub lease_until: Timestamp,
    /// When the record may be deleted; it counts as absent from then on.
    pub expires_at: Timestamp,
    /// The answer, once there is one.
    pub answer: Option<StoredAnswer>,
}

impl Record {
    /// What a claim leaves when it is [`Begun::First`].
    pub fn of(claim: &Claim) -> Self {
        Self {
            fingerprint: claim.fingerprint,
            holder: claim.holder,
            lease_until: claim.lease_until,
            expires_at: claim.expires_at,
            answer: None,
        }
    }
}

/// What a claim met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The key is this claim's: [`Record::of`] it now stands in the store, over whatever was there.
    First,
    /// The request was answered before.
    Replay(StoredAnswer),
    /// The request is being worked on, until then at most.
    Running {
        /// The end of the other try's lease.
        until: Timestamp,
    },
    /// The key stands for another request.
    OtherRequest,
}

/// An answer that is given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case; those of delivery (dates, lengths, encodings, cookies) are left out.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Bytes,
}

impl StoredAnswer {
    /// What is kept of a response.
    pub fn new(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Self {
        let headers = KEPT_HEADERS
            .iter()
            .flat_map(|name| headers.get_all(name).iter().map(move |v| (name, v)))
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        Self { status: status.as_u16(), headers, body }
    }

    /// The headers as text for one column: `name: value` lines.
    pub fn headers_text(&self) -> String {
        self.headers.iter().map(|(name, value)| [name, ": ", value, "\n"].concat()).collect()
    }

    /// From what a store kept: the status, [`StoredAnswer::headers_text`] and the body.
    pub fn from_parts(status: u16, headers_text: &str, body: impl Into<Bytes>) -> Self {
        let headers = headers_text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { status, headers, body: body.into() }
    }
}

/// Holds keys.
///
/// ```text
///            begin = First          finish             expires_at passes
///  absent ─────────────────▶ held ──────────▶ answered ─────────────────▶ absent
///                             │ ▲
///      release ◀──────────────┘ └── begin of the same request, after lease_until
/// ```
///
/// 1. `begin` decides with [`decide`] and, when that is [`Begun::First`], writes [`Record::of`] the claim, as one atomic step: of
///    any number of concurrent claims on one key, one is first.
/// 2. `finish` and `release` change the record only while its `holder` is the claim's and it has no answer; else they do
///    nothing and are `Ok`.
/// 3. What `begin` and `finish` reported as done is as durable as the store; a store that cannot tell fails, and the request is
///    refused.
/// 4. Records past `expires_at` count as absent; the store deletes them in its own time.
///
/// [`check_contract`] tries all of it.
pub trait IdempotencyStore: Send + Sync + 'static {
    /// Claims a key.
    fn begin<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Begun, Problem>>;
    /// Keeps the answer of a claim that was first.
    fn finish<'a>(&'a self, claim: &'a Claim, answer: StoredAnswer) -> BoxFuture<'a, Result<(), Problem>>;
    /// Gives up a claim that was first, as if it had never been.
    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), Problem>>;
}

/// What a claim meets, given what is in the store. When it is [`Begun::First`], the store has to write [`Record::of`] the claim.
pub fn decide(found: Option<&Record>, claim: &Claim) -> Begun {
    match found {
        None => Begun::First,
        Some(record) if record.expires_at <= claim.now => Begun::First,
        Some(record) if record.fingerprint != claim.fingerprint => Begun::OtherRequest,
        Some(Record { answer: Some(answer), .. }) => Begun::Replay(answer.clone()),
        // The process that held it is gone; the token makes the second run safe.
        Some(record) if record.lease_until <= claim.now => Begun::First,
        Some(record) => Begun::Running { until: record.lease_until },
    }
}

/// Keys in the memory of this process, for tests: unbounded, gone with the process.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<HashMap<(String, String), Record>>>);

impl MemoryStore {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<(String, String), Record>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change_if_held(
        &self,
        claim: &Claim,
        change: impl FnOnce(&mut HashMap<(String, String), Record>, (String, String)),
    ) {
        let id = (claim.scope.clone(), claim.key.clone());
        self.with(|records| {
            if records.get(&id).is_some_and(|r| r.holder == claim.holder && r.answer.is_none()) {
                change(records, id);
            }
        });
    }
}

impl IdempotencyStore for MemoryStore {
    fn begin<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Begun, Problem>> {
        Box::pin(async {
            let id = (claim.scope.clone(), claim.key.clone());
            Ok(self.with(|records| {
                let begun = decide(records.get(&id), claim);
                if begun == Begun::First {
                    records.insert(id, Record::of(claim));
                }
                begun
            }))
        })
    }

    fn finish<'a>(&'a self, claim: &'a Claim, answer: StoredAnswer) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async {
            self.change_if_held(claim, |records, id| {
                records.entry(id).and_modify(|r| r.answer = Some(answer));
            });
            Ok(())
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async {
            self.change_if_held(claim, |records, id| {
                records.remove(&id);
            });
            Ok(())
        })
    }
}

/// Tries every obligation of [`IdempotencyStore`] on an empty store; for the tests of its implementations. The error says which
/// one does not hold.
pub async fn check_contract(store: &dyn IdempotencyStore) -> Result<(), String> {
    let at = |s: u64| Timestamp::from_millis(1_790_000_000_000).plus(Duration::from_secs(s));
    let claim = |scope: &str, key: &str, request: u8, holder: u8, now_s: u64| Claim {
        scope: scope.to_owned(),
        key: key.to_owned(),
        fingerprint: [request; 32],
        token: IdempotencyToken([request; 16]),
        holder: [holder; 16],
        now: at(now_s),
        lease_until: at(now_s + 60),
        expires_at: at(now_s + 3_600),
    };
    let answer = StoredAnswer {
        status: 201,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Bytes::from_static(b"{\"a\":\0}\xff"),
    };
    let expect = async |step: &str, claim: &Claim, expected: Begun| match store.begin(claim).await {
        Ok(got) if got == expected => Ok(()),
        got => Err(format!("{step}: expected {expected:?}, got {got:?}")),
    };
    let failed = |step: &str| {
        let step = step.to_owned();
        move |p: Problem| format!("{step}: {p}")
    };

    let first = claim("p1", "k", 1, 1, 0);
    expect("a fresh key is first", &first, Begun::First).await?;
    expect("a key that is held is running", &claim("p1", "k", 1, 2, 59), Begun::Running { until: at(60) }).await?;
    expect("another request is told apart while running", &claim("p1", "k", 2, 2, 1), Begun::OtherRequest).await?;
    expect("another scope has keys of its own", &claim("p2", "k", 2, 3, 1), Begun::First).await?;
    let second = claim("p1", "k", 1, 2, 60);
    expect("a lease that ended is taken over", &second, Begun::First).await?;
    store.finish(&first, answer.clone()).await.map_err(failed("finish of a lost lease"))?;
    store.release(&first).await.map_err(failed("release of a lost lease"))?;
    expect("a lost lease changes nothing", &claim("p1", "k", 1, 4, 61), Begun::Running { until: at(120) }).await?;
    store.finish(&second, answer.clone()).await.map_err(failed("finish"))?;
    store.release(&second).await.map_err(failed("release after finish"))?;
    expect("the first answer is given again", &claim("p1", "k", 1, 5, 3_000), Begun::Replay(answer.clone())).await?;
    expect("another request is told apart", &claim("p1", "k", 2, 5, 3_000), Begun::OtherRequest).await?;
    expect("an expired key is fresh", &claim("p1", "k", 2, 6, 3_660), Begun::First).await?;
    store.release(&claim("p1", "k", 2, 6, 3_660)).await.map_err(failed("release"))?;
    expect("a released key is fresh", &claim("p1", "k", 3, 7, 3_661), Begun::First).await?;

    // Atomicity: of many at once, one is first.
    let claims: Vec<Claim> = (0..32).map(|i| claim("p1", "race", 1, i, 0)).collect();
    let outcomes = futures_util::future::join_all(claims.iter().map(|c| store.begin(c))).await;
    let first_count = outcomes.iter().filter(|o| matches!(o, Ok(Begun::First))).count();
    if first_count != 1 {
        return Err(format!("of 32 claims at once, {first_count} were first"));
    }
    Ok(())
}
