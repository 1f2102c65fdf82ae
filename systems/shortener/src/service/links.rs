//! Making, reading, changing and deleting links.

use std::time::Duration;

use identity::Principal;
use kernel::{Problem, ProjectId, Timestamp};
use limiter::{Check, Descriptor, Matching};
use serde_json::{Map, Value, json};

use super::{Shortener, near::SpotRef};
use crate::{
    config::CREATION,
    error::Error,
    model::{
        Alias, Code, Destination, DomainId, Invalid, Link, LinkId, LinkSettings, LinkState, LinkWithClicks, Password,
        PasswordHash, RedirectStatus, Rule, Utm, Variant, link, looks_like_code,
    },
    store::{self, Inserted, LinkChange, ListFilter, Place},
};

/// How many ids are tried when the codes of some are taken by aliases.
const CODE_ATTEMPTS: u32 = 16;
/// How many windows of a list one page looks through when few links fit: 20,000 links.
const WINDOWS: u32 = 10;

/// A link to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewLink {
    /// The destination as it was given.
    pub url: String,
    /// The domain it answers on, as a host name; the installation's own when `None`.
    pub domain: Option<String>,
    /// The wanted code; a generated one when `None`.
    pub alias: Option<String>,
    /// Its name for people.
    pub title: String,
    /// What its owner wants to remember.
    pub notes: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Before that it leads nowhere.
    pub starts_at: Option<Timestamp>,
    /// From when on it answers 410.
    pub expires_at: Option<Timestamp>,
    /// How often it may be followed.
    pub max_clicks: Option<u64>,
    /// What visitors have to know first. It is kept as a hash, in the settings.
    pub password: Option<Password>,
    /// How it redirects, as it was given.
    pub settings: LinkSettings,
    /// Whose parameters fill those that `settings.utm` leaves out.
    pub utm_template: Option<String>,
    /// Names this creation inside its project: the same one again gives the link that the first one made.
    pub token: Option<String>,
}

/// A link to be made that is checked, and lacks only its id and perhaps its code.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) link: Link,
    pub(crate) alias: Option<Code>,
}

impl Draft {
    /// The link with an id; `None` when no code is left.
    pub(crate) fn with_id(&self, id: u64, codes: &crate::model::Codes) -> Option<Link> {
        let code = match &self.alias {
            Some(alias) => alias.clone(),
            None => codes.encode(id)?,
        };
        Some(Link { id: LinkId(id), code, ..self.link.clone() })
    }
}

/// What a creation gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The link.
    pub link: Link,
    /// Whether this call made it; `false` when an earlier one with the same token did.
    pub is_new: bool,
}

/// What is to be changed about a link; `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkPatch {
    /// Where it leads.
    pub url: Option<String>,
    /// Its name for people.
    pub title: Option<String>,
    /// What its owner wants to remember.
    pub notes: Option<String>,
    /// Its tags, all of them.
    pub tags: Option<Vec<String>>,
    /// Before that it leads nowhere; `Some(None)` for at once.
    pub starts_at: Option<Option<Timestamp>>,
    /// From when on it answers 410; `Some(None)` for never.
    pub expires_at: Option<Option<Timestamp>>,
    /// How often it may be followed; `Some(None)` for any number.
    pub max_clicks: Option<Option<u64>>,
    /// What visitors have to know first; `Some(None)` for nothing.
    pub password: Option<Option<Password>>,
    /// Whether its owner has switched it off.
    pub is_disabled: Option<bool>,
    /// The status of the redirect.
    pub redirect: Option<RedirectStatus>,
    /// Whether the visitor's query is handed on.
    pub forward_query: Option<bool>,
    /// Campaign parameters, all of them.
    pub utm: Option<Utm>,
    /// Rules, all of them.
    pub rules: Option<Vec<Rule>>,
    /// The split, all of it.
    pub split: Option<Vec<Variant>>,
}

/// One page of links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPage {
    /// In the order of the list.
    pub links: Vec<LinkWithClicks>,
    /// Where the next page starts; `None` on the last one. With filters that few links fit a page may be short, even empty, and
    /// still have a next one.
    pub next_cursor: Option<String>,
}

impl Shortener {
    /// Counts one creation, or refuses it.
    async fn take_creation(&self, project: &ProjectId) -> Result<(), Error> {
        let descriptors = [Descriptor::new([CREATION])];
        let check =
            Check { domain: limiter::OWN_DOMAIN, descriptors: &descriptors, matching: Matching::Contains, cost: 1 };
        let outcome = self.0.limiter.check(project, &check).await.map_err(Problem::from)?;
        if outcome.is_allowed {
            return Ok(());
        }
        self.0.telemetry.links_limited.inc();
        let refusing = outcome.decisions.iter().find(|decision| !decision.is_allowed && !decision.is_shadow);
        Err(Error::RateLimited {
            limit: refusing.map_or(0, |decision| decision.limit),
            window: refusing.map_or(Duration::ZERO, |decision| decision.window),
            retry_after: outcome.retry_after,
        })
    }

    /// Makes a link: under its alias, or under the code of a fresh id. Committed when this returns.
    pub async fn create(&self, principal: &Principal, new: NewLink) -> Result<Created, Error> {
        let this = &*self.0;
        let token = new.token.clone();
        let draft = self.draft(principal, new).await?;
        self.take_creation(&principal.project).await?;
        for _ in 0..CODE_ATTEMPTS {
            let id = this.blocks.take().await.map_err(Problem::from)?;
            let link = draft.with_id(id, &this.codes).ok_or(Error::CodesExhausted)?;
            let inserted: Inserted = this
                .db
                .tx({
                    let (link, token) = (link.clone(), token.clone());
                    async move |tx: &mut database::Tx<'_>| {
                        if link.domain != DomainId::OWN && !store::hold_domain(tx, link.domain).await? {
                            return Err(Error::DomainUnknown);
                        }
                        Ok::<_, Error>(store::insert_link(tx, &link, token.as_deref()).await?)
                    }
                })
                .await?;
            match inserted {
                Inserted::New => {
                    this.telemetry.links_created.inc();
                    self.made(&link).await;
                    return Ok(Created { link, is_new: true });
                }
                Inserted::Before(link) => return Ok(Created { link: *link, is_new: false }),
                Inserted::CodeTaken if link.is_alias => return Err(Error::AliasTaken),
                // An alias looks like this code: the next id has another.
                Inserted::CodeTaken => {}
            }
        }
        Err(Error::CodesExhausted)
    }

    /// Checks everything about a link to be made that can be checked before it has an id.
    pub(crate) async fn draft(&self, principal: &Principal, new: NewLink) -> Result<Draft, Error> {
        let this = &*self.0;
        let now = this.clock.now();
        let url = destination(&new.url)?;
        let domain = match &new.domain {
            None => None,
            Some(host) => Some(self.link_domain(&principal.project, host).await?),
        };
        let keeps_case = domain.as_ref().is_none_or(|domain| domain.is_case_sensitive);
        let alias = new
            .alias
            .as_deref()
            .map(|alias| {
                let alias = if keeps_case { alias.to_owned() } else { alias.to_ascii_lowercase() };
                Alias::parse(&alias, &this.config.reserved_words)
            })
            .transpose()
            .map_err(Error::Alias)?
            .map(Alias::into_code);
        let mut settings = new.settings;
        if let Some(password) = new.password {
            settings.password = Some(self.hash_password(password).await?);
        }
        if let Some(name) = &new.utm_template {
            let template = self.utm_template(&principal.project, name).await.map_err(|e| match e {
                Error::TemplateUnknown => {
                    Error::Field(Invalid::new("/utm_template", "the project has no such template"))
                }
                e => e,
            })?;
            settings.utm = settings.utm.or(template.utm);
        }
        let link = Link {
            id: LinkId(0),
            project: principal.project.clone(),
            domain: domain.as_ref().map_or(DomainId::OWN, |domain| domain.id),
            host: domain.map(|domain| domain.host),
            // Takes the place of the code until there is an id.
            code: alias.clone().map_or_else(|| this.codes.encode(0).ok_or(Error::CodesExhausted), Ok)?,
            is_alias: alias.is_some(),
            url,
            title: link::title(&new.title).map_err(Error::Field)?,
            notes: link::notes(&new.notes).map_err(Error::Field)?,
            tags: link::tags(&new.tags).map_err(Error::Field)?,
            created_at: now,
            created_by: principal.name.to_string(),
            updated_at: now,
            starts_at: new.starts_at,
            expires_at: new.expires_at,
            max_clicks: new.max_clicks,
            state: LinkState::Active,
            settings: settings.checked().map_err(Error::Field)?,
            version: 1,
        };
        check_times(&link, now, new.expires_at.is_some())?;
        self.check_link(&link)?;
        Ok(Draft { link, alias })
    }

    /// A new link is there: somebody may have asked for its code before.
    pub(crate) async fn made(&self, link: &Link) {
        self.forget(link);
        if link.is_alias {
            // A generated code cannot have been asked for; an alias may be known as unknown elsewhere.
            self.0.invalidations.tell_others(spot(link)).await;
        }
    }

    /// A link changed: no node follows it as it was.
    pub(crate) async fn changed(&self, link: &Link) {
        self.forget(link);
        self.0.invalidations.tell_others(spot(link)).await;
    }

    pub(super) fn forget(&self, link: &Link) {
        self.0.near.forget(spot(link));
        self.0.telemetry.invalidated_here.inc();
    }

    /// A link of a project on the installation's own domain, the expired ones included.
    pub async fn get(&self, project: &ProjectId, code: &str) -> Result<LinkWithClicks, Error> {
        self.get_on(project, None, code).await
    }

    /// A link of a project on one of its domains.
    pub async fn get_on(&self, project: &ProjectId, host: Option<&str>, code: &str) -> Result<LinkWithClicks, Error> {
        if !looks_like_code(code) {
            return Err(Error::LinkUnknown);
        }
        let domain = self.domain_id(project, host).await?;
        store::project_link(&self.0.db, project, domain, code).await.map_err(Problem::from)?.ok_or(Error::LinkUnknown)
    }

    /// Links of a project that fit: newest first; with a prefix, by code.
    pub async fn list(
        &self,
        project: &ProjectId,
        filter: &ListFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<LinkPage, Error> {
        let this = &*self.0;
        // The scope holds the project and the filter, so a cursor opens only the list that gave it.
        let scope = format!("links\n{project}\n{filter:?}");
        let mut after = cursor
            .map(|c| this.cursors.open(&scope, c).map_err(|p| p.field("?cursor", "not from this list")))
            .transpose()?
            .and_then(|bytes| read_place(&bytes));
        if filter.prefix.as_ref().is_some_and(|prefix| !prefix.is_empty() && !looks_like_code(prefix)) {
            // Nothing that is no code can start one.
            return Ok(LinkPage { links: Vec::new(), next_cursor: None });
        }
        let now = this.clock.now();
        let wanted = limit as usize;
        let mut links: Vec<LinkWithClicks> = Vec::new();
        let mut next = None;
        for _ in 0..WINDOWS {
            let missing = u32::try_from(wanted + 1 - links.len()).unwrap_or(1);
            let step = store::list_links(&this.db, project, filter, after.as_ref(), now, missing)
                .await
                .map_err(Problem::from)?;
            links.extend(step.links);
            if links.len() > wanted {
                links.truncate(wanted);
                next = links.last().map(|last| place(&last.link));
                break;
            }
            next.clone_from(&step.window_end);
            after = step.window_end;
            if after.is_none() {
                break;
            }
        }
        let next_cursor = next.map(|place| this.cursors.seal(&scope, &write_place(&place)));
        Ok(LinkPage { links, next_cursor })
    }

    /// Changes a link and writes down what changed; with `version`, only when it still is at that version. What changes nothing
    /// makes no version.
    pub async fn update(
        &self,
        principal: &Principal,
        host: Option<&str>,
        code: &str,
        version: Option<i64>,
        mut patch: LinkPatch,
    ) -> Result<Link, Error> {
        if !looks_like_code(code) {
            return Err(Error::LinkUnknown);
        }
        let this = &*self.0;
        let password = match patch.password.take() {
            None => None,
            Some(None) => Some(None),
            // Before the transaction, which waits for nothing else.
            Some(Some(password)) => Some(Some(self.hash_password(password).await?)),
        };
        let domain = self.domain_id(&principal.project, host).await?;
        let (link, is_changed) = this
            .db
            .tx({
                let (principal, code, now) = (principal.clone(), code.to_owned(), this.clock.now());
                let shortener = self.clone();
                async move |tx: &mut database::Tx<'_>| {
                    let before = store::lock_link(tx, &principal.project, domain, &code).await?;
                    let before = before.ok_or(Error::LinkUnknown)?;
                    if version.is_some_and(|v| v != before.version) {
                        return Err(Error::LinkChanged);
                    }
                    let mut link = patched(&before, patch.clone(), password.clone(), now)?;
                    if link.url != before.url || !link.settings.destinations().eq(before.settings.destinations()) {
                        shortener.check_link(&link)?;
                    }
                    let changes = changes(&before, &link);
                    if changes.is_empty() {
                        return Ok((before, false));
                    }
                    link.version += 1;
                    link.updated_at = now;
                    let changes = Value::Object(changes).to_string();
                    store::update_link(tx, &before, &link, &principal.name, &changes).await?;
                    Ok::<_, Error>((link, true))
                }
            })
            .await?;
        if is_changed {
            this.telemetry.links_changed.inc();
            self.changed(&link).await;
        }
        Ok(link)
    }

    /// What was changed about a link, newest first.
    pub async fn history(
        &self,
        project: &ProjectId,
        host: Option<&str>,
        code: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<LinkChange>, Option<String>), Error> {
        let this = &*self.0;
        let link = self.get_on(project, host, code).await?.link;
        let scope = format!("history\n{project}\n{}", link.id.0);
        let before = cursor
            .map(|c| this.cursors.open(&scope, c).map_err(|p| p.field("?cursor", "not from this list")))
            .transpose()?
            .and_then(|bytes| Some(i64::from_be_bytes(bytes.try_into().ok()?)))
            .unwrap_or(i64::MAX);
        let mut changes = store::link_history(&this.db, link.id, before, limit + 1).await.map_err(Problem::from)?;
        let has_more = changes.len() > limit as usize;
        changes.truncate(limit as usize);
        let next =
            changes.last().filter(|_| has_more).map(|last| this.cursors.seal(&scope, &last.version.to_be_bytes()));
        Ok((changes, next))
    }

    /// Deletes a link, with an entry in the audit log in the same transaction. With `version`, only when it still is at that
    /// version. Its code is never given again.
    pub async fn delete(
        &self,
        principal: &Principal,
        host: Option<&str>,
        code: &str,
        version: Option<i64>,
    ) -> Result<(), Error> {
        if !looks_like_code(code) {
            return Err(Error::LinkUnknown);
        }
        let this = &*self.0;
        let domain = self.domain_id(&principal.project, host).await?;
        let link: Link = this
            .db
            .tx({
                let (access, principal, code, now) =
                    (this.access.clone(), principal.clone(), code.to_owned(), this.clock.now());
                async move |tx: &mut database::Tx<'_>| {
                    let link = store::lock_link(tx, &principal.project, domain, &code).await?;
                    let link = link.ok_or(Error::LinkUnknown)?;
                    if version.is_some_and(|v| v != link.version) {
                        return Err(Error::LinkChanged);
                    }
                    if matches!(link.state, LinkState::TakenDown(_)) {
                        return Err(Error::LinkTakenDown);
                    }
                    store::delete_link(tx, &link, now).await?;
                    let mut detail = json!({ "url": link.url });
                    if let Some(host) = &link.host {
                        detail["domain"] = json!(host);
                    }
                    access.audit(tx, &principal, "shortener.link.delete", &code, &detail).await?;
                    Ok::<_, Error>(link)
                }
            })
            .await?;
        this.telemetry.links_deleted.inc();
        self.changed(&link).await;
        Ok(())
    }

    /// The short URL of a link.
    pub fn short_url(&self, link: &Link) -> String {
        self.short_url_of(link.host.as_deref(), link.code.as_str())
    }

    /// The short URL of a code on a host; on the installation's own when `None`.
    pub(crate) fn short_url_of(&self, host: Option<&str>, code: &str) -> String {
        match host {
            None => format!("{}/{code}", self.0.public_url),
            Some(host) => format!("{}/{code}", self.url_of(host)),
        }
    }

    /// A host with the scheme and port of the installation's own short URLs.
    pub(crate) fn url_of(&self, host: &str) -> String {
        let own = url::Url::parse(&self.0.public_url).ok();
        let scheme = own.as_ref().map_or("http", url::Url::scheme);
        let port = own.as_ref().and_then(url::Url::port).map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{host}{port}")
    }
}

/// Checks a destination.
pub(super) fn destination(url: &str) -> Result<String, Error> {
    Ok(Destination::parse(url).map_err(Error::InvalidUrl)?.into_string())
}

/// The link as a patch makes it.
fn patched(
    before: &Link,
    patch: LinkPatch,
    password: Option<Option<PasswordHash>>,
    now: Timestamp,
) -> Result<Link, Error> {
    let mut link = before.clone();
    if matches!(link.state, LinkState::TakenDown(_)) {
        return Err(Error::LinkTakenDown);
    }
    if let Some(url) = patch.url {
        link.url = destination(&url)?;
    }
    if let Some(title) = patch.title {
        link.title = link::title(&title).map_err(Error::Field)?;
    }
    if let Some(notes) = patch.notes {
        link.notes = link::notes(&notes).map_err(Error::Field)?;
    }
    if let Some(tags) = patch.tags {
        link.tags = link::tags(&tags).map_err(Error::Field)?;
    }
    if let Some(is_disabled) = patch.is_disabled {
        link.state = if is_disabled { LinkState::Disabled } else { LinkState::Active };
    }
    let sets_expiry = patch.expires_at.is_some_and(|at| at.is_some() && at != before.expires_at);
    link.starts_at = patch.starts_at.unwrap_or(link.starts_at);
    link.expires_at = patch.expires_at.unwrap_or(link.expires_at);
    link.max_clicks = patch.max_clicks.unwrap_or(link.max_clicks);
    let settings = &mut link.settings;
    settings.redirect = patch.redirect.unwrap_or(settings.redirect);
    settings.forward_query = patch.forward_query.unwrap_or(settings.forward_query);
    if let Some(password) = password {
        settings.password = password;
    }
    if let Some(utm) = patch.utm {
        settings.utm = utm;
    }
    if let Some(rules) = patch.rules {
        settings.rules = rules;
    }
    if let Some(split) = patch.split {
        settings.split = split;
    }
    link.settings = link.settings.checked().map_err(Error::Field)?;
    check_times(&link, now, sets_expiry)?;
    Ok(link)
}

fn check_times(link: &Link, now: Timestamp, sets_expiry: bool) -> Result<(), Error> {
    if sets_expiry && link.is_expired(now) {
        return Err(Error::ExpiryInvalid);
    }
    if let (Some(start), Some(end)) = (link.starts_at, link.expires_at)
        && start >= end
    {
        return Err(Error::Field(Invalid::new("/starts_at", "must lie before `expires_at`")));
    }
    if link.max_clicks.is_some_and(|n| n == 0 || i64::try_from(n).is_err()) {
        return Err(Error::Field(Invalid::new("/max_clicks", "must be at least 1; leave it out for any number")));
    }
    Ok(())
}

/// What differs: before and after, field by field, as the wire has them.
fn changes(before: &Link, after: &Link) -> Map<String, Value> {
    let mut changes = Map::new();
    let fields = |link: &Link| {
        json!({
            "url": link.url, "title": link.title, "notes": link.notes, "tags": link.tags,
            "starts_at": link.starts_at.map(|at| at.to_string()), "expires_at": link.expires_at.map(|at| at.to_string()),
            "max_clicks": link.max_clicks, "is_disabled": link.state == LinkState::Disabled,
            "redirect": u16::from(link.settings.redirect), "forward_query": link.settings.forward_query,
            "utm": link.settings.utm, "rules": link.settings.rules, "split": link.settings.split,
        })
    };
    if let (Value::Object(before), Value::Object(after)) = (fields(before), fields(after)) {
        for ((name, from), (_, to)) in before.into_iter().zip(after) {
            if from != to {
                changes.insert(name, json!([from, to]));
            }
        }
    }
    if before.settings.password != after.settings.password {
        // That it changed, and nothing of what it was or is.
        let has = |link: &Link| link.settings.password.is_some();
        changes.insert("has_password".to_owned(), json!([has(before), has(after)]));
    }
    changes
}

fn spot(link: &Link) -> SpotRef<'_> {
    SpotRef { domain: link.domain, code: link.code.as_str() }
}

fn place(link: &Link) -> Place {
    Place { code: link.code.to_string(), created_at: link.created_at, id: link.id }
}

fn write_place(place: &Place) -> Vec<u8> {
    [&place.created_at.as_millis().to_be_bytes()[..], &place.id.0.to_be_bytes(), place.code.as_bytes()].concat()
}

fn read_place(bytes: &[u8]) -> Option<Place> {
    let (at, rest) = bytes.split_at_checked(8)?;
    let (id, code) = rest.split_at_checked(8)?;
    Some(Place {
        code: String::from_utf8(code.to_vec()).ok()?,
        created_at: Timestamp::from_millis(i64::from_be_bytes(at.try_into().ok()?)),
        id: LinkId(u64::from_be_bytes(id.try_into().ok()?)),
    })
}
