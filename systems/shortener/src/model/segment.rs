//! Clicks as they stand in the click log: about a dozen bytes each.
//!
//! A segment is a stream of clicks; what many have in common (a link with its project, a kind of visitor, a name) is written where
//! it comes first and named by its number from then on:
//!
//! ```text
//! segment  := version:u8 start_ms:i64 click*
//! click    := zigzag(ms after the click before) link kind [position: 3 bytes, when the kind has one]
//! link     := number of a known link | next number, id, name of the project
//! kind     := number of a known kind | next number, browser:u8 system:u8 device:u8 flags:u8 [language] [country] referrer
//! referrer := 0 none | 1 not kept | 2 + name
//! name     := number of a known name | next number, length:u8, text
//! ```

use std::collections::HashMap;

use kernel::Timestamp;

use super::{
    LinkId,
    agent::{Agent, Browser, Device, System},
    sketch::Position,
    varint,
    visitor::{Country, Language},
};

/// The newest version that this program reads, and the one that it writes.
pub const SEGMENT_FORMAT: u8 = 1;

const BOT: u8 = 1;
const HAS_POSITION: u8 = 2;
const HAS_LANGUAGE: u8 = 4;
const HAS_COUNTRY: u8 = 8;

/// Where a visitor came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Referrer<T> {
    /// It was not said.
    #[default]
    None,
    /// There was no room to keep it.
    NotKept,
    /// From this host.
    Host(T),
}

/// What a click tells about its visitor, names apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Traits {
    /// From `User-Agent`.
    pub agent: Agent,
    /// From `Accept-Language`.
    pub language: Option<Language>,
    /// From the address.
    pub country: Option<Country>,
}

/// One click.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When.
    pub at: Timestamp,
    /// On which link.
    pub link: LinkId,
    /// Whose link that is.
    pub project: &'a str,
    /// By whom.
    pub traits: Traits,
    /// From where.
    pub referrer: Referrer<&'a str>,
    /// The visitor, as far as it is kept.
    pub visitor: Option<Position>,
}

/// A click without its commonplaces: numbers into the tables of [`Segment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Into [`Segment::links`].
    pub link: usize,
    /// Into [`Segment::kinds`].
    pub kind: usize,
    /// The visitor, as far as it is kept.
    pub visitor: Option<Position>,
}

type Kind = (Traits, Referrer<u32>, bool);

/// Writes a segment, click by click.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
    last_ms: i64,
    count: u64,
    names: HashMap<Box<str>, u32>,
    links: HashMap<LinkId, u32>,
    kinds: HashMap<Kind, u32>,
}

impl Writer {
    /// Adds a click.
    pub fn push(&mut self, click: &Record<'_>) {
        let ms = click.at.as_millis();
        if self.out.is_empty() {
            self.out.push(SEGMENT_FORMAT);
            self.out.extend_from_slice(&ms.to_le_bytes());
            self.last_ms = ms;
        }
        varint::put(&mut self.out, zigzag(ms.wrapping_sub(self.last_ms)));
        self.last_ms = ms;
        self.count += 1;
        if let Some(number) = self.links.get(&click.link) {
            varint::put(&mut self.out, (*number).into());
        } else {
            let number = next(self.links.len());
            self.links.insert(click.link, number);
            varint::put(&mut self.out, number.into());
            varint::put(&mut self.out, click.link.0);
            let (name, is_new) = self.name(click.project);
            self.put_name(name, is_new.then_some(click.project));
        }
        let (referrer, new_name) = match click.referrer {
            Referrer::None => (Referrer::None, None),
            Referrer::NotKept => (Referrer::NotKept, None),
            Referrer::Host(host) => {
                let (name, is_new) = self.name(host);
                (Referrer::Host(name), is_new.then_some(host))
            }
        };
        let kind = (click.traits, referrer, click.visitor.is_some());
        if let Some(number) = self.kinds.get(&kind) {
            varint::put(&mut self.out, (*number).into());
        } else {
            let number = next(self.kinds.len());
            self.kinds.insert(kind, number);
            varint::put(&mut self.out, number.into());
            self.put_kind(&kind, new_name);
        }
        if let Some(position) = click.visitor {
            self.out.extend_from_slice(&position.to_bytes());
        }
    }

    /// The number of a name, and whether it is new.
    fn name(&mut self, name: &str) -> (u32, bool) {
        if let Some(number) = self.names.get(name) {
            return (*number, false);
        }
        let number = next(self.names.len());
        self.names.insert(name.into(), number);
        (number, true)
    }

    fn put_name(&mut self, number: u32, new: Option<&str>) {
        varint::put(&mut self.out, number.into());
        if let Some(text) = new {
            varint::put_text(&mut self.out, text);
        }
    }

    fn put_kind(&mut self, (traits, referrer, has_position): &Kind, new_name: Option<&str>) {
        let Traits { agent, language, country } = traits;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = flag(agent.is_bot, BOT)
            | flag(*has_position, HAS_POSITION)
            | flag(language.is_some(), HAS_LANGUAGE)
            | flag(country.is_some(), HAS_COUNTRY);
        self.out.extend_from_slice(&[agent.browser.number(), agent.system.number(), agent.device.number(), flags]);
        self.out.extend(language.iter().flat_map(|l| l.bytes()));
        self.out.extend(country.iter().flat_map(|c| c.bytes()));
        match referrer {
            Referrer::None => self.out.push(0),
            Referrer::NotKept => self.out.push(1),
            Referrer::Host(name) => {
                varint::put(&mut self.out, 2 + u64::from(*name));
                if let Some(text) = new_name {
                    varint::put_text(&mut self.out, text);
                }
            }
        }
    }

    /// How many clicks there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How long the segment is by now, in bytes.
    pub fn byte_count(&self) -> usize {
        self.out.len()
    }

    /// The segment.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// The next number of a table; a segment never has as many as numbers.
fn next(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63).cast_unsigned()
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

/// A segment that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Every link, with its project.
    pub links: Vec<(LinkId, &'a str)>,
    /// Every kind of visitor, with where they came from.
    pub kinds: Vec<(Traits, Referrer<&'a str>)>,
    /// Every click in its order.
    pub entries: Vec<Entry>,
}

impl<'a> Segment<'a> {
    /// Reads a whole segment; `None` when it is damaged, or of a version that this program does not know.
    pub fn parse(mut bytes: &'a [u8]) -> Option<Self> {
        let rest = &mut bytes;
        if varint::take_byte(rest)? != SEGMENT_FORMAT {
            return None;
        }
        let mut ms = i64::from_le_bytes(varint::take_array(rest)?);
        let mut this = Self::default();
        let mut names: Vec<&'a str> = Vec::new();
        let mut have_position: Vec<bool> = Vec::new();
        while !rest.is_empty() {
            ms = ms.wrapping_add(unzigzag(varint::take(rest)?));
            let link = usize::try_from(varint::take(rest)?).ok()?;
            if link == this.links.len() {
                let id = LinkId(varint::take(rest)?);
                let name = varint::take(rest)?;
                this.links.push((id, take_name(rest, &mut names, name)?));
            }
            let kind = usize::try_from(varint::take(rest)?).ok()?;
            if kind == this.kinds.len() {
                let [browser, system, device, flags] = varint::take_array(rest)?;
                let agent = Agent {
                    browser: Browser::of_number(browser),
                    system: System::of_number(system),
                    device: Device::of_number(device),
                    is_bot: flags & BOT != 0,
                };
                let mut code = |flag| (flags & flag != 0).then(|| varint::take_array::<2>(rest));
                let (language, country) = (code(HAS_LANGUAGE), code(HAS_COUNTRY));
                let text = |code: Option<Option<[u8; 2]>>| match code {
                    None => Some(None),
                    Some(code) => code.map(Some),
                };
                let language = text(language)?.map(|code| Language::parse(std::str::from_utf8(&code).unwrap_or("")));
                let country = text(country)?.map(|code| Country::parse(std::str::from_utf8(&code).unwrap_or("")));
                let referrer = match varint::take(rest)? {
                    0 => Referrer::None,
                    1 => Referrer::NotKept,
                    name => Referrer::Host(take_name(rest, &mut names, name - 2)?),
                };
                let traits = Traits { agent, language: language.flatten(), country: country.flatten() };
                this.kinds.push((traits, referrer));
                have_position.push(flags & HAS_POSITION != 0);
            }
            let visitor =
                if *have_position.get(kind)? { Some(Position::of_bytes(varint::take_array(rest)?)?) } else { None };
            if link >= this.links.len() {
                return None;
            }
            this.entries.push(Entry { at: Timestamp::from_millis(ms), link, kind, visitor });
        }
        Some(this)
    }

    /// A click with everything that it says.
    pub fn record(&self, entry: &Entry) -> Option<Record<'a>> {
        let (link, project) = *self.links.get(entry.link)?;
        let (traits, referrer) = *self.kinds.get(entry.kind)?;
        Some(Record { at: entry.at, link, project, traits, referrer, visitor: entry.visitor })
    }
}

fn take_name<'a>(rest: &mut &'a [u8], names: &mut Vec<&'a str>, number: u64) -> Option<&'a str> {
    let number = usize::try_from(number).ok()?;
    if number == names.len() {
        names.push(varint::take_text(rest)?);
    }
    names.get(number).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(clicks: &[Record<'_>]) -> Vec<u8> {
        let mut writer = Writer::default();
        for click in clicks {
            writer.push(click);
        }
        assert_eq!(writer.count(), clicks.len() as u64);
        writer.finish()
    }

    #[test]
    fn a_click_takes_few_bytes() {
        let hosts = ["news.example", "google.com", "t.co", "mail.example.org"];
        let agents = ["Firefox/133.0", "Chrome/131.0 Mobile", "Version/18.1 Mobile Safari/604.1"];
        let clicks: Vec<Record<'_>> = (0..10_000_u64)
            .map(|i| Record {
                at: Timestamp::from_millis(1_795_478_400_000 + i64::try_from(i / 10).unwrap()),
                link: LinkId(1_000_000 + i * i % 500),
                project: "default",
                traits: Traits {
                    agent: Agent::parse(agents[(i % 3) as usize].as_bytes()),
                    language: Language::parse(["de", "en"][(i % 2) as usize]),
                    country: None,
                },
                referrer: Referrer::Host(hosts[(i % 4) as usize]),
                visitor: Some(Position::of_hash(i.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
            })
            .collect();
        let bytes = write(&clicks);
        assert!(bytes.len() < clicks.len() * 8, "{} bytes", bytes.len());
    }

    #[test]
    fn a_cut_segment_is_refused() {
        let click = Record {
            at: Timestamp::EPOCH,
            link: LinkId(7),
            project: "default",
            traits: Traits::default(),
            referrer: Referrer::Host("example.com"),
            visitor: Some(Position::of_hash(5)),
        };
        let bytes = write(&[click]);
        assert_eq!(Segment::parse(&bytes).unwrap().entries.len(), 1);
        // After its head, a segment without clicks is whole.
        for len in (0..bytes.len()).filter(|len| *len != 9) {
            assert_eq!(Segment::parse(&bytes[..len]), None, "{len}");
        }
        let newer = [&[SEGMENT_FORMAT + 1], &bytes[1..]].concat();
        assert_eq!(Segment::parse(&newer), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            clicks in proptest::collection::vec(
                (any::<i32>(), 0_u64..40, 0_u8..3, any::<u64>(), 0_u8..20, any::<bool>(), 0_u8..6), 0..300),
        ) {
            let projects = ["default", "shop", "blog"];
            let hosts: Vec<String> = (0..20).map(|i| format!("h{i}.example")).collect();
            let records: Vec<Record<'_>> = clicks
                .iter()
                .map(|(ms, link, project, hash, host, is_bot, how)| Record {
                    at: Timestamp::from_millis(i64::from(*ms) * 1000),
                    // A link has one project.
                    link: LinkId(link * 3 + u64::from(*project)),
                    project: projects[usize::from(*project)],
                    traits: Traits {
                        agent: Agent { browser: Browser::of_number(*host), is_bot: *is_bot, ..Agent::default() },
                        language: if how % 2 == 0 { Language::parse("de") } else { None },
                        country: if how % 3 == 0 { Country::parse("CH") } else { None },
                    },
                    referrer: match how {
                        0 => Referrer::None,
                        1 => Referrer::NotKept,
                        _ => Referrer::Host(&hosts[usize::from(*host)]),
                    },
                    visitor: (!is_bot).then(|| Position::of_hash(*hash)),
                })
                .collect();
            let bytes = write(&records);
            if records.is_empty() {
                prop_assert!(bytes.is_empty());
            } else {
                let segment = Segment::parse(&bytes).unwrap();
                let read: Vec<Record<'_>> = segment.entries.iter().map(|e| segment.record(e).unwrap()).collect();
                prop_assert_eq!(read, records);
            }
        }

        #[test]
        fn anything_is_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(first) = bytes.first_mut() {
                *first = SEGMENT_FORMAT;
            }
            if let Some(segment) = Segment::parse(&bytes) {
                prop_assert!(segment.entries.iter().all(|e| segment.record(e).is_some()));
            }
        }
    }
}
