//! SD1's everyday load, open loop: 1,000 redirects and 100 creations a second, whatever the answers take; and the redirects alone,
//! beside nginx at the same rate: so few requests a second each wake a thread that sleeps, which costs any server more than to answer.

use std::{
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use kernel::Rng;

use crate::{
    Effort, client,
    client::Client,
    machine, mainstay, redirect,
    report::{Report, Row, median},
    zipf::Zipf,
};

const LINK_COUNT: u32 = 100_000;
const REDIRECTS_PER_SECOND: u32 = 1000;
const CREATIONS_PER_SECOND: u32 = 100;
/// Connections of either kind. Each sends its share at set times, so an answer that takes longer than a share's interval
/// (64 ms and 160 ms) delays the next request, whose time still counts from when it was due.
const READERS: u32 = 64;
const WRITERS: u32 = 16;
/// Not counted, at the beginning: connections, caches, the first segments.
const WARM_UP: Duration = Duration::from_secs(3);

/// One kind of request: when each is due, and what it took from then on.
struct Stream {
    port: u16,
    per_second: u32,
    connections: u32,
    expected: u16,
}

impl Stream {
    /// Sends until `end`; the times in microseconds of what was due from `counted` on, and how many that were.
    fn run(
        &self,
        request: impl Fn(u64) -> Vec<u8> + Sync,
        start: Instant,
        counted: Instant,
        end: Instant,
    ) -> Histogram<u64> {
        let share = |number: u32| {
            let mut times = Histogram::new(3).expect("a histogram of three digits");
            let mut client = Client::connect(self.port);
            for turn in (u64::from(number)..).step_by(usize::try_from(self.connections).unwrap_or(1)) {
                let due = start + Duration::from_secs(1) * u32::try_from(turn).unwrap_or(u32::MAX) / self.per_second;
                if due >= end {
                    return times;
                }
                let bytes = request(turn);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let status = client.send(&bytes);
                assert_eq!(status, self.expected, "an answer of port {}", self.port);
                if due >= counted {
                    let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                    times.record(micros).expect("a histogram that grows");
                }
            }
            times
        };
        thread::scope(|scope| {
            let shares: Vec<_> = (0..self.connections).map(|number| scope.spawn(move || share(number))).collect();
            shares.into_iter().map(|s| s.join().expect("no client panics")).fold(
                Histogram::new(3).expect("a histogram of three digits"),
                |mut sum, times| {
                    sum.add(times).expect("histograms that grow");
                    sum
                },
            )
        })
    }
}

/// Some streams at once, and what they cost the server.
#[derive(Debug, Clone)]
struct Phase {
    redirects: Histogram<u64>,
    creations: Option<Histogram<u64>>,
    cpu_percent: f64,
}

pub(crate) fn run(effort: Effort, settings: &[&str]) -> Report {
    let server = mainstay::Server::start(settings);
    let destinations: Vec<String> =
        (0..LINK_COUNT).map(|n| format!("https://example.com/a/long/page/number/{n}?from=bench")).collect();
    println!("creating {LINK_COUNT} links");
    let codes = server.create_links(&destinations);
    let links = redirect::told_apart_by_nginx(codes.into_iter().zip(destinations));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (nginx, nginx_port) = redirect::start_nginx(cores, &links);
    let (zipf, rng) = (Zipf::new(u32::try_from(links.len()).unwrap_or(LINK_COUNT)), Rng::seeded(7));
    let drawn: Vec<usize> = (0..400_000).map(|_| zipf.draw(&rng)).collect();
    let redirect = |turn: u64| {
        let link = drawn[usize::try_from(turn).unwrap_or(0) % drawn.len()];
        client::get(&format!("/{}", links[link].0))
    };
    let reads = |port| Stream { port, per_second: REDIRECTS_PER_SECOND, connections: READERS, expected: 302 };
    let creations =
        Stream { port: server.api_port, per_second: CREATIONS_PER_SECOND, connections: WRITERS, expected: 201 };
    let phase = |pid: u32, redirects: &Stream, written: Option<(&Stream, usize)>| {
        let start = Instant::now() + Duration::from_millis(200);
        let counted = start + WARM_UP;
        let end = counted + effort.duration();
        thread::scope(|scope| {
            let reads = scope.spawn(|| redirects.run(redirect, start, counted, end));
            let writes = written.map(|(creations, number)| {
                let creation =
                    move |turn: u64| client::creation(&format!("https://example.com/made/in/round/{number}/{turn}"));
                scope.spawn(move || creations.run(creation, start, counted, end))
            });
            thread::sleep(counted.saturating_duration_since(Instant::now()));
            let (before, from) = (machine::usage(pid).cpu_seconds, Instant::now());
            thread::sleep(end.saturating_duration_since(Instant::now()));
            let cpu = (machine::usage(pid).cpu_seconds - before) / from.elapsed().as_secs_f64();
            Phase {
                redirects: reads.join().expect("no client panics"),
                creations: writes.map(|w| w.join().expect("no client panics")),
                cpu_percent: cpu * 100.0,
            }
        })
    };
    let (mut both, mut alone, mut nginx_alone) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=effort.rounds {
        let round = phase(server.pid(), &reads(server.public_port), Some((&creations, number)));
        println!(
            "round {number}: redirects p99 {:.2} ms, creations p99 {:.2} ms, {:.1} % of a core",
            ms(&round.redirects, 0.99),
            round.creations.as_ref().map_or(0.0, |c| ms(c, 0.99)),
            round.cpu_percent
        );
        both.push(round);
        for (name, pid, port, rounds) in [
            ("mainstay", server.pid(), server.public_port, &mut alone),
            ("nginx", nginx.pid(), nginx_port, &mut nginx_alone),
        ] {
            let round = phase(pid, &reads(port), None);
            println!(
                "round {number}: {name}, redirects alone: p99 {:.2} ms, {:.1} % of a core",
                ms(&round.redirects, 0.99),
                round.cpu_percent
            );
            rounds.push(round);
        }
    }
    let row = |name: &str, times: &Histogram<u64>, cpu_percent: f64| Row {
        name: name.to_owned(),
        figures: vec![
            f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX)) / effort.duration().as_secs_f64(),
            ms(times, 0.5),
            ms(times, 0.99),
            ms(times, 0.999),
            ms(times, 1.0),
            cpu_percent,
        ],
    };
    let middle = |rounds: &[Phase]| median(rounds, |r| r.cpu_percent);
    let (both, alone, nginx_alone) = (middle(&both), middle(&alone), middle(&nginx_alone));
    let mut rows = vec![row("redirects, with creations", &both.redirects, both.cpu_percent)];
    rows.extend(both.creations.as_ref().map(|times| row("creations, with redirects", times, both.cpu_percent)));
    rows.push(row("redirects alone", &alone.redirects, alone.cpu_percent));
    rows.push(row("nginx, redirects alone", &nginx_alone.redirects, nginx_alone.cpu_percent));
    Report {
        name: "steady",
        title: "Redirects and creations at a constant rate".to_owned(),
        conditions: vec![
            machine::describe(),
            format!(
                "open loop: {REDIRECTS_PER_SECOND} redirects a second over {READERS} connections, of {LINK_COUNT} links by a Zipf law \
                 (exponent 1), and {CREATIONS_PER_SECOND} creations a second over {WRITERS}, each answered after a durable commit"
            ),
            "times count from when a request was due, not from when it could be sent; they include the client's own delays".to_owned(),
            format!(
                "median (by CPU) of {} rounds of {} s after {} s of warm-up; clients on the same machine; SQLite{}{}; nginx: {cores} \
                 workers, `return 302` from a map",
                effort.rounds,
                effort.seconds,
                WARM_UP.as_secs(),
                if settings.is_empty() { "" } else { "; --set " },
                settings.join(" --set ")
            ),
        ],
        columns: vec!["per second", "p50 in ms", "p99 in ms", "p99.9 in ms", "max in ms", "server's CPU, % of a core"],
        rows,
        charted: 2,
    }
}

fn ms(times: &Histogram<u64>, quantile: f64) -> f64 {
    f64::from(u32::try_from(times.value_at_quantile(quantile)).unwrap_or(u32::MAX)) / 1000.0
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    use super::*;

    /// What coordinated omission would hide: a server that stops for a while makes all that were due meanwhile late.
    #[test]
    fn a_stall_counts_for_every_request_that_was_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            for turn in 0.. {
                if stream.read(&mut buffer).unwrap() == 0 {
                    return;
                }
                if turn == 0 {
                    thread::sleep(Duration::from_millis(300));
                }
                stream.write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
        });
        let stream = Stream { port, per_second: 100, connections: 1, expected: 204 };
        let start = Instant::now();
        let times = stream.run(|_| client::get("/"), start, start, start + Duration::from_millis(500));
        server.join().unwrap();
        assert_eq!(times.len(), 50);
        // 30 of 50 were due while it stood: half of them waited 150 ms and more.
        assert!(times.count_between(140_000, u64::MAX) >= 15, "{}", times.count_between(140_000, u64::MAX));
    }
}
