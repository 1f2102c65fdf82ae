//! The one HTTP shape that every room of Mainstay speaks.
//!
//! | module | what it gives |
//! |---|---|
//! | [`problem`] | [`Reject`]: RFC 9457 problem details; the one table from [`kernel::Kind`] to status |
//! | [`extract`] | [`Json`], [`Query`], [`Path`], [`Form`]: extractors that refuse with a problem that names the field |
//! | [`page`] | [`PageQuery`], [`Page`]: cursor pagination |
//! | [`stack()`] | the middleware that every request passes, in one place |
//! | [`conditional`] | [`ETag`], [`Conditions`]: 304 and 412; HTTP dates |
//! | [`idempotency`] | `Idempotency-Key`: a POST sent twice is done once |
//! | [`openapi`] | one OpenAPI 3.1 document from those of the rooms |
//! | [`docs`] | `/openapi.json`, `/docs`, `/docs/errors/{CODE}` |
//! | [`config`] | [`HttpConfig`]: the limits |
//! | [`context`] | [`RequestContext`], [`Deadline`]: what is known of the request under way |
//! | [`trace`] | W3C Trace Context |
//! | [`error`] | the codes of this crate |

pub mod conditional;
pub mod config;
pub mod context;
pub mod docs;
pub mod error;
pub mod extract;
pub mod idempotency;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod stack;
pub mod trace;

pub use conditional::{Conditions, ETag};
pub use config::HttpConfig;
pub use context::{Deadline, RequestContext};
pub use extract::{Form, Json, Path, Query};
pub use idempotency::{Idempotency, IdempotencyScope, IdempotencyStore, IdempotencyToken};
pub use page::{Page, PageQuery};
pub use problem::{PROBLEM_JSON, ProblemCode, Reject, status};
pub use stack::{Admission, Admitted, Arriving, Finished, InFlight, OnRequest, StackOptions, stack};

/// What a handler returns.
pub type Result<T, E = Reject> = std::result::Result<T, E>;
