//! The home page's event stream.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use console::{Chrome, live};
use futures_util::Stream;
use kernel::Stage;

use crate::house::House;

/// How often the page is drawn anew.
const EVERY: Duration = Duration::from_secs(2);
/// A stream ends after this many drawings (10 minutes); the browser opens another, and a forgotten tab costs a bounded time.
const DRAWINGS: usize = 300;

/// Sends what changed since the last drawing, until the page is closed or the node drains.
pub(crate) async fn stream(
    Extension(chrome): Extension<Chrome>,
    State(house): State<House>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let shutdown = house.lifecycle().tasks(Stage::Listeners).shutdown();
    let events = async_stream::stream! {
        let mut last = std::collections::HashMap::new();
        for _ in 0..DRAWINGS {
            for (id, content) in super::home::fragments(&chrome, &house) {
                let data = live::data(id, &content);
                if last.get(id) != Some(&data) {
                    last.insert(id, data.clone());
                    yield Ok(Event::default().event(live::EVENT).data(data));
                }
            }
            if shutdown.or(house.clock().sleep(EVERY)).await.is_none() {
                return;
            }
        }
    };
    Sse::new(events).keep_alive(KeepAlive::default())
}
