//! onLost: the user's own command for a lease whose job has ended without a release.

use std::time::Duration;

use serde_json::{Value, json};

use crate::scenarios::process::{self, Output};
use crate::scenarios::site::{Call, Lease, Setup, Site, job_of};
use crate::scenarios::wire::Reply;

/// A site whose user has a config file with onLost.
struct Watched(Site);

impl Watched {
    /// The command writes what it is told, and fails while there is a file `fail`.
    fn new() -> Watched {
        let site = Site::fake(Setup::default());
        let root = &site.root;
        let script = format!(
            "#!/bin/bash\necho \"$1 $CBX_LEASE_ID $CBX_SLUG $CBX_ENDED_STATE $(wc -c)\" >>{root}/told\n\
             echo said this >&2\n[[ ! -e {root}/fail ]]\n"
        );
        let script = site.write("hook.sh", &script);
        let file = format!("onLost = [\"{script}\", \"lost\"]\n");
        site.shell(&format!("chmod 755 {script}; mkdir -p -m 755 {root}/conf {root}/conf/slurm-sandbox")).ok();
        site.shell(&format!("printf '%s' '{file}' >{root}/conf/slurm-sandbox/config.toml; chmod 644 {root}/conf/slurm-sandbox/config.toml")).ok();
        Watched(site)
    }

    fn run(&self, call: Call) -> Output {
        self.0.run(call.env("XDG_CONFIG_HOME", &format!("{}/conf", self.0.root)))
    }

    #[track_caller]
    fn ask(&self, operation: &str, fields: Value) -> Reply {
        Reply::read(&self.run(Call::request(&self.0.request(operation, fields))))
    }

    /// What the command was told, a line each time.
    fn told(&self) -> Vec<String> {
        let told = self.0.shell(&format!("cat {}/told 2>/dev/null; true", self.0.root));
        told.ok().lines().map(str::to_owned).collect()
    }

    fn fails(&self, fails: bool) {
        let act = if fails { "touch" } else { "rm -f" };
        self.0.shell(&format!("{act} {}/fail", self.0.root)).ok();
    }

    /// A lease that was handed out and whose job has failed since, and what the command is to be told of it.
    fn lost(&self, slug: &str) -> (Lease, String) {
        let lease = self.0.lease(slug);
        let handed = self.0.acquired(&lease, json!({}));
        self.0.shell(&format!("fake-slurm hit {} node-fail", job_of(&handed))).ok();
        // A call without that file sees the end, and calls share Slurm's answers for two seconds.
        process::until("the end", Duration::from_secs(20), || {
            self.0.row(&lease).filter(|row| row["status"] == "NODE_FAIL")
        });
        let line = format!("lost {} {} NODE_FAIL 0", lease.id, lease.slug);
        (lease, line)
    }
}

#[test]
fn a_lost_lease_is_told_once() {
    let site = Watched::new();
    let (lease, line) = site.lost("once");
    assert_eq!(site.told(), Vec::<String>::new());
    for _ in 0..2 {
        assert_eq!(site.ask("list", json!({})).rows().len(), 1);
        assert_eq!(site.told(), std::slice::from_ref(&line));
    }
    site.ask("resolve", json!({"id": lease.id})).refused("job-ended");
    site.ask("acquire", json!({"desired": lease.desired()})).refused("job-ended");
    let logs = site.run(Call::raw("").args(&["logs", &lease.id]));
    assert!(logs.ok().contains("onLost succeeded") && logs.stdout.contains("said this"), "{}", logs.stdout);
    site.ask("cleanup", json!({})).ok();
    assert_eq!(site.told(), [line]);
    assert_eq!(site.ask("list", json!({})).rows().len(), 0);
}

#[test]
fn it_is_told_until_the_command_has_succeeded() {
    let site = Watched::new();
    let (lease, line) = site.lost("again");
    site.fails(true);
    let list = site.ask("list", json!({}));
    assert!(list.stderr.contains("onLost failed") && list.stderr.contains("said this"), "{}", list.stderr);
    site.ask("resolve", json!({"id": lease.id})).refused("job-ended");
    let cleanup = site.ask("cleanup", json!({}));
    assert!(cleanup.ok()["message"].as_str().unwrap().contains("left "), "{}", cleanup.value);
    assert_eq!(site.told().len(), 3);
    site.ask("cleanup", json!({"dryRun": true})).ok();
    assert_eq!(site.told().len(), 3, "a dry run runs nothing");
    site.fails(false);
    site.ask("cleanup", json!({})).ok();
    assert_eq!(site.told(), vec![line; 4]);
    assert_eq!(site.ask("list", json!({})).rows().len(), 0);
}

#[test]
fn what_its_user_ends_is_not_lost() {
    let site = Watched::new();
    let lease = site.0.lease("ended");
    site.ask("acquire", json!({"desired": lease.desired()})).lease();
    site.ask("list", json!({})).ok();
    site.ask("release", json!({"lease": lease.desired()})).ok();
    site.ask("list", json!({})).ok();
    assert_eq!(site.told(), Vec::<String>::new());
}

/// release tells what is on record, and is not held up by a command that fails.
#[test]
fn a_release_takes_a_lost_lease_along() {
    let site = Watched::new();
    let (lease, line) = site.lost("along");
    site.fails(true);
    site.ask("list", json!({})).ok();
    site.ask("release", json!({"lease": lease.desired()})).ok();
    assert_eq!(site.told(), vec![line; 2]);
    assert_eq!(site.ask("list", json!({})).rows().len(), 0);
}

#[test]
fn a_command_that_hangs_holds_nobody_up_for_long() {
    let site = Watched::new();
    let script = site.0.write("hook.sh", "#!/bin/bash\nsleep 60\n");
    site.0.shell(&format!("chmod 755 {script}")).ok();
    let (_first, _) = site.lost("hang-a");
    let (_second, _) = site.lost("hang-b");
    let list = site.ask("list", json!({}));
    assert_eq!(list.rows().len(), 2);
    assert!(list.took.as_secs() < 30, "{:?}", list.took);
}

/// Only the user's own file can name it.
#[test]
fn nobody_else_names_a_command() {
    let site = Watched::new();
    let lease = site.0.lease("other");
    let config = json!({"onLost": ["touch", "/tmp/x"]});
    site.ask("acquire", json!({"desired": lease.desired(), "config": config})).refused("bad-config").says(&["onLost"]);
    let named = site.0.write("named.toml", "onLost = [\"touch\", \"/tmp/x\"]\n");
    let acquire = site.run(Call::raw("").args(&["--config", &named, "acquire"]));
    assert_eq!(acquire.code, 2, "{acquire:?}");
    assert!(acquire.stderr.contains("onLost"), "{}", acquire.stderr);
}
