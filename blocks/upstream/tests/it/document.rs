//! What documents may say, and how the numbers show.

use crate::world::{World, endpoints, spec};

#[test]
fn mistakes_are_named_by_their_place() {
    let world = World::new();
    let good = "endpoints = [{ address = \"10.0.0.1:80\" }]\n";
    for (text, field) in [
        ("endpoints = [{ address = \"0.0.0.0:80\" }]", "endpoints/0/address"),
        ("endpoints = [{ address = \"10.0.0.1:0\" }]", "endpoints/0/address"),
        ("endpoints = [{ address = \"10.0.0.1:80\" }, { address = \"10.0.0.1:80\" }]", "endpoints/1/address"),
        ("endpoints = [{ address = \"10.0.0.1:80\", weight = 1001 }]", "endpoints/0/weight"),
        ("endpoints = [{ address = \"10.0.0.1:80\", priority = 10 }]", "endpoints/0/priority"),
        ("endpoints = []\ndns = { name = \"a.b\", port = 1 }", "endpoints"),
        ("dns = { name = \"a..b\", port = 80 }", "dns/name"),
        ("dns = { name = \"a b\", port = 80 }", "dns/name"),
        ("dns = { name = \"a.b\" }", "dns/port"),
        ("dns = { name = \"a.b\", kind = \"srv\", port = 80 }", "dns/port"),
        (&format!("{good}balance = {{ algorithm = \"maglev\" }}"), "balance/hash_on"),
        (
            &format!("{good}balance = {{ algorithm = \"maglev\", hash_on = {{ header = \"a b\" }} }}"),
            "balance/hash_on/header",
        ),
        (
            &format!("{good}balance = {{ algorithm = \"maglev\", hash_on = \"path\", load_bound_percent = 100 }}"),
            "balance/load_bound_percent",
        ),
        (
            &format!("{good}balance = {{ algorithm = \"ring_hash\", hash_on = \"path\", slow_start = \"1s\" }}"),
            "balance/slow_start",
        ),
        (&format!("{good}health = {{ path = \"health\" }}"), "health/path"),
        (&format!("{good}health = {{ interval = \"10ms\" }}"), "health/interval"),
        (&format!("{good}health = {{ healthy_after = 0 }}"), "health/healthy_after"),
        (&format!("{good}health = {{ host = \"a@b\" }}"), "health/host"),
        (&format!("{good}outlier = {{ panic_percent = 101 }}"), "outlier/panic_percent"),
        (&format!("{good}outlier = {{ base_ejection = \"1m\", max_ejection = \"1s\" }}"), "outlier/max_ejection"),
        (&format!("{good}breaker = {{ failure_percent = 0 }}"), "breaker/failure_percent"),
        (&format!("{good}limits = {{ max_in_flight = 0 }}"), "limits/max_in_flight"),
        (&format!("{good}connect_timeout = \"2m\""), "connect_timeout"),
        (&format!("{good}tls = {{ client_cert = \"a.pem\" }}"), "tls/client_key"),
        (&format!("{good}tls = {{ ca = \"/nowhere/ca.pem\" }}"), "tls/ca"),
        (&format!("{good}tls = {{ server_name = \"a b\" }}"), "tls"),
    ] {
        let faults = world.upstreams.apply(&[spec(text)]).unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, [format!("/upstreams/0/{field}")], "{text}: {faults:?}");
    }
    assert!(world.upstreams.states().is_empty());
}

#[test]
fn words_that_are_none_are_told_as_such() {
    for (text, error) in [
        ("endpoints = [{ address = \"shop.internal:80\" }]", "for names there is `dns`"),
        ("endpoints = []\nbalance = { algorithm = \"roundrobin\" }", "unknown variant `roundrobin`"),
        ("endpoints = []\nhealth = { expect = [\"2xx\"] }", "expected statuses from 100 to 599"),
        ("endpoints = []\nhealth = { expect = [600] }", "expected statuses from 100 to 599"),
        ("endpoints = []\nconnect_timeout = \"1 second\"", "expected a time such as 250ms"),
        ("endpoints = []\nretries = 3", "unknown field `retries`"),
    ] {
        let told =
            toml::from_str::<upstream::UpstreamSpec>(&format!("name = \"shop\"\n{text}")).unwrap_err().to_string();
        assert!(told.contains(error), "{text}: {told}");
    }
}

#[test]
fn a_document_of_everything_reads_the_same_from_toml_and_json() {
    let text = r#"
        protocol = "grpc"
        endpoints = [{ address = "[::1]:9001", weight = 2, zone = "a" }]
        balance = { algorithm = "p2c", hash_on = { cookie = "id" }, load_bound_percent = 125, slow_start = "30s", prefer_zone = true }
        health = { kind = "grpc", service = "shop", interval = "5s", expect = [200, "204-299"], port = 9100 }
        outlier = { consecutive_failures = 5, panic_percent = 40 }
        breaker = { failure_percent = 50, slow_call = "2s" }
        limits = { max_in_flight = 1024, max_connection_age = "1h" }
        connect_timeout = "250ms"
        proxy_protocol = "v2"
    "#;
    let read = spec(text);
    assert_eq!(read.validate("/upstreams/0"), []);
    let json = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<upstream::UpstreamSpec>(&json).unwrap(), read, "{json}");
}

#[test]
fn numbers_show() {
    let metrics = telemetry::Metrics::new();
    let world = World::shown(&metrics);
    let shop =
        world.apply(&format!("limits = {{ max_in_flight = 1 }}\nbreaker = {{}}\n{}", endpoints([(1, ""), (2, "")])));
    shop.set_drained(crate::world::id(2), true);
    let _held = shop.pick(&upstream::Pick::default()).unwrap();
    assert!(shop.pick(&upstream::Pick::default()).is_err());
    let text = metrics.render().body;
    for line in [
        "mainstay_upstream_endpoints{upstream=\"shop\",state=\"well\"} 1",
        "mainstay_upstream_endpoints{upstream=\"shop\",state=\"draining\"} 1",
        "mainstay_upstream_in_flight{upstream=\"shop\"} 1",
        "mainstay_upstream_panic{upstream=\"shop\"} 0",
        "mainstay_upstream_breaker_state{upstream=\"shop\"} 0",
        "mainstay_upstream_refused_total{upstream=\"shop\",reason=\"full\"} 1",
        "mainstay_upstream_ejections_total{upstream=\"shop\"} 0",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
    }
}
