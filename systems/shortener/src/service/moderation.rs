//! Reports, takedowns, appeals, and the block list that moderators keep.
//!
//! - MODERATION-2: what is decided, what it does to the link and its entry in the audit log of the link's project are committed
//!   together.
//! - MODERATION-3: a visitor's address is counted in the memory plane under a hash that changes with the day, and stored nowhere.

use std::{net::IpAddr, time::Duration};

use identity::{Principal, Scope, Verb};
use kernel::{Clock, Problem, ProjectId};
use memory::{Key, Memory, OnDown, Space, Use};
use ring::hmac;
use serde_json::json;

use super::{Shortener, block_lists::MAX_MANAGED};
use crate::{
    error::Error,
    model::{
        Code, DomainId, Invalid, Link, LinkId, LinkState, Takedown,
        block_list::Entry,
        domain, looks_like_code,
        moderation::{Act, BlockId, MAX_WORDS_CHARS, Refusal, ReportId, ReportReason, ReportState, Standing},
    },
    store::{self, LinkBlock, NewReport, Report, TakedownRecord, Verdict},
};

/// The scope of moderators.
pub(crate) const MODERATION: &str = "moderation";

/// While Redis is away each node counts for itself.
const REPORTS: Use = Use { name: "shortener.reports", on_down: OnDown::BoundedLocal };
const WINDOW: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// Reports of one address or key in an hour, and of one link in an hour.
const PER_REPORTER: i64 = 10;
const PER_LINK: i64 = 60;
/// How long decided reports are kept.
const REPORTS_KEPT: Duration = Duration::from_hours(24 * 180);

/// Who reports.
#[derive(Debug, Clone, Copy)]
pub enum Reporter<'a> {
    /// A visitor, by address.
    Visitor(IpAddr),
    /// Somebody with a key.
    Key(&'a Principal),
}

/// Counts reports, so that nobody floods moderators.
#[derive(Debug)]
pub(crate) struct ReportLimit {
    space: Space,
    clock: Clock,
    secret: hmac::Key,
}

impl ReportLimit {
    pub(crate) fn new(memory: &Memory, clock: Clock, secret: &[u8; 32]) -> Self {
        Self { space: memory.with(REPORTS), clock, secret: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    async fn take(&self, reporter: Reporter<'_>, link: LinkId) -> Result<(), Error> {
        let now = self.clock.now();
        let window = now.floor(WINDOW);
        let who = match reporter {
            Reporter::Key(principal) => format!("key-{}", principal.actor()),
            Reporter::Visitor(address) => {
                let day = now.floor(DAY).as_millis().to_be_bytes();
                let tag = match address.to_canonical() {
                    IpAddr::V4(v4) => hmac::sign(&self.secret, &[&day[..], &v4.octets()].concat()),
                    // Whoever has one address of IPv6 has its whole /64.
                    IpAddr::V6(v6) => hmac::sign(&self.secret, &[&day[..], &v6.octets()[..8]].concat()),
                };
                tag.as_ref()[..16].iter().fold("address-".to_owned(), |text, byte| format!("{text}{byte:02x}"))
            }
        };
        for (name, limit) in [(who, PER_REPORTER), (format!("link-{}", link.0), PER_LINK)] {
            let parts = ["reports".to_owned(), name, window.as_millis().to_string()];
            let key = Key::new(&ProjectId::default_project(), "shortener", parts);
            let count = self.space.increment(&key, 1, Some(WINDOW * 2)).await.map_err(Problem::from)?;
            if count > limit {
                return Err(Error::ReportsLimited { retry_after: window.plus(WINDOW).since(now) });
            }
        }
        Ok(())
    }
}

/// Refuses whoever is no moderator: the administrator of the installation (`*`), or a key of the project `default` whose scopes
/// name `moderation` itself. `*:admin` is what every project gives its own, and moderates nothing.
pub(crate) fn require_moderator(principal: &Principal, verb: Verb) -> Result<(), Error> {
    let is_named = || {
        principal.project == ProjectId::default_project()
            && principal
                .scopes
                .iter()
                .any(|scope| matches!(scope, Scope::System(name, mine) if &**name == MODERATION && *mine >= verb))
    };
    if principal.is_admin || is_named() { Ok(()) } else { Err(Error::NotModerator) }
}

/// Which link is meant.
#[derive(Debug, Clone, Copy)]
pub struct LinkPlace<'a> {
    /// The host of its domain; the installation's own when `None`.
    pub host: Option<&'a str>,
    /// Its code.
    pub code: &'a str,
}

/// What is done about a link, in whose words.
#[derive(Debug, Clone)]
struct Case {
    act: Act,
    /// For what it is taken down.
    kind: Takedown,
    /// The reason, the appeal, or the decision.
    words: String,
}

fn words(text: &str, field: &'static str, is_needed: bool) -> Result<String, Error> {
    let text = text.trim().replace("\r\n", "\n");
    let refuse = |detail: &'static str| Err(Error::Field(Invalid::new(field, detail)));
    if is_needed && text.is_empty() {
        return refuse("must say something");
    }
    if text.chars().count() > MAX_WORDS_CHARS {
        return refuse("at most 1000 characters");
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return refuse("no control characters");
    }
    Ok(text)
}

impl Shortener {
    /// Reports a link. Past the limits of its reporter or link it is refused; past those that are kept whole it is counted.
    pub async fn report(
        &self,
        domain: DomainId,
        code: &str,
        reason: ReportReason,
        detail: &str,
        reporter: Reporter<'_>,
    ) -> Result<(), Error> {
        let this = &*self.0;
        let detail = words(detail, "/detail", false)?;
        if !looks_like_code(code) {
            return Err(Error::LinkUnknown);
        }
        let link = store::link_by_code(&this.db, domain, code).await.map_err(Problem::from)?;
        let link = link.ok_or(Error::LinkUnknown)?;
        this.report_limit.take(reporter, link.id).await?;
        let report = NewReport {
            id: ReportId::new(&this.clock, &this.rng),
            link: link.id,
            reason,
            detail,
            reported_by: match reporter {
                Reporter::Visitor(_) => None,
                Reporter::Key(principal) => Some(principal.name.to_string()),
            },
            at: this.clock.now(),
        };
        this.db.tx(async move |tx: &mut database::Tx<'_>| store::add_report(tx, &report).await).await?;
        this.telemetry.reports.inc();
        Ok(())
    }

    /// The same by the host that a client names.
    pub(crate) async fn report_at(
        &self,
        at: LinkPlace<'_>,
        reason: ReportReason,
        detail: &str,
        reporter: Reporter<'_>,
    ) -> Result<(), Error> {
        self.report(self.any_domain(at.host)?, at.code, reason, detail, reporter).await
    }

    /// Any project's domain; as the code is another one on another domain, an unknown host is an error.
    fn any_domain(&self, host: Option<&str>) -> Result<DomainId, Error> {
        let Some(host) = host else { return Ok(DomainId::OWN) };
        let host = domain::host(host).ok_or(Error::DomainNotFound)?;
        let known = self.0.domains.of_header(Some(host.as_bytes()));
        known.map(|domain| domain.id).ok_or(Error::DomainNotFound)
    }

    /// Reports of a state after a place in the list, for moderators.
    pub async fn reports(&self, state: ReportState, after: &str, limit: u32) -> Result<Vec<Report>, Error> {
        Ok(store::list_reports(&self.0.db, state, after, limit).await?)
    }

    /// Takedowns of a standing after a place in the list, for moderators.
    pub async fn takedowns(
        &self,
        standing: Standing,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<TakedownRecord>, Error> {
        Ok(store::list_takedowns(&self.0.db, standing, after, limit).await?)
    }

    /// Dismisses an open report, with `all` every open one of its link; gives how many.
    pub async fn dismiss_report(
        &self,
        principal: &Principal,
        id: ReportId,
        note: &str,
        all: bool,
    ) -> Result<u64, Error> {
        let this = &*self.0;
        let verdict = Verdict {
            state: ReportState::Dismissed,
            at: this.clock.now(),
            by: principal.name.to_string(),
            note: words(note, "/note", false)?,
        };
        this.db
            .tx({
                let (access, principal) = (this.access.clone(), principal.clone());
                async move |tx: &mut database::Tx<'_>| {
                    let link = store::link_of_report(tx, id).await?.ok_or(Error::ReportUnknown)?;
                    // The link first, then its reports: the same order as a takedown.
                    let link = store::lock_link_by_id(tx, link).await?.ok_or(Error::ReportUnknown)?;
                    if store::report_state(tx, id).await? != Some(ReportState::Open) {
                        return Err(Error::ReportDecided);
                    }
                    let count = store::decide_reports(tx, link.id, (!all).then_some(id), &verdict).await?;
                    let detail = json!({ "report": id, "count": count, "note": verdict.note });
                    let of_link = Principal { project: link.project.clone(), ..principal.clone() };
                    access.audit(tx, &of_link, "shortener.report.dismiss", link.code.as_str(), &detail).await?;
                    Ok(count)
                }
            })
            .await
    }

    /// Takes a link of any project down; its open reports are upheld.
    pub async fn take_down(
        &self,
        principal: &Principal,
        at: LinkPlace<'_>,
        kind: Takedown,
        reason: &str,
    ) -> Result<Link, Error> {
        let case = Case { act: Act::TakeDown, kind, words: words(reason, "/reason", true)? };
        self.decide(principal, at, case).await
    }

    /// Brings a link back.
    pub async fn restore(&self, principal: &Principal, at: LinkPlace<'_>, note: &str) -> Result<Link, Error> {
        let case = Case { act: Act::Restore, kind: Takedown::Abuse, words: words(note, "/note", false)? };
        self.decide(principal, at, case).await
    }

    /// Grants or rejects an appeal.
    pub async fn decide_appeal(
        &self,
        principal: &Principal,
        at: LinkPlace<'_>,
        is_granted: bool,
        note: &str,
    ) -> Result<Link, Error> {
        let act = if is_granted { Act::Grant } else { Act::Reject };
        let case = Case { act, kind: Takedown::Abuse, words: words(note, "/note", !is_granted)? };
        self.decide(principal, at, case).await
    }

    /// Appeals against the takedown of a link of the caller's project.
    pub async fn appeal(&self, principal: &Principal, at: LinkPlace<'_>, text: &str) -> Result<Link, Error> {
        let case = Case { act: Act::Appeal, kind: Takedown::Abuse, words: words(text, "/text", true)? };
        self.decide(principal, at, case).await
    }

    /// The last takedown of a link of a project.
    pub async fn takedown_of(&self, project: &ProjectId, at: LinkPlace<'_>) -> Result<TakedownRecord, Error> {
        let link = self.get_on(project, at.host, at.code).await?.link;
        store::last_takedown(&self.0.db, link.id).await?.ok_or(Error::Moderation(Refusal::NotDown))
    }

    async fn decide(&self, principal: &Principal, at: LinkPlace<'_>, case: Case) -> Result<Link, Error> {
        let this = &*self.0;
        let domain = if case.act == Act::Appeal {
            self.domain_id(&principal.project, at.host).await?
        } else {
            self.any_domain(at.host)?
        };
        let code = Code::parse(at.code).ok_or(Error::LinkUnknown)?;
        let link: Link = this
            .db
            .tx({
                let (access, principal, now) = (this.access.clone(), principal.clone(), this.clock.now());
                async move |tx: &mut database::Tx<'_>| {
                    let link = store::lock_any_link(tx, domain, code.as_str()).await?.ok_or(Error::LinkUnknown)?;
                    if case.act == Act::Appeal && link.project != principal.project {
                        return Err(Error::LinkUnknown);
                    }
                    let mut record = store::standing_takedown(tx, link.id).await?;
                    if record.is_none() && matches!(link.state, LinkState::TakenDown(_)) {
                        let (reason, taken) = ("An import brought it taken down.", (now, link.created_by.as_str()));
                        store::insert_takedown(tx, link.id, (link.state, LinkState::Active), reason, taken).await?;
                        record = store::standing_takedown(tx, link.id).await?;
                    }
                    let before = record.as_ref().map_or(Standing::Clear, |record| record.standing);
                    let standing = before.after(case.act).map_err(Error::Moderation)?;
                    let by = principal.name.to_string();
                    let words = Some(case.words.clone()).filter(|words| !words.is_empty());
                    let mut state = link.state;
                    match record {
                        None => {
                            state = case.kind.state();
                            store::insert_takedown(tx, link.id, (state, link.state), &case.words, (now, &by)).await?;
                            let (note, state) = (String::new(), ReportState::Upheld);
                            let verdict = Verdict { state, at: now, by: by.clone(), note };
                            store::decide_reports(tx, link.id, None, &verdict).await?;
                        }
                        Some(mut record) => {
                            record.standing = standing;
                            if case.act == Act::Appeal {
                                (record.appeal, record.appealed_at, record.appealed_by) = (words, Some(now), Some(by));
                            } else {
                                (record.decision, record.decided_at, record.decided_by) = (words, Some(now), Some(by));
                            }
                            if standing == Standing::Clear {
                                state = record.state_before;
                            }
                            store::update_takedown(tx, &record).await?;
                        }
                    }
                    let mut after = Link { state, ..link.clone() };
                    if state != link.state {
                        after.version += 1;
                        after.updated_at = now;
                        let changes = json!({ "state": [link.state.as_str(), state.as_str()] }).to_string();
                        store::update_link(tx, &link, &after, "moderator", &changes).await?;
                    }
                    let mut detail = json!({ "words": case.words, "url": link.url });
                    if case.act == Act::TakeDown {
                        detail["kind"] = json!(state.as_str());
                    }
                    if let Some(host) = &link.host {
                        detail["domain"] = json!(host);
                    }
                    let of_link = Principal { project: link.project.clone(), ..principal.clone() };
                    access.audit(tx, &of_link, case.act.action(), link.code.as_str(), &detail).await?;
                    Ok(after)
                }
            })
            .await?;
        self.changed(&link).await;
        Ok(link)
    }

    /// Entries of the block list that moderators keep, after an id.
    pub async fn blocks(&self, after: &str, limit: u32) -> Result<Vec<LinkBlock>, Error> {
        Ok(store::blocks_after(&self.0.db, after, limit).await?)
    }

    /// Blocks a destination on every node. Links that lead there show a page from then on.
    pub async fn add_block(&self, principal: &Principal, entry: &str, reason: &str) -> Result<LinkBlock, Error> {
        let this = &*self.0;
        let entry = Entry::parse(entry).map_err(|why| Error::Field(Invalid::new("/entry", why)))?;
        let block = LinkBlock {
            id: BlockId::new(&this.clock, &this.rng),
            entry: entry.show(),
            reason: words(reason, "/reason", false)?,
            created_at: this.clock.now(),
            created_by: principal.name.to_string(),
        };
        this.db
            .tx({
                let (access, principal, block) = (this.access.clone(), principal.clone(), block.clone());
                async move |tx: &mut database::Tx<'_>| {
                    if store::are_blocks_full(tx, MAX_MANAGED).await? {
                        return Err(Error::BlocksFull);
                    }
                    if !store::insert_block(tx, &block).await? {
                        return Err(Error::BlockExists);
                    }
                    let detail = json!({ "id": block.id, "reason": block.reason });
                    access.audit(tx, &principal, "shortener.block.add", &block.entry, &detail).await?;
                    Ok(())
                }
            })
            .await?;
        self.blocks_changed().await;
        Ok(block)
    }

    /// Takes an entry away.
    pub async fn remove_block(&self, principal: &Principal, id: BlockId) -> Result<(), Error> {
        let this = &*self.0;
        this.db
            .tx({
                let (access, principal) = (this.access.clone(), principal.clone());
                async move |tx: &mut database::Tx<'_>| {
                    let block = store::delete_block(tx, id).await?.ok_or(Error::BlockUnknown)?;
                    let detail = json!({ "id": id, "reason": block.reason });
                    access.audit(tx, &principal, "shortener.block.remove", &block.entry, &detail).await?;
                    Ok::<_, Error>(())
                }
            })
            .await?;
        self.blocks_changed().await;
        Ok(())
    }

    async fn blocks_changed(&self) {
        self.refresh_block_lists().await;
        self.0.invalidations.tell_blocks().await;
    }

    /// Deletes some of the reports that were decided half a year ago.
    pub(crate) async fn expire_reports(&self) -> Result<(), Problem> {
        const STEP: u32 = 1000;
        store::expire_reports(&self.0.db, self.now().minus(REPORTS_KEPT), STEP).await?;
        Ok(())
    }
}
