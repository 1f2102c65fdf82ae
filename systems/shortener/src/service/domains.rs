//! Domains of projects: which host is whose, kept in memory by every node.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use database::Db;
use identity::Principal;
use kernel::{Clock, Problem, ProjectId, Shutdown};
use tokio::sync::Notify;

use super::Shortener;
use crate::{
    error::Error,
    model::{Domain, DomainId, domain},
    store,
};

/// How many domains are read by one statement.
const PAGE: u32 = 1000;
/// The most domains of an installation that are held in memory; those beyond are not served.
const MAX_DOMAINS: usize = 100_000;

/// Which host is which domain. Read by every redirect without a lock.
#[derive(Debug)]
pub(crate) struct Domains {
    by_host: ArcSwap<HashMap<Box<str>, Arc<Domain>>>,
    /// The host of the installation's own short URLs.
    own_host: Option<String>,
    stale: Notify,
}

impl Domains {
    pub(crate) fn new(public_url: &str) -> Self {
        let own_host = url::Url::parse(public_url).ok().and_then(|url| url.host_str().map(str::to_owned));
        Self { by_host: ArcSwap::default(), own_host, stale: Notify::new() }
    }

    /// The domain that a `Host` header names; `None` is the installation's own.
    pub(crate) fn of_header(&self, header: Option<&[u8]>) -> Option<Arc<Domain>> {
        let by_host = self.by_host.load();
        if by_host.is_empty() {
            return None;
        }
        let host = std::str::from_utf8(header?).ok()?;
        let host =
            host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(h, _)| h);
        by_host.get(host.trim_end_matches('.').to_ascii_lowercase().as_str()).cloned()
    }

    /// The host of the installation's own short URLs; empty where it cannot be told.
    pub(crate) fn own_host(&self) -> &str {
        self.own_host.as_deref().unwrap_or_default()
    }

    /// Whether a host is the installation's own or one of its domains: a link that leads there leads back here.
    pub(crate) fn is_ours(&self, host: &str) -> bool {
        self.own_host.as_deref() == Some(host) || self.by_host.load().contains_key(host)
    }

    /// Whether a host is the installation's own.
    pub(crate) fn is_own(&self, host: &str) -> bool {
        self.own_host.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(host))
    }

    /// Has them read again soon.
    pub(crate) fn read_anew(&self) {
        self.stale.notify_one();
    }

    /// Reads them all.
    pub(crate) async fn load(&self, db: &Db) -> Result<(), Problem> {
        let mut by_host = HashMap::new();
        let mut last = DomainId::OWN;
        loop {
            let page = store::domains_after(db, last, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            for domain in page {
                last = domain.id;
                by_host.insert(domain.host.as_str().into(), Arc::new(domain));
            }
            if is_last {
                break;
            }
            if by_host.len() >= MAX_DOMAINS {
                tracing::warn!(
                    MAX_DOMAINS,
                    "there are more domains than are held in memory; the newest are not served"
                );
                break;
            }
        }
        self.by_host.store(Arc::new(by_host));
        Ok(())
    }

    /// Keeps them true until shutdown: when told, and every `max_age` in case that the telling was lost.
    pub(crate) async fn keep(&self, db: &Db, clock: &Clock, max_age: Duration, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = self.stale.notified() => {}
                () = clock.sleep(max_age) => {}
                () = shutdown.wait() => return,
            }
            if let Err(problem) = self.load(db).await {
                tracing::warn!(%problem, "the domains could not be read; those known stay");
            }
        }
    }
}

/// A domain to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDomain {
    /// The host name as it was given.
    pub host: String,
    /// Whether codes that differ in case are different.
    pub is_case_sensitive: bool,
    /// Where `/` leads.
    pub root_url: Option<String>,
    /// Where unknown codes lead.
    pub unknown_url: Option<String>,
}

/// What is to be changed about a domain; `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainChange {
    /// Where `/` leads; `Some(None)` for the page.
    pub root_url: Option<Option<String>>,
    /// Where unknown codes lead; `Some(None)` for the page.
    pub unknown_url: Option<Option<String>>,
}

impl Shortener {
    /// Adds a host to the project. Whoever controls its DNS decides whether visitors arrive; here one project has it.
    pub async fn add_domain(&self, principal: &Principal, new: NewDomain) -> Result<Domain, Error> {
        let this = &*self.0;
        let host = domain::host(&new.host).ok_or(Error::DomainInvalid)?;
        if this.domains.is_ours(&host) {
            return Err(Error::DomainTaken);
        }
        let domain = Domain {
            id: DomainId::OWN,
            host,
            project: principal.project.clone(),
            is_case_sensitive: new.is_case_sensitive,
            root_url: domain::page_url(new.root_url.as_deref(), "/root_url").map_err(Error::Field)?,
            unknown_url: domain::page_url(new.unknown_url.as_deref(), "/unknown_url").map_err(Error::Field)?,
            created_at: this.clock.now(),
            created_by: principal.name.to_string(),
        };
        self.check_page(domain.root_url.as_deref(), "/root_url")?;
        self.check_page(domain.unknown_url.as_deref(), "/unknown_url")?;
        let added: Option<DomainId> = this
            .db
            .tx({
                let (access, principal, domain) = (this.access.clone(), principal.clone(), domain.clone());
                async move |tx: &mut database::Tx<'_>| {
                    let id = store::insert_domain(tx, &domain).await?;
                    if id.is_some() {
                        let detail = serde_json::json!({ "is_case_sensitive": domain.is_case_sensitive });
                        access.audit(tx, &principal, "shortener.domain.add", &domain.host, &detail).await?;
                    }
                    Ok::<_, database::Error>(id)
                }
            })
            .await
            .map_err(Problem::from)?;
        let id = added.ok_or(Error::DomainTaken)?;
        self.domains_changed().await?;
        Ok(Domain { id, ..domain })
    }

    /// Domains of a project by host.
    pub async fn domains(&self, project: &ProjectId, after: &str, limit: u32) -> Result<Vec<Domain>, Error> {
        Ok(store::project_domains(&self.0.db, project, after, limit).await.map_err(Problem::from)?)
    }

    /// A domain of a project.
    pub async fn domain(&self, project: &ProjectId, host: &str) -> Result<Domain, Error> {
        let host = domain::host(host).ok_or(Error::DomainNotFound)?;
        store::project_domain(&self.0.db, project, &host).await.map_err(Problem::from)?.ok_or(Error::DomainNotFound)
    }

    /// Changes where a domain's `/` and unknown codes lead.
    pub async fn change_domain(
        &self,
        principal: &Principal,
        host: &str,
        change: DomainChange,
    ) -> Result<Domain, Error> {
        let this = &*self.0;
        let host = domain::host(host).ok_or(Error::DomainNotFound)?;
        let page = |url: Option<Option<String>>, field| {
            url.map(|url| domain::page_url(url.as_deref(), field)).transpose().map_err(Error::Field)
        };
        let (root, unknown) = (page(change.root_url, "/root_url")?, page(change.unknown_url, "/unknown_url")?);
        self.check_page(root.as_ref().and_then(Option::as_deref), "/root_url")?;
        self.check_page(unknown.as_ref().and_then(Option::as_deref), "/unknown_url")?;
        let changed: Option<Domain> = this
            .db
            .tx({
                let (access, principal) = (this.access.clone(), principal.clone());
                async move |tx: &mut database::Tx<'_>| {
                    let Some(mut domain) = store::lock_domain(tx, &principal.project, &host).await? else {
                        return Ok(None);
                    };
                    if let Some(url) = &root {
                        domain.root_url.clone_from(url);
                    }
                    if let Some(url) = &unknown {
                        domain.unknown_url.clone_from(url);
                    }
                    store::update_domain(tx, &domain).await?;
                    let detail = serde_json::json!({ "root_url": domain.root_url, "unknown_url": domain.unknown_url });
                    access.audit(tx, &principal, "shortener.domain.change", &domain.host, &detail).await?;
                    Ok::<_, database::Error>(Some(domain))
                }
            })
            .await
            .map_err(Problem::from)?;
        let domain = changed.ok_or(Error::DomainNotFound)?;
        self.domains_changed().await?;
        Ok(domain)
    }

    /// Removes a domain that has no links.
    pub async fn remove_domain(&self, principal: &Principal, host: &str) -> Result<(), Error> {
        let this = &*self.0;
        let host = domain::host(host).ok_or(Error::DomainNotFound)?;
        let removed: Option<bool> = this
            .db
            .tx({
                let (access, principal, now) = (this.access.clone(), principal.clone(), this.clock.now());
                async move |tx: &mut database::Tx<'_>| {
                    let Some(domain) = store::lock_domain(tx, &principal.project, &host).await? else {
                        return Ok(None);
                    };
                    let is_gone = store::delete_domain(tx, domain.id, now).await?;
                    if is_gone {
                        let detail = serde_json::json!({});
                        access.audit(tx, &principal, "shortener.domain.remove", &domain.host, &detail).await?;
                    }
                    Ok::<_, database::Error>(Some(is_gone))
                }
            })
            .await
            .map_err(Problem::from)?;
        if !removed.ok_or(Error::DomainNotFound)? {
            return Err(Error::DomainInUse);
        }
        self.domains_changed().await
    }

    /// Where a project's request means a link: on the installation's own domain without a host.
    pub(crate) async fn domain_id(&self, project: &ProjectId, host: Option<&str>) -> Result<DomainId, Error> {
        match host {
            None => Ok(DomainId::OWN),
            Some(host) => Ok(self.link_domain(project, host).await?.id),
        }
    }

    /// The domain that a request about a link names.
    pub(crate) async fn link_domain(&self, project: &ProjectId, host: &str) -> Result<Domain, Error> {
        self.domain(project, host).await.map_err(|e| match e {
            Error::DomainNotFound => Error::DomainUnknown,
            e => e,
        })
    }

    async fn domains_changed(&self) -> Result<(), Error> {
        self.0.domains.load(&self.0.db).await?;
        self.0.invalidations.tell_domains().await;
        Ok(())
    }
}
