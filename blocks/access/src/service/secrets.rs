//! One root secret, from which every other secret of the installation is derived (HKDF, RFC 5869, with SHA-256).
//!
//! All nodes have the same root: from `access.root_secret`, or made at the first start and kept in the database. The database
//! also keeps a fingerprint of it, so that a node with another root refuses to start rather than hand out cursors, codes and
//! sessions that no other node understands.

use database::{Db, Tx};
use kernel::{Rng, Secret};
use ring::hkdf;

use crate::{Error, error::Result, store};

const ROOT: &str = "root_secret";
const FINGERPRINT: &str = "root_fingerprint";
const FINGERPRINT_LABEL: &str = "access.root.fingerprint";

pub(crate) struct RootSecret(hkdf::Prk);

struct Bytes32;

impl hkdf::KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

impl RootSecret {
    fn new(root: &[u8]) -> Self {
        Self(hkdf::Salt::new(hkdf::HKDF_SHA256, b"mainstay root secret 1").extract(root))
    }

    /// The secret of this label: 32 bytes.
    #[allow(clippy::expect_used, reason = "HKDF-SHA256 fails only past 255 × 32 bytes; this asks for 32")]
    pub(crate) fn derive(&self, label: &[&[u8]]) -> [u8; 32] {
        let mut out = [0; 32];
        self.0.expand(label, Bytes32).and_then(|okm| okm.fill(&mut out)).expect("32 bytes are within HKDF's bound");
        out
    }

    /// The configured one, else the one in the database, made by whichever node comes first.
    pub(crate) async fn open(db: &Db, configured: &Secret, rng: &Rng) -> Result<Self> {
        let configured = (!configured.is_empty()).then(|| configured.expose().as_bytes().to_vec());
        let fresh: [u8; 32] = rng.bytes();
        let root = db
            .tx(async move |tx| -> Result<Vec<u8>> {
                if let Some(root) = &configured {
                    claim_fingerprint(tx, root).await?;
                    return Ok(root.clone());
                }
                // Where a configured root made the fingerprint, no other root may take its place. Read in this order: a node
                // that starts at the same time commits both together.
                let has_fingerprint = store::get_installation(tx, FINGERPRINT).await?.is_some();
                if has_fingerprint && store::get_installation(tx, ROOT).await?.is_none() {
                    return Err(Error::RootSecretChanged);
                }
                store::claim_installation(tx, ROOT, &fresh).await?;
                let root = store::get_installation(tx, ROOT).await?.unwrap_or_default();
                claim_fingerprint(tx, &root).await?;
                Ok(root)
            })
            .await?;
        Ok(Self::new(&root))
    }
}

async fn claim_fingerprint(tx: &mut Tx<'_>, root: &[u8]) -> Result<()> {
    let mine = RootSecret::new(root).derive(&[FINGERPRINT_LABEL.as_bytes()]);
    store::claim_installation(tx, FINGERPRINT, &mine).await?;
    let kept = store::get_installation(tx, FINGERPRINT).await?;
    if kept.as_deref() == Some(mine.as_slice()) { Ok(()) } else { Err(Error::RootSecretChanged) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_roots_are_apart() {
        let (a, b) = (RootSecret::new(&[1; 32]), RootSecret::new(&[2; 32]));
        assert_eq!(a.derive(&[b"cursor"]), a.derive(&[b"cursor"]));
        assert_ne!(a.derive(&[b"cursor"]), a.derive(&[b"csrf"]));
        assert_ne!(a.derive(&[b"cursor"]), b.derive(&[b"cursor"]));
    }
}
