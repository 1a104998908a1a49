//! Spares where only a fake can make the trouble.

use std::time::Duration;

use serde_json::json;

use crate::scenarios::process;
use crate::scenarios::session::Login;
use crate::scenarios::site::{Place, Setup, Site, job_of};

/// Spares cost nobody a lease: where a limit on jobs is reached, one of them is ended for it.
#[test]
fn a_spare_makes_room_for_a_lease() {
    let site = Site::with_spares(Site::fake, Setup::default(), 1);
    let Place::Fake(fake) = &site.place else { panic!("the fake") };
    let spares = site.filled(1);
    fake.control(&["conf", "MaxSubmitJobs=1"]).ok();
    let lease = site.lease("limit");
    let reply = site.acquire(&lease, json!({"preamble": "export OTHER=1"}));
    assert_ne!(job_of(reply.lease()), spares[0].job);
    assert!(reply.stderr.contains("a limit on jobs is reached, a spare is ended for it"), "{}", reply.stderr);
    site.nothing_left(&spares[0].seat);
    // Now there is nothing left to give.
    let other = site.lease("over");
    site.refusal(&site.acquire(&other, json!({})), "limit-reached", &other, None);
    site.release_cleanly(&lease);
}

/// An acquire succeeds, whatever becomes of the spare that it would leave; the failure is shown, and nothing is tried for a minute.
#[test]
fn a_refused_spare_is_no_failure_of_an_acquire() {
    let site = Site::with_spares(Site::fake, Setup::default(), 2);
    let Place::Fake(fake) = &site.place else { panic!("the fake") };
    fake.control(&["conf", "MaxSubmitJobs=1"]).ok();
    let lease = site.lease("alone");
    site.acquired(&lease, json!({}));
    let said = site.cli(&["pool"]).ok().to_owned();
    assert!(said.contains("no further one for") && said.contains("no spare was submitted"), "{said}");
    fake.control(&["conf", "MaxSubmitJobs=0"]).ok();
    site.ask("cleanup", json!({})).ok();
    assert_eq!(site.spares().len(), 0, "a pause is kept");
    site.release_cleanly(&lease);
}

/// A lease that could submit nothing takes a spare that becomes free: what was made for a job of its own goes with it too.
#[test]
fn a_spare_for_one_that_could_not_submit() {
    let site = Site::with_spares(Site::fake, Setup::default(), 1);
    let Place::Fake(fake) = &site.place else { panic!("the fake") };
    let first = site.lease("first");
    site.acquired(&first, json!({}));
    fake.control(&["set", "sched", "pause"]).ok();
    site.shell(&format!("scancel {}", site.spares()[0].job)).ok();
    let spare = process::until("a spare waits", Duration::from_secs(20), || {
        site.ask("cleanup", json!({})).ok();
        site.spares().into_iter().find(|spare| spare.status == "PENDING")
    });
    fake.control(&["set", "sbatch", "down"]).ok();
    let lease = site.lease("second");
    let waiting = site.spawn(site.acquiring(&lease, json!({})));
    process::until("it has tried to submit", Duration::from_secs(20), || {
        std::path::Path::new(&site.shared_dir(&lease)).exists().then_some(())
    });
    fake.control(&["clear", "sched"]).ok();
    let reply = site.reply(waiting);
    assert_eq!(job_of(reply.lease()), spare.job);
    fake.control(&["clear"]).ok();
    site.release_cleanly(&lease);
    site.release_cleanly(&first);
    site.drained(&[&spare.seat]);
}

/// A submission without an answer counts as a spare, and becomes one when its job is found.
#[test]
fn a_spare_whose_submission_is_not_known() {
    let site = Site::with_spares(Site::fake, Setup::default(), 1);
    let Place::Fake(fake) = &site.place else { panic!("the fake") };
    let lease = site.lease("first");
    site.acquired(&lease, json!({"spares": 0}));
    let config = site.request("acquire", json!({}))["config"].to_string();
    let file = site.write("config.json", &config);
    fake.control(&["set", "sbatch", "timeout", "done", "--times", "1"]).ok();
    let said = site.cli(&["--config", &file, "pool", "fill"]);
    assert!(said.code != 0 && said.stderr.contains("is not known"), "{}", said.stderr);
    process::until("it is found", Duration::from_secs(20), || {
        site.ask("cleanup", json!({})).ok();
        site.spares().first().filter(|spare| spare.status == "RUNNING").map(drop)
    });
    assert_eq!(site.spares().len(), 1);
    let second = site.lease("second");
    let spare = &site.spares()[0];
    let answer = site.acquired(&second, json!({}));
    assert_eq!(job_of(&answer), spare.job);
    assert_eq!(Login::of(&answer).ssh(&site, "echo $CBX_LEASE_ID").line(), second.id);
    site.release_cleanly(&second);
    site.release_cleanly(&lease);
    site.drained(&[&spare.seat]);
}

/// The state dir was copied: both copies have the spare on record, and only the original gives it away or ends it.
#[test]
fn spares_of_a_copied_state_dir() {
    let site = Site::with_spares(Site::fake, Setup::default(), 1);
    let spares = site.filled(1);
    let config = site.write("config.json", &site.request("acquire", json!({}))["config"].to_string());
    let copy = format!("{}/copy", site.root);
    let run = |words: &str| {
        site.client(&format!("{} --state-dir {copy} --config {config} --json {words}", site.program())).ok().to_owned()
    };
    site.client(&format!("cp -a {} {copy}", site.state_dir())).ok();
    let acquired: serde_json::Value = serde_json::from_str(&run("acquire --slug copied")).unwrap();
    assert_ne!(job_of(&acquired), spares[0].job, "a copy gives nothing of its original away");
    run("pool drain");
    run("cleanup");
    let state = site.shell(&format!("squeue -h -j {} -o %T", spares[0].job)).line().to_owned();
    assert_eq!(state, "RUNNING", "and ends nothing of it");
    run(&format!("release {}", acquired["leaseId"].as_str().unwrap()));
    let lease = site.lease("original");
    assert_eq!(job_of(&site.acquired(&lease, json!({}))), spares[0].job);
    site.release_cleanly(&lease);
}

/// The admins' limit holds all pools of a user together.
#[test]
fn an_admins_limit_holds_all_pools() {
    let site = Site::with_spares(Site::fake, Setup::default(), 3);
    if !site.admin_file("[limits]\nspares = 1\n", "644", "root") {
        return;
    }
    let [first, second] = [site.lease("first"), site.lease("second")];
    site.acquired(&first, json!({}));
    site.acquired(&second, json!({"preamble": "export OTHER=1"}));
    assert_eq!(site.spares().len(), 1, "{:?}", site.spares());
    site.release_cleanly(&first);
    site.release_cleanly(&second);
    assert_eq!(site.spares().len(), 1, "{:?}", site.spares());
    site.drained(&[]);
}
