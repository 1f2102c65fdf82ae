//! Making, reading, changing and deleting links.

use identity::Principal;
use kernel::{Problem, ProjectId, Timestamp};

use super::Shortener;
use crate::{
    error::Error,
    model::{Alias, Destination, Link, LinkId, LinkWithClicks, looks_like_code},
    store::{self, Deleted, Inserted},
};

/// How many ids are tried when the codes of some are taken by aliases.
const CODE_ATTEMPTS: u32 = 16;

/// A link to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewLink {
    /// The destination as it was given.
    pub url: String,
    /// The wanted code; a generated one when `None`.
    pub alias: Option<String>,
    /// From when on it answers 410.
    pub expires_at: Option<Timestamp>,
    /// Names this creation inside its project: the same one again gives the link that the first one made.
    pub token: Option<String>,
}

/// What a creation gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The link.
    pub link: Link,
    /// Whether this call made it; `false` when an earlier one with the same token did.
    pub is_new: bool,
}

/// One page of links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPage {
    /// In the order of the list.
    pub links: Vec<LinkWithClicks>,
    /// Where the next page starts; `None` on the last one.
    pub next_cursor: Option<String>,
}

impl Shortener {
    /// Makes a link: under its alias, or under the code of a fresh id. Committed when this returns.
    pub async fn create(&self, principal: &Principal, new: NewLink) -> Result<Created, Error> {
        let this = &*self.0;
        let now = this.clock.now();
        let url = Destination::parse(&new.url).map_err(Error::InvalidUrl)?.into_string();
        let alias = new
            .alias
            .as_deref()
            .map(|alias| Alias::parse(alias, &this.config.reserved_words))
            .transpose()
            .map_err(Error::Alias)?
            .map(Alias::into_code);
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(Error::ExpiryInvalid);
        }
        if let Err(e) = this.limit.take(&principal.project).await {
            this.telemetry.links_limited.inc();
            return Err(e);
        }
        for _ in 0..CODE_ATTEMPTS {
            let id = this.blocks.take().await.map_err(Problem::from)?;
            let code = match &alias {
                Some(alias) => alias.clone(),
                None => this.codes.encode(id).ok_or(Error::CodesExhausted)?,
            };
            let link = Link {
                id: LinkId(id),
                project: principal.project.clone(),
                code,
                is_alias: alias.is_some(),
                url: url.clone(),
                created_at: now,
                created_by: principal.name.to_string(),
                expires_at: new.expires_at,
                version: 1,
            };
            let inserted: Inserted = this
                .db
                .tx({
                    let (link, token) = (link.clone(), new.token.clone());
                    async move |tx: &mut database::Tx<'_>| store::insert_link(tx, &link, token.as_deref()).await
                })
                .await
                .map_err(Problem::from)?;
            match inserted {
                Inserted::New => {
                    this.telemetry.links_created.inc();
                    // Somebody may have asked for it before it was there.
                    this.forget(&link.code);
                    if link.is_alias {
                        // A generated code cannot have been asked for; an alias may be known as unknown elsewhere.
                        this.invalidations.tell_others(&link.code).await;
                    }
                    return Ok(Created { link, is_new: true });
                }
                Inserted::Before(link) => return Ok(Created { link: *link, is_new: false }),
                Inserted::CodeTaken if alias.is_some() => return Err(Error::AliasTaken),
                // An alias looks like this code: the next id has another.
                Inserted::CodeTaken => {}
            }
        }
        Err(Error::CodesExhausted)
    }

    /// A link of a project, the expired ones included.
    pub async fn get(&self, project: &ProjectId, code: &str) -> Result<LinkWithClicks, Error> {
        if !looks_like_code(code) {
            return Err(Error::LinkUnknown);
        }
        store::project_link(&self.0.db, project, code).await.map_err(Problem::from)?.ok_or(Error::LinkUnknown)
    }

    /// Links of a project, newest first; with `prefix`, those whose code starts with it, by code.
    pub async fn list(
        &self,
        project: &ProjectId,
        prefix: Option<&str>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<LinkPage, Error> {
        let this = &*self.0;
        // The scope holds the project and the filter, so a cursor opens only the list that gave it.
        let scope = format!("links\n{project}\n{}", prefix.unwrap_or("\n"));
        let position = cursor
            .map(|c| this.cursors.open(&scope, c).map_err(|p| p.field("?cursor", "not from this list")))
            .transpose()?;
        let mut links = match prefix {
            // Nothing that is no code can start one; the empty prefix is every link by code.
            Some(prefix) if !prefix.is_empty() && !looks_like_code(prefix) => Vec::new(),
            Some(prefix) => {
                let after = position.and_then(|bytes| String::from_utf8(bytes).ok());
                store::links_by_prefix(&this.db, project, prefix, after.as_deref(), limit + 1)
                    .await
                    .map_err(Problem::from)?
            }
            None => {
                let after = position.as_deref().and_then(read_position);
                store::newest_links(&this.db, project, after, limit + 1).await.map_err(Problem::from)?
            }
        };
        let has_more = links.len() > limit as usize;
        links.truncate(limit as usize);
        let next_cursor = links.last().filter(|_| has_more).map(|last| {
            let position = match prefix {
                Some(_) => last.link.code.as_str().as_bytes().to_vec(),
                None => write_position(&last.link),
            };
            this.cursors.seal(&scope, &position)
        });
        Ok(LinkPage { links, next_cursor })
    }

    /// Deletes a link, with an entry in the audit log in the same transaction. With `version`, only when it still is at that
    /// version. Its code is never given again.
    pub async fn delete(&self, principal: &Principal, code: &str, version: Option<i64>) -> Result<(), Error> {
        if !looks_like_code(code) {
            return Err(Error::LinkUnknown);
        }
        let this = &*self.0;
        let deleted: Deleted = this
            .db
            .tx({
                let (access, principal, code, now) =
                    (this.access.clone(), principal.clone(), code.to_owned(), this.clock.now());
                async move |tx: &mut database::Tx<'_>| {
                    let deleted = store::delete_link(tx, &principal.project, &code, version, now).await?;
                    if let Deleted::Done(link) = &deleted {
                        let detail = serde_json::json!({ "url": link.url });
                        access.audit(tx, &principal, "shortener.link.delete", &code, &detail).await?;
                    }
                    Ok::<_, database::Error>(deleted)
                }
            })
            .await
            .map_err(Problem::from)?;
        match deleted {
            Deleted::Done(link) => {
                this.telemetry.links_deleted.inc();
                this.forget(&link.code);
                this.invalidations.tell_others(&link.code).await;
                Ok(())
            }
            Deleted::Unknown => Err(Error::LinkUnknown),
            Deleted::Changed => Err(Error::LinkChanged),
        }
    }
}

fn write_position(link: &Link) -> Vec<u8> {
    [link.created_at.as_millis().to_be_bytes(), link.id.0.to_be_bytes()].concat()
}

fn read_position(bytes: &[u8]) -> Option<(Timestamp, LinkId)> {
    let (at, id) = bytes.split_at_checked(8)?;
    Some((
        Timestamp::from_millis(i64::from_be_bytes(at.try_into().ok()?)),
        LinkId(u64::from_be_bytes(id.try_into().ok()?)),
    ))
}
