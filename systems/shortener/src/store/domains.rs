//! Domains and UTM templates.

use database::{Db, Error, Result, Row, Tx, params};
use kernel::{ProjectId, Timestamp};

use super::big;
use crate::model::{Domain, DomainId, Utm};

macro_rules! domain_columns {
    () => {
        "id, host, project, is_case_sensitive, root_url, unknown_url, created_at, created_by"
    };
}

fn read_domain(row: &Row) -> Result<Domain> {
    Ok(Domain {
        id: DomainId(row.get(0)?),
        host: row.get(1)?,
        project: row.get(2)?,
        is_case_sensitive: row.get(3)?,
        root_url: row.get(4)?,
        unknown_url: row.get(5)?,
        created_at: row.get(6)?,
        created_by: row.get(7)?,
    })
}

/// Every domain of the installation with a number above `after`, in that order.
pub(crate) async fn domains_after(db: &Db, after: DomainId, limit: u32) -> Result<Vec<Domain>> {
    let rows = db
        .query(
            concat!(
                "SELECT ",
                domain_columns!(),
                " FROM shortener_domains WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2"
            ),
            params![big(after.0), limit],
        )
        .await?;
    rows.iter().map(read_domain).collect()
}

/// Domains of a project by host, after `after`.
pub(crate) async fn project_domains(db: &Db, project: &ProjectId, after: &str, limit: u32) -> Result<Vec<Domain>> {
    let rows = db
        .query(
            concat!(
                "SELECT ",
                domain_columns!(),
                " FROM shortener_domains WHERE project = $1 AND host > $2 AND deleted_at IS NULL ORDER BY host LIMIT $3"
            ),
            params![project, after, limit],
        )
        .await?;
    rows.iter().map(read_domain).collect()
}

/// A domain of a project.
pub(crate) async fn project_domain(db: &Db, project: &ProjectId, host: &str) -> Result<Option<Domain>> {
    let row = db
        .get(
            concat!(
                "SELECT ",
                domain_columns!(),
                " FROM shortener_domains WHERE host = $2 AND project = $1 AND deleted_at IS NULL"
            ),
            params![project, host],
        )
        .await?;
    row.as_ref().map(read_domain).transpose()
}

/// The same inside a transaction, held until its end.
pub(crate) async fn lock_domain(tx: &mut Tx<'_>, project: &ProjectId, host: &str) -> Result<Option<Domain>> {
    let row = tx
        .get(
            concat!(
                "SELECT ",
                domain_columns!(),
                " FROM shortener_domains WHERE host = $2 AND project = $1 AND deleted_at IS NULL /*pg FOR UPDATE */"
            ),
            params![project, host],
        )
        .await?;
    row.as_ref().map(read_domain).transpose()
}

/// Whether a domain is still there; it stays until the transaction ends.
pub(crate) async fn hold_domain(tx: &mut Tx<'_>, id: DomainId) -> Result<bool> {
    let row = tx
        .get(
            "SELECT id FROM shortener_domains WHERE id = $1 AND deleted_at IS NULL /*pg FOR SHARE */",
            params![big(id.0)],
        )
        .await?;
    Ok(row.is_some())
}

/// Adds a domain, or brings back the one that the same project removed before, with its codes; `None` when the host is taken.
pub(crate) async fn insert_domain(tx: &mut Tx<'_>, domain: &Domain) -> Result<Option<DomainId>> {
    let before = tx
        .get(
            "SELECT id FROM shortener_domains WHERE host = $2 AND project = $1 AND deleted_at IS NOT NULL \
             ORDER BY id DESC LIMIT 1",
            params![&domain.project, &domain.host],
        )
        .await?;
    let rows = match before {
        None => {
            tx.exec_returning(
                "INSERT INTO shortener_domains \
                 (host, project, is_case_sensitive, root_url, unknown_url, created_at, created_by) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING id",
                params![
                    &domain.host,
                    &domain.project,
                    domain.is_case_sensitive,
                    domain.root_url.clone(),
                    domain.unknown_url.clone(),
                    domain.created_at,
                    &domain.created_by
                ],
            )
            .await?
        }
        Some(row) => {
            tx.exec_returning(
                "UPDATE shortener_domains SET is_case_sensitive = $3, root_url = $4, unknown_url = $5, created_at = $6, \
                 created_by = $7, deleted_at = NULL WHERE id = $1 AND NOT EXISTS \
                 (SELECT 1 FROM shortener_domains o WHERE o.host = $2 AND o.deleted_at IS NULL) RETURNING id",
                params![
                    row.get::<i64>(0)?,
                    &domain.host,
                    domain.is_case_sensitive,
                    domain.root_url.clone(),
                    domain.unknown_url.clone(),
                    domain.created_at,
                    &domain.created_by
                ],
            )
            .await?
        }
    };
    rows.first().map(|row| Ok(DomainId(row.get(0)?))).transpose()
}

/// Changes what a domain does.
pub(crate) async fn update_domain(tx: &mut Tx<'_>, domain: &Domain) -> Result<()> {
    tx.exec(
        "UPDATE shortener_domains SET root_url = $2, unknown_url = $3 WHERE id = $1",
        params![big(domain.id.0), domain.root_url.clone(), domain.unknown_url.clone()],
    )
    .await
    .map(drop)
}

/// Removes a domain that the transaction holds, unless links are on it; gives whether it did.
pub(crate) async fn delete_domain(tx: &mut Tx<'_>, id: DomainId, now: Timestamp) -> Result<bool> {
    let count = tx
        .exec(
            "UPDATE shortener_domains SET deleted_at = $2 WHERE id = $1 AND NOT EXISTS \
             (SELECT 1 FROM shortener_links l WHERE l.domain = $1 AND l.domain > 0 AND l.deleted_at IS NULL)",
            params![big(id.0), now],
        )
        .await?;
    Ok(count == 1)
}

/// Campaign parameters under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UtmTemplate {
    /// Unique in its project.
    pub name: String,
    /// The parameters.
    pub utm: Utm,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// By which key.
    pub updated_by: String,
}

fn read_template(row: &Row) -> Result<UtmTemplate> {
    let utm: String = row.get(1)?;
    Ok(UtmTemplate {
        name: row.get(0)?,
        utm: serde_json::from_str(&utm).map_err(|_| Error::Decode("column 1: not UTM parameters".to_owned()))?,
        updated_at: row.get(2)?,
        updated_by: row.get(3)?,
    })
}

/// Templates of a project by name, after `after`.
pub(crate) async fn utm_templates(db: &Db, project: &ProjectId, after: &str, limit: u32) -> Result<Vec<UtmTemplate>> {
    let rows = db
        .query(
            "SELECT name, utm, updated_at, updated_by FROM shortener_utm_templates WHERE project = $1 AND name > $2 \
             ORDER BY name LIMIT $3",
            params![project, after, limit],
        )
        .await?;
    rows.iter().map(read_template).collect()
}

/// The template of a name.
pub(crate) async fn utm_template(db: &Db, project: &ProjectId, name: &str) -> Result<Option<UtmTemplate>> {
    let row = db
        .get(
            "SELECT name, utm, updated_at, updated_by FROM shortener_utm_templates WHERE project = $1 AND name = $2",
            params![project, name],
        )
        .await?;
    row.as_ref().map(read_template).transpose()
}

/// Writes a template.
pub(crate) async fn put_utm_template(db: &Db, project: &ProjectId, template: &UtmTemplate) -> Result<()> {
    let utm = serde_json::to_string(&template.utm).unwrap_or_default();
    db.exec(
        "INSERT INTO shortener_utm_templates (project, name, utm, updated_at, updated_by) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (project, name) DO UPDATE SET utm = excluded.utm, updated_at = excluded.updated_at, \
         updated_by = excluded.updated_by",
        params![project, &template.name, utm, template.updated_at, &template.updated_by],
    )
    .await
    .map(drop)
}

/// Deletes a template; gives whether there was one.
pub(crate) async fn delete_utm_template(db: &Db, project: &ProjectId, name: &str) -> Result<bool> {
    let count =
        db.exec("DELETE FROM shortener_utm_templates WHERE project = $1 AND name = $2", params![project, name]).await?;
    Ok(count == 1)
}
