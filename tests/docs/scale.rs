//! What many leases cost the controller, computed from the parts that were measured and from the schedule in the code.

use std::fmt::Write as _;

use crate::{block, read};

/// Requests to slurmctld that one call makes, by `sdiag` (Slurm 22.05).
const REQUESTS_OF_ACQUIRE: f64 = 4.0;
const REQUESTS_OF_RELEASE: f64 = 10.0;
const REQUESTS_OF_RESOLVE: f64 = 3.0;
const REQUESTS_OF_SQUEUE: f64 = 3.0;

/// Files and directories that one look of a wait opens, by strace.
const OPENS_OF_A_LOOK: f64 = 2.0;

/// How the leases are used: an assumption, which the page tells.
const USERS: f64 = 100.0;
const LIFETIME_MINUTES: f64 = 90.0;
const MINUTES_BETWEEN_RUNS: f64 = 10.0;
const LISTS_OF_A_USER_A_MINUTE: f64 = 1.0;

/// The numbers in the line of a source file that begins like this, after its blanks.
fn numbers(file: &str, beginning: &str) -> Vec<f64> {
    let text = read(file);
    let line = text.lines().find(|line| line.trim_start().starts_with(beginning));
    let line =
        line.unwrap_or_else(|| panic!("{file} has no line that begins with {beginning:?}: see tests/docs/scale.rs"));
    let rest = line.trim_start().trim_start_matches(beginning);
    rest.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The most questions a minute of all waits of one user on one host: each takes an answer that is younger than a part of its gap.
fn questions_a_minute() -> f64 {
    const SCHEDULE: &str = "src/operation/wait/schedule.rs";
    let gap = numbers(SCHEDULE, "next.map_or(Duration::from_secs(")[0];
    let part = numbers(SCHEDULE, "gap * ");
    60.0 / (gap * part[0] / part[1])
}

fn looks_a_minute() -> f64 {
    60_000.0 / numbers("src/operation/wait/schedule.rs", "_ => ")[0]
}

#[test]
fn what_many_leases_cost_is_computed() {
    let mut table = "| leases of 100 users | all wait: squeue a minute | all wait: requests a minute | all wait: opens a second | in use: sbatch a minute | \
                     in use: requests a minute | requests a second |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (leases, shown) in [(10.0, "10"), (1000.0, "1,000"), (10_000.0, "10,000")] {
        let users = f64::min(leases, USERS);
        let questions = users * questions_a_minute();
        let starts = leases / LIFETIME_MINUTES;
        let requests = starts * (REQUESTS_OF_ACQUIRE + REQUESTS_OF_RELEASE)
            + leases / MINUTES_BETWEEN_RUNS * REQUESTS_OF_RESOLVE
            + users * LISTS_OF_A_USER_A_MINUTE * REQUESTS_OF_SQUEUE;
        writeln!(
            table,
            "| {shown} | {questions:.0} | {:.0} | {:.0} | {starts:.1} | {requests:.0} | {:.1} |",
            questions * REQUESTS_OF_SQUEUE,
            leases * looks_a_minute() * OPENS_OF_A_LOOK / 60.0,
            requests / 60.0
        )
        .unwrap();
    }
    block("docs/performance.md", "leases at scale", &table);
}

#[test]
fn numbers_are_those_of_a_line() {
    assert_eq!(
        numbers("src/operation/wait/schedule.rs", "const ASK_AT_SECONDS: [u64; 5] ="),
        [3.0, 5.0, 10.0, 20.0, 30.0]
    );
}
