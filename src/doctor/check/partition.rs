//! Whether the partition takes what is asked for, as far as Slurm tells without a job.
//!
//! sbatch accepts a time limit that the partition never grants, and a partition that is down: such a job waits for
//! ever (docs/facts/slurm.md, "Accepted and never run"). The partition's own record is what tells before anything is submitted.

use std::time::Duration;

use crate::config::Settings;
use crate::config::time_limit::minutes;
use crate::doctor::check::CheckId;
use crate::doctor::finding::{Category, Finding};
use crate::doctor::run::Clock;
use crate::doctor::sessions::Place;
use crate::doctor::sessions::answer;
use crate::slurm::partition::{Record, first_node, get, parse};
use crate::slurm::scontrol;

/// What a request asks of its partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    partitions: Vec<String>,
    pub account: Option<String>,
    pub qos: Option<String>,
    /// The fewest nodes it can do with.
    nodes: Option<u64>,
    pub time: Option<String>,
    nodelist: Option<String>,
    /// Whether the runner ends a lease that nobody uses.
    idle_ends: bool,
}

impl Asked {
    /// The options are looked at as sbatch will get them.
    pub fn of(settings: &Settings) -> Asked {
        let option = |name: &str| {
            let value =
                |option: &String| option.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
            settings.resources.options.iter().find_map(value)
        };
        Asked {
            partitions: option("partition")
                .map(|names| names.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
            account: option("account"),
            qos: option("qos"),
            nodes: option("nodes").and_then(|text| text.split('-').next()?.parse().ok()),
            time: option("time"),
            nodelist: option("nodelist"),
            idle_ends: settings.idle_timeout > 0,
        }
    }
}

/// Other checks need a node's name from it, and some time after that.
const RECORDS_DEADLINE: Duration = Duration::from_secs(5);

/// What a cluster's partitions allow.
pub fn records(place: &Place, clock: Clock, cluster: Option<&str>) -> Result<Vec<Record>, String> {
    // --all: partitions that are hidden from this user are named too.
    let command = || {
        scontrol::command(clock.left().min(RECORDS_DEADLINE), cluster).args([
            "--all",
            "--oneliner",
            "show",
            "partition",
        ])
    };
    answer(place, clock, command).map(|output| parse(&output.stdout_text()))
}

/// Looks at the partitions that a job may go to.
pub fn check(records: &Result<Vec<Record>, String>, asked: &Asked, groups: &[String]) -> Vec<Finding> {
    match records {
        Ok(records) => classify(records, asked, groups),
        Err(said) => {
            let remedy =
                "run `scontrol show partition` by hand; without it doctor cannot tell whether the partition fits";
            vec![Finding::warning(CheckId::Partition, format!("scontrol show partition: {said}"), remedy).not_asked()]
        }
    }
}

/// The partitions that a job may go to, as far as they exist.
pub fn wanted<'a>(records: &'a [Record], asked: &Asked) -> Vec<&'a Record> {
    let wanted = |record: &&Record| match asked.partitions.is_empty() {
        true => get(record, "Default") == "YES",
        false => asked.partitions.iter().any(|name| get(record, "PartitionName") == name),
    };
    records.iter().filter(wanted).collect()
}

/// A node that a job may run on, to look at what its name means: of those that are asked for by name, else of the partition.
pub fn example_node(records: &[Record], asked: &Asked) -> Option<String> {
    if let Some(list) = &asked.nodelist {
        return first_node(list);
    }
    let wanted = |record: &&Record| match asked.partitions.first() {
        Some(name) => get(record, "PartitionName") == name,
        None => get(record, "Default") == "YES",
    };
    first_node(get(records.iter().find(wanted)?, "Nodes"))
}

fn classify(records: &[Record], asked: &Asked, groups: &[String]) -> Vec<Finding> {
    let name = |record: &Record| get(record, "PartitionName").to_owned();
    let all = || records.iter().map(name).collect::<Vec<_>>().join(", ");
    let mut wanted = Vec::new();
    if asked.partitions.is_empty() {
        match records.iter().find(|record| get(record, "Default") == "YES") {
            Some(record) => wanted.push(record),
            None => {
                let seen = format!("none is asked for and the cluster has no default; it has {}", all());
                // A plugin of the site may choose one.
                let remedy =
                    "set partition in external.config; where a plugin of the site chooses one, nothing is to be done";
                return vec![Finding::warning(CheckId::Partition, seen, remedy)];
            }
        }
    }
    for asked in &asked.partitions {
        match records.iter().find(|record| get(record, "PartitionName") == asked) {
            Some(record) => wanted.push(record),
            None => {
                let seen = format!("{asked} does not exist; the cluster has {}", all());
                return vec![Finding::red(
                    CheckId::Partition,
                    Category::Config,
                    seen,
                    "correct partition in external.config",
                )];
            }
        }
    }
    // Of several, Slurm takes the first that lets the job start: one that fits is enough.
    let judged: Vec<_> = wanted.iter().map(|record| judge_one(record, asked, groups)).collect();
    let good = judged
        .iter()
        .position(|findings| findings.iter().all(|finding| !finding.is(crate::protocol::CheckStatus::Red)));
    judged.into_iter().nth(good.unwrap_or(0)).unwrap_or_default()
}

fn judge_one(record: &Record, asked: &Asked, groups: &[String]) -> Vec<Finding> {
    let name = get(record, "PartitionName");
    let state = get(record, "State");
    let red = |category, seen: String, remedy: &str| Finding::red(CheckId::Partition, category, seen, remedy);
    let mut findings = Vec::new();
    if !matches!(state, "UP" | "") {
        let seen = format!("{name} is {state}: it starts no job");
        findings.push(red(Category::Provider, seen, "wait until the site's admins open it, or set another partition"));
    }
    for (what, value) in [("Account", &asked.account), ("Qos", &asked.qos)] {
        if let Some(value) = value
            && let Err(rule) = admits(record, what, value)
        {
            let key = what.to_lowercase();
            let seen = format!("{name} does not admit {key} {value} ({rule})");
            findings.push(red(Category::Config, seen, &format!("set another {key} or another partition")));
        }
    }
    let allowed = get(record, "AllowGroups");
    if !matches!(allowed, "" | "ALL") && !allowed.split(',').any(|group| groups.iter().any(|own| own == group)) {
        let seen = format!("{name} admits groups {allowed}, and this user is in none of them here");
        findings.push(Finding::warning(
            CheckId::Partition,
            seen,
            "ask the site's admins for access, or set another partition",
        ));
    }
    if let (Some(nodes), Ok(most)) = (asked.nodes, get(record, "MaxNodes").parse::<u64>())
        && nodes > most
    {
        let seen = format!("{nodes} nodes are asked for, {name} gives {most} at most");
        findings.push(red(Category::Config, seen, "set nodes to less, or set another partition"));
    }
    if findings.is_empty() {
        let default = if asked.partitions.is_empty() { ", the default" } else { "" };
        let size = format!("{} node(s), {} CPUs", get(record, "TotalNodes"), get(record, "TotalCPUs"));
        findings
            .push(Finding::ok(CheckId::Partition, format!("{name}{default}: {state}, {size}")).fact("partition", name));
    }
    findings.push(judge_time(record, asked));
    findings
}

/// `AllowX` and `DenyX` of a partition; the rule that keeps the value out.
fn admits(record: &Record, what: &str, value: &str) -> Result<(), String> {
    let names = |list: &str| list.split(',').any(|name| name.eq_ignore_ascii_case(value));
    let (allow, deny) = (get(record, &format!("Allow{what}s")), get(record, &format!("Deny{what}s")));
    // The keys read AllowAccounts, but AllowQos.
    let (allow, deny) = match what {
        "Qos" => (get(record, "AllowQos"), get(record, "DenyQos")),
        _ => (allow, deny),
    };
    if !matches!(allow, "" | "ALL") && !names(allow) {
        return Err(format!("it admits {allow}"));
    }
    if names(deny) { Err(format!("it denies {deny}")) } else { Ok(()) }
}

fn judge_time(record: &Record, asked: &Asked) -> Finding {
    let name = get(record, "PartitionName");
    let most = get(record, "MaxTime");
    let shown = format!("{name} gives {}", if most.is_empty() { "no word of its limit" } else { most });
    match (&asked.time, minutes(most)) {
        (Some(time), Some(Some(limit))) if minutes(time).flatten().is_some_and(|asked| asked > limit) => {
            let seen = format!("{time} is asked for, {shown} at most: the job would wait for ever");
            match &asked.qos {
                // A QOS may have a limit that overrides the partition's.
                Some(qos) => Finding::warning(
                    CheckId::WallTime,
                    seen,
                    format!("shorten timeLimit, unless QOS {qos} allows more"),
                ),
                None => Finding::red(
                    CheckId::WallTime,
                    Category::Config,
                    seen,
                    "shorten timeLimit, or set another partition",
                ),
            }
        }
        (Some(time), _) => {
            Finding::ok(CheckId::WallTime, format!("{time} is asked for, {shown} at most")).fact("wall", time)
        }
        (None, limit) => {
            let usual = get(record, "DefaultTime");
            let unlimited = matches!(usual, "NONE" | "" | "UNLIMITED") && limit == Some(None);
            if unlimited && !asked.idle_ends {
                let seen =
                    format!("no timeLimit, no idleTimeoutSeconds, {shown}: nothing ends a lease that is forgotten");
                return Finding::warning(
                    CheckId::WallTime,
                    seen,
                    "set timeLimit, or leave idleTimeoutSeconds at its default",
                );
            }
            let usual = if matches!(usual, "NONE" | "") { most } else { usual };
            Finding::ok(CheckId::WallTime, format!("none is asked for, so {usual}; {shown} at most"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{self, Ok as Green, Red, Warning};
    use rstest::rstest;
    use serde_json::{Value, json};

    const SITE: &str = "PartitionName=batch AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL Default=YES DefaultTime=00:30:00 MaxNodes=UNLIMITED MaxTime=02:00:00 State=UP TotalCPUs=128 TotalNodes=2\n\
        PartitionName=short AllowGroups=ALL AllowAccounts=lab,other DenyQos=long DefaultTime=NONE MaxNodes=1 MaxTime=00:01:00 State=UP TotalCPUs=128 TotalNodes=2\n\
        PartitionName=open AllowGroups=wheel,staff AllowAccounts=ALL DenyAccounts=lab AllowQos=normal DefaultTime=NONE MaxNodes=UNLIMITED MaxTime=UNLIMITED State=UP TotalCPUs=1 TotalNodes=1\n\
        PartitionName=closed AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL DefaultTime=NONE MaxNodes=UNLIMITED MaxTime=UNLIMITED State=DOWN TotalCPUs=1 TotalNodes=1\n";

    fn asked(value: &Value) -> Asked {
        Asked::of(&crate::config::parse(value.as_object().unwrap()).unwrap())
    }

    #[rstest]
    #[case(json!({}), &[Green, Green], "none is asked for, so 00:30:00")]
    #[case(json!({"partition": "batch", "timeLimit": "2:00:00"}), &[Green, Green], "batch gives 02:00:00")]
    #[case(json!({"partition": "batch", "timeLimit": "2:00:01"}), &[Green, Red], "would wait for ever")]
    #[case(json!({"partition": "batch", "timeLimit": "3:00:00", "qos": "long"}), &[Green, Warning], "would wait for ever")]
    #[case(json!({"partition": "nosuch"}), &[Red], "the cluster has batch, short, open, closed")]
    #[case(json!({"partition": "short", "account": "Lab"}), &[Green, Green], "")]
    #[case(json!({"partition": "short", "account": "guest"}), &[Red, Green], "it admits lab,other")]
    #[case(json!({"partition": "short", "qos": "long"}), &[Red, Green], "it denies long")]
    #[case(json!({"partition": "short", "nodes": "2-4"}), &[Red, Green], "gives 1 at most")]
    #[case(json!({"partition": "short,batch", "nodes": 2}), &[Green, Green], "batch: UP")]
    #[case(json!({"partition": "open", "account": "lab", "qos": "high"}), &[Red, Red, Warning, Green], "it admits normal")]
    #[case(json!({"partition": "open", "idleTimeoutSeconds": 0}), &[Warning, Warning], "nothing ends a lease")]
    #[case(json!({"partition": "closed"}), &[Red, Green], "closed is DOWN")]
    fn partitions(#[case] value: Value, #[case] expected: &[CheckStatus], #[case] text: &str) {
        let findings = classify(&parse(SITE), &asked(&value), &["users".into()]);
        assert_eq!(findings.iter().map(|finding| finding.status).collect::<Vec<_>>(), expected, "{findings:#?}");
        assert!(findings.iter().any(|finding| finding.seen.contains(text)), "{findings:#?}");
    }

    #[rstest]
    #[case(json!({}), Some("n01"))]
    #[case(json!({"partition": "short"}), Some("m3"))]
    #[case(json!({"partition": "short", "nodelist": "x[7-9]"}), Some("x7"))]
    #[case(json!({"partition": "nosuch"}), None)]
    fn example_nodes(#[case] value: Value, #[case] expected: Option<&str>) {
        let records =
            parse("PartitionName=batch Default=YES Nodes=n[01-04]\nPartitionName=short Default=NO Nodes=m3,m4\n");
        assert_eq!(example_node(&records, &asked(&value)).as_deref(), expected);
    }

    #[test]
    fn a_cluster_without_a_default_needs_one_named() {
        let text = SITE.replace("Default=YES ", "Default=NO ");
        let findings = classify(&parse(&text), &asked(&json!({})), &[]);
        assert!(findings[0].is(Warning) && findings[0].seen.contains("no default"));
    }
}
