//! The pure core of the adaptive limit.

use std::time::Duration;

/// One sample counts at most this many times what is allowed, so that one request that took minutes does not outvote a hundred.
const WORST: f64 = 4.0;
/// A window lowers the limit to this much of what was under way, at the least.
const STEEPEST: f64 = 0.5;
/// How much a new sample moves a baseline that has seen many.
const BASELINE_GAIN: f64 = 0.02;
/// Windows without any end of work after which it counts as stalled.
const STALL_WINDOWS: u32 = 4;

/// How the limit moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveConfig {
    /// The limit never falls below this. What runs while never more than so many do is taken for uncontended.
    pub min: u32,
    /// The limit never grows past this, and starts here.
    pub max: u32,
    /// What is never taken for overload, however fast the work is otherwise.
    pub acceptable: Duration,
    /// How much longer than uncontended work may take, in percent: 300 is three times as long.
    pub tolerance_percent: u32,
    /// The limit moves at most once in this time.
    pub window: Duration,
    /// Nor before so many samples.
    pub window_samples: u32,
    /// So many of the critical class are let in whatever else is under way.
    pub critical_reserve: u32,
    /// Sorts of work that have a baseline of their own, at least one.
    pub kinds: usize,
}

impl Default for AdaptiveConfig {
    /// From 32 to 4,096; 100 ms or three times the uncontended latency are well; a quarter of a second and ten samples; eight
    /// critical ones beyond the limit; 64 kinds.
    fn default() -> Self {
        Self {
            min: 32,
            max: 4_096,
            acceptable: Duration::from_millis(100),
            tolerance_percent: 300,
            window: Duration::from_millis(250),
            window_samples: 10,
            critical_reserve: 8,
            kinds: 64,
        }
    }
}

/// Who goes first when there is not room for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// What nobody gets out of trouble without: sign-in, the operator's console. The whole limit, and the reserve.
    Critical,
    /// What would be lost: writes. 90% of the limit.
    High,
    /// What can be asked again: reads. 75%.
    Normal,
    /// What nobody waits for: exports, bulk. 50%.
    Low,
}

impl Priority {
    /// All of them, the first to be served first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// The percentage of the limit that this class and those above it may fill.
    pub const fn share_percent(self) -> u32 {
        match self {
            Self::Critical => 100,
            Self::High => 90,
            Self::Normal => 75,
            Self::Low => 50,
        }
    }

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// How work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was done, well or not.
    Done,
    /// It was cut off at its deadline, its caller left, or it never got to work: tells something only when it had taken longer than is
    /// allowed, since a caller's patience may be short.
    Abandoned,
}

/// The right to work; to be given back with [`AdaptiveCore::leave`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Admitted {
    began: Duration,
    kind: Option<usize>,
    is_critical: bool,
}

impl Admitted {
    /// When it was let in, monotonic.
    pub fn began(&self) -> Duration {
        self.began
    }
}

/// The state machine: time comes in, nothing waits.
#[derive(Debug, Clone)]
pub struct AdaptiveCore {
    config: AdaptiveConfig,
    limit: f64,
    in_flight: u32,
    critical_in_flight: u32,
    measured_in_flight: u32,
    /// When more than `min` were under way last.
    crowded_at: Option<Duration>,
    window: Seen,
    /// Uncontended seconds by kind; `None` before the first sample.
    baselines: Box<[Option<f64>]>,
}

/// What the window under way has seen.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    since: Duration,
    samples: u32,
    /// Sum of how much of what is allowed each sample took.
    burden: f64,
    most_in_flight: u32,
}

impl AdaptiveCore {
    /// With the limit at its most and nothing under way.
    pub fn new(config: AdaptiveConfig) -> Self {
        let min = config.min.max(1);
        let config = AdaptiveConfig { min, max: config.max.max(min), ..config };
        Self {
            limit: f64::from(config.max),
            in_flight: 0,
            critical_in_flight: 0,
            measured_in_flight: 0,
            crowded_at: None,
            window: Seen::default(),
            baselines: vec![None; config.kinds.max(1)].into(),
            config,
        }
    }

    /// Asks to begin work at `now`: of a kind (taken modulo the number of kinds), or of none when its time says nothing of this
    /// process, as an upload that takes as long as its caller sends.
    pub fn enter(&mut self, now: Duration, kind: Option<usize>, priority: Priority) -> Option<Admitted> {
        self.turn(now);
        let is_critical = priority == Priority::Critical;
        let has_reserve = is_critical && self.critical_in_flight < self.config.critical_reserve;
        if self.in_flight >= self.room(priority) && !has_reserve {
            return None;
        }
        self.in_flight += 1;
        self.watch(now);
        self.critical_in_flight += u32::from(is_critical);
        self.measured_in_flight += u32::from(kind.is_some());
        self.window.most_in_flight = self.window.most_in_flight.max(self.in_flight);
        Some(Admitted { began: now, kind: kind.map(|kind| kind % self.baselines.len()), is_critical })
    }

    /// Ends work. Each admission ends once.
    pub fn leave(&mut self, work: Admitted, now: Duration, ending: Ending) {
        self.watch(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.critical_in_flight = self.critical_in_flight.saturating_sub(u32::from(work.is_critical));
        self.measured_in_flight = self.measured_in_flight.saturating_sub(u32::from(work.kind.is_some()));
        let Some(kind) = work.kind else { return self.turn(now) };
        let took = now.saturating_sub(work.began).as_secs_f64();
        let allowed = self.allowed(kind);
        let burden = match ending {
            Ending::Abandoned if took < allowed => return self.turn(now),
            Ending::Done | Ending::Abandoned => (took / allowed).min(WORST),
        };
        self.window.samples += 1;
        self.window.burden += burden;
        let is_uncontended = self.crowded_at.is_none_or(|at| at < work.began);
        if is_uncontended && ending == Ending::Done {
            let baseline = &mut self.baselines[kind];
            *baseline = Some(baseline.map_or(took, |b| b + BASELINE_GAIN * (took - b)));
        }
        self.turn(now);
    }

    /// How many may be under way now; between `min` and `max`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between min and max, both u32")]
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// How many there may be under way for one more of this class to be let in.
    pub fn room(&self, priority: Priority) -> u32 {
        let share = u64::from(self.limit()) * u64::from(priority.share_percent()) / 100;
        u32::try_from(share).unwrap_or(u32::MAX).max(1)
    }

    /// Under way now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// What work of a kind takes without contention, as far as that was seen.
    pub fn baseline(&self, kind: usize) -> Option<Duration> {
        self.baselines[kind % self.baselines.len()].map(Duration::from_secs_f64)
    }

    /// Seconds that work of a kind may take without being taken for overload.
    fn allowed(&self, kind: usize) -> f64 {
        let tolerated = self.baselines[kind].map_or(0.0, |b| b * f64::from(self.config.tolerance_percent) / 100.0);
        tolerated.max(self.config.acceptable.as_secs_f64()).max(1e-6)
    }

    fn watch(&mut self, now: Duration) {
        if self.in_flight > self.config.min {
            self.crowded_at = Some(now);
        }
    }

    /// Ends the window when it is due, and moves the limit.
    fn turn(&mut self, now: Duration) {
        let age = now.saturating_sub(self.window.since);
        let burden = if self.window.samples >= self.config.window_samples.max(1) && age >= self.config.window {
            self.window.burden / f64::from(self.window.samples)
        } else if self.window.samples == 0 && self.measured_in_flight > self.config.min && age >= self.stalled_after() {
            WORST
        } else {
            return;
        };
        let most = self.window.most_in_flight;
        let moved = if burden <= 1.0 {
            self.limit + self.limit.sqrt()
        } else if most > self.config.min {
            // What was under way was too much, however high the limit stood above it.
            self.limit.min(f64::from(most)) * (1.0 / burden).max(STEEPEST)
        } else {
            self.limit
        };
        self.limit = moved.clamp(f64::from(self.config.min), f64::from(self.config.max));
        self.window = Seen { since: now, most_in_flight: self.in_flight, ..Seen::default() };
    }

    fn stalled_after(&self) -> Duration {
        let longest = (0..self.baselines.len()).map(|kind| self.allowed(kind)).fold(0.0, f64::max);
        (self.config.window * STALL_WINDOWS).max(Duration::try_from_secs_f64(longest).unwrap_or(Duration::MAX))
    }
}
