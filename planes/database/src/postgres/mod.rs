//! PostgreSQL.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use kernel::{Clock, Rng, Tasks};

use crate::{
    Error, Migration, PostgresOptions, Result, Row, Tx, Value,
    stats::{Counters, Stats},
    topics::Topics,
};

pub(crate) struct Postgres {
    counters: Counters,
}
#[derive(Debug)]
pub(crate) struct Session;

fn no<T>() -> Result<T> {
    Err(Error::Conn("not yet".to_owned()))
}

impl Session {
    pub(crate) async fn exec(&mut self, _sql: &'static str, _params: &[Value]) -> Result<u64> {
        no()
    }
    pub(crate) async fn query(&mut self, _sql: &'static str, _params: &[Value]) -> Result<Vec<Row>> {
        no()
    }
}

impl Postgres {
    pub(crate) async fn connect(
        _options: PostgresOptions,
        _clock: Clock,
        _rng: Rng,
        _topics: &Arc<Topics>,
        _tasks: &Tasks,
    ) -> Result<Self> {
        no()
    }
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
    pub(crate) fn stats(&self) -> Stats {
        self.counters.snapshot(crate::Engine::Postgres, 0, 0, 0)
    }
    pub(crate) async fn exec(&self, _sql: &'static str, _params: Vec<Value>) -> Result<u64> {
        no()
    }
    pub(crate) async fn exec_returning(&self, _sql: &'static str, _params: Vec<Value>) -> Result<Vec<Row>> {
        no()
    }
    pub(crate) async fn query(&self, _sql: &'static str, _params: Vec<Value>) -> Result<Vec<Row>> {
        no()
    }
    pub(crate) async fn close(&self) {}
    pub(crate) fn tx<T, E, F>(self: Arc<Self>, _body: F, _is_serializable: bool) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: AsyncFn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        async move { no().map_err(E::from) }.boxed()
    }
}
pub(crate) async fn migrate_step(
    _db: &Postgres,
    _system: &'static str,
    _m: &'static [Migration],
) -> Result<Option<&'static Migration>> {
    no()
}
