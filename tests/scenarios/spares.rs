//! Spares: jobs that are ready before anybody asks, and leases that take them.

use std::time::Duration;

use serde_json::{Value, json};

use super::process;
use super::session::Login;
use super::site::{Call, Lease, Open, Place, Setup, Site, job_of};

/// A spare as `pool` shows it.
#[derive(Debug, Clone)]
pub struct Spare {
    /// The seat, which the scenarios treat as a lease: it has a job name, files and processes as one.
    pub seat: Lease,
    pub job: String,
    pub status: String,
    pub proven: bool,
}

impl Site {
    /// A site whose leases come with so many spares.
    pub fn with_spares(open: Open, setup: Setup, spares: u64) -> Site {
        let site = open(setup);
        site.configure(json!({"spares": spares, "timeLimit": "00:20:00"}));
        site
    }

    /// A verb of the command line that has the same configuration as requests have.
    #[track_caller]
    pub fn pool(&self, args: &[&str]) -> process::Output {
        let config = self.request("acquire", json!({}))["config"].to_string();
        let file = self.write("config.json", &config);
        self.cli(&[&["--config", file.as_str(), "pool"], args].concat())
    }

    /// All spares.
    #[track_caller]
    pub fn spares(&self) -> Vec<Spare> {
        let pools: Value = serde_json::from_str(self.cli(&["--json", "pool"]).ok()).expect("JSON");
        let all =
            pools.as_array().expect("an array").iter().flat_map(|pool| pool["spares"].as_array().expect("spares"));
        let spare = |row: &Value| Spare {
            seat: Lease::of(row["seat"].as_str().expect("a seat"), "spare"),
            job: row["jobId"].to_string(),
            status: row["status"].as_str().expect("a status").into(),
            proven: row["proven"] == true,
        };
        all.map(spare).collect()
    }

    /// Submits spares, and waits until they are ready.
    #[track_caller]
    pub fn filled(&self, count: usize) -> Vec<Spare> {
        let said = self.pool(&["fill", &count.to_string()]);
        let ready = said.ok().starts_with(&format!("{count} spare(s) are ready"));
        assert!(ready, "{}{}", said.stdout, self.cli(&["pool"]).stdout);
        let spares = self.spares();
        assert!(
            spares.len() == count && spares.iter().all(|spare| spare.proven && spare.status == "RUNNING"),
            "{spares:?}"
        );
        spares
    }

    /// Ends all spares, and looks that nothing is left of these.
    #[track_caller]
    pub fn drained(&self, seats: &[&Lease]) {
        self.pool(&["drain"]).ok();
        assert_eq!(self.spares().len(), 0);
        seats.iter().for_each(|seat| self.nothing_left(seat));
    }

    #[track_caller]
    fn is_on(&self, lease: &Lease, answer: &Value, spare: &Spare) {
        assert_eq!(job_of(answer), spare.job, "{answer}");
        let login = Login::of(answer);
        let seen = login.ssh(
            self,
            "echo $SLURM_JOB_ID $CBX_LEASE_ID $CBX_SLUG; echo \"$CBX_NAME\"; ls -d $CBX_WORK_ROOT/$CBX_LEASE_ID",
        );
        let lines: Vec<_> = seen.ok().lines().map(str::to_owned).collect();
        let expected = [
            format!("{} {} {}", spare.job, lease.id, lease.slug),
            lease.name.clone(),
            format!("{}/work/{}", self.root, lease.id),
        ];
        assert_eq!(lines, expected);
    }
}

/// A lease that takes a spare is as every other, and another spare comes in its place.
pub fn a_lease_from_a_spare(open: Open) {
    let site = Site::with_spares(open, Setup::default(), 1);
    let [spare] = &site.filled(1)[..] else { panic!("one spare") };
    assert_eq!(site.list(), Vec::<Value>::new(), "a spare is no lease");

    let lease = site.lease("spared");
    let answer = site.acquired(&lease, json!({}));
    site.is_on(&lease, &answer, spare);
    assert_eq!((&answer["status"], &answer["labels"]["state"]), (&json!("RUNNING"), &json!("ready")), "{answer}");
    let login = Login::of(&answer);
    login.transfer(&site);
    assert_eq!(login.ssh(&site, "exit 7").code, 7);
    for word in [&lease.id, &lease.slug, &spare.job] {
        assert_eq!(site.resolve(word).lease()["ssh"], answer["ssh"], "resolve {word}");
    }
    assert_eq!(site.row(&lease).expect("listed")["cloudId"], answer["cloudId"]);
    assert_eq!(site.acquired(&lease, json!({}))["cloudId"], answer["cloudId"], "again and again is as once");
    site.ask("touch", json!({"lease": answer, "state": "running"})).ok();

    let next = site.spares();
    assert!(next.len() == 1 && next[0].job != spare.job, "another spare was submitted: {next:?}");
    site.release_cleanly(&lease);
    site.nothing_left(&spare.seat);
    assert_eq!(site.resolve(&lease.id).ok().get("lease"), None);
    site.drained(&[&next[0].seat]);
}

/// The same where nothing listens in the job.
pub fn a_spare_without_a_listener(open: Open) {
    let site = Site::with_spares(open, Setup::default(), 1);
    site.configure(json!({"sshMode": "stdio"}));
    let [spare] = &site.filled(1)[..] else { panic!("one spare") };
    let lease = site.lease("piped");
    let answer = site.acquired(&lease, json!({}));
    site.is_on(&lease, &answer, spare);
    site.release_cleanly(&lease);
    site.drained(&[&spare.seat]);
}

/// The first acquire has to wait for its own job, and leaves a spare for the second.
pub fn spares_come_by_themselves(open: Open) {
    let site = Site::with_spares(open, Setup::default(), 1);
    let [first, second] = [site.lease("first"), site.lease("second")];
    let own = site.acquired(&first, json!({}));
    let ready = || site.spares().into_iter().find(|spare| spare.status == "RUNNING");
    let spare = process::until("a spare runs", Duration::from_secs(30), ready);
    assert_ne!(job_of(&own), spare.job);
    // It runs; its sshd may need another moment.
    std::thread::sleep(Duration::from_secs(2));
    let answer = site.acquired(&second, json!({}));
    site.is_on(&second, &answer, &spare);
    site.release_cleanly(&first);
    site.release_cleanly(&second);
    site.drained(&[&spare.seat]);
}

/// Many that want few spares: each spare is one lease's, all others have a job of their own, and all are handed out.
pub fn many_want_few_spares(open: Open) {
    let site = Site::with_spares(open, Setup::default(), 2);
    let spares = site.filled(2);
    let leases: Vec<_> = (0..5).map(|_| site.lease("race")).collect();
    let running: Vec<_> = leases.iter().map(|lease| site.spawn(site.acquiring(lease, json!({})))).collect();
    let answers: Vec<_> = running.into_iter().map(|running| site.reply(running).lease().clone()).collect();
    let mut jobs: Vec<_> = answers.iter().map(job_of).collect();
    for spare in &spares {
        assert_eq!(jobs.iter().filter(|job| **job == spare.job).count(), 1, "{} of {jobs:?}", spare.job);
    }
    jobs.sort();
    jobs.dedup();
    assert_eq!(jobs.len(), leases.len(), "no job is two leases': {jobs:?}");
    for (lease, answer) in leases.iter().zip(&answers) {
        let seen = Login::of(answer).ssh(&site, "echo $SLURM_JOB_ID $CBX_LEASE_ID");
        assert_eq!(seen.line(), format!("{} {}", job_of(answer), lease.id));
    }
    leases.iter().for_each(|lease| site.release_cleanly(lease));
    site.drained(&spares.iter().map(|spare| &spare.seat).collect::<Vec<_>>());
}

/// Several acquires of one lease at once: one spare, one answer.
pub fn one_lease_and_many_callers(open: Open) {
    let site = Site::with_spares(open, Setup::default(), 2);
    let spares = site.filled(2);
    let lease = site.lease("same");
    let running: Vec<_> = (0..6).map(|_| site.spawn(site.acquiring(&lease, json!({})))).collect();
    let answers: Vec<_> = running.into_iter().map(|running| site.reply(running).lease().clone()).collect();
    assert!(
        answers.iter().all(|answer| answer["ssh"] == answers[0]["ssh"] && answer["cloudId"] == answers[0]["cloudId"])
    );
    assert!(spares.iter().any(|spare| spare.job == job_of(&answers[0])));
    site.release_cleanly(&lease);
    site.drained(&spares.iter().map(|spare| &spare.seat).collect::<Vec<_>>());
}

/// A spare whose job has ended is given to nobody, however little Slurm has told of it by then.
pub fn a_spare_that_has_died(open: Open) {
    let site = Site::with_spares(open, Setup::default(), 2);
    let spares = site.filled(2);
    let jobs: Vec<_> = spares.iter().map(|spare| spare.job.as_str()).collect();
    site.shell(&format!("scancel {}", jobs.join(" "))).ok();
    for spare in &spares {
        process::until("the spare has ended", Duration::from_secs(30), || {
            site.live_jobs(&spare.seat).is_empty().then_some(())
        });
    }
    let lease = site.lease("after");
    let answer = site.acquired(&lease, json!({}));
    assert!(!jobs.contains(&job_of(&answer).as_str()), "{answer}");
    assert_eq!(Login::of(&answer).ssh(&site, "echo $CBX_LEASE_ID").line(), lease.id);
    site.release_cleanly(&lease);
    site.drained(&spares.iter().map(|spare| &spare.seat).collect::<Vec<_>>());
}

/// Spares are ended in the very moment in which leases take them: each acquire gets what works.
pub fn spares_that_die_while_they_are_taken(open: Open) {
    let site = Site::with_spares(open, Setup::default(), 3);
    let mut seats = Vec::new();
    for pause in [0, 30, 60, 90, 120, 180] {
        let spares = site.filled(3);
        let leases: Vec<_> = (0..2).map(|_| site.lease("dying")).collect();
        let jobs: Vec<_> = spares.iter().map(|spare| spare.job.as_str()).collect();
        let running: Vec<_> = leases.iter().map(|lease| site.spawn(site.acquiring(lease, json!({})))).collect();
        std::thread::sleep(Duration::from_millis(pause));
        site.shell(&format!("scancel {}", jobs.join(" "))).ok();
        for (running, lease) in running.into_iter().zip(&leases) {
            let reply = site.reply(running);
            let job = job_of(reply.lease());
            // One that was handed out first may have been cancelled since.
            if !jobs.contains(&job.as_str()) {
                assert_eq!(Login::of(reply.lease()).ssh(&site, "echo $SLURM_JOB_ID").line(), job);
            }
            site.release_cleanly(lease);
        }
        seats.extend(spares.into_iter().map(|spare| spare.seat));
        site.pool(&["drain"]).ok();
    }
    site.drained(&seats.iter().collect::<Vec<_>>());
}

/// Another configuration takes no spare of this one, and an acquire with none configured takes none at all.
pub fn spares_of_another_pool(open: Open) {
    let site = Site::with_spares(open, Setup::default(), 1);
    let [spare] = &site.filled(1)[..] else { panic!("one spare") };
    for config in [json!({"preamble": "export A=1"}), json!({"spares": 0}), json!({"preamble": "echo $CBX_SLUG"})] {
        let lease = site.lease("other");
        assert_ne!(job_of(&site.acquired(&lease, config.clone())), spare.job, "{config}");
        site.release_cleanly(&lease);
    }
    assert!(site.spares().iter().any(|left| left.job == spare.job), "{:?}", site.spares());
    let lease = site.lease("patient");
    let answer = site.acquired(&lease, json!({"acquireTimeoutSeconds": 70, "resolveWaitSeconds": 3}));
    site.is_on(&lease, &answer, spare);
    site.release_cleanly(&lease);
    site.drained(&[&spare.seat]);
}

/// A spare's time on top of a lease's is more than the partition allows: refused at once on some sites, queued for ever on others.
/// Who says that less time will do gets spares that have no more than a lease.
pub fn spares_of_the_longest_time(open: Open) {
    let site = Site::with_spares(open, Setup::default(), 1);
    site.configure(json!({"timeLimit": "02:00:00"}));
    let said = site.pool(&["fill"]);
    assert_ne!(said.code, 0, "{}", said.stdout);
    assert!(said.stderr.contains("no further one"), "{}", said.stderr);
    process::until("no spare is left", Duration::from_secs(30), || {
        site.ask("cleanup", json!({})).ok();
        site.spares().is_empty().then_some(())
    });
    site.configure(json!({"spareMinTimeLeft": 600}));
    let [spare] = &site.filled(1)[..] else { panic!("one spare") };
    let lease = site.lease("long");
    let answer = site.acquired(&lease, json!({}));
    site.is_on(&lease, &answer, spare);
    site.release_cleanly(&lease);
    site.drained(&[&spare.seat]);
}

/// One that waits in the queue takes a spare that becomes free, and its own job goes.
pub fn a_spare_for_one_that_waits(open: Open) {
    let site = Site::with_spares(open, Setup::default(), 1);
    site.configure(json!({"partition": "closed"}));
    let lease = site.lease("waits");
    let waiting = site.spawn(site.acquiring(&lease, json!({})));
    let own = site.job_in(&lease, "PENDING");
    let filling = site.background(&format!(
        "{} --state-dir {} --config {} pool fill 1",
        site.program(),
        site.state_dir(),
        site.write("config.json", &site.request("acquire", json!({}))["config"].to_string())
    ));
    let spare = process::until("a spare waits", Duration::from_secs(20), || {
        site.spares().into_iter().find(|spare| spare.status == "PENDING")
    });
    if let Place::Fake(fake) = &site.place {
        fake.control(&["hit", &own, "hold"]).ok();
    }
    site.let_start(&spare.job);
    let reply = site.reply(waiting);
    site.is_on(&lease, reply.lease(), &spare);
    assert!(reply.stderr.contains("a spare has become free"), "{}", reply.stderr);
    process::until("its own job is gone", Duration::from_secs(20), || {
        let live = site.live_jobs(&lease);
        live.is_empty().then_some(())
    });
    filling.end(Duration::from_secs(90));
    site.release_cleanly(&lease);
    site.drained(&[&spare.seat]);
}

/// Whatever moment a caller is killed in: the next acquire goes on, the job is this lease's alone, and no job is left.
pub fn callers_killed_while_they_take_a_spare(open: Open) {
    for pause in [15, 25, 40, 60, 90, 130, 180, 250] {
        let site = Site::with_spares(open, Setup::default(), 1);
        site.filled(1);
        let lease = site.lease("killed");
        let mut running = site.spawn(site.acquiring(&lease, json!({})));
        std::thread::sleep(Duration::from_millis(pause));
        running.kill();
        let answer = site.acquired(&lease, json!({}));
        let job = job_of(&answer);
        let seen = Login::of(&answer).ssh(&site, "echo $SLURM_JOB_ID $CBX_LEASE_ID");
        assert_eq!(seen.line(), format!("{job} {}", lease.id), "killed after {pause} ms");
        site.release(&lease).ok();
        assert_eq!(site.row(&lease), None);
        // One that was killed within sbatch leaves a spare of which nobody knows whether it exists.
        let drained = site.pool(&["drain"]);
        assert!(drained.code == 0 || drained.stderr.contains("sbatch gave no answer"), "{}", drained.stderr);
        let seats = site.shell(&format!("ls {}/shared/seats", site.state_dir())).ok().to_owned();
        for seat in seats.lines().filter(|name| name.starts_with("cbx_")) {
            let seat = Lease::of(seat, "spare");
            process::until("no job is left", Duration::from_secs(30), || {
                site.live_jobs(&seat).is_empty().then_some(())
            });
        }
    }
}

/// What happens to the files of a lease that has taken a spare, as shell lines in its directory.
pub const DAMAGES: &[(&str, &str)] = &[
    ("the_record", ": > record.json"),
    ("the_record_and_the_seats", ": > record.json; rm seat/record.json"),
    ("the_record_and_the_seats_identity", "rm record.json seat/record.json seat/identity.json"),
    ("the_record_and_its_identity", "rm record.json identity.json seat/record.json"),
];

/// A lease on a seat that has lost its record stays listed, and its job is found and ended by a release.
pub fn damaged_leases_on_seats(open: Open, damage: &str) {
    let site = Site::with_spares(open, Setup::default(), 1);
    let [spare] = &site.filled(1)[..] else { panic!("one spare") };
    let lease = site.lease("damaged");
    let answer = site.acquired(&lease, json!({}));
    site.is_on(&lease, &answer, spare);
    site.client(&format!("cd {}/pooled/{} && {damage}", site.state_dir(), lease.id)).ok();
    let row = site.row(&lease).expect("listed");
    let identity = Lease {
        id: lease.id.clone(),
        slug: row["slug"].as_str().unwrap().into(),
        name: row["name"].as_str().unwrap().into(),
    };
    let reply = site.release(&identity);
    if damage.contains("rm record.json identity.json") {
        // Nothing tells which seat it has: its job runs on rather than to be taken for gone.
        site.refusal(&reply, "storage", &lease, None).says(&["spare", "scancel", "forget"]);
        assert_eq!(site.live_jobs(&spare.seat), [format!("{} RUNNING", spare.job)]);
        site.shell(&format!("scancel {}", spare.job)).ok();
    } else {
        reply.ok();
        site.nothing_left(&lease);
        site.nothing_left(&spare.seat);
    }
    site.pool(&["drain"]).ok();
}

/// Cleanups, lists and drains beside acquires and releases with spares: no lease is harmed.
pub fn upkeep_beside_everything_else(open: Open) {
    let site = Site::with_spares(open, Setup::default(), 2);
    site.filled(2);
    let leases: Vec<_> = (0..4).map(|_| site.lease("beside")).collect();
    for lease in &leases {
        let acquiring = site.spawn(site.acquiring(lease, json!({})));
        let others: Vec<_> =
            ["cleanup", "list", "cleanup"].map(|verb| site.spawn(Call::request(&site.request(verb, json!({}))))).into();
        let answer = site.reply(acquiring).lease().clone();
        others.into_iter().for_each(|running| drop(site.reply(running).ok().clone()));
        let seen = Login::of(&answer).ssh(&site, "echo $SLURM_JOB_ID $CBX_LEASE_ID");
        assert_eq!(seen.line(), format!("{} {}", job_of(&answer), lease.id));
    }
    site.pool(&["drain"]).ok();
    for lease in &leases {
        assert_eq!(site.resolve(&lease.id).lease()["status"], "RUNNING", "a drain ends no lease");
    }
    leases.iter().for_each(|lease| site.release_cleanly(lease));
    site.drained(&[]);
}

/// What cannot be filled is refused with the reason.
pub fn pools_that_cannot_be_filled(open: Open) {
    let site = open(Setup::default());
    let refused = |config: Value, words: &[&str]| {
        site.configure(config);
        let said = site.pool(&["fill"]);
        assert_ne!(said.code, 0, "{}", said.stdout);
        words.iter().for_each(|word| assert!(said.stderr.contains(word), "{word}: {}", said.stderr));
    };
    refused(json!({"timeLimit": "00:20:00"}), &["keeps no spares", "spares is 0"]);
    refused(json!({"spares": 1, "timeLimit": null}), &["together with timeLimit"]);
    refused(json!({"timeLimit": "00:20:00", "preamble": "echo $CBX_SLUG"}), &["preamble or launcher uses"]);
    let script = site.write("own.sh", "#!/bin/bash\n# slurm-sandbox runner contract: 1\nexec sleep 60\n");
    refused(json!({"preamble": null, "runnerScript": script}), &["does not say that it understands claims"]);
    refused(json!({"runnerScript": null, "partition": "nowhere"}), &["no further one", "partition"]);
    assert_eq!(site.spares().len(), 0);
    site.configure(json!({"partition": null}));
    let said = site.pool(&["fill", "2"]);
    assert!(said.code != 0 && said.stderr.contains("2 spares are asked for, and spares is 1"), "{}", said.stderr);
    assert!(site.cli(&["pool"]).ok().contains("no further one"), "the failure is told");
}
