//! An import: a file of links on its way in.

use kernel::{ProjectId, Timestamp};

use super::transfer::Format;

kernel::typed_id!(
    /// Names an import.
    ImportId,
    "imp"
);

/// How many rows that were left out an import tells of one by one; those beyond are only counted.
pub const MAX_LISTED_ERRORS: u64 = 1000;

/// Where an import stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImportState {
    /// Its file is arriving.
    Receiving,
    /// Its file is there; nothing is made yet.
    Queued,
    /// Links are being made.
    Running,
    /// Every row is a link, or is told of.
    Finished,
    /// Somebody stopped it; links made until then are there.
    Cancelled,
    /// Its file never arrived whole; nobody sees it.
    Discarded,
}

impl ImportState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Receiving, Self::Queued, Self::Running, Self::Finished, Self::Cancelled, Self::Discarded];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more will happen.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled | Self::Discarded)
    }
}

/// An import as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name.
    pub id: ImportId,
    /// Whose it is.
    pub project: ProjectId,
    /// What the file looks like.
    pub format: Format,
    /// The host on which every link of the file shall answer; as each row says when `None`.
    pub host: Option<String>,
    /// Where it stands.
    pub state: ImportState,
    /// Rows of the file; 0 while it arrives.
    pub row_count: u64,
    /// Rows that became links.
    pub created_count: u64,
    /// Rows that were left out.
    pub failed_count: u64,
    /// When the file arrived.
    pub created_at: Timestamp,
    /// The name of the key that sent it.
    pub created_by: String,
    /// When the first chunk was taken on.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
}

impl Import {
    /// How much is done, from 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "a share to look at")]
    pub fn progress(&self) -> f64 {
        if self.row_count == 0 { 0.0 } else { (self.created_count + self.failed_count) as f64 / self.row_count as f64 }
    }

    /// Rows done in a second, on average since the start; `None` before it.
    #[allow(clippy::cast_precision_loss, reason = "a rate to look at")]
    pub fn rows_per_second(&self, now: Timestamp) -> Option<f64> {
        let took = self.finished_at.unwrap_or(now).since(self.started_at?).as_secs_f64();
        (took > 0.0).then(|| (self.created_count + self.failed_count) as f64 / took)
    }

    /// Rows that were left out and are not told of one by one.
    pub fn unlisted_count(&self) -> u64 {
        self.failed_count.saturating_sub(MAX_LISTED_ERRORS)
    }
}

/// Why a row was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// Which row, from 1; a header is not counted.
    pub number: u64,
    /// The row's code, else its destination.
    pub name: String,
    /// The code that the API would have answered with.
    pub code: String,
    /// What is wrong and what to do.
    pub detail: String,
}
