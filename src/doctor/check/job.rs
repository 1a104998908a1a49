//! Whether what a site has the job do can work: preamble, launcher, ready check and the line for the end, the sshd that the site names,
//! and the times after which the runner ends a lease. Nothing of it is run: a node may have what the host that looks has not, so
//! only what fails on every host is red.

use crate::config::{Settings, ports};
use crate::doctor::check::CheckId;
use crate::doctor::check::table::AGAIN;
use crate::doctor::finding::{Category, Finding, tail};
use crate::doctor::remote::RemoteFacts;
use crate::doctor::run::Clock;
use crate::doctor::sessions::Place;
use crate::host::Command;
use crate::lease::LeaseId;

const SCRIPT: &str = include_str!("job.sh");

/// A client logs in some seconds after the answer, over a WAN or with a slow machine later.
const SHORT_GRACE_SECONDS: u64 = 20;

/// A client pauses for longer between two commands.
const SHORT_IDLE_SECONDS: u64 = 60;

/// Below this a port takes a privilege that a job of an ordinary user has not (ip_unprivileged_port_start).
const FIRST_FREE_PORT: u16 = 1024;

/// Has the site's lines looked at where Slurm's commands run, which is most like a node.
pub fn lines(place: &Place, clock: Clock, settings: &Settings) -> Vec<Finding> {
    let command = || {
        Command::new("bash", clock.left())
            .args(["-c", SCRIPT, "bash"])
            .args([&settings.launcher, &settings.ready_check, &settings.on_ending])
            .args(sourced(&settings.preamble))
            .input(settings.preamble.clone().into_bytes())
    };
    match place.with(clock, |host| host.run(&command())) {
        Ok(Ok(output)) => match RemoteFacts::parse(&output.stdout_text()) {
            facts if facts.get("done").is_some() => judge_lines(settings, &facts, place.name()),
            _ => vec![Finding::warning(CheckId::JobLines, format!("not looked at: {}", output.said()), "").not_asked()],
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
    if let Some(line) = exits(&settings.preamble) {
        findings.push(warn(
            format!("preamble calls exit (`{line}`): it is sourced, so the job's start ends there, with status 0 too"),
            "end it by `return` instead, or leave it out of preamble",
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

/// The files that a preamble sources by their plain absolute names, as a command of a line of its own.
fn sourced(preamble: &str) -> Vec<String> {
    let plain = |path: &&str| crate::config::value::is_safe_path(path);
    let path = |line: &str| {
        let mut words = line.split_whitespace();
        let path = words.next().filter(|word| matches!(*word, "source" | ".")).and_then(|_| words.next())?;
        let path = path.trim_end_matches(';').trim_matches(['"', '\'']);
        Some(path).filter(plain).map(str::to_owned)
    };
    // What is only sourced where it is there stands in a condition, and is indented or behind a word of its own.
    preamble.lines().filter(|line| !line.starts_with([' ', '\t'])).filter_map(path).collect()
}

/// The line of a preamble that ends the start for certain: an `exit` that nothing stands before, or one that means success
/// behind a condition.
fn exits(preamble: &str) -> Option<&str> {
    let is_exit = |command: &str, with_success_only: bool| {
        let mut words = command.split_whitespace();
        words.next() == Some("exit") && (!with_success_only || words.next() == Some("0"))
    };
    preamble.lines().find_map(|line| {
        let code = line.split(" #").next().unwrap_or(line);
        let mut commands = code.split([';', '&', '|']).filter(|command| !command.trim().is_empty());
        let first = commands.next()?;
        let certain = is_exit(first, first.starts_with([' ', '\t']));
        (certain || commands.any(|command| is_exit(command, true))).then(|| line.trim())
    })
}

/// Whether a preamble may put further programs on PATH.
fn brings_programs(preamble: &str) -> bool {
    let words = ["module", "ml", "source", ".", "spack", "eval", "conda", "guix", "nix"];
    preamble.contains("PATH")
        || preamble.split(|c: char| c.is_whitespace() || c == ';').any(|word| words.contains(&word))
}

/// Whether a ready check is one command that is made to fail.
fn never_succeeds(check: &str) -> bool {
    let words: Vec<_> = check.trim().trim_end_matches(';').split_whitespace().collect();
    match words[..] {
        ["false" | "/bin/false" | "/usr/bin/false"] => true,
        ["exit" | "return", code] => code.parse::<u8>().is_ok_and(|code| code != 0),
        _ => false,
    }
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
        ("takenGraceSeconds", settings.taken_grace, SHORT_GRACE_SECONDS, "before a client has logged in"),
        (
            "idleTimeoutSeconds",
            settings.idle_timeout,
            SHORT_IDLE_SECONDS,
            "while a client only pauses between commands",
        ),
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
    #[case("source /a/b.sh", &["/a/b.sh"])]
    #[case(". \"/a/b.sh\";", &["/a/b.sh"])]
    #[case("source $HOME/x\nsource rel.sh\nsourceful /x", &[])]
    #[case("if [ -e /a ]; then\n  . /a\nfi\n[ -e /b ] && . /b", &[])]
    fn sourced_files(#[case] preamble: &str, #[case] expected: &[&str]) {
        assert_eq!(sourced(preamble), expected);
    }

    #[rstest]
    #[case("exit 0", true)]
    #[case("module load x\nexit 3 # done", true)]
    #[case("[ -e /x ] && exit 0", true)]
    #[case("module load x || exit 1", false)]
    #[case("if ! true; then\n  exit 1\nfi", false)]
    #[case("if ! true; then\n  exit 0\nfi", true)]
    #[case("# exit 0\nexiting 0\necho exit 0", false)]
    fn preambles_that_exit(#[case] preamble: &str, #[case] expected: bool) {
        assert_eq!(exits(preamble).is_some(), expected);
    }

    #[rstest]
    #[case("false", true)]
    #[case(" false; ", true)]
    #[case("exit 1", true)]
    #[case("exit 0", false)]
    #[case("exit", false)]
    #[case("false || true", false)]
    #[case("true", false)]
    fn ready_checks(#[case] check: &str, #[case] expected: bool) {
        assert_eq!(never_succeeds(check), expected);
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
    fn times_and_numbers(#[case] value: Value, #[case] expected: &[&str]) {
        let leases = [LeaseId::parse("cbx_4b38f35d4e31").unwrap()];
        let findings = limits(&settings(&value), &leases);
        let found: Vec<_> = findings.iter().filter(|finding| finding.is(Warning)).map(|f| &f.seen).collect();
        assert_eq!(found.len(), expected.len(), "{findings:?}");
        assert!(found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{found:?}");
    }
}
