//! Files that another version wrote: an older one's are used as they are; a newer one's are shown, and nothing is done to them.

use serde_json::{Value, json};

use super::process;
use super::session::Login;
use super::site::{Lease, Open, Setup, Site, job_of};

/// What another version would have made of a record.
type Change = fn(&mut Value);

/// What a newer version may have made of a record.
const NEWER: &[(&str, Change)] = &[("with more in it", newer), ("with words not known here", unreadable)];

fn first(record: &mut Value) {
    let fields = record.as_object_mut().unwrap();
    for name in ["submitted", "clusters", "denied", "ended", "releasing"] {
        fields.remove(name);
    }
    // 2: of a client outside, whose first version it is.
    assert!(fields["format"] == 1 || fields["format"] == 2, "{fields:?}");
}

fn newer(record: &mut Value) {
    record["format"] = json!(99);
    record["slots"] = json!([{"job": {"id": 1}, "state": "hibernating"}, null]);
    record["identity"]["tenant"] = json!("lab");
    record["attempt"]["shape"] = json!({"nodes": 2});
    record["endpoint"]["fallback"] = json!(["n2"]);
}

fn unreadable(record: &mut Value) {
    newer(record);
    record["phase"] = json!("hibernating");
    record["attempt"] = json!([record["attempt"]]);
}

impl Site {
    #[track_caller]
    fn record(&self, lease: &Lease) -> String {
        self.client(&format!("cat {}/record.json", self.record_dir(lease))).ok().to_owned()
    }

    #[track_caller]
    fn rewrite(&self, lease: &Lease, change: fn(&mut Value)) -> String {
        let mut record: Value = serde_json::from_str(&self.record(lease)).unwrap();
        change(&mut record);
        self.write(&format!("{}/record.json", self.record_dir(lease)), &record.to_string());
        self.record(lease)
    }

    /// Declares a tree to be a newer version's; such trees are said to be so.
    #[track_caller]
    fn make_newer(&self, tree: &str) {
        let format = format!("{}{tree}/format", self.state_dir());
        let script = format!("test \"$(cat {format})\" = 1 && echo 2 >{format}");
        if tree.is_empty() { self.client(&script) } else { self.shell(&script) }.ok();
    }
}

/// A live lease under a record of the first version: used and released like any other.
pub fn a_record_of_the_first_version(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("version");
    let handed = site.acquired(&lease, json!({}));
    site.rewrite(&lease, first);
    let row = site.row(&lease).expect("listed");
    assert_eq!((&row["slug"], &row["name"], &row["cloudId"]), (&handed["slug"], &handed["name"], &handed["cloudId"]));
    for reply in [site.resolve(&lease.id), site.acquire(&lease, json!({}))] {
        assert_eq!((&reply.lease()["ssh"], &reply.lease()["cloudId"]), (&handed["ssh"], &handed["cloudId"]));
    }
    site.ask("touch", json!({"lease": lease.desired(), "state": "ready"})).ok();
    site.release_cleanly(&lease);
    assert_eq!(site.row(&lease), None);
}

/// A lease whose record a newer version wrote is listed as `newer`. Nothing of it is judged, cancelled, released or removed,
/// whatever is asked and however its job stands; its neighbours are not touched by that.
pub fn records_of_a_newer_version(open: Open) {
    let site = open(Setup::default());
    let beside = site.lease("beside");
    site.acquired(&beside, json!({}));
    process::each(NEWER, |(what, change)| {
        let lease = site.lease("version");
        let job = job_of(&site.acquired(&lease, json!({})));
        let old = site.record(&lease);
        let record = site.rewrite(&lease, *change);
        site.is_left_alone(&lease, &record, what);
        assert_eq!(site.live_jobs(&lease), [format!("{job} RUNNING")], "{what}");
        // Nor when its job has ended.
        site.shell(&format!("scancel {job}")).ok();
        site.no_live_job(&lease);
        site.is_left_alone(&lease, &record, what);
        site.write(&format!("{}/record.json", site.record_dir(&lease)), &old);
        site.release_cleanly(&lease);
    });
    assert_eq!(site.row(&beside).expect("listed")["labels"]["state"], "ready");
    site.release_cleanly(&beside);
}

impl Site {
    /// Asks everything of a lease that a newer version keeps.
    #[track_caller]
    fn is_left_alone(&self, lease: &Lease, record: &str, what: &str) {
        let row = self.row(lease).unwrap_or_else(|| panic!("{what}: not listed"));
        assert_eq!((&row["slug"], &row["name"]), (&json!(lease.slug), &json!(lease.name)), "{what}");
        assert_eq!((&row["status"], &row["labels"]["state"]), (&json!("NEWER"), &json!("newer")), "{what}");
        let touch = self.ask("touch", json!({"lease": lease.desired(), "state": "ready"}));
        for reply in [self.resolve(&lease.id), self.acquire(lease, json!({})), self.release(lease), touch] {
            reply.refused("storage").says(&[&lease.id, "newer", "use that version"]);
        }
        self.ask("cleanup", json!({})).ok();
        assert_eq!(self.record(lease), record, "{what}: written");
        self.shell(&format!("test -e {}/permit", self.shared_dir(lease))).ok();
    }
}

/// A state dir of a newer version: no lease is made in it, and those that are there are that version's.
pub fn a_newer_tree(open: Open) {
    let site = open(Setup::default());
    let [lease, other] = [site.lease("tree"), site.lease("tree")];
    let job = job_of(&site.acquired(&lease, json!({})));
    site.make_newer("");
    let record = site.record(&lease);
    site.acquire(&other, json!({})).refused("storage").says(&["newer", &site.state_dir(), "use that version"]);
    site.nothing_left(&other);
    site.is_left_alone(&lease, &record, "a newer tree");
    assert_eq!(site.live_jobs(&lease), [format!("{job} RUNNING")]);
    let doctor = site.ask("doctor", json!({}));
    doctor.refused("doctor-red").says(&["state dir", "newer"]);
    site.client(&format!("echo 1 >{}/format", site.state_dir())).ok();
    site.release_cleanly(&lease);
}

/// The same of the shared dir, which may belong to several state dirs.
pub fn a_newer_shared_tree(open: Open) {
    let site = open(Setup::default());
    let [lease, other] = [site.lease("shared"), site.lease("shared")];
    let handed = site.acquired(&lease, json!({}));
    site.make_newer("/shared");
    site.acquire(&other, json!({})).refused("storage").says(&["newer", &format!("{}/shared", site.state_dir())]);
    site.nothing_left(&other);
    assert_eq!(site.resolve(&lease.id).lease()["ssh"], handed["ssh"]);
    site.release_cleanly(&lease);
}

/// A runner of a newer contract, with more in its files than is known here: it is believed what the first contract
/// has, and promised nothing, so doctor warns.
pub fn a_runner_of_a_newer_contract(open: Open) {
    let site = open(Setup::default());
    let runner = include_str!("../../runner/unprivileged-sshd.sh")
        .replace("# slurm-sandbox runner contract: 1\n", "# slurm-sandbox runner contract: 2\n")
        .replace(r#"{\"format\":1,"#, r#"{\"format\":2,\"later\":{\"proxyCommand\":[\"x\",null]},"#);
    assert_eq!(runner.matches(r#"\"later\":"#).count(), 2, "endpoint and ending");
    let config = json!({"runnerScript": site.write("newer.sh", &runner)});
    let doctor = site.ask("doctor", json!({"config": config}));
    assert!(doctor.ok()["message"].as_str().unwrap().contains("runner contract"), "{}", doctor.value);

    let lease = site.lease("contract");
    let handed = site.acquired(&lease, config);
    let job = job_of(&handed);
    assert_eq!(Login::of(&handed).ssh(&site, "echo $SLURM_JOB_ID").line(), job);
    assert_eq!(site.resolve(&lease.id).lease()["ssh"], handed["ssh"]);
    site.ask("touch", json!({"lease": lease.desired(), "state": "ready"})).ok();
    site.shell(&format!("rm {}/permit", site.shared_dir(&lease))).ok();
    site.ends_by_itself(&lease, &job, "permit-removed");
}
