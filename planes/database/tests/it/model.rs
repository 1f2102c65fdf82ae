//! Random transactions against a model, aborts and panics included.

use std::collections::BTreeMap;

use database::{Db, Error, Result, Tx, params};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::support::{Fixture, postgres, sqlite};

#[derive(Debug, Clone)]
enum Op {
    Put(i64, i64),
    Add(i64, i64),
    Delete(i64),
    /// Puts only where there is nothing, and fails else.
    Insert(i64, i64),
    Sum,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Commit,
    Abort,
    Panic,
    Pend,
}

#[derive(Debug, Clone)]
struct Transaction {
    ops: Vec<Op>,
    end: End,
}

fn op() -> impl Strategy<Value = Op> {
    let (key, value) = (0..6_i64, -50..50_i64);
    prop_oneof![
        (key.clone(), 0..50_i64).prop_map(|(k, v)| Op::Put(k, v)),
        (key.clone(), value).prop_map(|(k, v)| Op::Add(k, v)),
        key.clone().prop_map(Op::Delete),
        (key, 0..50_i64).prop_map(|(k, v)| Op::Insert(k, v)),
        Just(Op::Sum),
    ]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let end = prop_oneof![6 => Just(End::Commit), 2 => Just(End::Abort), 1 => Just(End::Panic), 1 => Just(End::Pend)];
    (prop::collection::vec(op(), 0..6), end).prop_map(|(ops, end)| Transaction { ops, end })
}

/// What a transaction gives: the sums it saw, or how it failed.
type Outcome = std::result::Result<Vec<i64>, &'static str>;

fn on_model(model: &mut BTreeMap<i64, i64>, t: &Transaction) -> Outcome {
    let mut next = model.clone();
    let mut sums = Vec::new();
    for op in &t.ops {
        match *op {
            Op::Put(k, v) => drop(next.insert(k, v)),
            Op::Add(k, v) => {
                if let Some(old) = next.get_mut(&k) {
                    if *old + v < 0 {
                        return Err("check");
                    }
                    *old += v;
                }
            }
            Op::Delete(k) => drop(next.remove(&k)),
            Op::Insert(k, v) => {
                if next.insert(k, v).is_some() {
                    return Err("unique");
                }
            }
            Op::Sum => sums.push(next.values().sum()),
        }
    }
    match t.end {
        End::Commit => {
            *model = next;
            Ok(sums)
        }
        End::Abort => Err("other"),
        End::Panic => Err("panicked"),
        End::Pend => Err("body_pending"),
    }
}

async fn body(tx: &mut Tx<'_>, t: &Transaction) -> Result<Vec<i64>> {
    let mut sums = Vec::new();
    for op in &t.ops {
        match *op {
            Op::Put(k, v) => {
                let put = "INSERT INTO things (id, name, amount) VALUES ($1, CAST($1 AS TEXT), $2)
                    ON CONFLICT (id) DO UPDATE SET amount = excluded.amount";
                tx.exec(put, params![k, v]).await?;
            }
            Op::Add(k, v) => {
                tx.exec("UPDATE things SET amount = amount + $2 WHERE id = $1", params![k, v]).await?;
            }
            Op::Delete(k) => drop(tx.exec("DELETE FROM things WHERE id = $1", params![k]).await?),
            Op::Insert(k, v) => {
                let insert = "INSERT INTO things (id, name, amount) VALUES ($1, CAST($1 AS TEXT), $2)";
                tx.exec(insert, params![k, v]).await?;
            }
            Op::Sum => {
                let sum = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM things";
                sums.push(tx.get(sum, params![]).await?.unwrap().get(0)?);
            }
        }
    }
    match t.end {
        End::Commit => Ok(sums),
        End::Abort => Err(Error::Other("as asked".to_owned())),
        End::Panic => panic!("as asked"),
        End::Pend => std::future::pending().await,
    }
}

async fn on_database(db: &Db, t: Transaction) -> Outcome {
    db.tx(async move |tx| body(tx, &t).await).await.map_err(|e: Error| e.kind())
}

async fn contents(db: &Db) -> BTreeMap<i64, i64> {
    let rows = db.query("SELECT id, amount FROM things", params![]).await.unwrap();
    rows.iter().map(|row| (row.get(0).unwrap(), row.get(1).unwrap())).collect()
}

/// `at_once` hands all transactions to the writer together, so that they share groups; its queue keeps their order.
fn agrees_with_the_model(make: impl AsyncFn() -> Fixture, at_once: bool, case_count: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let f = runtime.block_on(make());
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::with_cases(case_count)
    });
    let strategy = prop::collection::vec(transaction(), 1..24);
    let outcome = runner.run(&strategy, |transactions| {
        runtime.block_on(async {
            f.db.exec("DELETE FROM things", params![]).await.unwrap();
            let mut model = BTreeMap::new();
            let expected: Vec<Outcome> = transactions.iter().map(|t| on_model(&mut model, t)).collect();
            let found: Vec<Outcome> = if at_once {
                futures_util::future::join_all(transactions.iter().map(|t| on_database(&f.db, t.clone()))).await
            } else {
                let mut found = Vec::new();
                for t in &transactions {
                    found.push(on_database(&f.db, t.clone()).await);
                }
                found
            };
            prop_assert_eq!(found, expected);
            prop_assert_eq!(contents(&f.db).await, model);
            Ok(())
        })
    });
    outcome.unwrap();
    runtime.block_on(f.db.close());
}

#[test]
fn sqlite_agrees_with_the_model() {
    agrees_with_the_model(sqlite, true, 128);
}

#[test]
fn postgres_agrees_with_the_model() {
    agrees_with_the_model(postgres, false, 48);
}
