//! Visits of links that may be followed only so many times.

use database::{Db, Result, params};

use super::big;
use crate::model::LinkId;

/// Takes one of the uses that a link has left; `false` when it has none. What the link says now decides, whatever a node
/// remembers of it: a deleted one, and one that was switched off, has none.
pub(crate) async fn take_use(db: &Db, link: LinkId) -> Result<bool> {
    let count = db
        .exec(
            "INSERT INTO shortener_uses (link_id, uses) \
             SELECT l.id, 1 FROM shortener_links l \
             WHERE l.id = $1 AND l.deleted_at IS NULL AND l.state = 'active' AND COALESCE(l.max_clicks, 1) > 0 \
             ON CONFLICT (link_id) DO UPDATE SET uses = shortener_uses.uses + 1 \
             WHERE shortener_uses.uses < \
             (SELECT COALESCE(l.max_clicks, 9223372036854775807) FROM shortener_links l WHERE l.id = shortener_uses.link_id)",
            params![big(link.0)],
        )
        .await?;
    Ok(count > 0)
}
