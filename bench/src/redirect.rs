//! A redirect served by the public listener against the same redirect from nginx's map.

use std::collections::HashSet;

use kernel::Rng;

use crate::{
    Effort, client, machine, mainstay,
    report::{Report, Row, median},
    wrk,
    zipf::Zipf,
};

const LINK_COUNT: u32 = 100_000;
const DRAW_COUNT: usize = 400_000;

#[derive(Debug, Clone)]
struct Round {
    load: wrk::Load,
    cpu_per_100k: f64,
    resident_mib: f64,
}

pub(crate) fn run(effort: Effort, settings: &[&str]) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    // Shards of the cache fill unevenly: twice the room, so that each holds its part.
    let settings = [&["shortener.cache_entries=200000"], settings].concat();
    let server = mainstay::Server::start(&settings);
    let destinations: Vec<String> =
        (0..LINK_COUNT).map(|n| format!("https://example.com/a/long/page/number/{n}?from=bench")).collect();
    println!("creating {LINK_COUNT} links");
    let codes = server.create_links(&destinations);
    let links = told_apart_by_nginx(codes.into_iter().zip(destinations));

    let (zipf, rng) = (Zipf::new(u32::try_from(links.len()).unwrap_or(LINK_COUNT)), Rng::seeded(7));
    let paths = folder.path().join("paths");
    mainstay::write_paths(&paths, (0..DRAW_COUNT).map(|_| format!("/{}", links[zipf.draw(&rng)].0)));

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (nginx, nginx_port) = start_nginx(cores, &links);

    let servers = [("mainstay", server.public_port, server.pid()), ("nginx map", nginx_port, nginx.pid())];
    let mut rounds: [Vec<Round>; 2] = [Vec::new(), Vec::new()];
    let first_visits = servers.map(|(name, port, pid)| {
        let before = machine::usage(pid).cpu_seconds;
        client::follow_each(port, links.iter().map(|(code, _)| code.as_str()));
        let cpu_per_100k = (machine::usage(pid).cpu_seconds - before) / f64::from(LINK_COUNT) * 100_000.0;
        println!("{name}: {cpu_per_100k:.2} CPU s per 100k first visits");
        cpu_per_100k
    });
    for (_, port, _) in servers {
        // Not counted: connections, branch predictors.
        wrk::follow(port, folder.path(), &paths, 1);
    }
    for number in 1..=effort.rounds {
        for ((name, port, pid), rounds) in servers.iter().zip(&mut rounds) {
            let before = machine::usage(*pid);
            let load = wrk::follow(*port, folder.path(), &paths, effort.seconds);
            let after = machine::usage(*pid);
            let cpu_per_100k = (after.cpu_seconds - before.cpu_seconds) / load.requests * 100_000.0;
            let mib = u32::try_from(after.resident_bytes >> 20).map_or(f64::MAX, f64::from);
            println!(
                "round {number}: {name}: {:.0}/s, {cpu_per_100k:.2} CPU s per 100k, p99 {:.2} ms",
                load.per_second, load.p99_ms
            );
            rounds.push(Round { load, cpu_per_100k, resident_mib: mib });
        }
    }
    let middles = rounds.map(|r| median(&r, |round| round.cpu_per_100k));
    let figures = |r: &Round| vec![r.cpu_per_100k, r.load.per_second, r.load.p50_ms, r.load.p99_ms, r.resident_mib];
    let mut rows: Vec<Row> = servers
        .iter()
        .zip(&middles)
        .map(|((name, ..), middle)| Row { name: (*name).to_owned(), figures: figures(middle) })
        .collect();
    let ratio = figures(&middles[0]).iter().zip(figures(&middles[1])).map(|(ours, theirs)| ours / theirs).collect();
    rows.push(Row { name: "mainstay / nginx".to_owned(), figures: ratio });
    Report {
        name: "redirect",
        title: "Redirects: the public listener beside nginx".to_owned(),
        conditions: vec![
            machine::describe(),
            format!(
                "{LINK_COUNT} links, paths drawn by a Zipf law (exponent 1), HTTP/1.1, 64 connections kept alive, wrk with 2 threads on the same machine"
            ),
            format!("median of {} rounds of {} s, alternating", effort.rounds, effort.seconds),
            format!(
                "every link was followed once before, over 16 connections one after the other: {:.2} CPU s per 100k for mainstay, \
                 which reads each from its database, {:.2} for nginx",
                first_visits[0], first_visits[1]
            ),
            format!(
                "nginx: {cores} workers, `return 302` from a map of the same links, no access log; it counts nothing"
            ),
            format!(
                "mainstay: --set {}; it counts every click into durable rollups meanwhile",
                settings.join(" --set ")
            ),
        ],
        columns: vec!["CPU s per 100k requests", "requests/s", "p50 in ms", "p99 in ms", "resident MiB"],
        rows,
        charted: 0,
    }
}

/// To nginx's map `/ab` and `/AB` are one, so the second of such a pair stays out.
pub(crate) fn told_apart_by_nginx(links: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut seen = HashSet::new();
    links.filter(|(code, _)| seen.insert(code.to_ascii_lowercase())).collect()
}

/// nginx with `return 302` from a map of the links, and its port.
pub(crate) fn start_nginx(workers: usize, links: &[(String, String)]) -> (testkit::Nginx, u16) {
    let port = testkit::free_port();
    (testkit::Nginx::start(port, workers, &nginx_map(port, links)), port)
}

fn nginx_map(port: u16, links: &[(String, String)]) -> String {
    let entries: String = links.iter().map(|(code, to)| ["    /", code, " \"", to, "\";\n"].concat()).collect();
    format!(
        "  map_hash_max_size 400000;\n  map_hash_bucket_size 128;\n  keepalive_requests 100000000;\n\
         \x20 map $uri $destination {{\n{entries}  }}\n\
         \x20 server {{\n    listen 127.0.0.1:{port} reuseport backlog=4096;\n    location / {{\n\
         \x20     if ($destination = \"\") {{ return 404; }}\n      return 302 $destination;\n    }}\n  }}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn nginx_redirects_from_the_map_and_wrk_draws_from_the_file() {
        let links = [("a1", "https://example.com/1"), ("B2", "https://example.com/2")]
            .map(|(code, to)| (code.to_owned(), to.to_owned()));
        let (_nginx, port) = start_nginx(1, &links);
        let get = |path: &str| {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        assert!(get("/B2").starts_with("HTTP/1.1 302") && get("/B2").contains("https://example.com/2"));
        assert!(get("/none").starts_with("HTTP/1.1 404"));
        let folder = tempfile::tempdir().unwrap();
        let paths = folder.path().join("paths");
        mainstay::write_paths(&paths, links.iter().map(|(code, _)| format!("/{code}")));
        assert!(wrk::follow(port, folder.path(), &paths, 1).requests > 100.0);
    }
}
