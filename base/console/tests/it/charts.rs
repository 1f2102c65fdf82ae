//! Charts whatever the data: no NaN, everything inside the view box, gaps not bridged.

use std::time::Duration;

use console::{
    Render, Status, Unit,
    charts::{Chart, HeatMap, Histogram, MAX_NODES, MAX_POINTS, MAX_SERIES, Topology, sparkline},
};
use kernel::Timestamp;
use proptest::prelude::*;

use crate::html::{Tag, assert_inert, tags};

fn any_value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        2 => Just(None),
        6 => (-1e6..1e6).prop_map(Some),
        1 => any::<f64>().prop_map(Some),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::MIN), Just(0.0), Just(-0.0), Just(f64::MIN_POSITIVE)].prop_map(Some),
    ]
}

fn any_unit() -> impl Strategy<Value = Unit> {
    prop_oneof![Just(Unit::Count), Just(Unit::PerSecond), Just(Unit::Millis), Just(Unit::Bytes), Just(Unit::Percent)]
}

fn times(count: usize) -> Vec<Timestamp> {
    (0..i64::try_from(count).unwrap()).map(|i| Timestamp::from_millis(1_800_000_000_000 + i * 60_000)).collect()
}

/// The points of a path made of M, L, H, V and z with absolute coordinates.
fn points(d: &str) -> Vec<(char, f64, f64)> {
    let (mut x, mut y, mut out) = (0.0, 0.0, Vec::new());
    let mut rest = d;
    while let Some(command) = rest.chars().next() {
        rest = &rest[1..];
        let stop = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let numbers: Vec<f64> =
            rest[..stop].split_whitespace().map(|n| n.parse().unwrap_or_else(|_| panic!("{n:?} in {d}"))).collect();
        rest = &rest[stop..];
        match (command, numbers.as_slice()) {
            ('M' | 'L', [to_x, to_y]) => (x, y) = (*to_x, *to_y),
            ('H', [to]) => x = *to,
            ('V', [to]) => y = *to,
            ('z', []) => {}
            _ => panic!("{command} with {numbers:?} in {d}"),
        }
        out.push((command, x, y));
    }
    out
}

fn paths<'a>(tags: &'a [Tag], class: &str) -> Vec<&'a str> {
    let has = |t: &Tag| t.get("class").is_some_and(|c| c.split(' ').any(|one| one == class));
    tags.iter().filter(|t| t.name == "path" && has(t)).map(|t| t.get("d").unwrap()).collect()
}

/// No number that is not one, and every drawn point inside its plot.
fn assert_sound(html: &str, width: f64, height: f64) {
    for bad in ["NaN", "inf", "e+", "undefined"] {
        assert!(!html.contains(bad), "{bad} in {html}");
    }
    assert_inert(html);
    for tag in tags(html).iter().filter(|t| t.name == "path" && t.get("class") != Some("shape")) {
        for (_, x, y) in points(tag.get("d").unwrap()) {
            assert!((0.0..=width).contains(&x) && (0.0..=height).contains(&y), "({x}, {y}) outside {width} × {height}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn series_of_anything(
        first in prop::collection::vec(any_value(), 0..50),
        second in prop::collection::vec(any_value(), 0..50),
        unit in any_unit(),
        zoomed in any::<bool>(),
    ) {
        for chart in [Chart::line("c"), Chart::area("c"), Chart::bars("c")] {
            let mut chart = chart.unit(unit).times(times(first.len())).series("first", first.clone()).series("second", second.clone());
            if zoomed {
                chart = chart.zoomed();
            }
            assert_sound(&chart.render().into_string(), 1_000.0, 200.0);
        }
        assert_sound(&sparkline("c", &first).into_string(), 100.0, 24.0);
    }

    /// A line has one run for each unbroken run of data, with exactly its points.
    #[test]
    fn gaps_are_not_bridged(values in prop::collection::vec(prop::option::weighted(0.6, 0.0..100.0_f64), 1..60)) {
        let html = Chart::line("c").times(times(values.len())).series("s", values.clone()).render().into_string();
        let tags = tags(&html);
        let drawn = points(paths(&tags, "line")[0]);
        let runs: Vec<usize> = values.split(Option::is_none).map(<[_]>::len).filter(|n| *n > 0).collect();
        // A run of one point is a move and a line of no length.
        let lengths: Vec<usize> = drawn.split(|p| p.0 == 'M').skip(1).map(<[_]>::len).collect();
        prop_assert_eq!(lengths, runs.iter().map(|n| if *n == 1 { 1 } else { n - 1 }).collect::<Vec<_>>());
        let gaps: usize = paths(&tags, "gap").iter().map(|d| d.matches('M').count()).sum();
        let missing = values.split(Option::is_some).filter(|run| !run.is_empty()).count();
        prop_assert_eq!(gaps, if runs.is_empty() { 0 } else { missing });
        // Areas close each run by itself.
        let html = Chart::area("c").times(times(values.len())).series("s", values.clone()).render().into_string();
        let area = crate::html::tags(&html);
        prop_assert_eq!(paths(&area, "fill")[0].matches('z').count(), runs.len());
        // Sparklines too.
        let html = sparkline("c", &values).into_string();
        let spark = crate::html::tags(&html);
        prop_assert_eq!(spark.iter().find(|t| t.name == "path").unwrap().get("d").unwrap().matches('M').count(), runs.len());
    }

    #[test]
    fn heat_maps_and_histograms_of_anything(
        columns in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u64>(), 0..8)), 0..30),
        bounds in prop::collection::vec(any_value(), 0..8),
        mark in any::<f64>(),
        unit in any_unit(),
    ) {
        let rows: Vec<f64> = (1..=5_i32).map(f64::from).collect();
        let mut heat = HeatMap::new("c", unit, rows);
        for (at, counts) in times(columns.len()).into_iter().zip(columns.clone()) {
            heat = heat.column(at, counts);
        }
        assert_sound(&heat.render().into_string(), 1_000.0, 200.0);
        let mut histogram = Histogram::new("c", unit, 0.0).mark("m", mark);
        for (i, bound) in bounds.into_iter().flatten().enumerate() {
            histogram = histogram.bucket(bound, columns.get(i).cloned().flatten().and_then(|c| c.first().copied()).unwrap_or(3));
        }
        assert_sound(&histogram.render().into_string(), 1_000.0, 200.0);
    }

    /// Any graph, with cycles and edges to nowhere, ends and stays inside its own size.
    #[test]
    fn graphs_of_anything(count in 0..60_usize, edges in prop::collection::vec((0..70_usize, 0..70_usize), 0..120)) {
        let mut graph = Topology::new("c");
        for i in 0..count {
            graph = graph.node(i.to_string(), "name", "note", Status::Ok);
        }
        for (from, to) in edges {
            graph = graph.edge(from.to_string(), to.to_string(), "1/s", Status::Degraded);
        }
        let html = graph.render().into_string();
        assert_inert(&html);
        prop_assert!(!html.contains("NaN"));
        let tags = tags(&html);
        let svg = tags.iter().find(|t| t.name == "svg").unwrap();
        let [width, height] = ["width", "height"].map(|side| svg.get(side).unwrap().parse::<f64>().unwrap());
        let number = |tag: &Tag, name: &str| tag.get(name).unwrap().parse::<f64>().unwrap();
        let nodes: Vec<_> = tags.iter().filter(|t| t.name == "rect" && t.get("rx") == Some("6")).collect();
        prop_assert_eq!(nodes.len(), count.min(MAX_NODES));
        let mut places: Vec<_> = nodes.iter().map(|n| (n.get("x").unwrap(), n.get("y").unwrap())).collect();
        for node in &nodes {
            prop_assert!(number(node, "x") + number(node, "width") <= width && number(node, "y") + number(node, "height") <= height);
        }
        places.sort_unstable();
        places.dedup();
        prop_assert_eq!(places.len(), nodes.len(), "two nodes in one place");
    }
}

#[test]
fn what_is_behind_a_chart() {
    let html = Chart::line("Latency")
        .unit(Unit::Millis)
        .times(times(3))
        .series("p50", [Some(1.5), None, Some(2.0)])
        .series("p99", [Some(9.0), None, Some(0.0)])
        .render()
        .into_string();
    // For screen readers, and in the table: no data is not zero.
    assert!(html.contains("p50: 1.5 ms to 2 ms, last 2 ms; p99: 0 ms to 9 ms, last 0 ms"), "{html}");
    assert!(html.contains("<td>no data</td>") && html.contains(">0 ms</td>"));
    let tags = tags(&html);
    let svg = tags.iter().position(|t| t.get("role") == Some("img")).unwrap();
    assert_eq!([tags[svg + 1].name.as_str(), &tags[svg + 2].name], ["title", "desc"]);
    assert_eq!(tags.iter().filter(|t| t.get("data-x").is_some()).count(), 3, "a row for each point");
}

#[test]
fn a_zero_bar_differs_from_no_bar() {
    let draw =
        |value| Chart::bars("c").times(times(3)).series("s", [Some(1.0), value, Some(1.0)]).render().into_string();
    assert!(draw(None).contains("class=\"gap\"") && !draw(Some(0.0)).contains("class=\"gap\""));
}

#[test]
fn nothing_known_says_so() {
    for chart in
        [Chart::line("c"), Chart::bars("c").times(times(5)).series("s", [None; 5]), Chart::area("c").times(times(5))]
    {
        assert!(chart.render().0.contains("No data in this time range"));
    }
}

#[test]
fn a_chart_has_limits() {
    let mut chart = Chart::line("c").times(times(2_000));
    for i in 0..20 {
        chart = chart.series(format!("series {i}"), vec![Some(1.0); 2_000]);
    }
    let html = chart.render().into_string();
    let tags = tags(&html);
    assert_eq!(tags.iter().filter(|t| t.get("data-x").is_some()).count(), MAX_POINTS);
    assert_eq!(paths(&tags, "line").len(), MAX_SERIES);
    // The newest are kept.
    let newest = times(2_000)[1_999];
    assert!(html.contains(&console::format::clock(newest)));
    assert!(!html.contains(&console::format::date_time(newest.minus(Duration::from_mins(400)))));
}

#[test]
fn axes_hold_zero_where_it_matters() {
    let labels = |chart: Chart| {
        chart.unit(Unit::Percent).times(times(2)).series("s", [Some(98.0), Some(99.0)]).render().into_string()
    };
    for chart in [Chart::line("c"), Chart::area("c").zoomed(), Chart::bars("c").zoomed()] {
        assert!(labels(chart).contains(">0 %</text>"));
    }
    assert!(!labels(Chart::line("c").zoomed()).contains(">0 %</text>"));
}
