//! Shlink's short URLs as its REST API lists them (`GET /rest/v3/short-urls`, <https://api-spec.shlink.io/>).

use serde::Deserialize;

use super::{
    Row, code_of_short_url, foreign_title,
    json::{self, Step},
    time,
};

/// An answer as it came, or the list inside of it. Pages may follow one another in one file.
pub(super) const PATHS: &[&[Step]] = &[&[Step::Key("shortUrls"), Step::Key("data"), Step::Element], &[Step::Element]];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    short_code: Option<String>,
    short_url: Option<String>,
    long_url: String,
    date_created: Option<String>,
    visits_summary: Option<Visits>,
    /// Before version 3.
    visits_count: Option<u64>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    meta: Option<Meta>,
    domain: Option<String>,
    title: Option<String>,
    forward_query: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Visits {
    total: u64,
    #[serde(default)]
    bots: u64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    valid_since: Option<String>,
    valid_until: Option<String>,
    max_visits: Option<u64>,
}

pub(super) fn row(record: &[u8]) -> Result<Row, String> {
    let given: Listed = serde_json::from_slice(record).map_err(|e| json::explain(&e))?;
    let named = |name: &'static str| move |why: String| format!("{name}: {why}");
    let meta = given.meta.unwrap_or_default();
    let visits = given.visits_summary.unwrap_or(Visits { total: given.visits_count.unwrap_or(0), bots: 0 });
    Ok(Row {
        code: Some(
            given.short_code.or_else(|| code_of_short_url(given.short_url.as_deref()?)).ok_or("shortCode: missing")?,
        ),
        domain: given.domain,
        url: given.long_url,
        title: foreign_title(&given.title.unwrap_or_default()),
        tags: given.tags,
        created_at: given.date_created.as_deref().map(time).transpose().map_err(named("dateCreated"))?,
        starts_at: meta.valid_since.as_deref().map(time).transpose().map_err(named("meta.validSince"))?,
        expires_at: meta.valid_until.as_deref().map(time).transpose().map_err(named("meta.validUntil"))?,
        max_clicks: meta.max_visits,
        // Shlink hands the query on unless a link says otherwise.
        forward_query: given.forward_query.unwrap_or(true),
        click_count: visits.total.saturating_sub(visits.bots),
        bot_count: visits.bots.min(visits.total),
        ..Row::default()
    })
}
