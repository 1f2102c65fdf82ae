//! What clicks have in common, by day: for the API and the console.

use kernel::{Problem, ProjectId, Timestamp};

use super::Shortener;
use crate::{
    error::Error,
    model::{ClickCounts, Dimension, LinkId, Series, Step},
    store::{self, Subject},
};

/// The most values that one answer names.
pub const MAX_ANALYTICS_VALUES: usize = 200;

/// One value of a dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueClicks {
    /// The value; `None` for clicks that did not say.
    pub value: Option<Box<str>>,
    /// Clicks by people.
    pub clicks: u64,
}

/// Clicks of some days by one dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analytics {
    /// The start of the first day.
    pub from: Timestamp,
    /// The end of the last.
    pub to: Timestamp,
    /// All clicks of these days.
    pub total: ClickCounts,
    /// The visitors of each day, added up: somebody who came on two days counts twice.
    pub visitors: u64,
    /// By what they are told apart.
    pub dimension: Dimension,
    /// The values with the most clicks, the most first.
    pub values: Vec<ValueClicks>,
    /// Clicks by people with any other value.
    pub other: u64,
}

impl Shortener {
    /// Clicks of a link (with its domain's host, `None` for the installation's own) by one dimension, from the day of `from` to the
    /// day that holds what comes before `to`; at most [`crate::model::MAX_POINTS`] days and [`MAX_ANALYTICS_VALUES`] values.
    pub async fn link_analytics(
        &self,
        project: &ProjectId,
        link: (Option<&str>, &str),
        range: (Timestamp, Timestamp),
        dimension: Dimension,
        limit: usize,
    ) -> Result<Analytics, Error> {
        let link = self.get_on(project, link.0, link.1).await?;
        self.analytics_of(Subject::Link(link.link.id), range, dimension, limit).await
    }

    /// The same of all links of a project, the deleted ones included.
    pub async fn project_analytics(
        &self,
        project: &ProjectId,
        range: (Timestamp, Timestamp),
        dimension: Dimension,
        limit: usize,
    ) -> Result<Analytics, Error> {
        self.analytics_of(Subject::Project(project), range, dimension, limit).await
    }

    pub(crate) async fn analytics_of(
        &self,
        subject: Subject<'_>,
        (from, to): (Timestamp, Timestamp),
        dimension: Dimension,
        limit: usize,
    ) -> Result<Analytics, Error> {
        let Series { from, to, .. } = Series::new(from, to, Step::Day).map_err(Error::Range)?;
        let db = self.db();
        let (total, visitors) = store::range_totals(db, subject, from, to).await.map_err(Problem::from)?;
        let tally = store::tally(db, subject, dimension, from, to).await.map_err(Problem::from)?;
        let (top, other) = tally.top(limit.min(MAX_ANALYTICS_VALUES));
        let values = top
            .into_iter()
            .map(|(value, clicks)| ValueClicks { value: Some(value).filter(|v| !v.is_empty()), clicks })
            .collect();
        Ok(Analytics { from, to, total, visitors, dimension, values, other })
    }

    /// Visitors of a link by day, in the order of a series of days; 0 where nobody came.
    pub async fn link_visitors(
        &self,
        project: &ProjectId,
        (domain, code): (Option<&str>, &str),
        series: Series,
    ) -> Result<Vec<u64>, Error> {
        let link = self.get_on(project, domain, code).await?;
        self.visitors_of(link.link.id, series).await
    }

    /// The same for a link that was read already.
    pub(crate) async fn visitors_of(&self, link: LinkId, series: Series) -> Result<Vec<u64>, Error> {
        self.visitors_in(Subject::Link(link), series).await
    }

    /// Visitors of a project by day; see [`Shortener::project_analytics`].
    pub async fn project_visitors(&self, project: &ProjectId, series: Series) -> Result<Vec<u64>, Error> {
        self.visitors_in(Subject::Project(project), series).await
    }

    async fn visitors_in(&self, subject: Subject<'_>, series: Series) -> Result<Vec<u64>, Error> {
        let rows = store::visitors_by_day(self.db(), subject, series.from, series.to).await.map_err(Problem::from)?;
        let mut rows = rows.into_iter().peekable();
        let mut counts = Vec::with_capacity(series.point_count());
        let mut day = series.from;
        while day < series.to {
            counts.push(rows.next_if(|(at, _)| *at == day).map_or(0, |(_, count)| count));
            day = day.plus(Step::Day.width());
        }
        Ok(counts)
    }
}
