//! doctor --live: one short lease of the site's own configuration, from its submission to a login and back.
//!
//! It is a lease like all others, with an id of its own, made and ended by acquire and release: when this process is killed, its job
//! ends by itself within two minutes, and cleanup or list finds it. What only a node can tell is asked in its session (`check/node.rs`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use serde_json::{Map, Value};

use crate::clock::epoch;
use crate::config;
use crate::doctor::check::CheckId;
use crate::doctor::check::node::{self, Delays};
use crate::doctor::finding::{Category, Finding};
use crate::doctor::remote::RemoteFacts;
use crate::failure::{self, Failure, Kind};
use crate::host::caller;
use crate::host::command::quoted;
use crate::lease::LeaseId;
use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::operation::lookup::load;
use crate::operation::{acquire, release};
use crate::progress::progress;
use crate::protocol::{CheckStatus, Lease, Operation, Request, SentLease, Ssh};
use crate::shared_dir::SharedDir;
use crate::ssh::lease::command;

/// All of the acquire. A person waits, and a queue that is longer is told as such.
const ACQUIRE_SECONDS: u64 = 60;

/// When the job ends itself, should nobody end it: after the preamble and all that is asked of the node.
const TTL_SECONDS: u64 = 120;
const UNUSED_SECONDS: u64 = 60;

/// A session that asks much; file systems and name services of nodes may be slow.
const SESSION_DEADLINE: Duration = Duration::from_secs(40);

/// How long a file may take to show up: network file systems remember names that were not there for 30 s and longer.
const FILE_PATIENCE: Duration = Duration::from_secs(35);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// timeout(1) and some shells send a signal to the process and again to its group; a second one that is meant comes later.
const SECOND_SIGNAL: Duration = Duration::from_secs(1);

/// How long an interrupted acquire may take its lease back itself before somebody else does: the two would wait for each other's lock.
const ROLL_BACK_PATIENCE: Duration = Duration::from_secs(3);

/// Whether the interrupted call does nothing more.
static STAYS: AtomicBool = AtomicBool::new(false);

/// Makes signals that end a process wait, so that [`run`] can take its lease back first. It holds for all threads that are started later.
pub fn hold_signals() {
    // Where that fails, a signal ends this process and the job ends by itself.
    let _ = ending().thread_block();
}

fn ending() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// Makes the lease, looks around in it, and ends it, unless something that it rests on is red already.
pub fn run(options: &Options, request: &Request, before: &[Finding]) -> Vec<Finding> {
    let red = |id: CheckId| before.iter().any(|finding| finding.id == id && finding.is(CheckStatus::Red));
    if let Some(need) = CheckId::LiveLease.needs().iter().find(|need| red(need.check)) {
        return vec![Finding::warning(CheckId::LiveLease, need.seen, "")];
    }
    match LeaseId::random() {
        Ok(id) => Trial { options, config: shortened(&request.config), id }.run(),
        Err(error) => vec![refused(&failure::of(&error.into()))],
    }
}

/// The configuration of a lease that is not to last. What Slurm is asked for stays as it is: a time limit decides whether and when a job starts.
fn shortened(config: &Map<String, Value>) -> Map<String, Value> {
    let mut short = config.clone();
    let own = config::parse(config).map_or(ACQUIRE_SECONDS, |settings| settings.acquire_timeout);
    let seconds = [
        ("acquireTimeoutSeconds", own.min(ACQUIRE_SECONDS)),
        ("ttlSeconds", TTL_SECONDS),
        ("takenGraceSeconds", UNUSED_SECONDS),
        ("idleTimeoutSeconds", UNUSED_SECONDS),
    ];
    short.extend(seconds.map(|(key, value)| (key.to_owned(), value.into())));
    // Nothing of the site's own work is to be done at the end of this one.
    short.remove("onEnding");
    // Nor is anything to be submitted beside it, or taken that was made ready for work.
    short.remove("spares");
    short
}

struct Trial<'a> {
    options: &'a Options,
    config: Map<String, Value>,
    id: LeaseId,
}

impl Trial<'_> {
    fn run(&self) -> Vec<Finding> {
        self.release_on_signals();
        let began = Instant::now();
        let slug = format!("doctor-{}", &self.id.as_str()[self.id.as_str().len() - 6..]);
        let request = Request { desired: Some(acquire::desired(&self.id, slug)), ..self.request(Operation::Acquire) };
        let acquired = acquire::run(self.options, &request);
        stay_if_interrupted();
        let lease = match acquired {
            Ok(answer) => answer.lease,
            Err(error) => return vec![refused(&failure::of(&error))],
        };
        let mut findings = Vec::new();
        if let Some((lease, ssh)) = lease.as_ref().and_then(|lease| Some((lease, lease.ssh.as_ref()?))) {
            findings.push(ready(lease, began.elapsed()));
            findings.extend(self.look_around(ssh));
        }
        stay_if_interrupted();
        findings.push(self.release());
        stay_if_interrupted();
        findings
    }

    fn request(&self, operation: Operation) -> Request {
        Request { config: self.config.clone(), ..Request::new(operation) }
    }

    /// What a session on the node tells.
    fn look_around(&self, ssh: &Ssh) -> Vec<Finding> {
        let found = Store::open(&self.options.state_dir).and_then(|store| load(&store, &self.id));
        let record = found.ok().flatten().and_then(|found| found.loaded.record().cloned());
        let (Some(record), Ok(settings)) = (record, config::parse(&self.config)) else {
            return vec![Finding::warning(CheckId::NodeAccount, "not asked: the lease's record cannot be read", "")];
        };
        let shared = SharedDir::of(&record);
        let directory = shared.attempt_path().to_string_lossy().into_owned();
        // That it is not there yet is remembered by network file systems.
        let is_there = || shared.tail("doctor-from-node", 64).is_some();
        is_there();
        let facts = match ask(ssh, &["facts", &directory]) {
            Ok(facts) => facts,
            Err(said) => {
                let seen = format!("a session of the lease failed, after the ready check had worked: {said}");
                return vec![Finding::warning(CheckId::NodeAccount, seen, "run `slurm-sandbox doctor --live` again")];
            }
        };
        let now = epoch();
        let written = Instant::now();
        let from_node = loop {
            if is_there() {
                break Some(written.elapsed());
            }
            if written.elapsed() > FILE_PATIENCE {
                break None;
            }
            std::thread::sleep(LOOK_INTERVAL);
        };
        let to_node = self.time_to_node(&shared, ssh, &directory);
        let mut findings = node::classify(&facts, &settings, now);
        findings.push(node::files(&facts, Delays { to_node, from_node, most: FILE_PATIENCE }));
        findings
    }

    /// How long a file takes that is written here.
    fn time_to_node(&self, shared: &SharedDir, ssh: &Ssh, directory: &str) -> Option<Duration> {
        shared.mark("doctor-to-node", epoch()).ok()?;
        let written = Instant::now();
        let facts = ask(ssh, &["seen", directory, &FILE_PATIENCE.as_secs().to_string()]).ok()?;
        // Of one that was there at the first look the session itself took all the time.
        match facts.get("seen")? {
            "0" => Some(Duration::ZERO),
            _ => Some(written.elapsed()),
        }
    }

    fn release(&self) -> Finding {
        let began = Instant::now();
        let lease = SentLease { lease_id: self.id.to_string(), ..SentLease::default() };
        match release::run(self.options, &Request { lease: Some(lease), ..self.request(Operation::Release) }) {
            Ok(answer) => {
                let said = answer.message.unwrap_or_default();
                Finding::ok(CheckId::LiveRelease, format!("{said} ({:.1} s)", began.elapsed().as_secs_f32()))
            }
            Err(error) => {
                let remedy =
                    format!("`slurm-sandbox release {}`; its job ends by itself within {TTL_SECONDS} s", self.id);
                Finding::warning(CheckId::LiveRelease, failure::of(&error).to_string(), remedy)
            }
        }
    }

    /// Has the lease taken back when somebody interrupts, in a thread that then ends this process; a second signal ends it at once.
    fn release_on_signals(&self) {
        let (options, config, id) = (self.options.clone(), self.config.clone(), self.id.clone());
        let wait = move || {
            let Ok(signal) = ending().wait() else { return };
            // The acquire makes nothing anew then, and takes back itself what it has begun.
            caller::interrupt();
            let code = 128 + signal as i32;
            let _ = std::thread::Builder::new().spawn(move || {
                progress(&format!("interrupted, the lease {id} is taken back"));
                let began = Instant::now();
                while !STAYS.load(Ordering::Relaxed) && began.elapsed() < ROLL_BACK_PATIENCE {
                    std::thread::sleep(LOOK_INTERVAL);
                }
                let found = Store::open(&options.state_dir).and_then(|store| load(&store, &id));
                if matches!(found, Ok(None)) {
                    progress("nothing of it is left");
                } else {
                    progress(&Trial { options: &options, config, id }.release().seen);
                }
                std::process::exit(code);
            });
            let began = Instant::now();
            while ending().wait().is_ok() && began.elapsed() < SECOND_SIGNAL {}
            std::process::exit(code);
        };
        // Without a thread the signals stay held until the end, which is near.
        let _ = std::thread::Builder::new().name("interrupts".to_owned()).spawn(wait);
    }
}

/// Leaves the rest to whoever takes the lease back and ends this process.
fn stay_if_interrupted() {
    while caller::is_interrupted() {
        STAYS.store(true, Ordering::Relaxed);
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

/// Runs the script in a session of the lease, as the client runs its commands.
fn ask(ssh: &Ssh, words: &[&str]) -> Result<RemoteFacts, String> {
    let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    let line = format!("bash -s -- {}", words.join(" "));
    let session = command(ssh, SESSION_DEADLINE, "yes").args(["-T", &line]).input(node::SCRIPT.into());
    let output = session.run().map_err(|error| format!("ssh could not be started: {error}"))?;
    RemoteFacts::whole(&output).ok_or_else(|| output.said())
}

fn ready(lease: &Lease, took: Duration) -> Finding {
    let label = |name: &str| lease.labels.get(name).map_or("", String::as_str);
    let seen = format!(
        "job {} in partition {} on {} let us in {:.1} s after the call",
        label("slurmJobId"),
        label("slurmPartition"),
        label("slurmNode"),
        took.as_secs_f32()
    );
    Finding::ok(CheckId::LiveLease, seen).fact("live", "ok")
}

/// What an acquire that failed says of the site. That others use it, or that this user has enough of it, is no fault.
fn refused(failure: &Failure) -> Finding {
    let category = match failure.kind {
        Kind::BadRequest | Kind::BadConfig | Kind::SubmitRejected | Kind::NeverRuns | Kind::Storage => Category::Config,
        Kind::EndpointUnusable => Category::Network,
        _ => Category::Provider,
    };
    let finding = Finding::of_failure(CheckId::LiveLease, category, failure);
    match (failure.kind, failure.pending_reason()) {
        (Kind::TimedOut, Some(reason)) => {
            let seen = format!("the job waits because of {reason}; it was given up and taken back: {}", finding.seen);
            Finding { status: CheckStatus::Warning, seen, ..finding }
        }
        (Kind::TimedOut | Kind::LimitReached | Kind::Busy, _) => Finding { status: CheckStatus::Warning, ..finding },
        _ => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{Red, Warning};
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({}), json!({}))]
    #[case(json!({"timeLimit": "1:00:00", "onEnding": "rsync -a . x:"}), json!({"timeLimit": "1:00:00"}))]
    #[case(json!({"timeLimit": "1:00:00", "spares": 2}), json!({"timeLimit": "1:00:00"}))]
    #[case(json!({"account": "lab", "ttlSeconds": 7200}), json!({"account": "lab"}))]
    #[case(json!({"acquireTimeoutSeconds": 5}), json!({"acquireTimeoutSeconds": 5}))]
    fn the_lease_is_the_sites_own_but_short(#[case] config: Value, #[case] expected: Value) {
        let short = shortened(config.as_object().unwrap());
        let mut all =
            json!({"acquireTimeoutSeconds": 60, "ttlSeconds": 120, "takenGraceSeconds": 60, "idleTimeoutSeconds": 60});
        all.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
        assert_eq!(Value::Object(short.clone()), all);
        assert!(config::parse(&short).is_ok());
    }

    #[rstest]
    #[case(Failure::new(Kind::TimedOut, "not ready").pending("Resources"), Warning, "the job waits because of Resources")]
    #[case(Failure::new(Kind::TimedOut, "not ready"), Warning, "not ready")]
    #[case(Failure::new(Kind::LimitReached, "maxLeases is 1"), Warning, "maxLeases")]
    #[case(Failure::new(Kind::JobEnded, "its job ended").cause("no-login-shell"), Red, "no-login-shell")]
    #[case(Failure::new(Kind::EndpointUnusable, "no login"), Red, "no login")]
    #[case(Failure::new(Kind::SubmitRejected, "sbatch refused the job"), Red, "refused")]
    fn what_a_failed_acquire_says(#[case] failure: Failure, #[case] status: CheckStatus, #[case] seen: &str) {
        let finding = refused(&failure);
        assert!(finding.is(status) && finding.seen.contains(seen) && !finding.remedy.is_empty(), "{finding:?}");
    }
}
