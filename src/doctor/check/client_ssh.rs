//! What the client's ssh will meet in the user's configuration. Our own ssh is kept from most of it (`ssh/lease.rs`); the client's is
//! not, so each line that keeps it from its work is named.

use crate::doctor::check::CheckId;
use crate::doctor::finding::{Category, Finding, cut, tail};
use crate::doctor::run::Clock;
use crate::host::{End, Output};
use crate::ssh::effective::{self, Effective, Unknown};

/// A port like those that leases get; a configuration may speak of port 22 apart.
const PORT: u16 = 4022;

/// Asks ssh what it makes of a node. `node` is `None` where none is known.
pub fn check(clock: Clock, user: Option<&str>, node: Option<&str>, own_key: bool) -> Vec<Finding> {
    let host = node.unwrap_or("node");
    let ask = |unknown| effective::ask(unknown, user, host, PORT, clock.left());
    match ask(Unknown::Refused) {
        Ok(output) if output.success() => classify(&Effective::of(&output), host, own_key),
        Ok(output) if output.end == End::DeadlinePassed => {
            let remedy = "`ssh -G node` hangs: its configuration runs a command, or its name service hangs";
            vec![Finding::warning(CheckId::SshConfiguration, format!("ssh -G {host}: {}", output.said()), remedy)]
        }
        Ok(output) => {
            vec![refused(&output, ask(Unknown::Ignored).is_ok_and(|output| output.success()))]
        }
        // That it is missing is the finding of another check.
        Err(error) => {
            vec![Finding::warning(CheckId::SshConfiguration, format!("ssh could not be started: {error}"), "")]
        }
    }
}

/// A configuration that ssh refuses. What this program's own ssh can pass over still keeps the client's from its work.
fn refused(output: &Output, ours_works: bool) -> Finding {
    let seen = format!("ssh itself fails here: {}", tail(&output.said(), 300));
    let remedy = "correct ~/.ssh/config (or /etc/ssh/ssh_config): `ssh -G node` says the same";
    if ours_works {
        Finding::warning(CheckId::SshConfiguration, format!("{seen}; the client's ssh will fail"), remedy)
    } else {
        Finding::red(CheckId::SshConfiguration, Category::Config, seen, remedy)
    }
}

/// Keys with values that keep every command of the client from its work: keyword, whether a value does, the keyword as people write
/// it, what comes of it, and the value that helps.
type Trouble = (&'static str, fn(&str) -> bool, &'static str, &'static str, &'static str);

const TROUBLES: &[Trouble] = &[
    ("remotecommand", |value| value != "none", "RemoteCommand", "ssh refuses every other command", "none"),
    ("sessiontype", |value| value != "default", "SessionType", "ssh runs no command", "default"),
    (
        "forkafterauthentication",
        |value| value == "yes",
        "ForkAfterAuthentication",
        "ssh leaves for the background",
        "no",
    ),
    ("stdinnull", |value| value == "yes", "StdinNull", "transfers have no input", "no"),
    ("requesttty", |value| matches!(value, "force" | "yes"), "RequestTTY", "a terminal garbles transfers", "auto"),
    (
        "pubkeyauthentication",
        |value| matches!(value, "no" | "false"),
        "PubkeyAuthentication",
        "leases are entered by key alone",
        "yes",
    ),
    (
        "hostkeyalgorithms",
        |value| leaves_out(value, "ssh-ed25519"),
        "HostKeyAlgorithms",
        "leases have a host key of type ssh-ed25519, where the node makes such keys",
        "+ssh-ed25519",
    ),
    (
        "knownhostscommand",
        |value| value != "none",
        "KnownHostsCommand",
        "a command that fails or tells other keys ends each login",
        "none",
    ),
    (
        "revokedhostkeys",
        |value| value != "none",
        "RevokedHostKeys",
        "a file that cannot be read ends each login",
        "none",
    ),
];

/// Whether a list of algorithms is without one; an old ssh prints additions to its own list as they stand in the file.
fn leaves_out(list: &str, algorithm: &str) -> bool {
    !list.starts_with(['+', '^']) && !list.split(',').any(|name| name == algorithm)
}

const FORWARDS: &[(&str, &str)] =
    &[("localforward", "LocalForward"), ("remoteforward", "RemoteForward"), ("dynamicforward", "DynamicForward")];

fn classify(effective: &Effective, host: &str, own_key: bool) -> Vec<Finding> {
    let warn = |key: &str, value: &str, what: &str, good: &str| {
        let seen = format!("{key} is {} for {host}: {what}", cut(value, 120));
        let remedy =
            format!("in ~/.ssh/config, above what sets it, for the nodes' names: `Host …` with `{key} {good}`");
        Finding::warning(CheckId::SshConfiguration, seen, remedy)
    };
    let mut findings = Vec::new();
    for (keyword, keeps, key, what, good) in TROUBLES {
        if let Some(value) = effective.get(keyword).filter(|value| keeps(value)) {
            findings.push(warn(key, value, what, good));
        }
    }
    // The old name of the keyword, before 8.5.
    let accepted = effective.get("pubkeyacceptedalgorithms").or_else(|| effective.get("pubkeyacceptedkeytypes"));
    if let Some(value) = accepted.filter(|value| !own_key && leaves_out(value, "ssh-ed25519")) {
        let what = "leases are entered with a key of type ssh-ed25519, where this host makes such keys";
        findings.push(warn("PubkeyAcceptedAlgorithms", value, what, "+ssh-ed25519"));
    }
    if effective.get("exitonforwardfailure") == Some("yes") {
        let forwards = FORWARDS.iter().filter_map(|(keyword, key)| Some((key, effective.get(keyword)?)));
        for (key, value) in forwards {
            let what = "with ExitOnForwardFailure, ssh ends where the port is taken, as by the session before";
            findings.push(warn("ExitOnForwardFailure", &format!("yes, beside {key} {value},"), what, "no"));
        }
    }
    if findings.is_empty() {
        let hostname = effective.hostname().filter(|name| *name != host);
        let alias = effective.alias();
        let mut seen = "nothing in it keeps the client's ssh from its work".to_owned();
        seen.extend(hostname.map(|name| format!("; {host} becomes {name}")));
        seen.extend(alias.map(|alias| format!("; host keys of {host} are looked up as {alias}")));
        findings.push(Finding::ok(CheckId::SshConfiguration, seen));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::CheckStatus::{Ok as Green, Red, Warning};
    use rstest::rstest;

    const PLAIN: &str = "hostname n1\nremotecommand none\nsessiontype default\nforkafterauthentication no\nstdinnull no\nrequesttty auto\n\
        pubkeyauthentication true\nhostkeyalgorithms ssh-ed25519,rsa-sha2-512\nexitonforwardfailure no\nlocalforward 8080 [localhost]:80\n";

    #[rstest]
    #[case("", &[])]
    #[case("remotecommand tmux attach\n", &["RemoteCommand is tmux attach for n1"])]
    #[case("sessiontype none\n", &["SessionType is none"])]
    #[case("forkafterauthentication yes\nstdinnull yes\n", &["ForkAfterAuthentication is yes", "StdinNull is yes"])]
    #[case("requesttty force\n", &["RequestTTY is force"])]
    #[case("pubkeyauthentication false\n", &["PubkeyAuthentication is false"])]
    #[case("pubkeyauthentication unbound\n", &[])]
    #[case("hostkeyalgorithms ecdsa-sha2-nistp256,rsa-sha2-512\n", &["HostKeyAlgorithms is ecdsa"])]
    #[case("knownhostscommand /bin/false\n", &["KnownHostsCommand is /bin/false"])]
    #[case("pubkeyacceptedkeytypes rsa-sha2-512\n", &["PubkeyAcceptedAlgorithms is rsa"])]
    #[case("pubkeyacceptedkeytypes +ssh-rsa\n", &[])]
    #[case("hostkeyalgorithms ^rsa-sha2-512\n", &[])]
    #[case("exitonforwardfailure yes\n", &["ExitOnForwardFailure is yes, beside LocalForward 8080"])]
    #[case("hostname n1.cluster\nhostkeyalias nodes\n", &[])]
    fn lines_that_keep_the_client_from_its_work(#[case] text: &str, #[case] expected: &[&str]) {
        // The first line of a keyword counts.
        let findings = classify(&Effective::parse(&format!("{text}{PLAIN}")), "n1", false);
        let found: Vec<_> = findings.iter().filter(|finding| finding.is(Warning)).map(|f| &f.seen).collect();
        assert_eq!(found.len(), expected.len(), "{findings:?}");
        assert!(found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{found:?}");
    }

    #[test]
    fn what_becomes_of_a_name_is_told() {
        let text = format!("hostname n1.cluster\nhostkeyalias nodes\n{PLAIN}");
        let findings = classify(&Effective::parse(&text), "n1", false);
        assert!(
            findings[0].is(Green)
                && findings[0].seen.ends_with("n1 becomes n1.cluster; host keys of n1 are looked up as nodes")
        );
    }

    #[test]
    fn a_configuration_that_ssh_refuses() {
        let stderr = "/h/.ssh/config: line 1: Bad configuration option: usekeychain\n".into();
        let output = Output { end: End::Exit(255), stdout: vec![], stderr, took: Duration::ZERO };
        assert!(refused(&output, true).is(Warning));
        let red = refused(&output, false);
        assert!(red.is(Red) && red.seen.contains("usekeychain"), "{red:?}");
    }
}
