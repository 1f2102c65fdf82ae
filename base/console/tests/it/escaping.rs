//! Hostile text through every component.

use std::time::Duration;

use console::{
    Chrome, Column, Confirm, Event, Field, Filters, Flash, Form, Head, KeyValues, Link, Markup, NavGroup, NavItem,
    Render, RequestBox, Row, Sort, Status, Table, Tile, Timeline, Unit, badge,
    charts::{Chart, HeatMap, Histogram, Topology, sparkline},
    columns, command_line, empty, error_state, format, live, post_button, search, section, section_with, tag, tiles,
};
use kernel::{Problem, ProjectId, Timestamp};
use maud::html;

use crate::html::assert_inert;

const HOSTILE: [&str; 6] = [
    "\"><script>alert(1)</script>",
    "' onmouseover='alert(1)",
    "\" onfocus=\"alert(1)\" autofocus=\"",
    "</textarea></title></svg></style><img src=x onerror=alert(1)>",
    "javascript:alert(1)//",
    "<!--<svg/onload=alert(1)>\u{0}\u{202e}&#x22;&quot;",
];

/// Every component with `x` in every place that takes text.
fn everything(x: &str) -> Vec<(&'static str, Markup)> {
    let now = Timestamp::from_millis(1_800_000_000_000);
    let at = Link::new(x).with(x, x).with("sort", x).with("q", x);
    let group =
        NavGroup { name: x.into(), items: vec![NavItem { name: x.into(), path: x.into(), status: Some(Status::Ok) }] };
    let mut chrome = Chrome::new(vec![group], at.clone(), ProjectId::default_project());
    x.clone_into(&mut chrome.user);
    x.clone_into(&mut chrome.csrf);
    x.clone_into(&mut chrome.base_url);
    chrome.flash = Some(Flash::failed(x).undo(post_button(&chrome, x, x, &[(x, x)])));
    let request = RequestBox::new("POST", x).json(serde_json::json!({ x: x })).header(x, x).cli([x, x]).open();
    let problem =
        Problem::new(&kernel::error::INTERNAL, x).field(x, x).field("a", x).retry_after(Duration::from_secs(1));
    let filters = Filters::new().text("q", x, x).choice("s", x, [(x, x)]);
    let table = Table::new(x, &at)
        .column(Column::text("sort", x).sortable())
        .column(Column::number("n", x).cut())
        .row(Row::new(x).named(x).link(x, &at).cell(x))
        .sorted(Sort::from_link(&at, &["n"]))
        .filters(filters.clone())
        .bulk(x, x)
        .bulk_button(x, x, true)
        .next_cursor(Some(x.into()))
        .total(x);
    let fields = [
        Field::text(x, x),
        Field::lines(x, x, 3),
        Field::choice(x, x, [(x, x)]),
        Field::check(x, x),
        Field::secret(x, x),
    ]
    .map(|f| f.value(x).help(x).placeholder(x));
    let mut form = Form::post(&chrome, x).hidden(x, x).field(Field::url("a", x));
    for field in fields {
        form = form.field(field.clone()).field(field.error(x));
    }
    let times = [now, now.plus(Duration::from_mins(1))];
    let graph =
        Topology::new(x).node(x, x, x, Status::Ok).href(x).node("b", x, x, Status::Down).edge(x, "b", x, Status::Ok);
    let head = Head::new(x, x).crumb(x, at.clone()).live(at.clone()).ranged();
    vec![
        ("page", chrome.page_with(head, html! { (x) })),
        ("bare page", chrome.bare(x, x, html! { (x) })),
        ("error page", chrome.error_page(&problem)),
        (
            "tiles",
            tiles([
                Tile::new(x, x).unit(x).change(3.0, x).href(x).spark([Some(1.0), None]),
                Tile::new(x, x).note(x).link(&at),
            ]),
        ),
        ("table", table.render()),
        ("nothing matches", Table::new(x, &at).filters(filters).render()),
        ("empty table", Table::new(x, &Link::new("/")).empty(empty(x, x, html! { (x) })).render()),
        ("form", form.problem(&problem).submit(x).cancel(at.clone()).request(&chrome, &request).render()),
        (
            "confirm",
            Confirm::new(&chrome, x, x, x, x)
                .hidden(x, x)
                .cancel(at.clone())
                .refused()
                .request(&chrome, &request)
                .render(),
        ),
        ("request", chrome.request(&request)),
        ("command", command_line(x, x)),
        ("error", error_state(&problem)),
        ("values", KeyValues::new().item(x, x).copy(x, x).render()),
        ("timeline", Timeline::new(now).event(Event::new(now, x).who(x).detail(x)).render()),
        ("results", search::results(x, &[search::Hit { kind: x.into(), title: x.into(), detail: x.into(), to: at }])),
        ("no results", search::results(x, &[])),
        ("sections", columns(section(x, badge(Status::Ok, x)), section_with(x, tag(x), format::time(now, now)))),
        ("fragment", live::fragment(x, html! { (x) })),
        ("line", Chart::line(x).times(times).series(x, [Some(1.0), None]).render()),
        ("area", Chart::area(x).times(times).series(x, [Some(1.0), Some(2.0)]).render()),
        ("bars", Chart::bars(x).times(times).series(x, [Some(1.0), Some(2.0)]).render()),
        ("heat map", HeatMap::new(x, Unit::Millis, [1.0]).column(now, Some(vec![1])).render()),
        ("histogram", Histogram::new(x, Unit::Bytes, 0.0).bucket(1.0, 1).mark(x, 0.5).render()),
        ("sparkline", sparkline(x, &[Some(1.0)])),
        ("topology", graph.render()),
    ]
}

#[test]
fn text_never_becomes_markup_nor_script() {
    for hostile in HOSTILE {
        for (component, markup) in everything(hostile) {
            println!("{component} with {hostile:?}");
            assert_inert(&markup.0);
        }
    }
}

/// The same components hold the same tags whatever the text is: nothing was added and nothing taken away.
#[test]
fn text_never_changes_the_structure() {
    let names = |markup: &Markup| crate::html::tags(&markup.0).into_iter().map(|t| t.name).collect::<Vec<_>>();
    // A path of its own, so that links and highlights are the same.
    let plain = everything("plain");
    for hostile in HOSTILE {
        for ((component, plain), (_, markup)) in plain.iter().zip(everything(hostile)) {
            assert_eq!(names(plain), names(&markup), "{component} with {hostile:?}");
        }
    }
}
