//! A user's own ssh configuration: a lease is proven whatever it says, and doctor names what the client's ssh will meet.

use serde_json::json;

use super::site::{Open, Setup, Site};

/// A user whose configuration no other test needs.
const ALONE: Setup = Setup { accounting: false, user: "mallory", alone: true };

/// Lines for the nodes, and the keyword that doctor warns of; nothing where host keys are pinned under what ssh looks up, or
/// where the client's ssh is not disturbed either.
type Lines<'a> = (&'a str, Option<&'a str>);

pub const CONFIGURATIONS: &[(&str, Lines<'_>)] = &[
    ("host_name", ("HostName 198.51.100.11", None)),
    ("host_name_pattern", ("HostName %h", None)),
    ("host_key_alias", ("HostKeyAlias Nodes", None)),
    (
        "canonicalize",
        ("CanonicalizeHostname always\n CanonicalDomains cluster.example campus\n CanonicalizeFallbackLocal yes", None),
    ),
    ("remote_command", ("RemoteCommand tmux attach\n RequestTTY yes", Some("RemoteCommand"))),
    ("request_tty", ("RequestTTY force", Some("RequestTTY"))),
    ("session_type", ("SessionType none", Some("SessionType"))),
    ("fork_after_authentication", ("ForkAfterAuthentication yes", Some("ForkAfterAuthentication"))),
    ("stdin_null", ("StdinNull yes", Some("StdinNull"))),
    ("pubkey_authentication", ("PubkeyAuthentication no", Some("PubkeyAuthentication"))),
    ("host_key_algorithms", ("HostKeyAlgorithms ecdsa-sha2-nistp256,rsa-sha2-512", Some("HostKeyAlgorithms"))),
    (
        "local_forward",
        ("LocalForward 127.0.0.1:22 localhost:80\n ExitOnForwardFailure yes", Some("ExitOnForwardFailure")),
    ),
    ("known_hosts_command", ("KnownHostsCommand /bin/false", Some("KnownHostsCommand"))),
    ("revoked_host_keys", ("RevokedHostKeys /nonexistent", Some("RevokedHostKeys"))),
    ("unknown_keyword", ("UseKeychain yes", Some("UseKeychain"))),
];

struct Restored<'a>(&'a Site);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        self.0.client("rm -f ~/.ssh/config; mv ~/.ssh/config.before ~/.ssh/config 2>/dev/null; :");
    }
}

/// Puts lines for the nodes into the user's file, until the value goes.
fn configured<'a>(site: &'a Site, lines: &str) -> Restored<'a> {
    site.client("mkdir -p -m 700 ~/.ssh; mv ~/.ssh/config ~/.ssh/config.before 2>/dev/null; :").ok();
    let restored = Restored(site);
    site.client(&format!("umask 077; printf '%s\\n' 'Host n1' ' {lines}' >~/.ssh/config")).ok();
    restored
}

fn seen_by_doctor(site: &Site) -> (String, String) {
    let doctor = site.ask("doctor", json!({"config": {"nodelist": "n1"}}));
    let checks = doctor.value["checks"].as_array().unwrap_or_else(|| panic!("no checks in {}", doctor.value));
    let check = checks.iter().find(|check| check["name"] == "ssh configuration").expect("the check");
    let text = |name: &str| check[name].as_str().expect("a text").to_owned();
    (text("status"), text("seen"))
}

pub fn a_users_ssh_configuration(_: Open, (lines, keyword): Lines<'_>) {
    let site = Site::campus_apart(ALONE);
    let _restored = configured(&site, lines);
    let lease = site.lease("configured");
    site.acquired(&lease, json!({"nodelist": "n1"}));
    site.release_cleanly(&lease);
    let (status, seen) = seen_by_doctor(&site);
    assert_eq!(status, if keyword.is_some() { "warning" } else { "ok" }, "{seen}");
    // An ssh that does not know the keyword says it in small letters.
    assert!(keyword.is_none_or(|keyword| seen.to_lowercase().contains(&keyword.to_lowercase())), "{seen}");
}

/// A file that no ssh reads: acquire says so, and leaves nothing; doctor is red.
pub fn a_file_that_ssh_refuses(_: Open) {
    let site = Site::campus_apart(ALONE);
    let _restored = configured(&site, "ConnectTimeout soon");
    let lease = site.lease("refused");
    let reply = site.acquire(&lease, json!({"nodelist": "n1", "acquireTimeoutSeconds": 20}));
    reply.error().says(&[&lease.id, "~/.ssh/config"]);
    site.nothing_left(&lease);
    site.ask("doctor", json!({"config": {"nodelist": "n1"}}))
        .refused("doctor-red")
        .says(&["ssh configuration", "~/.ssh/config"]);
}
