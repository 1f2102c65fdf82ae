//! Making links of the rows of imports, on every node.
//!
//! - IMPORTS-3: each row counts once, as a link or as an error: its chunk goes in the transaction that makes its links and moves
//!   the counters. A process that dies in between, or whose COMMIT was in doubt, finds the chunk there or does not.
//! - IMPORTS-4: others come through: one transaction makes at most 250 links, as long again nothing is done, and after
//!   [`SLICE`] of them the import that waited longest is next.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kernel::{Kind, Problem, ProjectId, Shutdown};

use super::{Shortener, links::destination};
use crate::{
    error::Error,
    model::{
        AliasError, Code, Domain, DomainId, Invalid, Link, LinkId, LinkState, PasswordHash,
        import::{Import, RowError},
        link,
        transfer::{HIDDEN, Numbered, Row},
    },
    store::{self, CheckedChunk, ChunkDone, ChunkError, ImportedLink},
};

/// Chunks of one import that are worked on before another import has its turn.
const SLICE: u32 = 20;
/// How long a worker holds an import without a sign of life. A chunk takes far less.
const LEASE: Duration = Duration::from_secs(5);
/// The longest pause after a chunk.
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// How often ids are changed when their codes are taken by aliases.
const CODE_ATTEMPTS: u32 = 16;
/// What the cleaner does at once.
const CLEAN_STEP: u32 = 50;

/// Domains that rows name, as they were a moment ago; `None` is the installation's own.
type Hosts = HashMap<String, Option<Domain>>;

impl Shortener {
    /// Works on the import that waited longest, for at most 20 chunks; gives whether there was one.
    pub async fn work_on_imports(&self, shutdown: &Shutdown) -> Result<bool, Problem> {
        let this = &*self.0;
        let (now, holder) = (self.now(), self.form_token());
        let Some(import) = store::claim_import(&this.db, &holder, now, now.plus(LEASE)).await? else {
            return Ok(false);
        };
        let worked = self.slice(&import, shutdown).await;
        store::release_import(&this.db, import.id, &holder, self.now()).await?;
        worked.map(|()| true)
    }

    async fn slice(&self, import: &Import, shutdown: &Shutdown) -> Result<(), Problem> {
        let this = &*self.0;
        for _ in 0..SLICE {
            if shutdown.is_triggered() {
                break;
            }
            let began = this.clock.monotonic();
            let Some((seq, content)) = store::next_chunk(&this.db, import.id).await? else {
                store::finish_import(&this.db, import.id, self.now()).await?;
                break;
            };
            let rows = serde_json::from_str(&content).map_err(Problem::internal)?;
            if !self.chunk(import, seq, rows).await? {
                break;
            }
            let took = this.clock.monotonic().saturating_sub(began);
            if shutdown.or(this.clock.sleep(took.min(MAX_PAUSE))).await.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Does one chunk; `false` when somebody else did or stopped the import.
    async fn chunk(&self, import: &Import, seq: u64, rows: Vec<Numbered>) -> Result<bool, Problem> {
        let this = &*self.0;
        let mut chunk = self.check_rows(import, seq, rows).await?;
        let taken = row_error(0, String::new(), &Error::ImportCodeTaken.into());
        for _ in 0..CODE_ATTEMPTS {
            let ready = Arc::new(chunk);
            let now = self.now();
            let done: Result<ChunkDone, ChunkError> = this
                .db
                .tx({
                    let (ready, taken) = (ready.clone(), taken.clone());
                    async move |tx: &mut database::Tx<'_>| {
                        store::import_chunk(tx, &ready, &taken, now, now.plus(LEASE)).await
                    }
                })
                .await;
            match done {
                Ok(ChunkDone::Gone) => return Ok(false),
                Ok(ChunkDone::Done(made)) => {
                    this.telemetry.links_created.inc_by(made.len() as u64);
                    for i in made {
                        // Others may hold the code as unknown for `cache_unknown_age`; it is too short to tell them of each.
                        self.forget(&ready.links[i].link);
                    }
                    return Ok(true);
                }
                Err(ChunkError::Database(e)) => return Err(e.into()),
                // Checked again, its rows are told of.
                Err(ChunkError::DomainGone) => return Ok(true),
                Err(ChunkError::Collided(places)) => {
                    // The body may hold its reference a moment longer than its answer takes.
                    chunk = CheckedChunk::clone(&ready);
                    for i in places {
                        let (id, code) = self.next_code().await?;
                        (chunk.links[i].link.id, chunk.links[i].link.code) = (id, code);
                    }
                }
            }
        }
        Err(Error::CodesExhausted.into())
    }

    /// Makes links of rows, and errors of those that break a rule.
    async fn check_rows(&self, import: &Import, seq: u64, rows: Vec<Numbered>) -> Result<CheckedChunk, Problem> {
        let mut chunk = CheckedChunk {
            import: import.id,
            project: import.project.clone(),
            created_by: import.created_by.clone(),
            seq,
            links: Vec::with_capacity(rows.len()),
            errors: Vec::new(),
        };
        let mut hosts = Hosts::new();
        for Numbered { number, row } in rows {
            let (name, checked) = match row {
                Ok(row) => (row.name(), self.check_row(import, number, row, &mut hosts).await),
                Err(why) => (String::new(), Err(Error::ImportRow(why))),
            };
            match checked {
                Ok(link) => chunk.links.push(link),
                Err(e) => {
                    let problem = Problem::from(e);
                    if matches!(problem.code.kind, Kind::Internal | Kind::Unavailable | Kind::Timeout) {
                        // Nothing is wrong with the row.
                        return Err(problem);
                    }
                    chunk.errors.push(row_error(number, name, &problem));
                }
            }
        }
        Ok(chunk)
    }

    async fn check_row(
        &self,
        import: &Import,
        number: u64,
        mut row: Row,
        hosts: &mut Hosts,
    ) -> Result<ImportedLink, Error> {
        let now = self.now();
        let field = |field: &str, detail: &'static str| Error::Field(Invalid::new(field, detail));
        let domain = match import.host.as_ref().or(row.domain.as_ref()) {
            Some(host) => {
                if !hosts.contains_key(host) {
                    hosts.insert(host.clone(), self.import_domain(&import.project, host).await?);
                }
                hosts.get(host).cloned().flatten()
            }
            None => None,
        };
        let name = row.name();
        let code = row
            .code
            .as_deref()
            .map(|code| {
                let keeps_case = domain.as_ref().is_none_or(|d| d.is_case_sensitive);
                given_code(code, row.is_alias, keeps_case, &self.config().reserved_words)
            })
            .transpose()
            .map_err(Error::ImportCode)?;
        let state = match row.state.as_deref() {
            None => LinkState::Active,
            Some(state) => LinkState::parse(state.trim())
                .ok_or_else(|| field("/state", "expected active, disabled, abuse or legal"))?,
        };
        if row.max_clicks == Some(0) {
            return Err(field("/max_clicks", "at least 1; leave it out for any number"));
        }
        if let (Some(starts), Some(expires)) = (row.starts_at, row.expires_at)
            && starts >= expires
        {
            return Err(field("/expires_at", "must lie after `starts_at`"));
        }
        let password =
            match row.password_hash.take() {
                None => None,
                Some(text) if text == HIDDEN => {
                    let detail =
                        "was exported with a key that may only read; export with links:write, or set a new password";
                    return Err(field("/password_hash", detail));
                }
                Some(text) => Some(PasswordHash::try_from(text).map_err(|_| {
                    field("/password_hash", "not what an export holds; leave it out and set a password")
                })?),
            };
        let url = destination(&row.url)?;
        let settings = row.settings(password).checked().map_err(Error::Field)?;
        self.check_destinations(&url, &settings)?;
        // What lies ahead is a clock that was wrong.
        let created_at = row.created_at.unwrap_or(now).min(now);
        let (title, notes) = (link::title(&row.title), link::notes(&row.notes));
        let (title, notes) = (title.map_err(Error::Field)?, notes.map_err(Error::Field)?);
        let tags = link::tags(&row.tags).map_err(Error::Field)?;
        // An id is spent on rows only that can become links.
        let (id, next) = self.next_code().await?;
        let is_code_given = code.is_some();
        let (code, is_alias) = code.unwrap_or((next, false));
        let link = Link {
            id,
            project: import.project.clone(),
            domain: domain.as_ref().map_or(DomainId::OWN, |d| d.id),
            host: domain.map(|d| d.host),
            code,
            is_alias,
            url,
            title,
            notes,
            tags,
            created_at,
            created_by: import.created_by.clone(),
            updated_at: now,
            starts_at: row.starts_at,
            expires_at: row.expires_at,
            max_clicks: row.max_clicks,
            state,
            settings,
            version: 1,
        };
        Ok(ImportedLink {
            number,
            name,
            link,
            is_code_given,
            people: row.click_count,
            bots: row.bot_count,
            used: row.used_clicks.unwrap_or(row.click_count.saturating_add(row.bot_count)),
            // Where a file does not say it, all that is known is that it was not before the link was there.
            last_click_at: row.last_click_at.unwrap_or(created_at).min(now),
        })
    }

    async fn next_code(&self) -> Result<(LinkId, Code), Error> {
        let id = self.0.blocks.take().await.map_err(Problem::from)?;
        Ok((LinkId(id), self.0.codes.encode(id).ok_or(Error::CodesExhausted)?))
    }
}

/// The code that a row brings, and whether its owner chose it. Where API and console ask for at least 3 characters, an import takes
/// also 1 and 2, so that links that people have go on working.
fn given_code(
    text: &str,
    is_alias: Option<bool>,
    keeps_case: bool,
    reserved: &[String],
) -> Result<(Code, bool), AliasError> {
    let is_alias = is_alias.unwrap_or(true);
    let text = if is_alias && !keeps_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let code =
        Code::parse(&text).filter(|_| text.bytes().any(|b| b.is_ascii_alphanumeric())).ok_or(AliasError::Malformed)?;
    if reserved.iter().any(|word| word.eq_ignore_ascii_case(&text)) {
        return Err(AliasError::Reserved);
    }
    Ok((code, is_alias))
}

/// What is told of a row: the code and words of the API.
fn row_error(number: u64, name: String, problem: &Problem) -> RowError {
    let mut detail = problem.detail.clone();
    for field in problem.fields.iter().filter(|f| f.detail != problem.detail) {
        detail += &format!(" {}: {}.", field.field.trim_start_matches('/'), field.detail.trim_end_matches('.'));
    }
    let printable = |text: String| text.chars().filter(|c| !c.is_control()).take(500).collect::<String>();
    RowError { number, name: printable(name), code: problem.code.name.to_owned(), detail: printable(detail) }
}

impl Shortener {
    /// The domain that a file means by a host; `None` is the installation's own.
    pub(crate) async fn import_domain(&self, project: &ProjectId, host: &str) -> Result<Option<Domain>, Error> {
        if self.0.domains.is_own(host) { Ok(None) } else { self.link_domain(project, host).await.map(Some) }
    }

    /// Hears that there may be something to work on.
    pub(crate) fn import_changes(&self) -> tokio::sync::broadcast::Receiver<database::Change> {
        self.0.db.watch(store::TOPIC)
    }

    /// One step of cleaning up after imports; gives whether there may be more.
    pub async fn clean_imports(&self) -> Result<bool, Problem> {
        let this = &*self.0;
        let now = self.now();
        let stalled = store::discard_stalled(&this.db, now, CLEAN_STEP).await? > 0;
        let cleared = store::clear_chunks(&this.db, now, CLEAN_STEP).await?;
        let expired = store::expire_import(&this.db, now.minus(this.config.imports_kept)).await?;
        Ok(stalled || cleared || expired)
    }
}
