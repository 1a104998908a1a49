//! cleanup: ends what is provably ours and was never handed out, and nothing else; a dry run only says so.

use serde_json::json;

use crate::scenarios::site::{Lease, Place, Setup, Site, hex, job_of, now};

#[test]
fn orphans_are_ended_and_others_are_not() {
    let site = Site::fake(Setup::default());
    let Place::Fake(fake) = &site.place else { panic!("the fake") };
    let live = site.lease("live");
    let job = job_of(&site.acquired(&live, json!({})));
    let instance = site.shell(&format!("cat {}/instance", site.state_dir())).line().to_owned();
    let uid = nix::unistd::getuid();
    let inject = |lease: &Lease, instance: &str, user: &str, name: &str, age: i64, marker: &str| {
        let nonce = hex(8);
        let attempt = format!("{}/{nonce}", site.shared_dir(lease));
        site.shell(&format!("mkdir -m 700 -p {attempt}")).ok();
        if !marker.is_empty() {
            site.shell(&format!("touch {attempt}/{marker}")).ok();
        }
        let comment = format!("comment=cbx:{}:{nonce}:{instance}", lease.id);
        let submit = format!("submit={}", now() as i64 - age);
        let words =
            [&format!("user={user}"), &comment, &submit, &format!("name={name}"), &format!("workdir={attempt}")];
        fake.control(&[&["inject"][..], &words.map(String::as_str)].concat()).line().to_owned()
    };
    let new = || Lease::new("orphan");
    let me = format!("me:{uid}");
    let orphan = new();
    let ours = inject(&orphan, &instance, &me, &orphan.job_name(), 4000, "");
    let handed = new();
    let spared = [
        ("of another state dir", inject(&new(), "00000000", &me, &new().job_name(), 4000, "")),
        ("handed out", inject(&handed, &instance, &me, &handed.job_name(), 4000, "answered")),
        ("of another user", {
            let lease = new();
            inject(&lease, &instance, "mallory:4242", &lease.job_name(), 4000, "")
        }),
        ("with another name", inject(&new(), &instance, &me, "cbx-0123456789ab", 4000, "")),
        ("a live lease's", job),
    ];
    let state = |job: &str| site.shell(&format!("squeue -h -t all -j {job} -o %T")).line().to_owned();

    let first = site.ask("cleanup", json!({}));
    assert!(first.ok()["message"].as_str().unwrap().contains(&format!("left job {ours}")), "{}", first.value);
    assert_eq!(state(&ours), "RUNNING", "the first sight ends nothing");
    // Two minutes later, by this host's own clock.
    let sights = format!("{}/cache/orphans.json", site.state_dir());
    site.shell(&format!("sed -i 's/\"uptime\":[0-9]*/\"uptime\":-1000/g' {sights}")).ok();
    // While the shared dir is away nobody knows what was handed out.
    let shared = format!("{}/shared", site.state_dir());
    site.shell(&format!("mv {shared} {shared}.away")).ok();
    let blind = site.ask("cleanup", json!({}));
    site.shell(&format!("mv {shared}.away {shared}")).ok();
    let message = blind.ok()["message"].as_str().unwrap();
    assert!(message.contains(&format!("left job {ours}")) && message.contains("cannot be seen now"), "{message}");
    let fresh = new();
    let fresh = inject(&fresh, &instance, &me, &fresh.job_name(), 4000, "");
    let dry = site.ask("cleanup", json!({"dryRun": true}));
    let message = dry.ok()["message"].as_str().unwrap();
    assert!(message.contains(&orphan.id) && message.contains(&format!("job {ours}")), "{message}");
    assert_eq!(state(&ours), "RUNNING", "a dry run ends nothing");
    let message = site.ask("cleanup", json!({})).ok()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&format!("job {ours}")), "{message}");
    assert_ne!(state(&ours), "RUNNING", "{message}");
    for (what, job) in spared.into_iter().chain([("seen only now", fresh)]) {
        assert_eq!(state(&job), "RUNNING", "{what}: {message}");
    }
    assert_eq!(site.resolve(&live.id).lease()["status"], "RUNNING");
    site.release_cleanly(&live);
}

/// A lease whose job has ended goes at the next cleanup; a dry run names it.
#[test]
fn leases_whose_jobs_have_ended_are_removed() {
    let site = Site::fake(Setup::default());
    let [dead, live] = [site.lease("dead"), site.lease("live")];
    let job = job_of(&site.acquired(&dead, json!({})));
    site.acquired(&live, json!({}));
    site.shell(&format!("scancel {job}")).ok();
    site.no_live_job(&dead);
    let dry = site.ask("cleanup", json!({"dryRun": true}));
    assert!(dry.ok()["message"].as_str().unwrap().contains(&dead.id), "{}", dry.value);
    assert!(site.row(&dead).is_some());
    site.ask("cleanup", json!({})).ok();
    assert!(site.row(&dead).is_none() && site.row(&live).is_some());
    site.nothing_left(&dead);
    site.release_cleanly(&live);
}

/// A work directory that was too much for the time of a release, in a work root that no configuration names any more.
#[test]
fn work_directories_that_a_release_had_to_leave() {
    let site = Site::fake(Setup::default());
    let lease = site.lease("large");
    let root = format!("{}/another", site.root);
    site.acquired(&lease, json!({"runnerWorkRoot": root}));
    site.release(&lease).ok();
    // As its runner moves it aside, with the mark of whose it is.
    let aside = format!("{root}/.{}.{}", lease.id, hex(8));
    site.shell(&format!("mkdir -p {aside}/a/b && touch {aside}/a/b/c")).ok();
    site.ask("cleanup", json!({})).ok();
    assert_eq!(site.shell(&format!("ls -A {root}")).ok(), "");
}
