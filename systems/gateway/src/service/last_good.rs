//! The document that held last, on this machine: what a node starts with when it cannot use the one that should hold.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::model::{Document, Origin};

/// What is in the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    origin: String,
    version: i64,
    document: Document,
}

/// See the module.
#[derive(Debug)]
pub(super) struct LastGood(PathBuf);

impl LastGood {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self(data_dir.join("gateway").join("last-good.json"))
    }

    /// Keeps a document. A failure is told and harms nothing now.
    pub(super) async fn save(&self, document: &Document, origin: Origin, version: i64) {
        let kept = Kept { origin: origin.as_str().to_owned(), version, document: document.clone() };
        let path = self.0.clone();
        let done = tokio::task::spawn_blocking(move || write(&path, &kept)).await;
        let failed = match done {
            Ok(Ok(())) => return,
            Ok(Err(e)) => e.to_string(),
            Err(e) => e.to_string(),
        };
        tracing::warn!(error = failed, path = %self.0.display(), "the gateway's document could not be kept on this machine");
    }

    /// What was kept; `None` when there is nothing, or nothing that this version can read.
    pub(super) async fn load(&self) -> Option<(Document, i64)> {
        let path = self.0.clone();
        let read = tokio::task::spawn_blocking(move || fs::read(path)).await.ok()?;
        match serde_json::from_slice::<Kept>(&read.ok()?) {
            Ok(kept) => Some((kept.document, kept.version)),
            Err(error) => {
                tracing::warn!(%error, path = %self.0.display(), "what was kept of the gateway's document cannot be read");
                None
            }
        }
    }
}

/// Whole or not at all, also when the machine stops: a new file, synchronised, in the place of the old one.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let partial = path.with_extension("partial");
    // The document may name secrets: for the owner alone.
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    File::open(folder)?.sync_all()
}
