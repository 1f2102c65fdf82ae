//! The handle.

mod book;
mod check;
mod counters;
mod down;
mod file;
mod lease;
mod refused;
mod reserve;
mod rules;
mod shortcut;
mod stats;

use std::sync::Arc;

use access::Access;
use database::Db;
use kernel::{Clock, CursorKey, Problem, ProjectId, Rng};
use memory::{EngineKind, LocalOptions, Memory, OnDown, Space, Use};

use self::{
    book::Book, down::Down, file::RulesFile, lease::Leases, refused::Refused, reserve::Seal, shortcut::ShortCuts,
};
pub use self::{
    rules::{DomainSummary, Expected, MAX_RULE_BYTES, Origin, RuleSet, Version, Written},
    stats::{RefusedKey, RuleStats, Stats},
};
use crate::{
    config::LimiterConfig,
    error::Error,
    model::{RuleSpec, cell::CellKeys},
    store,
    telemetry::Telemetry,
};

/// What happens when the plane is away is declared by each rule, and done here.
const CELLS: Use = Use { name: "limiter.cells", on_down: OnDown::Closed };

/// What the limiter stands on.
#[derive(Debug, Clone)]
pub struct Deps {
    /// Its section.
    pub config: LimiterConfig,
    /// Rules.
    pub db: Db,
    /// What is counted.
    pub memory: Memory,
    /// Secrets and the audit log.
    pub access: Access,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// Where its metrics go.
    pub metrics: ::telemetry::Metrics,
    /// Rules of the domain [`crate::OWN_DOMAIN`] that hold in every project unless it has one of the same name.
    pub built_in: Vec<RuleSpec>,
}

/// The limiter. Cheap to clone.
#[derive(Clone)]
pub struct Limiter(Arc<Shared>);

struct Shared {
    db: Db,
    access: Access,
    clock: Clock,
    rng: Rng,
    memory: Memory,
    /// The cells of all nodes.
    space: Space,
    /// Whether those are in this process, so that nothing ever waits for them.
    is_local: bool,
    /// The cells of this node alone, while the memory plane is away.
    stand_in: Space,
    book: Book,
    file: RulesFile,
    seal: Seal,
    cursors: CursorKey,
    down: Down,
    refused: Refused,
    leases: Leases,
    short_cuts: ShortCuts,
    telemetry: Telemetry,
    since: kernel::Timestamp,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limiter")
    }
}

impl Limiter {
    /// Brings its tables up to date, reads the rules and makes the handle. [`Limiter::start`] starts what runs in the background.
    /// A file of rules that cannot be used refuses the start: there are no rules before it that could stay.
    pub async fn open(deps: Deps) -> Result<Self, Problem> {
        let Deps { config, db, memory, access, clock, rng, metrics, built_in } = deps;
        db.migrate("limiter", store::MIGRATIONS).await?;
        let keys = CellKeys::new(&access.secret("limiter.cells"));
        let book = Book::new(keys, built_in).map_err(|faults| {
            let told = faults.iter().map(|f| format!("{} {}", f.field, f.detail)).collect::<Vec<_>>();
            Problem::internal(format_args!("built-in limits: {}", told.join("; ")))
        })?;
        let file = RulesFile::new(&config.rules_file);
        file.refresh(&book).await;
        if let Some(trouble) = file.trouble() {
            return Err(Error::RulesFile(trouble).into());
        }
        let options = LocalOptions { max_rate_cells: config.fallback_cells, ..LocalOptions::default() };
        let stand_in = Memory::local(options, clock.clone(), rng.clone()).with(CELLS);
        let this = Self(Arc::new(Shared {
            space: memory.with(CELLS),
            is_local: memory.engine() == EngineKind::Local,
            seal: Seal::new(&access.secret("limiter.reservations")),
            cursors: CursorKey::new(&access.secret("limiter.cursors")),
            down: Down::default(),
            refused: Refused::default(),
            leases: Leases::default(),
            short_cuts: ShortCuts::default(),
            telemetry: Telemetry::new(&metrics.registry("limiter")),
            since: clock.now(),
            db,
            access,
            clock,
            rng,
            memory,
            stand_in,
            book,
            file,
        }));
        this.refresh().await?;
        this.show_state();
        Ok(this)
    }

    /// What this node has counted for a project.
    pub fn stats(&self, project: &ProjectId) -> Stats {
        let snapshot = self.0.book.now();
        let mut rules: Vec<RuleStats> = Vec::new();
        for domain in snapshot.domains(project) {
            let counted = domain.index.rules().map(|rule| (rule.name.clone(), rule.mode)).zip(&domain.counters);
            let asked = (domain.index.asked().clone(), crate::model::Mode::Enforce);
            let asked =
                std::iter::once((asked, &domain.asked)).filter(|(_, counters)| !counters.by_source().is_empty());
            for ((rule, mode), counters) in counted.chain(asked) {
                let (allowed, refused, shadow_refused) = counters.totals();
                let (domain, by_source) = (domain.index.domain().clone(), counters.by_source());
                rules.push(RuleStats { domain, rule, mode, allowed, refused, shadow_refused, by_source });
            }
        }
        rules.sort_by(|a, b| (&a.domain, &a.rule).cmp(&(&b.domain, &b.rule)));
        Stats {
            since: self.0.since,
            down_since: self.down_since(),
            file_trouble: self.0.file.trouble(),
            rules,
            top_refused: self.0.refused.top(project, self.0.clock.monotonic()),
        }
    }

    /// Why this node does less than it promises; `None` when it does not.
    pub fn trouble(&self) -> Option<String> {
        if self.down_since().is_some() {
            return Some("without Redis each limit does as its rule declares".to_owned());
        }
        self.0.file.trouble().map(|_| "the file of rules cannot be used; the rules before stay".to_owned())
    }

    /// Looks at the file of rules now, as the background does every second; gives whether there are new rules.
    pub async fn refresh_file(&self) -> bool {
        let is_new = self.0.file.refresh(&self.0.book).await;
        self.show_state();
        is_new
    }

    /// Since when the memory plane is away, as its own watch or the last checks found.
    fn down_since(&self) -> Option<kernel::Timestamp> {
        if self.0.memory.health() == memory::Health::Serving {
            // Nobody may have asked since it is back.
            self.0.down.serves();
        } else {
            self.0.down.is_away(self.0.clock.now());
        }
        self.0.down.since()
    }

    /// Brings the gauges up to date.
    pub(crate) fn show_state(&self) {
        let shown = &self.0.telemetry;
        shown.down.set(i64::from(self.down_since().is_some()));
        shown.file_stale.set(i64::from(self.0.file.trouble().is_some()));
        shown.revision.set(self.0.book.revision());
    }

    pub(crate) fn has_file(&self) -> bool {
        self.0.file.is_on()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }
}
