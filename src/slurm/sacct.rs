//! sacct: how a job ended that the controller has forgotten. It lags and may be off, so it never decides that a job
//! lives; an end that it tells is believed only of the very job that we submitted (docs/facts/slurm.md, "sacct"). The name, which the
//! job's owner may change, comes last, and columns are kept apart by a mark of this query (see squeue.rs).

use std::collections::BTreeMap;
use std::time::Duration;

use super::job::{Class, JobId, QueryFailed, State};
use super::on_clusters;
use super::squeue::Mark;
use super::tres::Tres;
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
    let mark = Mark::random().ok()?;
    let command = Command::new("sacct", deadline.min(DEADLINE))
        .args(["--allocations", "--noheader", "--parsable2", "--duplicates"])
        .arg(format!("--delimiter={}", mark.as_str()))
        .arg("--format=JobIDRaw,State%40,ExitCode,Submit,JobName%64")
        .arg(format!("--jobs={}", job.id))
        .env("SLURM_TIME_FORMAT", "%s")
        .env("LC_ALL", "C");
    let output = host.run(&on_clusters(command, job.cluster.as_deref())).ok().filter(|output| output.success())?;
    parse(&output.stdout_text(), &mark, job.id, name, submitted)
}

/// Finds the end of a job in what sacct printed.
pub fn parse(text: &str, mark: &Mark, id: u64, name: &str, submitted: Option<i64>) -> Option<Ended> {
    let mut last = None;
    for line in text.lines() {
        let fields: Vec<&str> = line.split(mark.as_str()).collect();
        let [raw_id, state, exit, submit, raw_name] = fields[..] else {
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

/// What a job was given and has used, as the accounting tells it. Of a job that runs it knows only the former.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Accounted {
    pub granted: Tres,
    pub used: Tres,
    /// How long it has run.
    pub seconds: Option<i64>,
}

/// The same of several jobs of one cluster, in one question.
///
/// # Errors
/// When there is no accounting, or it does not answer.
pub fn accounted(host: &Host, cluster: Option<&str>, jobs: &[u64]) -> Result<BTreeMap<u64, Accounted>, QueryFailed> {
    let ids: Vec<String> = jobs.iter().map(u64::to_string).collect();
    let command = Command::new("sacct", DEADLINE)
        .args(["--noheader", "--parsable2", "--noconvert", "--format=JobIDRaw,ElapsedRaw,AllocTRES,TRESUsageInTot"])
        .arg(format!("--jobs={}", ids.join(",")))
        .env("LC_ALL", "C");
    let output = host.run(&on_clusters(command, cluster)).map_err(|error| QueryFailed(error.to_string()))?;
    if output.success() {
        Ok(parse_accounted(&output.stdout_text()))
    } else {
        Err(QueryFailed(format!("sacct failed: {}", output.said())))
    }
}

/// Reads lines of jobs, `12|65|cpu=2,mem=4G|`, and of their steps, `12.batch|65|cpu=2,mem=4G|cpu=00:00:05,mem=4096`.
fn parse_accounted(text: &str) -> BTreeMap<u64, Accounted> {
    let mut jobs = BTreeMap::<u64, Accounted>::new();
    for line in text.lines() {
        let [id, seconds, granted, used] = line.split('|').collect::<Vec<_>>()[..] else { continue };
        let (id, step) = id.split_once('.').map_or((id, false), |(id, _)| (id, true));
        let Ok(id) = id.parse() else { continue };
        let job = jobs.entry(id).or_default();
        if step {
            job.used = job.used.plus(Tres::parse(used));
        } else {
            (job.granted, job.seconds) = (Tres::parse(granted), seconds.parse().ok());
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("7|CANCELLED by 1001|0:0|100|cbx-a\n", Some("CANCELLED by 1001"))]
    #[case("7|FAILED|3:0|101|cbx-a\n", Some("FAILED"))]
    #[case("7|RUNNING|0:0|100|cbx-a\n", None)]
    #[case("7|FAILED|1:0|100|other\n", None)]
    #[case("7|FAILED|1:0|5000|cbx-a\n", None)]
    #[case("8|FAILED|1:0|100|cbx-a\n", None)]
    #[case("7|PREEMPTED|0:0|100|cbx-a\n7|PENDING|0:0|100|cbx-a\n", None)]
    #[case("Welcome\n\n7|OUT_OF_ME+|0:0|100|cbx-a\n", None)]
    fn only_our_own_ended_job_counts(#[case] text: &str, #[case] expected: Option<&str>) {
        let mark = Mark::parse("00112233445566778899aabbccddeeff").unwrap();
        let text = text.replace('|', mark.as_str());
        let state = |text: &str| parse(text, &mark, 7, "cbx-a", Some(100)).map(|ended| ended.state.word().to_owned());
        assert_eq!(state(&text).as_deref(), expected);
        // A name that imitates a row is a name.
        let forged = format!("{}|x\n7|COMPLETED|0:0|100|cbx-a\n", "8|RUNNING|0:0|100".replace('|', mark.as_str()));
        assert_eq!(state(&(text + &forged)).as_deref(), expected);
    }

    #[test]
    fn jobs_and_their_steps_are_told_apart() {
        let text = "7|65|billing=2,cpu=2,mem=4G,node=1|\n7.batch|65|cpu=2,mem=4G,node=1|cpu=00:00:05,mem=4096\n\
                    7.extern|65|billing=2,cpu=2|cpu=00:00:01,mem=1024\n8|0||\nnoise\n";
        let jobs = parse_accounted(text);
        let seven = jobs[&7];
        assert_eq!((seven.granted.cpu, seven.granted.mem, seven.seconds), (Some(2.0), Some(4 << 30), Some(65)));
        assert_eq!((seven.used.cpu, seven.used.mem), (Some(6.0), Some(5120)));
        assert_eq!(jobs[&8], Accounted { seconds: Some(0), ..Accounted::default() });
    }
}
