//! An acquire and its caller: what becomes of a lease that nobody waits for any more, or that another call waits for too.

use std::time::Duration;

use serde_json::json;

use crate::scenarios::process;
use crate::scenarios::site::{Lease, Place, Setup, Site, job_of};
use crate::scenarios::wire::Reply;

fn site() -> Site {
    Site::fake(Setup::default())
}

#[track_caller]
fn control(site: &Site, words: &[&str]) {
    let Place::Fake(fake) = &site.place else { panic!("these need the fake") };
    fake.control(words).ok();
}

/// Waits until nothing of a lease is left that its own acquire takes back.
#[track_caller]
fn goes_by_itself(site: &Site, lease: &Lease) {
    process::until("the lease to be taken back", Duration::from_secs(40), || {
        let records = site.shell(&format!("test -e {}", site.record_dir(lease)));
        (records.code != 0 && site.live_jobs(lease).is_empty()).then_some(())
    });
    site.nothing_left(lease);
}

/// The caller dies alone, or closes its end, while the job is queued: the acquire takes the lease back by itself.
#[test]
fn a_lease_goes_with_its_caller() {
    let parent = ("(sleep 2; kill -9 $$) >/dev/null 2>&1 & cat | ", ">/dev/null; exit");
    let reader = ("cat | ", "| sleep 2; exit");
    process::each(&[parent, reader], |&(before, after)| {
        let site = site();
        let lease = site.lease("orphan");
        control(&site, &["set", "sched", "pause"]);
        let request = site.request("acquire", json!({"desired": lease.desired()}));
        let script = format!("{before} {} --state-dir {} {after}", site.program(), site.state_dir());
        site.shell_with(&script, format!("{request}\n").into_bytes(), Duration::from_secs(60));
        goes_by_itself(&site, &lease);
    });
}

/// With `keep` a lease outlives its caller.
#[test]
fn a_kept_lease_outlives_its_caller() {
    let site = site();
    let lease = site.lease("kept");
    let request = site.request("acquire", json!({"desired": lease.desired(), "keep": true}));
    let script = format!("{{ cat; }} | {} --state-dir {} | true", site.program(), site.state_dir());
    site.shell_with(&script, format!("{request}\n").into_bytes(), Duration::from_secs(60));
    let handed = process::until("the lease", Duration::from_secs(20), || {
        site.row(&lease).filter(|row| row["labels"]["state"] == "ready")
    });
    assert_eq!(site.live_jobs(&lease), [format!("{} RUNNING", job_of(&handed))]);
    site.release_cleanly(&lease);
}

/// An answer that cannot be written hands nothing out.
#[test]
fn an_answer_that_is_not_delivered_leaves_no_lease() {
    process::each(&[">/dev/full", ">&-"], |after| {
        let site = site();
        let lease = site.lease("undelivered");
        let output = site.run(site.acquiring(&lease, json!({})).after(after));
        assert_eq!(output.code, 1, "{after}: {}", output.stderr);
        goes_by_itself(&site, &lease);
        // A list has nothing to take back.
        let list = crate::scenarios::site::Call::request(&site.request("list", json!({}))).after(after);
        let output = site.run(list);
        assert!(output.code == 1 && output.stderr.contains("standard output"), "{after}: {}", output.stderr);
    });
}

/// An acquire killed with SIGKILL: list ends its lease half a minute after it saw that, unless it is acquired again.
#[test]
fn a_lease_whose_acquire_was_killed_is_ended_by_list() {
    let site = site();
    let [dead, again] = [site.lease("dead"), site.lease("again")];
    control(&site, &["set", "sched", "pause"]);
    for lease in [&dead, &again] {
        let mut acquire = site.spawn(site.acquiring(lease, json!({})));
        site.job_in(lease, "PENDING");
        acquire.kill();
        acquire.end(Duration::from_secs(10));
        assert_eq!(site.row(lease).expect("listed")["labels"]["state"], "provisioning");
    }
    // As if the deaths had been seen long ago.
    let backdate = |lease: &Lease| {
        let note = format!("{}/acquirer-died", site.record_dir(lease));
        site.shell(&format!("sed -i 's/\"at\":[0-9]*/\"at\":0/' {note} && grep -q '\"at\":0' {note}")).ok();
    };
    backdate(&again);
    let waiting = site.spawn(site.acquiring(&again, json!({})));
    process::until("the death to be forgotten", Duration::from_secs(20), || {
        (site.shell(&format!("test -e {}/acquirer-died", site.record_dir(&again))).code != 0).then_some(())
    });
    backdate(&dead);
    process::until("the end of the lease", Duration::from_secs(20), || site.row(&dead).is_none().then_some(()));
    site.nothing_left(&dead);
    site.job_in(&again, "PENDING");
    control(&site, &["clear", "sched"]);
    site.reply(waiting).lease();
    site.release_cleanly(&again);
}

/// Of two acquires of one lease the shorter leaves the job to the longer.
#[test]
fn a_short_acquire_leaves_the_job_to_a_longer_one() {
    let site = site();
    let lease = site.lease("shared");
    control(&site, &["set", "sched", "pause"]);
    let waiting = site.spawn(site.acquiring(&lease, json!({})));
    let job = site.job_in(&lease, "PENDING");
    let short = site.acquire(&lease, json!({"acquireTimeoutSeconds": 2}));
    site.refusal(&short, "timed-out", &lease, Some(&job)).says(&["another acquire"]);
    assert_eq!(site.live_jobs(&lease), [format!("{job} PENDING")]);
    control(&site, &["clear", "sched"]);
    assert_eq!(job_of(site.reply(waiting).lease()), job);
    site.release_cleanly(&lease);
}

/// `maxLeases` with many that begin together: never more, and never none.
#[test]
fn as_many_win_as_may() {
    let site = site();
    let leases: Vec<Lease> = (0..5).map(|number| site.lease(&format!("race{number}"))).collect();
    let acquires: Vec<_> =
        leases.iter().map(|lease| site.spawn(site.acquiring(lease, json!({"maxLeases": 2})))).collect();
    let replies: Vec<Reply> = acquires.into_iter().map(|acquire| site.reply(acquire)).collect();
    let won = replies.iter().filter(|reply| reply.value.get("lease").is_some()).count();
    assert_eq!(won, 2);
    for reply in replies.iter().filter(|reply| reply.value.get("lease").is_none()) {
        reply.refused("limit-reached").says(&["maxLeases"]);
    }
    leases.iter().for_each(|lease| site.release_cleanly(lease));
}

/// The first words of an acquire that has to wait tell how to end it.
#[test]
fn an_acquire_that_waits_says_how_to_end_it() {
    let site = site();
    let lease = site.lease("told");
    let reply = site.acquire(&lease, json!({"partition": "closed", "acquireTimeoutSeconds": 5}));
    reply.refused("timed-out");
    let mut lines = reply.stderr.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    assert!(first.contains(&lease.slug) && first.ends_with(&format!("crabbox stop {}", lease.slug)), "{first}");
    assert!(lines.all(|line| !line.contains("to end it")), "{}", reply.stderr);
    site.nothing_left(&lease);
}
