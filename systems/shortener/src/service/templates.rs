//! Campaign parameters under a name.

use identity::Principal;
use kernel::{Problem, ProjectId};

use super::Shortener;
use crate::{
    error::Error,
    model::{Invalid, Utm},
    store::{self, UtmTemplate},
};

/// The longest name of a template.
pub const MAX_TEMPLATE_NAME: usize = 50;

fn check_name(name: &str) -> Result<(), Error> {
    let is_good = (1..=MAX_TEMPLATE_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.');
    if is_good { Ok(()) } else { Err(Error::TemplateUnknown) }
}

impl Shortener {
    /// Templates of a project by name.
    pub async fn utm_templates(&self, project: &ProjectId, after: &str, limit: u32) -> Result<Vec<UtmTemplate>, Error> {
        Ok(store::utm_templates(&self.0.db, project, after, limit).await.map_err(Problem::from)?)
    }

    /// The template of a name.
    pub async fn utm_template(&self, project: &ProjectId, name: &str) -> Result<UtmTemplate, Error> {
        check_name(name)?;
        store::utm_template(&self.0.db, project, name).await.map_err(Problem::from)?.ok_or(Error::TemplateUnknown)
    }

    /// Writes a template. Links made with it before keep what they took from it.
    pub async fn put_utm_template(&self, principal: &Principal, name: &str, utm: Utm) -> Result<UtmTemplate, Error> {
        if check_name(name).is_err() {
            let detail = "a name is 1 to 50 of A-Z, a-z, 0-9, `_`, `-` and `.`";
            return Err(Error::Field(Invalid::new("/name", detail)));
        }
        let template = UtmTemplate {
            name: name.to_owned(),
            utm: utm.checked().map_err(Error::Field)?,
            updated_at: self.0.clock.now(),
            updated_by: principal.name.to_string(),
        };
        store::put_utm_template(&self.0.db, &principal.project, &template).await.map_err(Problem::from)?;
        Ok(template)
    }

    /// Deletes a template. Links made with it keep what they took from it.
    pub async fn delete_utm_template(&self, project: &ProjectId, name: &str) -> Result<(), Error> {
        check_name(name)?;
        if store::delete_utm_template(&self.0.db, project, name).await.map_err(Problem::from)? {
            return Ok(());
        }
        Err(Error::TemplateUnknown)
    }
}
