//! sacct: how a job ended that the controller has forgotten. It lags and may be off, so it never decides that a job
//! lives; an end that it tells is believed only of the very job that we submitted (hazards.md 1.3, B8).

use std::time::Duration;

use super::job::{Class, JobId, State};
use crate::host::{Command, Host};

/// slurmdbd answers in 0.1 s; what takes longer is not worth waiting for.
const DEADLINE: Duration = Duration::from_secs(5);

/// Submission times of squeue and sacct may differ by a rounding.
const SUBMIT_SKEW_SECONDS: u64 = 2;

/// A job's end as the accounting tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub state: State,
    /// `code:signal`.
    pub exit: String,
}

/// The end of this job, if the accounting knows one for its name and submission.
pub fn ended(host: &Host, job: &JobId, name: &str, submitted: Option<i64>, deadline: Duration) -> Option<Ended> {
    let mut command = Command::new("sacct", deadline.min(DEADLINE))
        .args(["--allocations", "--noheader", "--parsable2", "--duplicates"])
        .arg("--format=JobIDRaw,JobName%64,State%40,ExitCode,Submit")
        .arg(format!("--jobs={}", job.id))
        .env("SLURM_TIME_FORMAT", "%s")
        .env("LC_ALL", "C");
    if let Some(cluster) = &job.cluster {
        command = command.arg(format!("--clusters={cluster}"));
    }
    let output = host.run(&command).ok().filter(|output| output.success())?;
    parse(&output.stdout_text(), job.id, name, submitted)
}

/// Finds the end of a job in what sacct printed.
pub fn parse(text: &str, id: u64, name: &str, submitted: Option<i64>) -> Option<Ended> {
    let mut last = None;
    for line in text.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let [raw_id, raw_name, state, exit, submit] = fields[..] else {
            continue;
        };
        let same_submit = match (submitted, submit.parse::<i64>()) {
            (Some(ours), Ok(theirs)) => ours.abs_diff(theirs) <= SUBMIT_SKEW_SECONDS,
            _ => true,
        };
        if raw_id.parse() == Ok(id) && raw_name == name && same_submit {
            last = Some(Ended { state: State::new(state), exit: exit.to_owned() });
        }
    }
    last.filter(|ended| ended.state.class() == Class::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("7|cbx-a|CANCELLED by 1001|0:0|100\n", Some("CANCELLED by 1001"))]
    #[case("7|cbx-a|FAILED|3:0|101\n", Some("FAILED"))]
    #[case("7|cbx-a|RUNNING|0:0|100\n", None)]
    #[case("7|other|FAILED|1:0|100\n", None)]
    #[case("7|cbx-a|FAILED|1:0|5000\n", None)]
    #[case("8|cbx-a|FAILED|1:0|100\n", None)]
    #[case("7|cbx-a|PREEMPTED|0:0|100\n7|cbx-a|PENDING|0:0|100\n", None)]
    #[case("Welcome\n\n7|cbx-a|OUT_OF_ME+|0:0|100\n", None)]
    fn only_our_own_ended_job_counts(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(parse(text, 7, "cbx-a", Some(100)).as_ref().map(|ended| ended.state.word()), expected);
    }
}
