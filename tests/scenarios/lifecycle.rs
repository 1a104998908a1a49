//! A lease from doctor to nothing left, and the things that a client does with it in between.

use std::time::Duration;

use serde_json::json;

use super::process;
use super::session::Login;
use super::site::{Lease, Open, Place, Setup, Site, job_of, now};

/// Everything that a lease is for, in order.
pub fn a_lease_from_doctor_to_nothing_left(open: Open) {
    whole(&open(Setup::default()));
}

pub fn the_same_without_accounting(open: Open) {
    whole(&open(Setup { accounting: false, ..Setup::default() }));
}

pub fn whole(site: &Site) {
    let doctor = site.ask("doctor", json!({}));
    doctor.ok();
    assert!(doctor.took < process::limit(9), "doctor took {:?}", doctor.took);

    let lease = site.lease("whole");
    let reply = site.acquire(&lease, json!({"cpus": 2, "mem": "200M", "timeLimit": "00:20:00"}));
    let answered = now();
    let handed = reply.lease();
    let job = job_of(handed);
    assert_eq!(handed["status"], "RUNNING");
    assert_eq!(handed["labels"]["state"], "ready");
    assert_eq!(handed["labels"]["slurmJobId"], *job);
    timing(site, &lease, reply.took, answered);

    let login = Login::of(handed);
    let inside = login.ssh(site, "hostname; id -un; echo $SLURM_JOB_ID; nproc; echo $TMPDIR");
    let lines: Vec<&str> = inside.ok().lines().collect();
    assert_eq!(inside.stderr, "");
    let node = if site.is_fake() {
        site.shell("hostname").line().to_owned()
    } else {
        handed["labels"]["slurmNode"].as_str().unwrap().into()
    };
    assert_eq!(lines[..3], [node.as_str(), &site.user(), &job]);
    assert!(lines[3].parse::<u32>().is_ok() && lines[4].starts_with('/'), "{lines:?}");
    assert_eq!(login.ssh(site, "exit 7").code, 7);
    login.transfer(site);
    // Work that the release has to end, and a work dir that it has to remove.
    let marker = format!(
        "{}.{}",
        600 + std::process::id() % 300,
        &lease.id[4..].bytes().map(|b| (b % 10 + b'0') as char).collect::<String>()
    );
    let work = format!("{}/work/{}", site.root, lease.id);
    login.ssh(site, &format!("mkdir -p {work}/project; echo x > {work}/project/file; nohup sleep {marker} >/dev/null 2>&1 </dev/null & sleep 0.1")).ok();
    assert_eq!(processes(site, &marker), 1, "the sleep runs");

    for word in [&lease.id, &lease.slug, &lease.name, &format!("slurm/job/{job}"), &job] {
        let resolved = site.resolve(word);
        assert_eq!(resolved.lease()["leaseId"], *lease.id, "resolve {word}");
        assert_eq!(resolved.lease()["cloudId"], handed["cloudId"]);
        assert_eq!(resolved.lease()["ssh"], handed["ssh"]);
    }
    let resolved = site.ask("resolve", json!({"desired": lease.desired(), "id": lease.name, "repo": {"root": "/x"}}));
    assert_eq!(resolved.lease()["ssh"], handed["ssh"]);

    touched(site, &lease, handed);
    let row = site.row(&lease).expect("it is listed");
    assert_eq!((&row["status"], &row["cloudId"], &row["ssh"]), (&json!("RUNNING"), &handed["cloudId"], &handed["ssh"]));

    let resolved = site.ask("resolve", json!({"desired": lease.desired(), "id": lease.name, "releaseOnly": true}));
    assert!(resolved.lease().get("ssh").is_none(), "with a host the client logs in before it releases");
    site.release_cleanly(&lease);
    assert_eq!(processes(site, &marker), 0, "the sleep outlived its job");
    site.shell(&format!("! test -e {work}")).ok();
    assert_eq!(site.row(&lease), None);
    assert!(site.release(&lease).ok()["message"].as_str().unwrap().contains(&lease.id));
}

/// touch: labels in, no lease out, and the job is told.
fn touched(site: &Site, lease: &super::site::Lease, handed: &serde_json::Value) {
    let mut sent = handed.clone();
    for (name, value) in
        [("ttl_secs", "5400"), ("idle_timeout_secs", "1200"), ("state", "running"), ("expires_at", "1795309936")]
    {
        sent["labels"][name] = json!(value);
    }
    sent["ssh"].as_object_mut().unwrap().remove("fallbackPorts");
    let reply = site.ask("touch", json!({"lease": sent, "state": "running"}));
    assert!(reply.ok().get("lease").is_none(), "a lease would freeze the client's expiry labels");
    let told = site.shell(&format!("cat {}/*/deadline", site.shared_dir(lease)));
    let created: i64 = handed["labels"]["created_at"].as_str().unwrap().parse().unwrap();
    let (ttl, rest) = told.ok().split_once("\nttl_left=").expect("the seconds that are left");
    let (left, rest) = rest.split_once('\n').expect("whole lines");
    assert_eq!((ttl, rest), (format!("ttl={}", created + 5400).as_str(), "idle=1200\nstate=running\n"));
    assert!((5000..=5400).contains(&left.parse().unwrap()), "{left} s are left");
}

/// Printed, never asserted: machines differ.
fn timing(site: &Site, lease: &super::site::Lease, took: Duration, answered: f64) {
    let published = site.shell(&format!("stat -c %.Y {}/*/endpoint.json", site.shared_dir(lease)));
    let published: f64 = published.line().parse().unwrap();
    super::say(&format!(
        "measured: {}: call to answer {} ms, sshd listening to answer {} ms",
        if site.is_fake() {
            "fake"
        } else if site.is_outside() {
            "laptop"
        } else {
            "campus"
        },
        took.as_millis(),
        ((answered - published) * 1000.0).round()
    ));
}

/// How many processes have this word in their arguments, on all hosts where jobs run.
pub fn processes(site: &Site, word: &str) -> usize {
    let script = "read -r word; printf %s \"$word\" | grep -lsaF -f - /proc/[0-9]*/cmdline | while read -r file; do \
                  case $(tr '\\0' ' ' <$file) in sleep*) echo 1 ;; esac; done; :";
    let search =
        |command| process::run(command, format!("{word}\n").into_bytes(), Duration::from_secs(20)).ok().lines().count();
    match &site.place {
        Place::Fake(fake) => search(fake.shell(&[], script)),
        Place::Campus(campus) => ["n1", "n2"].iter().map(|host| search(campus.shell(host, "root", &[], script))).sum(),
    }
}

/// The controller forgets the job of a lease; releasing it needs two denials, or the accounting.
pub fn a_job_that_slurm_has_forgotten(open: Open) {
    for accounting in [true, false] {
        let site = open(Setup { accounting, ..Setup::default() });
        if accounting && !site.is_fake() {
            // Only the forgetful campus forgets within a test's time.
            continue;
        }
        let lease = site.lease("gone");
        let job = job_of(&site.acquired(&lease, json!({})));
        site.shell(&format!("scancel {job}")).ok();
        site.forget(&job);
        let row = site.row(&lease).expect("a forgotten job's lease stays listed until it is released");
        assert_ne!(row["labels"]["state"], "ready", "{row}");
        assert_eq!(row["cloudId"], format!("slurm/job/{job}"));
        assert!(row.get("ssh").is_none(), "{row}");
        site.release_cleanly(&lease);
        assert_eq!(site.row(&lease), None);
    }
}

/// resolve of a lease whose job has ended: at once and with the reason, or the client waits twenty minutes.
pub fn a_dead_job_is_an_error_at_once(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("dead");
    let job = job_of(&site.acquired(&lease, json!({})));
    site.shell(&format!("scancel {job}")).ok();
    site.no_live_job(&lease);
    for _ in 0..2 {
        let reply = site.resolve(&lease.id);
        let refusal = site.refusal(&reply, "job-ended", &lease, Some(&job));
        refusal.says(&["CANCELLED"]);
        assert!(refusal.took < process::limit(2), "{:?}", refusal.took);
    }
    let again = site.acquire(&lease, json!({}));
    site.refusal(&again, "job-ended", &lease, Some(&job));
    let row = site.row(&lease).expect("listed until it is released");
    assert!(row["status"].as_str().unwrap().starts_with("CANCELLED"), "{row}");
    let only = site.ask("resolve", json!({"id": lease.slug, "releaseOnly": true}));
    assert_eq!(only.lease()["cloudId"], format!("slurm/job/{job}"));
    site.release_cleanly(&lease);
}

/// Releasing is asked for more often than there is something to release.
pub fn releases_that_find_nothing(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("none");
    let reply = site.release(&lease);
    assert!(reply.ok()["message"].as_str().unwrap().contains(&lease.id));
    assert!(site.resolve(&lease.id).ok().get("lease").is_none(), "an unknown lease is answered without a lease");
    assert!(site.resolve("no-such-slug").ok().get("lease").is_none());
    let only = site.ask("resolve", json!({"id": "crabbox-x-00000000", "releaseOnly": true}));
    assert!(only.ok().get("lease").is_none());
    assert_eq!(site.list(), Vec::<serde_json::Value>::new());
    let touch = site.ask("touch", json!({"lease": lease.desired(), "state": "ready"}));
    site.refusal(&touch, "not-found", &lease, None);
}

impl Site {
    /// Waits until no job of the lease lives.
    #[track_caller]
    pub fn no_live_job(&self, lease: &super::site::Lease) {
        process::until("the job's end", Duration::from_secs(20), || self.live_jobs(lease).is_empty().then_some(()));
    }

    /// Waits until the controller denies an ended job, or makes it.
    #[track_caller]
    pub fn forget(&self, job: &str) {
        let look = || self.shell(&format!("squeue -h -t all -j {job} -o %T"));
        process::until("the job's end", Duration::from_secs(20), || {
            let state = look();
            (state.code != 0 || state.stdout.starts_with("CANCELLED") || state.stdout.starts_with("COMPLETED"))
                .then_some(())
        });
        if let Place::Fake(fake) = &self.place {
            fake.control(&["purge", job]).ok();
        }
        process::until("the controller forgets", Duration::from_secs(40), || (look().code != 0).then_some(()));
    }
}

/// What the client keeps of a lease in the home there goes with the lease, by release and by cleanup; another lease's stays.
pub fn files_of_the_client(open: Open) {
    let site = open(Setup::default());
    let [released, ended, other] = [site.lease("client"), site.lease("client"), site.lease("client")];
    let paths = |lease: &Lease| {
        format!(
            "~/.crabbox/actions/{0}.env.sh ~/.crabbox/workspace-owners/$(printf 'crabbox-workspace-owner-v1\\0%s' {0} | sha256sum | cut -c 1-64).gate",
            lease.id
        )
    };
    let make = |lease: &Lease| {
        format!(
            "mkdir -p ~/.crabbox/actions ~/.crabbox/workspace-owners; for f in {}; do echo x >$f; done",
            paths(lease)
        )
    };
    let kept = |lease: &Lease| site.shell(&format!("ls {} 2>/dev/null | wc -l", paths(lease))).line().to_owned();
    site.shell(&make(&other)).ok();
    for lease in [&released, &ended] {
        let handed = site.acquired(lease, json!({}));
        Login::of(&handed).ssh(&site, &make(lease)).ok();
        assert_eq!(kept(lease), "2", "the session and the login host have one home");
        if lease.id == released.id {
            site.release_cleanly(lease);
        } else {
            site.shell(&format!("scancel {}", job_of(&handed))).ok();
            site.no_live_job(lease);
            site.ask("cleanup", json!({})).ok();
            assert_eq!(site.row(lease), None);
        }
        assert_eq!(kept(lease), "0");
    }
    assert_eq!(kept(&other), "2");
    site.shell(&format!("rm {}; rmdir ~/.crabbox/actions ~/.crabbox/workspace-owners ~/.crabbox; :", paths(&other)))
        .ok();
}

/// A row of a list has what the job has and until when it may live: what was asked for, and what a touch has said since.
pub fn what_a_list_tells(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("tells");
    let config = json!({"partition": "batch", "cpus": 2, "mem": "100M", "gres": "gpu:1", "timeLimit": "00:20:00", "ttlSeconds": 600});
    let handed = site.acquired(&lease, config);
    let label = |row: &serde_json::Value, name: &str| row["labels"][name].as_str().unwrap_or_default().to_owned();
    let number = |row: &serde_json::Value, name: &str| label(row, name).parse::<i64>().unwrap_or_default();
    for name in ["class", "ttl_secs", "idle_timeout_secs", "last_touched_at"] {
        assert_eq!(handed["labels"].get(name), None, "{name} would take the place of what the client's user asked for");
    }
    let row = site.row(&lease).expect("listed");
    let has = [
        "server_type",
        "class",
        "slurmPartition",
        "slurmCpus",
        "slurmMem",
        "slurmGres",
        "ttl_secs",
        "idle_timeout_secs",
    ];
    assert_eq!(
        has.map(|name| label(&row, name)),
        ["batch-2c-100M-1gpu", "batch", "batch", "2", "100M", "gpu-1", "600", "1800"]
    );
    let of_slurm = site
        .shell(&format!("squeue -h -j {} -o '%a|%q'", job_of(&handed)))
        .line()
        .replace("N/A", "")
        .replace("(null)", "");
    assert_eq!(format!("{}|{}", label(&row, "slurmAccount"), label(&row, "slurmQos")), of_slurm);
    assert_eq!(number(&row, "expires_at"), number(&row, "slurmStart") + 600);
    assert_eq!(label(&row, "last_touched_at"), label(&row, "created_at"));
    for (ttl, expires) in [("300", Some(300)), ("7200", None)] {
        let mut sent = handed.clone();
        sent["labels"] = json!({"ttl_secs": ttl, "idle_timeout_secs": "900"});
        let before = now();
        site.ask("touch", json!({"lease": sent, "state": "ready"})).ok();
        let row = site.row(&lease).expect("listed");
        let end = expires.map_or_else(|| number(&row, "slurmEnd"), |ttl| number(&row, "created_at") + ttl);
        assert_eq!(number(&row, "expires_at"), end, "{row}");
        assert_eq!((label(&row, "ttl_secs"), label(&row, "idle_timeout_secs")), (ttl.to_owned(), "900".to_owned()));
        assert!((before as i64..before as i64 + 60).contains(&number(&row, "last_touched_at")), "{row}");
    }
    site.release_cleanly(&lease);
}
