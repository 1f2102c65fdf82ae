use std::{
    fs::{File, OpenOptions},
    net::{Ipv4Addr, TcpListener},
    sync::Mutex,
};

use nix::unistd::Uid;

static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

const LOWEST: u16 = 11_000;

/// A loopback port that is free and stays ours: below the range from which the kernel takes outgoing ports, so that no
/// connection sits on it while a server restarts, and locked against other test processes of this user for as long as this one lives.
///
/// # Panics
/// When none is left.
pub fn free_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let outgoing = range.split_whitespace().next().and_then(|low| low.parse::<u16>().ok()).unwrap_or(32_768);
    let span = u32::from(outgoing.max(LOWEST + 1000) - LOWEST);
    let folder = std::env::temp_dir().join(format!("testkit-ports-{}", Uid::effective()));
    std::fs::create_dir_all(&folder).expect("the folder of port locks can be made");
    let mut taken = TAKEN.lock().expect("no panic while the list of ports is held");
    let begin = std::process::id().wrapping_mul(197);
    for step in 0..span {
        let offset = begin.wrapping_add(step) % span;
        let port = LOWEST + u16::try_from(offset).expect("the span fits a port");
        let path = folder.join(port.to_string());
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(path).expect("a port lock can be opened");
        // Another process has it, or this one (locks of two handles exclude each other).
        if lock.try_lock().is_err() {
            continue;
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.push(lock);
            return port;
        }
    }
    panic!("no loopback port is free between {LOWEST} and {outgoing}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports: std::collections::BTreeSet<u16> = (0..20).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 20);
        for port in ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }
}
