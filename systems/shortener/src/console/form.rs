//! The form of a link: what its fields are called, how they are read, and how they are drawn. Fields have the names of the API's
//! fields as JSON pointers, so that what the service finds wrong stands beside what is wrong.

use console::{Chrome, Field, Fields};
use kernel::{Problem, ProjectId, Timestamp};

use crate::{
    error::Error,
    model::{Country, Device, Invalid, Language, Link, LinkSettings, Password, RedirectStatus, Rule, Utm, Variant},
    service::{LinkPatch, NewLink, Shortener},
};

/// Empty rows that follow the filled ones, so that more can be added without script.
const SPARE_ROWS: usize = 3;
/// The most domains and templates that can be chosen from; the API takes any.
const MAX_CHOICES: u32 = 200;

/// What a form sent, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent(Vec<(String, String)>);

impl Sent {
    pub(super) fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// One more.
    pub(super) fn push(&mut self, name: String, value: String) {
        self.0.push((name, value));
    }

    /// The value of the first field of that name; empty when there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str())
    }

    /// Every value of that name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RuleText {
    device: String,
    language: String,
    country: String,
    to: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct VariantText {
    url: String,
    weight: String,
}

/// A link as its form shows it: text, whether right or wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LinkText {
    url: String,
    domain: String,
    alias: String,
    title: String,
    notes: String,
    tags: String,
    starts_at: String,
    expires_at: String,
    max_clicks: String,
    /// What was typed; never shown again.
    password: String,
    /// `on` when the password shall go.
    without_password: String,
    has_password: bool,
    redirect: String,
    forward_query: String,
    utm: [String; 5],
    utm_template: String,
    rules: Vec<RuleText>,
    split: Vec<VariantText>,
}

const UTM: [(&str, &str, &str); 5] = [
    ("source", "Source", "newsletter"),
    ("medium", "Medium", "email"),
    ("campaign", "Campaign", "spring-sale"),
    ("term", "Term", "running shoes"),
    ("content", "Content", "header"),
];

impl LinkText {
    /// As it was sent. Rows that were left empty are left out, so those that follow move up.
    pub(super) fn read(sent: &Sent) -> Self {
        let get = |name: &str| sent.get(name).trim().to_owned();
        let mut rules = Vec::new();
        let mut split = Vec::new();
        // A few more than a link may have, so that one too many is refused rather than lost.
        for i in 0..crate::model::link::MAX_RULES + SPARE_ROWS {
            let of = |name: &str| get(&format!("rules/{i}/{name}"));
            let rule =
                RuleText { device: of("device"), language: of("language"), country: of("country"), to: of("to") };
            let variant =
                VariantText { url: get(&format!("split/{i}/url")), weight: get(&format!("split/{i}/weight")) };
            if rule != RuleText::default() {
                rules.push(rule);
            }
            if !variant.url.is_empty() {
                split.push(variant);
            }
        }
        Self {
            url: get("url"),
            domain: get("domain"),
            alias: get("alias"),
            title: get("title"),
            notes: sent.get("notes").trim().replace("\r\n", "\n"),
            tags: get("tags"),
            starts_at: get("starts_at"),
            expires_at: get("expires_at"),
            max_clicks: get("max_clicks"),
            password: sent.get("password").to_owned(),
            without_password: get("without_password"),
            has_password: sent.get("has_password") == "yes",
            redirect: get("redirect"),
            forward_query: get("forward_query"),
            utm: UTM.map(|(name, ..)| get(&format!("utm/{name}"))),
            utm_template: get("utm_template"),
            rules,
            split,
        }
    }

    /// As a link is.
    pub(super) fn of(link: &Link) -> Self {
        let LinkSettings { redirect, forward_query, utm, password, rules, split } = link.settings.clone();
        let text = |value: Option<String>| value.unwrap_or_default();
        Self {
            url: link.url.clone(),
            domain: link.host.clone().unwrap_or_default(),
            alias: if link.is_alias { link.code.to_string() } else { String::new() },
            title: link.title.clone(),
            notes: link.notes.clone(),
            tags: link.tags.join(", "),
            starts_at: link.starts_at.map(write_time).unwrap_or_default(),
            expires_at: link.expires_at.map(write_time).unwrap_or_default(),
            max_clicks: link.max_clicks.map(|n| n.to_string()).unwrap_or_default(),
            password: String::new(),
            without_password: String::new(),
            has_password: password.is_some(),
            redirect: u16::from(redirect).to_string(),
            forward_query: if forward_query { "on".to_owned() } else { String::new() },
            utm: [utm.source, utm.medium, utm.campaign, utm.term, utm.content].map(text),
            utm_template: String::new(),
            rules: rules.iter().map(rule_text).collect(),
            split: split.into_iter().map(|v| VariantText { url: v.url, weight: v.weight.to_string() }).collect(),
        }
    }

    /// The link to be made.
    pub(super) fn new_link(&self, token: Option<String>) -> Result<NewLink, Problem> {
        Ok(NewLink {
            url: self.url.clone(),
            domain: given(&self.domain),
            alias: given(&self.alias),
            title: self.title.clone(),
            notes: self.notes.clone(),
            tags: list(&self.tags),
            starts_at: read_time(&self.starts_at, "/starts_at")?,
            expires_at: read_time(&self.expires_at, "/expires_at")?,
            max_clicks: read_number(&self.max_clicks, "/max_clicks")?,
            password: given(&self.password).map(Password::new),
            settings: LinkSettings {
                redirect: self.redirect()?,
                forward_query: self.forward_query == "on",
                utm: self.utm(),
                rules: self.rules()?,
                split: self.split()?,
                ..LinkSettings::default()
            },
            utm_template: given(&self.utm_template),
            token,
        })
    }

    /// What differs from how the link was shown.
    pub(super) fn patch(&self, before: &Self) -> Result<LinkPatch, Problem> {
        let changed = |get: fn(&Self) -> &String| Some(get(self).clone()).filter(|text| text != get(before));
        let time = |get: fn(&Self) -> &String, at| changed(get).map(|text| read_time(&text, at)).transpose();
        Ok(LinkPatch {
            url: changed(|t| &t.url),
            title: changed(|t| &t.title),
            notes: changed(|t| &t.notes),
            tags: changed(|t| &t.tags).map(|tags| list(&tags)),
            starts_at: time(|t| &t.starts_at, "/starts_at")?,
            expires_at: time(|t| &t.expires_at, "/expires_at")?,
            max_clicks: changed(|t| &t.max_clicks).map(|n| read_number(&n, "/max_clicks")).transpose()?,
            password: match given(&self.password) {
                Some(password) => Some(Some(Password::new(password))),
                None => (self.without_password == "on").then_some(None),
            },
            redirect: changed(|t| &t.redirect).map(|_| self.redirect()).transpose()?,
            forward_query: changed(|t| &t.forward_query).map(|on| on == "on"),
            utm: (self.utm != before.utm).then(|| self.utm()),
            rules: if self.rules == before.rules { None } else { Some(self.rules()?) },
            split: if self.split == before.split { None } else { Some(self.split()?) },
            ..LinkPatch::default()
        })
    }

    fn redirect(&self) -> Result<RedirectStatus, Problem> {
        if self.redirect.is_empty() {
            return Ok(RedirectStatus::default());
        }
        let status = self.redirect.parse::<u16>().ok().and_then(|status| status.try_into().ok());
        status.ok_or_else(|| invalid("/redirect", "must be 301, 302, 307 or 308"))
    }

    fn utm(&self) -> Utm {
        let [source, medium, campaign, term, content] = self.utm.each_ref().map(|text| given(text));
        Utm { source, medium, campaign, term, content }
    }

    fn rules(&self) -> Result<Vec<Rule>, Problem> {
        let of_rule = |(i, rule): (usize, &RuleText)| {
            let to = rule.to.lines().map(str::trim).filter(|line| !line.is_empty());
            let to = to.map(|line| {
                let (url, weight) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
                Ok(Variant { url: url.to_owned(), weight: weight_of(weight.trim(), &format!("/rules/{i}/to"))? })
            });
            Ok(Rule {
                device: values(
                    &rule.device,
                    Device::parse,
                    i,
                    "device",
                    "one of desktop, mobile, tablet, tv, console, other",
                )?,
                language: values(&rule.language, Language::parse, i, "language", "two letters, such as de")?,
                country: values(&rule.country, Country::parse, i, "country", "two letters, such as DE")?,
                to: to.collect::<Result<_, Problem>>()?,
            })
        };
        self.rules.iter().enumerate().map(of_rule).collect()
    }

    fn split(&self) -> Result<Vec<Variant>, Problem> {
        let of_variant = |(i, variant): (usize, &VariantText)| {
            let weight = weight_of(&variant.weight, &format!("/split/{i}/weight"))?;
            Ok(Variant { url: variant.url.clone(), weight })
        };
        self.split.iter().enumerate().map(of_variant).collect()
    }

    /// The fields of the form that makes a link.
    pub(super) fn new_fields(&self, choices: &Choices) -> Fields {
        let first = Fields::new().row([
            Field::url("url", "Destination").value(&self.url).placeholder(super::EXAMPLE).longest(2048).required(),
            Field::text("alias", "Alias")
                .value(&self.alias)
                .placeholder("a code that cannot be guessed")
                .longest(64)
                .mono(),
        ]);
        let mut names = vec![Field::text("title", "Title").value(&self.title).longest(200)];
        if !choices.hosts.is_empty() {
            let options = std::iter::once((String::new(), choices.own_host.clone()))
                .chain(choices.hosts.iter().map(|host| (host.clone(), host.clone())));
            names.insert(0, Field::choice("domain", "Domain", options).value(&self.domain));
        }
        first.more("More options", self.common_fields(Fields::new().row(names), choices))
    }

    /// The fields of the form that changes one.
    pub(super) fn edit_fields(&self, choices: &Choices) -> Fields {
        let first = Fields::new()
            .field(Field::url("url", "Destination").value(&self.url).longest(2048).required())
            .field(Field::text("title", "Title").value(&self.title).longest(200));
        Fields::new().group("", "", self.common_fields(first, choices))
    }

    fn common_fields(&self, first: Fields, choices: &Choices) -> Fields {
        let tags = Field::text("tags", "Tags")
            .value(&self.tags)
            .placeholder("spring, newsletter")
            .help("Words to find it by, with commas between; at most 20.");
        let notes = Field::lines("notes", "Notes", 2).value(&self.notes).longest(2000);
        let fields = first.field(tags).field(notes).group(
            "When it can be followed",
            "Times are UTC. Before its start it leads nowhere; after its end or its last click it answers 410.",
            Fields::new().row([
                Field::date_time("starts_at", "Starts").value(&self.starts_at),
                Field::date_time("expires_at", "Expires").value(&self.expires_at),
                Field::text("max_clicks", "Most clicks").value(&self.max_clicks).placeholder("any number"),
            ]),
        );
        let word = if self.has_password { "Another password" } else { "Password" };
        let mut secrets = Fields::new().field(
            Field::secret("password", word)
                .help("4 characters to 200 bytes. Visitors are asked for it; only its hash is kept.")
                .longest(200),
        );
        if self.has_password {
            secrets = secrets.field(
                Field::check("without_password", "Ask visitors for no password any more").value(&self.without_password),
            );
        }
        let fields = fields.group("Who may follow it", "", secrets);
        let status = [
            ("302", "302 Found: for now"),
            ("301", "301 Moved: for good, browsers remember it"),
            ("307", "307: for now, the method stays"),
            ("308", "308: for good, the method stays"),
        ];
        let redirect = if self.redirect.is_empty() { "302" } else { &self.redirect };
        let fields = fields.group(
            "How it redirects",
            "",
            Fields::new().field(Field::choice("redirect", "Status", status).value(redirect)).field(
                Field::check("forward_query", "Hand the visitor's query on to the destination")
                    .value(&self.forward_query),
            ),
        );
        fields
            .group(
                "Campaign parameters",
                "Added to the destination as utm_source and so on, unless it has them already.",
                self.utm_fields(choices),
            )
            .group(
                "Rules",
                "Visitors whom all filled conditions of a row fit go to its destinations; the first row that fits wins. Several \
                 values with commas between. Devices: desktop, mobile, tablet, tv, console, other. Languages and countries: two \
                 letters. Destinations: one a line; a number behind it is its weight.",
                self.rule_fields(),
            )
            .group(
                "Split",
                "All other visitors are shared among these by weight. Left empty: all go to the destination above.",
                self.split_fields(),
            )
    }

    fn utm_fields(&self, choices: &Choices) -> Fields {
        let fields = UTM.iter().zip(&self.utm).map(|((name, label, example), value)| {
            Field::text(format!("utm/{name}"), *label).value(value).placeholder(*example).longest(100)
        });
        let mut rows = Fields::new();
        if !choices.templates.is_empty() {
            let options = std::iter::once((String::new(), "none".to_owned()))
                .chain(choices.templates.iter().map(|name| (name.clone(), name.clone())));
            let help = "Fills those that are left empty below.";
            rows = rows.field(Field::choice("utm_template", "Template", options).value(&self.utm_template).help(help));
        }
        rows.row(fields)
    }

    fn rule_fields(&self) -> Fields {
        let spare = RuleText::default();
        let rows = self.rules.iter().chain(std::iter::repeat_n(&spare, SPARE_ROWS)).enumerate();
        rows.fold(Fields::new(), |fields, (i, rule)| {
            let name = |part: &str| format!("rules/{i}/{part}");
            let lines = u8::try_from(rule.to.lines().count().clamp(1, 5)).unwrap_or(1);
            fields.row([
                Field::text(name("device"), format!("Device {}", i + 1))
                    .value(&rule.device)
                    .placeholder("mobile, tablet"),
                Field::text(name("language"), format!("Language {}", i + 1))
                    .value(&rule.language)
                    .placeholder("de, fr"),
                Field::text(name("country"), format!("Country {}", i + 1)).value(&rule.country).placeholder("DE, AT"),
                Field::lines(name("to"), format!("Leads to {}", i + 1), lines)
                    .value(&rule.to)
                    .placeholder("https://example.com/app"),
            ])
        })
    }

    fn split_fields(&self) -> Fields {
        let spare = VariantText::default();
        let rows = self.split.iter().chain(std::iter::repeat_n(&spare, SPARE_ROWS)).enumerate();
        rows.fold(Fields::new(), |fields, (i, variant)| {
            fields.row([
                Field::url(format!("split/{i}/url"), format!("Destination {}", i + 1))
                    .value(&variant.url)
                    .longest(2048),
                Field::text(format!("split/{i}/weight"), format!("Weight {}", i + 1))
                    .value(&variant.weight)
                    .placeholder("1"),
            ])
        })
    }
}

/// What can be chosen in the form.
#[derive(Debug, Clone, Default)]
pub(super) struct Choices {
    pub(super) own_host: String,
    pub(super) hosts: Vec<String>,
    pub(super) templates: Vec<String>,
}

impl Choices {
    pub(super) async fn load(shortener: &Shortener, project: &ProjectId) -> Result<Self, Problem> {
        Ok(Self {
            own_host: super::shown_url(shortener.public_url()).to_owned(),
            hosts: shortener.domains(project, "", MAX_CHOICES).await?.into_iter().map(|d| d.host).collect(),
            templates: shortener.utm_templates(project, "", MAX_CHOICES).await?.into_iter().map(|t| t.name).collect(),
        })
    }

    /// Without templates: what is copied when a link is made.
    pub(super) fn without_templates(self) -> Self {
        Self { templates: Vec::new(), ..self }
    }
}

/// The campaign parameters of a form that has no more than these.
pub(super) fn read_utm(sent: &Sent) -> Utm {
    LinkText::read(sent).utm()
}

/// The fields of campaign parameters alone.
pub(super) fn utm_fields(utm: &Utm) -> Fields {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let utm = [&utm.source, &utm.medium, &utm.campaign, &utm.term, &utm.content].map(text);
    LinkText { utm, ..LinkText::default() }.utm_fields(&Choices::default())
}

/// The token of a form as it was drawn: sending it twice makes one thing.
pub(super) fn token(sent: &Sent) -> Option<String> {
    Some(format!("console-{}", sent.get("once"))).filter(|t| t.len() == 8 + 32)
}

/// Refuses a form that was not drawn for this session.
pub(super) fn check_csrf(chrome: &Chrome, sent: &Sent) -> Result<(), Problem> {
    if !chrome.csrf.is_empty() && chrome.csrf == sent.get("csrf") {
        return Ok(());
    }
    Err(Problem::new(&access::error::FORM_EXPIRED, "Nothing was done. Load the page again and send the form anew."))
}

fn rule_text(rule: &Rule) -> RuleText {
    let line = |variant: &Variant| match variant.weight {
        1 => variant.url.clone(),
        weight => format!("{} {weight}", variant.url),
    };
    RuleText {
        device: words(&rule.device, |device| device.as_str()),
        language: words(&rule.language, Language::as_str),
        country: words(&rule.country, Country::as_str),
        to: rule.to.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}

fn words<T>(values: &[T], name: impl Fn(&T) -> &str) -> String {
    values.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The values of one condition of a rule.
fn values<T>(
    text: &str,
    parse: fn(&str) -> Option<T>,
    rule: usize,
    name: &str,
    wanted: &'static str,
) -> Result<Vec<T>, Problem> {
    let parsed = list(text).iter().map(|word| parse(word)).collect::<Option<_>>();
    parsed.ok_or_else(|| invalid(&format!("/rules/{rule}/{name}"), wanted))
}

fn given(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// Words with commas between.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn weight_of(text: &str, at: &str) -> Result<u32, Problem> {
    if text.is_empty() {
        return Ok(1);
    }
    text.parse().map_err(|_| invalid(at, "a weight is a whole number from 0 to 1000"))
}

fn read_number(text: &str, at: &str) -> Result<Option<u64>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| invalid(at, "a whole number, at least 1"))
}

/// Reads `datetime-local` as UTC; empty is none.
fn read_time(text: &str, at: &str) -> Result<Option<Timestamp>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let seconds = if text.len() == "2036-01-01T00:00".len() { ":00" } else { "" };
    let time = Timestamp::parse(&format!("{text}{seconds}Z"));
    time.map(Some).ok_or_else(|| invalid(at, "a day and time such as 2036-01-01T00:00"))
}

/// As `datetime-local` wants it: to the minute, or to the second where there are some.
fn write_time(at: Timestamp) -> String {
    let text = at.to_string();
    let whole = text.get(..19).unwrap_or(&text);
    whole.strip_suffix(":00").unwrap_or(whole).to_owned()
}

fn invalid(at: &str, detail: &'static str) -> Problem {
    Error::Field(Invalid::new(at, detail)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pairs: &[(&str, &str)]) -> Sent {
        Sent::new(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn rows_are_read_and_empty_ones_close_up() {
        let text = LinkText::read(&sent(&[
            ("url", " https://example.com/ "),
            ("tags", "a, b ,,c"),
            ("rules/0/device", ""),
            ("rules/1/device", "mobile, tablet"),
            ("rules/1/to", "https://a.example/ 3\r\nhttps://b.example/"),
            ("split/2/url", "https://c.example/"),
            ("split/2/weight", "7"),
            ("max_clicks", "5"),
            ("starts_at", "2036-01-01T00:00"),
        ]));
        let new = text.new_link(None).unwrap();
        assert_eq!((new.url.as_str(), new.tags.len(), new.max_clicks), ("https://example.com/", 3, Some(5)));
        assert_eq!(new.settings.rules.len(), 1);
        let weights: Vec<u32> = new.settings.rules[0].to.iter().map(|v| v.weight).collect();
        assert_eq!(weights, [3, 1]);
        assert_eq!((new.settings.split[0].url.as_str(), new.settings.split[0].weight), ("https://c.example/", 7));
        for (name, value, field) in [
            ("max_clicks", "many", "/max_clicks"),
            ("split/0/weight", "-1", "/split/0/weight"),
            ("starts_at", "soon", "/starts_at"),
            ("redirect", "303", "/redirect"),
        ] {
            let text = LinkText::read(&sent(&[("split/0/url", "https://a.example/"), (name, value)]));
            assert_eq!(text.new_link(None).unwrap_err().fields[0].field, field);
        }
    }

    #[test]
    fn a_form_that_was_not_touched_changes_nothing() {
        let text = LinkText::read(&sent(&[
            ("url", "https://example.com/"),
            ("expires_at", "2036-01-01T00:00:30"),
            ("rules/0/country", "DE"),
            ("rules/0/to", "https://a.example/ 3"),
        ]));
        assert_eq!(text.patch(&text).unwrap(), LinkPatch::default());
        let changed = LinkText { title: "Spring".to_owned(), expires_at: String::new(), ..text.clone() };
        let patch = changed.patch(&text).unwrap();
        assert_eq!(
            patch,
            LinkPatch { title: Some("Spring".to_owned()), expires_at: Some(None), ..LinkPatch::default() }
        );
    }
}
