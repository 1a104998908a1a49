//! sinfo: what the nodes of each partition have.

use std::time::Duration;

use crate::host::Command;

/// Nodes of one partition that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    pub partition: String,
    pub gpus: Vec<Gpus>,
    pub cpus: Option<u64>,
    /// In MiB.
    pub mem: Option<u64>,
}

/// GPUs of one type on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gpus {
    /// Nothing where the site names none.
    pub kind: Option<String>,
    pub count: u64,
}

/// The question.
pub fn command(deadline: Duration) -> Command {
    Command::new("sinfo", deadline).env("LC_ALL", "C").args(["--noheader", "--format=%R|%c|%m|%G"])
}

/// Its answer; what is no row is left out.
pub fn parse(text: &str) -> Vec<Nodes> {
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim);
        let (partition, cpus, mem, gres) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
        // A + stands for "and more".
        let number = |cell: &str| cell.trim_end_matches('+').parse().ok();
        (!partition.is_empty()).then(|| Nodes {
            partition: partition.to_owned(),
            gpus: gpus(gres),
            cpus: number(cpus),
            mem: number(mem),
        })
    };
    text.lines().filter_map(row).collect()
}

/// The GPUs of a list such as `gpu:a100:4(S:0-1),lustre:1`.
fn gpus(gres: &str) -> Vec<Gpus> {
    let mut found = Vec::new();
    // What stands in brackets may have commas.
    let mut depth = 0_i32;
    let plain: String = gres
        .chars()
        .filter(|c| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            depth == 0 && *c != ')'
        })
        .collect();
    for item in plain.split(',') {
        let mut parts = item.split(':');
        if parts.next() != Some("gpu") {
            continue;
        }
        let rest: Vec<&str> = parts.collect();
        let (kind, count) = match rest[..] {
            [] => (None, 1),
            [one] => one.parse().map_or((Some(one), 1), |count| (None, count)),
            [kind, count, ..] => (Some(kind), count.parse().unwrap_or(1)),
        };
        found.push(Gpus { kind: kind.map(str::to_owned), count });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("gpu:a100:4(S:0-1),lustre:1", &[(Some("a100"), 4)])]
    #[case("gpu:2", &[(None, 2)])]
    #[case("gpu", &[(None, 1)])]
    #[case("gpu:v100", &[(Some("v100"), 1)])]
    #[case("gpu:a100:2(IDX:0,1),gpu:1g.5gb:7", &[(Some("a100"), 2), (Some("1g.5gb"), 7)])]
    #[case("gpumem:40", &[])]
    #[case("(null)", &[])]
    #[case("", &[])]
    fn gpus_of_nodes(#[case] gres: &str, #[case] expected: &[(Option<&str>, u64)]) {
        let found: Vec<_> = gpus(gres).into_iter().map(|gpu| (gpu.kind, gpu.count)).collect();
        let expected: Vec<_> = expected.iter().map(|(kind, count)| (kind.map(str::to_owned), *count)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_are_read() {
        let rows = parse("batch|64|257000+|(null)\ngpu|32+|128000|gpu:a100:4\nnoise\n");
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].cpus, rows[0].mem), (Some(64), Some(257_000)));
        assert_eq!((rows[1].partition.as_str(), rows[1].gpus.len()), ("gpu", 1));
    }
}
