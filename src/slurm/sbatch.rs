//! sbatch: what is asked of it, and what its answer proves.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::job::JobId;
use super::on_clusters;
use super::refusal::{self, Change, Meaning};
use crate::host::{Command, End, Output};

/// sbatch itself retries for 120 s while the queue is full and for 180 s while a standby controller takes over, so a
/// shorter deadline would call good submissions lost (docs/facts/slurm.md, "Outcomes of sbatch").
pub const DEADLINE: Duration = Duration::from_secs(200);

/// Everything that a submission needs.
#[derive(Debug)]
pub struct Submission<'a> {
    pub job_name: String,
    pub comment: String,
    /// Where the job's output goes and where it starts; exists on the nodes.
    pub directory: PathBuf,
    pub clusters: Option<&'a str>,
    pub resources: &'a [String],
    /// The runner's variables.
    pub environment: Vec<(&'static str, OsString)>,
    /// How long sbatch may take.
    pub deadline: Duration,
    /// The runner itself, verbatim.
    pub script: &'a [u8],
}

impl Submission<'_> {
    /// The command line.
    pub fn command(&self) -> Command {
        let directory = self.directory.to_string_lossy();
        let mut command = Command::new("sbatch", self.deadline)
            .once()
            .arg("--parsable")
            .arg(format!("--job-name={}", self.job_name))
            .arg(format!("--comment={}", self.comment))
            .arg(format!("--output={directory}/slurm-%j.out"))
            .arg(format!("--chdir={directory}"));
        command = asked(command, self.clusters, self.resources, self.script);
        for (name, value) in &self.environment {
            command = command.env(name, value.clone());
        }
        command
    }
}

/// What every lease's job is asked for with. `--export=ALL` hands on what we constructed; every other form makes the node load the
/// user's login environment first (docs/facts/slurm.md, "Export"). The singleton lets one job of a name run at a time, whatever
/// happened to our earlier attempts. USR1 comes five minutes before the wall time ends the job.
pub fn asked(command: Command, clusters: Option<&str>, resources: &[String], script: &[u8]) -> Command {
    let command = command.args(["--no-requeue", "--dependency=singleton", "--signal=B:USR1@300", "--export=ALL"]);
    on_clusters(command, clusters).args(resources).input(script.to_vec())
}

/// What a submission came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Submitted(JobId),
    /// No job exists, and another call would come to the same.
    NoJob {
        why: NoJob,
        said: String,
    },
    /// Nothing reached a controller; no job exists.
    NotSent {
        said: String,
    },
    /// A job may exist, now or in a moment.
    Unknown {
        said: String,
        /// It reads like a refusal by the site's own plugin: asking again is of no use.
        plugin: bool,
    },
}

/// Why there is no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoJob {
    /// The same request is refused again, unless this is changed.
    Refused(Change),
    /// A limit on submitted jobs is reached.
    Limit,
    /// Slurm takes none at present.
    Closed,
    /// There is no sbatch here.
    NoSbatch,
}

/// Reads sbatch's answer. With `--parsable` it is one line, `id` or `id;cluster`; wrappers and hooks may say more around
/// it. Where a second line could be meant, or the line has no end, since what is cut off an id leaves another job's, the job
/// is found by its name and nonce instead.
pub fn outcome(output: &Output) -> Outcome {
    let said = output.said();
    let unknown = |said| Outcome::Unknown { said, plugin: false };
    let no_job = |why, said| Outcome::NoJob { why, said };
    let stdout = output.stdout_text();
    let mut candidates = stdout.split_inclusive('\n').filter(|line| could_be_id(line));
    match (output.end, candidates.next(), candidates.next()) {
        (End::Exit(0), Some(line), None) => parse_id(line).map_or_else(|| unknown(said), Outcome::Submitted),
        (End::Exit(0), ..) | (End::Exit(_), Some(_), _) => unknown(said),
        (End::Exit(_), None, _) => match refusal::meaning(&(output.stderr_text() + "\n" + &stdout)) {
            Meaning::Refused(change) => no_job(NoJob::Refused(change), said),
            Meaning::Limit => no_job(NoJob::Limit, said),
            Meaning::Closed => no_job(NoJob::Closed, said),
            Meaning::NotSent => Outcome::NotSent { said },
            Meaning::Plugin => Outcome::Unknown { said, plugin: true },
            Meaning::Unknown => unknown(said),
        },
        (End::Signal(_) | End::DeadlinePassed | End::TooMuchOutput | End::ConnectionLost, ..) => unknown(said),
    }
}

/// Whether a line may be meant as an id: a bare number of any kind, or one with a cluster.
fn could_be_id(line: &str) -> bool {
    let line = line.trim();
    let (number, _) = line.split_once(';').unwrap_or((line, ""));
    number.bytes().any(|b| b.is_ascii_digit()) && number.bytes().all(|b| b.is_ascii_digit() || b" \t.,+-_".contains(&b))
}

fn parse_id(line: &str) -> Option<JobId> {
    let line = line.strip_suffix('\n')?.trim_end_matches('\r');
    let (id, cluster) = match line.split_once(';') {
        Some((id, cluster)) => (id, Some(cluster)),
        None => (line, None),
    };
    let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
    let id = digits.then(|| id.parse().ok()).flatten().filter(|id| *id > 0)?;
    let cluster = match cluster {
        Some(name) if crate::config::value::is_word(name, "_.-") => Some(name.to_owned()),
        Some(_) => return None,
        None => None,
    };
    Some(JobId { id, cluster })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn output(end: End, stdout: &str, stderr: &str) -> Output {
        Output { end, stdout: stdout.into(), stderr: stderr.into(), took: Duration::ZERO }
    }

    fn name(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Submitted(job) => job.to_string(),
            Outcome::NoJob { why: NoJob::Refused(_), .. } => "refused".into(),
            Outcome::NoJob { why, .. } => format!("{why:?}"),
            Outcome::NotSent { .. } => "not sent".into(),
            Outcome::Unknown { plugin: true, .. } => "unknown, by a plugin".into(),
            Outcome::Unknown { .. } => "unknown".into(),
        }
    }

    #[rstest]
    #[case(End::Exit(0), "12\n", "", "12")]
    #[case(End::Exit(0), "1;annex\n", "", "1;annex")]
    #[case(End::Exit(0), "12\r\n", "", "12")]
    #[case(End::Exit(0), "Welcome to Stampede3\n3 nodes idle\n42\nbye\n", "", "42")]
    #[case(End::Exit(0), "Welcome to cluster 12\n42\n99 bottles\n", "", "42")]
    #[case(End::Exit(0), "1\n1234\n", "", "unknown")]
    #[case(End::Exit(0), "1234\n1\n", "", "unknown")]
    #[case(End::Exit(0), "1\n 12.5 \n", "", "unknown")]
    #[case(End::Exit(0), "1\n1\n", "", "unknown")]
    #[case(End::Exit(0), "1;annex\n2;campus\n", "", "unknown")]
    #[case(End::Exit(0), "1\n2;hours left\n", "", "unknown")]
    #[case(End::Exit(0), " 12\n", "", "unknown")]
    #[case(End::Exit(0), "12_3\n", "", "unknown")]
    #[case(End::Exit(0), "", "", "unknown")]
    #[case(End::Exit(0), "Submitted batch job 13\n", "", "unknown")]
    #[case(End::Exit(0), "0\n", "", "unknown")]
    #[case(End::Exit(0), "12", "", "unknown")]
    #[case(End::Exit(0), "12;anne", "", "unknown")]
    #[case(End::Exit(0), "Welcome\n12", "", "unknown")]
    #[case(End::Exit(0), "12;$(x)\n", "", "unknown")]
    #[case(End::Exit(1), "", "sbatch: error: Batch job submission failed: Invalid qos specification", "refused")]
    #[case(
        End::Exit(1),
        "",
        "sbatch: error: You cannot\nsbatch: error: Batch job submission failed: Unspecified error",
        "unknown, by a plugin"
    )]
    #[case(End::Exit(1), "", "sbatch: error: Batch job submission failed: System submissions disabled", "Closed")]
    #[case(End::Exit(1), "", "sbatch: fatal: Could not establish a configuration source", "not sent")]
    #[case(End::Exit(1), "12\n", "sbatch: error: Invalid license specification", "unknown")]
    #[case(End::Exit(1), "", "gibberish", "unknown")]
    #[case(End::DeadlinePassed, "", "", "unknown")]
    #[case(End::ConnectionLost, "12\n", "", "unknown")]
    #[case(End::Signal(9), "12\n", "", "unknown")]
    fn outcomes(#[case] end: End, #[case] stdout: &str, #[case] stderr: &str, #[case] expected: &str) {
        assert_eq!(name(&outcome(&output(end, stdout, stderr))), expected);
    }
}
