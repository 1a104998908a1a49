//! Files that another version wrote: an older one's are used as they are, a newer one's are read, never written, and its
//! leases stay listed and releasable.

use serde_json::{Value, json};

use super::process;
use super::session::Login;
use super::site::{Lease, Open, Setup, Site, job_of};

/// What another version would have made of a record.
type Change = fn(&mut Value);

/// What happens to a record, and what a resolve then has to say; empty: the lease.
const VERSIONS: &[(&str, Change, &[&str])] = &[
    ("with only what the first version must have", first, &[]),
    ("newer, with more in it", newer, &[]),
    ("newer, with words not known here", unreadable, &["newer", "format 99"]),
];

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

/// A live lease under a record of another version: listed as who it is, used where that needs no word in the record,
/// released with all that is of it. A list meets its end without writing it down.
pub fn records_of_another_version(open: Open) {
    let site = open(Setup::default());
    let others = site.lease("beside");
    site.acquired(&others, json!({}));
    process::each(VERSIONS, |(what, change, resolved)| {
        let lease = site.lease("version");
        let handed = site.acquired(&lease, json!({}));
        let job = job_of(&handed);
        let record = site.rewrite(&lease, *change);
        let unchanged =
            || assert!(!record.contains("\"format\":99") || site.record(&lease) == record, "{what}: written");

        let row = site.row(&lease).unwrap_or_else(|| panic!("{what}: not listed"));
        assert_eq!((&row["slug"], &row["name"]), (&json!(lease.slug), &json!(lease.name)), "{what}");
        for reply in [site.resolve(&lease.id), site.acquire(&lease, json!({}))] {
            if resolved.is_empty() {
                assert_eq!(reply.lease()["ssh"], handed["ssh"], "{what}");
                assert_eq!(reply.lease()["cloudId"], handed["cloudId"], "{what}");
                assert_eq!(row["cloudId"], handed["cloudId"], "{what}");
            } else {
                reply.refused("storage").says(&[&lease.id]).says(resolved);
            }
        }
        let touch = site.ask("touch", json!({"lease": lease.desired(), "state": "ready"}));
        assert_eq!(touch.value.get("error").is_none(), resolved.is_empty(), "{what}: {}", touch.value);
        site.ask("cleanup", json!({})).ok();
        unchanged();
        assert_eq!(site.live_jobs(&lease), [format!("{job} RUNNING")], "{what}: nothing but release ends the job");

        site.release_cleanly(&lease);
        assert_eq!(site.row(&lease), None, "{what}");
    });

    // Its job ends: nobody else's list suffers.
    let lease = site.lease("version");
    let job = job_of(&site.acquired(&lease, json!({})));
    let record = site.rewrite(&lease, newer);
    site.shell(&format!("scancel {job}")).ok();
    site.no_live_job(&lease);
    let row = site.row(&lease).expect("listed");
    assert_eq!(row["labels"]["state"], "failed", "{row}");
    let resolved = site.resolve(&lease.id);
    site.refusal(&resolved, "job-ended", &lease, Some(&job)).says(&["CANCELLED"]);
    assert_eq!(site.record(&lease), record);
    assert_eq!(site.row(&others).expect("listed")["labels"]["state"], "ready");
    site.release_cleanly(&lease);
    site.release_cleanly(&others);
}

/// A newer version's lease that is not handed out yet is that version's to go on with: an acquire refuses and takes
/// nothing back, a release ends it.
pub fn a_newer_record_in_the_queue(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("queued");
    let config = json!({"partition": "closed", "acquireTimeoutSeconds": 2});
    let request = site.request("acquire", json!({"desired": lease.desired(), "keep": true, "config": config}));
    site.protocol(&request).refused("timed-out");
    let record = site.rewrite(&lease, |record| {
        record["format"] = json!(99);
        record["priority"] = json!({"class": "batch"});
    });
    let job = site.job_in(&lease, "PENDING");
    site.acquire(&lease, json!({})).refused("storage").says(&[&lease.id, "newer", "use that version"]);
    let resolve = json!({"id": lease.id, "config": {"resolveWaitSeconds": 1}});
    site.refusal(&site.ask("resolve", resolve), "timed-out", &lease, Some(&job));
    let row = site.row(&lease).expect("listed");
    assert_eq!((&row["labels"]["state"], &row["labels"]["slurmJobId"]), (&json!("provisioning"), &json!(job)), "{row}");

    // It starts: handing it out would have to be written down.
    site.let_start(&job);
    site.job_in(&lease, "RUNNING");
    let resolve = json!({"id": lease.id, "config": {"resolveWaitSeconds": 20}});
    site.ask("resolve", resolve).refused("storage").says(&[&lease.id, "newer"]);
    site.shell(&format!("test -e {}/permit", site.shared_dir(&lease))).ok();
    assert_eq!(site.record(&lease), record);
    assert_eq!(site.live_jobs(&lease), [format!("{job} RUNNING")]);
    site.release_cleanly(&lease);
}

/// A state dir of a newer version: no lease is made in it, those that are there can be used and released.
pub fn a_newer_tree(open: Open) {
    let site = open(Setup::default());
    let [lease, other] = [site.lease("tree"), site.lease("tree")];
    let handed = site.acquired(&lease, json!({}));
    site.make_newer("");
    let record = site.record(&lease);
    site.acquire(&other, json!({})).refused("storage").says(&["newer", &site.state_dir(), "use that version"]);
    site.nothing_left(&other);
    assert_eq!(site.resolve(&lease.id).lease()["ssh"], handed["ssh"]);
    assert_eq!(site.row(&lease).expect("listed")["labels"]["state"], "ready");
    let doctor = site.ask("doctor", json!({}));
    doctor.refused("doctor-red").says(&["state dir", "newer"]);
    site.shell(&format!("scancel {}", job_of(&handed))).ok();
    site.no_live_job(&lease);
    assert_eq!(site.row(&lease).expect("listed")["labels"]["state"], "failed");
    assert_eq!(site.record(&lease), record, "written in a newer tree");
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
