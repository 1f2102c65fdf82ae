//! What is done to several links that were chosen in the list: asked first, naming how many.

use access::Caller;
use axum::{
    extract::{Extension, State},
    response::Response,
};
use console::{Chrome, Confirm, Flash, Form, Head, Link as Address, Markup, confirmed, html, paths, section};
use http::StatusCode;
use kernel::Problem;

use super::{BULK, PATH, Pages, Pairs, accept, answer, counted, see};
use crate::{
    error::Error,
    model::Link,
    service::{LinkPatch, Shortener},
};

/// The most links that are changed at once.
const MAX_CHOSEN: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Enable,
    Disable,
    Delete,
}

impl Change {
    fn parse(name: &str) -> Option<Self> {
        [Self::Enable, Self::Disable, Self::Delete].into_iter().find(|change| change.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Delete => "delete",
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Enable => "Enable",
            Self::Disable => "Disable",
            Self::Delete => "Delete",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Enable => "enabled: visitors are led on at once",
            Self::Disable => "disabled: visitors read that the link is switched off",
            Self::Delete => "deleted: they answer 404, and their codes are never given again",
        }
    }
}

/// A link in the list of what was chosen: its host, a slash, its code.
pub(super) fn id_of(link: &Link) -> String {
    format!("{}/{}", link.host.as_deref().unwrap_or_default(), link.code)
}

fn read_id(id: &str) -> Option<(Option<&str>, &str)> {
    let (host, code) = id.split_once('/')?;
    Some((Some(host).filter(|host| !host.is_empty()), code))
}

/// Asks what was chosen in the list, or does it when it was asked before.
pub(super) async fn change(
    caller: Caller,
    Extension(mut chrome): Extension<Chrome>,
    State(Pages { shortener, .. }): State<Pages>,
    pairs: Pairs,
) -> Response {
    let next = Address::parse(paths::back(chrome.at().get("next").unwrap_or(PATH)));
    chrome.at = Address::new(PATH);
    let asked = async {
        let sent = accept(&caller, &chrome, pairs.0)?;
        let ids: Vec<String> = sent.all("id").take(MAX_CHOSEN).map(str::to_owned).collect();
        let Some(change) = Change::parse(sent.get("do")).filter(|_| !ids.is_empty()) else {
            return Ok(Outcome::See(next.clone().with("done", "nothing")));
        };
        let is_asked = sent.get("sure") == "yes";
        let is_sure =
            is_asked && (change != Change::Delete || confirmed(sent.get(Confirm::FIELD), &counted(ids.len(), "link")));
        if !is_sure {
            return Ok(Outcome::Ask(question(&chrome, change, &ids, &next, is_asked), is_asked));
        }
        let done = apply(&caller, &shortener, change, &ids).await?;
        let next = next.clone().without("cursor");
        Ok::<_, Problem>(Outcome::See(next.with("done", change.name()).with("count", done).with("of", ids.len())))
    };
    match asked.await {
        Ok(Outcome::See(to)) => see(&to),
        Ok(Outcome::Ask(page, true)) => answer(&chrome, Ok(page), StatusCode::UNPROCESSABLE_ENTITY),
        Ok(Outcome::Ask(page, false)) => answer(&chrome, Ok(page), StatusCode::OK),
        Err(problem) => answer(&chrome, Err(problem), StatusCode::OK),
    }
}

enum Outcome {
    See(Address),
    /// The question, and whether it was answered wrongly before.
    Ask(Markup, bool),
}

fn question(chrome: &Chrome, change: Change, ids: &[String], next: &Address, is_refused: bool) -> Markup {
    let many = counted(ids.len(), "link");
    let action = Address::new(BULK).with("next", next);
    let hidden =
        || [("do", change.name()), ("sure", "yes")].into_iter().chain(ids.iter().map(|id| ("id", id.as_str())));
    let question = if change == Change::Delete {
        let consequence =
            format!("{many} will be deleted: visitors get a 404 at once, and the codes are never given again.");
        let mut confirm = Confirm::new(chrome, action, many.clone(), consequence, format!("Delete {many}"));
        for (name, value) in hidden() {
            confirm = confirm.hidden(name, value);
        }
        if is_refused {
            confirm = confirm.refused();
        }
        let confirm = confirm.cancel(next.clone());
        html! { (confirm) }
    } else {
        let mut form = Form::post(chrome, action).submit(format!("{} {many}", change.verb())).cancel(next.clone());
        for (name, value) in hidden() {
            form = form.hidden(name, value);
        }
        let words = match change {
            Change::Enable => "Visitors will be led to the destinations again.",
            _ => "Visitors will read that the link is switched off, until you enable it again.",
        };
        html! { p { (words) } (form) }
    };
    let list = html! { ul { @for id in ids { li { code { (id.trim_start_matches('/')) } } } } };
    let title = format!("{} {many}?", change.verb());
    let head = Head::new(title, "").crumb("Links", next.clone());
    chrome.page_with(head, html! { (question) (section("Chosen", list)) })
}

/// Does it one by one; gives for how many. Those that are gone or taken down meanwhile are passed over.
async fn apply(caller: &Caller, shortener: &Shortener, change: Change, ids: &[String]) -> Result<usize, Problem> {
    let mut done = 0;
    for (host, code) in ids.iter().filter_map(|id| read_id(id)) {
        let who = caller.principal();
        let patch = |is_disabled| LinkPatch { is_disabled: Some(is_disabled), ..LinkPatch::default() };
        let outcome = match change {
            Change::Enable => shortener.update(who, host, code, None, patch(false)).await.map(drop),
            Change::Disable => shortener.update(who, host, code, None, patch(true)).await.map(drop),
            Change::Delete => shortener.delete(who, host, code, None).await,
        };
        match outcome {
            Ok(()) => done += 1,
            Err(Error::LinkUnknown | Error::LinkTakenDown | Error::DomainUnknown) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(done)
}

/// What was done, as the address of the list says it.
pub(super) fn flash(at: &Address) -> Option<Flash> {
    let done = at.get("done")?;
    let Some(change) = Change::parse(done) else {
        return Some(Flash::warning("Nothing was done: no link was chosen."));
    };
    let number = |name: &str| at.get(name).and_then(|n| n.parse::<usize>().ok()).map(|n| n.min(MAX_CHOSEN));
    let (count, of) = (number("count")?, number("of")?);
    let text = if count == 1 { "1 link is".to_owned() } else { format!("{} are", counted(count, "link")) };
    Some(if count == of {
        Flash::done(format!("{text} {}.", change.done()))
    } else {
        Flash::warning(format!(
            "{text} {}. The others of {of} are gone, or were taken down by a moderator.",
            change.done()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_hold_the_domain() {
        for (id, read) in [
            ("/spring", Some((None, "spring"))),
            ("go.example.com/spring", Some((Some("go.example.com"), "spring"))),
            ("spring", None),
        ] {
            assert_eq!(read_id(id), read);
        }
    }
}
