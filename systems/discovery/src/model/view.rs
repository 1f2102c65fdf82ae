//! Which instances of a service are given out.
//!
//! - GUARD-1: an instance that is well and does not drain is always given out.
//! - GUARD-2: when fewer than `panic_percent` of those that do not drain are well, all of them that were well once are given out, and
//!   the answer says so: so many cannot have failed at once, and stale is better than none.
//! - GUARD-3: when there is nothing else, those that drain but are well are given out.
//! - GUARD-4: what was never well is not given out.

use std::sync::Arc;

use kernel::{ProjectId, Timestamp};

use super::{Health, InstanceSpec, State};

/// An instance as a node knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Whose it is.
    pub project: ProjectId,
    /// Its id, one in the project.
    pub id: String,
    /// As it was registered.
    pub spec: InstanceSpec,
    /// How it is.
    pub state: State,
    /// The revision of its registration.
    pub created: i64,
    /// The revision of its last change.
    pub revision: i64,
    /// When that was.
    pub changed_at: Timestamp,
}

impl Instance {
    /// Whether it is well and takes work.
    pub fn is_well(&self) -> bool {
        !self.is_draining() && self.state.health() != Health::Critical
    }

    /// Whether it takes no more work.
    pub fn is_draining(&self) -> bool {
        self.state.drain.is_some()
    }
}

/// Why others than those that are well are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guard {
    /// They are not.
    #[default]
    None,
    /// Too few are well: GUARD-2.
    Panic,
    /// All that are well drain: GUARD-3.
    Draining,
}

impl Guard {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Panic => "panic",
            Self::Draining => "draining",
        }
    }
}

/// A service as a node knows it.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// Its name as it was last registered.
    pub name: String,
    /// The revision of the last change to any of its instances, leaving included.
    pub index: i64,
    /// By id.
    pub instances: Vec<Arc<Instance>>,
    /// Those that are given out, by id.
    pub usable: Vec<Arc<Instance>>,
    /// Why others than those that are well are among them.
    pub guard: Guard,
    /// How many are well and take work.
    pub well_count: usize,
}

/// What is asked of a service.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Only with all of these tags.
    pub tags: Vec<String>,
    /// Only in this zone.
    pub zone: Option<String>,
}

impl View {
    /// Whether an instance is asked for.
    pub fn has(&self, instance: &Instance) -> bool {
        self.tags.iter().all(|tag| instance.spec.tags.contains(tag))
            && self.zone.as_ref().is_none_or(|zone| instance.spec.zone == *zone)
    }
}

impl Service {
    /// Of instances in the order of their ids.
    pub fn new(name: String, index: i64, instances: Vec<Arc<Instance>>, panic_percent: u32) -> Self {
        let (usable, guard, well_count) = choose(&instances, panic_percent);
        Self { name, index, instances, usable, guard, well_count }
    }

    /// Those that are given out of what is asked for. The guards hold within what is asked for: one tag's instances that all fail
    /// are a mass failure too.
    pub fn usable(&self, view: &View, panic_percent: u32) -> (Vec<Arc<Instance>>, Guard) {
        if view.tags.is_empty() && view.zone.is_none() {
            return (self.usable.clone(), self.guard);
        }
        let asked: Vec<_> = self.instances.iter().filter(|one| view.has(one)).cloned().collect();
        let (usable, guard, _) = choose(&asked, panic_percent);
        (usable, guard)
    }

    /// Every tag of its instances.
    pub fn tags(&self) -> Vec<String> {
        let mut tags: Vec<_> = self.instances.iter().flat_map(|one| one.spec.tags.iter().cloned()).collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }
}

fn choose(instances: &[Arc<Instance>], panic_percent: u32) -> (Vec<Arc<Instance>>, Guard, usize) {
    let of = |wanted: &dyn Fn(&Instance) -> bool| -> Vec<Arc<Instance>> {
        instances.iter().filter(|one| wanted(one)).cloned().collect()
    };
    let well = of(&Instance::is_well);
    let count = well.len();
    let known = of(&|one| !one.is_draining() && (one.state.was_well || one.is_well()));
    let is_panic = (count as u64) * 100 < (known.len() as u64) * u64::from(panic_percent);
    if is_panic && known.len() > count {
        return (known, Guard::Panic, count);
    }
    if well.is_empty() && panic_percent > 0 {
        let draining = of(&|one| one.is_draining() && one.state.health() != Health::Critical);
        if !draining.is_empty() {
            return (draining, Guard::Draining, 0);
        }
    }
    (well, Guard::None, count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{CheckKind, CheckSpec, Damping, Drain, Report};

    const DAMPING: Damping = Damping { half_life: std::time::Duration::ZERO };

    /// What an instance went through.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Is {
        Well,
        Failed,
        Never,
        Drains,
        FailedAndDrains,
    }

    fn instance(n: usize, is: Is) -> Arc<Instance> {
        let (id, now) = (format!("i{n:02}"), Timestamp::from_millis(1));
        let mut spec = InstanceSpec::new("shop", "10.0.0.1", 80);
        spec.checks.push(CheckSpec { id: "c".to_owned(), ..CheckSpec::of(CheckKind::Tcp) });
        let mut state = State::registered(&spec, None, now);
        let mut say = |health| state.report(&Report { check: "c", health, output: "" }, now, DAMPING);
        if is != Is::Never {
            say(Health::Passing);
        }
        if matches!(is, Is::Failed | Is::FailedAndDrains) {
            say(Health::Critical);
        }
        if matches!(is, Is::Drains | Is::FailedAndDrains) {
            state.drain = Some(Drain { reason: String::new(), since: 0 });
        }
        let project = ProjectId::default_project();
        Arc::new(Instance { project, id, spec, state, created: 1, revision: 1, changed_at: now })
    }

    fn check(all: &[Is], percent: u32, usable: &[usize], guard: Guard) {
        let instances: Vec<_> = all.iter().enumerate().map(|(n, is)| instance(n, *is)).collect();
        let service = Service::new("shop".to_owned(), 1, instances, percent);
        let got: Vec<_> = service.usable.iter().map(|one| one.id.clone()).collect();
        let wanted: Vec<_> = usable.iter().map(|n| format!("i{n:02}")).collect();
        assert_eq!((got, service.guard), (wanted, guard), "{all:?} at {percent} %");
    }

    #[test]
    fn what_is_given_out() {
        use Is::{Drains, Failed, FailedAndDrains, Never, Well};
        check(&[], 30, &[], Guard::None);
        check(&[Well, Failed], 30, &[0], Guard::None);
        check(&[Well, Well, Drains], 30, &[0, 1], Guard::None);
        check(&[Failed], 30, &[0], Guard::Panic);
        check(&[Failed], 0, &[], Guard::None);
        check(&[Never], 30, &[], Guard::None);
        check(&[Well, Failed, Failed, Failed], 30, &[0, 1, 2, 3], Guard::Panic);
        check(&[Well, Failed, Failed, Never], 30, &[0], Guard::None);
        check(&[Well, Never, Never, Never, Never], 30, &[0], Guard::None);
        check(&[Drains], 30, &[0], Guard::Draining);
        check(&[Drains], 0, &[], Guard::None);
        check(&[FailedAndDrains], 30, &[], Guard::None);
        check(&[Drains, Failed], 30, &[1], Guard::Panic);
        check(&[Drains, Never], 30, &[0], Guard::Draining);
    }

    proptest! {
        /// GUARD-1 to GUARD-4 against what they say.
        #[test]
        fn the_guards_hold(all in proptest::collection::vec(0_u8..5, 0..12), percent in 0_u32..=100) {
            let kinds = [Is::Well, Is::Failed, Is::Never, Is::Drains, Is::FailedAndDrains];
            let instances: Vec<_> = all.iter().enumerate().map(|(n, k)| instance(n, kinds[*k as usize])).collect();
            let service = Service::new("shop".to_owned(), 1, instances.clone(), percent);
            let has = |one: &Arc<Instance>| service.usable.iter().any(|other| other.id == one.id);
            for one in &instances {
                if one.is_well() { prop_assert!(has(one)); }
                if !one.state.was_well { prop_assert!(!has(one)); }
            }
            let was_well = instances.iter().any(|one| one.state.was_well && !one.is_draining());
            if percent > 0 && was_well { prop_assert!(!service.usable.is_empty()); }
            if percent == 0 { prop_assert!(service.usable.iter().all(|one| one.is_well())); }
        }
    }
}
