//! Sites on the campus, a real Slurm: at most three are brought up in a test run and shared by its tests.
//!
//! `SLURM_SANDBOX_CAMPUS=DIR` names where they are or are to be (`DIR/full`, `DIR/plain`, `DIR/outside`); whoever sets it takes them
//! down. Without it they lie in a directory of this process, and a small watcher takes them down when it has ended,
//! however it ended.
//!
//! `CAMPUS_SUITE=NAME` makes them of another Debian suite, and `SLURM_SANDBOX_PROGRAM=FILE` is the program that runs there, where
//! cargo's would not. scripts/test --suite sets both.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::process::{self, Output};
use super::site::Setup;

/// Bringing a campus up takes some seconds, the first time with packages to install some minutes.
const UP_LIMIT: Duration = Duration::from_secs(600);
const FS: &str = "SLURM_SANDBOX_CAMPUS_FS";
const LIMIT: Duration = Duration::from_secs(60);

/// With accounting and a second cluster.
static FULL: Shared = Shared::new("full", &["--acct", "slurmdbd", "--annex", "--kill-wait", "5"]);
/// Without accounting, and forgetful.
static PLAIN: Shared = Shared::new("plain", &["--acct", "none", "--min-job-age", "4", "--kill-wait", "5"]);

struct Shared {
    name: &'static str,
    options: &'static [&'static str],
    root: OnceLock<Result<PathBuf, String>>,
    /// Held for reading by every test, for writing by one that breaks what all share.
    gate: RwLock<()>,
}

/// The same for what breaks the connection to the login host, so that other tests need not wait for it.
static OUTSIDE: Shared = Shared::new("outside", &["--acct", "none", "--kill-wait", "5"]);

#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
enum Pass {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// One test's use of a campus.
#[derive(Debug)]
pub struct Campus {
    root: PathBuf,
    user: &'static str,
    /// Where the binary runs.
    client: &'static str,
    _pass: Pass,
}

impl Shared {
    const fn new(name: &'static str, options: &'static [&'static str]) -> Shared {
        Shared { name, options, root: OnceLock::new(), gate: RwLock::new(()) }
    }

    #[track_caller]
    fn root(&self) -> &Path {
        let root = self.root.get_or_init(|| {
            let root = directory().join(self.name);
            let mut up = command(&root, "up");
            up.args(self.options);
            if fs_is_late() {
                // As sites have it: an end takes its time there.
                up.args(["--kill-wait", "30"]);
            }
            let output = process::run(up, Vec::new(), UP_LIMIT);
            if output.code != 0 {
                return Err(format!("exit {}: {}{}", output.code, output.stdout, output.stderr));
            }
            let mut put = command(&root, "put");
            put.arg(std::env::var_os("SLURM_SANDBOX_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_slurm-sandbox").into()));
            process::run(put, Vec::new(), LIMIT).ok();
            let mut runs = command(&root, "exec");
            runs.args(["laptop", "alice", "/opt/slurm-sandbox/slurm-sandbox --version"]);
            let output = process::run(runs, Vec::new(), LIMIT);
            if output.code != 0 {
                return Err(format!("the program does not run there (SLURM_SANDBOX_PROGRAM): {}", output.stderr));
            }
            give_fault(&root);
            Ok(root)
        });
        match root {
            Ok(root) => root,
            Err(why) => panic!(
                "the campus is not up: {why}\nThese tests run a real Slurm: run them as root on Debian 12 where namespaces can be \
                 made, as scripts/test does, or set SLURM_SANDBOX_SKIP_CAMPUS=1 to go without them."
            ),
        }
    }
}

/// Whether the file system of some host is made late.
pub fn fs_is_late() -> bool {
    std::env::var_os(FS).is_some()
}

/// What `SLURM_SANDBOX_CAMPUS_FS` names, such as `lag 30 on n1 n2`: a fault of /home on some hosts, for all that runs there.
#[track_caller]
fn give_fault(root: &Path) {
    let Ok(wanted) = std::env::var(FS) else { return };
    let (fault, hosts) = wanted.split_once(" on ").expect("FAULT [NUMBER...] on HOST...");
    let mut words = fault.split_whitespace();
    let verb = words.next().expect("a fault");
    let numbers: Vec<_> = words.collect();
    for host in hosts.split_whitespace() {
        let mut fs = command(root, "fs");
        fs.args([host, verb, "/home"]).args(&numbers);
        process::run(fs, Vec::new(), UP_LIMIT).ok();
    }
}

/// Where this run's campuses are.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<(PathBuf, Option<Child>)> = OnceLock::new();
    let (path, _watcher) = DIRECTORY.get_or_init(|| match std::env::var_os("SLURM_SANDBOX_CAMPUS") {
        Some(path) => (PathBuf::from(path), None),
        None => {
            let path = PathBuf::from(format!("/tmp/slurm-sandbox-campus.{}", std::process::id()));
            // Its stdin ends when this process does.
            let script =
                r#"cat >/dev/null; for c in full plain outside; do "$0" --root "$1/$c" down; done >/dev/null 2>&1; rmdir "$1""#;
            let mut watcher = Command::new("setsid");
            watcher.args(["sh", "-c", script]).arg(tool()).arg(&path);
            let watcher = watcher.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            (path, Some(watcher.expect("setsid")))
        }
    });
    path
}

fn tool() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/campus/campus")
}

fn command(root: &Path, verb: &str) -> Command {
    let mut command = Command::new(tool());
    command.arg("--root").arg(root).arg(verb);
    command
}

/// Whether the caller has asked to go without these tests; said so that nobody overlooks it.
pub fn skipped(_scenario: &str) -> bool {
    let skip = std::env::var_os("SLURM_SANDBOX_SKIP_CAMPUS").is_some_and(|value| value == "1");
    if skip {
        super::say("SKIPPED: SLURM_SANDBOX_SKIP_CAMPUS=1, so nothing is proven on a real Slurm");
    }
    skip
}

impl Campus {
    #[track_caller]
    pub fn new(setup: &Setup, client: &'static str, apart: bool) -> Campus {
        let shared = match (apart, setup.accounting) {
            (true, _) => &OUTSIDE,
            (false, true) => &FULL,
            (false, false) => &PLAIN,
        };
        let root = shared.root().to_owned();
        let pass = if setup.alone {
            Pass::Alone(shared.gate.write().unwrap_or_else(|poison| poison.into_inner()))
        } else {
            Pass::Shared(shared.gate.read().unwrap_or_else(|poison| poison.into_inner()))
        };
        Campus { root, user: setup.user, client, _pass: pass }
    }

    /// A sub-command of the campus tool that must succeed.
    #[track_caller]
    pub fn control(&self, verb: &str, args: &[&str]) -> Output {
        let mut command = self.tool(verb);
        command.args(args);
        let output = process::run(command, Vec::new(), LIMIT);
        output.ok();
        output
    }

    /// Lays down the config file of a host's admins, of this mode and owner; an empty text removes it.
    #[track_caller]
    pub fn admin_file(&self, host: &str, text: &str, mode: &str, owner: &str) {
        let mut command = self.tool("admin");
        command.args([host, mode, owner]);
        process::run(command, text.into(), LIMIT).ok();
    }

    /// The campus tool.
    pub fn tool(&self, verb: &str) -> Command {
        command(&self.root, verb)
    }

    /// A shell of a user on a host.
    pub fn shell(&self, host: &str, user: &str, env: &[(String, String)], script: &str) -> Command {
        let mut command = command(&self.root, "exec");
        for (name, value) in env {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        command.args([host, user, script]);
        command
    }

    pub fn user(&self) -> &'static str {
        self.user
    }

    pub fn client(&self) -> &'static str {
        self.client
    }

    pub fn has_annex(&self) -> bool {
        self.root.ends_with("full")
    }
}
