//! Forms that the pages of short URLs send: passwords, visits that are counted one by one, and reports.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use url::form_urlencoded;

use super::{
    pages::{Page, Refusal},
    redirect::{Answer, Place, Redirector, Visit, Wanted},
};
use crate::{
    error::Error,
    model::moderation::ReportReason,
    service::{Gate, PasswordCheck, Reporter, Target},
};

/// The most fields of a form that are looked at.
const MAX_FIELDS: usize = 20;

impl Redirector {
    /// Answers a form that a page of a short URL sent: at most [`super::redirect::MAX_FORM_BYTES`], see
    /// [`Redirector::refuse_form`].
    pub async fn submit(&self, visit: &Visit<'_>, form: Bytes) -> Answer {
        let wanted = Wanted::of(visit.path);
        let (Wanted::Link(code) | Wanted::Preview(code)) = wanted else { return self.no_form(visit) };
        let place = self.place(visit, code);
        let target = match self.look_up(&place, code).await {
            Ok(Some(target)) => target,
            Ok(None) => return self.unknown(visit, &place),
            Err(problem) => return self.unavailable(visit, &problem),
        };
        let gate = target.gate(self.shortener.now());
        if let Some(page) = self.closed(gate) {
            return page.answer(visit.method);
        }
        if matches!(wanted, Wanted::Preview(_)) {
            return self.report(visit, &place, code, &form).await;
        }
        match gate {
            Gate::Password => self.enter(visit, &target, &form).await,
            Gate::Counted => self.follow_counted(visit, &target, true).await,
            _ => self.no_form(visit),
        }
    }

    fn no_form(&self, visit: &Visit<'_>) -> Answer {
        self.shortener.telemetry().refused.inc();
        self.pages.method.answer(visit.method)
    }

    async fn report(&self, visit: &Visit<'_>, place: &Place, code: &str, form: &[u8]) -> Answer {
        let Some(reason) = field(form, "reason").and_then(|reason| ReportReason::parse(&reason)) else {
            let words = "It lacks what is wrong with the link. Go back and choose it.";
            return Page::unreported(StatusCode::UNPROCESSABLE_ENTITY, words, None).answer(visit.method);
        };
        let detail = field(form, "detail").unwrap_or_default();
        let mut outcome = Err(Error::LinkUnknown);
        for code in place.spellings(code) {
            let reporter = Reporter::Visitor(visit.client);
            outcome = self.shortener.report(place.id(), code, reason, &detail, reporter).await;
            if !matches!(outcome, Err(Error::LinkUnknown)) {
                break;
            }
        }
        let page = match outcome {
            Ok(()) => return self.pages.reported.answer(visit.method),
            Err(Error::LinkUnknown) => return self.unknown(visit, place),
            Err(Error::ReportsLimited { retry_after }) => Page::unreported(
                StatusCode::TOO_MANY_REQUESTS,
                "There were many reports from you, or of this link. Please come again later.",
                Some(seconds(retry_after)),
            ),
            Err(Error::Field(invalid)) => Page::unreported(
                StatusCode::UNPROCESSABLE_ENTITY,
                &format!("What you wrote cannot be taken: {}. Go back and change it.", invalid.detail),
                None,
            ),
            Err(error) => return self.unavailable(visit, &error.into()),
        };
        page.answer(visit.method)
    }

    async fn enter(&self, visit: &Visit<'_>, target: &Target, form: &[u8]) -> Answer {
        let telemetry = self.shortener.telemetry();
        let password = field(form, "password").unwrap_or_default();
        let refusal = match self.shortener.check_password(target, visit.client, password).await {
            PasswordCheck::Right if target.is_counted() => return self.follow_counted(visit, target, true).await,
            PasswordCheck::Right => return self.follow_form(visit, target),
            PasswordCheck::Wrong => Refusal::Wrong,
            PasswordCheck::Wait(time) => Refusal::Wait(seconds(time)),
            PasswordCheck::Busy => Refusal::Busy,
        };
        telemetry.denied.inc();
        Page::password(Some(refusal)).answer(visit.method)
    }
}

/// A field of a form (WHATWG URL, section 5); the first of that name.
fn field(form: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(form).take(MAX_FIELDS).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Whole seconds, so many that the time is over after them.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
