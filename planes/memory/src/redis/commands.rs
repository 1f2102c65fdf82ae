//! Each operation as one command or one script, and what its answer means.

use std::{sync::LazyLock, time::Duration};

use ::redis::{Cmd, RedisResult, Value, cmd, from_redis_value};
use bytes::Bytes;

use crate::{
    Error, Key, MAX_MEMBERS, Order, Result, Ttl,
    op::{Reply, Verb},
};

/// Text and SHA-1 of a script. It is called by its hash, and sent whole to a server that does not have it yet.
pub(super) struct Lua {
    pub(super) text: &'static str,
    pub(super) hash: LazyLock<String>,
}

impl Lua {
    pub(super) fn hash(&self) -> &str {
        self.hash.as_str()
    }
}

macro_rules! lua {
    ($($name:ident = $file:literal;)+) => {$(
        static $name: Lua = Lua {
            text: include_str!(concat!("lua/", $file)),
            hash: std::sync::LazyLock::new(|| ::redis::Script::new(include_str!(concat!("lua/", $file))).get_hash().to_owned()),
        };
    )+};
}

pub(super) use lua;

lua! {
    COMPARE_AND_SET = "compare_and_set.lua";
    COMPARE_AND_DELETE = "compare_and_delete.lua";
    PERSIST = "persist.lua";
    INCREMENT = "increment.lua";
    SET_ADD = "set_add.lua";
    SORTED_ADD = "sorted_add.lua";
    JOIN = "join.lua";
    HEARTBEAT = "heartbeat.lua";
    LEAVE = "leave.lua";
    PRESENT = "present.lua";
    PRESENT_LEN = "present_len.lua";
}

/// What is sent for an operation.
pub(super) enum Request {
    Command(Cmd),
    /// The command by hash, and the script to send instead where the hash is not known.
    Script(Cmd, &'static Lua),
}

impl Request {
    pub(super) fn command(&self) -> &Cmd {
        match self {
            Self::Command(cmd) | Self::Script(cmd, _) => cmd,
        }
    }
}

/// The same call with the text of its script instead of the hash.
pub(super) fn with_text(by_hash: &Cmd, lua: &Lua) -> Cmd {
    let mut by_text = cmd("EVAL");
    by_text.arg(lua.text);
    for arg in by_hash.args_iter().skip(2) {
        if let ::redis::Arg::Simple(bytes) = arg {
            by_text.arg(bytes);
        }
    }
    by_text
}

/// Sent when a script refuses because a collection has too many members.
const LIMIT_CODE: &str = "MSLIMIT";
/// Sent, with the server's instant, when the windows of a calendar limit are over.
const PASSED_CODE: &str = "MSPASSED";

fn ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

/// 0 stands for no end.
fn ms_or_0(ttl: Option<Duration>) -> u64 {
    ttl.map_or(0, ms)
}

fn bound(score: f64) -> String {
    if score.is_infinite() { if score > 0.0 { "+inf" } else { "-inf" }.to_owned() } else { format!("{score:e}") }
}

/// A place or count as Redis takes it.
fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

pub(super) fn request(key: &Key, verb: &Verb) -> Request {
    let key = key.as_str();
    let plain = |name: &str| {
        let mut c = cmd(name);
        c.arg(key);
        c
    };
    let script = |lua: &Lua| {
        let mut c = cmd("EVALSHA");
        c.arg(lua.hash.as_str()).arg(1).arg(key);
        c
    };
    let set = |value: &Bytes, ttl: &Option<Duration>, only_new: bool| {
        let mut c = plain("SET");
        c.arg(&value[..]);
        if only_new {
            c.arg("NX");
        }
        if let Some(ttl) = ttl {
            c.arg("PX").arg(ms(*ttl));
        }
        c
    };
    let with = |mut c: Cmd, members: &[Bytes]| {
        for member in members {
            c.arg(&member[..]);
        }
        c
    };
    let one = |c: Cmd, member: &Bytes| with(c, std::slice::from_ref(member));
    let command = match verb {
        Verb::Get => plain("GET"),
        Verb::Set { value, ttl } => set(value, ttl, false),
        Verb::SetIfAbsent { value, ttl } => set(value, ttl, true),
        Verb::CompareAndSet { expected, value, ttl } => {
            let mut c = script(&COMPARE_AND_SET);
            c.arg(u8::from(expected.is_some())).arg(expected.as_deref().unwrap_or_default());
            c.arg(&value[..]).arg(ms_or_0(*ttl));
            return Request::Script(c, &COMPARE_AND_SET);
        }
        Verb::CompareAndDelete { expected } => {
            return Request::Script(one(script(&COMPARE_AND_DELETE), expected), &COMPARE_AND_DELETE);
        }
        Verb::Delete => plain("UNLINK"),
        Verb::Expire { ttl: None } => return Request::Script(script(&PERSIST), &PERSIST),
        Verb::Expire { ttl: Some(ttl) } => {
            let mut c = plain("PEXPIRE");
            c.arg(ms(*ttl));
            c
        }
        Verb::Ttl => plain("PTTL"),
        Verb::Increment { by, ttl: None } => {
            let mut c = plain("INCRBY");
            c.arg(*by);
            c
        }
        Verb::Increment { by, ttl: Some(ttl) } => {
            let mut c = script(&INCREMENT);
            c.arg(*by).arg(ms(*ttl));
            return Request::Script(c, &INCREMENT);
        }
        Verb::SetAdd { members, ttl } => {
            let mut c = script(&SET_ADD);
            c.arg(ms_or_0(*ttl)).arg(MAX_MEMBERS);
            return Request::Script(with(c, members), &SET_ADD);
        }
        Verb::SetRemove { members } => with(plain("SREM"), members),
        Verb::SetContains { member } => one(plain("SISMEMBER"), member),
        Verb::SetMembers => plain("SMEMBERS"),
        Verb::SetLen => plain("SCARD"),
        Verb::SortedAdd { members, ttl } => {
            let mut c = script(&SORTED_ADD);
            c.arg(ms_or_0(*ttl)).arg(MAX_MEMBERS);
            for (member, score) in members {
                c.arg(bound(*score)).arg(&member[..]);
            }
            return Request::Script(c, &SORTED_ADD);
        }
        Verb::SortedRemove { members } => with(plain("ZREM"), members),
        Verb::SortedScore { member } => one(plain("ZSCORE"), member),
        Verb::SortedRank { member, order: Order::Ascending } => one(plain("ZRANK"), member),
        Verb::SortedRank { member, order: Order::Descending } => one(plain("ZREVRANK"), member),
        Verb::SortedRange { start, count, order } => {
            // Nothing asked for: an empty range, since one that ends at -1 would be everything.
            let (from, to) = if *count == 0 { (1, 0) } else { (int(*start), int(*start) + int(*count) - 1) };
            let mut c = plain(if *order == Order::Ascending { "ZRANGE" } else { "ZREVRANGE" });
            c.arg(from).arg(to).arg("WITHSCORES");
            c
        }
        Verb::SortedRangeByScore { min, max, count, order } => {
            let mut c = match order {
                Order::Ascending => plain("ZRANGEBYSCORE"),
                Order::Descending => plain("ZREVRANGEBYSCORE"),
            };
            let (first, second) = if *order == Order::Ascending { (min, max) } else { (max, min) };
            c.arg(bound(*first)).arg(bound(*second)).arg("WITHSCORES").arg("LIMIT").arg(0).arg(int(*count));
            c
        }
        Verb::SortedTrim { keep, order } => {
            let mut c = plain("ZREMRANGEBYRANK");
            match order {
                Order::Ascending => c.arg(int(*keep)).arg(-1),
                Order::Descending => c.arg(0).arg(-int(*keep) - 1),
            };
            c
        }
        Verb::SortedLen => plain("ZCARD"),
        Verb::Join { member, ttl } => {
            let mut c = one(script(&JOIN), member);
            c.arg(ms(*ttl)).arg(MAX_MEMBERS);
            return Request::Script(c, &JOIN);
        }
        Verb::Heartbeat { member, ttl } => {
            let mut c = one(script(&HEARTBEAT), member);
            c.arg(ms(*ttl));
            return Request::Script(c, &HEARTBEAT);
        }
        Verb::Leave { member } => return Request::Script(one(script(&LEAVE), member), &LEAVE),
        Verb::Present => return Request::Script(script(&PRESENT), &PRESENT),
        Verb::PresentLen => return Request::Script(script(&PRESENT_LEN), &PRESENT_LEN),
    };
    Request::Command(command)
}

pub(super) fn reply(verb: &Verb, value: Value) -> Result<Reply> {
    decode(verb, value).map_err(|e| Error::Other(format!("an answer that cannot be read: {e}")))
}

fn decode(verb: &Verb, value: Value) -> RedisResult<Reply> {
    let flag = |value| from_redis_value::<i64>(value).map(|n| Reply::Bool(n != 0));
    let blobs = |value| -> RedisResult<Reply> {
        let members: Vec<Vec<u8>> = from_redis_value(value)?;
        Ok(Reply::Members(members.into_iter().map(Bytes::from).collect()))
    };
    Ok(match verb {
        Verb::Get => Reply::Value(from_redis_value::<Option<Vec<u8>>>(value)?.map(Bytes::from)),
        Verb::Set { .. } => Reply::Done,
        Verb::SetIfAbsent { .. } => Reply::Bool(!matches!(value, Value::Nil)),
        Verb::Ttl => Reply::Ttl(match from_redis_value::<i64>(value)? {
            -1 => Ttl::Never,
            n => u64::try_from(n).map_or(Ttl::Absent, |ms| Ttl::Expires(Duration::from_millis(ms))),
        }),
        Verb::Increment { .. } => Reply::Int(from_redis_value(value)?),
        Verb::CompareAndSet { .. }
        | Verb::CompareAndDelete { .. }
        | Verb::Delete
        | Verb::Expire { .. }
        | Verb::SetContains { .. }
        | Verb::Join { .. }
        | Verb::Heartbeat { .. }
        | Verb::Leave { .. } => flag(value)?,
        Verb::SetMembers | Verb::Present => blobs(value)?,
        Verb::SetAdd { .. }
        | Verb::SetRemove { .. }
        | Verb::SetLen
        | Verb::SortedAdd { .. }
        | Verb::SortedRemove { .. }
        | Verb::SortedTrim { .. }
        | Verb::SortedLen
        | Verb::PresentLen => Reply::Count(from_redis_value(value)?),
        Verb::SortedScore { .. } => Reply::Score(from_redis_value(value)?),
        Verb::SortedRank { .. } => Reply::Rank(from_redis_value(value)?),
        Verb::SortedRange { .. } | Verb::SortedRangeByScore { .. } => {
            let members: Vec<(Vec<u8>, f64)> = from_redis_value(value)?;
            Reply::Scored(members.into_iter().map(|(m, s)| (Bytes::from(m), s)).collect())
        }
    })
}

/// What an error of the server means for the caller.
pub(super) fn error(e: &::redis::RedisError) -> Error {
    use ::redis::{ErrorKind, ServerErrorKind as Server};
    match e.kind() {
        ErrorKind::Server(
            Server::BusyLoading
            | Server::Moved
            | Server::Ask
            | Server::TryAgain
            | Server::ClusterDown
            | Server::MasterDown
            | Server::ReadOnly,
        )
        | ErrorKind::Io
        | ErrorKind::Parse
        | ErrorKind::AuthenticationFailed
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::InvalidClientConfig => return Error::Unavailable(e.to_string()),
        _ => {}
    }
    let detail = e.detail().unwrap_or_default();
    match e.code().unwrap_or_default() {
        "WRONGTYPE" => Error::WrongType,
        "OOM" => Error::Full,
        PASSED_CODE => Error::WindowPassed { at: crate::Moment::from_micros(detail.parse().unwrap_or(0)) },
        LIMIT_CODE => Error::TooLarge { what: "members of one key", limit: MAX_MEMBERS },
        "NOAUTH" | "WRONGPASS" | "BUSY" | "MISCONF" | "NOREPLICAS" => Error::Unavailable(e.to_string()),
        _ if detail.contains("not an integer") || detail.contains("would overflow") => Error::NotANumber,
        _ => Error::Other(e.to_string()),
    }
}
