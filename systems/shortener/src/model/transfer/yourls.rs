//! YOURLS's links as its API lists them (`yourls-api.php?action=stats&format=json`, <https://yourls.org/docs/guide/advanced/api>).

use serde::{Deserialize, Deserializer};

use super::{
    Row, code_of_short_url, foreign_title,
    json::{self, Step},
    time,
};

/// `{"links": {"link_1": {…}, …}}`, or a list of rows of its table.
pub(super) const PATHS: &[&[Step]] = &[&[Step::Key("links"), Step::Member], &[Step::Element]];

#[derive(Deserialize)]
struct Link {
    keyword: Option<String>,
    shorturl: Option<String>,
    url: String,
    title: Option<String>,
    timestamp: Option<String>,
    #[serde(default, deserialize_with = "count")]
    clicks: u64,
}

/// PHP hands numbers of the database on as text.
fn count<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Count {
        Number(u64),
        Text(String),
    }
    match Count::deserialize(d)? {
        Count::Number(n) => Ok(n),
        Count::Text(text) => text.parse().map_err(|_| serde::de::Error::custom("clicks: expected a number")),
    }
}

pub(super) fn row(record: &[u8]) -> Result<Row, String> {
    let given: Link = serde_json::from_slice(record).map_err(|e| json::explain(&e))?;
    Ok(Row {
        code: Some(
            given
                .keyword
                .or_else(|| code_of_short_url(given.shorturl.as_deref()?))
                .ok_or("keyword or shorturl: missing")?,
        ),
        url: given.url,
        title: foreign_title(&given.title.unwrap_or_default()),
        created_at: given.timestamp.as_deref().map(time).transpose().map_err(|why| format!("timestamp: {why}"))?,
        click_count: given.clicks,
        ..Row::default()
    })
}
