//! What is put into a line that a shell will run: read back through a real one.
//!
//! The template of a proxy command is the site's own and may do what it likes; the values put into it may not.

use std::process::{Command, Stdio};

use proptest::prelude::*;
use serde_json::json;
use slurm_sandbox::config;
use slurm_sandbox::lease::Identity;
use slurm_sandbox::lease::record::{PinnedEndpoint, Record};
use slurm_sandbox::ssh::target;

use crate::check;
use crate::lease::record;
use crate::wire::text;

/// Prints each of its words on a line of its own, and what the two bare words around them became.
const TEMPLATE: &str =
    "printf \"%s\\n\" begin {host} {port} {user} {loginHost} {loginUser} {leaseId} {slug} {name} {jobId} end";

/// Runs a line as ssh runs a proxy command, in a directory of its own with nothing on the path; what it printed.
/// Whatever the line made in the directory is the sign of injected text.
fn through_sh(line: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("/bin/sh")
        .args(["-c", line])
        .current_dir(dir.path())
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{line:?}: {output:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{line:?} made files");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A name that the identity's rules allow, aimed at a shell.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        r#"[$`"'\\;&|<>(){}*?~#! a-z_.-]{1,24}"#,
        Just("$(touch x)".to_owned()),
        Just("`touch x`".to_owned()),
        Just("a;touch x".to_owned()),
        Just("a\u{a0}b>x".to_owned()),
        text(),
    ]
    .prop_filter("allowed as a name", |name| Identity::parse("cbx_4b38f35d4e31", "smoke", name).is_ok())
}

fn with(name: &str, slug: &str, host: &str, port: u16) -> Record {
    let mut record = Record { endpoint: Some(PinnedEndpoint { host: host.to_owned(), port }), ..record() };
    record.identity = Identity::parse("cbx_4b38f35d4e31", slug, name).unwrap();
    record
}

#[test]
fn values_of_a_proxy_command_are_one_word_each() {
    let host = "[a-z0-9][a-z0-9.:-]{0,12}";
    let user = "[a-z_][a-z0-9._-]{0,8}";
    check(
        250,
        (name(), "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", host, "[a-z0-9][a-z0-9.-]{0,12}", 1..=65535u16, user),
        |(name, slug, host, login, port, user)| {
            let map = json!({"proxyCommand": TEMPLATE, "sshUser": user, "loginHost": login, "loginUser": user});
            let settings = config::parse(map.as_object().unwrap()).unwrap();
            let ssh = target::of_lease(&with(&name, &slug, &host, port), &settings).unwrap();
            let told = through_sh(ssh.proxy_command.as_deref().unwrap());
            let safe = told[8].clone();
            let port = port.to_string();
            let expected = ["begin", &host, &port, &user, &login, &user, "cbx_4b38f35d4e31", &slug, &safe, "7", "end"]
                .map(str::to_owned);
            assert_eq!(told, expected);
            assert_eq!(safe.chars().count(), name.chars().count());
            assert!(safe.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{safe}");
        },
    );
}

#[test]
fn whatever_a_site_may_write_as_host_and_user_is_one_word() {
    check(250, (text(), text()), |(host, user)| {
        let map = json!({"sshMode": "proxy-through-login", "loginHost": host, "loginUser": user});
        let Ok(settings) = config::parse(map.as_object().unwrap()) else { return };
        let command = settings.connection.proxy_command(&[].into()).unwrap();
        // ssh itself is not run: a function takes its place.
        let told = through_sh(&format!("ssh() {{ printf \"%s\\n\" \"$@\"; }}; {command}"));
        let target = if user.is_empty() { host } else { format!("{user}@{host}") };
        assert_eq!(
            told[..],
            ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-W", "%h:%p", &target].map(str::to_owned)
        );
    });
}

#[test]
fn what_is_filled_in_is_not_filled_in_again() {
    check(
        200,
        proptest::sample::subsequence(vec!["{host}", "{port}", "{name}", "x", "{", "}", "${HOME}"], 0..7),
        |parts| {
            let template = format!("printf {}", parts.join(" "));
            let map = json!({"proxyCommand": template, "sshUser": "alice"});
            let settings = config::parse(map.as_object().unwrap()).unwrap();
            let ssh = target::of_lease(&with("{port}", "smoke", "n1", 4022), &settings).unwrap();
            let expected = template.replace("{name}", "_port_").replace("{host}", "n1").replace("{port}", "4022");
            assert_eq!(ssh.proxy_command.unwrap(), expected);
        },
    );
}

#[test]
fn the_default_ready_check_is_sound_shell_without_single_quotes() {
    assert!(!config::DEFAULT_READY_CHECK.contains('\''));
    let output = Command::new("/bin/sh").args(["-n", "-c", config::DEFAULT_READY_CHECK]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
}
