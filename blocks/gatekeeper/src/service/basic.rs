//! Name and password (RFC 7617).
//!
//! - BASIC-1: a request passes only with a name and its password. Of a wrong one it is not told which of the two is wrong, neither in words nor in
//!   how long it takes.
//! - BASIC-2: hashing has [`HASHERS`] threads' worth of work at a time and [`WAITING`] in line, whatever comes; the rest is told to come again.
//! - BASIC-3: of passwords, only a keyed digest of those that were right is remembered, for at most `cache`.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, header};
use identity::{Policy as ThrottlePolicy, Subject, Throttle};
use kernel::{Clock, FieldError};
use quick_cache::sync::Cache;
use ring::hmac;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::{
    claims::Forwarded,
    going::{Checked, Going, Said, Seen, Stop, Strip},
    keys::written_at,
};
use crate::{
    BasicSpec, Error, Identity, Method,
    model::password::{MAX_PASSWORD_BYTES, PasswordHash},
    telemetry,
};

/// Passwords that are hashed at a time.
const HASHERS: usize = 2;
/// Those that wait for it.
const WAITING: u32 = 64;
const MAX_USERS: usize = 1_000;
const MAX_FILE_USERS: usize = 100_000;
const MAX_FILE_BYTES: u64 = 16 << 20;
const MAX_CACHE: Duration = Duration::from_mins(10);
const CACHE_ENTRIES: usize = 10_000;
/// The file is looked at so often.
const FILE_CHECK: Duration = Duration::from_secs(2);
/// What a name that does not exist is checked against, so that it takes as long as one that does.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ib2Q$Y29uc3RhbnRjb25zdGFudGNvbnN0YW50Y29uc3RhbnQ";

pub(super) struct Basic {
    policy: Arc<str>,
    challenge: HeaderValue,
    users: HashMap<String, PasswordHash>,
    file: Option<UserFile>,
    nobody: Option<PasswordHash>,
    key: hmac::Key,
    cache_for: Duration,
    right: Cache<[u8; 32], Duration>,
    throttle: Throttle,
    hashers: Arc<Semaphore>,
    waiting: AtomicU32,
    clock: Clock,
    pass_on: bool,
    is_optional: bool,
    forwarded: Forwarded,
    counters: telemetry::Passwords,
}

struct UserFile {
    path: PathBuf,
    read: ArcSwap<ReadFile>,
    looking: tokio::sync::Mutex<()>,
}

struct ReadFile {
    users: HashMap<String, PasswordHash>,
    written_at: Option<std::time::SystemTime>,
    looked_at: Duration,
}

impl Basic {
    pub(super) fn compile(
        spec: &BasicSpec,
        policy: &Arc<str>,
        inner: &super::Inner,
        at: &str,
        errors: &mut Vec<FieldError>,
    ) -> Option<Self> {
        let mut wrong =
            |field: String, detail: String| errors.push(FieldError { field: format!("{at}/{field}"), detail });
        let is_realm = |c: char| c == ' ' || (c.is_ascii_graphic() && !matches!(c, '"' | '\\'));
        if spec.realm.len() > 100 || !spec.realm.chars().all(is_realm) {
            wrong("realm".to_owned(), "at most 100 characters of ASCII, without quotes".to_owned());
        }
        if spec.users.len() > MAX_USERS {
            wrong("users".to_owned(), format!("at most {MAX_USERS}; a file may have more"));
        }
        if spec.users.is_empty() && spec.file.is_none() {
            wrong("users".to_owned(), "users, or a file of them".to_owned());
        }
        if spec.cache.0 > MAX_CACHE {
            wrong("cache".to_owned(), "at most 10m".to_owned());
        }
        let mut users = HashMap::new();
        for (index, user) in spec.users.iter().enumerate() {
            match PasswordHash::parse(&user.hash) {
                Ok(_) if !is_user_name(&user.name) => {
                    wrong(
                        format!("users/{index}/name"),
                        "1 to 100 characters, no : and no control characters".to_owned(),
                    );
                }
                Ok(hash) => {
                    if users.insert(user.name.clone(), hash).is_some() {
                        wrong(format!("users/{index}/name"), "the name comes twice".to_owned());
                    }
                }
                Err(detail) => wrong(format!("users/{index}/hash"), detail.to_owned()),
            }
        }
        let now = inner.deps.clock.monotonic();
        let file = spec.file.as_ref().and_then(|path| {
            let path = PathBuf::from(path);
            let read = ReadFile::read(&path, now).map_err(|why| wrong("file".to_owned(), why)).ok()?;
            Some(UserFile { path, read: ArcSwap::from_pointee(read), looking: tokio::sync::Mutex::new(()) })
        });
        let challenge = HeaderValue::from_str(&format!("Basic realm=\"{}\", charset=\"UTF-8\"", spec.realm)).ok()?;
        let secret = inner.deps.access.secret("gatekeeper.basic");
        Some(Self {
            policy: policy.clone(),
            challenge,
            users,
            file,
            nobody: PasswordHash::parse(NOBODY).ok(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            cache_for: spec.cache.0,
            right: Cache::new(CACHE_ENTRIES),
            throttle: Throttle::new(ThrottlePolicy::default(), inner.deps.clock.clone()),
            hashers: inner.hashers.clone(),
            waiting: AtomicU32::new(0),
            clock: inner.deps.clock.clone(),
            pass_on: spec.pass_on,
            is_optional: spec.optional,
            forwarded: Forwarded::compile(&spec.forward_claims, &format!("{at}/forward_claims"), errors),
            counters: inner.telemetry.passwords.clone(),
        })
    }

    pub(super) fn hashers() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(HASHERS))
    }

    pub(super) fn protected(&self) -> impl Iterator<Item = &HeaderName> {
        self.forwarded.names()
    }

    pub(super) async fn check(&self, seen: &Seen<'_>, going: &mut Going) -> Checked {
        let mut values = seen.parts.headers.get_all(header::AUTHORIZATION).iter();
        let given = values.next();
        if values.next().is_some() {
            return Err(Error::Ambiguous.into());
        }
        let credentials = given.and_then(|value| value.to_str().ok()).and_then(|text| {
            let (scheme, rest) = text.trim().split_once(' ')?;
            scheme.eq_ignore_ascii_case("basic").then(|| rest.trim())
        });
        let Some(credentials) = credentials else {
            if self.is_optional {
                return Ok(Said::anonymous());
            }
            return Err(self.challenged("The route asks for a name and a password."));
        };
        let decoded = STANDARD.decode(credentials).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((name, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            return Err(self.challenged("This is no name and password (RFC 7617)."));
        };
        if !self.is_right(seen, name, password).await? {
            return Err(self.challenged("The name or the password is wrong."));
        }
        let mut claims = Map::new();
        claims.insert("sub".to_owned(), Value::from(name));
        let identity = Identity {
            policy: self.policy.clone(),
            method: Method::Basic,
            subject: name.into(),
            project: None,
            claims: claims.into(),
        };
        self.forwarded.put(&identity, &mut going.set);
        going.identity = Some(identity);
        if !self.pass_on {
            going.strip.push(Strip::Header(header::AUTHORIZATION));
        }
        Ok(Said::passed("name and password"))
    }

    fn challenged(&self, text: &'static str) -> Stop {
        Stop::Refused(Error::Unauthenticated(text), Some(self.challenge.clone()))
    }

    async fn is_right(&self, seen: &Seen<'_>, name: &str, password: &str) -> Result<bool, Error> {
        let users = self.file_users().await;
        let hash = self.users.get(name).or_else(|| users.as_ref().and_then(|file| file.users.get(name)));
        // The hash is part of it, so that a password that was changed is not right any more.
        let digest = self.digest(name, password, hash);
        let now = self.clock.monotonic();
        if hash.is_some() && self.right.get(&digest).is_some_and(|at| now.saturating_sub(at) < self.cache_for) {
            self.counters.cached.inc();
            return Ok(true);
        }
        let subjects = [Subject::of_address(seen.peer), Subject::Thing(number(&self.digest(name, "", None)))];
        if let Some(wait) = self.throttle.wait(&subjects) {
            return Err(Error::TooManyAttempts(wait));
        }
        let is_right = match (hash.cloned().or_else(|| self.nobody.clone()), password.len()) {
            (Some(against), ..=MAX_PASSWORD_BYTES) => self.hash(against, password.to_owned()).await? && hash.is_some(),
            _ => false,
        };
        if !is_right {
            self.throttle.failed(&subjects);
            return Ok(false);
        }
        self.throttle.succeeded(&subjects[1]);
        if !self.cache_for.is_zero() {
            self.right.insert(digest, now);
        }
        Ok(true)
    }

    async fn hash(&self, against: PasswordHash, password: String) -> Result<bool, Error> {
        let busy = || {
            self.counters.busy.inc();
            Error::unavailable("too many passwords wait to be hashed")
        };
        let _in_line = InLine::enter(&self.waiting).ok_or_else(busy)?;
        let permit = self.hashers.clone().acquire_owned().await.map_err(Error::unavailable)?;
        self.counters.hashed.inc();
        let work = move || {
            // Held until the work is done, also when nobody waits for it any more.
            let _permit = permit;
            against.is(&password)
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::unavailable)
    }

    fn digest(&self, name: &str, password: &str, hash: Option<&PasswordHash>) -> [u8; 32] {
        let hash = match hash {
            Some(PasswordHash::Argon2(text) | PasswordHash::Bcrypt(text)) => text,
            None => "",
        };
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name, password, hash] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    /// The users of the file as it is now; as it was, where it cannot be read.
    async fn file_users(&self) -> Option<Arc<ReadFile>> {
        let file = self.file.as_ref()?;
        let known = file.read.load_full();
        let now = self.clock.monotonic();
        if now.saturating_sub(known.looked_at) < FILE_CHECK {
            return Some(known);
        }
        // One looks; the others go on with what is known.
        let Ok(_one) = file.looking.try_lock() else { return Some(known) };
        let (path, before) = (file.path.clone(), known.written_at);
        let look = move || {
            let is_same = before.is_some() && written_at(&path) == before;
            (!is_same).then(|| ReadFile::read(&path, now))
        };
        let next = match tokio::task::spawn_blocking(look).await {
            Ok(Some(Ok(next))) => next,
            Ok(None) => known.as_it_is(now),
            Ok(Some(Err(why))) => {
                tracing::warn!(policy = &*self.policy, why, "the file of passwords cannot be used; those before stay");
                known.as_it_is(now)
            }
            Err(_) => return Some(known),
        };
        file.read.store(Arc::new(next));
        Some(file.read.load_full())
    }
}

struct InLine<'a>(&'a AtomicU32);

impl<'a> InLine<'a> {
    fn enter(waiting: &'a AtomicU32) -> Option<Self> {
        let this = Self(waiting);
        (waiting.fetch_add(1, Ordering::AcqRel) < WAITING).then_some(this)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl ReadFile {
    fn read(path: &std::path::Path, now: Duration) -> Result<Self, String> {
        let shown = path.display();
        let written_at = written_at(path);
        let is_huge = std::fs::metadata(path).is_ok_and(|meta| meta.len() > MAX_FILE_BYTES);
        if is_huge {
            return Err(format!("{shown}: more than 16 MiB"));
        }
        let text = std::fs::read_to_string(path).map_err(|e| format!("{shown}: {e}"))?;
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = format!("{shown}, line {}", index + 1);
            let (name, hash) = line.split_once(':').ok_or_else(|| format!("{at}: expected name:hash"))?;
            let hash = PasswordHash::parse(hash).map_err(|detail| format!("{at}: expected {detail}"))?;
            if !is_user_name(name) || users.insert(name.to_owned(), hash).is_some() {
                return Err(format!("{at}: a name of 1 to 100 characters that comes once"));
            }
            if users.len() > MAX_FILE_USERS {
                return Err(format!("{shown}: more than {MAX_FILE_USERS} users"));
            }
        }
        Ok(Self { users, written_at, looked_at: now })
    }

    fn as_it_is(&self, now: Duration) -> Self {
        Self { users: self.users.clone(), written_at: self.written_at, looked_at: now }
    }
}

fn is_user_name(name: &str) -> bool {
    (1..=100).contains(&name.chars().count()) && !name.chars().any(|c| c == ':' || c.is_control())
}

fn number(digest: &[u8; 32]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}
