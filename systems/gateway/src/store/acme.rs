//! Certificates that are got by themselves.

use database::{Db, Result, Row, params};
use kernel::Timestamp;

/// What watchers hear of when a certificate was got, or was not.
pub(crate) const TOPIC: &str = "gateway_certificates";

/// A certificate as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) chain: String,
    /// Sealed.
    pub(crate) private_key: Vec<u8>,
    /// 0: there is none yet.
    pub(crate) version: i64,
    pub(crate) attempt_at: Timestamp,
    pub(crate) failure_count: i64,
    pub(crate) trouble: String,
    pub(crate) leased_until: Timestamp,
}

fn kept(row: &Row) -> Result<Kept> {
    Ok(Kept {
        chain: row.get(0)?,
        private_key: row.get(1)?,
        version: row.get(2)?,
        attempt_at: Timestamp::from_millis(row.get(3)?),
        failure_count: row.get(4)?,
        trouble: row.get(5)?,
        leased_until: Timestamp::from_millis(row.get(6)?),
    })
}

/// The sealed credentials of an account.
pub(crate) async fn account(db: &Db, id: &str) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT credentials FROM gateway_acme_accounts WHERE id = $1";
    db.get(sql, params![id]).await?.map(|row| row.get(0)).transpose()
}

/// Keeps an account, unless another node was first.
pub(crate) async fn put_account(db: &Db, id: &str, credentials: Vec<u8>, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO gateway_acme_accounts (id, credentials, made_at) VALUES ($1, $2, $3) \
               ON CONFLICT (id) DO NOTHING";
    db.exec(sql, params![id, credentials, now]).await.map(drop)
}

/// A certificate.
pub(crate) async fn certificate(db: &Db, id: &str) -> Result<Option<Kept>> {
    let sql = "SELECT chain, private_key, version, attempt_at, failure_count, trouble, leased_until \
               FROM gateway_acme_certificates WHERE id = $1";
    db.get(sql, params![id]).await?.as_ref().map(kept).transpose()
}

/// A place for a certificate, to be got at once.
pub(crate) async fn want(db: &Db, id: &str, hosts: &str, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO gateway_acme_certificates \
               (id, hosts, chain, private_key, version, attempt_at, failure_count, trouble, leased_until, leased_by) \
               VALUES ($1, $2, '', $3, 0, $4, 0, '', 0, '') ON CONFLICT (id) DO NOTHING";
    db.exec(sql, params![id, hosts, Vec::<u8>::new(), now]).await.map(drop)
}

/// Takes the right to get a certificate that is due; whether it was free.
pub(crate) async fn lease(db: &Db, id: &str, by: &str, now: Timestamp, until: Timestamp) -> Result<bool> {
    let sql = "UPDATE gateway_acme_certificates SET leased_until = $1, leased_by = $2 \
               WHERE id = $3 AND leased_until <= $4 AND attempt_at <= $4";
    Ok(db.exec(sql, params![until, by, id, now]).await? == 1)
}

/// Keeps what was got by who holds the lease.
pub(crate) async fn put(
    db: &Db,
    id: &str,
    by: &str,
    (chain, private_key): (String, Vec<u8>),
    attempt_at: Timestamp,
) -> Result<()> {
    let (id, by) = (id.to_owned(), by.to_owned());
    db.tx(async move |tx| {
        let sql = "UPDATE gateway_acme_certificates \
                   SET chain = $1, private_key = $2, version = version + 1, attempt_at = $3, failure_count = 0, \
                       trouble = '', leased_until = 0 \
                   WHERE id = $4 AND leased_by = $5";
        tx.exec(sql, params![&chain, private_key.clone(), attempt_at, &id, &by]).await?;
        tx.notify(TOPIC, 0);
        Ok(())
    })
    .await
}

/// Keeps why nothing was got.
pub(crate) async fn fail(db: &Db, id: &str, by: &str, trouble: &str, attempt_at: Timestamp) -> Result<()> {
    let (id, by, trouble) = (id.to_owned(), by.to_owned(), trouble.to_owned());
    db.tx(async move |tx| {
        let sql = "UPDATE gateway_acme_certificates \
                   SET failure_count = failure_count + 1, trouble = $1, attempt_at = $2, leased_until = 0 \
                   WHERE id = $3 AND leased_by = $4";
        tx.exec(sql, params![&trouble, attempt_at, &id, &by]).await?;
        tx.notify(TOPIC, 0);
        Ok(())
    })
    .await
}

/// Says what an authority is to be answered.
pub(crate) async fn put_challenge(db: &Db, kind: &str, name: &str, answer: &str, ends_at: Timestamp) -> Result<()> {
    let sql = "INSERT INTO gateway_acme_challenges (kind, name, answer, ends_at) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (kind, name) DO UPDATE SET answer = excluded.answer, ends_at = excluded.ends_at";
    db.exec(sql, params![kind, name, answer, ends_at]).await.map(drop)
}

/// What an authority is answered.
pub(crate) async fn challenge(db: &Db, kind: &str, name: &str, now: Timestamp) -> Result<Option<String>> {
    let sql = "SELECT answer FROM gateway_acme_challenges WHERE kind = $1 AND name = $2 AND ends_at > $3";
    db.get(sql, params![kind, name, now]).await?.map(|row| row.get(0)).transpose()
}

/// Deletes up to `limit` answers that nobody waits for.
pub(crate) async fn sweep_challenges(db: &Db, now: Timestamp, limit: u32) -> Result<()> {
    let sql = "DELETE FROM gateway_acme_challenges WHERE (kind, name) IN \
               (SELECT c.kind, c.name FROM gateway_acme_challenges c WHERE c.ends_at <= $1 ORDER BY c.ends_at LIMIT $2)";
    db.exec(sql, params![now, limit]).await.map(drop)
}
