//! Status by shape *and* colour, always with a word.

use maud::{Markup, html};

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// ● works.
    Ok,
    /// ▲ works in part, or soon will not.
    Degraded,
    /// ■ does not work.
    Down,
    /// ○ not known, or not started.
    #[default]
    Unknown,
}

impl Status {
    /// The word used when the caller has none.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }

    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "warn",
            Self::Down => "bad",
            Self::Unknown => "none",
        }
    }

    /// Its shape alone, hidden from screen readers: put a word beside it.
    pub fn shape(self) -> Markup {
        html! {
            svg.(self.class()).shape viewBox="0 0 10 10" width="10" height="10" aria-hidden="true" {
                @match self {
                    Self::Ok => { circle cx="5" cy="5" r="4" {} }
                    Self::Degraded => { path d="M5 .8 9.6 9H.4z" {} }
                    Self::Down => { rect x="1" y="1" width="8" height="8" rx="1" {} }
                    Self::Unknown => { circle.hollow cx="5" cy="5" r="3.2" {} }
                }
            }
        }
    }

    /// Its shape with the word for screen readers only.
    pub fn dot(self) -> Markup {
        html! { span.dot { (self.shape()) span.sr { (self.word()) } } }
    }
}

/// A badge: shape, colour and word.
pub fn badge(status: Status, word: &str) -> Markup {
    html! { span.badge.(status.class()) { (status.shape()) (word) } }
}

/// A neutral label such as a scope or a kind.
pub fn tag(word: &str) -> Markup {
    html! { span.tag { (word) } }
}
