//! The console kit: what every page of the console is made of.
//!
//! Server-rendered HTML that works without script, one stylesheet and one script (each below 20 KB), charts as SVG, all under
//! a Content-Security-Policy that allows nothing inline. Everything given to a component as text is escaped; an address that
//! could run script becomes `#`.
//!
//! | to make | use |
//! |---|---|
//! | the frame of a page | [`Chrome`] (an extension of every console request), [`Head`], [`section()`], [`columns`] |
//! | the row of numbers | [`tiles`], [`Tile`] |
//! | the chart that matters | [`charts`] |
//! | the table of things | [`Table`], [`Column`], [`Row`], [`Sort`], [`Filters`] |
//! | one thing | [`KeyValues`], [`Timeline`], [`Event`], [`RequestBox`] |
//! | forms | [`Form`], [`Field`], [`Fields`], [`Confirm`], [`post_button`] |
//! | states | [`badge`], [`tag`], [`Status`], [`empty`], [`error_state`], [`Flash`] |
//! | live updates | [`live`] |
//! | numbers and times | [`format`] |
//! | addresses | [`Link`], [`paths`] |
#![allow(
    clippy::needless_pass_by_value,
    reason = "pages hand over the markup that they just made: `section(\"…\", html! { … })`"
)]

pub mod assets;
pub mod charts;
mod chrome;
mod filter;
pub mod form;
pub mod format;
pub mod link;
pub mod live;
pub mod paths;
mod range;
pub mod request;
pub mod search;
mod state;
mod status;
mod table;
mod tile;
mod timeline;

pub use chrome::{Chrome, Head, NavGroup, NavItem, Theme, columns, section, section_with};
pub use filter::Filters;
pub use form::{Confirm, Field, Fields, Form, confirmed, post_button};
pub use format::Unit;
pub use link::{Link, safe_href};
pub use maud::{Markup, PreEscaped, Render, html};
pub use range::TimeRange;
pub use request::{RequestBox, command_line};
pub use state::{Flash, KeyValues, copyable, copyable_under, empty, error_state, progress};
pub use status::{Status, badge, tag};
pub use table::{Column, Row, Sort, Table};
pub use tile::{Tile, tiles};
pub use timeline::{Event, Timeline};
