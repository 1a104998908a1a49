//! sacctmgr: which accounts and QOS a user has, and how many jobs they allow, where there is accounting.

use std::time::Duration;

use crate::host::Command;

/// One association of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    pub default_account: String,
    pub cluster: String,
    pub account: String,
    /// Empty: every partition.
    pub partition: String,
    pub qos: Vec<String>,
    /// That of jobs which ask for none; empty where it has none.
    pub default_qos: String,
    pub most: Most,
}

/// How many jobs one user may have; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Most {
    pub running: Option<u64>,
    /// Those that wait count too.
    pub submitted: Option<u64>,
}

/// A QOS and what it allows each user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qos {
    pub name: String,
    pub most: Most,
}

/// The question, about one user. Limits are told as they count, those of the accounts above included.
pub fn command(deadline: Duration, user: &str) -> Command {
    let format = "format=defaultaccount,cluster,account,partition,qos,defaultqos,maxjobs,maxsubmitjobs";
    show(deadline).args(["user", &format!("name={user}"), "withassoc", format])
}

/// The question about some QOS.
pub fn qos_command(deadline: Duration, names: &[&str]) -> Command {
    let format = "format=name,maxjobsperuser,maxsubmitjobsperuser";
    show(deadline).args(["qos", &format!("name={}", names.join(",")), format])
}

fn show(deadline: Duration) -> Command {
    let words = ["--noheader", "--parsable2", "--readonly", "show"];
    Command::new("sacctmgr", deadline).env("LC_ALL", "C").args(words)
}

/// Its answer; what is no row is left out.
pub fn parse(text: &str) -> Vec<Association> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        let [default_account, cluster, account, partition, qos, default_qos, running, submitted] = cells[..] else {
            return None;
        };
        let qos = qos.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        (!account.is_empty()).then(|| Association {
            default_account: default_account.to_owned(),
            cluster: cluster.to_owned(),
            account: account.to_owned(),
            partition: partition.to_owned(),
            qos,
            default_qos: default_qos.to_owned(),
            most: Most { running: running.parse().ok(), submitted: submitted.parse().ok() },
        })
    };
    text.lines().filter_map(row).collect()
}

/// The answer about QOS.
pub fn parse_qos(text: &str) -> Vec<Qos> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        let [name, running, submitted] = cells[..] else { return None };
        let most = Most { running: running.parse().ok(), submitted: submitted.parse().ok() };
        (!name.is_empty()).then(|| Qos { name: name.to_owned(), most })
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        let text = "lab|campus|lab||normal,long|normal|4|8\nlab|campus|phys/theory|gpu||||\nnoise\n|||||||\n";
        let rows = parse(text);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].qos.join(" "), rows[0].default_qos.as_str()), ("normal long".to_owned(), "normal"));
        assert_eq!(rows[0].most, Most { running: Some(4), submitted: Some(8) });
        assert_eq!(rows[1].most, Most::default());
        assert_eq!((rows[1].account.as_str(), rows[1].partition.as_str()), ("phys/theory", "gpu"));
    }

    #[test]
    fn limits_of_qos_are_read() {
        let found = parse_qos("normal||\nsandbox|4|8\nnoise\n||\n");
        let of = |running, submitted| Most { running, submitted };
        assert_eq!(
            found.iter().map(|qos| (qos.name.as_str(), qos.most)).collect::<Vec<_>>(),
            [("normal", of(None, None)), ("sandbox", of(Some(4), Some(8)))]
        );
    }
}
