//! The file of the document: read again when it changes.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use super::MAX_DOCUMENT_BYTES;
use crate::model::Document;

/// By what a change of the file is noticed.
type Seen = Option<(Option<SystemTime>, u64)>;

/// Reads the text of a file; the first mistake, with where it is.
pub fn parse(text: &str) -> Result<Document, String> {
    let told = |e: &toml::de::Error| e.message().split('\n').collect::<Vec<_>>().join(" ");
    let parser = toml::Deserializer::parse(text).map_err(|e| {
        let line = e.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        format!("line {line}: {}", told(&e))
    })?;
    serde_path_to_error::deserialize(parser).map_err(|e| {
        let path = e.path().to_string();
        let why = told(e.inner());
        if path == "." { why } else { format!("{path}: {why}") }
    })
}

/// See the module.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: Option<PathBuf>,
    seen: Mutex<Seen>,
}

impl ConfigFile {
    pub(super) fn new(path: &str) -> Self {
        Self { path: (!path.is_empty()).then(|| PathBuf::from(path)), seen: Mutex::default() }
    }

    /// Whether there is one to be looked at.
    pub(super) fn is_on(&self) -> bool {
        self.path.is_some()
    }

    /// Its path, for messages.
    pub(super) fn shown(&self) -> String {
        self.path.as_deref().unwrap_or(Path::new("")).display().to_string()
    }

    /// What it says, unless it is as it was the last time.
    pub(super) async fn read_if_changed(&self) -> Option<Result<Document, String>> {
        let path = self.path.clone()?;
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that may wait for the disk.
        let (now, read) = match tokio::task::spawn_blocking(move || read(&path, seen)).await {
            Ok(read) => read?,
            Err(e) => (None, Err(format!("reading it ended early: {e}"))),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Some(read)
    }
}

fn read(path: &Path, seen: Seen) -> Option<(Seen, Result<Document, String>)> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) => return Some((None, Err(e.to_string()))),
    };
    // Looked at before it is read: a change while it is read is seen the next time.
    let now = Some((metadata.modified().ok(), metadata.len()));
    if now == seen {
        return None;
    }
    if metadata.len() > MAX_DOCUMENT_BYTES as u64 {
        return Some((now, Err("larger than 8 MiB".to_owned())));
    }
    let document = std::fs::read_to_string(path).map_err(|e| e.to_string()).and_then(|text| parse(&text));
    Some((now, document))
}
