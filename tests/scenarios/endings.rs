//! When nobody calls: a job ends by itself as soon as nobody is entitled to it or uses it, not before, and says why.
//!
//! Times are some seconds here that are minutes elsewhere. What must not end is watched for longer than what must end
//! is given; how long an end takes is never judged.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::{self, Running};
use super::session::Login;
use super::site::{Lease, Open, Place, Setup, Site, job_of};

/// Any of these ends comes within some seconds of its time.
const PATIENCE: Duration = Duration::from_secs(40);

/// Longer than the idle time of a lease here, with all that the runner's looks add to it.
const LONGER: Duration = Duration::from_secs(11);

/// Idle after four seconds; the grace is so long that only a lease that was taken can be idle.
fn idle() -> Value {
    json!({"idleTimeoutSeconds": 4, "takenGraceSeconds": 60})
}

impl Site {
    /// The lease's job ends, cancelled by nobody, and everybody is told why; then its files go with a release.
    #[track_caller]
    pub fn ends_by_itself(&self, lease: &Lease, job: &str, reason: &str) {
        self.ends_as(lease, job, reason, "COMPLETED", "stopped");
    }

    #[track_caller]
    fn ends_as(&self, lease: &Lease, job: &str, reason: &str, state: &str, label: &str) {
        process::until(&format!("job {job} ends: {reason}"), PATIENCE, || {
            self.live_jobs(lease).is_empty().then_some(())
        });
        self.is_told(lease, job, reason, state, label);
        self.release_cleanly(lease);
    }

    /// Every way of asking gives the reason, the first one included.
    #[track_caller]
    fn is_told(&self, lease: &Lease, job: &str, reason: &str, state: &str, label: &str) {
        let reply = self.resolve(&lease.id);
        self.refusal(&reply, "job-ended", lease, Some(job)).says(&[state, &format!("the runner says {reason}: ")]);
        let row = self.row(lease).expect("listed until it is released");
        assert_eq!(
            (&row["status"], &row["labels"]["state"], &row["labels"]["slurmReason"]),
            (&json!(state), &json!(label), &json!(reason)),
            "{row}"
        );
        assert!(row.get("ssh").is_none(), "{row}");
        let logs = self.cli(&["logs", &lease.id]);
        assert!(logs.ok().contains(&format!("\n{reason}: ")), "{}", logs.stdout);
        assert!(logs.stdout.contains(&format!("slurm-sandbox: ending: {reason}: ")), "{}", logs.stdout);
    }

    /// The lease's job still runs after all this time.
    #[track_caller]
    fn lives_on(&self, lease: &Lease, job: &str, time: Duration, what: &str) {
        std::thread::sleep(time);
        assert_eq!(self.live_jobs(lease), [format!("{job} RUNNING")], "{what}: {}", self.last_words(lease));
    }

    fn last_words(&self, lease: &Lease) -> String {
        self.shell(&format!("cat {}/*/ending.json", self.shared_dir(lease))).stdout
    }

    /// A session that stays until the value goes.
    fn session(&self, login: &Login, command: &str) -> Running {
        self.background(&format!("exec {}", login.line(command)))
    }

    /// A file that a session writes is there.
    #[track_caller]
    fn appears(&self, path: &str) -> String {
        process::until(path, Duration::from_secs(20), || {
            let text = self.shell(&format!("cat {path} 2>/dev/null")).stdout;
            (!text.is_empty()).then_some(text)
        })
    }
}

/// Resolves every second as a dashboard does until that is refused: it must not keep a lease alive.
#[track_caller]
fn under_a_dashboard(site: &Site, lease: &Lease) {
    let started = Instant::now();
    let mut resolved = 0;
    while site.resolve(&lease.slug).value.get("lease").is_some() {
        resolved += 1;
        assert!(started.elapsed() < PATIENCE.max(process::limit(40)), "resolve keeps {} alive", lease.id);
        std::thread::sleep(Duration::from_secs(1));
    }
    assert!(resolved > 0, "it was never resolved");
}

/// Nobody logs in to a lease that was handed out; being resolved, and the client's own probe, are no use of it.
pub fn untaken_after_an_answer(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("untaken");
    let handed = site.acquired(&lease, json!({"takenGraceSeconds": 6, "idleTimeoutSeconds": 0}));
    let check = handed["ssh"]["readyCheck"].as_str().unwrap();
    assert_eq!(Login::of(&handed).ssh(&site, check).code, 0);
    under_a_dashboard(&site, &lease);
    site.ends_by_itself(&lease, &job_of(&handed), "untaken");
}

/// A job that is still starting obeys its limits, and a launcher that cannot start is told before anybody waits for it.
pub fn while_it_starts(open: Open) {
    let site = open(Setup::default());
    let hangs = |limits: Value| {
        let mut config = limits;
        config["preamble"] = json!("echo loading; sleep 600");
        config
    };
    let cases = [
        (hangs(json!({"takenGraceSeconds": 4})), "preamble-timeout: ", "loading"),
        (hangs(json!({"ttlSeconds": 4})), "ttl: ", "time to live"),
        (
            json!({"launcher": "bash -c 'echo no such image >&2; exit 9'"}),
            "launcher-failed: ",
            "status 9: no such image",
        ),
    ];
    process::each(&cases, |(config, reason, words)| {
        let lease = site.lease("starts");
        let reply = site.acquire(&lease, config.clone());
        site.refusal(&reply, "job-ended", &lease, None).says(&[&format!("the runner says {reason}"), words]);
        site.nothing_left(&lease);
    });
}

/// A job that a session submits inherits the environment of the lease, and is a job of its own all the same.
pub fn a_job_that_a_session_submits(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("nested");
    let handed = site.acquired(&lease, idle());
    let submit = "sbatch --parsable --job-name=nested --nodelist=$SLURMD_NODENAME --output=/dev/null \
                  --wrap='while :; do :; done'";
    let nested = Login::of(&handed).ssh(&site, submit).line().to_owned();
    let state = || site.shell(&format!("squeue --noheader --jobs={nested} --format=%T")).stdout.trim().to_owned();
    process::until("it runs", Duration::from_secs(30), || (state() == "RUNNING").then_some(()));
    process::until("the lease is idle", PATIENCE, || site.live_jobs(&lease).is_empty().then_some(()));
    assert_eq!(state(), "RUNNING", "it went with the lease");
    site.shell(&format!("scancel {nested}")).ok();
    process::until("it ends", PATIENCE, || (state() != "RUNNING" && state() != "COMPLETING").then_some(()));
    site.ends_by_itself(&lease, &job_of(&handed), "idle");
}

/// The client is killed while its job waits, and never comes back. The job starts later and finds nobody.
pub fn never_answered(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("nobody");
    let config = json!({"partition": "closed", "takenGraceSeconds": 2, "idleTimeoutSeconds": 0});
    let mut waiting = site.spawn(site.acquiring(&lease, config));
    let job = site.job_in(&lease, "PENDING");
    // Its own record of the job comes after the job.
    process::until("the record", Duration::from_secs(20), || {
        (site.row(&lease)?["cloudId"] == format!("slurm/job/{job}")).then_some(())
    });
    waiting.kill();
    drop(waiting);
    site.let_start(&job);
    site.ends_by_itself(&lease, &job, "untaken");
}

/// An acquire that gave up waiting has left its job in the queue on purpose: when it starts, idle time bounds it and
/// not the grace of one that nobody came for.
pub fn kept_in_the_queue(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("kept");
    let config =
        json!({"partition": "closed", "acquireTimeoutSeconds": 2, "takenGraceSeconds": 1, "idleTimeoutSeconds": 6});
    let request = site.request("acquire", json!({"desired": lease.desired(), "keep": true, "config": config}));
    site.protocol(&request).refused("timed-out").says(&["kept"]);
    let job = site.job_in(&lease, "PENDING");
    site.let_start(&job);
    site.ends_by_itself(&lease, &job, "idle");
}

/// Somebody removes the permit by hand. No release is under way, so nobody is told that there is one.
pub fn a_permit_removed_by_hand(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("permit");
    let job = job_of(&site.acquired(&lease, json!({})));
    site.shell(&format!("rm {}/permit", site.shared_dir(&lease))).ok();
    site.ends_by_itself(&lease, &job, "permit-removed");
}

/// Used once and left; a dashboard that resolves it all the time is no use.
pub fn idle_under_a_dashboard(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("idle");
    let handed = site.acquired(&lease, json!({"idleTimeoutSeconds": 6, "takenGraceSeconds": 60}));
    Login::of(&handed).ssh(&site, "echo used").ok();
    under_a_dashboard(&site, &lease);
    site.ends_by_itself(&lease, &job_of(&handed), "idle");
}

/// A detached multiplexer with a shell at its prompt is no use, and goes with the job.
pub fn a_forgotten_terminal(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("tmux");
    let handed = site.acquired(&lease, idle());
    let begin = format!("tmux -S {0}/tmux new-session -d -s work && tmux -S {0}/tmux list-sessions", site.root);
    let begun = Login::of(&handed).ssh(&site, &begin);
    assert!(begun.ok().starts_with("work: "), "{begun:?}");
    site.ends_by_itself(&lease, &job_of(&handed), "idle");
}

/// What a session waits for is at work however silent it is, one process or a loop of short ones; without the session
/// the lease is idle.
pub fn a_long_silent_command(open: Open) {
    let site = open(Setup::default());
    let commands = ["sleep 600; :", "while :; do sleep 0.3; done", "cat <(sleep 600)"];
    process::each(&commands, |command| {
        let lease = site.lease("silent");
        let handed = site.acquired(&lease, idle());
        let session = site.session(&Login::of(&handed), command);
        site.lives_on(&lease, &job_of(&handed), LONGER, command);
        drop(session);
        site.ends_by_itself(&lease, &job_of(&handed), "idle");
    });
}

/// What left its session counts while it computes; one that only waits does not, and goes with the job.
pub fn a_detached_process(open: Open) {
    let site = open(Setup::default());
    process::each(&[true, false], |busy| {
        let lease = site.lease("detached");
        let handed = site.acquired(&lease, idle());
        let (login, job) = (Login::of(&handed), job_of(&handed));
        let marker = format!(
            "{}.{}",
            600 + std::process::id() % 300,
            lease.id[4..].bytes().map(|b| b % 10).fold(0, |n, b| n * 10 + u64::from(b))
        );
        let pid = format!("{}/{}.pid", site.root, lease.slug);
        let work = if *busy { "while :; do :; done".to_owned() } else { format!("sleep {marker}; :") };
        login.ssh(&site, &format!("setsid nohup bash -c 'echo $$ >{pid}; {work}' >/dev/null 2>&1 </dev/null &")).ok();
        if *busy {
            site.lives_on(&lease, &job, LONGER, "a busy detached process");
            login.ssh(&site, &format!("kill -KILL {}", site.appears(&pid))).ok();
        }
        process::until("the end", PATIENCE, || site.live_jobs(&lease).is_empty().then_some(()));
        assert_eq!(super::lifecycle::processes(&site, &marker), 0, "it outlived its job");
        site.ends_by_itself(&lease, &job, "idle");
    });
}

/// Time to live ends a lease whatever runs in it.
pub fn past_its_time_to_live(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("ttl");
    let handed = site.acquired(&lease, json!({"ttlSeconds": 8}));
    let _session = site.session(&Login::of(&handed), "sleep 600; :");
    site.ends_by_itself(&lease, &job_of(&handed), "ttl");
}

/// touch moves the end, even at the last moment before the runner looks, and back again.
pub fn a_touch_moves_the_end(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("touched");
    // With the usual idle time and grace the runner looks at the start, and again only after the first end.
    let handed = site.acquired(&lease, json!({"ttlSeconds": 10}));
    let job = job_of(&handed);
    std::thread::sleep(Duration::from_millis(2500));
    touch(&site, &handed, &json!({"ttl_secs": "3600"}));
    Login::of(&handed).ssh(&site, ":").ok();
    site.lives_on(&lease, &job, LONGER, "past its first time to live");
    touch(&site, &handed, &json!({"ttl_secs": "3600", "idle_timeout_secs": "3"}));
    site.ends_by_itself(&lease, &job, "idle");
}

#[track_caller]
fn touch(site: &Site, handed: &Value, labels: &Value) {
    let mut sent = handed.clone();
    sent["labels"] = labels.clone();
    site.ask("touch", json!({"lease": sent, "state": "ready"})).ok();
}

/// Before the time limit the job warns in a file, runs the site's command, and then says that the limit ended it. A
/// job that is cancelled at that time says so.
pub fn the_time_limit_is_near(open: Open) {
    let site = open(Setup::default());
    let limit = match &site.place {
        Place::Fake(fake) => {
            // Six seconds until the signal, 15 more until the end.
            fake.control(&["conf", "SecondsPerMinute=3"]).ok();
            json!({"timeLimit": "00:07:00"})
        }
        // Real Slurm signals a job of one minute within half of it, and ends it within another minute.
        Place::Campus(_) => json!({"partition": "short"}),
    };
    let hook = format!("echo \"$CBX_LEASE_ID $PWD\" >>{}/hook-$CBX_SLUG", site.root);
    process::each(&[("limited", "walltime"), ("stopped", "cancelled")], |&(word, reason)| {
        let lease = site.lease(word);
        let mut config = limit.clone();
        config["onEnding"] = json!(hook);
        let handed = site.acquired(&lease, config);
        let (login, job) = (Login::of(&handed), job_of(&handed));
        login.ssh(&site, ":").ok();
        let work = format!("{}/work/{}", site.root, lease.id);
        let warning = format!("cat {work}/.slurm-sandbox-ending 2>/dev/null");
        let (text, end) = process::until("the warning", Duration::from_secs(60), || {
            let text = site.shell(&warning).stdout;
            let end = site.shell(&format!("SLURM_TIME_FORMAT=%s squeue -h -j {job} -o %e")).stdout;
            (!text.is_empty()).then_some((text, end))
        });
        let shown: i64 = text.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("no time in {text:?}"));
        assert!(text.contains("time limit is near"), "{text}");
        assert_eq!(shown.to_string(), end.trim(), "the time that Slurm has for it");
        assert_eq!(site.appears(&format!("{}/hook-{}", site.root, lease.slug)), format!("{} {work}\n", lease.id));
        assert_eq!(login.ssh(&site, "echo still here").line(), "still here");
        if reason == "cancelled" {
            site.shell(&format!("scancel {job}")).ok();
        }
        process::until("the end", Duration::from_secs(150), || site.live_jobs(&lease).is_empty().then_some(()));
        let state = site.row(&lease).expect("listed")["status"].as_str().unwrap().to_owned();
        assert!(state.starts_with(if reason == "walltime" { "TIMEOUT" } else { "CANCELLED" }), "{state}");
        site.ends_as(&lease, &job, reason, &state, "failed");
    });
}
