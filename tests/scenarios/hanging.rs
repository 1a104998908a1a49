//! File systems of the login host that hang or are slow: every call answers within its bounds, and a release ends the job all
//! the same. From outside the login host's shell meets them. Campus only.

use std::time::Duration;

use serde_json::{Value, json};

use super::campus::Campus;
use super::site::{Lease, Open, Place, Setup, Site, job_of};
use super::wire::Reply;

/// What a client allows a release.
const RELEASE: Duration = Duration::from_secs(30);

/// Waits of the call for Slurm, for its shared dir and for its login host, one after the other, on a busy machine.
const CALL: Duration = Duration::from_secs(75);

/// A directory that waits on the login host, until it is dropped.
struct Waiting<'a>(&'a Campus, &'a str);

impl<'a> Waiting<'a> {
    #[track_caller]
    fn new(campus: &'a Campus, how: &str, place: &'a str, ms: &[&str]) -> Waiting<'a> {
        campus.control("fs", &[&["login", how, place], ms].concat());
        Waiting(campus, place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Without a panic of its own, which would hide the first.
        let _ = self.0.tool("fs").args(["login", "heal", self.1]).output();
    }
}

/// A site with a lease whose shared dir is `place`, and one beside it.
struct Scene {
    site: Site,
    place: String,
    leases: [Lease; 3],
    job: String,
}

impl Scene {
    #[track_caller]
    fn new(open: Open) -> Scene {
        let site = open(Setup::default());
        let place = format!("{}/hung", site.root);
        site.shell(&format!("mkdir -m 700 {place}")).ok();
        let leases = ["used", "other", "new"].map(|word| site.lease(word));
        let job = job_of(&site.acquired(&leases[0], json!({"sharedDir": place})));
        site.acquired(&leases[1], json!({}));
        Scene { site, place, leases, job }
    }

    fn campus(&self) -> &Campus {
        let Place::Campus(campus) = &self.site.place else { panic!("the campus") };
        campus
    }

    #[track_caller]
    fn ask(&self, operation: &str, fields: Value) -> Reply {
        let reply = self.site.ask(operation, fields);
        assert!(reply.took < CALL, "{operation} took {:?}: {}", reply.took, reply.value);
        reply
    }

    /// Each operation while it waits; the release last.
    #[track_caller]
    fn operations(&self) -> Reply {
        let [used, _, new] = &self.leases;
        assert_eq!(self.ask("list", json!({})).rows().len(), 2);
        self.ask("resolve", json!({"id": used.id, "config": {"resolveWaitSeconds": 3}}));
        self.ask("touch", json!({"lease": used.desired(), "state": "running"}));
        self.ask("cleanup", json!({}));
        let config = json!({"sharedDir": self.place, "acquireTimeoutSeconds": 20});
        self.ask("acquire", json!({"desired": new.desired(), "config": config}));
        let release = self.ask("release", json!({"lease": used.desired()}));
        assert!(release.took < RELEASE, "{:?}", release.took);
        release
    }

    /// The file system is well again: everything can be released, and nothing is left.
    #[track_caller]
    fn end(&self) {
        for lease in &self.leases {
            self.site.release(lease).ok();
            assert!(self.site.row(lease).is_none());
            self.site.no_live_job(lease);
        }
        self.site.ask("cleanup", json!({"config": {"sharedDir": self.place}})).ok();
        assert_eq!(self.site.shell(&format!("ls -A {}", self.place)).line(), "format");
    }
}

pub fn a_shared_dir_that_hangs(open: Open) {
    let scene = Scene::new(open);
    let waiting = Waiting::new(scene.campus(), "hang", &scene.place, &[]);
    let release = scene.operations();
    // The job is ended, but the lease is not gone: its permit may still be there.
    assert!(release.value["error"].is_string(), "{}", release.value);
    let state = scene.site.shell(&format!("squeue -h -t all -j {} -o %T", scene.job)).line().to_owned();
    assert!(["CANCELLED", "COMPLETING", "COMPLETED"].contains(&state.as_str()), "its job is {state}");
    assert!(scene.site.row(&scene.leases[0]).is_some());
    drop(waiting);
    scene.end();
}

pub fn a_shared_dir_that_is_slow(open: Open) {
    let scene = Scene::new(open);
    let waiting = Waiting::new(scene.campus(), "slow", &scene.place, &["100"]);
    scene.operations();
    drop(waiting);
    scene.end();
}
