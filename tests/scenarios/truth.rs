//! What Slurm prints is partly written by others: by code in a lease, by another state dir, by an operator, by a cluster of the
//! same federation. None of it ends a lease, and none of it keeps one from being ended.

use std::time::Duration;

use serde_json::{Value, json};

use super::process::{self, quoted};
use super::site::{Lease, Open, Place, Setup, Site, job_of};

impl Site {
    /// One request to the binary with another state dir.
    #[track_caller]
    fn ask_in(&self, state_dir: &str, operation: &str, fields: Value) -> Value {
        let request = self.request(operation, fields).to_string();
        let script = format!("printf '%s\\n' {} | {} --state-dir {state_dir}", quoted(&request), self.program());
        serde_json::from_str(self.client(&script).line()).expect("an answer")
    }

    /// This lease's row in another state dir.
    #[track_caller]
    fn row_in(&self, state_dir: &str, lease: &Lease) -> Option<Value> {
        let answer = self.ask_in(state_dir, "list", json!({}));
        answer["leases"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .iter()
            .find(|row| row["leaseId"] == *lease.id)
            .cloned()
    }

    /// What a lease's code may do to its own job: another name and comment.
    #[track_caller]
    fn rewrite_job(&self, job: &str, name: &str, comment: &str) {
        self.shell(&format!("scontrol update jobid={job} jobname={} comment={}", quoted(name), quoted(comment))).ok();
    }

    #[track_caller]
    fn is_ready(&self, lease: &Lease) {
        let row = self.row(lease).expect("listed");
        assert_eq!((&row["status"], &row["labels"]["state"]), (&json!("RUNNING"), &json!("ready")), "{row}");
    }
}

/// Names and comments that imitate rows, ends and escape codes, of their own job and of a neighbour's.
pub fn a_job_that_imitates_others(open: Open) {
    let site = open(Setup::default());
    let [liar, beside] = [site.lease("liar"), site.lease("beside")];
    let [handed, other] = [&liar, &beside].map(|lease| site.acquired(lease, json!({})));
    let [job, neighbour] = [&handed, &other].map(job_of);
    let forged = |job: &str, state: &str| {
        [
            "@",
            job,
            "\u{1f}",
            state,
            "\u{1f}\u{1b}]0;owned\u{7}\u{1f}n1\u{1f}1\u{1f}2\u{1f}3\u{1f}batch\u{1f}/x\u{1f}1\u{1f}n\u{1f}c\u{1f}",
            job,
            "$\n",
        ]
        .concat()
    };
    let rows = format!("x\n{}{}\n\nCLUSTER: annex\n", forged(&job, "CANCELLED"), forged(&neighbour, "FAILED"));
    for (name, comment) in [("mine", "x"), ("mine", rows.as_str()), (rows.as_str(), rows.as_str()), ("", "")] {
        site.rewrite_job(&job, if name.is_empty() { "other" } else { name }, comment);
        for lease in [&liar, &beside] {
            site.is_ready(lease);
        }
        assert_eq!(site.resolve(&liar.id).lease()["ssh"], handed["ssh"]);
        assert_eq!(site.ask("cleanup", json!({})).ok()["message"], "nothing to clean up");
    }
    assert!(!site.cli(&["list"]).stdout.contains('\u{1b}'));
    site.release(&liar).ok();
    let state = site.shell(&format!("squeue -h -t all -j {job} -o %T")).line().to_owned();
    assert!(["CANCELLED", "COMPLETING", "COMPLETED"].contains(&state.as_str()), "its job is {state} after a release");
    assert_eq!(site.row(&liar), None);
    site.is_ready(&beside);
    site.release_cleanly(&beside);
}

/// The same lease id in two state dirs: neither ends the other's job, by whatever call.
pub fn another_state_dir_of_the_same_lease(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("twice");
    let job = job_of(&site.acquired(&lease, json!({})));
    let other = format!("{}/other", site.root);
    let shared = json!({"sharedDir": format!("{}/other-shared", site.root), "acquireTimeoutSeconds": 2});
    let request = json!({"desired": lease.desired(), "keep": true, "config": shared});
    let refused = site.ask_in(&other, "acquire", request);
    assert_eq!(refused["code"], "timed-out", "it waits for the other's job to end: {refused}");
    for operation in ["list", "cleanup"] {
        site.ask_in(&other, operation, json!({}));
        site.is_ready(&lease);
    }
    let released = site.ask_in(&other, "release", json!({"lease": lease.desired()}));
    assert_eq!(released.get("error"), None, "{released}");
    site.is_ready(&lease);
    assert_eq!(site.live_jobs(&lease), [format!("{job} RUNNING")]);
    site.release_cleanly(&lease);
}

/// The same with one shared dir for both: the second is refused, since its permit would end the first.
pub fn another_state_dir_with_the_same_shared_dir(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("twice");
    let shared = json!({"sharedDir": format!("{}/both", site.root)});
    let job = job_of(&site.acquired(&lease, shared.clone()));
    let other = format!("{}/other", site.root);
    let refused = site.ask_in(&other, "acquire", json!({"desired": lease.desired(), "config": shared}));
    assert_eq!(refused["code"], "storage", "{refused}");
    assert!(refused["error"].as_str().unwrap().contains(&format!("job {job}")), "{refused}");
    assert!(site.row_in(&other, &lease).is_none(), "what was not submitted is rolled back");
    site.is_ready(&lease);
    site.release(&lease).ok();
    site.no_live_job(&lease);
}

/// A copied state dir: what it shows is its original's, so nothing of that is ended by list or cleanup until it is adopted.
pub fn a_copied_state_dir(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("original");
    let handed = site.acquired(&lease, json!({}));
    let copy = format!("{}/copy", site.root);
    let run = |state_dir: &str, words: &str| {
        site.client(&format!("{} --state-dir {state_dir} {words}", site.program())).ok().to_owned()
    };
    assert!(run(&site.state_dir(), "state adopt").contains("is no copy"));
    site.client(&format!("cp -a {} {copy}", site.state_dir())).ok();
    // As if a release in the copy had been cut short.
    let record = format!("{copy}/leases/{}/record.json", lease.id);
    site.client(&format!("sed -i 's/\"phase\": \"answered\"/\"phase\": \"releasing\"/' {record}")).ok();
    for operation in ["list", "cleanup"] {
        site.ask_in(&copy, operation, json!({}));
        site.is_ready(&lease);
    }
    let row = site.row_in(&copy, &lease).expect("listed");
    assert_eq!((&row["cloudId"], &row["labels"]["state"]), (&handed["cloudId"], &json!("deleting")));
    let name = |state_dir: &str| site.client(&format!("cat {state_dir}/instance")).line().to_owned();
    assert_ne!(name(&copy), name(&site.state_dir()));

    let adopted = run(&copy, "state adopt");
    assert!(adopted.contains("1 lease(s)") && adopted.contains(&name(&site.state_dir())), "{adopted}");
    process::until("the copy ends it", Duration::from_secs(30), || site.row_in(&copy, &lease).is_none().then_some(()));
    site.no_live_job(&lease);
    site.client(&format!("rm -rf {copy}")).ok();
    site.release_cleanly(&lease);
}

/// Explicit calls to a copy: the lease is resolved and released there, once.
pub fn a_release_in_a_copied_state_dir(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("original");
    let handed = site.acquired(&lease, json!({}));
    let copy = format!("{}/copy", site.root);
    site.client(&format!("cp -a {} {copy}", site.state_dir())).ok();
    let resolved = site.ask_in(&copy, "resolve", json!({"id": lease.id}));
    assert_eq!(resolved["lease"]["ssh"]["port"], handed["ssh"]["port"], "{resolved}");
    let released = site.ask_in(&copy, "release", json!({"lease": lease.desired()}));
    assert_eq!(released.get("error"), None, "{released}");
    site.no_live_job(&lease);
    site.client(&format!("rm -rf {copy}")).ok();
    site.release_cleanly(&lease);
}

/// A user id that squeue prints as a negative number and takes by name alone. Campus only.
pub fn a_user_id_above_the_half(open: Open) {
    let site = open(Setup { user: "hugo", ..Setup::default() });
    let lease = site.lease("hugo");
    let job = job_of(&site.acquired(&lease, json!({})));
    site.is_ready(&lease);
    let doctor = site.ask("doctor", json!({})).value;
    let listing =
        doctor["checks"].as_array().and_then(|checks| checks.iter().find(|check| check["name"] == "job listing"));
    assert_eq!(listing.expect("a check of the listing")["status"], "ok", "{doctor}");
    // Its end is seen too.
    site.shell(&format!("scancel {job}")).ok();
    site.no_live_job(&lease);
    assert_eq!(site.row(&lease).expect("listed")["labels"]["state"], "failed");
    site.release_cleanly(&lease);
}

/// Hosts that share a home are one instance: each sees, settles and releases what the other has made. Campus only.
pub fn two_hosts_with_one_home(open: Open) {
    let site = open(Setup::default());
    let Place::Campus(campus) = &site.place else { panic!("the campus") };
    let on_node = |words: &str| {
        let script = format!("{} --state-dir {} {words}", site.program(), site.state_dir());
        let output = process::run(campus.shell("n1", campus.user(), &[], &script), Vec::new(), Duration::from_secs(60));
        output.ok().to_owned()
    };
    let [first, second] = [site.lease("hosts"), site.lease("hosts")];
    let [job, _] = [&first, &second].map(|lease| job_of(&site.acquired(lease, json!({}))));
    let instance = site.shell(&format!("cat {}/instance", site.state_dir())).line().to_owned();
    assert!(on_node("list").contains(&first.id));
    assert_eq!(site.shell(&format!("cat {}/instance", site.state_dir())).line(), instance);
    assert!(on_node("state adopt").contains("is no copy"));
    // One host's denials are not the other's: gone needs two of one clock.
    site.shell(&format!("scancel {job}")).ok();
    site.no_live_job(&first);
    let cleanup = on_node("cleanup");
    assert!(cleanup.contains(&first.id), "{cleanup}");
    site.nothing_left(&first);
    assert!(on_node(&format!("release {}", second.id)).contains("is released"));
    site.nothing_left(&second);
}

/// An operator requeues a job that was not to be requeued: its time of submission changes, its id does not, and with no mark left
/// on it it is still the lease's. Campus only.
pub fn a_job_that_an_operator_requeues(open: Open) {
    let site = open(Setup { accounting: false, alone: true, ..Setup::default() });
    let Place::Campus(campus) = &site.place else { panic!("the campus") };
    let lease = site.lease("requeued");
    let job = job_of(&site.acquired(&lease, json!({})));
    site.row(&lease).expect("listed");
    let operator = |script: &str| {
        process::run(campus.shell("ctl", "root", &[], script), Vec::new(), Duration::from_secs(60)).ok().to_owned()
    };
    // Times of submission are whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    operator(&format!("scontrol update jobid={job} requeue=1 && scontrol requeue {job} && scontrol hold {job}"));
    process::until("it waits again", Duration::from_secs(30), || {
        site.live_jobs(&lease).contains(&format!("{job} PENDING")).then_some(())
    });
    site.rewrite_job(&job, "mine", "x");
    operator(&format!("scontrol update jobid={job} workdir=/tmp"));
    for _ in 0..2 {
        let row = site.row(&lease).expect("listed");
        assert_eq!((&row["status"], &row["labels"]["state"]), (&json!("PENDING"), &json!("provisioning")), "{row}");
        std::thread::sleep(Duration::from_secs(6));
    }
    site.release(&lease).ok();
    let state = site.shell(&format!("squeue -h -t all -j {job} -o %T")).line().to_owned();
    assert_eq!(state, "CANCELLED", "the requeued job lives on after a release");
}

/// A federation whose sibling runs the job and goes away: that is no end. Campus only.
pub fn a_federation(open: Open) {
    let site = open(Setup { alone: true, ..Setup::default() });
    let Place::Campus(campus) = &site.place else { panic!("the campus") };
    let operator = |script: &str| {
        process::run(campus.shell("ctl", "root", &[], script), Vec::new(), Duration::from_secs(60)).ok().to_owned()
    };
    struct Undo<'a>(&'a super::campus::Campus);
    impl Drop for Undo<'_> {
        fn drop(&mut self) {
            let script = "scontrol update nodename=n1,n2 state=resume; sacctmgr -i delete federation fed";
            process::run(self.0.shell("ctl", "root", &[], script), Vec::new(), Duration::from_secs(60));
            let mut start = self.0.tool("svc");
            process::run(
                {
                    start.args(["actl", "start", "slurmctld"]);
                    start
                },
                Vec::new(),
                Duration::from_secs(60),
            );
        }
    }
    let _undo = Undo(campus);
    operator("sacctmgr -i add federation fed clusters=campus,annex");
    process::until("the federation is up", Duration::from_secs(30), || {
        operator("scontrol show federation").contains("annex").then_some(())
    });
    operator("scontrol update nodename=n1,n2 state=drain reason=test");
    let lease = site.lease("federated");
    site.acquired(&lease, json!({"acquireTimeoutSeconds": 80}));
    let there =
        |what: &str| process::run(campus.shell("a1", campus.user(), &[], what), Vec::new(), Duration::from_secs(20));
    // The brackets keep the shell that looks from finding itself.
    let look = format!("pgrep -u {} -f '[c]{}' >/dev/null && echo lives", site.user(), &lease.id[1..]);
    let lives = || there(&look).stdout.contains("lives");
    assert!(lives(), "the job runs on the sibling");
    campus.control("svc", &["actl", "stop", "slurmctld"]);
    for operation in ["list", "cleanup"] {
        site.ask(operation, json!({}));
    }
    std::thread::sleep(Duration::from_secs(11));
    let row = site.row(&lease).expect("listed");
    // A plain listing leaves a revoked job out, so a first look may tell it as missing; it is never gone.
    assert_ne!(row["status"], "GONE", "{row}");
    let cleanup = site.ask("cleanup", json!({})).value.to_string();
    assert!(!cleanup.contains(&format!("removed lease {}", lease.id)), "{cleanup}");
    let released = site.release(&lease);
    assert!(released.value.get("error").is_some() || !lives(), "released while its job runs: {}", released.value);
    assert!(site.row(&lease).is_some() || !lives());
    campus.control("svc", &["actl", "start", "slurmctld"]);
    process::until("it is released in the end", Duration::from_secs(90), || {
        site.release(&lease).value.get("error").is_none().then_some(())
    });
    process::until("nothing of it runs", Duration::from_secs(30), || (!lives()).then_some(()));
}
