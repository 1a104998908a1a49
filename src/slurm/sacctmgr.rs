//! sacctmgr: which accounts and QOS a user has, where there is accounting.

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
}

/// The question, about one user.
pub fn command(deadline: Duration, user: &str) -> Command {
    let format = "format=defaultaccount,cluster,account,partition,qos";
    let words =
        ["--noheader", "--parsable2", "--readonly", "show", "user", &format!("name={user}"), "withassoc", format];
    Command::new("sacctmgr", deadline).env("LC_ALL", "C").args(words)
}

/// Its answer; what is no row is left out.
pub fn parse(text: &str) -> Vec<Association> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        let [default_account, cluster, account, partition, qos] = cells[..] else { return None };
        let qos = qos.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        (!account.is_empty()).then(|| Association {
            default_account: default_account.to_owned(),
            cluster: cluster.to_owned(),
            account: account.to_owned(),
            partition: partition.to_owned(),
            qos,
        })
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        let rows = parse("lab|campus|lab||normal,long\nlab|campus|phys/theory|gpu|\nnoise\n||||\n");
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].qos, ["normal", "long"]);
        assert_eq!((rows[1].account.as_str(), rows[1].partition.as_str()), ("phys/theory", "gpu"));
    }
}
