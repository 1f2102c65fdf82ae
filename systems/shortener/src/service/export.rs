//! Links on their way out.
//!
//! - EXPORTS-1: every link that fits, and is there from the beginning to the end of an export, is in it once, as it was when its page
//!   was read: pages follow one another by what never changes of a link. Memory holds one page.

use bytes::Bytes;
use futures_util::Stream;
use kernel::{Problem, ProjectId};

use super::{LinkPage, Shortener};
use crate::{
    error::Error,
    model::{
        LinkState, LinkWithClicks,
        transfer::{Format, HIDDEN, Row, Writer},
    },
    store::ListFilter,
};

/// Links read at once.
const PAGE: u32 = 500;

impl Shortener {
    /// The links of a project that fit, in one of our own formats; what is kept of passwords is in it only `with_passwords`. A failure after the first page ends the stream with an error.
    pub async fn export(
        &self,
        project: &ProjectId,
        filter: ListFilter,
        format: Format,
        with_passwords: bool,
    ) -> Result<impl Stream<Item = Result<Bytes, Problem>> + Send + use<>, Error> {
        let mut page = self.list(project, &filter, None, PAGE).await?;
        let (shortener, project) = (self.clone(), project.clone());
        Ok(async_stream::try_stream! {
            let mut writer = Writer::new(format);
            loop {
                let LinkPage { links, next_cursor } = page;
                for link in links {
                    writer.write(&row(link, with_passwords));
                }
                let written = writer.take();
                if !written.is_empty() {
                    yield Bytes::from(written);
                }
                let Some(cursor) = next_cursor else { break };
                page = shortener.list(&project, &filter, Some(&cursor), PAGE).await?;
            }
        })
    }
}

fn row(link: LinkWithClicks, with_passwords: bool) -> Row {
    let LinkWithClicks { link, total, last_click_at, uses } = link;
    Row {
        code: Some(link.code.to_string()),
        domain: link.host,
        is_alias: Some(link.is_alias),
        url: link.url,
        title: link.title,
        tags: link.tags,
        notes: link.notes,
        created_at: Some(link.created_at),
        starts_at: link.starts_at,
        expires_at: link.expires_at,
        max_clicks: link.max_clicks,
        used_clicks: link.max_clicks.map(|_| uses),
        state: (link.state != LinkState::Active).then(|| link.state.as_str().to_owned()),
        redirect: link.settings.redirect,
        forward_query: link.settings.forward_query,
        utm: link.settings.utm,
        password_hash: link.settings.password.map(|hash| if with_passwords { hash.into() } else { HIDDEN.to_owned() }),
        rules: link.settings.rules,
        split: link.settings.split,
        click_count: total.people,
        bot_count: total.bots,
        last_click_at,
    }
}
