//! What a chart costs: a year with millions of clicks on one link, asked for by day, by hour and by every dimension.
//!
//! The year is made, not inserted: every click is a visit that the redirector answers on a simulated clock, and takes the product's own way
//! through queue, log and rollups.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small figures for a report"
)]

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::{Duration, Instant},
};

use access::Access;
use database::{Db, Durability, SqliteOptions};
use http::Method;
use identity::Principal;
use kernel::{Clock, Lifecycle, ProjectId, Rng, SimClock, Stage, Timestamp};
use memory::{LocalOptions, Memory};
use shortener::{
    Deps, NewLink, Redirector, Shortener, ShortenerConfig, Visit,
    model::{Dimension, Series, Step},
};
use telemetry::Metrics;

use crate::{
    machine,
    report::{Report, Row},
    zipf::Zipf,
};

/// 2025-11-24T00:00:00Z.
const START: Timestamp = Timestamp::from_millis(1_763_942_400_000);
const DAYS: u32 = 365;
const DAY: Duration = Duration::from_hours(24);
const OTHER_LINKS: u32 = 10_000;
/// For each click on the one link, so many on others, in thousandths.
const OTHER_CLICKS: u64 = 20;
const PEOPLE: u64 = 2_000_000;
const HOSTS: u32 = 400;
/// How often each question is asked.
const QUESTIONS: usize = 300;
/// How often rolling 100,000 clicks is measured.
const ROLLS: u32 = 5;
/// Shares of the hours of a day, in thousandths.
const HOURS: [u64; 24] = [14, 9, 7, 6, 7, 12, 22, 36, 48, 56, 60, 60, 58, 57, 56, 56, 57, 58, 60, 62, 62, 57, 45, 35];

const AGENTS: [&str; 12] = [
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.2903.70",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Instagram 345.0.8.30.96",
    "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/26.0 Chrome/122.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_7_1) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
];
const LANGUAGES: [&str; 12] = [
    "en-US,en;q=0.9",
    "de-DE,de;q=0.9,en;q=0.6",
    "es-ES,es;q=0.9",
    "fr-FR,fr;q=0.9,en;q=0.5",
    "pt-BR,pt;q=0.9",
    "ja",
    "it-IT",
    "nl,en;q=0.7",
    "pl",
    "tr-TR",
    "zh-CN,zh;q=0.9",
    "sv-SE,sv;q=0.9,en;q=0.8",
];
const COUNTRIES: [&str; 16] =
    ["US", "DE", "ES", "FR", "BR", "JP", "IT", "NL", "PL", "TR", "CN", "SE", "GB", "IN", "CA", "AT"];

struct World {
    shortener: Shortener,
    redirector: Redirector,
    metrics: Metrics,
    db: Db,
    sim: SimClock,
    lifecycle: Lifecycle,
}

/// What making the year showed.
struct Made {
    clicks: u64,
    people: u64,
    seconds: f64,
    /// Seconds that 100,000 clicks take to roll: all on one link, and by a Zipf law on all others.
    roll_seconds: [f64; 2],
    log_bytes: f64,
    /// Mean error of the estimate of a day's visitors.
    visitor_error: f64,
    hot: String,
}

pub(crate) fn run(clicks: u64) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    runtime.block_on(measure(folder.path(), clicks))
}

async fn world(folder: &Path) -> World {
    let (clock, sim) = Clock::simulated(START);
    let lifecycle = Lifecycle::new(Clock::system(), Rng::system());
    let planes = lifecycle.tasks(Stage::Planes);
    let options = SqliteOptions { durability: Durability::Normal, ..SqliteOptions::default() };
    let db = Db::open_sqlite(&folder.join("year.db"), options, Clock::system(), &planes).expect("a new file");
    let options = access::Options { dev: true, ..access::Options::default() };
    let blocks = lifecycle.tasks(Stage::Blocks);
    let access = Access::start(db.clone(), options, clock.clone(), Rng::system(), &blocks).await.expect("it starts").0;
    let networks: Vec<(String, &str)> =
        (0..224_usize).map(|i| (format!("{i}.0.0.0"), COUNTRIES[i * i % COUNTRIES.len()])).collect();
    let networks: Vec<(&str, usize, &str)> =
        networks.iter().map(|(net, country)| (net.as_str(), 8, *country)).collect();
    let countries = folder.join("countries.mmdb");
    std::fs::write(&countries, testkit::mmdb::countries(&networks)).expect("the folder can be written");
    let metrics = Metrics::new();
    let memory = Memory::local(LocalOptions::default(), clock.clone(), Rng::system());
    let limiter = limiter::Limiter::open(limiter::Deps {
        config: limiter::LimiterConfig::default(),
        db: db.clone(),
        memory: memory.clone(),
        access: access.clone(),
        clock: clock.clone(),
        rng: Rng::system(),
        metrics: metrics.clone(),
        built_in: Vec::new(),
    });
    let limiter = limiter.await.expect("it opens");
    let shortener = Shortener::open(Deps {
        config: ShortenerConfig {
            creation_limit_per_minute: 0,
            click_queue: 65_536,
            geo_database: countries.to_str().expect("UTF-8").to_owned(),
            ..ShortenerConfig::default()
        },
        public_url: "https://go.example.com".to_owned(),
        db: db.clone(),
        memory,
        limiter,
        access,
        clock,
        rng: Rng::system(),
        metrics: metrics.clone(),
    })
    .await
    .expect("it opens");
    shortener.start(&lifecycle.tasks(Stage::Systems));
    World { redirector: Redirector::new(shortener.clone()), shortener, metrics, db, sim, lifecycle }
}

impl World {
    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.render().body;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("mainstay_shortener_")?.strip_prefix(name));
        lines.find_map(|rest| rest.trim().parse::<f64>().ok()).unwrap_or(0.0)
    }

    async fn shorten(&self, number: u32) -> String {
        let new = NewLink { url: format!("https://example.com/pages/{number}"), ..NewLink::default() };
        self.shortener.create(&Principal::dev(), new).await.expect("a link can be made").link.code.to_string()
    }

    async fn visit(&self, path: &str, person: u64, referer: &str) {
        let index = |of: usize, salt: u64| usize::try_from((person ^ salt) % of as u64).unwrap_or(0);
        let address = Ipv4Addr::from_bits(u32::try_from(person * 1_877 % 3_750_000_000).unwrap_or(0) + 0x0100_0000);
        let visit = Visit {
            user_agent: Some(AGENTS[index(AGENTS.len(), 0)].as_bytes()),
            accept_language: Some(LANGUAGES[index(LANGUAGES.len(), 0x5a)].as_bytes()),
            referer: Some(referer.as_bytes()).filter(|r| !r.is_empty()),
            client: IpAddr::V4(address),
            ..Visit::new(&Method::GET, path)
        };
        let answer = match self.redirector.try_cached(&visit) {
            Some(answer) => answer,
            None => self.redirector.resolve(&visit).await,
        };
        assert_eq!(answer.status(), 302, "every visit is answered");
    }

    async fn make(&self, clicks: u64) -> Made {
        let rng = Rng::seeded(7);
        let hot = self.shorten(0).await;
        let hot_path = format!("/{hot}");
        let mut others = Vec::new();
        for number in 1..=OTHER_LINKS {
            others.push(format!("/{}", self.shorten(number).await));
        }
        let (popular, from) = (Zipf::new(OTHER_LINKS), Zipf::new(HOSTS));
        let hosts: Vec<String> = (0..HOSTS)
            .map(|i| if i == 0 { String::new() } else { format!("https://www.site-{i}.example/page?ref={i}") })
            .collect();
        let started = Instant::now();
        let (mut made, mut people) = (0, 0);
        let mut errors = Vec::new();
        for day in 0..u64::from(DAYS) {
            let of_day = clicks * (day + 1) / u64::from(DAYS) - clicks * day / u64::from(DAYS);
            let mut seen: HashSet<u64> = HashSet::new();
            let (mut left, mut others_left) = (of_day, of_day * OTHER_CLICKS / 1000);
            for (hour, share) in HOURS.iter().enumerate() {
                let now = if hour == 23 { left } else { of_day * share / 1000 };
                let others_now = if hour == 23 { others_left } else { others_left / 24 };
                for i in 0..now {
                    // A quarter of the people come half of the time.
                    let person = (rng.unit_f64().powi(2) * 1e6) as u64 * (PEOPLE / 1_000_000);
                    let is_person = person as usize % AGENTS.len() != AGENTS.len() - 1;
                    if is_person {
                        seen.insert(person);
                        people += 1;
                    }
                    self.visit(&hot_path, person, &hosts[from.draw(&rng)]).await;
                    if i % 50_000 == 49_999 {
                        self.shortener.log_clicks().await.expect("the log takes it");
                    }
                }
                for _ in 0..others_now {
                    self.visit(&others[popular.draw(&rng)], rng.below(PEOPLE), &hosts[from.draw(&rng)]).await;
                }
                left -= now;
                others_left -= others_now;
                made += now + others_now;
                self.shortener.log_clicks().await.expect("the log takes it");
                if hour < 23 {
                    self.sim.advance(Duration::from_hours(1));
                }
            }
            self.shortener.flush_clicks().await.expect("it is rolled");
            let start = START.plus(DAY * u32::try_from(day).unwrap_or(0));
            let series = Series::new(start, start.plus(DAY), Step::Day).expect("one day");
            let counted = self.shortener.link_visitors(&ProjectId::default_project(), (None, &hot), series).await;
            let counted = counted.expect("it is counted")[0] as f64;
            errors.push((counted / seen.len() as f64 - 1.0).abs());
            self.sim.advance(Duration::from_hours(1));
            if day % 30 == 29 {
                println!("day {}: {made} clicks after {:.0} s", day + 1, started.elapsed().as_secs_f64());
            }
        }
        let (seconds, log_bytes) = (started.elapsed().as_secs_f64(), self.metric("click_log_bytes_total"));
        let mut roll_seconds = [0.0, 0.0];
        for (spread, sum) in roll_seconds.iter_mut().enumerate() {
            for _ in 0..ROLLS {
                for i in 0..100_000_u32 {
                    let path = if spread == 0 { &hot_path } else { &others[popular.draw(&rng)] };
                    let person = (rng.unit_f64().powi(2) * PEOPLE as f64) as u64;
                    self.visit(path, person, &hosts[from.draw(&rng)]).await;
                    // Segments as of 10,000 visits a second.
                    if i % 10_000 == 9_999 {
                        self.shortener.log_clicks().await.expect("the log takes it");
                    }
                }
                let started = Instant::now();
                self.shortener.flush_clicks().await.expect("it is rolled");
                *sum += started.elapsed().as_secs_f64() / f64::from(ROLLS);
            }
        }
        Made {
            clicks: made,
            people,
            seconds,
            roll_seconds,
            log_bytes,
            visitor_error: errors.iter().sum::<f64>() / errors.len() as f64,
            hot,
        }
    }

    async fn rows(&self, sql: &'static str) -> i64 {
        let row = self.db.get(sql, Vec::new()).await.expect("it can be read").expect("a count");
        row.get(0).expect("a number")
    }
}

async fn ask<F: AsyncFn() -> usize>(name: &str, question: F) -> Row {
    let mut times = Vec::with_capacity(QUESTIONS);
    let mut read = 0;
    for _ in 0..QUESTIONS {
        let started = Instant::now();
        read = question().await;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let first = times[0];
    times.sort_unstable_by(f64::total_cmp);
    let (median, slow) = (times[QUESTIONS / 2], times[QUESTIONS * 99 / 100]);
    println!("{name}: p50 {median:.2} ms, p99 {slow:.2} ms");
    Row { name: name.to_owned(), figures: vec![median, slow, first, read as f64] }
}

async fn measure(folder: &Path, clicks: u64) -> Report {
    let world = world(folder).await;
    let made = world.make(clicks).await;
    assert!(world.metric("clicks_total{outcome=\"dropped\"}") == 0.0, "nothing was dropped");
    let (project, hot) = (ProjectId::default_project(), (None, made.hot.as_str()));
    let end = START.plus(DAY * DAYS);
    let shortener = &world.shortener;
    let series = |from, to, step| Series::new(from, to, step).expect("it fits");
    let year = series(START, end, Step::Day);
    let found = shortener.clicks(&project, &made.hot, year).await.expect("it is charted");
    assert_eq!(found.iter().map(|p| p.counts.people).sum::<u64>(), made.people, "every click is in the chart");
    let mut rows = vec![
        ask("a year by day", async || shortener.clicks(&project, &made.hot, year).await.expect("it answers").len())
            .await,
        ask("its visitors by day", async || {
            shortener.link_visitors(&project, hot, year).await.expect("it answers").len()
        })
        .await,
    ];
    let day = series(START.plus(DAY * 200), START.plus(DAY * 201), Step::Hour);
    rows.push(
        ask("a day by hour", async || shortener.clicks(&project, &made.hot, day).await.expect("it answers").len())
            .await,
    );
    let months = series(START.plus(DAY * 200), START.plus(DAY * 260), Step::Hour);
    rows.push(
        ask("60 days by hour", async || shortener.clicks(&project, &made.hot, months).await.expect("it answers").len())
            .await,
    );
    for dimension in Dimension::ALL {
        let name = format!("a year by {}, top 10", dimension.as_str());
        let of_link = async || {
            let found = shortener.link_analytics(&project, hot, (START, end), dimension, 10).await.expect("it answers");
            assert_eq!(found.values.iter().map(|v| v.clicks).sum::<u64>() + found.other, made.people);
            found.values.len()
        };
        rows.push(ask(&name, of_link).await);
    }
    let of_project = async || {
        let found = shortener.project_analytics(&project, (START, end), Dimension::Referrer, 10).await;
        found.expect("it answers").values.len()
    };
    rows.push(ask("a year of all links by referrer, top 10", of_project).await);
    let file = std::fs::metadata(folder.join("year.db")).map_or(0, |m| m.len()) >> 20;
    let counts = [
        world.rows("SELECT COUNT(*) FROM shortener_clicks").await,
        world.rows("SELECT COUNT(*) FROM shortener_link_days").await,
        world.rows("SELECT COUNT(*) FROM shortener_click_log").await,
    ];
    let report = Report {
        name: "year",
        title: format!("Charts over a year with {} clicks", made.clicks),
        conditions: vec![
            machine::describe(),
            format!(
                "made by {} visits of the redirector on a simulated clock, {clicks} of them on one link and the rest on {OTHER_LINKS} others by a \
                 Zipf law: {PEOPLE} people, {} user agents, {} languages, {HOSTS} referrers by a Zipf law, {} countries; every click went through \
                 queue, log and rollups ({:.0} s in all, {:.1} bytes of log a click)",
                made.clicks,
                AGENTS.len(),
                LANGUAGES.len(),
                COUNTRIES.len(),
                made.seconds,
                made.log_bytes / made.clicks as f64,
            ),
            format!(
                "SQLite of {file} MiB: {} buckets, {} days of links, {} segments of raw clicks (7 days); a day's visitors were off by {:.2} % in the mean",
                counts[0],
                counts[1],
                counts[2],
                made.visitor_error * 100.0,
            ),
            format!(
                "rolling 100,000 clicks from ten segments takes {:.0} ms when they are on one link, {:.0} ms when they are on {OTHER_LINKS} by a \
                 Zipf law",
                made.roll_seconds[0] * 1e3,
                made.roll_seconds[1] * 1e3,
            ),
            format!(
                "each question {QUESTIONS} times, one after another, through the service that API and console call; without HTTP"
            ),
        ],
        columns: vec!["p50 in ms", "p99 in ms", "first in ms", "points or values"],
        rows,
        charted: 1,
    };
    world.lifecycle.shutdown(Duration::from_secs(30)).await;
    report
}
