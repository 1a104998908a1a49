//! A state dir on a file system whose locks do not work (docs/facts/files.md, "Locks"): every call that needs one is refused with
//! what to do, nothing is done as if a lock were held, and all goes on when locks are back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::scenarios::process;
use crate::scenarios::site::{Lease, Setup, Site, job_of};
use crate::scenarios::wire::Reply;

/// What such file systems answer: NFS without a lock manager, Lustre without flock, others.
const ERRORS: &[&str] = &["ENOLCK", "ENOSYS", "EOPNOTSUPP"];

impl Site {
    /// A request on such a file system. Slurm's commands and ssh keep their locks, so nothing but us is traced.
    #[track_caller]
    fn without_locks(&self, error: &str, operation: &str, fields: Value) -> (Reply, bool) {
        let trace = format!("{}/strace-{operation}-{error}", self.root);
        // doctor locks in threads of its own.
        let follow = if operation == "doctor" { "-f" } else { "" };
        let inject = format!("strace {follow} -qq -o {trace} -e trace=flock -e inject=flock:error={error}");
        let script = format!("exec {inject} {} --state-dir {}", self.program(), self.state_dir());
        let request = format!("{}\n", self.request(operation, fields));
        let output = self.shell_with(&script, request.into_bytes(), Duration::from_secs(60));
        assert_ne!(output.code, 127, "these tests need strace: {}", output.stderr);
        let tried = self.shell(&format!("grep -c INJECTED {trace}")).stdout.trim() != "0";
        (Reply::read(&output), tried)
    }

    #[track_caller]
    fn refused_for_locks(&self, error: &str, operation: &str, fields: Value) {
        let (reply, tried) = self.without_locks(error, operation, fields);
        assert!(tried, "{operation} took no lock");
        let refusal = reply.refused("storage");
        assert!(refusal.remedy.contains("file system with locks"), "{operation}, {error}: {}", refusal.text);
    }

    #[track_caller]
    fn permitted(&self, lease: &Lease) -> bool {
        self.shell(&format!("test -s {}/permit", self.shared_dir(lease))).code == 0
    }
}

/// No lease is made, neither in a new state dir nor in one that has its name already.
#[test]
fn nothing_is_made_without_locks() {
    process::each(ERRORS, |error| {
        let site = Site::fake(Setup::default());
        for round in ["new", "named"] {
            let lease = site.lease(round);
            site.refused_for_locks(error, "acquire", json!({"desired": lease.desired()}));
            site.nothing_left(&lease);
            assert_eq!(site.all_jobs(&lease), Vec::<String>::new());
            assert_eq!(site.list(), Vec::<Value>::new());
        }
        let (doctor, _) = site.without_locks(error, "doctor", json!({}));
        doctor.refused("doctor-red").says(&["state dir", "locks"]);
        site.ask("doctor", json!({})).ok();
    });
}

/// Leases that are there when locks stop working: shown, not changed by half; all is well when locks are back.
#[test]
fn leases_outlive_a_time_without_locks() {
    process::each(ERRORS, |error| {
        let site = Site::fake(Setup::default());
        let [used, queued, gone] = [site.lease("used"), site.lease("queued"), site.lease("gone")];
        let handed = site.acquired(&used, json!({}));
        let dead = job_of(&site.acquired(&gone, json!({})));
        let waiting = site.spawn(site.acquiring(&queued, json!({"partition": "closed"})));
        let job = site.job_in(&queued, "PENDING");
        process::until("the record", Duration::from_secs(20), || {
            (site.row(&queued)?["cloudId"] == format!("slurm/job/{job}")).then_some(())
        });
        site.shell(&format!("scancel {dead}")).ok();
        site.no_live_job(&gone);

        // A second call for the lease that another one waits for must not take that one's permit away.
        for lease in [&queued, &used] {
            site.refused_for_locks(error, "acquire", json!({"desired": lease.desired()}));
            assert!(site.permitted(lease), "{error}: {} has lost its permit", lease.slug);
        }
        site.refused_for_locks(error, "resolve", json!({"id": used.id}));
        let (list, tried) = site.without_locks(error, "list", json!({}));
        assert!(tried && list.stderr.contains("locks"), "list hides that it could not settle: {}", list.stderr);
        let state = |lease: &Lease| {
            let row = list.rows().iter().find(|row| row["leaseId"] == lease.id.as_str());
            row.unwrap_or_else(|| panic!("{} is not listed", lease.slug))["labels"]["state"].clone()
        };
        assert_eq!([&used, &queued].map(state), ["ready", "provisioning"]);
        state(&gone);
        let (cleanup, _) = site.without_locks(error, "cleanup", json!({}));
        assert!(cleanup.ok()["message"].as_str().unwrap().contains("locks"), "{}", cleanup.value);
        assert!(site.row(&gone).is_some(), "removed without a lock");
        assert_eq!(site.live_jobs(&queued), [format!("{job} PENDING")]);

        site.let_start(&job);
        assert_eq!(job_of(site.reply(waiting).lease()), job);
        assert_eq!(site.resolve(&used.id).lease()["ssh"], handed["ssh"]);

        // A release says that it is none, but the permit is gone, so the job ends all the same.
        site.refused_for_locks(error, "release", json!({"lease": used.desired()}));
        assert!(!site.permitted(&used));
        site.no_live_job(&used);
        assert_eq!(site.row(&used).expect("listed until it is released")["labels"]["slurmReason"], "permit-removed");
        for lease in [&used, &queued, &gone] {
            site.release_cleanly(lease);
        }
    });
}
