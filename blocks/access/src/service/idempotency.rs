//! Idempotency records in the database: web's store for every node of an installation.
//!
//! The answer to "create a key" holds the key's secret, and answers are kept for a day. So an answer is sealed (AES-256-GCM)
//! under a key that is derived from the root secret *and the Idempotency-Key itself*, and the record is filed under a hash.
//! Whoever reads the database, or a backup of it, without knowing the Idempotency-Key (usually a random UUID that only the
//! client has) reads no answer.

use database::Db;
use kernel::Problem;
use ring::{aead, digest};
use web::idempotency::{Begun, BoxFuture, Claim, IdempotencyStore, Record, StoredAnswer, decide};

use super::Access;
use crate::store::{self, StoredRecord};

/// How often `begin` looks again when a record it met was released meanwhile.
const MAX_TURNS: usize = 8;

/// The store. Made by [`Access::idempotency_store`].
#[derive(Clone)]
pub(crate) struct Records(Access);

impl Access {
    /// Where web's Idempotency-Key middleware keeps its records.
    pub fn idempotency_store(&self) -> std::sync::Arc<dyn IdempotencyStore> {
        std::sync::Arc::new(Records(self.clone()))
    }
}

/// Where a key's record is filed. The scope's length keeps `("a", "bc")` and `("ab", "c")` apart.
fn record_id(claim: &Claim) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(&(claim.scope.len() as u64).to_le_bytes());
    hash.update(claim.scope.as_bytes());
    hash.update(claim.key.as_bytes());
    let mut id = [0; 32];
    id.copy_from_slice(hash.finish().as_ref());
    id
}

impl Records {
    fn db(&self) -> &Db {
        &self.0.0.db
    }

    /// The key that seals the answer of one try. The holder is random for each try and each try is answered once, so no two
    /// answers are sealed under one key and the nonce may be fixed.
    fn sealing_key(&self, claim: &Claim, holder: &[u8; 16]) -> Option<aead::LessSafeKey> {
        let scope_bytes = (claim.scope.len() as u64).to_le_bytes();
        let label: [&[u8]; 5] =
            [b"access.idempotency", &scope_bytes, claim.scope.as_bytes(), holder, claim.key.as_bytes()];
        let key = self.0.0.root.derive(&label);
        aead::UnboundKey::new(&aead::AES_256_GCM, &key).ok().map(aead::LessSafeKey::new)
    }

    fn seal(&self, claim: &Claim, answer: &StoredAnswer) -> Option<Vec<u8>> {
        let headers = answer.headers_text();
        let mut bytes = answer.status.to_be_bytes().to_vec();
        bytes.extend_from_slice(&u32::try_from(headers.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(headers.as_bytes());
        bytes.extend_from_slice(&answer.body);
        let key = self.sealing_key(claim, &claim.holder)?;
        key.seal_in_place_append_tag(nonce(), aead::Aad::empty(), &mut bytes).ok()?;
        Some(bytes)
    }

    fn open(&self, claim: &Claim, holder: &[u8; 16], mut sealed: Vec<u8>) -> Option<StoredAnswer> {
        let key = self.sealing_key(claim, holder)?;
        let bytes = key.open_in_place(nonce(), aead::Aad::empty(), &mut sealed).ok()?;
        let (status, rest) = bytes.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (headers, body) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        Some(StoredAnswer::from_parts(u16::from_be_bytes(*status), std::str::from_utf8(headers).ok()?, body.to_vec()))
    }

    fn record(&self, claim: &Claim, stored: StoredRecord) -> Result<Record, Problem> {
        let StoredRecord { fingerprint, holder, lease_until, expires_at, answer } = stored;
        let is_same = fingerprint == claim.fingerprint && expires_at > claim.now;
        let answer =
            match answer {
                // Another request's answer is never given, so there is nothing to open.
                Some(sealed) if is_same => Some(self.open(claim, &holder, sealed).ok_or_else(|| {
                    Problem::internal("a kept answer cannot be opened: it was changed in the database")
                })?),
                _ => None,
            };
        Ok(Record { fingerprint, holder, lease_until, expires_at, answer })
    }
}

fn nonce() -> aead::Nonce {
    aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

fn stored(claim: &Claim) -> StoredRecord {
    StoredRecord {
        fingerprint: claim.fingerprint,
        holder: claim.holder,
        lease_until: claim.lease_until,
        expires_at: claim.expires_at,
        answer: None,
    }
}

impl IdempotencyStore for Records {
    fn begin<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Begun, Problem>> {
        let (this, claim, id) = (self.clone(), claim.clone(), record_id(claim));
        let begun = self.db().tx(async move |tx| -> crate::error::Result<Begun> {
            for _ in 0..MAX_TURNS {
                if store::insert_record(tx, &id, &stored(&claim)).await? {
                    return Ok(Begun::First);
                }
                // `None`: it was released between the two statements (PostgreSQL only), so the key is free again.
                let Some(found) = store::lock_record(tx, &id).await? else { continue };
                let begun = decide(Some(&this.record(&claim, found)?), &claim);
                if begun == Begun::First {
                    store::take_over_record(tx, &id, &stored(&claim)).await?;
                }
                return Ok(begun);
            }
            Err(database::Error::Retry.into())
        });
        Box::pin(async move { begun.await.map_err(Problem::from) })
    }

    fn finish<'a>(&'a self, claim: &'a Claim, answer: StoredAnswer) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            let sealed = self.seal(claim, &answer).ok_or_else(|| Problem::internal("an answer could not be sealed"))?;
            store::finish_record(self.db(), &record_id(claim), &claim.holder, sealed).await?;
            Ok(())
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            store::release_record(self.db(), &record_id(claim), &claim.holder).await?;
            Ok(())
        })
    }
}
