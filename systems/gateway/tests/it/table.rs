//! TABLE-1: the index finds what going through all routes in their order would find.

use std::sync::Arc;

use gateway::model::{
    Document, Origin, Parts, RequestHead, RouteSpec, Table, check, compile,
    route::{MatchSpec, PathSpec, ValueSpec},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use kernel::FieldError;
use proptest::prelude::*;

pub(crate) fn table(routes: Vec<RouteSpec>) -> Table {
    let document = Arc::new(Document { routes, ..Document::default() });
    let found = check(&document, &["links"]);
    assert!(found.errors.is_empty(), "{:?}", found.errors);
    let none = || Err(FieldError { field: String::new(), detail: String::new() });
    let parts = Parts { upstream: &|_| None, chain: &|_| none(), before: &|_| None };
    compile(document, Origin::File, 0, &parts).unwrap()
}

pub(crate) fn route(name: &str, matching: MatchSpec) -> RouteSpec {
    RouteSpec { name: name.to_owned(), matching, service: Some("links".to_owned()), ..RouteSpec::default() }
}

/// A request that owns what it is made of.
#[derive(Debug, Clone)]
struct Asked {
    host: String,
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

impl Asked {
    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            scheme: "https",
            host: &self.host,
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }
}

/// The order as the documentation has it, written without a look at the index.
mod oracle {
    use super::{Asked, MatchSpec, PathSpec, RouteSpec, ValueSpec};

    type Place = (i64, u8, i64, u8, i64, u8, i64, i64, usize);

    fn host_place(rule: Option<&String>, host: &str) -> Option<(u8, i64)> {
        match rule {
            None => Some((2, 0)),
            Some(rule) => match rule.strip_prefix('*') {
                Some(end) => {
                    (host.len() > end.len() && host.ends_with(end)).then(|| (1, -i64::try_from(end.len()).unwrap()))
                }
                None => (rule == host).then_some((0, 0)),
            },
        }
    }

    fn pieces(path: &str) -> Vec<&str> {
        path[1..].split('/').collect()
    }

    fn path_place(spec: Option<&PathSpec>, path: &str) -> Option<(u8, i64, u8, i64)> {
        let length = |n: usize| -i64::try_from(n).unwrap();
        let Some(spec) = spec else { return Some((4, 0, 0, 0)) };
        if let Some(exact) = &spec.exact {
            return (exact == path).then_some((0, 0, 0, 0));
        }
        if let Some(prefix) = &spec.prefix {
            let prefix = prefix.trim_end_matches('/');
            if prefix.is_empty() {
                return Some((4, 0, 0, 0));
            }
            return (path == prefix || path.starts_with(&format!("{prefix}/")))
                .then(|| (2, length(prefix.len()), 0, 0));
        }
        if let Some(pattern) = &spec.pattern {
            let (wanted, given) = (pieces(pattern), pieces(path));
            let has_rest = wanted.last().is_some_and(|last| last.starts_with("{*"));
            let fixed = wanted.len() - usize::from(has_rest);
            if given.len() < fixed + usize::from(has_rest) || (!has_rest && given.len() != fixed) {
                return None;
            }
            let fits = wanted[..fixed]
                .iter()
                .zip(&given)
                .all(|(w, g)| if w.starts_with('{') { !g.is_empty() } else { w == g });
            let literal_count = wanted[..fixed].iter().filter(|w| !w.starts_with('{')).count();
            return fits.then(|| (1, length(literal_count), u8::from(has_rest), length(fixed)));
        }
        let expression = regex::Regex::new(&format!("^(?:{})$", spec.regex.as_ref().unwrap())).unwrap();
        expression.is_match(path).then_some((3, 0, 0, 0))
    }

    fn value_holds(spec: &ValueSpec, values: &[String]) -> bool {
        match (&spec.value, &spec.regex, spec.present) {
            (Some(value), ..) => values.contains(value),
            (_, Some(expression), _) => {
                let expression = regex::Regex::new(&format!("^(?:{expression})$")).unwrap();
                values.iter().any(|v| expression.is_match(v))
            }
            (.., Some(is)) => values.is_empty() != is,
            _ => unreachable!(),
        }
    }

    fn conditions_hold(spec: &MatchSpec, asked: &Asked) -> bool {
        let method = asked.method.as_str();
        let by_method =
            spec.methods.is_empty() || spec.methods.iter().any(|m| m == method || (m == "GET" && method == "HEAD"));
        let header = |name: &str| -> Vec<String> {
            asked.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
        };
        let parameter = |name: &str| -> Vec<String> {
            let pairs = asked.query.iter().flat_map(|q| q.split('&')).filter_map(|pair| pair.split_once('='));
            pairs.filter(|(n, _)| *n == name).map(|(_, v)| v.to_owned()).collect()
        };
        by_method
            && spec.headers.iter().all(|h| value_holds(h, &header(&h.name)))
            && spec.query.iter().all(|q| value_holds(q, &parameter(&q.name)))
    }

    pub(super) fn find<'a>(routes: &'a [RouteSpec], asked: &Asked) -> Option<&'a str> {
        let mut best: Option<(Place, &str)> = None;
        for (number, route) in routes.iter().enumerate() {
            let spec = &route.matching;
            let Some(path) = path_place(spec.path.as_ref(), &asked.path) else { continue };
            if !conditions_hold(spec, asked) {
                continue;
            }
            let hosts: Vec<Option<&String>> =
                if spec.hosts.is_empty() { vec![None] } else { spec.hosts.iter().map(Some).collect() };
            for host in hosts.into_iter().filter_map(|host| host_place(host, &asked.host)) {
                let conditions = usize::from(!spec.methods.is_empty()) + spec.headers.len() + spec.query.len();
                let conditions = -i64::try_from(conditions).unwrap();
                let place =
                    (-i64::from(route.priority), host.0, host.1, path.0, path.1, path.2, path.3, conditions, number);
                if best.is_none_or(|(before, _)| place < before) {
                    best = Some((place, &route.name));
                }
            }
        }
        best.map(|(_, name)| name)
    }
}

fn hosts() -> impl Strategy<Value = Vec<String>> {
    let host = prop::sample::select(vec![
        "a.example.com",
        "b.example.com",
        "example.com",
        "*.example.com",
        "*.com",
        "*.a.example.com",
        "x.a.example.com",
    ]);
    prop::collection::btree_set(host, 0..3).prop_map(|set| set.into_iter().map(str::to_owned).collect())
}

fn segment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "ab", "v1", ""])
}

fn literal() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "v1"]), 0..4)
        .prop_map(|s| format!("/{}", s.join("/")))
}

fn path_spec() -> impl Strategy<Value = Option<PathSpec>> {
    let pattern = (prop::collection::vec(prop::sample::select(vec!["a", "b", "{}"]), 1..4), any::<bool>()).prop_map(
        |(segments, has_rest)| {
            let mut text = String::new();
            for (i, segment) in segments.iter().enumerate() {
                text += &if *segment == "{}" { format!("/{{n{i}}}") } else { format!("/{segment}") };
            }
            if has_rest { text + "/{*rest}" } else { text }
        },
    );
    let regex = prop::sample::select(vec!["/a.*", "/[ab]", "/(v1|a)/b", ".*/ab", "/(?<x>[a-z]+)/b"]);
    prop_oneof![
        1 => Just(None),
        3 => literal().prop_map(|p| Some(PathSpec { exact: Some(p), ..PathSpec::default() })),
        4 => (literal(), any::<bool>()).prop_map(|(p, slash)| {
            let p = if slash && p != "/" { p + "/" } else { p };
            Some(PathSpec { prefix: Some(p), ..PathSpec::default() })
        }),
        3 => pattern.prop_map(|p| Some(PathSpec { pattern: Some(p), ..PathSpec::default() })),
        1 => regex.prop_map(|r| Some(PathSpec { regex: Some(r.to_owned()), ..PathSpec::default() })),
    ]
}

fn value_spec(name: &'static str) -> impl Strategy<Value = ValueSpec> {
    let of = move |value: Option<&str>, regex: Option<&str>, present| ValueSpec {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        regex: regex.map(str::to_owned),
        present,
    };
    prop::sample::select(vec![
        of(Some("1"), None, None),
        of(Some("2"), None, None),
        of(None, Some("[12]"), None),
        of(None, None, Some(true)),
        of(None, None, Some(false)),
    ])
}

fn route_spec() -> impl Strategy<Value = RouteSpec> {
    let methods = prop::sample::select(vec![vec![], vec!["GET"], vec!["POST"], vec!["GET", "POST"]]);
    let headers = prop::collection::vec(value_spec("x-h"), 0..2);
    let query = prop::collection::vec(value_spec("q"), 0..2);
    (hosts(), path_spec(), methods, headers, query, -1..=1_i32).prop_map(
        |(hosts, path, methods, headers, query, priority)| {
            let methods = methods.into_iter().map(str::to_owned).collect();
            let matching = MatchSpec { hosts, path, methods, headers, query };
            RouteSpec { priority, ..route("", matching) }
        },
    )
}

fn asked() -> impl Strategy<Value = Asked> {
    let host = prop::sample::select(vec![
        "a.example.com",
        "b.example.com",
        "example.com",
        "x.a.example.com",
        "c.com",
        "com",
        "other.org",
        "",
    ]);
    let path = prop::collection::vec(segment(), 1..5).prop_map(|s| format!("/{}", s.join("/")));
    let method = prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST, Method::PUT]);
    let query = prop::sample::select(vec![None, Some("q=1"), Some("q=3&q=2"), Some("z=1")]);
    let header = prop::sample::select(vec![None, Some("1"), Some("2"), Some("3")]);
    (host, path, method, query, header).prop_map(|(host, path, method, query, header)| {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.append(HeaderName::from_static("x-h"), HeaderValue::from_static(value));
        }
        Asked { host: host.to_owned(), method, path, query: query.map(str::to_owned), headers }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_index_finds_what_the_order_says(
        routes in prop::collection::vec(route_spec(), 0..25),
        asked in prop::collection::vec(asked(), 60),
    ) {
        let routes: Vec<RouteSpec> =
            routes.into_iter().enumerate().map(|(i, r)| RouteSpec { name: format!("r{i}"), ..r }).collect();
        let table = table(routes.clone());
        for asked in &asked {
            let found = table.find(&asked.head()).map(|route| &*route.name);
            prop_assert_eq!(found, oracle::find(&routes, asked), "{:?}", asked);
            // What explains says the same as what finds.
            let explained = table.explain(&asked.head());
            prop_assert_eq!(explained.route.as_deref(), found);
            let taken: Vec<&str> =
                explained.tried.iter().filter(|t| t.outcome == "taken").map(|t| t.route.as_str()).collect();
            prop_assert_eq!(taken, found.into_iter().collect::<Vec<_>>());
        }
    }
}

/// Everything between `/a` and what is found in it, in the order of the document.
#[test]
fn the_order_is_the_one_that_is_documented() {
    let path = |kind: &str, text: &str| {
        let text = Some(text.to_owned());
        let spec = PathSpec::default();
        Some(match kind {
            "exact" => PathSpec { exact: text, ..spec },
            "prefix" => PathSpec { prefix: text, ..spec },
            "pattern" => PathSpec { pattern: text, ..spec },
            _ => PathSpec { regex: text, ..spec },
        })
    };
    let of =
        |name: &str, kind: &str, text: &str| route(name, MatchSpec { path: path(kind, text), ..MatchSpec::default() });
    let all = [
        of("exact", "exact", "/a/b/c"),
        of("pattern", "pattern", "/a/b/{x}"),
        of("pattern with less", "pattern", "/a/{x}/{y}"),
        of("pattern with a rest", "pattern", "/a/{x}/{*rest}"),
        of("longer", "prefix", "/a/b"),
        of("shorter", "prefix", "/a"),
        of("regex", "regex", "/a.*"),
        of("all", "prefix", "/"),
    ];
    let names: Vec<String> = all.iter().map(|r| r.name.replace(' ', "-")).collect();
    let head = RequestHead {
        scheme: "http",
        host: "x",
        method: &Method::GET,
        path: "/a/b/c",
        query: None,
        headers: &HeaderMap::new(),
    };
    // Backwards in the document, so that only the order of kinds can bring them forward.
    let mut left: Vec<RouteSpec> =
        all.iter().rev().map(|r| RouteSpec { name: r.name.replace(' ', "-"), ..r.clone() }).collect();
    for name in &names {
        let table = table(left.clone());
        assert_eq!(table.find(&head).map(|r| r.name.to_string()).as_ref(), Some(name));
        left.retain(|r| r.name != *name);
    }
}
