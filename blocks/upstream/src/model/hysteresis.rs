//! When checks that succeed or fail make a back end well or unwell.

/// What active checks say of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EndpointHealth)]
pub enum Health {
    /// It was not checked yet.
    #[default]
    Unknown,
    /// It is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

impl Health {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// A state that changes only after so many checks in a row that speak against it. The first check of all decides alone.
///
/// - UPSTREAM-9: from `Healthy` it takes `unhealthy_after` failures in a row to `Unhealthy`, and `healthy_after` successes in a row
///   back; a check that speaks for the state starts the count anew.
#[derive(Debug, Clone)]
pub struct Hysteresis {
    healthy_after: u32,
    unhealthy_after: u32,
    state: Health,
    /// Checks in a row that spoke against the state.
    against: u32,
}

impl Hysteresis {
    /// Nothing checked yet. Numbers below 1 count as 1.
    pub fn new(healthy_after: u32, unhealthy_after: u32) -> Self {
        Self::resume(Health::Unknown, healthy_after, unhealthy_after)
    }

    /// From a state that is known from before.
    pub fn resume(state: Health, healthy_after: u32, unhealthy_after: u32) -> Self {
        Self { healthy_after: healthy_after.max(1), unhealthy_after: unhealthy_after.max(1), state, against: 0 }
    }

    /// What it is now.
    pub fn state(&self) -> Health {
        self.state
    }

    /// Takes the outcome of a check; the new state when that changed it.
    pub fn record(&mut self, is_success: bool) -> Option<Health> {
        let (seen, needed) = match (self.state, is_success) {
            (Health::Unknown, true) => (Health::Healthy, 1),
            (Health::Unknown, false) => (Health::Unhealthy, 1),
            (Health::Healthy, false) => (Health::Unhealthy, self.unhealthy_after),
            (Health::Unhealthy, true) => (Health::Healthy, self.healthy_after),
            (Health::Healthy, true) | (Health::Unhealthy, false) => {
                self.against = 0;
                return None;
            }
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        (self.state, self.against) = (seen, 0);
        Some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_so_many_in_a_row() {
        // + and - are checks; the letters what holds after each.
        for (checks, states) in [
            ("+", "H"),
            ("-", "U"),
            ("+--", "HHH"),
            ("+---", "HHHU"),
            ("+--+--", "HHHHHH"),
            ("+---+", "HHHUU"),
            ("+---++", "HHHUUH"),
            ("-+-+-+", "UUUUUU"),
            ("-++---", "UUHHHU"),
        ] {
            let mut hysteresis = Hysteresis::new(2, 3);
            let seen: String = checks
                .bytes()
                .map(|check| {
                    let before = hysteresis.state();
                    let change = hysteresis.record(check == b'+');
                    assert_eq!(change, (before != hysteresis.state()).then_some(hysteresis.state()), "{checks}");
                    match hysteresis.state() {
                        Health::Healthy => 'H',
                        Health::Unhealthy => 'U',
                        Health::Unknown => '?',
                    }
                })
                .collect();
            assert_eq!(seen, states, "{checks}");
        }
    }
}
