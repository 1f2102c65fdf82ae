//! Routes of one host by the beginning of their paths: a tree of segments.

use super::matching::{PathRule, Pattern, Segment, segments};

/// The index. Ranks are inserted in rising order.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by segment.
    children: Vec<(Box<str>, Node)>,
    /// Ranks of routes for everything that comes through here; whether that decides the path.
    through: Vec<(u32, bool)>,
    /// Ranks of routes for the path that ends here.
    ends: Vec<u32>,
}

impl Node {
    fn child(&self, segment: &str) -> Option<&Self> {
        let at = self.children.binary_search_by(|(name, _)| (**name).cmp(segment)).ok()?;
        self.children.get(at).map(|(_, node)| node)
    }

    fn child_or_new(&mut self, segment: &str) -> &mut Self {
        let at = match self.children.binary_search_by(|(name, _)| (**name).cmp(segment)) {
            Ok(at) => at,
            Err(at) => {
                self.children.insert(at, (segment.into(), Self::default()));
                at
            }
        };
        &mut self.children[at].1
    }

    fn down<'a>(&mut self, segments: impl Iterator<Item = &'a str>) -> &mut Self {
        segments.fold(self, Self::child_or_new)
    }
}

impl Paths {
    /// Adds a route.
    pub(crate) fn insert(&mut self, path: &PathRule, rank: u32) {
        match path {
            PathRule::Any => self.root.through.push((rank, true)),
            PathRule::Exact(path) => self.root.down(segments(path)).ends.push(rank),
            PathRule::Prefix(path) => self.root.down(segments(path)).through.push((rank, true)),
            PathRule::Pattern(pattern) => self.root.down(literal_start(pattern)).through.push((rank, false)),
            PathRule::Regex(_) => self.root.through.push((rank, false)),
        }
    }

    /// The smallest rank below `best` whose path is this one and for which `holds` says so (told whether the path is decided
    /// already); `best` when there is none.
    pub(crate) fn first(&self, path: &str, best: u32, holds: impl Fn(u32, bool) -> bool) -> u32 {
        let mut best = best;
        let mut look = |through: &[(u32, bool)]| {
            let found =
                through.iter().take_while(|(rank, _)| *rank < best).find(|(rank, decided)| holds(*rank, *decided));
            if let Some((rank, _)) = found {
                best = *rank;
            }
        };
        let mut node = &self.root;
        look(&node.through);
        // Only what starts with a slash has segments: `*` of OPTIONS has none.
        if !path.starts_with('/') {
            return best;
        }
        for segment in segments(path) {
            let Some(child) = node.child(segment) else { return best };
            node = child;
            look(&node.through);
        }
        node.ends.iter().copied().take_while(|rank| *rank < best).find(|rank| holds(*rank, true)).unwrap_or(best)
    }
}

fn literal_start(pattern: &Pattern) -> impl Iterator<Item = &str> {
    pattern.segments.iter().map_while(|segment| match segment {
        Segment::Literal(text) => Some(&**text),
        Segment::Named(_) => None,
    })
}
