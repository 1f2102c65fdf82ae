//! Rate cells: every call is one run of `lua/rate.lua`.

use std::time::Duration;

use ::redis::{Cmd, Value, cmd, from_redis_value};

use super::{
    Redis,
    commands::{Lua, Request, lua},
};
use crate::{
    Adjust, Charge, Charged, Error, Moment, Once, RateKey, RateTime, Result,
    rate::{
        check_keys,
        form::{Form, Kind},
        holder,
        time::wall_us,
    },
};

lua! {
    RATE = "rate.lua";
}

/// How much longer keys live when the caller's clock, which may stand still, decides.
const CALLER_PAD_MS: u64 = 60_000;
/// Arguments of a key.
const EACH: usize = 8;

impl Redis {
    pub(crate) async fn charge(&self, charges: &[Charge<'_>], is_real: bool) -> Result<Vec<Charged>> {
        check_keys(charges.iter().map(|charge| charge.key), charges.len())?;
        let mut call = self.call(charges.len(), if is_real { "c" } else { "p" });
        for charge in charges {
            let form = Form::new(&charge.rate)?;
            let who = holder(&form, charge.holder)?;
            call.cell(charge.key, &form, u64::from(charge.is_shadow), charge.cost.min(Call::MOST), false, who)?;
        }
        let value = self.bounded(self.execute(&call.request(0))).await?;
        answers(value, charges.len())
    }

    pub(crate) async fn adjust(&self, once: Option<&Once>, adjusts: &[Adjust<'_>]) -> Result<bool> {
        check_keys(adjusts.iter().map(|adjust| adjust.key), adjusts.len())?;
        let mut call = self.call(adjusts.len() + 1, "a");
        for adjust in adjusts {
            let form = Form::new(&adjust.rate)?;
            let who = holder(&form, adjust.holder)?;
            let (at, by) = (adjust.at.as_micros(), adjust.delta.unsigned_abs());
            call.cell(adjust.key, &form, at.min(Call::MOST), by.min(Call::MOST), adjust.delta < 0, who)?;
        }
        let mut ttl_ms = 0;
        if let (Some(once), Some(adjust)) = (once, adjusts.first()) {
            call.keys.push(format!("{}:{}{:032x}", adjust.key.group(), Kind::Once.letter(), once.id));
            ttl_ms = u64::try_from(once.ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        }
        let value = self.bounded(self.execute(&call.request(ttl_ms))).await?;
        from_redis_value::<i64>(value).map(|done| done != 0).map_err(|e| unreadable(&e))
    }

    fn call(&self, keys: usize, op: &'static str) -> Call {
        let (now, pad) = match self.options.rate_time {
            RateTime::Server => (None, 0),
            RateTime::Caller => (Some(wall_us(&self.clock)), CALLER_PAD_MS),
        };
        Call { op, now, pad, keys: Vec::with_capacity(keys), args: Vec::with_capacity(keys * EACH) }
    }
}

struct Call {
    op: &'static str,
    now: Option<u64>,
    pad: u64,
    keys: Vec<String>,
    args: Vec<Arg>,
}

enum Arg {
    Int(u64),
    Negative(u64),
    Letter(char),
    Holder(u128),
    None,
}

impl Call {
    /// More than any limit, and exact in Lua.
    const MOST: u64 = 1 << 52;

    fn cell(
        &mut self,
        key: &RateKey,
        form: &Form,
        first: u64,
        by: u64,
        is_negative: bool,
        holder: Option<u128>,
    ) -> Result<()> {
        let key = format!("{}:{}", key.as_str(), form.kind().letter());
        if self.keys.contains(&key) {
            return Err(Error::Invalid("a cell twice in one call"));
        }
        self.keys.push(key);
        let (letter, numbers) = match *form {
            Form::Bucket(b) => ('b', [b.whole, b.part, b.parts, b.capacity]),
            Form::Fixed { limit, window } => ('f', [limit, window, 0, 0]),
            Form::Calendar { limit, bounds: [a, b, c] } => ('k', [limit, a, b, c]),
            Form::Counter { limit, window, grain, grains } => ('c', [limit, window, grain, grains]),
            Form::Log { limit, horizon } => ('l', [limit, horizon, 0, 0]),
            Form::Holders { limit, horizon } => ('h', [limit, horizon, 0, 0]),
        };
        self.args.push(Arg::Letter(letter));
        self.args.push(Arg::Int(first));
        self.args.push(if is_negative { Arg::Negative(by) } else { Arg::Int(by) });
        self.args.push(holder.map_or(Arg::None, Arg::Holder));
        self.args.extend(numbers.map(Arg::Int));
        Ok(())
    }

    fn request(&self, once_ms: u64) -> Request {
        let mut c: Cmd = cmd("EVALSHA");
        c.arg(RATE.hash()).arg(self.keys.len()).arg(&self.keys);
        c.arg(self.op);
        match self.now {
            Some(now) => c.arg(now),
            None => c.arg(""),
        };
        c.arg(self.pad).arg(once_ms);
        for arg in &self.args {
            match arg {
                Arg::Int(n) => c.arg(*n),
                Arg::Negative(n) => c.arg(-i64::try_from(*n).unwrap_or(i64::MAX)),
                Arg::Letter(letter) => c.arg(letter.to_string()),
                Arg::Holder(id) => c.arg(format!("{id:032x}")),
                Arg::None => c.arg(""),
            };
        }
        Request::Script(c, &RATE)
    }
}

fn answers(value: Value, count: usize) -> Result<Vec<Charged>> {
    let numbers: Vec<i64> = from_redis_value(value).map_err(|e| unreadable(&e))?;
    let (at, cells) = numbers.split_first().ok_or_else(|| Error::Other("an empty answer".to_owned()))?;
    if cells.len() != count * 4 {
        return Err(Error::Other(format!("an answer of {} numbers for {count} cells", cells.len())));
    }
    let whole = |n: i64| u64::try_from(n).unwrap_or(0);
    let answer = |cell: &[i64]| match *cell {
        [is_allowed, remaining, retry, reset] => Some(Charged {
            is_allowed: is_allowed != 0,
            remaining: whole(remaining),
            retry_after: u64::try_from(retry).ok().map(Duration::from_micros),
            reset_after: Duration::from_micros(whole(reset)),
            at: Moment::from_micros(whole(*at)),
        }),
        _ => None,
    };
    Ok(cells.chunks_exact(4).filter_map(answer).collect())
}

fn unreadable(e: &impl std::fmt::Display) -> Error {
    Error::Other(format!("an answer that cannot be read: {e}"))
}
