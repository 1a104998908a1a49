//! Whether what a site has the job do can work: preamble, launcher, ready check and the line for the end, the sshd that the site names,
//! and the times after which the runner ends a lease. Nothing of it is run: a node may have what the host that looks has not, so
//! only what fails on every host is red.

use crate::config::time_limit::minutes;
use crate::config::{Settings, ports};
use crate::doctor::check::CheckId;
use crate::doctor::check::preamble::{brings_programs, commands, exits, fails, never_succeeds, sourced};
use crate::doctor::check::table::AGAIN;
use crate::doctor::finding::{Category, Finding, tail};
use crate::doctor::remote::RemoteFacts;
use crate::doctor::run::Clock;
use crate::doctor::sessions::Place;
use crate::host::Command;
use crate::lease::LeaseId;

const SCRIPT: &str = concat!(include_str!("tell.sh"), include_str!("job.sh"));

/// A client logs in some seconds after the answer, over a WAN or with a slow machine later.
const SHORT_GRACE_SECONDS: u64 = 20;

/// A client pauses for longer between two commands.
const SHORT_IDLE_SECONDS: u64 = 60;

/// A preamble, a start of sshd and a first login take some seconds.
const SHORT_TTL_SECONDS: u64 = 60;
const SHORT_ACQUIRE_SECONDS: u64 = 10;

/// The runner ends a lease a minute before its wall time, or in that minute.
const SHORT_TIME_LIMIT_MINUTES: u64 = 2;

/// Below this a port takes a privilege that a job of an ordinary user has not (ip_unprivileged_port_start).
const FIRST_FREE_PORT: u16 = 1024;

/// Has the site's lines looked at where Slurm's commands run, which is most like a node.
pub fn lines(place: &Place, clock: Clock, settings: &Settings) -> Vec<Finding> {
    let command = || {
        Command::new("bash", clock.left())
            .args(["-c", SCRIPT, "bash"])
            .args([&settings.launcher, &settings.ready_check, &settings.on_ending])
            .args(sourced(&settings.preamble).into_iter().flat_map(|path| ["source".to_owned(), path]))
            .args(commands(&settings.preamble).into_iter().flat_map(|word| ["run".to_owned(), word]))
            .input(settings.preamble.clone().into_bytes())
    };
    match place.with(clock, |host| host.run(&command())) {
        Ok(Ok(output)) => match RemoteFacts::whole(&output) {
            Some(facts) => judge_lines(settings, &facts, place.name()),
            None => {
                vec![Finding::warning(CheckId::JobLines, format!("not looked at: {}", output.said()), "").not_asked()]
            }
        },
        Ok(Err(error)) => {
            vec![Finding::warning(CheckId::JobLines, format!("bash could not be started: {error}"), "").not_asked()]
        }
        Err(said) => vec![Finding::warning(CheckId::JobLines, said, AGAIN).not_asked()],
    }
}

/// What bash said of the lines, and what they themselves say.
fn judge_lines(settings: &Settings, facts: &RemoteFacts, host: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let red = |seen: String, remedy: &str| {
        Finding::red(CheckId::JobLines, Category::Config, seen, format!("{remedy} in external.config"))
    };
    let warn = |seen: String, remedy: &str| Finding::warning(CheckId::JobLines, seen, remedy);
    if let Some(said) = facts.get("preamble") {
        findings.push(red(format!("preamble: bash -n says {}", tail(said, 200)), "correct preamble"));
    }
    for path in facts.all("sourced") {
        findings.push(warn(
            format!("preamble sources {path}, which cannot be read on {host}: unless nodes have it, the job fails"),
            "correct the path in preamble, or make sure that nodes have the file",
        ));
    }
    for word in facts.all("run") {
        findings.push(warn(
            format!("preamble runs {word}, which is not found on {host}: unless nodes have it, the line fails, and with it the job if it is the last"),
            "correct preamble, or load what has the command before it",
        ));
    }
    if let Some(line) = exits(&settings.preamble) {
        findings.push(warn(
            format!("preamble calls exit (`{line}`): it is sourced, so the job's start ends there, with status 0 too"),
            "end it by `return` instead, or leave it out of preamble",
        ));
    } else if let Some(line) = fails(&settings.preamble) {
        findings.push(warn(
            format!("preamble ends with `{line}`: it is sourced, and the job's start fails with its status"),
            "end preamble with a command that succeeds",
        ));
    }
    if let Some(said) = facts.get("launcher-syntax") {
        findings.push(warn(format!("launcher: bash -n says {}", tail(said, 200)), "correct launcher"));
    }
    if let Some(word) = facts.get("launcher").filter(|_| !brings_programs(&settings.preamble)) {
        findings.push(warn(
            format!("launcher begins with {word}, which is not found in the PATH of {host}: unless nodes have it, the job fails"),
            "correct launcher, name its whole path, or load it in preamble",
        ));
    }
    match (never_succeeds(&settings.ready_check), facts.get("ready")) {
        (true, _) => findings.push(red(
            format!("readyCheck is `{}`, which never succeeds: no lease is ever handed out", settings.ready_check),
            "set readyCheck to a command that succeeds on a node that is ready, or remove it",
        )),
        (false, None) if facts.get("ready-command").is_some() && !brings_programs(&settings.preamble) => {
            let word = facts.get("ready-command").unwrap_or_default();
            findings.push(warn(
                format!("readyCheck begins with {word}, which is not found on {host}: unless nodes have it, no lease is handed out"),
                "correct readyCheck, or make sure that nodes have the command",
            ));
        }
        // The login shell on the node runs it, which may be another than bash.
        (false, Some(said)) => findings.push(warn(
            format!("readyCheck: bash -n says {}", tail(said, 200)),
            "correct readyCheck: your login shell on the node runs it",
        )),
        (false, None) => {}
    }
    if let Some(said) = facts.get("ending") {
        findings.push(warn(format!("onEnding: bash -n says {}", tail(said, 200)), "correct onEnding"));
    }
    if findings.is_empty() {
        findings
            .push(Finding::ok(CheckId::JobLines, "preamble, launcher, readyCheck and onEnding: bash -n is content"));
    }
    findings
}

/// The site's knobs for the runner's sshd, which go from the environment of this program into the job.
pub fn sshd(sshd: Option<&str>, port: Option<&str>, is_file: impl FnOnce(&str) -> bool, as_root: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(path) = sshd.filter(|path| !path.is_empty() && !is_file(path)) {
        findings.push(Finding::warning(
            CheckId::JobSshd,
            format!(
                "CBX_SSHD is {path}, and no program is there on this host: unless nodes have that sshd, the job fails"
            ),
            "correct CBX_SSHD in the environment of whatever starts this program, or unset it",
        ));
    }
    let remedy = "set sshPort, or CBX_SSH_PORT in the environment of whatever starts this program, to a port or a range such as 20000-20999, or unset it";
    match port.filter(|text| !text.is_empty()).map(|text| (text, ports(text))) {
        Some((text, None)) => {
            let seen = format!("CBX_SSH_PORT is {text}, which is neither a port from 1 to 65535 nor a range of them");
            findings.push(Finding::red(CheckId::JobSshd, Category::Config, seen, remedy));
        }
        Some((text, Some((low, _)))) if low < FIRST_FREE_PORT && !as_root => {
            let seen = format!("the port is {text}: below {FIRST_FREE_PORT} sshd of an ordinary user may not listen");
            findings.push(Finding::warning(CheckId::JobSshd, seen, remedy));
        }
        _ => {}
    }
    if findings.is_empty() {
        let shown = |value: Option<&str>, otherwise: &str| {
            value.filter(|text| !text.is_empty()).map_or_else(|| otherwise.to_owned(), str::to_owned)
        };
        let (sshd, port) = (shown(sshd, "the node's"), shown(port, "any from 20000 that is free"));
        findings.push(Finding::ok(CheckId::JobSshd, format!("sshd: {sshd}; port: {port}")));
    }
    findings
}

/// The times after which a lease ends unused, and how many leases there may be; `leases` are those that there are.
pub fn limits(settings: &Settings, leases: &[LeaseId]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let times = [
        (
            "takenGraceSeconds",
            settings.taken_grace,
            SHORT_GRACE_SECONDS,
            "after so short a grace, before a client has logged in",
        ),
        (
            "idleTimeoutSeconds",
            settings.idle_timeout,
            SHORT_IDLE_SECONDS,
            "while a client only pauses between commands",
        ),
        ("ttlSeconds", settings.ttl, SHORT_TTL_SECONDS, "before a client is through with its first command"),
    ];
    for (key, value, least, when) in times {
        if value > 0 && value < least {
            let seen = format!("{key} is {value}: the job may end {when}");
            findings.push(Finding::warning(
                CheckId::Limits,
                seen,
                format!("set {key} to {least} or more, or to 0 for never"),
            ));
        }
    }
    if settings.acquire_timeout < SHORT_ACQUIRE_SECONDS {
        let seen =
            format!("acquireTimeoutSeconds is {}: few jobs start and answer in that time", settings.acquire_timeout);
        findings.push(Finding::warning(
            CheckId::Limits,
            seen,
            "set acquireTimeoutSeconds to as long as the queue may take",
        ));
    }
    let time = settings.resources.options.iter().find_map(|option| option.strip_prefix("--time="));
    if let Some(limit) =
        time.filter(|text| minutes(text).flatten().is_some_and(|limit| limit <= SHORT_TIME_LIMIT_MINUTES))
    {
        let seen = format!("timeLimit is {limit}: the runner ends the lease before the last minute of it");
        findings.push(Finding::warning(CheckId::Limits, seen, "raise timeLimit to five minutes or more"));
    }
    if let Some(most) = settings.max_leases.filter(|most| leases.len() as u64 >= *most) {
        let seen = format!("maxLeases is {most}, and {} lease(s) exist: no further one is made", leases.len());
        findings.push(Finding::warning(
            CheckId::Limits,
            seen,
            "release leases, run `slurm-sandbox cleanup`, or raise maxLeases",
        ));
    }
    if findings.is_empty() {
        let never = |seconds: u64| if seconds == 0 { "never".to_owned() } else { format!("after {seconds} s") };
        let (grace, idle) = (never(settings.taken_grace), never(settings.idle_timeout));
        findings
            .push(Finding::ok(CheckId::Limits, format!("a lease without a login ends {grace}, without use {idle}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{self, Ok as Green, Red, Warning};
    use rstest::rstest;
    use serde_json::{Value, json};

    fn settings(value: &Value) -> Settings {
        crate::config::parse(value.as_object().unwrap()).unwrap()
    }

    /// What bash of this host tells of the lines.
    fn looked_at(value: &Value) -> Vec<Finding> {
        lines(&Place::Here, Clock::start(), &settings(value))
    }

    #[rstest]
    #[case::nothing(json!({}), Green, "content")]
    #[case::good(json!({"preamble": ["set -e", "if true; then", "  exit 1", "fi"], "launcher": "env A=1", "readyCheck": "test -d /"}), Green, "content")]
    #[case::preamble_syntax(json!({"preamble": "if [ 1"}), Red, "preamble: bash -n says")]
    #[case::unclosed_quote(json!({"preamble": "echo \"a"}), Red, "preamble: bash -n says")]
    #[case::missing_file(json!({"preamble": ["set -e", "source /nonexistent/modules.sh"]}), Warning, "sources /nonexistent/modules.sh")]
    #[case::exit(json!({"preamble": "exit 0"}), Warning, "calls exit (`exit 0`)")]
    #[case::missing_command(json!({"preamble": ["set -e", "A=1 command-not-here x"]}), Warning, "preamble runs command-not-here")]
    #[case::command_of_a_module(json!({"preamble": ["module load x", "command-not-here x"]}), Green, "content")]
    #[case::own_function(json!({"preamble": ["f() { true; }", "f"]}), Green, "content")]
    #[case::last_status(json!({"preamble": ["true", "false"]}), Warning, "preamble ends with `false`")]
    #[case::replaced(json!({"preamble": "exec sleep 1"}), Warning, "preamble ends with `exec sleep 1`")]
    #[case::redirected(json!({"preamble": "exec 2>/dev/null"}), Green, "content")]
    #[case::ready_command(json!({"readyCheck": "command-not-here --version"}), Warning, "readyCheck begins with command-not-here")]
    #[case::launcher(json!({"launcher": "apptainer-not-here exec x"}), Warning, "begins with apptainer-not-here")]
    #[case::launcher_of_a_module(json!({"launcher": "apptainer-not-here exec x", "preamble": "module load apptainer"}), Green, "content")]
    #[case::launcher_syntax(json!({"launcher": "env \"A"}), Warning, "launcher: bash -n says")]
    #[case::launcher_by_a_variable(json!({"launcher": "$HOME/bin/run x"}), Green, "content")]
    #[case::ready_never(json!({"readyCheck": "false"}), Red, "never succeeds")]
    #[case::ready_syntax(json!({"readyCheck": "if true"}), Warning, "readyCheck: bash -n says")]
    #[case::ending_syntax(json!({"onEnding": "rsync -a ("}), Warning, "onEnding: bash -n says")]
    fn what_the_job_does(#[case] value: Value, #[case] status: CheckStatus, #[case] text: &str) {
        let findings = looked_at(&value);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].is(status) && findings[0].seen.contains(text), "{findings:?}");
    }

    #[rstest]
    #[case(None, None, false, Green, "the node's")]
    #[case(None, Some("20000-20999"), false, Green, "20000-20999")]
    #[case(None, Some("abc"), true, Red, "CBX_SSH_PORT is abc")]
    #[case(None, Some("0"), true, Red, "neither a port")]
    #[case(None, Some("70000"), true, Red, "neither a port")]
    #[case(None, Some("30000-20000"), true, Red, "neither a port")]
    #[case(None, Some("+22"), true, Red, "neither a port")]
    #[case(None, Some("22-22"), false, Warning, "below 1024")]
    #[case(None, Some("22-22"), true, Green, "22-22")]
    #[case(Some("/nonexistent/sshd"), None, true, Warning, "CBX_SSHD is /nonexistent/sshd")]
    #[case(Some("/usr/sbin/sshd"), Some(""), true, Green, "/usr/sbin/sshd")]
    fn sshds(
        #[case] path: Option<&str>,
        #[case] port: Option<&str>,
        #[case] as_root: bool,
        #[case] status: CheckStatus,
        #[case] text: &str,
    ) {
        let findings = sshd(path, port, |path| path == "/usr/sbin/sshd", as_root);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].is(status) && findings[0].seen.contains(text), "{findings:?}");
    }

    #[rstest]
    #[case(json!({}), &[])]
    #[case(json!({"takenGraceSeconds": 0, "idleTimeoutSeconds": 0, "maxLeases": 2}), &[])]
    #[case(json!({"takenGraceSeconds": 1, "idleTimeoutSeconds": 1}), &["takenGraceSeconds is 1", "idleTimeoutSeconds is 1"])]
    #[case(json!({"maxLeases": 1}), &["maxLeases is 1, and 1 lease(s)"])]
    #[case(json!({"ttlSeconds": 5, "acquireTimeoutSeconds": 2}), &["ttlSeconds is 5", "acquireTimeoutSeconds is 2"])]
    #[case(json!({"timeLimit": 1}), &["timeLimit is 1"])]
    #[case(json!({"timeLimit": 5, "ttlSeconds": 600}), &[])]
    fn times_and_numbers(#[case] value: Value, #[case] expected: &[&str]) {
        let leases = [LeaseId::parse("cbx_4b38f35d4e31").unwrap()];
        let findings = limits(&settings(&value), &leases);
        let found: Vec<_> = findings.iter().filter(|finding| finding.is(Warning)).map(|f| &f.seen).collect();
        assert_eq!(found.len(), expected.len(), "{findings:?}");
        assert!(found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{found:?}");
    }
}
