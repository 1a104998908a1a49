//! `run`: a lease for one command, released however it ends. And what belongs to it: detached commands, the wait for them, where sessions
//! begin, how long a lease lives.

use std::time::Duration;

use serde_json::{Value, json};

use super::process::{self, Output, Running, quoted};
use super::site::{Call, Lease, Open, Setup, Site};

/// A user with a configuration file.
struct User {
    site: Site,
    config: String,
}

impl User {
    #[track_caller]
    fn new(open: Open) -> User {
        let site = open(Setup::default());
        let config = site.request("acquire", json!({}))["config"].to_string();
        let config = site.write("config.json", &config);
        User { site, config }
    }

    fn call(&self, words: &[&str]) -> Call {
        Call::raw("").args(&["--config", &self.config]).args(words)
    }

    #[track_caller]
    fn cli(&self, words: &[&str]) -> Output {
        self.site.run(self.call(words))
    }

    /// The command line for a shell.
    fn line(&self, words: &str) -> String {
        format!("{} --state-dir {} --config {} {words}", self.site.program(), self.site.state_dir(), self.config)
    }

    /// The one lease, as soon as it is listed in this state.
    #[track_caller]
    fn lease(&self, state: &str) -> Lease {
        process::until(&format!("a lease that is {state}"), Duration::from_secs(60), || {
            let rows = self.site.list();
            let row = rows.first().filter(|row| row["labels"]["state"] == state)?;
            Some(self.site.adopt(Lease::of(row["leaseId"].as_str()?, row["slug"].as_str()?)))
        })
    }

    #[track_caller]
    fn nothing_listed(&self) {
        process::until("nothing is left", Duration::from_secs(60), || self.site.list().is_empty().then_some(()));
    }
}

/// What a command reads, writes and exits with is its own.
pub fn a_command_and_its_streams(open: Open) {
    let user = User::new(open);
    let site = &user.site;
    let bytes: Vec<u8> = (0..=255_u8).cycle().take(70_000).collect();
    let input = site.root.clone() + "/input";
    site.client_with(&format!("cat >{input}"), bytes, Duration::from_secs(20)).ok();
    let output = site.client_with(
        &format!(
            "{} <{input} >{input}.out; echo $?; cmp {input} {input}.out",
            user.line("run -- sh -c 'cat; echo said >&2; exit 7'")
        ),
        Vec::new(),
        Duration::from_secs(90),
    );
    assert_eq!(output.ok(), "7\n", "{}", output.stderr);
    assert!(output.stderr.lines().any(|line| line == "said"), "{}", output.stderr);
    user.nothing_listed();
    let words = user.cli(&["run", "--", "printf", "%s|", "a b", "$HOME", "c'd", ""]);
    assert_eq!(words.ok(), "a b|$HOME|c'd||");
    let line = user.cli(&["run", "--keep", "--", "echo $SLURM_JOB_ID | tr -d '\\n'; pwd"]);
    let lease = user.lease("ready");
    let job = site.job_in(&lease, "RUNNING");
    assert_eq!(line.ok(), format!("{job}{}/work/{}\n", site.root, lease.id), "it begins in the work directory");
    assert!(line.stderr.contains(&lease.id), "{}", line.stderr);
    site.release_cleanly(&lease);
    let failed = user.cli(&["run", "--partition", "none", "--", "true"]);
    assert!(failed.code != 0 && failed.stdout.is_empty(), "{}", failed.stderr);
    user.nothing_listed();
}

/// How a run is cut short, and the exit code that it has then, where there is somebody to see it.
pub const CUTS: &[(&str, (&str, Option<i32>))] = &[
    ("term", ("kill -TERM $pid", Some(143))),
    ("interrupt", ("kill -INT $pid", Some(130))),
    ("hangup", ("kill -HUP $pid", Some(129))),
    // With the terminal everything in it goes.
    ("a_terminal_that_is_closed", ("kill -KILL $terminal", None)),
];

pub fn runs_that_are_cut_short(open: Open, (how, code): (&str, Option<i32>)) {
    let user = User::new(open);
    let site = &user.site;
    let marker = format!("{}/started", site.root);
    let command = format!("exec {}", user.line(&format!("run -- 'touch {marker}; exec sleep 600'")));
    let script = match code {
        Some(_) => format!("{command} & pid=$!"),
        None => format!("script -qec {} /dev/null </dev/null >/dev/null & terminal=$!", quoted(&command)),
    };
    let running = site.background(&format!(
        "set -m; {script}; until [ -e {0}/cut ]; do sleep 0.1; done; {how}; wait $! 2>/dev/null; echo $?",
        site.root
    ));
    let lease = user.lease("ready");
    process::until("the command runs", Duration::from_secs(40), || {
        site.shell(&format!("ls {marker} 2>/dev/null")).stdout.contains("started").then_some(())
    });
    site.client(&format!(": >{}/cut", site.root)).ok();
    let output = running.end(Duration::from_secs(60));
    if let Some(code) = code {
        assert_eq!(output.line(), code.to_string(), "{}", output.stderr);
    }
    user.nothing_listed();
    site.nothing_left(&lease);
}

/// One that is interrupted before its job has started.
pub fn a_run_that_is_interrupted_in_the_queue(open: Open) {
    let user = User::new(open);
    let site = &user.site;
    let running = site.background(&format!(
        "set -m; {} & pid=$!; until [ -e {}/cut ]; do sleep 0.1; done; kill -INT $pid; wait $pid; echo $?",
        user.line("run --partition closed -- true"),
        site.root
    ));
    let lease = user.lease("provisioning");
    site.job_in(&lease, "PENDING");
    site.client(&format!(": >{}/cut", site.root)).ok();
    assert_eq!(running.end(Duration::from_secs(60)).line(), "130");
    user.nothing_listed();
    site.nothing_left(&lease);
}

/// Runs a command at a terminal, presses Ctrl-C when it is ready, and tells what was to be seen, and its exit code.
const KEYS: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("sh", ["sh", "-c", sys.argv[1]])
seen = b""
while True:
    try:
        some = os.read(terminal, 4096)
    except OSError:
        break
    if not some:
        break
    if b"ready" in seen + some and b"ready" not in seen:
        os.write(terminal, b"\x03")
    seen += some
print(seen.decode(errors="replace"))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// On a terminal the command has one too, and Ctrl-C is for the command.
pub fn a_run_on_a_terminal(open: Open) {
    let user = User::new(open);
    let site = &user.site;
    let keys = site.write("keys.py", KEYS);
    let command =
        user.line(r#"run -- 'tty >/dev/null && trap "echo caught; exit 5" INT; echo ready; sleep 60 & wait'"#);
    let output = site.client_with(&format!("python3 {keys} {}", quoted(&command)), Vec::new(), Duration::from_secs(90));
    assert!(output.ok().contains("caught") && output.stdout.ends_with("5\n"), "{}", output.stdout);
    user.nothing_listed();
}

/// A command that goes on by itself, and the wait for it.
pub fn a_detached_command(open: Open) {
    let user = User::new(open);
    let site = &user.site;
    let started = user.cli(&["run", "--detach", "--", "echo out; echo err >&2; sleep 4; exit 9"]);
    let id = started.line().to_owned();
    let lease = user.lease("ready");
    assert_eq!(id, lease.id);
    let waited = user.cli(&["wait", &id]);
    assert_eq!((waited.code, waited.stdout.as_str()), (9, ""), "{}", waited.stderr);
    let log = site.shell(&format!("cat {}/*/command.log", site.shared_dir(&lease)));
    assert_eq!(log.ok(), "out\nerr\n");
    process::until("the job ends with its command", Duration::from_secs(60), || {
        site.live_jobs(&lease).is_empty().then_some(())
    });
    assert_eq!(user.cli(&["wait", &id]).code, 9, "the code stays with the lease");
    site.release_cleanly(&lease);
    assert_eq!(user.cli(&["wait", &id]).code, 4);
}

/// The wait for a lease that has no such command.
pub fn a_wait_for_a_lease(open: Open) {
    let user = User::new(open);
    let site = &user.site;
    let lease = site.lease("waited");
    site.acquired(&lease, json!({}));
    let waiting: Running = site.spawn(user.call(&["wait", &lease.id]));
    site.release(&lease).ok();
    let waited = waiting.end(Duration::from_secs(90));
    assert_eq!(waited.code, 0, "{}", waited.stderr);
}

/// Where sessions begin, and a session without sshd.
pub fn where_sessions_begin(open: Open) {
    let user = User::new(open);
    let site = &user.site;
    let lease = site.lease("begin");
    site.acquired(&lease, json!({}));
    let work = format!("{}/work/{}\n", site.root, lease.id);
    assert_eq!(user.cli(&["ssh", &lease.id, "--", "pwd"]).ok(), work);
    let home = user.cli(&["ssh", "--home", &lease.id, "--", "pwd"]);
    assert!(!home.ok().contains(&lease.id), "{}", home.stdout);
    let fed = site.run(Call { input: b"pwd\n".to_vec(), ..user.call(&["ssh", &lease.slug]) });
    assert_eq!(fed.ok(), work);
    let script =
        format!("echo 'pwd; exit' | script -qec {} /dev/null", quoted(&user.line(&format!("ssh {}", lease.slug))));
    let terminal = site.client_with(&script, Vec::new(), Duration::from_secs(60));
    assert!(terminal.stdout.contains(work.trim()), "{}", terminal.stdout);
    let step = user.cli(&["ssh", "--via-step", &lease.id, "--", "echo in $SLURM_JOB_ID"]);
    assert_eq!(step.ok(), format!("in {}\n", site.job_in(&lease, "RUNNING")), "{}", step.stderr);
    site.release_cleanly(&lease);
}

/// What can be given to a lease that runs, and what cannot.
pub fn what_extends_a_lease(open: Open) {
    let user = User::new(open);
    let site = &user.site;
    let lease = site.lease("extended");
    site.acquired(&lease, json!({"ttlSeconds": 300, "idleTimeoutSeconds": 600, "timeLimit": "60"}));
    let ends =
        |row: &Value| row["labels"]["expires_at"].as_str().and_then(|at| at.parse::<f64>().ok()).expect("an end");
    let before = ends(&site.row(&lease).expect("listed"));
    let extended = user.cli(&["extend", &lease.slug, "20m"]);
    assert!(extended.ok().contains(&lease.id), "{}", extended.stdout);
    let row = site.row(&lease).expect("listed");
    assert!(ends(&row) - before > 600.0, "{row}");
    assert_eq!(row["labels"]["idle_timeout_secs"], "1200", "{row}");
    let refused = user.cli(&["extend", &lease.slug, "5h"]);
    assert!(refused.code == 2 && refused.stderr.contains("time limit"), "{}", refused.stderr);
    assert_eq!(user.cli(&["extend", &lease.slug, "soon"]).code, 2);
    site.release_cleanly(&lease);
}
