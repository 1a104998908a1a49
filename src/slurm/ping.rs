//! `scontrol ping`: which controllers there are, and which of them answer.

/// Hosts and whether they are up, from `Slurmctld(primary) at ctl is UP`, and from the older
/// `Slurmctld(primary/backup) at a/b are UP/DOWN`.
pub fn parse(text: &str) -> Vec<(String, bool)> {
    let mut hosts = Vec::new();
    for line in text.lines() {
        let Some((_, rest)) = line.strip_prefix("Slurmctld(").and_then(|rest| rest.split_once(") at ")) else {
            continue;
        };
        let Some((names, states)) = rest.split_once(" is ").or_else(|| rest.split_once(" are ")) else {
            continue;
        };
        let pairs = names.split('/').zip(states.split('/'));
        hosts.extend(pairs.map(|(name, state)| (name.trim().to_owned(), state.trim() == "UP")));
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Slurmctld(primary) at ctl is UP\n", &[("ctl", true)])]
    #[case("Slurmctld(primary) at ctl is DOWN\nSlurmctld(backup) at two is UP\n", &[("ctl", false), ("two", true)])]
    #[case("Slurmctld(primary/backup) at a/b are UP/DOWN\n", &[("a", true), ("b", false)])]
    #[case("slurm_load_ctl_conf error\n", &[])]
    fn controllers(#[case] text: &str, #[case] expected: &[(&str, bool)]) {
        let expected: Vec<_> = expected.iter().map(|(name, up)| ((*name).to_owned(), *up)).collect();
        assert_eq!(parse(text), expected);
    }
}
