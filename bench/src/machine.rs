//! Where it runs, and what a process has used.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

/// The build folder in which this program lies.
pub(crate) fn target() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.ancestors().nth(2).map_or_else(|| PathBuf::from("target"), Path::to_path_buf)
}

/// One line on the hardware, for the report.
pub(crate) fn describe() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    format!("{}, {cores} cores, {} GiB memory", model.trim_start_matches([':', ' ', '\t']), kib >> 20)
}

/// The median time in microseconds of a small write with fsync in this folder.
pub(crate) fn fsync_micros(folder: &Path) -> u64 {
    let mut file = File::create(folder.join("fsync-probe")).expect("the folder can be written");
    let mut times: Vec<u128> = (0..200)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("the folder can be written");
            start.elapsed().as_micros()
        })
        .collect();
    times.sort_unstable();
    u64::try_from(times[times.len() / 2]).unwrap_or(u64::MAX)
}

/// What a process and its children have used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Processor time in user and kernel mode, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Resident memory, in bytes; shared pages count in each process.
    pub(crate) resident_bytes: u64,
}

/// Sums over a process and its direct children.
pub(crate) fn usage(pid: u32) -> Usage {
    // USER_HZ and the page size of Linux on every architecture that this runs on.
    const TICKS_PER_SECOND: f64 = 100.0;
    const PAGE_BYTES: u64 = 4096;
    let mut sum = Usage::default();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name in parentheses: state, parent, …; user and kernel ticks are the 14th and 15th of proc(5).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        if id == pid || number(1) == u64::from(pid) {
            let ticks = u32::try_from(number(11) + number(12)).unwrap_or(u32::MAX);
            sum.cpu_seconds += f64::from(ticks) / TICKS_PER_SECOND;
            sum.resident_bytes += number(21) * PAGE_BYTES;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        assert!(usage(std::process::id()).resident_bytes > 100_000);
        assert!(describe().contains("cores"));
    }
}
