//! The pages that people get from a short URL: one look, light and dark, from 360 pixels on, without scripts.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LINK, REFERRER_POLICY,
        RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::Full;
use kernel::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::redirect::Answer;
use crate::{
    config::Robots,
    model::moderation::{MAX_WORDS_CHARS, ReportReason},
};

/// What search engines are told about a single answer.
pub(super) const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");

const STYLE: &str = include_str!("pages.css");

/// Why a password was not looked at, or did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is another one.
    Wrong,
    /// Too many wrong ones came; seconds until the next is looked at.
    Wait(u64),
    /// Others are being looked at.
    Busy,
}

/// What a preview shows.
#[derive(Debug)]
pub(super) struct Preview<'a> {
    /// The short URL.
    pub(super) short_url: &'a str,
    /// The path that follows it.
    pub(super) path: &'a str,
    /// The link's name; may be empty.
    pub(super) title: &'a str,
    /// When it was made.
    pub(super) created_at: Timestamp,
    /// Where it leads; `None` when it is not to be told before it is followed.
    pub(super) destination: Option<&'a str>,
    /// Whether others may be led elsewhere.
    pub(super) is_for_some: bool,
}

/// The pages that are always the same, made once.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) unknown: Page,
    pub(super) early: Page,
    pub(super) expired: Page,
    pub(super) used_up: Page,
    pub(super) disabled: Page,
    pub(super) abuse: Page,
    pub(super) legal: Page,
    pub(super) root: Page,
    pub(super) robots: Page,
    pub(super) icon: Page,
    pub(super) method: Page,
    pub(super) unavailable: Page,
    pub(super) too_large: Page,
    pub(super) too_slow: Page,
    /// Thanks for a report.
    pub(super) reported: Page,
    /// Asks for a password.
    pub(super) password: Page,
    /// For who does not follow: programs and HEAD on a link of which every visit counts.
    pub(super) counted: Page,
}

/// An answer that is whole and in memory.
#[derive(Debug)]
pub(super) struct Page {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Pages {
    /// `public_url` names who refuses when it is for legal reasons.
    pub(super) fn new(robots: Robots, public_url: &str) -> Self {
        let unavailable = Page::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "This link cannot be looked up right now",
            "It is not lost. Please try again in a moment.",
        );
        let method = Page::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "A short link can only be followed",
            "This address answers GET and HEAD. Links are made through the API.",
        );
        let legal = Page::text(
            StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
            "This link is not available for legal reasons",
            "A legal demand asked for it to be taken down. It leads nowhere.",
        );
        Self {
            unknown: Page::text(
                StatusCode::NOT_FOUND,
                "There is no such link",
                "Look at the address again: capital and small letters differ, and the end may have been cut off.",
            ),
            early: Page::text(
                StatusCode::NOT_FOUND,
                "This link leads nowhere yet",
                "Its time has not come. Please try again later.",
            ),
            expired: Page::text(
                StatusCode::GONE,
                "This link has expired",
                "It was made for a limited time, which is over. Whoever gave it to you may have a new one.",
            ),
            used_up: Page::text(
                StatusCode::GONE,
                "This link has been used up",
                "It was made for a limited number of visits, which is reached. Whoever gave it to you may have a new one.",
            ),
            disabled: Page::text(
                StatusCode::FORBIDDEN,
                "This link is switched off",
                "Whoever made it has switched it off. It leads nowhere.",
            ),
            abuse: Page::text(
                StatusCode::FORBIDDEN,
                "This link was taken down",
                "It was found to lead to something harmful: an attempt to steal passwords or money, harmful software, or spam. \
                 It leads nowhere now. Be careful with the message that it came in.",
            ),
            // RFC 7725, section 4: who refuses.
            legal: legal.with(LINK, &format!("<{public_url}>; rel=\"blocked-by\"")),
            root: Page::text(
                StatusCode::OK,
                "This is a place of short links",
                "Every address here leads to a longer one. Yours lacks what follows the slash: look at it again. \
                 To see where a link leads before you follow it, put a + behind it.",
            ),
            robots: Page::plain(
                StatusCode::OK,
                match robots {
                    // Short URLs may be visited, so that what shows previews of links can; that they are not indexed says the
                    // header, which only who may visit can see.
                    Robots::Index | Robots::Noindex => "User-agent: *\nAllow: /\n",
                    Robots::Disallow => "User-agent: *\nDisallow: /\n",
                },
            ),
            icon: Page::plain(StatusCode::NOT_FOUND, ""),
            method: method.with(ALLOW, "GET, HEAD"),
            unavailable: unavailable.with(RETRY_AFTER, "1"),
            too_large: Page::text(
                StatusCode::PAYLOAD_TOO_LARGE,
                "That was too much",
                "A form of this page holds at most 16 KiB. Go back and send less.",
            ),
            too_slow: Page::text(
                StatusCode::REQUEST_TIMEOUT,
                "That took too long",
                "The form did not arrive in time. Go back and send it again.",
            ),
            reported: Page::text(
                StatusCode::OK,
                "Thank you for the report",
                "The moderators of these short links will look at it.",
            ),
            password: Page::password(None),
            counted: Page::new(
                StatusCode::OK,
                Forms::ToAnywhere,
                "A link for a limited number of visits",
                &html! {
                    p { "It is not followed by programs that only look, so that none of its visits is wasted." }
                    form method="post" { button { "Follow it" } }
                },
            ),
        }
    }
}

fn words_for(reason: ReportReason) -> &'static str {
    match reason {
        ReportReason::Phishing => "It pretends to be somebody else",
        ReportReason::Malware => "It spreads harmful software",
        ReportReason::Spam => "It was sent unasked",
        ReportReason::Illegal => "It leads to something illegal",
        ReportReason::Copyright => "It infringes rights",
        ReportReason::Other => "Something else",
    }
}

/// Where forms of a page may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forms {
    /// There is none.
    None,
    /// To this host.
    Here,
    /// To the destination: a policy binds the redirect that answers a form as well, and naming the destination would tell it.
    ToAnywhere,
}

impl Page {
    fn text(status: StatusCode, title: &str, text: &str) -> Self {
        Self::new(status, Forms::None, title, &html! { p { (text) } })
    }

    /// Asks for the password of a link.
    pub(super) fn password(refusal: Option<Refusal>) -> Self {
        let (status, words) = match refusal {
            None => (StatusCode::OK, None),
            Some(Refusal::Wrong) => (StatusCode::FORBIDDEN, Some("That is not the password.".to_owned())),
            Some(Refusal::Wait(seconds)) => (
                StatusCode::TOO_MANY_REQUESTS,
                Some(format!("There were too many wrong passwords. Please try again in {seconds} s.")),
            ),
            Some(Refusal::Busy) => (
                StatusCode::SERVICE_UNAVAILABLE,
                Some("Too many passwords are being looked at. Please try again in a moment.".to_owned()),
            ),
        };
        // Without an action the form goes to the address that was visited, with its query.
        let content = html! {
            form method="post" {
                label for="password" { "Whoever gave it to you knows the password." }
                input #password type="password" name="password" required autofocus autocomplete="off"
                    aria-invalid[words.is_some()] aria-describedby=[words.as_ref().map(|_| "refusal")];
                @if let Some(words) = &words { p #refusal .refusal role="alert" { (words) } }
                button { "Continue" }
            }
        };
        let page = Self::new(status, Forms::ToAnywhere, "This link asks for a password", &content);
        match refusal {
            Some(Refusal::Wait(seconds)) => page.with(RETRY_AFTER, &seconds.to_string()),
            Some(Refusal::Busy) => page.with(RETRY_AFTER, "1"),
            _ => page,
        }
    }

    /// Shows where a link leads.
    pub(super) fn preview(preview: &Preview<'_>) -> Self {
        let Preview { short_url, path, title, created_at, destination, is_for_some } = *preview;
        let heading = if title.is_empty() { "A short link" } else { title };
        let host = destination.and_then(|to| Some(url::Url::parse(to).ok()?.host_str()?.to_owned()));
        let day = created_at.to_string();
        let day = day.split('T').next().unwrap_or_default();
        let content = html! {
            dl {
                dt { "Short link" }
                dd { (short_url) }
                dt { "Leads to" }
                @match destination {
                    Some(to) => {
                        dd { (to) }
                        @if is_for_some { dd .note { "This is where you are led. Others may be led elsewhere." } }
                    }
                    None => dd .note { "This is not told before the link is followed." }
                }
                dt { "Made on" }
                dd { (day) }
            }
            p {
                a .button href=(path) rel="nofollow noreferrer" {
                    @if let Some(host) = &host { "Continue to " (host) } @else { "Continue" }
                }
            }
            details {
                summary { "Report this link" }
                form method="post" {
                    label for="reason" { "What is wrong with it?" }
                    select #reason name="reason" required {
                        @for reason in ReportReason::ALL { option value=(reason.as_str()) { (words_for(reason)) } }
                    }
                    label for="detail" { "What should the moderators know? You may leave this empty." }
                    textarea #detail name="detail" rows="4" maxlength=(MAX_WORDS_CHARS) {}
                    button { "Send the report" }
                }
            }
        };
        Self::new(StatusCode::OK, Forms::Here, heading, &content)
    }

    /// Says why a report was not taken; with the time after which another is.
    pub(super) fn unreported(status: StatusCode, words: &str, retry_after: Option<u64>) -> Self {
        let page = Self::text(status, "The report was not taken", words);
        match retry_after {
            Some(seconds) => page.with(RETRY_AFTER, &seconds.to_string()),
            None => page,
        }
    }

    fn new(status: StatusCode, forms: Forms, title: &str, content: &Markup) -> Self {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width";
                    meta name="color-scheme" content="light dark";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body { main { h1 { (title) } (content) } }
            }
        };
        let hash = STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes()));
        let action = match forms {
            Forms::None => "; form-action 'none'",
            Forms::Here => "; form-action 'self'",
            Forms::ToAnywhere => "",
        };
        Self::of(status, "text/html; charset=utf-8", page.into_string()).with(
            CONTENT_SECURITY_POLICY,
            &format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'{action}"),
        )
    }

    /// A text that is the same for a day.
    fn plain(status: StatusCode, text: &str) -> Self {
        Self::of(status, "text/plain; charset=utf-8", text.to_owned()).with(CACHE_CONTROL, "public, max-age=86400")
    }

    fn of(status: StatusCode, media_type: &'static str, body: String) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(X_ROBOTS_TAG, HeaderValue::from_static("noindex"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        Self { status, headers, body: body.into() }
    }

    /// With one more header, where its value can be one.
    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// HEAD carries the length of what GET would send.
    pub(super) fn answer(&self, method: &Method) -> Answer {
        let body = if method == Method::HEAD { Bytes::new() } else { self.body.clone() };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        Answer::Page(response)
    }
}
