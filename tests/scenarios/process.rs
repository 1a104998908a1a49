//! Runs other programs with a time limit, each in a process group of its own, so that a test neither hangs nor leaks.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; 128 and the number for a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Output {
    /// Stdout of a program that must have succeeded.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "exit {}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr);
        &self.stdout
    }

    /// The same without white space around it.
    #[track_caller]
    pub fn line(&self) -> &str {
        self.ok().trim()
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    shown: String,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    started: Instant,
    reaped: bool,
}

/// Starts a program with its input.
pub fn start(mut command: Command, input: Vec<u8>) -> Running {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let shown = format!("{command:?}").chars().take(600).collect();
    let started = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program may end without reading what it is given.
    thread::spawn(move || stdin.write_all(&input));
    let stdout = drain(child.stdout.take().expect("a pipe"));
    let stderr = drain(child.stderr.take().expect("a pipe"));
    Running { child, shown, stdout, stderr, started, reaped: false }
}

/// Runs a program to its end.
#[track_caller]
pub fn run(command: Command, input: Vec<u8>, patience: Duration) -> Output {
    start(command, input).end(patience)
}

fn drain(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        send.send(bytes)
    });
    receive
}

impl Running {
    /// SIGKILL for the whole process group at once, as the client cancels.
    pub fn kill(&mut self) {
        if let (Ok(pid), false) = (i32::try_from(self.child.id()), self.reaped) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    pub fn is_over(&mut self) -> bool {
        self.reaped || self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for the end; more than `patience` from its start, and more for a busy machine, fails the test.
    #[track_caller]
    pub fn end(mut self, patience: Duration) -> Output {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            if self.started.elapsed() > patience && self.started.elapsed() > limit(patience.as_secs()) {
                self.kill();
                let err = self.stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
                panic!("not over after {patience:?}: {}\nstderr: {}", self.shown, String::from_utf8_lossy(&err));
            }
            thread::sleep(Duration::from_millis(2));
        };
        self.reaped = true;
        let took = self.started.elapsed();
        let text = |pipe: &Receiver<Vec<u8>>, name: &str| match pipe.recv_timeout(Duration::from_secs(3)) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            // The client would wait for ever.
            Err(_) => panic!("something still holds the {name} of {}", self.shown),
        };
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        Output { code, stdout: text(&self.stdout, "stdout"), stderr: text(&self.stderr, "stderr"), took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// Looks every 20 ms until something is there.
#[track_caller]
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        let waited = started.elapsed();
        assert!(waited < patience || waited < limit(patience.as_secs()), "waited {waited:?} in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// `seconds` on an idle machine, more on one that is busy with other things.
pub fn limit(seconds: u64) -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let cores = thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    Duration::from_secs(seconds).mul_f64((load / cores).clamp(1.0, 10.0))
}

/// Does the same with many things, a few at a time; tells which one failed.
#[track_caller]
pub fn each<T: std::fmt::Debug + Sync>(things: &[T], act: impl Fn(&T) + Sync) {
    const AT_ONCE: usize = 4;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(things.len()) {
            scope.spawn(|| {
                while let Some(thing) = things.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(thing))).is_err() {
                        failed.lock().unwrap_or_else(|poison| poison.into_inner()).push(format!("{thing:?}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    assert!(failed.is_empty(), "failed, see above: {}", failed.join(", "));
}

/// Words for a shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
