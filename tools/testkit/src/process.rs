use std::{
    ffi::OsString,
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{sys::signal::kill, unistd::Pid};

pub use nix::sys::signal::Signal;

use crate::wait::{poll, wait_until};

/// What to start, and how it ends.
#[derive(Debug)]
pub struct Spec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables set beside the inherited ones.
    pub environment: Vec<(String, String)>,
    /// Where its output goes (appended).
    pub log: PathBuf,
    /// User and group ids to run as; `None` as the caller.
    pub user: Option<(u32, u32)>,
    /// What ends it when the test process ends; SIGKILL follows after five seconds.
    pub end: Signal,
    /// A folder to remove when the test process ended without stopping it.
    pub folder: Option<PathBuf>,
}

impl Spec {
    /// A program with its arguments, run as the caller, ended by SIGTERM.
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        log: impl Into<PathBuf>,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            log: log.into(),
            user: None,
            end: Signal::SIGTERM,
            folder: None,
        }
    }
}

/// The shell lives as long as the program. A watcher waits on the pipe from the test process: when that closes, for
/// whatever reason, it ends the program by its id.
const WRAPPER: &str = r#"
exec 3<&0
end=$1 folder=$2 log=$3
shift 3
"$@" </dev/null >>"$log" 2>&1 3<&- &
child=$!
echo "$child"
exec >/dev/null 2>&1
(
  read -r _ <&3
  [ -z "$folder" ] || : >"$folder/.abandoned"
  kill -"$end" "$child"
  sleep 5
  kill -KILL "$child"
) &
watcher=$!
exec 3<&-
wait "$child"
status=$?
kill -KILL "$watcher"
if [ -n "$folder" ] && [ -e "$folder/.abandoned" ]; then rm -rf -- "$folder"; fi
exit "$status"
"#;

/// A child that never outlives the test process. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    wrapper: Child,
    pid: Pid,
    log: PathBuf,
    end: Signal,
}

impl Process {
    /// Starts it.
    ///
    /// # Panics
    /// When the shell cannot be started.
    pub fn start(spec: &Spec) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(WRAPPER).arg("sh").arg(spec.end.as_str().trim_start_matches("SIG"));
        command.arg(spec.folder.as_deref().unwrap_or(Path::new(""))).arg(&spec.log);
        command.arg(&spec.program).args(&spec.arguments).envs(spec.environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Its own group: a signal to the test's group must not take the watcher before the program.
        command.process_group(0);
        if let Some((uid, gid)) = spec.user {
            command.uid(uid).gid(gid).current_dir("/");
        }
        let mut wrapper = command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", spec.program.display()));
        let mut line = Vec::new();
        let mut byte = [0];
        let mut out = wrapper.stdout.take().expect("stdout is a pipe");
        while out.read(&mut byte).is_ok_and(|n| n == 1) && byte != *b"\n" {
            line.push(byte[0]);
        }
        let pid = std::str::from_utf8(&line).ok().and_then(|text| text.parse().ok());
        let pid = Pid::from_raw(pid.unwrap_or_else(|| panic!("the shell did not start {}", spec.program.display())));
        Self { wrapper, pid, log: spec.log.clone(), end: spec.end }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// How it ended (for a signal: 128 + its number); `None` while it runs.
    ///
    /// # Panics
    /// When the kernel no longer knows our child.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.wrapper.try_wait().expect("the child can be asked")
    }

    /// Sends a signal by id, if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            // It may end in between: then there is nothing to signal.
            kill(self.pid, signal).ok();
        }
    }

    /// Sends a signal and waits until it is gone.
    ///
    /// # Panics
    /// When it still runs after `within`.
    pub fn end(&mut self, signal: Signal, within: Duration) {
        self.signal(signal);
        wait_until(within, &format!("process {} to end on {signal}", self.pid), || self.exit_status().is_some());
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until `ready` holds.
    ///
    /// # Panics
    /// When the process ends before, or after `within`; with its log.
    pub fn await_ready(&mut self, what: &str, within: Duration, mut ready: impl FnMut() -> bool) {
        let held = poll(within, || self.exit_status().is_some() || ready()) && self.exit_status().is_none();
        assert!(held, "{what} did not come up ({:?}); its log:\n{}", self.exit_status(), self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.end);
        // `wait` closes the pipe first, so that the watcher insists when the signal alone is not enough.
        self.wrapper.wait().ok();
    }
}
