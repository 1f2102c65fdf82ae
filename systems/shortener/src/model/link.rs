//! A link, its settings, and what may be changed about it.

use std::borrow::Cow;

use kernel::{ProjectId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Code, Country, Destination, DestinationError, Device, DomainId, Language, PasswordHash};

/// The longest title, in characters.
pub const MAX_TITLE_CHARS: usize = 200;
/// The longest notes, in characters.
pub const MAX_NOTES_CHARS: usize = 2000;
/// The most tags of one link.
pub const MAX_TAGS: usize = 20;
/// The longest tag, in characters.
pub const MAX_TAG_CHARS: usize = 50;
/// The most rules of one link, and the most variants of a rule or split.
pub const MAX_RULES: usize = 20;
/// The most values of one condition of a rule: more than there are countries.
pub const MAX_CONDITIONS: usize = 300;
/// The largest weight of a variant.
pub const MAX_WEIGHT: u32 = 1000;
/// The longest value of a UTM parameter, in characters.
pub const MAX_UTM_CHARS: usize = 100;

/// The number of a link inside an installation: from a block, never given twice. Internal; the wire shows codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A short link as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub id: LinkId,
    /// Whose it is.
    pub project: ProjectId,
    /// On which domain it answers.
    pub domain: DomainId,
    /// The host of that domain; `None` for the installation's own.
    pub host: Option<String>,
    /// What follows the slash: generated, or chosen by its owner.
    pub code: Code,
    /// Whether the owner chose the code.
    pub is_alias: bool,
    /// Where it leads when no rule and no split says otherwise, normalised.
    pub url: String,
    /// Its name for people; may be empty.
    pub title: String,
    /// What its owner wants to remember; may be empty.
    pub notes: String,
    /// In the order given, each once.
    pub tags: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The name of the key that made it.
    pub created_by: String,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Before that it leads nowhere yet.
    pub starts_at: Option<Timestamp>,
    /// From when on it answers 410; never when `None`.
    pub expires_at: Option<Timestamp>,
    /// How often it may be followed; any number when `None`.
    pub max_clicks: Option<u64>,
    /// Whether somebody has switched it off.
    pub state: LinkState,
    /// How it redirects.
    pub settings: LinkSettings,
    /// Grows with every change; the entity tag.
    pub version: i64,
}

impl Link {
    /// Whether the link has ended by `now`: the instant of expiry itself counts as ended.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// What the link is at `now`. Being switched off comes before its times.
    pub fn status(&self, now: Timestamp) -> LinkStatus {
        match self.state {
            LinkState::Disabled => LinkStatus::Disabled,
            LinkState::TakenDown(_) => LinkStatus::TakenDown,
            LinkState::Active if self.is_expired(now) => LinkStatus::Expired,
            LinkState::Active if self.starts_at.is_some_and(|at| at > now) => LinkStatus::Scheduled,
            LinkState::Active => LinkStatus::Active,
        }
    }
}

/// Whether somebody has switched a link off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    /// Nobody has.
    #[default]
    Active,
    /// Its owner has.
    Disabled,
    /// A moderator has.
    TakenDown(Takedown),
}

/// Why a moderator has switched a link off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takedown {
    /// Phishing, malware, spam: answers 403.
    Abuse,
    /// A legal demand: answers 451 (RFC 7725).
    Legal,
}

impl LinkState {
    /// Its name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::TakenDown(Takedown::Abuse) => "abuse",
            Self::TakenDown(Takedown::Legal) => "legal",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Active, Self::Disabled, Self::TakenDown(Takedown::Abuse), Self::TakenDown(Takedown::Legal)]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// What a link is at some instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkStatus {
    /// It can be followed.
    Active,
    /// Its time has not come.
    Scheduled,
    /// Its time is over: it answers 410.
    Expired,
    /// Its owner switched it off: it answers 403.
    Disabled,
    /// A moderator switched it off: it answers 403 or 451.
    TakenDown,
}

impl LinkStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Active, Self::Scheduled, Self::Expired, Self::Disabled, Self::TakenDown];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Scheduled => "scheduled",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
            Self::TakenDown => "taken_down",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// How a link redirects. Kept as JSON; what is not set is not written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkSettings {
    /// The status of the redirect.
    #[serde(skip_serializing_if = "is_default")]
    pub redirect: RedirectStatus,
    /// Whether the visitor's query is handed on to the destination.
    #[serde(skip_serializing_if = "is_default")]
    pub forward_query: bool,
    /// Campaign parameters that are added to the destination.
    #[serde(skip_serializing_if = "is_default")]
    pub utm: Utm,
    /// What a visitor has to know first.
    #[serde(skip_serializing_if = "is_default")]
    pub password: Option<PasswordHash>,
    /// Who gets another destination; the first that fits wins.
    #[serde(skip_serializing_if = "is_default")]
    pub rules: Vec<Rule>,
    /// Destinations that share the visitors whom no rule fits; empty: all go to the link's URL.
    #[serde(skip_serializing_if = "is_default")]
    pub split: Vec<Variant>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The status of a redirect (RFC 9110, section 15.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum RedirectStatus {
    /// 301: for good; the method may become GET.
    MovedPermanently,
    /// 302: for now; the method may become GET.
    #[default]
    Found,
    /// 307: for now; the method stays.
    TemporaryRedirect,
    /// 308: for good; the method stays.
    PermanentRedirect,
}

impl From<RedirectStatus> for u16 {
    fn from(status: RedirectStatus) -> Self {
        match status {
            RedirectStatus::MovedPermanently => 301,
            RedirectStatus::Found => 302,
            RedirectStatus::TemporaryRedirect => 307,
            RedirectStatus::PermanentRedirect => 308,
        }
    }
}

impl TryFrom<u16> for RedirectStatus {
    type Error = &'static str;

    fn try_from(status: u16) -> Result<Self, Self::Error> {
        match status {
            301 => Ok(Self::MovedPermanently),
            302 => Ok(Self::Found),
            307 => Ok(Self::TemporaryRedirect),
            308 => Ok(Self::PermanentRedirect),
            _ => Err("must be 301, 302, 307 or 308"),
        }
    }
}

/// Campaign parameters (`utm_source`, …), added to the destination unless it has them; at most 100 characters each.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Utm {
    /// `utm_source`: where visitors come from, such as `newsletter`.
    #[serde(skip_serializing_if = "is_default")]
    #[schema(nullable = true, max_length = 100)]
    pub source: Option<String>,
    /// `utm_medium`: by what way, such as `email`.
    #[serde(skip_serializing_if = "is_default")]
    #[schema(nullable = true, max_length = 100)]
    pub medium: Option<String>,
    /// `utm_campaign`: for what, such as `spring-sale`.
    #[serde(skip_serializing_if = "is_default")]
    #[schema(nullable = true, max_length = 100)]
    pub campaign: Option<String>,
    /// `utm_term`: the words that were searched for.
    #[serde(skip_serializing_if = "is_default")]
    #[schema(nullable = true, max_length = 100)]
    pub term: Option<String>,
    /// `utm_content`: which of several links.
    #[serde(skip_serializing_if = "is_default")]
    #[schema(nullable = true, max_length = 100)]
    pub content: Option<String>,
}

impl Utm {
    /// The parameters that are set, by their names in a query.
    pub fn parameters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("utm_source", &self.source),
            ("utm_medium", &self.medium),
            ("utm_campaign", &self.campaign),
            ("utm_term", &self.term),
            ("utm_content", &self.content),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.as_deref().map(|value| (name, value)))
    }

    /// These, and for those that are not set, the other's.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            source: self.source.or(other.source),
            medium: self.medium.or(other.medium),
            campaign: self.campaign.or(other.campaign),
            term: self.term.or(other.term),
            content: self.content.or(other.content),
        }
    }

    /// Checks lengths; an empty text is as good as none.
    pub fn checked(self) -> Result<Self, Invalid> {
        let check = |value: Option<String>, name: &str| {
            let value = value.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
            if let Some(v) = &value {
                plain(v, MAX_UTM_CHARS, false).map_err(|detail| Invalid::new(format!("/utm/{name}"), detail))?;
            }
            Ok::<_, Invalid>(value)
        };
        Ok(Self {
            source: check(self.source, "source")?,
            medium: check(self.medium, "medium")?,
            campaign: check(self.campaign, "campaign")?,
            term: check(self.term, "term")?,
            content: check(self.content, "content")?,
        })
    }
}

/// Some visitors and where they go. Every condition that is not empty must hold one that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Kinds of device: `desktop`, `mobile`, `tablet`, `tv`, `console`, `other`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(value_type = Vec<String>)]
    pub device: Vec<Device>,
    /// Languages, ISO 639-1: the one that the visitor's browser prefers must be among them.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(value_type = Vec<String>)]
    pub language: Vec<Language>,
    /// Countries, ISO 3166-1 alpha-2. Nobody's country is known while the operator gave no database of countries.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(value_type = Vec<String>)]
    pub country: Vec<Country>,
    /// Where they go: 1 to 20, by weight.
    #[schema(min_items = 1, max_items = 20)]
    pub to: Vec<Variant>,
}

/// One of several destinations that share visitors by weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Where it leads: a URL as a link's own.
    #[schema(max_length = 2048)]
    pub url: String,
    /// Its share, among the weights of its siblings.
    #[serde(default = "one")]
    #[schema(maximum = 1000, default = 1)]
    pub weight: u32,
}

const fn one() -> u32 {
    1
}

impl LinkSettings {
    /// Checks everything and normalises destinations.
    pub fn checked(mut self) -> Result<Self, Invalid> {
        self.utm = self.utm.checked()?;
        if self.rules.len() > MAX_RULES {
            return Err(Invalid::new("/rules", format!("at most {MAX_RULES} rules")));
        }
        for (i, rule) in self.rules.iter_mut().enumerate() {
            if rule.device.is_empty() && rule.language.is_empty() && rule.country.is_empty() {
                return Err(Invalid::new(
                    format!("/rules/{i}"),
                    "a rule needs a device, a language or a country; for every visitor use `url` or `split`",
                ));
            }
            let lists =
                [("device", rule.device.len()), ("language", rule.language.len()), ("country", rule.country.len())];
            if let Some((name, _)) = lists.into_iter().find(|(_, length)| *length > MAX_CONDITIONS) {
                return Err(Invalid::new(format!("/rules/{i}/{name}"), format!("at most {MAX_CONDITIONS} values")));
            }
            if rule.to.is_empty() {
                return Err(Invalid::new(format!("/rules/{i}/to"), "at least one destination"));
            }
            variants(&mut rule.to, &format!("/rules/{i}/to"))?;
        }
        variants(&mut self.split, "/split")?;
        Ok(self)
    }

    /// Every destination that the settings name.
    pub fn destinations(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(|rule| &rule.to).chain(&self.split).map(|variant| variant.url.as_str())
    }
}

fn variants(variants: &mut [Variant], at: &str) -> Result<(), Invalid> {
    if variants.len() > MAX_RULES {
        return Err(Invalid::new(at, format!("at most {MAX_RULES} destinations")));
    }
    for (i, variant) in variants.iter_mut().enumerate() {
        match Destination::parse(&variant.url) {
            Ok(url) => variant.url = url.into_string(),
            Err(why) => {
                return Err(Invalid { url: Some(why), ..Invalid::new(format!("{at}/{i}/url"), why.detail()) });
            }
        }
        if variant.weight > MAX_WEIGHT {
            return Err(Invalid::new(format!("{at}/{i}/weight"), format!("at most {MAX_WEIGHT}")));
        }
    }
    if !variants.is_empty() && variants.iter().all(|v| v.weight == 0) {
        return Err(Invalid::new(at, "at least one destination needs a weight above 0"));
    }
    Ok(())
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Where, as a JSON pointer into the request.
    pub field: String,
    /// What is wrong and what would be right.
    pub detail: Cow<'static, str>,
    /// When it is a destination: which rule it breaks.
    pub url: Option<DestinationError>,
}

impl Invalid {
    /// Something wrong at `field`.
    pub fn new(field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), detail: detail.into(), url: None }
    }
}

/// Text for people: not too long and without control characters; line breaks where `lines` says so.
fn plain(text: &str, max_chars: usize, lines: bool) -> Result<(), Cow<'static, str>> {
    if text.chars().count() > max_chars {
        return Err(format!("at most {max_chars} characters").into());
    }
    if text.chars().any(|c| c.is_control() && !(lines && matches!(c, '\n' | '\t'))) {
        return Err("no control characters".into());
    }
    Ok(())
}

/// Checks a title; spaces at both ends go.
pub fn title(text: &str) -> Result<String, Invalid> {
    let text = text.trim();
    plain(text, MAX_TITLE_CHARS, false).map_err(|detail| Invalid::new("/title", detail))?;
    Ok(text.to_owned())
}

/// Checks notes; spaces at both ends go, line breaks become `\n`.
pub fn notes(text: &str) -> Result<String, Invalid> {
    let text = text.trim().replace("\r\n", "\n");
    plain(&text, MAX_NOTES_CHARS, true).map_err(|detail| Invalid::new("/notes", detail))?;
    Ok(text)
}

/// Checks tags: lower case, without spaces at both ends, each once.
pub fn tags(given: &[String]) -> Result<Vec<String>, Invalid> {
    let mut tags: Vec<String> = Vec::new();
    for (i, tag) in given.iter().enumerate() {
        let tag = tag.trim().to_lowercase();
        let at = || format!("/tags/{i}");
        plain(&tag, MAX_TAG_CHARS, false).map_err(|detail| Invalid::new(at(), detail))?;
        if tag.is_empty() || tag.contains(',') {
            return Err(Invalid::new(at(), "a tag has at least one character and no comma"));
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if tags.len() > MAX_TAGS {
        return Err(Invalid::new("/tags", format!("at most {MAX_TAGS} tags")));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked_and_said_where() {
        let variant = |url: &str, weight| Variant { url: url.to_owned(), weight };
        let rule = |to: Vec<Variant>| Rule { device: vec![Device::Mobile], language: vec![], country: vec![], to };
        let split = |split| LinkSettings { split, ..LinkSettings::default() };
        let ok = split(vec![variant("HTTPS://a.example", 1), variant("https://b.example/x", 0)]).checked().unwrap();
        assert_eq!(ok.split[0].url, "https://a.example/");
        let long = "x".repeat(MAX_UTM_CHARS + 1);
        for (settings, field) in [
            (split(vec![variant("https://a.example", 0)]), "/split"),
            (split(vec![variant("https://a.example", 1001)]), "/split/0/weight"),
            (split(vec![variant("https://a.example", 1), variant("javascript:x", 1)]), "/split/1/url"),
            (split(vec![variant("https://a.example", 1); 21]), "/split"),
            (LinkSettings { rules: vec![rule(vec![])], ..LinkSettings::default() }, "/rules/0/to"),
            (
                LinkSettings { rules: vec![rule(vec![variant("nonsense", 1)])], ..LinkSettings::default() },
                "/rules/0/to/0/url",
            ),
            (
                LinkSettings {
                    rules: vec![Rule { device: vec![], ..rule(vec![variant("https://a.example", 1)]) }],
                    ..LinkSettings::default()
                },
                "/rules/0",
            ),
            (
                LinkSettings { utm: Utm { source: Some(long), ..Utm::default() }, ..LinkSettings::default() },
                "/utm/source",
            ),
        ] {
            assert_eq!(settings.checked().unwrap_err().field, field);
        }
    }

    #[test]
    fn what_is_not_set_is_not_written() {
        assert_eq!(serde_json::to_string(&LinkSettings::default()).unwrap(), "{}");
        let settings = LinkSettings {
            redirect: RedirectStatus::PermanentRedirect,
            split: vec![Variant { url: "https://a.example/".to_owned(), weight: 2 }],
            ..LinkSettings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(text, r#"{"redirect":308,"split":[{"url":"https://a.example/","weight":2}]}"#);
        assert_eq!(serde_json::from_str::<LinkSettings>(&text).unwrap(), settings);
        assert!(serde_json::from_str::<LinkSettings>(r#"{"redirect":303}"#).is_err());
    }

    #[test]
    fn tags_are_lower_case_and_once() {
        let given = |tags: &[&str]| tags.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(tags(&given(&[" Spring ", "spring", "Ärger"])).unwrap(), ["spring", "ärger"]);
        assert_eq!(tags(&given(&["a", " "])).unwrap_err().field, "/tags/1");
        assert_eq!(tags(&given(&["a,b"])).unwrap_err().field, "/tags/0");
        assert_eq!(tags(&(0..21).map(|n| n.to_string()).collect::<Vec<_>>()).unwrap_err().field, "/tags");
    }
}
