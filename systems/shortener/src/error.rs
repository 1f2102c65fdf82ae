//! What can go wrong here; knows no HTTP.

use std::time::Duration;

use kernel::Problem;

use crate::model::moderation::Refusal;
use crate::model::{AliasError, DestinationError, Invalid, MAX_POINTS, SeriesError};

kernel::codes! {
    INVALID_URL = "SHORTENER_INVALID_URL", Unprocessable, "The destination cannot be shortened";
    URL_PRIVATE = "SHORTENER_URL_PRIVATE", Unprocessable, "The destination is not public";
    URL_OWN = "SHORTENER_URL_OWN", Unprocessable, "The destination is this shortener itself";
    URL_BLOCKED = "SHORTENER_URL_BLOCKED", Unprocessable, "The destination is blocked here";
    ALIAS_INVALID = "SHORTENER_ALIAS_INVALID", Unprocessable, "The alias breaks the rules for aliases";
    ALIAS_RESERVED = "SHORTENER_ALIAS_RESERVED", Unprocessable, "The alias is a reserved word";
    ALIAS_TAKEN = "SHORTENER_ALIAS_TAKEN", Conflict, "The alias is taken";
    EXPIRY_INVALID = "SHORTENER_EXPIRY_INVALID", Unprocessable, "The expiry lies in the past";
    RANGE_INVALID = "SHORTENER_RANGE_INVALID", Invalid, "The time range cannot be charted";
    LINK_UNKNOWN = "SHORTENER_LINK_UNKNOWN", NotFound, "There is no such link";
    LINK_CHANGED = "SHORTENER_LINK_CHANGED", PreconditionFailed, "The link was changed meanwhile";
    LINK_INVALID = "SHORTENER_LINK_INVALID", Unprocessable, "A field of the link breaks a rule";
    LINK_TAKEN_DOWN = "SHORTENER_LINK_TAKEN_DOWN", Conflict, "The link was taken down";
    DOMAIN_INVALID = "SHORTENER_DOMAIN_INVALID", Unprocessable, "The domain is not a host name";
    DOMAIN_TAKEN = "SHORTENER_DOMAIN_TAKEN", Conflict, "The domain is taken";
    DOMAIN_NOT_FOUND = "SHORTENER_DOMAIN_NOT_FOUND", NotFound, "There is no such domain";
    DOMAIN_UNKNOWN = "SHORTENER_DOMAIN_UNKNOWN", Unprocessable, "The link's domain is none of the project's";
    DOMAIN_IN_USE = "SHORTENER_DOMAIN_IN_USE", Conflict, "The domain still has links";
    TEMPLATE_UNKNOWN = "SHORTENER_TEMPLATE_UNKNOWN", NotFound, "The project has no such UTM template";
    IMPORT_UNKNOWN = "SHORTENER_IMPORT_UNKNOWN", NotFound, "The project has no such import";
    IMPORT_INVALID = "SHORTENER_IMPORT_INVALID", Unprocessable, "The file cannot be read as that format";
    IMPORT_ROW_INVALID = "SHORTENER_IMPORT_ROW_INVALID", Unprocessable, "A row of the import cannot be read";
    IMPORT_TOO_LARGE = "SHORTENER_IMPORT_TOO_LARGE", TooLarge, "The file is larger than an import may be";
    IMPORT_FINISHED = "SHORTENER_IMPORT_FINISHED", Conflict, "The import is over";
    IMPORTS_BUSY = "SHORTENER_IMPORTS_BUSY", Limited, "The project has too many imports under way";
    NOT_MODERATOR = "SHORTENER_NOT_MODERATOR", Forbidden, "The key is not one of a moderator";
    REPORT_UNKNOWN = "SHORTENER_REPORT_UNKNOWN", NotFound, "There is no such report";
    REPORT_DECIDED = "SHORTENER_REPORT_DECIDED", Conflict, "The report was decided already";
    REPORTS_LIMITED = "SHORTENER_REPORTS_LIMITED", Limited, "Too many reports were sent";
    TAKEDOWN_EXISTS = "SHORTENER_TAKEDOWN_EXISTS", Conflict, "The link is taken down already";
    NOT_TAKEN_DOWN = "SHORTENER_NOT_TAKEN_DOWN", Conflict, "The link is not taken down";
    APPEAL_OPEN = "SHORTENER_APPEAL_OPEN", Conflict, "An appeal waits for a decision";
    APPEAL_DECIDED = "SHORTENER_APPEAL_DECIDED", Conflict, "The appeal was rejected";
    APPEAL_MISSING = "SHORTENER_APPEAL_MISSING", Conflict, "There is no appeal to decide";
    BLOCK_UNKNOWN = "SHORTENER_BLOCK_UNKNOWN", NotFound, "There is no such entry of the block list";
    BLOCK_EXISTS = "SHORTENER_BLOCK_EXISTS", Conflict, "The destination is blocked already";
    BLOCKS_FULL = "SHORTENER_BLOCKS_FULL", Conflict, "The block list of moderators is full";
    BLOCK_LIST_UNREADABLE = "SHORTENER_BLOCK_LIST_UNREADABLE", Unavailable, "The block list cannot be read";
    RATE_LIMITED = "SHORTENER_RATE_LIMITED", Limited, "Too many links are being created";
    CODES_EXHAUSTED = "SHORTENER_CODES_EXHAUSTED", Unavailable, "No free code was found";
}

/// The closed set of failures of the shortener.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The destination breaks a rule.
    #[error("invalid destination: {0:?}")]
    InvalidUrl(DestinationError),
    /// The alias breaks a rule.
    #[error("invalid alias: {0:?}")]
    Alias(AliasError),
    /// Another link has the alias.
    #[error("alias taken")]
    AliasTaken,
    /// The expiry lies in the past.
    #[error("expiry in the past")]
    ExpiryInvalid,
    /// The series is empty or too long.
    #[error("invalid range: {0:?}")]
    Range(SeriesError),
    /// No such link in this project.
    #[error("unknown link")]
    LinkUnknown,
    /// The version asked for is no longer the link's.
    #[error("link changed")]
    LinkChanged,
    /// A field breaks a rule.
    #[error("invalid field {}: {}", .0.field, .0.detail)]
    Field(Invalid),
    /// A moderator has taken the link down.
    #[error("link taken down")]
    LinkTakenDown,
    /// Not a host name.
    #[error("invalid domain")]
    DomainInvalid,
    /// Another project has the host, or this one does already.
    #[error("domain taken")]
    DomainTaken,
    /// No such domain in this project.
    #[error("domain not found")]
    DomainNotFound,
    /// A request about a link names a domain that the project does not have.
    #[error("unknown domain")]
    DomainUnknown,
    /// Links are on the domain.
    #[error("domain in use")]
    DomainInUse,
    /// The project has no such template.
    #[error("unknown template")]
    TemplateUnknown,
    /// The project has no such import.
    #[error("unknown import")]
    ImportUnknown,
    /// The file cannot be read.
    #[error("invalid import: {0}")]
    ImportInvalid(String),
    /// A row of a file cannot be read.
    #[error("invalid row: {0}")]
    ImportRow(String),
    /// The code of a row breaks a rule.
    #[error("invalid code of a row: {0:?}")]
    ImportCode(AliasError),
    /// Another link has the code of a row.
    #[error("code of a row taken")]
    ImportCodeTaken,
    /// The file is larger than this.
    #[error("import larger than {0}")]
    ImportTooLarge(String),
    /// Nothing is left to stop.
    #[error("import finished")]
    ImportFinished,
    /// The project has as many imports under way as it may.
    #[error("too many imports")]
    ImportsBusy {
        /// How many that is.
        limit: u32,
    },
    /// The project creates more links than it may.
    #[error("rate limited")]
    RateLimited {
        /// The most links that the project may create in `window`.
        limit: u64,
        /// The window of the rule that refuses.
        window: Duration,
        /// When the next one may be created; `None` when no waiting helps.
        retry_after: Option<Duration>,
    },
    /// The key may not moderate.
    #[error("not a moderator")]
    NotModerator,
    /// No such report.
    #[error("unknown report")]
    ReportUnknown,
    /// Somebody decided the report.
    #[error("report decided")]
    ReportDecided,
    /// The reporter, or all reporters of the link, send too many.
    #[error("reports limited")]
    ReportsLimited {
        /// When the next one is taken.
        retry_after: Duration,
    },
    /// What stands against the link does not allow it.
    #[error("moderation: {0:?}")]
    Moderation(Refusal),
    /// No such entry of the block list.
    #[error("unknown block")]
    BlockUnknown,
    /// The entry is there.
    #[error("block exists")]
    BlockExists,
    /// No more entries fit.
    #[error("blocks full")]
    BlocksFull,
    /// Every id tried had its code taken by an alias, or no ids are left.
    #[error("codes exhausted")]
    CodesExhausted,
    /// A failure below, already in its own words.
    #[error(transparent)]
    Below(#[from] Problem),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidUrl(e) => Self::new(url_code(e), e.detail()).field("/url", e.detail()),
            Error::Alias(AliasError::Malformed) => {
                let detail = "An alias is 3 to 64 of A-Z, a-z, 0-9, _ and -, with at least one letter or digit.";
                Self::new(&ALIAS_INVALID, detail).field("/alias", detail)
            }
            Error::Alias(AliasError::Reserved) => {
                let detail = "This installation keeps that word for itself; choose another alias.";
                Self::new(&ALIAS_RESERVED, detail).field("/alias", detail)
            }
            Error::AliasTaken => {
                let detail = "A link has that alias, or had it before it was deleted; choose another, or leave it out.";
                Self::new(&ALIAS_TAKEN, detail).field("/alias", detail)
            }
            Error::ExpiryInvalid => {
                let detail = "The expiry must lie in the future; leave it out for a link that does not end.";
                Self::new(&EXPIRY_INVALID, detail).field("/expires_at", detail)
            }
            Error::Range(SeriesError::Empty) => {
                Self::new(&RANGE_INVALID, "`to` must lie after `from`.").field("?to", "must lie after `from`")
            }
            Error::Range(SeriesError::TooMany) => {
                let detail =
                    format!("The range has more than {MAX_POINTS} points; choose a longer step or a shorter range.");
                Self::new(&RANGE_INVALID, detail).field("?step", "choose a longer one")
            }
            Error::LinkUnknown => {
                Self::new(&LINK_UNKNOWN, "This project has no link with that code; codes mind their case.")
            }
            Error::LinkChanged => Self::new(
                &LINK_CHANGED,
                "The link is no longer at the version in If-Match; read it again and decide anew.",
            ),
            Error::Field(Invalid { field, detail, url }) => {
                let code = url.map_or(&LINK_INVALID, url_code);
                Self::new(code, format!("`{}`: {detail}.", field.trim_start_matches('/'))).field(field, detail)
            }
            Error::LinkTakenDown => Self::new(
                &LINK_TAKEN_DOWN,
                "A moderator has taken this link down; it can be changed again after an appeal was granted.",
            ),
            Error::DomainInvalid => {
                let detail = "A domain is a host name such as go.example.com: no scheme, no port, no path, no address.";
                Self::new(&DOMAIN_INVALID, detail).field("/host", detail)
            }
            Error::DomainTaken => {
                let detail = "A project of this installation has that domain already, or it is the installation's own.";
                Self::new(&DOMAIN_TAKEN, detail).field("/host", detail)
            }
            Error::DomainNotFound => {
                Self::new(&DOMAIN_NOT_FOUND, "This project has no domain of that name; GET /v1/domains lists them.")
            }
            Error::DomainUnknown => {
                let detail = "The project has no such domain; add it (POST /v1/domains), or leave `domain` out.";
                Self::new(&DOMAIN_UNKNOWN, detail).field("/domain", detail)
            }
            Error::DomainInUse => Self::new(
                &DOMAIN_IN_USE,
                "Links are on this domain; delete them first, or their visitors would meet nothing.",
            ),
            Error::TemplateUnknown => Self::new(
                &TEMPLATE_UNKNOWN,
                "This project has no UTM template of that name; GET /v1/utm-templates lists those that it has.",
            ),
            Error::ImportUnknown => {
                Self::new(&IMPORT_UNKNOWN, "This project has no such import; GET /v1/link-imports lists them.")
            }
            Error::ImportInvalid(why) => Self::new(&IMPORT_INVALID, why),
            Error::ImportRow(why) => Self::new(&IMPORT_ROW_INVALID, format!("The row cannot be read: {why}.")),
            Error::ImportCode(AliasError::Malformed) => Self::new(
                &ALIAS_INVALID,
                "Codes here have 1 to 64 of A-Z, a-z, 0-9, _ and -, with at least one letter or digit; give the row another code, \
                 and let the old path lead to it.",
            ),
            Error::ImportCode(AliasError::Reserved) => Self::new(
                &ALIAS_RESERVED,
                "This installation keeps that word for itself; give the row another code, or change `shortener.reserved_words`.",
            ),
            Error::ImportCodeTaken => Self::new(
                &ALIAS_TAKEN,
                "A link has that code, or had it before it was deleted; give the row another code, or leave it out.",
            ),
            Error::ImportTooLarge(limit) => Self::new(
                &IMPORT_TOO_LARGE,
                format!("An import has at most {limit}; cut the file into several, each with the header."),
            ),
            Error::ImportFinished => Self::new(&IMPORT_FINISHED, "The import is over; its links are there."),
            Error::ImportsBusy { limit } => Self::new(
                &IMPORTS_BUSY,
                format!("The project has {limit} imports under way; wait until one is over, or stop one."),
            )
            .retry_after(Duration::from_secs(10)),
            Error::NotModerator => Self::new(
                &NOT_MODERATOR,
                "Moderation is for administrators (`*`) and for keys of the project `default` with the scope `moderation:…`.",
            ),
            Error::ReportUnknown => Self::new(
                &REPORT_UNKNOWN,
                "There is no report of that id; GET /v1/link-reports lists those that there are.",
            ),
            Error::ReportDecided => Self::new(
                &REPORT_DECIDED,
                "The report was decided before; to change what became of the link, take it down or restore it.",
            ),
            Error::ReportsLimited { retry_after } => {
                Self::new(&REPORTS_LIMITED, "Too many reports came; wait as long as Retry-After says.")
                    .retry_after(retry_after)
            }
            Error::Moderation(Refusal::IsDown) => Self::new(
                &TAKEDOWN_EXISTS,
                "The link is taken down; to do it for another kind of reason, restore it first.",
            ),
            Error::Moderation(Refusal::NotDown) => Self::new(
                &NOT_TAKEN_DOWN,
                "The link is not taken down: there is nothing to restore or to appeal against.",
            ),
            Error::Moderation(Refusal::AppealOpen) => {
                Self::new(&APPEAL_OPEN, "An appeal was sent and nobody has decided it; wait for the decision.")
            }
            Error::Moderation(Refusal::AppealDecided) => Self::new(
                &APPEAL_DECIDED,
                "The appeal against this takedown was rejected; only the operator can still restore the link.",
            ),
            Error::Moderation(Refusal::NoAppeal) => Self::new(
                &APPEAL_MISSING,
                "There is no appeal that waits for a decision; a link is brought back without one by `restore`.",
            ),
            Error::BlockUnknown => Self::new(
                &BLOCK_UNKNOWN,
                "There is no entry of that id; GET /v1/link-blocks lists those that there are.",
            ),
            Error::BlockExists => {
                let detail = "That entry is on the list; GET /v1/link-blocks shows since when and why.";
                Self::new(&BLOCK_EXISTS, detail).field("/entry", detail)
            }
            Error::BlocksFull => Self::new(
                &BLOCKS_FULL,
                "The list holds 10000 entries; remove some, or keep them in the file `shortener.block_list`.",
            ),
            Error::RateLimited { limit, window, retry_after } => {
                let window = kernel::limits::format_duration(window);
                let detail =
                    format!("This project may create {limit} links in {window}; wait as long as Retry-After says.");
                let problem = Self::new(&RATE_LIMITED, detail);
                match retry_after {
                    Some(after) => problem.retry_after(after),
                    None => problem,
                }
            }
            Error::CodesExhausted => {
                Self::new(&CODES_EXHAUSTED, "No free code was found; try again, and tell the operator if it stays so.")
            }
            Error::Below(problem) => problem,
        }
    }
}

fn url_code(error: DestinationError) -> &'static kernel::Code {
    match error {
        DestinationError::Private => &URL_PRIVATE,
        DestinationError::Own => &URL_OWN,
        DestinationError::Blocked => &URL_BLOCKED,
        _ => &INVALID_URL,
    }
}

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        Self::Below(error.into())
    }
}
