//! A lease that a login has proven a short time ago is handed out again without one, and only then.

use std::time::Duration;

use serde_json::{Value, json};

use super::process;
use super::session::Login;
use super::site::{Lease, Open, Setup, Site};

/// Logins that a lease's sshd has taken.
fn logins(site: &Site, lease: &Lease) -> usize {
    let script = format!("grep -rh 'Accepted publickey' {} --include sshd.log | wc -l", site.shared_dir(lease));
    site.shell(&script).line().parse().expect("a number")
}

fn resolved(site: &Site, lease: &Lease, config: Value) -> Value {
    site.ask("resolve", json!({"id": lease.id, "config": config})).lease().clone()
}

/// While all is as it was proven, the client's own login is the only one. What a login alone can tell costs one again.
pub fn a_login_that_need_not_be_repeated(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("proven");
    let handed = site.acquired(&lease, json!({}));
    assert_eq!(logins(&site, &lease), 1);
    // Through a proxy nothing but a login gets there.
    let proxied = usize::from(site.is_outside());
    let mut expected = 1;
    for _ in 0..2 {
        assert_eq!(resolved(&site, &lease, json!({}))["ssh"], handed["ssh"]);
        expected += proxied;
        assert_eq!(logins(&site, &lease), expected, "it was proven just now");
    }
    let other = json!({"readyCheck": "test -d /"});
    for again in [1, proxied] {
        resolved(&site, &lease, other.clone());
        expected += again;
        assert_eq!(logins(&site, &lease), expected, "another ready check, then the same");
    }
    let proof = format!("{}/proof.json", site.record_dir(&lease));
    site.client(&format!("sed -i 's/\"uptime\":[0-9]*/\"uptime\":1/' {proof}")).ok();
    resolved(&site, &lease, other.clone());
    assert_eq!(logins(&site, &lease), expected + 1, "the proof is old");
    site.client(&format!("echo '{{' >{proof}")).ok();
    resolved(&site, &lease, other);
    assert_eq!(logins(&site, &lease), expected + 2, "the proof cannot be read");
    site.release_cleanly(&lease);
}

/// Slurm shows the job as before, but its sshd stands still: no lease is handed out for what once was.
pub fn an_sshd_that_stands_still(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("still");
    let handed = site.acquired(&lease, json!({}));
    let freeze = format!("kill -STOP $(pgrep -f -- '[-]p {} -E')", Login::of(&handed).port);
    Login::of(&handed).ssh(&site, &freeze).ok();
    let reply = site.ask("resolve", json!({"id": lease.id, "config": {"resolveWaitSeconds": 1}}));
    site.refusal(&reply, "endpoint-unusable", &lease, None);
    assert!(reply.took < process::limit(20), "{:?}", reply.took);
    // A process that stands still is ended by its job's KILL alone.
    process::until("it is released", Duration::from_secs(90), || {
        site.release(&lease).value.get("code").is_none().then_some(())
    });
    process::until("the job ends", Duration::from_secs(60), || site.live_jobs(&lease).is_empty().then_some(()));
}
