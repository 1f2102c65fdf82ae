//! The handle: every use case, for HTTP, the console and redirects alike.

mod analytics;
mod block_lists;
mod blocks;
mod clicks;
mod domains;
mod export;
mod import_work;
mod imports;
mod invalidation;
mod links;
mod moderation;
mod near;
mod passwords;
mod questions;
mod target;
mod templates;

use std::{net::IpAddr, sync::Arc};

use access::Access;
use database::Db;
use kernel::{Clock, CursorKey, Problem, ProjectId, Rng, Timestamp};
use limiter::Limiter;
use memory::Memory;
use resilience::{FlightLimits, SingleFlight};

pub use self::{
    analytics::{Analytics, MAX_ANALYTICS_VALUES, ValueClicks},
    domains::{DomainChange, NewDomain},
    imports::{Begun, NewImport, Received, Spool},
    links::{Created, LinkPage, LinkPatch, NewLink},
    moderation::{LinkPlace, Reporter},
    templates::MAX_TEMPLATE_NAME,
};
use self::{
    block_lists::BlockLists,
    blocks::Blocks,
    clicks::{Click, Clicks, Countries, Remembered, SALT_GRACE, Salts},
    domains::Domains,
    invalidation::Invalidations,
    moderation::ReportLimit,
    near::{Near, Spot, SpotRef},
    passwords::Passwords,
    questions::Questions,
};
pub(crate) use self::{
    moderation::require_moderator,
    near::Known,
    passwords::PasswordCheck,
    target::{Gate, Target},
};
use crate::{
    config::ShortenerConfig,
    error::Error,
    http::redirect::Visit,
    model::{
        ClickPoint, Code, Codes, Country, Domain, DomainId, Facts, LinkId, LinkState, Series, Step, Takedown, Traits,
        Visitors,
    },
    store::{self, ProjectTotals},
    telemetry::Telemetry,
};

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
    /// Invalidations between nodes.
    pub memory: Memory,
    /// How many links a project may create; opened with [`ShortenerConfig::built_in_limits`] among its own rules.
    pub limiter: Limiter,
    /// Secrets and the audit log.
    pub access: Access,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// Where its metrics go.
    pub metrics: ::telemetry::Metrics,
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
    domains: Domains,
    learning: SingleFlight<Spot, Result<Known, Problem>>,
    questions: Questions,
    clicks: Clicks,
    remembered: Remembered,
    salts: Salts,
    countries: Arc<Countries>,
    visitors: Visitors,
    passwords: Passwords,
    invalidations: Invalidations,
    limiter: Limiter,
    report_limit: ReportLimit,
    block_lists: BlockLists,
    /// The port of the installation's own short URLs.
    own_port: Option<u16>,
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
        let Deps { config, public_url, db, memory, limiter, access, clock, rng, metrics } = deps;
        db.migrate("shortener", store::MIGRATIONS).await?;
        let telemetry = Telemetry::new(&metrics.registry("shortener"));
        let writer = kernel::id::uuid_v7(&clock, &rng).simple().to_string();
        let domains = Domains::new(&public_url);
        domains.load(&db).await?;
        let block_lists = BlockLists::open(&config, &db, telemetry.clone()).await?;
        let salts = Salts::new();
        salts.refresh(&db, &clock, &rng).await?;
        let countries = Arc::new(Countries::new(&config.geo_database, telemetry.clone()));
        Ok(Self(Arc::new(Shared {
            public_url: public_url.trim_end_matches('/').to_owned(),
            domains,
            codes: Codes::new(&access.secret("shortener.codes")),
            cursors: CursorKey::new(&access.secret("shortener.cursors")),
            blocks: Blocks::new(db.clone(), config.block_size, telemetry.clone()),
            near: Near::new(&config, telemetry.clone()),
            learning: SingleFlight::new(FlightLimits::default()),
            questions: Questions::new(&config, &clock),
            clicks: Clicks::new(writer, CLICK_PARTS, &config, telemetry.clone()),
            remembered: Remembered::new(CLICK_PARTS, &rng),
            salts,
            countries,
            invalidations: Invalidations::new(&memory, telemetry.clone()),
            visitors: Visitors::new(&access.secret("shortener.visitors")),
            passwords: Passwords::new(clock.clone(), rng.clone()),
            report_limit: ReportLimit::new(&memory, clock.clone(), &access.secret("shortener.reporters")),
            block_lists,
            own_port: url::Url::parse(&public_url).ok().and_then(|url| url.port_or_known_default()),
            limiter,
            telemetry,
            config,
            rng,
            db,
            access,
            clock,
        })))
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

    /// Brings every click that was recorded before the call into the rollups. On an error nothing is lost: the next call does it.
    pub async fn flush_clicks(&self) -> Result<(), Problem> {
        self.0.clicks.flush(&self.0.db, &self.0.clock).await
    }

    /// Clicks in memory that are not in the click log yet: what a crash would lose, beside the last tenth of a second.
    pub fn pending_clicks(&self) -> u64 {
        self.0.clicks.pending_count()
    }

    /// The breaker between redirects and the database.
    pub fn breaker(&self) -> resilience::BreakerStats {
        self.0.questions.stats()
    }

    /// Links that this node holds in memory for redirects.
    pub fn cached_links(&self) -> usize {
        self.0.near.len()
    }

    /// Whether this node receives no invalidations, and therefore keeps links for a shorter time.
    pub fn is_degraded(&self) -> bool {
        self.0.near.is_degraded()
    }

    /// Where a list by name begins: the cursor of the page before, opened.
    pub(crate) fn open_name(&self, list: &str, project: &ProjectId, cursor: Option<&str>) -> Result<String, Error> {
        let Some(cursor) = cursor else { return Ok(String::new()) };
        let name = self.0.cursors.open(&format!("{list}\n{project}"), cursor);
        let name = name.map_err(|p| p.field("?cursor", "not from this list"))?;
        Ok(String::from_utf8(name).unwrap_or_default())
    }

    /// The cursor of a list that goes on after a name.
    pub(crate) fn seal_name(&self, list: &str, project: &ProjectId, name: &str) -> String {
        self.0.cursors.seal(&format!("{list}\n{project}"), name.as_bytes())
    }

    /// Names one drawing of a form, so that sending it twice makes one link.
    pub(crate) fn form_token(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0.rng.bytes()))
    }

    /// The domain that a `Host` header names; `None` is the installation's own. Never waits.
    pub(crate) fn domain_of(&self, header: Option<&[u8]>) -> Option<Arc<Domain>> {
        self.0.domains.of_header(header)
    }

    /// What the near cache knows of a code. Never waits.
    pub(crate) fn known(&self, domain: DomainId, code: &str) -> Option<Known> {
        self.0.near.get(SpotRef { domain, code }, self.0.clock.monotonic())
    }

    /// The same, for who has asked before: it counts as no lookup.
    pub(crate) fn known_by_now(&self, domain: DomainId, code: &str) -> Option<Known> {
        self.0.near.peek(SpotRef { domain, code }, self.0.clock.monotonic())
    }

    /// Asks the database for a code and remembers the answer; concurrent calls for one code share one question.
    pub(crate) async fn learn(&self, domain: DomainId, code: &str) -> Result<Known, Problem> {
        let Some(code) = Code::parse(code) else { return Ok(None) };
        let spot = Spot { domain, code };
        match self.0.learning.load(spot.clone(), || self.0.load(spot)).await {
            Ok(outcome) => outcome,
            // Refused before it began, or by a panic that is in the log: the visitor is asked to come again.
            Err(lost) => Err(Problem::new(&kernel::error::UNAVAILABLE, "Try again in a moment.").with_internal(lost)),
        }
    }

    /// What a visit tells about its visitor. Never waits, and reads headers that the worker saw lately from its memory.
    pub(crate) fn facts(&self, worker: usize, visit: &Visit<'_>) -> Facts {
        let mut facts = self.0.remembered.facts(worker, visit.user_agent, visit.accept_language, visit.referer);
        facts.country = self.country_of(visit.client);
        facts
    }

    /// The country of an address, where the operator gave a database of countries. Never waits.
    pub(crate) fn country_of(&self, client: IpAddr) -> Option<Country> {
        self.0.countries.of(client)
    }

    /// Records a click. Never waits.
    pub(crate) fn click(&self, worker: usize, target: &Target, at: Timestamp, client: IpAddr, facts: &Facts) {
        let traits = Traits { agent: facts.agent, language: facts.language, country: facts.country };
        let visitor = if facts.agent.is_bot { None } else { self.0.salts.position(at, client, facts) };
        let click = Click::new(at, target.link, target.project, traits, visitor);
        self.0.clicks.push(worker, click, facts.referrer.as_ref());
    }

    /// Tells visitors of a link apart; see [`Visitors`].
    pub(crate) fn visitor(&self, link: LinkId, client: IpAddr, user_agent: Option<&[u8]>) -> u64 {
        self.0.visitors.number(link, client, user_agent)
    }

    /// Takes one of the uses that a link has left; `false` when it has none. Committed when this returns: a use whose outcome is
    /// not known is lost, and never given twice.
    pub(crate) async fn take_use(&self, target: &Target) -> Result<bool, Problem> {
        let is_taken = store::take_use(&self.0.db, target.link).await?;
        if !is_taken {
            target.use_up();
        }
        Ok(is_taken)
    }

    /// What short URLs of the installation's own domain start with.
    pub(crate) fn public_url(&self) -> &str {
        &self.0.public_url
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

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    /// Takes recorded clicks out of the queue; see [`Clicks::gather`].
    pub(crate) fn gather_clicks(&self) {
        self.0.clicks.gather(&self.0.clock);
    }

    /// Appends every click that was recorded before the call to the click log, from where it is counted in any case: a crash
    /// does not lose it. On an error nothing is lost: the next call does it.
    pub async fn log_clicks(&self) -> Result<(), Problem> {
        Ok(self.0.clicks.append(&self.0.db, &self.0.clock).await?)
    }

    /// Whether this node has something to roll.
    pub(crate) fn has_appended_clicks(&self) -> bool {
        self.0.clicks.has_appended()
    }

    /// Brings some of the log into the rollups; see [`Clicks::roll`].
    pub(crate) async fn roll_clicks(&self) -> Result<bool, Problem> {
        self.0.clicks.roll(&self.0.db, &self.0.clock).await
    }

    /// Makes sure that today's and tomorrow's visitors can be told apart.
    pub(crate) async fn refresh_salts(&self) -> Result<(), Problem> {
        Ok(self.0.salts.refresh(&self.0.db, &self.0.clock, &self.0.rng).await?)
    }

    /// The database of countries, for whoever keeps it fresh.
    pub(crate) fn countries(&self) -> Arc<Countries> {
        self.0.countries.clone()
    }

    /// Keeps ids in reserve until shutdown.
    pub(crate) async fn keep_ids(&self, shutdown: &kernel::Shutdown) {
        self.0.blocks.keep_filled(shutdown).await;
    }

    /// Applies the invalidations of other nodes until shutdown.
    pub(crate) async fn hear_invalidations(&self, shutdown: &kernel::Shutdown) {
        self.0.invalidations.hear(&self.0.near, (&self.0.domains, &self.0.block_lists), &self.0.clock, shutdown).await;
    }

    /// Keeps the domains true until shutdown.
    pub(crate) async fn keep_domains(&self, shutdown: &kernel::Shutdown) {
        self.0.domains.keep(&self.0.db, &self.0.clock, self.0.config.cache_max_age, shutdown).await;
    }

    /// Takes away one step of what is too old: minutes, raw clicks, sketches and salts of days that are over. Gives whether there may
    /// be more.
    pub(crate) async fn expire_clicks(&self) -> Result<bool, Problem> {
        const ROWS: u32 = 1000;
        const SEGMENTS: u32 = 100;
        let (db, config, telemetry, now) = (&self.0.db, &self.0.config, &self.0.telemetry, self.now());
        let minutes = store::expire_minutes(db, now.minus(config.minutes_kept), ROWS).await?;
        telemetry.minutes_expired.inc_by(minutes);
        let segments = store::delete_segments(db, now.minus(config.raw_clicks_kept), SEGMENTS).await?;
        telemetry.segments_deleted.inc_by(segments);
        let today = now.minus(SALT_GRACE).floor(Step::Day.width());
        store::delete_salts(db, today).await?;
        let closed = store::close_days(db, today, ROWS).await?;
        Ok(minutes >= u64::from(ROWS) || segments >= u64::from(SEGMENTS) || closed >= u64::from(ROWS))
    }
}

impl Shared {
    async fn load(&self, spot: Spot) -> Result<Known, Problem> {
        // The age counts from before the question, and what changes meanwhile is not kept (NEAR-1, NEAR-2).
        let (epoch, began) = (self.near.begin(spot.borrow()), self.clock.monotonic());
        self.telemetry.questions.inc();
        let link = self.questions.ask(store::link_by_code(&self.db, spot.domain, spot.code.as_str())).await?;
        let known = match link {
            None => None,
            Some(mut link) => {
                if link.state == LinkState::Active && self.is_blocked(&link) {
                    // SAFETY-2: it leads nowhere, as if it had been taken down.
                    link.state = LinkState::TakenDown(Takedown::Abuse);
                }
                let project = self.clicks.project_index(&link.project);
                Some(Arc::new(Target::new(link, project, self.domains.own_host())?))
            }
        };
        self.near.keep(&spot, known.clone(), epoch, began);
        Ok(known)
    }
}
