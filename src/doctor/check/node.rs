//! What a node is like for a lease, as a session of one tells: things that no login host can know. A session has been made by then, so
//! nothing here is red.

use std::time::Duration;

use crate::config::Settings;
use crate::doctor::check::CheckId;
use crate::doctor::check::login_host::MOST_SECONDS_APART;
use crate::doctor::finding::{Finding, cut};
use crate::doctor::remote::RemoteFacts;

/// The script that asks, for `bash -s` in a session.
pub const SCRIPT: &str = concat!(include_str!("tell.sh"), include_str!("node.sh"));

/// A shared dir that shows files later than this makes every step of a lease late.
const LATE: Duration = Duration::from_secs(3);

/// How long files took from one side of the shared dir to the other; `None` where they did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    pub to_node: Option<Duration>,
    pub from_node: Option<Duration>,
    /// How long was waited for each.
    pub most: Duration,
}

/// What the facts mean, but for the files. `now` is this host's time at which they were told.
pub fn classify(facts: &RemoteFacts, settings: &Settings, now: i64) -> Vec<Finding> {
    let node = facts.get("host").unwrap_or("the node");
    vec![
        account(facts, node),
        sshd(facts, node),
        tools(facts, node),
        gpus(facts, node, asks_for_gpus(settings)),
        cgroups(facts, node),
        namespaces(facts, node),
        clock(facts, node, now),
    ]
}

fn account(facts: &RemoteFacts, node: &str) -> Finding {
    let user = facts.get("user").unwrap_or("the user");
    let warn = |seen: String, remedy: &str| Finding::warning(CheckId::NodeAccount, seen, remedy);
    let Some(shell) = facts.get("shell") else {
        let seen = format!("{node} has no passwd entry of {user}");
        return warn(seen, "tell the site's admins: sshd and many tools look for it");
    };
    let home = facts.get("home").unwrap_or_default();
    if let Some(text) = facts.get("nologin") {
        let seen = format!("/etc/nologin is there on {node} ({}): its sshd lets in nobody but root", cut(text, 120));
        return warn(seen, "wait until the site's admins remove it, or choose other nodes");
    }
    if facts.get("shell-there").is_none() {
        let seen = format!("the login shell of {user}, {shell}, is not on {node}: its sshd lets this user in nowhere");
        return warn(seen, "have it installed on the nodes, or change the shell (chsh, or ask the site's admins)");
    }
    if facts.get("home-there").is_none() {
        let seen = format!("the home directory of {user}, {home}, is not there on {node}");
        return warn(seen, "tell the site's admins: it is not mounted there; many tools fail without it");
    }
    let uid = facts.get("uid").unwrap_or_default();
    Finding::ok(CheckId::NodeAccount, format!("{user} (uid {uid}) on {node}: login shell {shell}, home {home}"))
}

fn sshd(facts: &RemoteFacts, node: &str) -> Finding {
    let text = facts.get("sshd").unwrap_or_default();
    let version = text.split_whitespace().find(|word| word.starts_with("OpenSSH_")).unwrap_or("a version not told");
    let path = text.split_whitespace().next().unwrap_or("sshd");
    let rules = facts.all("denied");
    let denied = match rules.first() {
        Some(first) => format!("; /etc/hosts.deny has {} rule(s), the first is {}", rules.len(), cut(first, 80)),
        None => String::new(),
    };
    Finding::ok(
        CheckId::NodeSshd,
        format!("{path} on {node} is {}, and let us in{denied}", version.trim_end_matches(',')),
    )
}

fn tools(facts: &RemoteFacts, node: &str) -> Finding {
    let missing = facts.all("missing");
    if missing.is_empty() {
        return Finding::ok(
            CheckId::NodeTools,
            format!("what the runner and the client need is in a session's PATH on {node}"),
        );
    }
    let seen = format!("not in a session's PATH on {node}: {}", missing.join(", "));
    Finding::warning(
        CheckId::NodeTools,
        seen,
        "install them on the nodes, load them in preamble, or do without what needs them",
    )
}

/// Whether the options ask Slurm for GPUs, as sbatch will get them.
fn asks_for_gpus(settings: &Settings) -> bool {
    settings.resources.options.iter().any(|option| {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        name.starts_with("--gpus") || name == "--gres" && value.split(',').any(|part| part.starts_with("gpu"))
    })
}

fn gpus(facts: &RemoteFacts, node: &str, asked: bool) -> Finding {
    let (named, devices, granted) = (facts.all("gpu"), facts.all("device"), facts.all("granted"));
    let seen = match (named, devices, granted) {
        ([], [], []) if asked => {
            let seen =
                format!("GPUs are asked for, and a session on {node} sees none: no device, and no variable of Slurm's");
            return Finding::warning(
                CheckId::NodeGpus,
                seen,
                "correct gres or gpus, or tell the site's admins: the nodes' gres.conf names no device",
            );
        }
        ([], [], []) => format!("none is asked for, and none is seen on {node}"),
        ([], [], granted) => format!("{} on {node}; no device is seen that is known here", granted.join(", ")),
        ([], devices, _) => format!("{} on {node}", devices.join(", ")),
        (named, ..) => format!("{} on {node}", cut(&named.join(", "), 240)),
    };
    Finding::ok(CheckId::NodeGpus, seen)
}

fn cgroups(facts: &RemoteFacts, node: &str) -> Finding {
    let version = match facts.get("cgroup-type") {
        Some("cgroup2fs") => "v2",
        Some("tmpfs") => "v1",
        _ => return Finding::ok(CheckId::NodeCgroups, format!("none are mounted on {node}")),
    };
    let paths = facts.all("cgroup");
    let ours = paths.iter().find(|path| path.contains("job")).or_else(|| paths.first());
    let readable = match facts.get("cgroup-readable") {
        Some(_) => "readable",
        None => "not readable",
    };
    let shown = ours.map(|path| format!(", a session is in {}, {readable}", cut(path, 120))).unwrap_or_default();
    Finding::ok(CheckId::NodeCgroups, format!("{version} on {node}{shown}"))
}

fn namespaces(facts: &RemoteFacts, node: &str) -> Finding {
    let most = facts.get("namespaces-most").unwrap_or("unknown");
    let seen = match (facts.get("namespaces"), facts.get("namespaces-refused")) {
        (Some(_), _) => format!("a session on {node} can make user namespaces: containers without root can work"),
        (None, Some(said)) => format!(
            "a session on {node} can make no user namespace (max_user_namespaces is {most}): {}",
            cut(said, 120)
        ),
        (None, None) => format!("not tried, there is no unshare on {node}; max_user_namespaces is {most}"),
    };
    Finding::ok(CheckId::NodeNamespaces, seen)
}

fn clock(facts: &RemoteFacts, node: &str, now: i64) -> Finding {
    let Some(theirs) = facts.get("epoch").and_then(|text| text.parse::<i64>().ok()) else {
        return Finding::ok(CheckId::NodeClock, format!("{node} did not tell its time"));
    };
    let apart = (theirs - now).saturating_abs();
    if apart <= MOST_SECONDS_APART {
        return Finding::ok(CheckId::NodeClock, format!("{node}'s and this machine's are {apart} s apart"));
    }
    let direction = if theirs > now { "ahead of" } else { "behind" };
    let seen = format!("{node}'s clock is {apart} s {direction} this machine's: make, rsync and certificates go by it");
    Finding::warning(CheckId::NodeClock, seen, "set the clock that is wrong (NTP); of a node its admins can")
}

/// Judges the shared dir by how long files took from one side to the other.
pub fn files(facts: &RemoteFacts, delays: Delays) -> Finding {
    let node = facts.get("host").unwrap_or("the node");
    let took = |delay: Option<Duration>| match delay {
        Some(delay) if delay < Duration::from_millis(500) => "at once".to_owned(),
        Some(delay) => format!("after {:.1} s", delay.as_secs_f32()),
        None => format!("not within {} s", delays.most.as_secs()),
    };
    let kind = |key: &str| facts.get(key).unwrap_or("unknown");
    let seen = format!(
        "a file of the shared dir written where Slurm's commands run is seen on {node} {}, one written there is seen here {}; there the shared dir is on {}, \
         a session begins on {}",
        took(delays.to_node),
        took(delays.from_node),
        kind("shared-type"),
        kind("work-type")
    );
    let late = |delay: Option<Duration>| delay.is_none_or(|delay| delay > LATE);
    if late(delays.to_node) || late(delays.from_node) {
        let remedy = "every start, touch and end of a lease is so late: set sharedDir to a file system that shows new files sooner, or have it mounted with \
                      short caches (NFS: lookupcache=positive, acdirmax=3)";
        return Finding::warning(CheckId::NodeFiles, seen, remedy);
    }
    Finding::ok(CheckId::NodeFiles, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Command;
    use crate::protocol::CheckStatus::{self, Ok as Green, Warning};
    use rstest::rstest;
    use serde_json::{Value, json};

    const GOOD: &str = "host\tn1\nuser\talice\nuid\t1001\nshell\t/bin/bash\nshell-there\tyes\nhome\t/home/alice\nhome-there\tyes\nepoch\t1000\n\
        sshd\t/usr/sbin/sshd OpenSSH_9.2p1 Debian, OpenSSL 3.0\ncgroup-type\tcgroup2fs\ncgroup\t/system.slice/job_7/step_batch\n\
        cgroup-readable\tyes\nnamespaces\tyes\nshared-type\tnfs\nwork-type\ttmpfs\n";

    fn settings(value: &Value) -> Settings {
        crate::config::parse(value.as_object().unwrap()).unwrap()
    }

    #[rstest]
    #[case::good("", json!({}), None, "")]
    #[case::closed("nologin\tsystem is going down\n", json!({}), Some(CheckId::NodeAccount), "/etc/nologin is there on n1")]
    #[case::tools("missing\trsync\nmissing\tgit\n", json!({}), Some(CheckId::NodeTools), "n1: rsync, git")]
    #[case::gpus_missing("", json!({"gpus": 1}), Some(CheckId::NodeGpus), "sees none")]
    #[case::gres_missing("", json!({"gres": "gpu:1"}), Some(CheckId::NodeGpus), "sees none")]
    #[case::other_gres("", json!({"gres": "tmp:1"}), None, "")]
    #[case::gpus_granted("granted\tSLURM_JOB_GPUS=0\n", json!({"gpus": 1}), None, "")]
    fn a_node(#[case] text: &str, #[case] value: Value, #[case] warned: Option<CheckId>, #[case] seen: &str) {
        let findings = classify(&RemoteFacts::parse(&format!("{GOOD}{text}")), &settings(&value), 1010);
        let found: Vec<_> = findings.iter().filter(|finding| !finding.is(Green)).collect();
        assert_eq!(found.iter().map(|finding| finding.id).collect::<Vec<_>>(), Vec::from_iter(warned), "{findings:#?}");
        assert!(found.iter().all(|finding| finding.is(Warning) && finding.seen.contains(seen)), "{findings:#?}");
    }

    #[rstest]
    #[case::no_entry("shell\t/bin/bash\n", "", "has no passwd entry of alice")]
    #[case::no_shell("shell-there\tyes\n", "", "the login shell of alice, /bin/bash, is not on n1")]
    #[case::no_home("home-there\tyes\n", "", "the home directory of alice, /home/alice, is not there on n1")]
    #[case::clock("epoch\t1000\n", "epoch\t900\n", "n1's clock is 110 s behind")]
    fn what_a_node_lacks(#[case] without: &str, #[case] with: &str, #[case] seen: &str) {
        let facts = RemoteFacts::parse(&GOOD.replacen(without, with, 1));
        let findings = classify(&facts, &settings(&json!({})), 1010);
        assert!(findings.iter().any(|finding| finding.is(Warning) && finding.seen.contains(seen)), "{findings:#?}");
    }

    #[test]
    fn rules_of_hosts_deny_are_told() {
        let facts = RemoteFacts::parse(&format!("{GOOD}denied\tsshd: ALL\n"));
        let finding = sshd(&facts, "n1");
        assert!(finding.seen.contains("OpenSSH_9.2p1") && finding.seen.ends_with("sshd: ALL"), "{finding:?}");
    }

    #[rstest]
    #[case(Some(0), Some(0), Green, "on n1 at once, one written there is seen here at once")]
    #[case(Some(2500), Some(0), Green, "after 2.5 s")]
    #[case(Some(30_000), Some(0), Warning, "after 30.0 s")]
    #[case(Some(0), None, Warning, "not within 35 s")]
    fn delays(#[case] to: Option<u64>, #[case] from: Option<u64>, #[case] status: CheckStatus, #[case] seen: &str) {
        let millis = |millis: Option<u64>| millis.map(Duration::from_millis);
        let delays = Delays { to_node: millis(to), from_node: millis(from), most: Duration::from_secs(35) };
        let finding = files(&RemoteFacts::parse(GOOD), delays);
        assert!(finding.is(status) && finding.seen.contains(seen), "{finding:?}");
    }

    #[test]
    fn the_script_tells_of_this_host() {
        let temp = tempfile::tempdir().unwrap();
        let ask = |words: &[&str]| {
            let command = Command::new("bash", Duration::from_secs(30)).args(["-s", "--"]).args(words);
            let output = command.arg(temp.path()).args(["1"]).input(SCRIPT.into()).run().unwrap();
            RemoteFacts::parse(&output.stdout_text())
        };
        let facts = ask(&["facts"]);
        for key in ["done", "user", "host", "epoch", "shell", "absent", "written", "shared-type", "cgroup-type"] {
            assert!(facts.get(key).is_some(), "{key}: {facts:?}");
        }
        assert!(temp.path().join("doctor-from-node").exists());
        assert_eq!(ask(&["seen"]).get("seen"), None);
        std::fs::File::options().create(true).append(true).open(temp.path().join("doctor-to-node")).unwrap();
        assert_eq!(ask(&["seen"]).get("seen"), Some("0"));
    }
}
