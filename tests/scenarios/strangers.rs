//! What others on the client's machine do to the one connection, and what the user's own ssh configuration makes of its name.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::process;
use super::session::Login;
use super::site::{CONNECTIONS, Open, Setup, Site};

const ALONE: Setup = Setup { accounting: false, user: "mallory", alone: true };

/// Undoes what a scenario has done, however it ends.
struct Undone(Command);

impl Drop for Undone {
    fn drop(&mut self) {
        let _ = self.0.output();
    }
}

impl Site {
    #[track_caller]
    fn as_user(&self, host: &str, user: &str, script: &str) {
        process::run(self.on_campus().shell(host, user, &[], script), Vec::new(), Duration::from_secs(20)).ok();
    }
}

/// Another user of the client's machine has the directory for sockets, or leads it elsewhere: all calls, and the client's ssh,
/// meet at another place.
pub fn a_place_for_sockets_that_is_taken(_: Open) {
    let site = Site::laptop_apart(ALONE);
    let place = site.client(&format!("echo {CONNECTIONS}")).line().to_owned();
    let undone = Undone(site.on_campus().shell("laptop", "root", &[], &format!("rm -rf {place}")));
    let before = site.logins();
    for taking in [format!("mkdir -m 777 {place}"), format!("ln -s {} {place}", site.root)] {
        site.as_user("laptop", "root", &format!("rm -rf {place}"));
        site.as_user("laptop", "bob", &taking);
        let lease = site.lease("taken");
        let handed = site.acquired(&lease, json!({}));
        assert_eq!(Login::of(&handed).ssh(&site, "echo in").line(), "in");
        assert_eq!(site.row(&lease).expect("listed")["labels"]["state"], "ready");
        site.release_cleanly(&lease);
    }
    assert_eq!(site.logins() - before, 1);

    // The other place is taken too: the way out that is told is one.
    site.client("cd ~/.ssh; for s in slurm-sandbox/*; do [ ! -S $s ] || ssh -O exit -S $s x; done 2>/dev/null; rm -r slurm-sandbox; touch slurm-sandbox").ok();
    let lease = site.lease("nowhere");
    let refused = site.acquire(&lease, json!({}));
    site.refusal(&refused, "storage", &lease, None).says(&["controlPath", &place, "/.ssh/slurm-sandbox"]);
    let own = site.client(&format!("mkdir -m 700 {0}/own; echo {0}/own/m", site.root)).line().to_owned();
    site.configure(json!({"controlPath": own}));
    let handed = site.acquired(&lease, json!({}));
    assert_eq!(Login::of(&handed).ssh(&site, "echo in").line(), "in");
    site.release_cleanly(&lease);
    assert_eq!(site.logins() - before, 2);
    site.client(&format!("ssh -O exit -S {own} x 2>/dev/null")).ok();
    drop(undone);
}

/// The account behind the name of the login host changes while a lease lives, and back. A denial to the other account proves
/// nothing, and the connection of the first is not used for it.
pub fn a_name_that_leads_to_another_account(_: Open) {
    let site = Site::laptop_apart(ALONE);
    let key = site.client("cat .ssh/*.pub").ok().to_owned();
    let lets_in = "cp -a .ssh/authorized_keys .ssh/before; cat >>.ssh/authorized_keys";
    process::run(site.on_campus().shell("login", "bob", &[], lets_in), key.into(), Duration::from_secs(20)).ok();
    let keeps_out = "mv ~bob/.ssh/before ~bob/.ssh/authorized_keys";
    let kept_out = Undone(site.on_campus().shell("login", "root", &[], keeps_out));
    site.on_campus().control("reconf", &["PrivateData=jobs"]);
    let mut reconf = site.on_campus().tool("reconf");
    reconf.arg("PrivateData=");
    let shown = Undone(reconf);
    let leads_to = |user: &str| {
        let text = format!("Host cluster\n  HostName login\n  HostKeyAlias login\n  User {user}\n");
        site.write("ssh_config", &text)
    };
    site.configure(json!({"submitHost": "cluster", "sshConfig": leads_to("mallory")}));
    let lease = site.lease("first");
    let handed = site.acquired(&lease, json!({}));
    let job = site.live_jobs(&lease);
    leads_to("bob");
    for pause in [11, 0] {
        let row = site.row(&lease).expect("listed");
        assert_eq!((&row["cloudId"], &row["labels"]["state"]), (&handed["cloudId"], &json!("unknown")));
        // Two denials that far apart would be an end.
        std::thread::sleep(Duration::from_secs(pause));
    }
    site.ask("cleanup", json!({})).ok();
    assert!(site.row(&lease).is_some());
    assert_eq!(site.live_jobs(&lease), job);
    leads_to("mallory");
    assert_eq!(site.resolve(&lease.id).lease()["ssh"], handed["ssh"]);
    site.release_cleanly(&lease);
    drop((kept_out, shown));
}
