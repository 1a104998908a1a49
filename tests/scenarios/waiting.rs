//! Jobs that wait, never start, or end before their time.

use std::time::Duration;

use serde_json::json;

use super::process;
use super::session::Login;
use super::site::{Call, Lease, Open, Place, Setup, Site, job_of};
use super::wire::Reply;

impl Site {
    /// Lets a job start that waits in the partition that is down.
    #[track_caller]
    pub fn let_start(&self, job: &str) {
        match &self.place {
            Place::Fake(fake) => {
                fake.control(&["conf", "PartitionName=closed State=UP"]).ok();
                fake.control(&["clear"]).ok();
            }
            Place::Campus(_) => {
                self.shell(&format!("scontrol update jobid={job} partition=batch")).ok();
            }
        }
    }

    /// What an ended acquire answered.
    #[track_caller]
    pub fn reply(&self, running: process::Running) -> Reply {
        Reply::read(&running.end(Duration::from_secs(90)))
    }
}

/// release reaches a job that waits, while the acquire that made it still waits too.
pub fn a_queued_job_is_released_before_it_starts(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("queued");
    let waiting = site.spawn(site.acquiring(&lease, json!({"partition": "closed"})));
    let job = site.job_in(&lease, "PENDING");
    let row = site.row(&lease).expect("a waiting lease is listed");
    assert_eq!((&row["status"], &row["labels"]["state"]), (&json!("PENDING"), &json!("provisioning")), "{row}");
    assert!(row.get("ssh").is_none() && row["labels"]["slurmReason"].is_string(), "{row}");
    let only = site.ask("resolve", json!({"id": lease.id, "releaseOnly": true}));
    assert!(only.lease().get("ssh").is_none() && only.took < process::limit(1));
    let resolved = site.ask("resolve", json!({"id": lease.id, "config": {"resolveWaitSeconds": 1}}));
    site.refusal(&resolved, "timed-out", &lease, Some(&job)).says(&["PENDING"]);
    assert!(resolved.took < process::limit(5), "{:?}", resolved.took);
    site.release_cleanly(&lease);
    let reply = site.reply(waiting);
    reply.error().says(&[&lease.id]);
    site.nothing_left(&lease);
}

/// A timeout with keep: the job stays queued, and is found when it starts later.
pub fn a_clean_timeout_with_keep_leaves_the_job_queued(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("kept");
    let config = json!({"partition": "closed", "acquireTimeoutSeconds": 2});
    let request = site.request("acquire", json!({"desired": lease.desired(), "keep": true, "config": config}));
    let reply = site.protocol(&request);
    let job = site.job_in(&lease, "PENDING");
    let goes_on = format!("crabbox warmup --slug {} --lease-id {}", lease.slug, lease.id);
    site.refusal(&reply, "timed-out", &lease, Some(&job)).says(&[
        "kept",
        &goes_on,
        &format!("crabbox stop {}", lease.slug),
    ]);
    assert!(reply.took < process::limit(8), "{:?}", reply.took);
    let row = site.row(&lease).expect("a kept lease is listed");
    assert_eq!((&row["labels"]["keep"], &row["labels"]["state"]), (&json!("true"), &json!("provisioning")));
    assert_eq!(row["cloudId"], format!("slurm/job/{job}"));

    site.let_start(&job);
    let resolved = site.ask("resolve", json!({"id": lease.slug, "config": {"resolveWaitSeconds": 40}}));
    assert_eq!(resolved.lease()["cloudId"], format!("slurm/job/{job}"));
    assert_eq!(Login::of(resolved.lease()).ssh(&site, "echo $SLURM_JOB_ID").line(), job);
    assert_eq!(site.acquired(&lease, json!({}))["cloudId"], resolved.lease()["cloudId"], "acquire goes on from there");
    site.release_cleanly(&lease);
}

/// A timeout without keep takes everything back.
pub fn a_timeout_without_keep_leaves_nothing(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("late");
    let reply = site.acquire(&lease, json!({"partition": "closed", "acquireTimeoutSeconds": 4}));
    let refusal = site.refusal(&reply, "timed-out", &lease, None);
    refusal.says(&["PENDING", "PartitionDown", "job "]);
    assert!(refusal.retry_safe && reply.took < process::limit(10), "{:?}", reply.took);
    assert!(reply.stderr.contains("PENDING (PartitionDown)"), "no progress told: {}", reply.stderr);
    site.nothing_left(&lease);
    assert_eq!(site.row(&lease), None);
}

/// The message has the state, the exit code and the end of the job's output.
pub fn a_job_that_dies_at_its_start_says_why(open: Open) {
    let site = open(Setup::default());
    let script = site.write("dies.sh", "#!/bin/bash\necho first line\necho 'no such module: cuda/99' >&2\nexit 3\n");
    let lease = site.lease("dies");
    let reply = site.acquire(&lease, json!({"runnerScript": script}));
    let refusal = site.refusal(&reply, "job-ended", &lease, None);
    refusal.says(&["FAILED", "3:0", "no such module: cuda/99", "job "]);
    assert!(reply.took < process::limit(12), "{:?}", reply.took);
    site.nothing_left(&lease);

    // Our own runner, whose preamble fails: its words reach the caller as well.
    let lease = site.lease("preamble");
    let reply =
        site.acquire(&lease, json!({"preamble": ["echo loading", "echo 'module: cuda/99 unknown' >&2", "false"]}));
    site.refusal(&reply, "job-ended", &lease, None).says(&["preamble", "module: cuda/99 unknown"]);
    site.nothing_left(&lease);
}

/// What can never be met, the failure's codes, and words of what to change.
type Never<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

const REFUSED: &[&str] = &["submit-rejected"];
/// One version of Slurm refuses it, another queues it for ever.
const EITHER: &[&str] = &["submit-rejected", "never-runs"];

pub const NEVER: &[(&str, Never<'_>)] = &[
    ("unknown_partition", (r#"{"partition": "nope"}"#, REFUSED, &["correct partition"])),
    ("unknown_account", (r#"{"account": "nobody"}"#, REFUSED, &["correct account"])),
    ("unknown_qos", (r#"{"qos": "long"}"#, REFUSED, &["correct qos"])),
    ("too_many_cpus", (r#"{"cpus": 5000}"#, EITHER, &["fewer cpus"])),
    ("too_much_memory", (r#"{"mem": "900T"}"#, REFUSED, &["lower mem"])),
    ("too_many_gpus", (r#"{"gres": "gpu:99"}"#, REFUSED, &["ask for less"])),
    ("unknown_gres", (r#"{"gres": "unicorn:1"}"#, REFUSED, &["correct gres"])),
    ("unknown_feature", (r#"{"constraint": "unobtainium"}"#, REFUSED, &["correct constraint"])),
    ("unknown_node", (r#"{"nodelist": "n99"}"#, REFUSED, &["correct nodelist"])),
    ("unknown_reservation", (r#"{"reservation": "nobody"}"#, REFUSED, &["correct reservation"])),
    ("too_long", (r#"{"partition": "short", "timeLimit": "00:30:00"}"#, EITHER, &["timeLimit"])),
    ("too_many_nodes", (r#"{"nodes": 90}"#, EITHER, &["nodes"])),
];

/// Each fails fast, says what to change, and leaves nothing.
pub fn requests_that_can_never_be_met_fail_fast(open: Open, (config, codes, words): Never<'_>) {
    let site = open(Setup::default());
    let lease = site.lease("never");
    let reply = site.acquire(&lease, serde_json::from_str(config).unwrap());
    let code = reply.value["code"].as_str().unwrap_or("none");
    assert!(codes.contains(&code), "{}", reply.value);
    site.refusal(&reply, code, &lease, None).says(words);
    if code == "never-runs" {
        // The reason that Slurm gives for the wait.
        site.refusal(&reply, code, &lease, None).says(&["Partition"]);
    }
    assert!(reply.took < process::limit(15), "took {:?}", reply.took);
    site.nothing_left(&lease);
    assert_eq!(site.row(&lease), None);
}

/// The client is interrupted while the job waits: SIGKILL for our process group, and no release. The same acquire
/// later goes on with the same job.
pub fn a_caller_killed_while_its_job_waits(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("killed");
    let mut waiting = site.spawn(site.acquiring(&lease, json!({"partition": "closed"})));
    let job = site.job_in(&lease, "PENDING");
    waiting.kill();
    drop(waiting);
    let row = site.row(&lease).expect("it is listed");
    assert_eq!(row["cloudId"], format!("slurm/job/{job}"));
    site.let_start(&job);
    let again = site.acquired(&lease, json!({}));
    assert_eq!(job_of(&again), job);
    assert_eq!(site.all_jobs(&lease).len(), 1);
    site.release_cleanly(&lease);
}

/// The same at many other moments of an acquire: whenever the next call comes, one job runs past its permit, and all
/// of it can be released.
pub fn callers_killed_at_any_moment(open: Open) {
    let site = open(Setup::default());
    let moments: &[u64] = if site.is_fake() {
        &[5, 15, 30, 45, 60, 80, 100, 130, 180, 250, 330, 420]
    } else {
        &[8, 20, 35, 60, 120, 400, 550]
    };
    process::each(moments, |moment| {
        let lease = site.lease("any");
        let mut call = site.spawn(site.acquiring(&lease, json!({})));
        std::thread::sleep(Duration::from_millis(*moment));
        call.kill();
        drop(call);
        killed_acquire_is_continued(&site, &lease, &format!("killed after {moment} ms"));
    });
}

/// After an acquire was killed: the same call hands out one lease on the only job that lives.
#[track_caller]
pub fn killed_acquire_is_continued(site: &Site, lease: &Lease, what: &str) {
    let reply = site.acquire(lease, json!({}));
    assert!(reply.value.get("lease").is_some(), "{what}: {}\n{}", reply.value, reply.stderr);
    let job = job_of(reply.lease());
    let live = site.live_jobs(lease);
    assert_eq!(live, [format!("{job} RUNNING")], "{what}");
    assert_eq!(Login::of(reply.lease()).ssh(site, "echo $SLURM_JOB_ID").line(), job, "{what}");
    site.release_cleanly(lease);
}

/// A release that was killed at any moment is finished by the next call of whatever kind.
pub fn releases_killed_at_any_moment(open: Open) {
    let site = open(Setup::default());
    let moments: &[u64] = if site.is_fake() { &[3, 10, 20, 35, 60, 120] } else { &[10, 30, 80, 200] };
    process::each(moments, |moment| {
        let lease = site.lease("any");
        site.acquired(&lease, json!({}));
        let request = site.request("release", json!({"lease": lease.desired()}));
        let mut call = site.spawn(Call::request(&request));
        std::thread::sleep(Duration::from_millis(*moment));
        call.kill();
        drop(call);
        if moment % 20 == 0 {
            // list finishes what a release has begun, once its job has ended.
            site.list();
        }
        site.release_cleanly(&lease);
    });
}

/// A queue that is full is not a mistake of the configuration.
pub fn a_full_queue_may_be_tried_again(open: Open) {
    let site = open(Setup { user: "bob", ..Setup::default() });
    let [one, two] = [site.lease("one"), site.lease("two")];
    site.limit_submissions(true);
    site.acquired(&one, json!({}));
    let reply = site.acquire(&two, json!({}));
    let refusal = site.refusal(&reply, "limit-reached", &two, None);
    assert!(refusal.retry_safe);
    site.release_cleanly(&one);
    site.acquired(&two, json!({}));
    site.limit_submissions(false);
    let three = site.lease("three");
    let reply = site.acquire(&three, json!({"maxLeases": 1}));
    site.refusal(&reply, "limit-reached", &three, None).says(&["maxLeases"]);
    site.release_cleanly(&two);
    site.nothing_left(&three);
}

impl Site {
    /// One job in the queue at most, or any number.
    #[track_caller]
    fn limit_submissions(&self, on: bool) {
        match &self.place {
            Place::Fake(fake) => fake.control(&["conf", if on { "MaxSubmitJobs=1" } else { "MaxSubmitJobs=0" }]),
            Place::Campus(campus) => {
                let most = if on { 1 } else { -1 };
                let script = format!("sacctmgr -i modify user {} set maxsubmitjobs={most}", campus.user());
                process::run(campus.shell("ctl", "root", &[], &script), Vec::new(), Duration::from_secs(20))
            }
        }
        .ok();
    }
}
