use std::{
    io::{Read, Write},
    net::TcpStream,
};

use testkit::{Chromedriver, Nginx, Options, Postgres, Redis, free_port, shared_postgres};

#[test]
fn fresh_databases_of_the_shared_server_are_apart_and_empty() {
    let server = shared_postgres();
    let (one, two) = (server.fresh_database(), server.fresh_database());
    assert_ne!(one, two);
    assert!(std::ptr::eq(server, shared_postgres()));
    assert_eq!(server.sql("SHOW fsync"), "off");
    server.terminate_backends(&one);
}

#[test]
fn a_durable_postgres_keeps_its_rows_over_every_way_to_stop() {
    let mut server = Postgres::start(Options { durable: true, ..Options::default() });
    assert_eq!(server.sql("SHOW fsync"), "on");
    server.sql("CREATE TABLE t (n BIGINT)");
    let port = server.port();
    let ways: [fn(&mut Postgres); 3] = [Postgres::stop, Postgres::stop_immediate, Postgres::kill];
    for (count, stop) in (1..).zip(ways) {
        server.sql("INSERT INTO t VALUES (1)");
        stop(&mut server);
        assert!(server.pid().is_none() && TcpStream::connect(("127.0.0.1", port)).is_err());
        server.restart();
        assert_eq!(server.port(), port);
        assert_eq!(server.sql("SELECT count(*) FROM t"), count.to_string());
    }
}

#[test]
fn redis_answers_stops_and_comes_back_on_its_port() {
    let mut redis = Redis::start();
    assert_eq!(redis.command(&["SET", "k", "v"]), "+OK");
    assert_eq!(redis.command(&["GET", "k"]), "v");
    let (port, pid) = (redis.port(), redis.pid());
    redis.stop();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err() && redis.pid().is_none());
    redis.restart();
    assert_eq!(redis.port(), port);
    assert_ne!(redis.pid(), pid);
    assert_eq!(redis.command(&["GET", "k"]), "$-1", "it begins empty");
}

#[test]
fn a_cluster_serves_every_slot_and_survives_a_restart_of_a_node() {
    let mut cluster = Redis::cluster(3);
    assert_eq!(cluster.urls().len(), 3);
    cluster.nodes()[0].kill();
    cluster.nodes()[0].restart();
    cluster.await_ok();
    let answers: Vec<String> = cluster.nodes().iter().map(|n| n.command(&["SET", "a", "1"])).collect();
    let (stored, moved): (Vec<_>, Vec<_>) = answers.iter().partition(|a| *a == "+OK");
    assert_eq!((stored.len(), moved.len()), (1, 2), "{answers:?}");
    assert!(moved.iter().all(|a| a.starts_with("-MOVED")));
}

#[test]
fn nginx_serves_the_given_block() {
    let port = free_port();
    let _nginx =
        Nginx::start(port, 1, &format!("server {{ listen 127.0.0.1:{port}; return 302 http://example.test/; }}"));
    let answer = get(port, "/x");
    assert!(answer.starts_with("HTTP/1.1 302") && answer.contains("http://example.test/"), "{answer}");
}

#[test]
fn chromedriver_is_ready_once_started() {
    let driver = Chromedriver::start();
    let port: u16 = driver.url().rsplit(':').next().unwrap().parse().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert!(driver.chromium_arguments().iter().any(|a| a.starts_with("--user-data-dir=")));
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
