use std::{net::TcpStream, time::Duration};

use tempfile::TempDir;

use crate::{Process, Signal, Spec, binary};

/// One haproxy with the given sections. Dropping it ends it.
#[derive(Debug)]
pub struct Haproxy {
    process: Process,
    _folder: TempDir,
}

impl Haproxy {
    /// Starts one with `thread_count` threads in one process. `sections` stand after `global`, and listen on 127.0.0.1:`port`.
    ///
    /// # Panics
    /// When haproxy is not installed or does not come up; with its log.
    pub fn start(port: u16, thread_count: usize, sections: &str) -> Self {
        let folder =
            tempfile::Builder::new().prefix("testkit-haproxy-").tempdir().expect("a temporary folder can be made");
        let configuration = folder.path().join("haproxy.cfg");
        let text = format!("global\n  nbthread {thread_count}\n  maxconn 8192\n\n{sections}\n");
        std::fs::write(&configuration, text).expect("it can be written");
        // -db: stays in the foreground.
        let arguments = ["-db".into(), "-f".into(), configuration];
        let mut spec = Spec::new(binary("haproxy"), arguments, folder.path().join("log"));
        spec.end = Signal::SIGTERM;
        let mut process = Process::start(&spec);
        process.await_ready("haproxy", Duration::from_secs(30), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { process, _folder: folder }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
