use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{Process, Signal, Spec, binary, free_port, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// One Redis server without persistence: a restart begins empty, as a cache node would.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    folder: TempDir,
    port: u16,
    bus_port: Option<u16>,
}

impl Redis {
    /// Starts one.
    ///
    /// # Panics
    /// When Redis is not installed or does not come up; with its log.
    pub fn start() -> Self {
        Self::make(None)
    }

    /// Starts a Cluster of `count` masters without replicas; Redis wants at least three.
    ///
    /// # Panics
    /// When it does not form.
    pub fn cluster(count: usize) -> RedisCluster {
        let nodes: Vec<Self> = (0..count).map(|_| Self::make(Some(free_port()))).collect();
        let mut create = Command::new(binary("redis-cli"));
        create.args(["--cluster", "create"]).args(nodes.iter().map(|n| format!("127.0.0.1:{}", n.port)));
        create.args(["--cluster-replicas", "0", "--cluster-yes"]);
        let output = create.output().expect("redis-cli can be started");
        assert!(output.status.success(), "the Cluster did not form:\n{}", String::from_utf8_lossy(&output.stdout));
        let cluster = RedisCluster { nodes };
        cluster.await_ok();
        cluster
    }

    fn make(bus_port: Option<u16>) -> Self {
        let folder =
            tempfile::Builder::new().prefix("testkit-redis-").tempdir().expect("a temporary folder can be made");
        let mut this = Self { process: None, folder, port: free_port(), bus_port };
        this.launch();
        this
    }

    fn launch(&mut self) {
        let folder = self.folder.path();
        let port = self.port.to_string();
        let mut arguments: Vec<OsString> =
            ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]
                .map(Into::into)
                .into();
        arguments.push(folder.into());
        if let Some(bus) = self.bus_port {
            let bus = bus.to_string();
            let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "5000"];
            arguments.extend(cluster.map(OsString::from));
        }
        let mut spec = Spec::new(binary("redis-server"), arguments, folder.join("log"));
        spec.folder = Some(folder.to_path_buf());
        let mut process = Process::start(&spec);
        process.await_ready("Redis", PATIENCE, || self.try_command(&["PING"]).is_some_and(|answer| answer == "+PONG"));
        self.process = Some(process);
    }

    /// The port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its process id; `None` while stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Stops it (SIGTERM).
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.end(Signal::SIGTERM, PATIENCE);
        }
    }

    /// Kills it with SIGKILL, by its id.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.end(Signal::SIGKILL, PATIENCE);
        }
    }

    /// Starts again on the same port, stopping first if it runs.
    ///
    /// # Panics
    /// When it does not come up; with its log.
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// Sends one command and returns the answer as on the wire, without the last line end; bulk strings without their length.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap_or_else(|| panic!("Redis on port {} did not answer {words:?}", self.port))
    }

    fn try_command(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            write!(request, "${}\r\n{word}\r\n", word.len()).ok()?;
        }
        stream.write_all(&request).ok()?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(length) = line.strip_prefix('$').and_then(|n| n.trim().parse::<usize>().ok()) {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            return String::from_utf8(body).ok();
        }
        let line = line.trim_end();
        (!line.is_empty()).then(|| line.to_owned())
    }
}

/// Masters of one Redis Cluster.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// The URLs of all nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// The nodes, to stop and restart single ones.
    pub fn nodes(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// Waits until every running node says that the Cluster serves every slot.
    ///
    /// # Panics
    /// When it does not within half a minute.
    pub fn await_ok(&self) {
        wait_until(PATIENCE, "cluster_state:ok on every node", || {
            self.nodes
                .iter()
                .filter(|n| n.is_running())
                .all(|n| n.try_command(&["CLUSTER", "INFO"]).is_some_and(|info| info.contains("cluster_state:ok")))
        });
    }
}
