//! Who follows links: panels by referrer, browser, system, device, country and language, and visitors by day.

use console::{Chrome, Markup, charts::Breakdown, html};
use kernel::Problem;

use super::chart;
use crate::{
    error::Error,
    model::{Dimension, LinkId},
    service::{Analytics, Shortener},
    store::Subject,
};

/// The most values that a panel shows.
const VALUES: usize = 8;

/// The panels of one link, over the days of the page's range.
pub(super) async fn of_link(chrome: &Chrome, shortener: &Shortener, link: LinkId) -> Result<Markup, Problem> {
    let days = chart::days(chrome.range, shortener.now()).map_err(Error::Range)?;
    let mut panels = Vec::new();
    for dimension in Dimension::ALL {
        panels.push(shortener.analytics_of(Subject::Link(link), (days.from, days.to), dimension, VALUES).await?);
    }
    let visitors = shortener.visitors_of(link, days).await?;
    Ok(html! {
        @if days.point_count() > 1 { (chart::visitors(&days, &visitors)) }
        div.columns { @for panel in &panels { div { (draw(panel)) } } }
    })
}

fn draw(analytics: &Analytics) -> Breakdown {
    let (title, silent) = words(analytics.dimension);
    let mut panel = Breakdown::new(title, analytics.total.people).nothing("No clicks in these days.");
    for value in &analytics.values {
        let name = value.value.as_deref().map_or_else(|| silent.to_owned(), |value| name(analytics.dimension, value));
        panel = panel.row(name, value.clicks);
    }
    panel.rest("All the rest", analytics.other)
}

/// The title of a panel, and what clicks are called that did not say.
const fn words(dimension: Dimension) -> (&'static str, &'static str) {
    match dimension {
        Dimension::Referrer => ("Referrers", "Direct, or not said"),
        Dimension::Browser => ("Browsers", "Other"),
        Dimension::System => ("Systems", "Other"),
        Dimension::Device => ("Devices", "Other"),
        Dimension::Country => ("Countries", "Not known"),
        Dimension::Language => ("Languages", "Not said"),
    }
}

/// A value as people write it.
fn name(dimension: Dimension, value: &str) -> String {
    let known = match (dimension, value) {
        (Dimension::System, "ios") => "iOS",
        (Dimension::System, "ipados") => "iPadOS",
        (Dimension::System, "macos") => "macOS",
        (Dimension::System, "chromeos") => "ChromeOS",
        (Dimension::Device, "tv") => "TV",
        (Dimension::Browser | Dimension::System | Dimension::Device, value) => {
            let mut chars = value.chars();
            let first = chars.next().map(|c| c.to_ascii_uppercase());
            return first.into_iter().chain(chars).map(|c| if c == '_' { ' ' } else { c }).collect();
        }
        (_, value) => value,
    };
    known.to_owned()
}
