//! How many files a call opens: on a network file system each costs a round trip to its server. Counted, not timed, so that a busy machine
//! changes nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::many::multiply;
use crate::scenarios::say;
use crate::scenarios::site::{Place, Setup, Site};
use crate::scenarios::wire::Reply;

impl Site {
    /// A request, and what the program itself has opened for it: a name each, in order. What it starts is not looked at.
    #[track_caller]
    fn opening(&self, operation: &str, fields: Value) -> (Reply, Vec<String>) {
        let trace = format!("{}/strace-{operation}", self.root);
        let strace = format!("strace -f -qq -b execve -o {trace} -e trace=open,openat,openat2 -e signal=none");
        let script = format!("exec {strace} {} --state-dir {}", self.program(), self.state_dir());
        let request = format!("{}\n", self.request(operation, fields));
        let output = self.shell_with(&script, request.into_bytes(), Duration::from_secs(120));
        assert_ne!(output.code, 127, "these tests need strace: {}", output.stderr);
        let trace = std::fs::read_to_string(trace).unwrap();
        let opened = trace.lines().filter(|line| line.contains("open")).filter_map(|line| line.split('"').nth(1));
        (Reply::read(&output), opened.map(str::to_owned).collect())
    }
}

fn times(opened: &[String], name: &str) -> usize {
    opened.iter().filter(|path| path.rsplit('/').next() == Some(name)).count()
}

/// The looks of half a minute: some 230 on a machine at rest.
#[test]
fn a_wait_opens_little() {
    let site = Site::fake(Setup::default());
    let lease = site.lease("queued");
    let config = json!({"partition": "closed", "acquireTimeoutSeconds": 30});
    let (reply, opened) = site.opening("acquire", json!({"desired": lease.desired(), "config": config}));
    reply.refused("timed-out");
    let listed = times(&opened, ".");
    say(&format!("measured: fake: {} files opened in 30 s of waiting, directories {listed} times", opened.len()));
    assert!(listed > 20, "{listed} looks");
    assert!(opened.len() <= 600, "{}", opened.len());
    // All that is not a look: keys, the submission, the questions to Slurm, the release, and every path anew each 5 s.
    assert!(opened.len() - listed <= 300, "{} beside {listed}", opened.len());
    assert!(times(&opened, "record.json") <= 25, "{}", times(&opened, "record.json"));
    assert!(times(&opened, "permit") <= 25, "{}", times(&opened, "permit"));
}

/// One whose job starts at once; each look at a job that has started reads two directories.
#[test]
fn an_acquire_opens_little() {
    let site = Site::fake(Setup::default());
    let lease = site.lease("smoke");
    let (reply, opened) = site.opening("acquire", json!({"desired": lease.desired()}));
    reply.lease();
    let listed = times(&opened, ".");
    say(&format!("measured: fake: {} files opened by an acquire, directories {listed} times", opened.len()));
    assert!(opened.len() - listed <= 200, "{} beside {listed}", opened.len());
    site.release(&lease).ok();
}

/// A record, a note of denials and the limits, each by one step from the directory of all leases; for a lease that waits also where its
/// acquire runs.
#[test]
fn a_list_opens_three_files_a_lease_and_a_cleanup_two() {
    let site = Site::fake(Setup::default());
    let model = site.lease("model");
    site.acquired(&model, json!({}));
    const COUNT: usize = 300;
    let made = multiply(&site, &model, COUNT, 100_000);
    // Without an answer of Slurm nothing is written down for each.
    let Place::Fake(fake) = &site.place else { panic!("the fake") };
    fake.control(&["set", "squeue", "down"]).ok();
    let count = |operation: &str, most: usize| {
        let (reply, opened) = site.opening(operation, json!({}));
        reply.ok();
        say(&format!("measured: fake: {} files opened by {operation} of {} leases", opened.len(), COUNT + 1));
        assert!(opened.len() <= most * (COUNT + 1) + 100, "{operation}: {}", opened.len());
        assert!(made.iter().all(|lease| !opened.contains(&lease.id)), "{operation} opened a lease's directory");
    };
    count("list", 3);
    count("cleanup", 2);
    for lease in &made {
        let path = format!("{}/record.json", site.record_dir(lease));
        let record = std::fs::read_to_string(&path).unwrap().replace("\"answered\"", "\"queued\"");
        std::fs::write(path, record).unwrap();
    }
    count("list", 4);
    count("cleanup", 3);
    fake.control(&["clear"]).ok();
    site.release(&model).ok();
}

/// What has not changed since an earlier call is not opened again, and a list shows the same with what was kept and without it.
#[test]
fn a_list_opens_nothing_of_leases_that_have_not_changed() {
    let site = Site::fake(Setup::default());
    let model = site.lease("model");
    site.acquired(&model, json!({}));
    let made = multiply(&site, &model, 300, 100_000);
    let Place::Fake(fake) = &site.place else { panic!("the fake") };
    fake.control(&["set", "squeue", "down"]).ok();
    // What is younger is not kept.
    std::thread::sleep(Duration::from_millis(2200));
    let rows = |reply: Reply| reply.rows().to_vec();
    let first = rows(site.ask("list", json!({})));
    for operation in ["list", "cleanup"] {
        let (reply, opened) = site.opening(operation, json!({}));
        reply.ok();
        say(&format!(
            "measured: fake: {} files opened by {operation} of 301 leases that have not changed",
            opened.len()
        ));
        assert!(opened.len() <= 100, "{operation}: {}", opened.len());
        if operation == "list" {
            assert_eq!(rows(reply), first);
        }
    }
    let path = format!("{}/record.json", site.record_dir(&made[7]));
    let record = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, record.replace("\"keep\": false", "\"keep\": true ")).unwrap();
    let with = rows(site.ask("list", json!({})));
    std::fs::remove_file(format!("{}/cache/leases", site.state_dir())).unwrap();
    let without = rows(site.ask("list", json!({})));
    assert_eq!(with, without);
    let changed: Vec<_> = with.iter().filter(|row| !first.contains(row)).collect();
    assert!(changed.len() == 1 && changed[0]["leaseId"] == made[7].id.as_str(), "{changed:?}");
    fake.control(&["clear"]).ok();
    site.release(&model).ok();
}
