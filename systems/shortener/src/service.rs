//! The handle: every use case, for HTTP, the console and redirects alike.

mod blocks;
mod clicks;
mod invalidation;
mod limit;
mod near;

use std::sync::Arc;

use access::Access;
use database::Db;
use http::HeaderValue;
use identity::Principal;
use kernel::{Clock, CursorKey, Problem, ProjectId, Rng, Timestamp};
use memory::Memory;
use resilience::{FlightLimits, SingleFlight};

pub(crate) use self::near::{Known, Target};
use self::{
    blocks::Blocks,
    clicks::{Click, Clicks},
    invalidation::Invalidations,
    limit::CreationLimit,
    near::Near,
};
use crate::{
    config::ShortenerConfig,
    error::Error,
    model::{Alias, ClickPoint, Code, Codes, Destination, Link, LinkId, LinkWithClicks, Series, looks_like_code},
    store::{self, Deleted, Inserted, ProjectTotals},
    telemetry::Telemetry,
};

/// How many ids are tried when the codes of some are taken by aliases.
const CODE_ATTEMPTS: u32 = 16;
/// The most workers that have a part of the click queue of their own.
const CLICK_PARTS: usize = 16;

/// What the shortener stands on.
#[derive(Debug, Clone)]
pub struct Deps {
    /// Its section.
    pub config: ShortenerConfig,
    /// What short URLs start with, without a slash at the end: `config.public_url`, or the address of the public listener.
    pub public_url: String,
    /// Links and rollups.
    pub db: Db,
    /// Invalidations between nodes, and the rate of creations.
    pub memory: Memory,
    /// Secrets and the audit log.
    pub access: Access,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// Where its metrics go.
    pub metrics: ::telemetry::Metrics,
}

/// A link to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewLink {
    /// The destination as it was given.
    pub url: String,
    /// The wanted code; a generated one when `None`.
    pub alias: Option<String>,
    /// From when on it answers 410.
    pub expires_at: Option<Timestamp>,
    /// Names this creation inside its project: the same one again gives the link that the first one made.
    pub token: Option<String>,
}

/// What a creation gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The link.
    pub link: Link,
    /// Whether this call made it; `false` when an earlier one with the same token did.
    pub is_new: bool,
}

/// One page of links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPage {
    /// In the order of the list.
    pub links: Vec<LinkWithClicks>,
    /// Where the next page starts; `None` on the last one.
    pub next_cursor: Option<String>,
}

/// The shortener. Cheap to clone.
#[derive(Clone)]
pub struct Shortener(Arc<Shared>);

struct Shared {
    config: ShortenerConfig,
    public_url: String,
    db: Db,
    access: Access,
    clock: Clock,
    codes: Codes,
    cursors: CursorKey,
    blocks: Blocks,
    near: Near,
    learning: SingleFlight<Code, Result<Known, Problem>>,
    clicks: Clicks,
    invalidations: Invalidations,
    limit: CreationLimit,
    rng: Rng,
    telemetry: Telemetry,
}

impl std::fmt::Debug for Shortener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shortener")
    }
}

impl Shortener {
    /// Brings its tables up to date and makes the handle. [`Shortener::start`] starts what runs in the background.
    pub async fn open(deps: Deps) -> Result<Self, Problem> {
        let Deps { config, public_url, db, memory, access, clock, rng, metrics } = deps;
        db.migrate("shortener", store::MIGRATIONS).await?;
        let telemetry = Telemetry::new(&metrics.registry("shortener"));
        let writer = kernel::id::uuid_v7(&clock, &rng).simple().to_string();
        Ok(Self(Arc::new(Shared {
            public_url: public_url.trim_end_matches('/').to_owned(),
            codes: Codes::new(&access.secret("shortener.codes")),
            cursors: CursorKey::new(&access.secret("shortener.cursors")),
            blocks: Blocks::new(db.clone(), config.block_size, telemetry.clone()),
            near: Near::new(&config, telemetry.clone()),
            learning: SingleFlight::new(FlightLimits::default()),
            clicks: Clicks::new(writer, CLICK_PARTS, config.click_queue, config.click_pending, telemetry.clone()),
            invalidations: Invalidations::new(&memory, telemetry.clone()),
            limit: CreationLimit::new(&memory, clock.clone(), config.creation_limit_per_minute),
            telemetry,
            config,
            rng,
            db,
            access,
            clock,
        })))
    }

    /// Makes a link: under its alias, or under the code of a fresh id. Committed when this returns.
    pub async fn create(&self, principal: &Principal, new: NewLink) -> Result<Created, Error> {
        let this = &*self.0;
        let now = this.clock.now();
        let url = Destination::parse(&new.url).map_err(Error::InvalidUrl)?.into_string();
        let alias = new
            .alias
            .as_deref()
            .map(|alias| Alias::parse(alias, &this.config.reserved_words))
            .transpose()
            .map_err(Error::Alias)?
            .map(Alias::into_code);
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(Error::ExpiryInvalid);
        }
        if let Err(e) = this.limit.take(&principal.project).await {
            this.telemetry.links_limited.inc();
            return Err(e);
        }
        for _ in 0..CODE_ATTEMPTS {
            let id = this.blocks.take().await.map_err(Problem::from)?;
            let code = match &alias {
                Some(alias) => alias.clone(),
                None => this.codes.encode(id).ok_or(Error::CodesExhausted)?,
            };
            let link = Link {
                id: LinkId(id),
                project: principal.project.clone(),
                code,
                is_alias: alias.is_some(),
                url: url.clone(),
                created_at: now,
                created_by: principal.name.to_string(),
                expires_at: new.expires_at,
                version: 1,
            };
            let inserted: Inserted = this
                .db
                .tx({
                    let (link, token) = (link.clone(), new.token.clone());
                    async move |tx: &mut database::Tx<'_>| store::insert_link(tx, &link, token.as_deref()).await
                })
                .await
                .map_err(Problem::from)?;
            match inserted {
                Inserted::New => {
                    this.telemetry.links_created.inc();
                    // Somebody may have asked for it before it was there.
                    this.forget(&link.code);
                    if link.is_alias {
                        // A generated code cannot have been asked for; an alias may be known as unknown elsewhere.
                        this.invalidations.tell_others(&link.code).await;
                    }
                    return Ok(Created { link, is_new: true });
                }
                Inserted::Before(link) => return Ok(Created { link: *link, is_new: false }),
                Inserted::CodeTaken if alias.is_some() => return Err(Error::AliasTaken),
                // An alias looks like this code: the next id has another.
                Inserted::CodeTaken => {}
            }
        }
        Err(Error::CodesExhausted)
    }

    /// A link of a project, the expired ones included.
    pub async fn get(&self, project: &ProjectId, code: &str) -> Result<LinkWithClicks, Error> {
        if !looks_like_code(code) {
            return Err(Error::LinkUnknown);
        }
        store::project_link(&self.0.db, project, code).await.map_err(Problem::from)?.ok_or(Error::LinkUnknown)
    }

    /// Links of a project, newest first; with `prefix`, those whose code starts with it, by code.
    pub async fn list(
        &self,
        project: &ProjectId,
        prefix: Option<&str>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<LinkPage, Error> {
        let this = &*self.0;
        // The scope holds the project and the filter, so a cursor opens only the list that gave it.
        let scope = format!("links\n{project}\n{}", prefix.unwrap_or("\n"));
        let position = cursor
            .map(|c| this.cursors.open(&scope, c).map_err(|p| p.field("?cursor", "not from this list")))
            .transpose()?;
        let mut links = match prefix {
            // Nothing that is no code can start one; the empty prefix is every link by code.
            Some(prefix) if !prefix.is_empty() && !looks_like_code(prefix) => Vec::new(),
            Some(prefix) => {
                let after = position.and_then(|bytes| String::from_utf8(bytes).ok());
                store::links_by_prefix(&this.db, project, prefix, after.as_deref(), limit + 1)
                    .await
                    .map_err(Problem::from)?
            }
            None => {
                let after = position.as_deref().and_then(read_position);
                store::newest_links(&this.db, project, after, limit + 1).await.map_err(Problem::from)?
            }
        };
        let has_more = links.len() > limit as usize;
        links.truncate(limit as usize);
        let next_cursor = links.last().filter(|_| has_more).map(|last| {
            let position = match prefix {
                Some(_) => last.link.code.as_str().as_bytes().to_vec(),
                None => write_position(&last.link),
            };
            this.cursors.seal(&scope, &position)
        });
        Ok(LinkPage { links, next_cursor })
    }

    /// Deletes a link, with an entry in the audit log in the same transaction. With `version`, only when it still is at that
    /// version. Its code is never given again.
    pub async fn delete(&self, principal: &Principal, code: &str, version: Option<i64>) -> Result<(), Error> {
        if !looks_like_code(code) {
            return Err(Error::LinkUnknown);
        }
        let this = &*self.0;
        let deleted: Deleted = this
            .db
            .tx({
                let (access, principal, code, now) =
                    (this.access.clone(), principal.clone(), code.to_owned(), this.clock.now());
                async move |tx: &mut database::Tx<'_>| {
                    let deleted = store::delete_link(tx, &principal.project, &code, version, now).await?;
                    if let Deleted::Done(link) = &deleted {
                        let detail = serde_json::json!({ "url": link.url });
                        access.audit(tx, &principal, "shortener.link.delete", &code, &detail).await?;
                    }
                    Ok::<_, database::Error>(deleted)
                }
            })
            .await
            .map_err(Problem::from)?;
        match deleted {
            Deleted::Done(link) => {
                this.telemetry.links_deleted.inc();
                this.forget(&link.code);
                this.invalidations.tell_others(&link.code).await;
                Ok(())
            }
            Deleted::Unknown => Err(Error::LinkUnknown),
            Deleted::Changed => Err(Error::LinkChanged),
        }
    }

    /// Clicks of a link over time, every bucket of the series.
    pub async fn clicks(&self, project: &ProjectId, code: &str, series: Series) -> Result<Vec<ClickPoint>, Error> {
        let link = self.get(project, code).await?;
        self.clicks_of(link.link.id, series).await
    }

    /// The same for a link that was read already.
    pub(crate) async fn clicks_of(&self, link: LinkId, series: Series) -> Result<Vec<ClickPoint>, Error> {
        let rows = store::link_series(&self.0.db, link, series).await.map_err(Problem::from)?;
        Ok(series.fill(&rows))
    }

    /// Clicks of all links of a project over time, every bucket of the series.
    pub async fn project_clicks(&self, project: &ProjectId, series: Series) -> Result<Vec<ClickPoint>, Error> {
        let rows = store::project_series(&self.0.db, project, series).await.map_err(Problem::from)?;
        Ok(series.fill(&rows))
    }

    /// What a project has.
    pub async fn totals(&self, project: &ProjectId) -> Result<ProjectTotals, Error> {
        Ok(store::project_totals(&self.0.db, project).await.map_err(Problem::from)?)
    }

    /// The short URL of a code.
    pub fn short_url(&self, code: &Code) -> String {
        format!("{}/{code}", self.0.public_url)
    }

    /// Writes every click that was recorded before the call. On an error nothing is lost: the next call writes it.
    pub async fn flush_clicks(&self) -> Result<(), Problem> {
        Ok(self.0.clicks.flush(&self.0.db, &self.0.clock).await?)
    }

    /// Clicks counted in memory that are not yet written.
    pub fn pending_clicks(&self) -> u64 {
        self.0.clicks.pending_count()
    }

    /// Links that this node holds in memory for redirects.
    pub fn cached_links(&self) -> usize {
        self.0.near.len()
    }

    /// Whether this node receives no invalidations, and therefore keeps links for a shorter time.
    pub fn is_degraded(&self) -> bool {
        self.0.near.is_degraded()
    }

    /// Names one drawing of a form, so that sending it twice makes one link.
    pub(crate) fn form_token(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0.rng.bytes()))
    }

    /// What the near cache knows of a code. Never waits.
    pub(crate) fn known(&self, code: &str) -> Option<Known> {
        self.0.near.get(code, self.0.clock.monotonic())
    }

    /// Asks the database for a code and remembers the answer; concurrent calls for one code share one question.
    pub(crate) async fn learn(&self, code: &str) -> Result<Known, Problem> {
        let Some(code) = Code::parse(code) else { return Ok(None) };
        match self.0.learning.load(code.clone(), || self.0.load(code)).await {
            Ok(outcome) => outcome,
            // Refused before it began, or by a panic that is in the log: the visitor is asked to come again.
            Err(lost) => Err(Problem::new(&kernel::error::UNAVAILABLE, "Try again in a moment.").with_internal(lost)),
        }
    }

    pub(crate) fn click(&self, worker: usize, target: &Target, at: Timestamp, is_bot: bool) {
        self.0.clicks.push(worker, Click { link: target.link, project: target.project, at, is_bot });
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn config(&self) -> &ShortenerConfig {
        &self.0.config
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    /// Takes recorded clicks out of the queue; see [`Clicks::gather`].
    pub(crate) async fn gather_clicks(&self) {
        self.0.clicks.gather().await;
    }

    /// Keeps ids in reserve until shutdown.
    pub(crate) async fn keep_ids(&self, shutdown: &kernel::Shutdown) {
        self.0.blocks.keep_filled(shutdown).await;
    }

    /// Applies the invalidations of other nodes until shutdown.
    pub(crate) async fn hear_invalidations(&self, shutdown: &kernel::Shutdown) {
        self.0.invalidations.hear(&self.0.near, &self.0.clock, shutdown).await;
    }

    /// Takes away one step of old minutes; gives whether there may be more.
    pub(crate) async fn expire_minutes(&self) -> Result<bool, Problem> {
        const STEP: u32 = 1000;
        let before = self.now().minus(self.0.config.minutes_kept);
        let gone = store::expire_minutes(&self.0.db, before, STEP).await?;
        self.0.telemetry.minutes_expired.inc_by(gone);
        Ok(gone >= u64::from(STEP))
    }
}

impl Shared {
    fn forget(&self, code: &Code) {
        self.near.forget(code.as_str());
        self.telemetry.invalidated_here.inc();
    }

    async fn load(&self, code: Code) -> Result<Known, Problem> {
        // The age counts from before the question, and what changes meanwhile is not kept (NEAR-1, NEAR-2).
        let (epoch, began) = (self.near.begin(code.as_str()), self.clock.monotonic());
        self.telemetry.questions.inc();
        let link = store::link_by_code(&self.db, code.as_str()).await?;
        let known = match link {
            None => None,
            Some(link) => {
                let location = HeaderValue::try_from(&link.url).map_err(|_| {
                    Problem::internal(format_args!("link {} has a URL that is not a header value", link.id.0))
                })?;
                Some(Arc::new(Target {
                    link: link.id,
                    project: self.clicks.project_index(&link.project),
                    location,
                    expires_at: link.expires_at,
                }))
            }
        };
        self.near.keep(&code, known.clone(), epoch, began);
        Ok(known)
    }
}

fn write_position(link: &Link) -> Vec<u8> {
    [link.created_at.as_millis().to_be_bytes(), link.id.0.to_be_bytes()].concat()
}

fn read_position(bytes: &[u8]) -> Option<(Timestamp, LinkId)> {
    let (at, id) = bytes.split_at_checked(8)?;
    Some((
        Timestamp::from_millis(i64::from_be_bytes(at.try_into().ok()?)),
        LinkId(u64::from_be_bytes(id.try_into().ok()?)),
    ))
}
