//! Files of links on their way in: taking them on, showing how far they are, stopping them. [`super::import_work`] does the work.
//!
//! - IMPORTS-1: a file is spooled into the database piece by piece; an import is seen by workers once it is there whole.
//! - IMPORTS-2: a request that is repeated under its token gives the import that the first one made.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use identity::Principal;
use kernel::{Problem, ProjectId, Timestamp};
use ring::digest;

use super::Shortener;
use crate::{
    error::Error,
    model::{
        domain,
        import::{Import, ImportId, ImportState, RowError},
        transfer::{FileError, Format, Numbered, Reader},
    },
    store,
};

/// Rows that one transaction makes links of.
const CHUNK_ROWS: usize = 250;
/// About the most bytes of a chunk.
const CHUNK_BYTES: usize = 512 << 10;
/// How long an import waits for the next piece of its file.
const PATIENCE: Duration = Duration::from_mins(2);
/// The most imports of a project that are under way at once.
const MAX_LIVE: u32 = 5;

/// A file to be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImport {
    /// What the file looks like.
    pub format: Format,
    /// The host on which every link of the file shall answer; as each row says when `None`.
    pub domain: Option<String>,
    /// Names this import inside its project: the same one again gives the import that the first one made.
    pub token: Option<String>,
}

/// What an import begins with.
#[derive(Debug)]
pub enum Begun {
    /// The file is wanted.
    Send(Box<Spool>),
    /// Another request with the same token is being received.
    Running,
}

/// What a file that was sent whole became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// An import that will be worked on.
    New(Import),
    /// The import that the first request with this token made.
    Before(Import),
    /// The token stands for another file.
    OtherFile,
}

/// Takes a file piece by piece. Dropped before [`Spool::finish`], nothing is imported.
pub struct Spool {
    shortener: Shortener,
    digest: digest::Context,
    byte_count: u64,
    to: To,
}

enum To {
    Chunks(Box<Chunks>),
    /// The import is there; only the digest is wanted.
    Compare {
        import: Import,
        digest: String,
    },
}

struct Chunks {
    principal: Principal,
    import: Import,
    reader: Reader,
    waiting: Vec<Numbered>,
    waiting_bytes: usize,
    seq: u64,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spool")
    }
}

impl Shortener {
    /// Begins an import.
    pub async fn begin_import(&self, principal: &Principal, new: NewImport) -> Result<Begun, Error> {
        let this = &*self.0;
        if let Some(host) = &new.domain {
            self.import_domain(&principal.project, host).await?;
        }
        let now = this.clock.now();
        let import = Import {
            id: ImportId::new(&this.clock, &this.rng),
            project: principal.project.clone(),
            format: new.format,
            host: new.domain.as_deref().and_then(domain::host),
            state: ImportState::Receiving,
            row_count: 0,
            created_count: 0,
            failed_count: 0,
            created_at: now,
            created_by: principal.name.to_string(),
            started_at: None,
            finished_at: None,
        };
        let before: Before = this
            .db
            .tx({
                let (import, token) = (import.clone(), new.token.clone());
                async move |tx: &mut database::Tx<'_>| begin(tx, &import, token.as_deref(), now).await
            })
            .await?;
        // What was said of a file is part of what it is the same as.
        let mut digest = digest::Context::new(&digest::SHA256);
        let said = format!("{}\n{}\n", import.format.as_str(), import.host.as_deref().unwrap_or_default());
        digest.update(said.as_bytes());
        let to = match before {
            Before::Nothing => To::Chunks(Box::new(Chunks {
                principal: principal.clone(),
                reader: Reader::new(import.format),
                import,
                waiting: Vec::new(),
                waiting_bytes: 0,
                seq: 0,
            })),
            Before::Whole(import, digest) => To::Compare { import: *import, digest },
            Before::Arriving => return Ok(Begun::Running),
        };
        Ok(Begun::Send(Box::new(Spool { shortener: self.clone(), digest, byte_count: 0, to })))
    }

    /// An import of a project.
    pub async fn import(&self, project: &ProjectId, import: ImportId) -> Result<Import, Error> {
        store::project_import(&self.0.db, project, import).await.map_err(Problem::from)?.ok_or(Error::ImportUnknown)
    }

    /// Imports of a project, newest first, with where the next page starts.
    pub async fn imports(
        &self,
        project: &ProjectId,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<Import>, Option<String>), Error> {
        let this = &*self.0;
        let scope = format!("imports\n{project}");
        let after = cursor
            .map(|c| this.cursors.open(&scope, c).map_err(|p| p.field("?cursor", "not from this list")))
            .transpose()?
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let mut imports =
            store::project_imports(&this.db, project, after.as_deref(), limit + 1).await.map_err(Problem::from)?;
        let has_more = imports.len() > limit as usize;
        imports.truncate(limit as usize);
        let next = imports.last().filter(|_| has_more).map(|i| this.cursors.seal(&scope, i.id.to_string().as_bytes()));
        Ok((imports, next))
    }

    /// Why rows of an import were left out, in the order of the file, with where the next page starts.
    pub async fn import_errors(
        &self,
        project: &ProjectId,
        import: ImportId,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<RowError>, Option<String>), Error> {
        let this = &*self.0;
        self.import(project, import).await?;
        let scope = format!("import errors\n{import}");
        let after = cursor
            .map(|c| this.cursors.open(&scope, c).map_err(|p| p.field("?cursor", "not from this list")))
            .transpose()?
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_be_bytes);
        let mut errors = store::import_errors(&this.db, import, after, limit + 1).await.map_err(Problem::from)?;
        let has_more = errors.len() > limit as usize;
        errors.truncate(limit as usize);
        let next = errors.last().filter(|_| has_more).map(|e| this.cursors.seal(&scope, &e.number.to_be_bytes()));
        Ok((errors, next))
    }

    /// Stops an import, with an entry in the audit log. Links that it made stay.
    pub async fn cancel_import(&self, principal: &Principal, import: ImportId) -> Result<Import, Error> {
        let this = &*self.0;
        let found = this
            .db
            .tx({
                let (access, principal, now) = (this.access.clone(), principal.clone(), this.clock.now());
                async move |tx: &mut database::Tx<'_>| {
                    let found = store::cancel_import(tx, &principal.project, import, now).await?;
                    if let Some((_, true)) = &found {
                        let detail = serde_json::json!({});
                        access.audit(tx, &principal, "shortener.import.cancel", &import.to_string(), &detail).await?;
                    }
                    Ok::<_, database::Error>(found)
                }
            })
            .await
            .map_err(Problem::from)?;
        match found {
            None => Err(Error::ImportUnknown),
            Some((import, true)) => Ok(import),
            // Said twice is as good as said once.
            Some((import, false)) if import.state == ImportState::Cancelled => Ok(import),
            Some(_) => Err(Error::ImportFinished),
        }
    }
}

/// What a token stands for.
enum Before {
    Nothing,
    Whole(Box<Import>, String),
    Arriving,
}

async fn begin(
    tx: &mut database::Tx<'_>,
    import: &Import,
    token: Option<&str>,
    now: Timestamp,
) -> Result<Before, Error> {
    if let Some(token) = token
        && let Some(before) = store::import_of_token(tx, &import.project, token).await?
    {
        match before.digest {
            Some(digest) => return Ok(Before::Whole(Box::new(before.import), digest)),
            None if before.held_until > now => return Ok(Before::Arriving),
            // Its sender went away half-way.
            None => store::discard_import(tx, before.import.id, now).await?,
        }
    }
    if store::live_import_count(tx, &import.project, MAX_LIVE).await? >= u64::from(MAX_LIVE) {
        return Err(Error::ImportsBusy { limit: MAX_LIVE });
    }
    let is_ours = store::insert_import(tx, import, token, now.plus(PATIENCE)).await?;
    Ok(if is_ours { Before::Nothing } else { Before::Arriving })
}

impl Spool {
    /// Takes the next piece of the file. After an error the import is gone.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let pushed = self.take(bytes).await;
        if pushed.is_err() {
            self.discard().await;
        }
        pushed
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let limit = self.shortener.config().import_body_limit;
        self.byte_count += bytes.len() as u64;
        if self.byte_count > limit.0 {
            return Err(Error::ImportTooLarge(format!("{} MiB", limit.0 >> 20)));
        }
        self.digest.update(bytes);
        if let To::Chunks(chunks) = &mut self.to {
            // A piece may be as large as its sender likes; what is read of it at once is not.
            for part in bytes.chunks(CHUNK_BYTES / 4) {
                chunks.take(&self.shortener, part).await?;
            }
        }
        Ok(())
    }

    /// The file was sent whole.
    pub async fn finish(mut self) -> Result<Received, Error> {
        let digest = URL_SAFE_NO_PAD.encode(self.digest.clone().finish());
        match &mut self.to {
            To::Compare { digest: first, .. } if *first != digest => Ok(Received::OtherFile),
            // As it is by now.
            To::Compare { import, .. } => {
                Ok(Received::Before(self.shortener.import(&import.project, import.id).await?))
            }
            To::Chunks(chunks) => {
                let queued = chunks.queue(&self.shortener, digest).await;
                if queued.is_err() {
                    self.discard().await;
                }
                queued.map(Received::New)
            }
        }
    }

    /// Gives the import up. Where that fails too, it is given up after [`PATIENCE`].
    pub async fn discard(&self) {
        if let To::Chunks(chunks) = &self.to {
            let (id, now) = (chunks.import.id, self.shortener.now());
            let discarded: database::Result<()> = self
                .shortener
                .0
                .db
                .tx(async move |tx: &mut database::Tx<'_>| store::discard_import(tx, id, now).await)
                .await;
            if let Err(e) = discarded {
                tracing::warn!(error = %e, import = %id, "an import could not be given up at once");
            }
        }
    }
}

impl Chunks {
    async fn take(&mut self, shortener: &Shortener, part: &[u8]) -> Result<(), Error> {
        self.reader.push(part).map_err(|FileError(why)| Error::ImportInvalid(why))?;
        let limit = shortener.config().import_row_limit;
        if self.reader.row_count() > limit {
            return Err(Error::ImportTooLarge(format!("{limit} rows")));
        }
        self.waiting.extend(self.reader.rows());
        self.waiting_bytes += part.len();
        while self.waiting.len() >= CHUNK_ROWS || self.waiting_bytes >= CHUNK_BYTES {
            self.write(shortener).await?;
        }
        Ok(())
    }

    /// Keeps the first rows that wait.
    async fn write(&mut self, shortener: &Shortener) -> Result<(), Error> {
        let rest = self.waiting.split_off(self.waiting.len().min(CHUNK_ROWS));
        let rows = std::mem::replace(&mut self.waiting, rest);
        if self.waiting.len() < CHUNK_ROWS {
            self.waiting_bytes = 0;
        }
        if rows.is_empty() {
            return Ok(());
        }
        let content = serde_json::to_string(&rows).map_err(Problem::internal)?;
        let (id, seq, held_until) = (self.import.id, self.seq, shortener.now().plus(PATIENCE));
        self.seq += 1;
        let is_wanted: bool = shortener
            .0
            .db
            .tx(async move |tx: &mut database::Tx<'_>| store::add_chunk(tx, id, seq, &content, held_until).await)
            .await
            .map_err(Problem::from)?;
        if is_wanted { Ok(()) } else { Err(Error::ImportUnknown) }
    }

    async fn queue(&mut self, shortener: &Shortener, digest: String) -> Result<Import, Error> {
        self.reader.finish().map_err(|FileError(why)| Error::ImportInvalid(why))?;
        self.waiting.extend(self.reader.rows());
        while !self.waiting.is_empty() {
            self.write(shortener).await?;
        }
        self.import.row_count = self.reader.row_count();
        self.import.state = ImportState::Queued;
        let this = &*shortener.0;
        let is_queued: bool = this
            .db
            .tx({
                let (access, principal, import) = (this.access.clone(), self.principal.clone(), self.import.clone());
                let now = this.clock.now();
                async move |tx: &mut database::Tx<'_>| {
                    let is_queued = store::queue_import(tx, import.id, import.row_count, &digest, now).await?;
                    if is_queued {
                        let detail = serde_json::json!({
                            "format": import.format.as_str(), "domain": import.host, "row_count": import.row_count,
                        });
                        access
                            .audit(tx, &principal, "shortener.import.create", &import.id.to_string(), &detail)
                            .await?;
                    }
                    Ok::<_, database::Error>(is_queued)
                }
            })
            .await
            .map_err(Problem::from)?;
        if is_queued { Ok(self.import.clone()) } else { Err(Error::ImportUnknown) }
    }
}
