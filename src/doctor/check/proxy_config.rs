//! Whether the keys that say how a client connects fit together.
//!
//! What a single key may hold is checked with the config; here is what is valid by itself and still does not do what
//! its writer meant. Nothing here runs anything.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::config::proxy::{Connection, Route};
use crate::config::value::given;
use crate::config::{EndpointHost, Settings};
use crate::doctor::check::CheckId;
use crate::doctor::finding::{Category, Finding};

/// Looks at `sshMode`, `loginHost`, `loginUser` and `proxyCommand` together. `program_path` is where this program lies, which may be
/// part of the proxy command.
pub fn check(config: &Map<String, Value>, settings: &Settings, program_path: Option<&Path>) -> Vec<Finding> {
    let set = |key: &str| given(config, key).is_some();
    let warn = |seen: &str, remedy: &str| Finding::warning(CheckId::Connection, seen, remedy);
    let mut findings = Vec::new();
    let (template, login_host, login_user) = match &settings.connection {
        Connection::Direct | Connection::Connect(_) => ("", "", ""),
        Connection::Proxy { template, login_host, login_user } => {
            (template.as_str(), login_host.as_str(), login_user.as_str())
        }
    };
    let direct = settings.connection == Connection::Direct;
    if direct && set("loginHost") {
        findings.push(warn(
            "loginHost is set, but the connection is direct: it is not used",
            "set sshMode to proxy-through-login, or remove loginHost",
        ));
    }
    let stdio = settings.connection == Connection::Connect(Route::Stdio);
    if stdio && set("loginHost") {
        findings.push(warn(
            "loginHost is set, but sshMode is stdio, which goes through srun: it is not used",
            "remove loginHost, or set sshMode to proxy-through-login",
        ));
    }
    if set("loginUser") && !set("loginHost") {
        findings.push(warn(
            "loginUser is set without loginHost: it is not used",
            "set loginHost and sshMode proxy-through-login, or remove loginUser",
        ));
    }
    if set("proxyCommand") {
        if config.get("sshMode").is_some_and(|mode| mode == "direct") {
            findings.push(warn("sshMode is direct, yet proxyCommand is set and used", "remove one of the two"));
        }
        for (key, value) in [("loginHost", login_host), ("loginUser", login_user)] {
            if !value.is_empty() && !settings.connection.uses(key) {
                findings.push(warn(
                    &format!("{key} is set, but proxyCommand has no {{{key}}}: it is not used"),
                    &format!("put {{{key}}} into proxyCommand, or remove {key}"),
                ));
            }
        }
        if !settings.connection.uses("host") && !template.contains("%h") {
            findings.push(warn(
                "proxyCommand names no node: neither {host} nor %h is in it",
                "put %h and %p (or {host} and {port}) into proxyCommand",
            ));
        } else if !settings.connection.uses("port") && !template.contains("%p") {
            findings.push(warn(
                "proxyCommand names no port: neither {port} nor %p is in it, and each lease has its own",
                "put %p or {port} into proxyCommand",
            ));
        }
    }
    let example = settings.connection.proxy_command(&example(settings));
    if let Some(program) = example.as_deref().and_then(program)
        && crate::host::on_path(program).is_none()
    {
        let seen = format!("proxyCommand runs {program}, which is not found in $PATH of this host");
        let remedy = "install it, name its whole path in proxyCommand, or put it on the PATH of whatever starts this program and the client";
        findings.push(Finding::red(CheckId::Connection, Category::Tool, seen, remedy));
    }
    if let (Connection::Connect(_), Some(path)) = (&settings.connection, program_path)
        && !path.to_str().is_some_and(crate::config::value::is_safe_path)
    {
        let seen = format!("this program is {}, and that cannot stand in the proxy command of clients", path.display());
        let remedy = "put the program at a path of letters, digits and ._/@+,:=- only";
        findings.push(Finding::red(CheckId::Connection, Category::Config, seen, remedy));
    }
    findings.push(match (&settings.connection, example) {
        (Connection::Connect(Route::Stdio), _) => Finding::ok(
            CheckId::Connection,
            "stdio: each session is a step of the job, nothing listens and no port is reached",
        )
        .fact("connection", "stdio"),
        (Connection::Connect(Route::Login { hops }), _) => {
            Finding::ok(CheckId::Connection, format!("by `slurm-sandbox connect` through {}", hops.join(", then ")))
                .fact("connection", "proxy")
        }
        (_, None) => Finding::ok(CheckId::Connection, "direct: this host must reach the nodes' ports")
            .fact("connection", "direct"),
        (_, Some(command)) => {
            Finding::ok(CheckId::Connection, format!("through a proxy command, here for port 4022 of NODE: {command}"))
                .fact("connection", "proxy")
        }
    });
    findings
}

/// Words that a shell knows without a program.
const SHELL_WORDS: &[&str] = &[
    ".", ":", "[", "[[", "alias", "case", "cd", "eval", "export", "false", "for", "if", "printf", "read", "set",
    "source", "test", "trap", "true", "ulimit", "umask", "until", "while", "{",
];

/// The program that a proxy command starts, where its first command is a plain one: ssh has the user's shell `exec` it.
fn program(command: &str) -> Option<&str> {
    let assigns = |word: &str| word.split_once('=').is_some_and(|(name, _)| crate::config::value::is_word(name, "_"));
    let word = command.split_whitespace().find(|word| !matches!(*word, "exec" | "command") && !assigns(word))?;
    let word = word.trim_end_matches(';');
    (crate::config::value::is_word(word, "._/+-") && !SHELL_WORDS.contains(&word)).then_some(word)
}

/// Values of a lease that does not exist, to show what a template becomes.
fn example(settings: &Settings) -> BTreeMap<&'static str, String> {
    let user = settings.ssh_user.clone().unwrap_or_else(|| "USER".to_owned());
    [
        ("host", "NODE"),
        ("port", "4022"),
        ("user", &user),
        ("leaseId", "LEASE"),
        ("slug", "SLUG"),
        ("name", "NAME"),
        ("jobId", "JOB"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// Looks at what decides which host and user the client is given.
pub fn endpoint(
    settings: &Settings,
    own_user: Option<&str>,
    ours: bool,
    here_is_a_node: impl FnOnce() -> Option<bool>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match (&settings.ssh_user, own_user) {
        (None, None) => {
            let seen = "the name of this user is not known";
            findings.push(Finding::red(CheckId::Endpoint, Category::Config, seen, "set sshUser in external.config"));
        }
        (Some(wanted), Some(own)) if ours && wanted != own => {
            let seen =
                format!("sshUser is {wanted}, but jobs run as {own}, the only user that the runner's sshd lets in");
            findings.push(Finding::red(
                CheckId::Endpoint,
                Category::Config,
                seen,
                "remove sshUser, or run this program as that user",
            ));
        }
        _ => {}
    }
    if let EndpointHost::Runner { pattern } = &settings.endpoint_host
        && pattern.chars().all(|c| c == '*')
    {
        let seen = "endpointHost is runner: code in a lease can send the client to any host";
        findings.push(Finding::warning(
            CheckId::Endpoint,
            seen,
            "set endpointHost to runner:PATTERN with the site's own domain, such as runner:*.cluster.example",
        ));
    }
    let loopback = match settings.bind_address.as_str() {
        "localhost" => true,
        text => text.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
    };
    // In a session of a step nothing listens.
    let listens = settings.connection != Connection::Connect(Route::Stdio);
    if loopback && listens && here_is_a_node() != Some(true) {
        let host = if settings.submit.is_some() { "the login host" } else { "this host" };
        let seen = format!(
            "bindAddress is {}: sshd can be reached from its own node only, and {host} is none that Slurm knows",
            settings.bind_address
        );
        findings.push(Finding::warning(
            CheckId::Endpoint,
            seen,
            "remove bindAddress, or set it to an address that clients reach",
        ));
    }
    if findings.is_empty() {
        let host = match &settings.endpoint_host {
            EndpointHost::Template(template) => template.clone(),
            EndpointHost::Runner { pattern } => format!("what the runner says, if it is like {pattern}"),
        };
        let user = settings.ssh_user.as_deref().or(own_user).unwrap_or_default();
        findings.push(Finding::ok(CheckId::Endpoint, format!("clients are sent to {user} at {host}")));
    }
    findings
}

/// What the client needs that cannot be seen from here.
pub fn client() -> Vec<Finding> {
    vec![Finding::ok(CheckId::ClientConfig, TRUST)]
}

/// The client refuses every lease before it calls us without this (docs/facts/client.md, "Trusted output").
pub const TRUST: &str = "the client's user config must hold external.connection.ssh.trustProviderOutput: true, or it refuses every lease before it calls this program";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{Red, Warning};
    use rstest::rstest;
    use serde_json::json;

    fn settings(value: &Value) -> Settings {
        crate::config::parse(value.as_object().unwrap()).unwrap()
    }

    fn complaints(findings: &[Finding]) -> Vec<String> {
        findings.iter().filter(|f| f.is(Red) || f.is(Warning)).map(|f| f.seen.clone()).collect()
    }

    #[rstest]
    #[case("nc NODE 4022", Some("nc"))]
    #[case("/opt/jump -x %h", Some("/opt/jump"))]
    #[case("exec nc %h", Some("nc"))]
    #[case("LC_ALL=C SSH_AUTH_SOCK=/x ssh -W %h:%p login", Some("ssh"))]
    #[case("cd /tmp && nc %h %p", None)]
    #[case("\"/opt/my jump\" %h", None)]
    #[case("$HOME/bin/jump %h", None)]
    #[case("~/bin/jump %h", None)]
    #[case("(nc %h %p)", None)]
    #[case("", None)]
    fn programs(#[case] command: &str, #[case] expected: Option<&str>) {
        assert_eq!(program(command), expected);
    }

    #[test]
    fn a_proxy_program_that_is_missing_is_red() {
        let value = json!({"proxyCommand": "nc-not-here {host} {port}"});
        let findings = check(value.as_object().unwrap(), &settings(&value), None);
        assert!(findings[0].is(Red) && findings[0].seen.contains("runs nc-not-here"), "{findings:?}");
    }

    #[rstest]
    #[case(json!({}), &[])]
    #[case(json!({"sshMode": "proxy-through-login", "loginHost": "login", "loginUser": "bob"}), &[])]
    #[case(json!({"loginHost": "login"}), &["loginHost is set, but the connection is direct"])]
    #[case(json!({"loginHost": "login", "loginUser": ""}), &["loginHost is set, but the connection is direct"])]
    #[case(json!({"loginUser": "bob"}), &["loginUser is set without loginHost"])]
    #[case(json!({"proxyCommand": "ssh %h %p", "loginHost": "login"}), &["no {loginHost}"])]
    #[case(json!({"proxyCommand": "ssh %h %p", "sshMode": "direct"}), &["sshMode is direct"])]
    #[case(json!({"proxyCommand": "ssh {jobId} {port}"}), &["names no node"])]
    #[case(json!({"proxyCommand": "ssh {host}"}), &["names no port"])]
    #[case(json!({"proxyCommand": "ssh ${host} ${port}"}), &["names no node"])]
    #[case(json!({"proxyCommand": "ssh ${loginHost} %h %p", "loginHost": "login"}), &["no {loginHost}"])]
    #[case(json!({"submitHost": "login"}), &[])]
    #[case(json!({"submitHost": "login", "sshMode": "stdio", "loginHost": "gw"}), &["goes through srun"])]
    #[case(json!({"proxyCommand": "ssh -W %h:%p {loginUser}@{loginHost}", "loginHost": "login", "loginUser": "bob"}), &[])]
    fn conflicts(#[case] value: Value, #[case] expected: &[&str]) {
        let found = complaints(&check(value.as_object().unwrap(), &settings(&value), None));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(found, expected)| found.contains(expected)), "{found:?}");
    }

    #[rstest]
    #[case(json!({"sshMode": "stdio"}), "/opt/my tools/slurm-sandbox", true)]
    #[case(json!({"submitHost": "login"}), "/opt/my tools/slurm-sandbox", true)]
    #[case(json!({"submitHost": "login"}), "/opt/tools/slurm-sandbox", false)]
    #[case(json!({}), "/opt/my tools/slurm-sandbox", false)]
    fn a_path_of_this_program_that_cannot_stand_in_a_command(
        #[case] value: Value,
        #[case] path: &str,
        #[case] red: bool,
    ) {
        let findings = check(value.as_object().unwrap(), &settings(&value), Some(Path::new(path)));
        assert_eq!(findings[0].is(Red), red, "{findings:?}");
    }

    #[test]
    fn the_proxy_command_is_shown_as_it_will_be() {
        let value = json!({"sshMode": "proxy-through-login", "loginHost": "login.example"});
        let findings = check(value.as_object().unwrap(), &settings(&value), None);
        assert!(findings[0].seen.ends_with("ssh -o BatchMode=yes -o ConnectTimeout=10 -W %h:%p login.example"));
    }

    #[rstest]
    #[case(json!({}), Some("alice"), true, Some(false), &[])]
    #[case(json!({}), None, true, Some(false), &["not known"])]
    #[case(json!({"sshUser": "bob"}), Some("alice"), true, Some(false), &["jobs run as alice"])]
    #[case(json!({"sshUser": "bob"}), Some("alice"), false, Some(false), &[])]
    #[case(json!({"endpointHost": "runner"}), Some("alice"), true, Some(false), &["any host"])]
    #[case(json!({"endpointHost": "runner:*.example"}), Some("alice"), true, Some(false), &[])]
    #[case(json!({"bindAddress": "127.0.0.1"}), Some("alice"), true, Some(false), &["its own node only"])]
    #[case(json!({"bindAddress": "localhost"}), Some("alice"), true, None, &["its own node only"])]
    #[case(json!({"bindAddress": "127.0.0.1"}), Some("alice"), true, Some(true), &[])]
    #[case(json!({"bindAddress": "0.0.0.0"}), Some("alice"), true, None, &[])]
    #[case(json!({"bindAddress": "localhost", "sshMode": "stdio"}), Some("alice"), true, None, &[])]
    #[case(json!({"bindAddress": "localhost", "submitHost": "login"}), Some("alice"), true, None, &["the login host is none"])]
    fn endpoints(
        #[case] value: Value,
        #[case] user: Option<&str>,
        #[case] ours: bool,
        #[case] node: Option<bool>,
        #[case] expected: &[&str],
    ) {
        let found = complaints(&endpoint(&settings(&value), user, ours, || node));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(found, expected)| found.contains(expected)), "{found:?}");
    }
}
