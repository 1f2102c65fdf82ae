//! What the writer runs.

use std::{
    future::Future as _,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Poll, Waker},
};

use kernel::tasks::panic_message;
use tokio::sync::oneshot;

use super::Conn;
use crate::{Error, Result, Row, Tx, Value, tx::On, value};

/// What is left of a job in the group's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// Its writes stay.
    Keep,
    /// Its writes have to be rolled back.
    Undo,
}

/// One unit of work of the writer.
pub(crate) trait Job: Send {
    /// Nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
    /// Whether a failure has to be rolled back by a savepoint; a single statement undoes itself.
    fn needs_savepoint(&self) -> bool;
    /// Runs it inside the group's transaction. May be called again when the group failed.
    fn run(&mut self, conn: &mut Conn) -> Ran;
    /// Answers whoever waits: with its own outcome, or with why the group failed.
    fn answer(self: Box<Self>, group: Result<()>);
    /// Whom to wake after the commit.
    fn changes(&mut self) -> Vec<(&'static str, i64)>;
}

/// A transaction body.
pub(crate) struct Body<T, E, F> {
    run: F,
    out: Option<Result<T, E>>,
    changes: Vec<(&'static str, i64)>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Body<T, E, F> {
    pub(crate) fn new(run: F, reply: oneshot::Sender<Result<T, E>>) -> Self {
        Self { run, out: None, changes: Vec::new(), reply }
    }
}

impl<T, E, F> Job for Body<T, E, F>
where
    T: Send,
    E: From<Error> + Send,
    F: AsyncFn(&mut Tx<'_>) -> Result<T, E> + Send,
{
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn needs_savepoint(&self) -> bool {
        true
    }

    fn run(&mut self, conn: &mut Conn) -> Ran {
        let counters = conn.counters.clone();
        let counted = |e: Error| {
            counters.error(&e);
            E::from(e)
        };
        let mut tx = Tx::new(On::Sqlite(conn));
        // Every operation of `tx` is ready at once, so a body that awaits nothing else is done in one poll.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let future = pin!((self.run)(&mut tx));
            future.poll(&mut Context::from_waker(Waker::noop()))
        }));
        let out = match (polled, tx.failed.take()) {
            (Ok(Poll::Ready(Ok(_))), Some(failed)) => Err(E::from(failed)),
            (Ok(Poll::Ready(out)), _) => out,
            (Ok(Poll::Pending), _) => Err(counted(Error::BodyPending)),
            (Err(panic), _) => Err(counted(Error::Panicked(panic_message(panic.as_ref())))),
        };
        let ran = if out.is_ok() { Ran::Keep } else { Ran::Undo };
        // Nobody is woken for what was rolled back.
        self.changes = if ran == Ran::Keep { std::mem::take(&mut tx.changes) } else { Vec::new() };
        self.out = Some(out);
        ran
    }

    fn answer(self: Box<Self>, group: Result<()>) {
        let Self { out, reply, .. } = *self;
        let answer = match group {
            Ok(()) => out.unwrap_or_else(|| Err(E::from(Error::Retry))),
            Err(e) => Err(E::from(e)),
        };
        // Nobody waits any more: the caller has gone.
        drop(reply.send(answer));
    }

    fn changes(&mut self) -> Vec<(&'static str, i64)> {
        std::mem::take(&mut self.changes)
    }
}

/// What a single statement gives.
pub(crate) enum Output {
    /// Rows changed.
    Count(u64),
    /// Rows returned.
    Rows(Vec<Row>),
}

/// A single statement: atomic by itself, so it needs no savepoint.
pub(crate) struct Statement {
    sql: &'static str,
    params: Vec<Value>,
    is_returning: bool,
    out: Option<Result<Output>>,
    reply: oneshot::Sender<Result<Output>>,
}

impl Statement {
    pub(crate) fn new(
        sql: &'static str,
        params: Vec<Value>,
        is_returning: bool,
        reply: oneshot::Sender<Result<Output>>,
    ) -> Self {
        Self { sql, params, is_returning, out: None, reply }
    }
}

impl Job for Statement {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn needs_savepoint(&self) -> bool {
        // A result that is too large is refused after some rows were written.
        self.is_returning
    }

    fn run(&mut self, conn: &mut Conn) -> Ran {
        let out = value::check(&self.params).and_then(|()| {
            if self.is_returning {
                conn.query(self.sql, &self.params).map(Output::Rows)
            } else {
                conn.exec(self.sql, &self.params).map(Output::Count)
            }
        });
        let ran = if out.is_ok() { Ran::Keep } else { Ran::Undo };
        self.out = Some(out);
        ran
    }

    fn answer(self: Box<Self>, group: Result<()>) {
        let Self { out, reply, .. } = *self;
        drop(reply.send(group.and_then(|()| out.unwrap_or(Err(Error::Retry)))));
    }

    fn changes(&mut self) -> Vec<(&'static str, i64)> {
        Vec::new()
    }
}

/// Work of the plane itself: migrations and copies, whose texts are not in the binary.
pub(crate) struct Own<T, F> {
    work: F,
    out: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Own<T, F> {
    pub(crate) fn new(work: F, reply: oneshot::Sender<Result<T>>) -> Self {
        Self { work, out: None, reply }
    }
}

impl<T: Send, F: FnMut(&mut Conn) -> Result<T> + Send> Job for Own<T, F> {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn needs_savepoint(&self) -> bool {
        true
    }

    fn run(&mut self, conn: &mut Conn) -> Ran {
        let out = (self.work)(conn);
        let ran = if out.is_ok() { Ran::Keep } else { Ran::Undo };
        self.out = Some(out);
        ran
    }

    fn answer(self: Box<Self>, group: Result<()>) {
        let Self { out, reply, .. } = *self;
        drop(reply.send(group.and_then(|()| out.unwrap_or(Err(Error::Retry)))));
    }

    fn changes(&mut self) -> Vec<(&'static str, i64)> {
        Vec::new()
    }
}
