//! `scontrol --oneliner show reservation`: when a maintenance keeps jobs from starting that would not end before it.

use std::time::Duration;

use super::{scontrol, silence};
use crate::host::Host;

/// It completes a message; a hung controller is not waited for.
const DEADLINE: Duration = Duration::from_secs(5);

/// When the next maintenance begins, in seconds since the epoch, as far as Slurm tells.
pub fn next_maintenance(host: &Host, cluster: Option<&str>, now: i64) -> Option<i64> {
    let command = scontrol::command(DEADLINE, cluster).env("SLURM_TIME_FORMAT", "%s");
    let output = silence::ask(host, cluster, &command.args(["--oneliner", "show", "reservation"])).ok()?;
    next_start(&output.stdout_text(), now)
}

/// The first start after now of a reservation with the flag MAINT.
fn next_start(text: &str, now: i64) -> Option<i64> {
    let starts = text.lines().filter_map(|line| {
        let value = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value("Flags")?.split(',').any(|flag| flag == "MAINT").then(|| value("StartTime")?.parse::<i64>().ok())?
    });
    starts.filter(|start| *start > now).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const MAINTENANCE: &str = "ReservationName=maint StartTime=1795794801 EndTime=1795798401 Duration=01:00:00 Nodes=n[1-2] NodeCnt=2 CoreCnt=128 \
        Features=(null) PartitionName=(null) Flags=MAINT,IGNORE_JOBS,SPEC_NODES,ALL_NODES TRES=cpu=128 Users=root State=INACTIVE\n";

    #[rstest]
    #[case::ahead(MAINTENANCE.to_owned(), Some(1_795_794_801))]
    #[case::the_next(format!("{}{MAINTENANCE}", MAINTENANCE.replace("17957948", "17958948")), Some(1_795_794_801))]
    #[case::under_way(MAINTENANCE.replace("StartTime=17957", "StartTime=17956"), None)]
    #[case::of_a_group(MAINTENANCE.replace("MAINT,", ""), None)]
    #[case::other_times(MAINTENANCE.replace("1795794801", "2026-11-27T15:53:21"), None)]
    #[case::none("No reservations in the system\n".to_owned(), None)]
    fn maintenances(#[case] text: String, #[case] expected: Option<i64>) {
        assert_eq!(next_start(&text, 1_795_790_000), expected);
    }
}
