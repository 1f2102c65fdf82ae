//! Cursor pagination: `?limit=…&cursor=…` in, `{"items": […], "next_cursor": "…"}` out.
//!
//! A cursor is opaque and signed ([`kernel::CursorKey`]): it holds only for the list that gave it, and a changed one is
//! refused with `INVALID_CURSOR`. Ask the store for [`PageQuery::fetch_count`] rows, one more than the page shows: the extra row
//! tells whether another page follows, without a count.
//!
//! ```
//! # use web::{Page, PageQuery};
//! # let key = kernel::CursorKey::new(&[7; 32]);
//! let query = PageQuery { limit: 2, cursor: None };
//! let scope = "GET /v1/links project=default";
//! assert_eq!(query.position(&key, scope).unwrap(), None);
//! let rows = vec![30_i64, 20, 10]; // fetch_count() = 3 rows
//! let page = Page::new(rows, &query, &key, scope, |last| last.to_be_bytes().to_vec());
//! assert_eq!(page.items, [30, 20]);
//! let next = PageQuery { limit: 2, cursor: page.next_cursor };
//! assert_eq!(next.position(&key, scope).unwrap().unwrap(), 20_i64.to_be_bytes());
//! ```

use kernel::{CursorKey, Problem};
use serde::{Deserialize, Serialize};

/// The largest page.
pub const MAX_LIMIT: u32 = 200;
/// The page when none is asked for.
pub const DEFAULT_LIMIT: u32 = 50;

/// The query parameters of a list. A room with filters of its own repeats the two fields in its query type, with
/// `#[serde(default = "web::page::default_limit", deserialize_with = "web::page::limit")]` on the limit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// How many items at most, 1 to 200.
    #[serde(default = "default_limit", deserialize_with = "limit")]
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    pub limit: u32,
    /// `next_cursor` of the page before; leave it out for the first page.
    #[serde(default)]
    #[param(max_length = 512, required = false, nullable = false)]
    pub cursor: Option<String>,
}

impl Default for PageQuery {
    fn default() -> Self {
        Self { limit: DEFAULT_LIMIT, cursor: None }
    }
}

/// For `#[serde(default = …)]`: 50.
pub fn default_limit() -> u32 {
    DEFAULT_LIMIT
}

/// For `#[serde(deserialize_with = …)]`: a whole number from 1 to 200.
pub fn limit<'de, D: serde::Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    u32::deserialize(d)
        .ok()
        .filter(|n| (1..=MAX_LIMIT).contains(n))
        .ok_or_else(|| serde::de::Error::custom("expected a whole number from 1 to 200"))
}

impl PageQuery {
    /// How many rows to ask the store for: one more than the page shows.
    pub fn fetch_count(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Where the last page ended: the bytes that [`Page::new`] sealed. `None` on the first page.
    pub fn position(&self, key: &CursorKey, scope: &str) -> Result<Option<Vec<u8>>, Problem> {
        match &self.cursor {
            None => Ok(None),
            Some(cursor) => key.open(scope, cursor).map(Some).map_err(|p| p.field("?cursor", "not from this list")),
        }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// Send it as `cursor` for the page that follows; `null` on the last page.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page from up to [`PageQuery::fetch_count`] rows. `position` gives the bytes that name where a row stands in the list:
    /// its sort key, unique with its tie-breaker.
    pub fn new(
        mut rows: Vec<T>,
        query: &PageQuery,
        key: &CursorKey,
        scope: &str,
        position: impl FnOnce(&T) -> Vec<u8>,
    ) -> Self {
        let limit = query.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|last| key.seal(scope, &position(last)));
        Self { items: rows, next_cursor }
    }

    /// The same page with its items converted.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}
