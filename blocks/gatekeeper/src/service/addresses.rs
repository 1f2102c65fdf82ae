//! From which addresses.

use kernel::FieldError;

use super::going::{Checked, Said, Seen};
use crate::{AddressesSpec, Error, model::network::Networks};

/// The most networks of a list.
const MAX_NETWORKS: usize = 10_000;

#[derive(Debug)]
pub(super) struct Addresses {
    /// `None`: all that are not denied.
    allow: Option<Networks>,
    deny: Networks,
}

impl Addresses {
    pub(super) fn compile(spec: &AddressesSpec, at: &str, errors: &mut Vec<FieldError>) -> Self {
        if spec.allow.is_empty() && spec.deny.is_empty() {
            errors.push(FieldError { field: at.to_owned(), detail: "allow or deny, or both".to_owned() });
        }
        let mut networks = |list: &[String], name: &str| {
            if list.len() > MAX_NETWORKS {
                let detail = format!("at most {MAX_NETWORKS} networks");
                errors.push(FieldError { field: format!("{at}/{name}"), detail });
            }
            Networks::parse(list.iter().map(String::as_str)).unwrap_or_else(|wrong| {
                errors.extend(
                    wrong.into_iter().map(|(i, detail)| FieldError { field: format!("{at}/{name}/{i}"), detail }),
                );
                Networks::default()
            })
        };
        let (allow, deny) = (networks(&spec.allow, "allow"), networks(&spec.deny, "deny"));
        Self { allow: (!spec.allow.is_empty()).then_some(allow), deny }
    }

    pub(super) fn check(&self, seen: &Seen<'_>) -> Checked {
        let is_allowed = self.allow.as_ref().is_none_or(|allow| allow.contains(seen.peer));
        if is_allowed && !self.deny.contains(seen.peer) {
            Ok(Said::passed("the address is allowed"))
        } else {
            Err(Error::Address.into())
        }
    }
}
