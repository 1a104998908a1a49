//! A controller that stands still, dies, or does not answer: unknown moves nothing, and later it is found what became
//! of each request.

use std::time::Duration;

use serde_json::json;

use super::process;
use super::session::Login;
use super::site::{Call, Open, Place, Setup, Site, job_of};

impl Site {
    /// The controller stops in the middle of everything; what it is asked now it may do when it goes on.
    #[track_caller]
    pub fn freeze(&self) {
        match &self.place {
            Place::Fake(fake) => fake.control(&["set", "all", "frozen"]).ok().len(),
            Place::Campus(campus) => campus.control("svc", &["ctl", "freeze", "slurmctld"]).ok().len(),
        };
    }

    #[track_caller]
    pub fn thaw(&self) {
        match &self.place {
            Place::Fake(fake) => fake.control(&["clear", "all"]).ok().len(),
            Place::Campus(campus) => campus.control("svc", &["ctl", "thaw", "slurmctld"]).ok().len(),
        };
    }

    /// The controller is dead: connections are refused.
    #[track_caller]
    pub fn stop_controller(&self) {
        match &self.place {
            Place::Fake(fake) => fake.control(&["set", "all", "down"]).ok().len(),
            Place::Campus(campus) => campus.control("svc", &["ctl", "stop", "slurmctld"]).ok().len(),
        };
    }

    #[track_caller]
    pub fn start_controller(&self) {
        match &self.place {
            Place::Fake(fake) => fake.control(&["clear", "all"]).ok().len(),
            Place::Campus(campus) => campus.control("svc", &["ctl", "start", "slurmctld"]).ok().len(),
        };
        process::until("the controller answers", Duration::from_secs(30), || {
            (self.shell("squeue -h").code == 0).then_some(())
        });
    }
}

/// Heals the controller also when a scenario fails in the middle.
struct Frozen<'a>(&'a Site);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Place::Campus(campus) = &self.0.place
        {
            // Without a panic of its own, which would hide the first.
            let _ = campus.tool("svc").args(["ctl", "thaw", "slurmctld"]).output();
            let _ = campus.tool("svc").args(["ctl", "start", "slurmctld"]).output();
        }
    }
}

const ALONE: Setup = Setup { accounting: false, user: "alice", alone: true };

/// Frozen while sbatch asks: its answer never comes, its job may appear after the thaw. One job, adopted.
pub fn a_controller_frozen_during_sbatch(open: Open) {
    let site = open(ALONE);
    let heal = Frozen(&site);
    // sbatch gives up on a frozen controller after ten seconds; the fake at once.
    let pause = Duration::from_secs(if site.is_fake() { 1 } else { 12 });
    let [lives, killed] = [site.lease("frozen"), site.lease("dropped")];
    site.freeze();
    let waiting = site.spawn(site.acquiring(&lives, json!({"acquireTimeoutSeconds": 80})));
    let mut dropped = site.spawn(site.acquiring(&killed, json!({})));
    std::thread::sleep(pause);
    // The client is interrupted in the middle of it.
    dropped.kill();
    drop(dropped);
    site.thaw();
    let handed = site.reply(waiting).lease().clone();
    let job = job_of(&handed);
    assert_eq!(site.live_jobs(&lives), [format!("{job} RUNNING")]);
    assert_eq!(Login::of(&handed).ssh(&site, "echo $SLURM_JOB_ID").line(), job);
    super::waiting::killed_acquire_is_continued(&site, &killed, "killed while the controller was frozen");
    site.release_cleanly(&lives);
    drop(heal);
}

/// Frozen while leases are read: rows stay, and nothing is said to be gone.
pub fn a_controller_frozen_during_reads(open: Open) {
    let site = open(ALONE);
    let heal = Frozen(&site);
    let lease = site.lease("frozen");
    let handed = site.acquired(&lease, json!({}));
    site.freeze();
    let ask = |operation: &str, fields| site.spawn(Call::request(&site.request(operation, fields)));
    let list = ask("list", json!({}));
    let resolve = ask("resolve", json!({"id": lease.id}));
    let touch = site.ask("touch", json!({"lease": lease.desired(), "state": "running"}));
    touch.ok();
    assert!(touch.took < process::limit(2), "a touch never waits for Slurm: {:?}", touch.took);
    let only = site.ask("resolve", json!({"id": lease.id, "releaseOnly": true}));
    assert!(only.lease()["cloudId"] == handed["cloudId"] && only.took < process::limit(2));
    let doctor = site.ask("doctor", json!({}));
    assert!(doctor.took < process::limit(9), "doctor took {:?}", doctor.took);
    let listed = site.reply(list);
    assert_eq!(listed.rows()[0]["cloudId"], handed["cloudId"]);
    assert_ne!(listed.rows()[0]["labels"]["state"], "missing");
    // Its own login proves that the lease works; without one the answer is an error, but never "gone".
    let resolved = site.reply(resolve);
    match resolved.value.get("lease") {
        Some(lease) => assert_eq!(lease["ssh"], handed["ssh"]),
        None => assert_ne!(resolved.error().code, "job-ended"),
    }
    site.thaw();
    site.release_cleanly(&lease);
    drop(heal);
}

/// Frozen while a lease is released: release tells that it is not sure, and the lease stays listed until its job is gone.
pub fn a_controller_frozen_during_a_release(open: Open) {
    let site = open(ALONE);
    let heal = Frozen(&site);
    let lease = site.lease("frozen");
    let job = job_of(&site.acquired(&lease, json!({})));
    site.freeze();
    let release = site.release(&lease);
    assert!(release.took < process::limit(25), "the client kills a release after 30 s: {:?}", release.took);
    site.refusal(&release, "releasing", &lease, Some(&job));
    let listed = site.spawn(Call::request(&site.request("list", json!({}))));
    std::thread::sleep(Duration::from_millis(300));
    site.thaw();
    assert_eq!(site.reply(listed).rows().len(), 1, "still listed");
    site.settled_by_list(&lease, Duration::from_secs(30));
    site.nothing_left(&lease);
    drop(heal);
}

/// munged of the login host is away for longer than the controller waits for what an sbatch has to say. Some versions of sbatch
/// fail then with words that do not tell what became of the job: one job, of which the call knows.
pub fn munge_that_is_away(open: Open) {
    let site = open(ALONE);
    let lease = site.lease("late");
    let acquire = |timeout| site.spawn(site.acquiring(&lease, json!({"acquireTimeoutSeconds": timeout})));
    let waiting = match &site.place {
        Place::Fake(fake) => {
            fake.control(&["set", "sbatch", "munge-late", "--times", "1"]).ok();
            acquire(80)
        }
        Place::Campus(campus) => {
            campus.control("svc", &["login", "kill", "munged"]);
            let waiting = acquire(80);
            // The controller hangs up after ten seconds.
            std::thread::sleep(Duration::from_secs(15));
            campus.control("svc", &["login", "start", "munged"]);
            waiting
        }
    };
    let handed = site.reply(waiting).lease().clone();
    assert_eq!(site.all_jobs(&lease), [format!("{} RUNNING", job_of(&handed))]);
    site.release_cleanly(&lease);
}

/// Dead: nothing is sent, so nothing is left; what exists stays as it is.
pub fn a_controller_that_is_dead(open: Open) {
    let site = open(ALONE);
    let lease = site.lease("alive");
    let handed = site.acquired(&lease, json!({}));
    let heal = Frozen(&site);
    site.stop_controller();
    let late = site.lease("late");
    let acquire = site.spawn(site.acquiring(&late, json!({"acquireTimeoutSeconds": 3})));
    let row = site.row(&lease).expect("what cannot be asked for stays listed");
    assert_eq!((&row["cloudId"], &row["labels"]["state"]), (&handed["cloudId"], &json!("unknown")));
    let reply = site.reply(acquire);
    site.refusal(&reply, "slurm-unavailable", &late, None);
    let release = site.release(&lease);
    assert!(release.value.get("error").is_some() && release.took < process::limit(25), "{}", release.value);
    site.start_controller();
    assert_eq!(site.all_jobs(&late), Vec::<String>::new());
    assert_eq!(site.row(&late), None);
    site.settled_by_list(&lease, Duration::from_secs(30));
    site.nothing_left(&lease);
    site.nothing_left(&late);
    drop(heal);
}
