use std::{net::TcpStream, path::Path, time::Duration};

use tempfile::TempDir;

use crate::{Process, Signal, Spec, binary, is_root};

/// One nginx with the given `http` block. Dropping it ends it.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    _folder: TempDir,
}

impl Nginx {
    /// Starts one. `http` stands inside `http { … }` and listens on 127.0.0.1:`port`; `worker_count` worker processes.
    ///
    /// # Panics
    /// When nginx is not installed or does not come up; with its log.
    pub fn start(port: u16, worker_count: usize, http: &str) -> Self {
        let folder =
            tempfile::Builder::new().prefix("testkit-nginx-").tempdir().expect("a temporary folder can be made");
        let configuration = folder.path().join("nginx.conf");
        std::fs::write(&configuration, Self::configuration(folder.path(), worker_count, http))
            .expect("it can be written");
        let log = folder.path().join("log");
        let arguments = ["-e".into(), log.clone(), "-p".into(), folder.path().into(), "-c".into(), configuration];
        let mut spec = Spec::new(binary("nginx"), arguments, log);
        spec.end = Signal::SIGQUIT;
        spec.folder = Some(folder.path().to_path_buf());
        let mut process = Process::start(&spec);
        process.await_ready("nginx", Duration::from_secs(30), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { process, _folder: folder }
    }

    fn configuration(folder: &Path, worker_count: usize, http: &str) -> String {
        let folder = folder.display();
        let user = if is_root() { "user root;\n" } else { "" };
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = kinds.map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n")).concat();
        format!(
            "{user}daemon off;\nworker_processes {worker_count};\npid {folder}/pid;\nerror_log {folder}/log warn;\n\
             events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n{temporary}{http}\n}}\n"
        )
    }

    /// The process id of the master; its workers are its children.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
