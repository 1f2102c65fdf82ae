//! Plain proxying beside nginx and haproxy: the same back end, the same load, alternating.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};
use testkit::{Haproxy, Nginx, free_port};

use crate::{
    Effort, h2load, machine, mainstay,
    report::{Report, Row, median},
    wrk,
};

const SMALL: usize = 200;
const LARGE: usize = 10 * 1024;
/// So many requests a second that no run comes near: the limit is counted and never reached.
const LIMIT_PER_SECOND: u32 = 1_000_000;
const SERVERS: [&str; 3] = ["mainstay", "nginx", "haproxy"];

/// What one cell of the table varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    is_h2: bool,
    is_tls: bool,
    is_guarded: bool,
    bytes: usize,
    at_once: usize,
}

impl Cell {
    fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for is_guarded in [false, true] {
            for (is_h2, is_tls) in [(false, false), (false, true), (true, false), (true, true)] {
                for bytes in [SMALL, LARGE] {
                    for at_once in [64, 512] {
                        // With key and limit what differs is the work before the back end: the size of the answer does not matter.
                        if !(is_guarded && (bytes == LARGE || is_tls)) {
                            cells.push(Self { is_h2, is_tls, is_guarded, bytes, at_once });
                        }
                    }
                }
            }
        }
        cells
    }

    fn name(self) -> String {
        let size = if self.bytes == SMALL { "200 B" } else { "10 KiB" };
        let mut name = format!("{}, {size}, {}", if self.is_h2 { "h2" } else { "h1" }, self.at_once);
        if self.is_tls {
            name += ", TLS";
        }
        if self.is_guarded {
            name += ", key and limit";
        }
        name
    }
}

/// Ports of one proxy, by protocol.
#[derive(Debug, Clone, Copy)]
struct Ports {
    h1: u16,
    h2: u16,
    tls: u16,
}

impl Ports {
    fn free() -> Self {
        Self { h1: free_port(), h2: free_port(), tls: free_port() }
    }

    fn url(self, cell: Cell) -> String {
        let (scheme, port) = match (cell.is_tls, cell.is_h2) {
            (true, _) => ("https", self.tls),
            (false, true) => ("http", self.h2),
            (false, false) => ("http", self.h1),
        };
        let path = if cell.is_guarded { "guarded" } else { "plain" };
        format!("{scheme}://127.0.0.1:{port}/{path}/{}", cell.bytes)
    }
}

struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    fn make() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate can be made");
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for (name, text) in [("cert.pem", cert.clone()), ("key.pem", key.clone()), ("both.pem", cert + &key)] {
            std::fs::write(folder.path().join(name), text).expect("the folder can be written");
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

pub(crate) fn run(effort: Effort, settings: &[&str], only: &[&str]) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let certificate = Certificate::make();
    let origin_port = free_port();
    let _origin = Nginx::start(origin_port, cores, &origin(origin_port));

    let mut ours = Vec::new();
    let mut keys = Vec::new();
    for is_tls in [false, true] {
        let server = mainstay_server(folder.path(), origin_port, is_tls.then_some(&certificate), settings);
        keys.push(make_key(&server));
        ours.push(server);
    }
    let key = keys[0].clone();
    let [nginx_ports, haproxy_ports] = [Ports::free(), Ports::free()];
    let nginx = Nginx::start(nginx_ports.h1, cores, &nginx(nginx_ports, origin_port, &certificate, &key));
    let haproxy = Haproxy::start(haproxy_ports.h1, cores, &haproxy(haproxy_ports, origin_port, &certificate, &key));
    let our_ports = Ports { h1: ours[0].public_port, h2: ours[0].public_port, tls: ours[1].public_port };

    let ask = |cell: Cell, ports: Ports, seconds: u64| {
        let key = cell.is_guarded.then_some(key.as_str());
        let load = if cell.is_h2 { h2load::get } else { wrk::get };
        load(&ports.url(cell), cell.at_once, key, folder.path(), seconds)
    };
    let cells: Vec<Cell> = Cell::all().into_iter().filter(|c| only.iter().all(|o| c.name().contains(o))).collect();
    let mut rows = Vec::new();
    for (at, cell) in cells.iter().enumerate() {
        let of = |server: &str| match server {
            "mainstay" => (our_ports, ours[usize::from(cell.is_tls)].pid()),
            "nginx" => (nginx_ports, nginx.pid()),
            _ => (haproxy_ports, haproxy.pid()),
        };
        let mut rounds: [Vec<(f64, wrk::Load)>; 3] = Default::default();
        for server in SERVERS {
            // Not counted: connections, pools, branch predictors.
            ask(*cell, of(server).0, 1);
        }
        for _ in 0..effort.rounds {
            for (server, rounds) in SERVERS.iter().zip(&mut rounds) {
                let (ports, pid) = of(server);
                let before = machine::usage(pid).cpu_seconds;
                let load = ask(*cell, ports, effort.seconds);
                let cpu = (machine::usage(pid).cpu_seconds - before) / load.requests * 100_000.0;
                rounds.push((cpu, load));
            }
        }
        let middles = rounds.map(|r| median(&r, |round| round.0));
        let [mainstay, nginx, haproxy] = &middles;
        println!(
            "{}/{}: {}: mainstay {:.2}, nginx {:.2}, haproxy {:.2} CPU s per 100k",
            at + 1,
            cells.len(),
            cell.name(),
            mainstay.0,
            nginx.0,
            haproxy.0
        );
        let mut figures = vec![mainstay.0, nginx.0, haproxy.0, mainstay.0 / nginx.0, mainstay.0 / haproxy.0];
        figures.extend(middles.iter().map(|m| m.1.per_second));
        figures.extend(middles.iter().map(|m| m.1.p99_ms));
        rows.push(Row { name: cell.name(), figures });
    }
    Report {
        name: "gateway",
        title: "Proxying: the gateway beside nginx and haproxy".to_owned(),
        conditions: vec![
            machine::describe(),
            format!(
                "one back end (nginx with {cores} workers) answers 200 B or 10 KiB from memory; clients, proxies and back end share the machine"
            ),
            format!(
                "h1: wrk with 2 threads over 64 or 512 connections; h2: h2load with {} streams a connection, so many requests at a time in all",
                h2load::STREAMS
            ),
            format!(
                "median (by CPU) of {} rounds of {} s, alternating, after 1 s of warm-up",
                effort.rounds, effort.seconds
            ),
            format!(
                "{cores} threads or workers each, connections to the back end kept, no access log; nginx and haproxy from Debian"
            ),
            "key and limit: an API key looked at, and requests counted for it by a rate limit that is not reached"
                .to_owned(),
        ],
        columns: vec![
            "CPU s per 100k: mainstay",
            "nginx",
            "haproxy",
            "mainstay / nginx",
            "mainstay / haproxy",
            "requests/s: mainstay",
            "nginx ",
            "haproxy ",
            "p99 ms: mainstay",
            "nginx  ",
            "haproxy  ",
        ],
        rows,
        charted: 3,
    }
}

/// Answers `/200` and `/10240` below any prefix, from memory.
fn origin(port: u16) -> String {
    let mut out = format!(
        "  keepalive_requests 100000000;\n  server {{\n    listen 127.0.0.1:{port} reuseport backlog=4096;\n    default_type text/plain;\n"
    );
    for bytes in [SMALL, LARGE] {
        // nginx bounds one parameter to 4 KiB: a body is several of them, one after the other.
        let part = "x".repeat(bytes.min(2048));
        let body: Vec<String> = (0..bytes.div_ceil(2048)).map(|_| "${part}".to_owned()).collect();
        // Writing to a String cannot fail.
        writeln!(out, "    location ~ /{bytes}$ {{ set $part {part}; return 200 \"{}\"; }}", body.concat()).ok();
    }
    out + "  }\n"
}

fn mainstay_server(folder: &Path, origin: u16, tls: Option<&Certificate>, settings: &[&str]) -> mainstay::Server {
    let file = folder.join("gateway.toml");
    std::fs::write(&file, document(origin)).expect("the folder can be written");
    let mut all = vec![format!("gateway.config_file={}", file.display())];
    if let Some(certificate) = tls {
        all.push(format!("public.tls_cert={}", certificate.path("cert.pem")));
        all.push(format!("public.tls_key={}", certificate.path("key.pem")));
    }
    let all: Vec<&str> = all.iter().map(String::as_str).chain(settings.iter().copied()).collect();
    let server = mainstay::Server::start(&all);
    let rules = json!({ "message": "bench", "rules": [{ "name": "per-key", "keys": [{ "key": "key" }],
        "limit": { "algorithm": "token_bucket", "limit": LIMIT_PER_SECOND, "period": "1s", "burst": LIMIT_PER_SECOND } }] });
    let url = format!("http://127.0.0.1:{}/v1/limits/rules/bench", server.api_port);
    ureq::put(&url).send_json(rules).expect("rules can be written");
    server
}

fn document(origin: u16) -> String {
    format!(
        r#"
[[upstreams]]
name = "origin"
endpoints = [{{ address = "127.0.0.1:{origin}" }}]
limits = {{ max_in_flight = 4096, max_idle_per_worker = 512 }}

[[policies]]
name = "key"
api_key = {{ project = "default", from = [{{ header = "x-api-key" }}] }}

[[routes]]
name = "plain"
match = {{ path = {{ prefix = "/plain" }} }}
forward = {{ to = [{{ upstream = "origin" }}] }}

[[routes]]
name = "guarded"
match = {{ path = {{ prefix = "/guarded" }} }}
policies = ["key"]
rate_limit = {{ domain = "bench", descriptors = [{{ key = "{{identity.sub}}" }}] }}
forward = {{ to = [{{ upstream = "origin" }}] }}
"#
    )
}

fn make_key(server: &mainstay::Server) -> String {
    let url = format!("http://127.0.0.1:{}/v1/keys", server.api_port);
    let mut answer =
        ureq::post(&url).send_json(json!({ "name": "bench", "scopes": ["*:read"] })).expect("a key can be made");
    let made: Value = answer.body_mut().read_json().expect("the answer is JSON");
    made["secret"].as_str().or(made["key"].as_str()).expect("the key is told once").to_owned()
}

fn nginx(ports: Ports, origin: u16, certificate: &Certificate, key: &str) -> String {
    let Ports { h1, h2, tls } = ports;
    let (cert, private) = (certificate.path("cert.pem"), certificate.path("key.pem"));
    format!(
        "  keepalive_requests 100000000;\n\
         \x20 upstream origin {{ server 127.0.0.1:{origin}; keepalive 512; keepalive_requests 100000000; }}\n\
         \x20 map_hash_bucket_size 256;\n  map $http_x_api_key $is_known {{ default 0; \"{key}\" 1; }}\n\
         \x20 limit_req_zone $http_x_api_key zone=keys:10m rate={LIMIT_PER_SECOND}r/s;\n\
         \x20 server {{\n    listen 127.0.0.1:{h1} reuseport backlog=4096;\n    listen 127.0.0.1:{h2} http2 reuseport backlog=4096;\n\
         \x20   listen 127.0.0.1:{tls} ssl http2 reuseport backlog=4096;\n    ssl_certificate {cert};\n    ssl_certificate_key {private};\n\
         \x20   proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n    proxy_set_header Host $host;\n\
         \x20   proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    proxy_set_header X-Forwarded-Proto $scheme;\n\
         \x20   location /plain/ {{ proxy_pass http://origin; }}\n\
         \x20   location /guarded/ {{\n      if ($is_known = 0) {{ return 401; }}\n      limit_req zone=keys burst=1000 nodelay;\n\
         \x20     proxy_pass http://origin;\n    }}\n  }}\n"
    )
}

fn haproxy(ports: Ports, origin: u16, certificate: &Certificate, key: &str) -> String {
    let Ports { h1, h2, tls } = ports;
    let both = certificate.path("both.pem");
    format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\n  option forwardfor\n\n\
         frontend all\n  bind 127.0.0.1:{h1}\n  bind 127.0.0.1:{h2} proto h2\n  bind 127.0.0.1:{tls} ssl crt {both} alpn h2,http/1.1\n\
         \x20 acl is_guarded path_beg /guarded/\n  http-request set-header X-Forwarded-Proto http\n\
         \x20 http-request deny deny_status 401 if is_guarded !{{ req.hdr(x-api-key) -m str {key} }}\n\
         \x20 stick-table type string len 64 size 100k expire 60s store http_req_rate(1s)\n\
         \x20 http-request track-sc0 req.hdr(x-api-key) if is_guarded\n\
         \x20 http-request deny deny_status 429 if is_guarded {{ sc_http_req_rate(0) gt {LIMIT_PER_SECOND} }}\n\
         \x20 default_backend origin\n\nbackend origin\n  server one 127.0.0.1:{origin} pool-max-conn 1024\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_proxy_refuse_a_wrong_key_and_give_the_same_answer() {
        let (certificate, folder) = (Certificate::make(), tempfile::tempdir().unwrap());
        let origin_port = free_port();
        let _origin = Nginx::start(origin_port, 1, &origin(origin_port));
        let [first, second] = [Ports::free(), Ports::free()];
        let _nginx = Nginx::start(first.h1, 1, &nginx(first, origin_port, &certificate, "secret"));
        let _haproxy = Haproxy::start(second.h1, 1, &haproxy(second, origin_port, &certificate, "secret"));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        for ports in [first, second] {
            for bytes in [SMALL, LARGE] {
                let cell = Cell { is_h2: false, is_tls: false, is_guarded: true, bytes, at_once: 64 };
                let mut answer = agent.get(&ports.url(cell)).header("x-api-key", "secret").call().unwrap();
                assert_eq!(answer.status(), 200);
                assert_eq!(answer.body_mut().read_to_string().unwrap().len(), bytes);
                assert_eq!(agent.get(&ports.url(cell)).header("x-api-key", "other").call().unwrap().status(), 401);
            }
            let h2 = Cell { is_h2: true, is_tls: true, is_guarded: false, bytes: SMALL, at_once: 16 };
            assert!(h2load::get(&ports.url(h2), 16, None, folder.path(), 1).requests > 10.0);
            assert!(h2load::get(&ports.url(Cell { is_tls: false, ..h2 }), 16, None, folder.path(), 1).requests > 10.0);
        }
    }

    #[test]
    fn cells_have_names_of_their_own() {
        let mut names: Vec<String> = Cell::all().into_iter().map(Cell::name).collect();
        assert_eq!(names.len(), 20);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 20);
    }
}
