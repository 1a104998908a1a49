//! A user's own ssh configuration: a lease is proven whatever it says, and doctor names what the client's ssh will meet.

use serde_json::{Value, json};

use super::site::{Open, Setup, Site};

/// A user whose configuration no other test needs.
const ALONE: Setup = Setup { accounting: false, user: "mallory", alone: true };

/// Lines for the nodes, and the keyword that doctor warns of; nothing where host keys are pinned under what ssh looks up.
const CONFIGURATIONS: &[(&str, Option<&str>)] = &[
    ("HostName 198.51.100.11", None),
    ("HostKeyAlias Nodes", None),
    ("RemoteCommand tmux attach", Some("RemoteCommand")),
    ("SessionType none", Some("SessionType")),
    ("PubkeyAuthentication no", Some("PubkeyAuthentication")),
    ("HostKeyAlgorithms ecdsa-sha2-nistp256,rsa-sha2-512", Some("HostKeyAlgorithms")),
    ("LocalForward 127.0.0.1:22 localhost:80\n ExitOnForwardFailure yes", Some("ExitOnForwardFailure")),
    ("RevokedHostKeys /nonexistent", Some("RevokedHostKeys")),
    ("UseKeychain yes", Some("UseKeychain")),
];

struct Restored<'a>(&'a Site);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        self.0.client("rm -f ~/.ssh/config; mv ~/.ssh/config.before ~/.ssh/config 2>/dev/null; :");
    }
}

pub fn a_users_ssh_configuration(_: Open) {
    let site = Site::campus_apart(ALONE);
    site.client("mkdir -p -m 700 ~/.ssh; mv ~/.ssh/config ~/.ssh/config.before 2>/dev/null; :").ok();
    let _restored = Restored(&site);
    for (lines, keyword) in CONFIGURATIONS {
        site.client(&format!("umask 077; printf '%s\\n' 'Host n1' ' {lines}' >~/.ssh/config")).ok();
        let lease = site.lease("configured");
        site.acquired(&lease, json!({"nodelist": "n1"}));
        site.release_cleanly(&lease);
        let doctor = site.ask("doctor", json!({"config": {"nodelist": "n1"}}));
        let checks = doctor.ok()["checks"].as_array().expect("checks");
        let check = checks.iter().find(|check| check["name"] == "ssh configuration").expect("the check");
        let (status, seen) = (&check["status"], check["seen"].as_str().expect("what was seen"));
        let expected = if keyword.is_some() { "warning" } else { "ok" };
        assert_eq!(*status, Value::from(expected), "{lines}: {seen}");
        // An ssh that does not know the keyword says it in small letters.
        let names = |keyword: &str| seen.to_lowercase().contains(&keyword.to_lowercase());
        assert!(keyword.is_none_or(names), "{lines}: {seen}");
    }
}
