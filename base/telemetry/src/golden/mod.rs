//! Golden signals: rate, errors and latency by route and project (traffic, errors and latency of "Monitoring Distributed
//! Systems" in Google's *Site Reliability Engineering*, 2016; saturation is what [`crate::process`] shows).
//!
//! Invariants:
//! - GOLDEN-1: labels are bounded: a route beyond [`Limits::max_routes`] counts as `_other`, a project beyond
//!   [`Limits::max_projects`] as `_other`; none is lost. (`_` cannot begin a project's name.)
//! - GOLDEN-2: the sum over routes equals the sum over projects equals what was recorded.
//! - GOLDEN-3: recording takes no lock and allocates nothing once the handle is held.

mod cell;
mod collector;
pub(crate) use collector::GoldenCollector;
mod histogram;
mod series;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kernel::{Clock, OnPanic, ProjectId, Tasks, Timestamp};

use cell::{Cell, Tally};
use series::Series;
pub use series::{Point, WINDOW};

/// The label of whatever is past a limit.
pub const OTHER: &str = "_other";
/// The label of requests that belong to no project.
pub const NO_PROJECT: &str = "_none";

const METHODS: [&str; 9] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE"];

/// How many label values there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Routes (method and template).
    pub max_routes: usize,
    /// Projects with series of their own.
    pub max_projects: usize,
    /// Pairs of route and project with series of their own (about 7 kB each on four cores or more).
    pub max_pairs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_routes: 512, max_projects: 64, max_pairs: 2_048 }
    }
}

impl From<&crate::TelemetryConfig> for Limits {
    fn from(config: &crate::TelemetryConfig) -> Self {
        Self { max_projects: config.max_projects, ..Self::default() }
    }
}

/// Counts requests. Cheap to clone.
#[derive(Clone)]
pub struct Golden(Arc<Shared>);

struct Shared {
    clock: Clock,
    started_at: Timestamp,
    admission: Arc<Admission>,
    /// By template, then by method: the outer lookup allocates nothing.
    routes: RwLock<HashMap<Box<str>, Vec<Route>>>,
    overflow: Route,
    live: Mutex<Live>,
}

/// What still gets a label of its own.
struct Admission {
    limits: Limits,
    routes: AtomicUsize,
    pairs: AtomicUsize,
    projects: Mutex<BTreeSet<ProjectId>>,
}

impl Admission {
    fn project(&self, project: &ProjectId) -> bool {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let known = projects.contains(project);
        if !known && projects.len() < self.limits.max_projects {
            projects.insert(project.clone());
            return true;
        }
        known
    }

    fn take(count: &AtomicUsize, max: usize) -> bool {
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
    }
}

#[derive(Default)]
struct Live {
    ticked_second: Option<u64>,
    all: Series,
    by_route: BTreeMap<String, Series>,
    by_project: BTreeMap<String, Series>,
}

/// One method and route template.
#[derive(Clone)]
pub struct Route(Arc<RouteShared>);

struct RouteShared {
    method: &'static str,
    template: Box<str>,
    admission: Arc<Admission>,
    none: Cell,
    other: Cell,
    projects: RwLock<HashMap<ProjectId, Arc<Cell>>>,
}

/// Records requests of one route and project: three relaxed additions. Cheap to clone.
#[derive(Clone)]
pub struct RouteHandle(Handle);

#[derive(Clone)]
enum Handle {
    None(Route),
    Other(Route),
    Project(Arc<Cell>),
}

impl RouteHandle {
    /// Counts one finished request.
    pub fn record(&self, status: u16, took: Duration) {
        match &self.0 {
            Handle::None(route) => route.0.none.record(status, took),
            Handle::Other(route) => route.0.other.record(status, took),
            Handle::Project(cell) => cell.record(status, took),
        }
    }
}

impl Route {
    fn new(method: &'static str, template: &str, admission: Arc<Admission>) -> Self {
        Self(Arc::new(RouteShared {
            method,
            template: template.into(),
            admission,
            none: Cell::new(),
            other: Cell::new(),
            projects: RwLock::default(),
        }))
    }

    /// As charts and tables name it: `GET /v1/links/{code}`.
    pub fn name(&self) -> String {
        format!("{} {}", self.0.method, self.0.template)
    }

    /// The handle to record with; keep it where requests are many.
    pub fn handle(&self, project: Option<&ProjectId>) -> RouteHandle {
        let Some(project) = project else { return RouteHandle(Handle::None(self.clone())) };
        if let Some(cell) = self.known(project) {
            return RouteHandle(Handle::Project(cell));
        }
        let mut projects = self.0.projects.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = projects.get(project) {
            return RouteHandle(Handle::Project(cell.clone()));
        }
        let admission = &self.0.admission;
        if admission.project(project) && Admission::take(&admission.pairs, admission.limits.max_pairs) {
            let cell = Arc::new(Cell::new());
            projects.insert(project.clone(), cell.clone());
            return RouteHandle(Handle::Project(cell));
        }
        RouteHandle(Handle::Other(self.clone()))
    }

    fn known(&self, project: &ProjectId) -> Option<Arc<Cell>> {
        self.0.projects.read().unwrap_or_else(PoisonError::into_inner).get(project).cloned()
    }

    /// Every pair of project label and its counters.
    fn tallies(&self) -> Vec<(String, Tally)> {
        let mut out = Vec::new();
        let mut put = |label: &str, cell: &Cell| {
            let mut tally = Tally::default();
            cell.add_to(&mut tally);
            if tally.count() > 0 {
                out.push((label.to_owned(), tally));
            }
        };
        put(NO_PROJECT, &self.0.none);
        put(OTHER, &self.0.other);
        for (project, cell) in self.0.projects.read().unwrap_or_else(PoisonError::into_inner).iter() {
            put(project.as_str(), cell);
        }
        out
    }
}

impl Golden {
    /// Counts nothing yet.
    pub fn new(clock: Clock, limits: Limits) -> Self {
        let admission = Arc::new(Admission {
            limits,
            routes: AtomicUsize::new(0),
            pairs: AtomicUsize::new(0),
            projects: Mutex::default(),
        });
        let started = clock.monotonic();
        Self(Arc::new(Shared {
            started_at: clock.now().minus(started).floor(Duration::from_secs(1)),
            clock,
            overflow: Route::new(OTHER, OTHER, admission.clone()),
            admission,
            routes: RwLock::default(),
            live: Mutex::default(),
        }))
    }

    /// The route of `method` and `template`, such as `GET` and `/v1/links/{code}`. Never give a path that a client chose:
    /// a request that no route matched goes under a fixed template.
    pub fn route(&self, method: &str, template: &str) -> Route {
        let method = METHODS.into_iter().find(|m| *m == method).unwrap_or(OTHER);
        let find = |routes: &HashMap<Box<str>, Vec<Route>>| {
            routes.get(template).and_then(|list| list.iter().find(|r| r.0.method == method)).cloned()
        };
        if let Some(route) = find(&self.0.routes.read().unwrap_or_else(PoisonError::into_inner)) {
            return route;
        }
        let mut routes = self.0.routes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = find(&routes) {
            return route;
        }
        let admission = &self.0.admission;
        if !Admission::take(&admission.routes, admission.limits.max_routes) {
            return self.0.overflow.clone();
        }
        let route = Route::new(method, template, admission.clone());
        routes.entry(template.into()).or_default().push(route.clone());
        route
    }

    /// Counts one finished request whose route is not held: two lookups more than [`RouteHandle::record`].
    pub fn record(&self, method: &str, template: &str, project: Option<&ProjectId>, status: u16, took: Duration) {
        self.route(method, template).handle(project).record(status, took);
    }

    /// The names of all routes with requests so far, sorted.
    pub fn routes(&self) -> Vec<String> {
        self.live().by_route.keys().cloned().collect()
    }

    /// The labels of all projects with requests so far, sorted.
    pub fn projects(&self) -> Vec<String> {
        self.live().by_project.keys().cloned().collect()
    }

    /// One point for every second of the last [`WINDOW`] (or since the start) up to the last whole second: of the route
    /// that [`Route::name`] names, or of everything.
    pub fn series(&self, route: Option<&str>) -> Vec<Point> {
        let live = self.live();
        match route {
            None => self.filled(&live, Some(&live.all)),
            Some(name) => self.filled(&live, live.by_route.get(name)),
        }
    }

    /// As [`Golden::series`], of one project over all routes.
    pub fn project_series(&self, project: &str) -> Vec<Point> {
        let live = self.live();
        self.filled(&live, live.by_project.get(project))
    }

    fn filled(&self, live: &Live, series: Option<&Series>) -> Vec<Point> {
        let Some(last) = live.ticked_second else { return Vec::new() };
        let first = last.saturating_sub(WINDOW.as_secs() - 1);
        let (from, to) = (self.at(first), self.at(last));
        series.map_or_else(|| Series::default().filled(from, to), |s| s.filled(from, to))
    }

    /// Monotonic seconds as wall time, so that a step of the wall clock bends no chart.
    fn at(&self, second: u64) -> Timestamp {
        self.0.started_at.plus(Duration::from_secs(second))
    }

    /// Closes the second that just passed; what [`Golden::run`] does once a second.
    pub fn tick(&self) {
        let Some(second) = self.0.clock.monotonic().as_secs().checked_sub(1) else { return };
        let mut live = self.live();
        if live.ticked_second.is_some_and(|last| last >= second) {
            return;
        }
        live.ticked_second = Some(second);
        let at = self.at(second);
        let (mut all, mut by_project) = (Tally::default(), BTreeMap::<String, Tally>::new());
        for route in self.all_routes() {
            let mut sum = Tally::default();
            for (project, tally) in route.tallies() {
                sum.add(&tally);
                by_project.entry(project).or_default().add(&tally);
            }
            if sum.count() > 0 {
                all.add(&sum);
                live.by_route.entry(route.name()).or_default().advance(sum, at);
            }
        }
        for (project, tally) in by_project {
            live.by_project.entry(project).or_default().advance(tally, at);
        }
        live.all.advance(all, at);
    }

    /// Ticks once a second until shutdown.
    pub fn run(&self, tasks: &Tasks) {
        let golden = self.clone();
        tasks.supervise("golden-signals", OnPanic::Restart(kernel::Backoff::STANDARD), move |shutdown| {
            let golden = golden.clone();
            async move {
                loop {
                    // A little past the whole second, so that the second is over when it is closed.
                    let into = u64::from(golden.0.clock.monotonic().subsec_millis());
                    let wait = Duration::from_millis(1_005 - into);
                    if shutdown.or(golden.0.clock.sleep(wait)).await.is_none() {
                        return;
                    }
                    golden.tick();
                }
            }
        });
    }

    fn all_routes(&self) -> Vec<Route> {
        let routes = self.0.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.values().flatten().cloned().chain([self.0.overflow.clone()]).collect()
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
