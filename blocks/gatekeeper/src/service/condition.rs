//! A condition in CEL, as a policy of its own or beside a token.

use kernel::{Clock, FieldError};

use super::going::{Checked, Going, Said, Seen};
use crate::{
    Error, ExpressionSpec, Identity,
    model::expression::{Expression, Inputs},
};

/// The longest message.
const MAX_MESSAGE_CHARS: usize = 500;

pub(super) struct Condition {
    expression: Expression,
    message: String,
    clock: Clock,
}

impl Condition {
    pub(super) fn compile(
        spec: &ExpressionSpec,
        clock: &Clock,
        at: &str,
        errors: &mut Vec<FieldError>,
    ) -> Option<Self> {
        let message = spec.message.clone().unwrap_or_else(|| "You may not do this here.".to_owned());
        if message.chars().count() > MAX_MESSAGE_CHARS {
            let detail = format!("at most {MAX_MESSAGE_CHARS} characters");
            errors.push(FieldError { field: format!("{at}/message"), detail });
        }
        let expression = compile(&spec.allow, &format!("{at}/allow"), errors)?;
        Some(Self { expression, message, clock: clock.clone() })
    }

    /// The condition beside a token.
    pub(super) fn required(text: Option<&str>, clock: &Clock, at: &str, errors: &mut Vec<FieldError>) -> Option<Self> {
        let expression = compile(text?, &format!("{at}/require"), errors)?;
        let message = "You may not do this here.".to_owned();
        Some(Self { expression, message, clock: clock.clone() })
    }

    pub(super) fn check(&self, seen: &Seen<'_>, going: &Going) -> Checked {
        self.must_hold(seen, going.identity.as_ref())?;
        Ok(Said::passed("the expression holds"))
    }

    /// An expression that fails holds for nobody.
    pub(super) fn must_hold(&self, seen: &Seen<'_>, identity: Option<&Identity>) -> Result<(), Error> {
        let inputs = Inputs {
            parts: seen.parts,
            scheme: seen.scheme,
            host: seen.host,
            peer: seen.peer,
            identity,
            now: self.clock.now(),
        };
        let reason = match self.expression.holds(&inputs) {
            Ok(true) => return Ok(()),
            Ok(false) => "the expression does not hold".to_owned(),
            Err(why) => format!("the expression failed: {why}"),
        };
        Err(Error::forbidden(self.message.clone(), reason))
    }
}

fn compile(text: &str, field: &str, errors: &mut Vec<FieldError>) -> Option<Expression> {
    let compiled = Expression::compile(text);
    compiled.map_err(|detail| errors.push(FieldError { field: field.to_owned(), detail })).ok()
}
