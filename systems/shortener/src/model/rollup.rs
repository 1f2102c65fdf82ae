//! From segments of clicks to what is added to the rollups.

use std::collections::{BTreeMap, HashMap};

use kernel::{ProjectId, Timestamp};

use super::{
    ClickCounts, LinkId,
    clicks::Step,
    segment::{Referrer, Segment},
    sketch::{Position, Sketch},
    tally::{Dimension, Tally},
};

/// What is kept of a day beside its counts: people only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Day {
    /// The visitors.
    pub sketch: Sketch,
    /// Their clicks by [`Dimension`], in the order of [`Dimension::ALL`].
    pub tallies: [Tally; 6],
}

/// What some clicks add, of one link or one project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// By step and start.
    pub buckets: BTreeMap<(Step, Timestamp), ClickCounts>,
    /// All of them.
    pub total: ClickCounts,
    /// The last one.
    pub last_click_at: Timestamp,
    /// By day.
    pub days: BTreeMap<Timestamp, Day>,
}

/// What some segments add. In order, so that every node writes rows in the same one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollup {
    /// By link.
    pub links: BTreeMap<LinkId, Sums>,
    /// By project.
    pub projects: BTreeMap<ProjectId, Sums>,
    /// Clicks that are in it.
    pub click_count: u64,
}

impl Rollup {
    /// Adds every click of a segment: to its project, and to its link where that comes after `after`, up to which links are in the
    /// rollups. One whose project has a name that none can have is passed over.
    pub fn add(&mut self, segment: &Segment<'_>, after: Option<LinkId>) {
        // Clicks that differ in nothing but their visitor are counted together first: a hash of three numbers for each.
        let mut groups: HashMap<(usize, usize, Timestamp), u64> = HashMap::new();
        let mut visitors: HashMap<(usize, Timestamp), Vec<Position>> = HashMap::new();
        let mut last: HashMap<usize, Timestamp> = HashMap::new();
        let (mut minute, mut until) = (Timestamp::default(), Timestamp::default());
        for entry in &segment.entries {
            if entry.at < minute || entry.at >= until {
                minute = entry.at.floor(Step::Minute.width());
                until = minute.plus(Step::Minute.width());
            }
            *groups.entry((entry.link, entry.kind, minute)).or_default() += 1;
            if let Some(position) = entry.visitor {
                visitors.entry((entry.link, minute)).or_default().push(position);
            }
            let last = last.entry(entry.link).or_insert(entry.at);
            *last = (*last).max(entry.at);
        }
        let projects: Vec<Option<ProjectId>> = segment.links.iter().map(|(_, name)| ProjectId::parse(name)).collect();
        for ((link, kind, minute), count) in groups {
            let (Some((id, _)), Some(Some(project)), Some((traits, referrer))) =
                (segment.links.get(link), projects.get(link), segment.kinds.get(kind))
            else {
                continue;
            };
            self.click_count += count;
            let at = last.get(&link).copied().unwrap_or(minute);
            let link = (Some(*id) > after).then(|| self.links.entry(*id).or_default());
            for sums in link.into_iter().chain([project_of(&mut self.projects, project)]) {
                sums.add(minute, count, traits.agent.is_bot, at);
                if traits.agent.is_bot {
                    continue;
                }
                let day = sums.days.entry(minute.floor(Step::Day.width())).or_default();
                let of = |text: &'static str| if text == "other" { "" } else { text };
                for (dimension, tally) in Dimension::ALL.iter().zip(&mut day.tallies) {
                    match dimension {
                        Dimension::Referrer => match referrer {
                            Referrer::None => tally.add("", count),
                            Referrer::NotKept => tally.add_other(count),
                            Referrer::Host(host) => tally.add(host, count),
                        },
                        Dimension::Browser => tally.add(of(traits.agent.browser.as_str()), count),
                        Dimension::System => tally.add(of(traits.agent.system.as_str()), count),
                        Dimension::Device => tally.add(of(traits.agent.device.as_str()), count),
                        Dimension::Country => tally.add(traits.country.as_ref().map_or("", |c| c.as_str()), count),
                        Dimension::Language => tally.add(traits.language.as_ref().map_or("", |l| l.as_str()), count),
                    }
                }
            }
        }
        for ((link, minute), positions) in visitors {
            let (Some((id, _)), Some(Some(project))) = (segment.links.get(link), projects.get(link)) else { continue };
            let link = (Some(*id) > after).then(|| self.links.entry(*id).or_default());
            for sums in link.into_iter().chain([project_of(&mut self.projects, project)]) {
                sums.days.entry(minute.floor(Step::Day.width())).or_default().sketch.add(&positions);
            }
        }
    }
}

fn project_of<'a>(projects: &'a mut BTreeMap<ProjectId, Sums>, project: &ProjectId) -> &'a mut Sums {
    if !projects.contains_key(project) {
        projects.insert(project.clone(), Sums::default());
    }
    projects.entry(project.clone()).or_default()
}

impl Sums {
    fn add(&mut self, minute: Timestamp, count: u64, is_bot: bool, last_click_at: Timestamp) {
        let counts =
            if is_bot { ClickCounts { people: 0, bots: count } } else { ClickCounts { people: count, bots: 0 } };
        for step in Step::ALL {
            *self.buckets.entry((step, minute.floor(step.width()))).or_default() += counts;
        }
        self.total += counts;
        self.last_click_at = self.last_click_at.max(last_click_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        agent::Agent,
        segment::{Record, Traits, Writer},
    };

    #[test]
    fn clicks_add_up_everywhere() {
        let mut writer = Writer::default();
        let mut click = |seconds: i64, link: u64, project, agent: &str, referrer, hash: u64| {
            let agent = Agent::parse(agent.as_bytes());
            writer.push(&Record {
                at: Timestamp::from_millis(seconds * 1000),
                link: LinkId(link),
                project,
                traits: Traits { agent, language: None, country: None },
                referrer,
                visitor: (!agent.is_bot).then(|| Position::of_hash(hash)),
            });
        };
        let (fox, bot) = ("X11; Linux Firefox/133.0", "Googlebot/2.1");
        click(0, 1, "a", fox, Referrer::Host("t.co"), 1 << 60);
        click(59, 1, "a", fox, Referrer::Host("t.co"), 1 << 60);
        click(60, 1, "a", fox, Referrer::None, 2 << 60);
        click(61, 1, "a", bot, Referrer::None, 0);
        click(86_400, 1, "a", "curl/8", Referrer::NotKept, 2 << 60);
        click(5, 2, "a", fox, Referrer::Host("t.co"), 3 << 60);
        click(5, 3, "b", fox, Referrer::None, 3 << 60);
        let bytes = writer.finish();
        let mut rollup = Rollup::default();
        rollup.add(&Segment::parse(&bytes).unwrap(), None);
        assert_eq!(rollup.click_count, 7);
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let counts = |people, bots| ClickCounts { people, bots };
        let one = &rollup.links[&LinkId(1)];
        assert_eq!((one.total, one.last_click_at), (counts(4, 1), at(86_400)));
        assert_eq!(one.buckets[&(Step::Minute, at(0))], counts(2, 0));
        assert_eq!(one.buckets[&(Step::Minute, at(60))], counts(1, 1));
        assert_eq!(one.buckets[&(Step::Hour, at(0))], counts(3, 1));
        assert_eq!(one.buckets[&(Step::Day, at(0))], counts(3, 1));
        assert_eq!(one.buckets[&(Step::Day, at(86_400))], counts(1, 0));
        let day = &one.days[&at(0)];
        assert_eq!(day.sketch.count(), 2);
        assert_eq!(day.tallies[0].top(9), (vec![("t.co".into(), 2), ("".into(), 1)], 0));
        assert_eq!(day.tallies[1].top(9), (vec![("firefox".into(), 3)], 0));
        let next = &one.days[&at(86_400)];
        assert_eq!(next.tallies[0].top(9), (vec![], 1), "not kept is among the others");
        assert_eq!(next.tallies[1].top(9), (vec![("".into(), 1)], 0), "what is not known says nothing");
        let a = &rollup.projects[&ProjectId::parse("a").unwrap()];
        assert_eq!((a.total, a.last_click_at), (counts(5, 1), at(86_400)));
        assert_eq!(a.days[&at(0)].sketch.count(), 3);
        assert_eq!(rollup.projects[&ProjectId::parse("b").unwrap()].total, counts(1, 0));
        assert_eq!(rollup.links.len(), 3);
        let mut rest = Rollup::default();
        rest.add(&Segment::parse(&bytes).unwrap(), Some(LinkId(2)));
        assert_eq!(rest.links.keys().collect::<Vec<_>>(), [&LinkId(3)]);
        assert_eq!((&rest.links[&LinkId(3)], &rest.projects), (&rollup.links[&LinkId(3)], &rollup.projects));
    }
}
