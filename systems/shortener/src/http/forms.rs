//! Forms that the pages of short URLs send: passwords, and visits that are counted one by one.

use std::time::Duration;

use bytes::Bytes;
use url::form_urlencoded;

use super::{
    pages::{Page, Refusal},
    redirect::{Answer, Redirector, Visit, Wanted},
};
use crate::service::{Gate, PasswordCheck, Target};

/// The most fields of a form that are looked at.
const MAX_FIELDS: usize = 20;

impl Redirector {
    /// Answers a form that a page of a short URL sent: at most [`super::redirect::MAX_FORM_BYTES`], see
    /// [`Redirector::refuse_form`].
    pub async fn submit(&self, visit: &Visit<'_>, form: Bytes) -> Answer {
        let Wanted::Link(code) = Wanted::of(visit.path) else { return self.no_form(visit) };
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
