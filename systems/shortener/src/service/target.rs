//! What a redirect needs of a link, as the near cache holds it.

use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use kernel::{Problem, Timestamp};

use super::clicks::ProjectIndex;
use crate::model::{Link, LinkId, LinkState, PasswordHash, Takedown, Ways};

/// A link, ready to be followed: nothing about it is computed again on a visit.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) link: LinkId,
    pub(crate) project: ProjectIndex,
    pub(crate) ways: Ways,
    pub(crate) status: StatusCode,
    pub(crate) created_at: Timestamp,
    pub(crate) title: Box<str>,
    starts_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    state: LinkState,
    /// What few links have.
    guard: Option<Box<Guard>>,
}

/// What is asked before a link is followed.
#[derive(Debug)]
struct Guard {
    password: Option<PasswordHash>,
    is_counted: bool,
    /// The database said that no use is left: true as long as this entry is, since a change of the link makes a new one.
    is_used_up: AtomicBool,
}

/// Whether a link can be followed now, and what is asked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// At once.
    Open,
    /// With a password.
    Password,
    /// When the database says that a use is left.
    Counted,
    /// Not yet.
    Early,
    /// No longer.
    Expired,
    /// No longer: no use is left.
    UsedUp,
    /// Its owner has switched it off.
    Disabled,
    /// A moderator has.
    TakenDown(Takedown),
}

impl Target {
    /// Of a link whose short URLs are on `own_host` when it has no domain.
    pub(crate) fn new(link: Link, project: ProjectIndex, own_host: &str) -> Result<Self, Problem> {
        let domain = link.host.as_deref().unwrap_or(own_host);
        let ways = Ways::new(&link.settings, &link.url, link.code.as_str(), domain).ok_or_else(|| {
            Problem::internal(format_args!("link {} has a URL that is not a header value", link.id.0))
        })?;
        let (password, is_counted) = (link.settings.password, link.max_clicks.is_some());
        let has_guard = password.is_some() || is_counted;
        Ok(Self {
            link: link.id,
            project,
            ways,
            status: StatusCode::from_u16(link.settings.redirect.into()).unwrap_or(StatusCode::FOUND),
            created_at: link.created_at,
            title: link.title.into_boxed_str(),
            starts_at: link.starts_at,
            expires_at: link.expires_at,
            state: link.state,
            guard: has_guard.then(|| Box::new(Guard { password, is_counted, is_used_up: AtomicBool::new(false) })),
        })
    }

    /// The bytes of its texts.
    pub(crate) fn bytes(&self) -> usize {
        self.ways.bytes() + self.title.len() + if self.guard.is_some() { size_of::<Guard>() } else { 0 }
    }

    /// What stands before it at `now`. Who switched it off comes before its times, and those before what is asked.
    pub(crate) fn gate(&self, now: Timestamp) -> Gate {
        match self.state {
            LinkState::TakenDown(why) => return Gate::TakenDown(why),
            LinkState::Disabled => return Gate::Disabled,
            LinkState::Active => {}
        }
        if self.expires_at.is_some_and(|at| at <= now) {
            return Gate::Expired;
        }
        if self.starts_at.is_some_and(|at| at > now) {
            return Gate::Early;
        }
        match &self.guard {
            None => Gate::Open,
            Some(guard) if guard.is_used_up.load(Ordering::Relaxed) => Gate::UsedUp,
            Some(guard) if guard.password.is_some() => Gate::Password,
            Some(_) => Gate::Counted,
        }
    }

    /// What is kept of its password.
    pub(crate) fn password(&self) -> Option<&PasswordHash> {
        self.guard.as_ref()?.password.as_ref()
    }

    /// Whether each visit is counted in the database before it is led on.
    pub(crate) fn is_counted(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.is_counted)
    }

    /// No use is left.
    pub(crate) fn use_up(&self) {
        if let Some(guard) = &self.guard {
            guard.is_used_up.store(true, Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self {
            link: LinkId(1),
            project: ProjectIndex::default(),
            ways: Ways::One(http::HeaderValue::from_static("https://example.com/")),
            status: StatusCode::FOUND,
            created_at: Timestamp::from_millis(0),
            title: Box::default(),
            starts_at: None,
            expires_at: None,
            state: LinkState::Active,
            guard: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plain link takes no more memory for what others have: this many bytes beside its texts.
    #[test]
    fn a_plain_link_stays_small() {
        assert!(size_of::<Target>() <= 152, "{}", size_of::<Target>());
    }

    #[test]
    fn gates_in_their_order() {
        let at = Timestamp::from_millis;
        let guard = |password: bool| {
            let password = password.then(|| {
                PasswordHash::parse(
                    "$pbkdf2-sha256$i=1$AAECAwQFBgcICQoLDA0ODw$lqWQTC4IyNpCMF28xdfPGOrSY21J9ZUmtgbyZpYoFHM",
                )
                .unwrap()
            });
            Some(Box::new(Guard { password, is_counted: true, is_used_up: AtomicBool::new(false) }))
        };
        let taken_down = LinkState::TakenDown(Takedown::Legal);
        for (state, starts_at, expires_at, guard, expected) in [
            (LinkState::Active, None, None, None, Gate::Open),
            (LinkState::Active, Some(at(5)), Some(at(6)), None, Gate::Open),
            (LinkState::Active, Some(at(6)), None, guard(true), Gate::Early),
            (LinkState::Active, None, Some(at(5)), guard(true), Gate::Expired),
            (LinkState::Active, Some(at(6)), Some(at(5)), None, Gate::Expired),
            (LinkState::Disabled, None, Some(at(5)), guard(true), Gate::Disabled),
            (taken_down, Some(at(6)), Some(at(5)), guard(true), Gate::TakenDown(Takedown::Legal)),
            (LinkState::Active, None, None, guard(true), Gate::Password),
            (LinkState::Active, None, None, guard(false), Gate::Counted),
        ] {
            let target = Target { starts_at, expires_at, state, guard, ..Target::for_test() };
            assert_eq!(target.gate(at(5)), expected, "{target:?}");
            if expected == Gate::Counted {
                target.use_up();
                assert_eq!(target.gate(at(5)), Gate::UsedUp);
            }
        }
    }
}
