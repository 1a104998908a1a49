//! sbatch: what is asked of it, and what its answer proves.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::job::JobId;
use crate::host::{Command, End, Output};

/// sbatch itself retries for 120 s while the queue is full and for 180 s while a standby controller takes over, so a
/// shorter deadline would call good submissions lost (hazards.md 1.1).
const DEADLINE: Duration = Duration::from_secs(200);

/// Everything that a submission needs.
#[derive(Debug)]
pub struct Submission<'a> {
    pub job_name: &'a str,
    pub comment: &'a str,
    /// Where the job's output goes and where it starts; exists on the nodes.
    pub directory: &'a Path,
    pub clusters: Option<&'a str>,
    pub resources: &'a [String],
    /// The runner's variables.
    pub environment: &'a [(&'static str, OsString)],
    /// The runner itself, verbatim.
    pub script: &'a [u8],
}

impl Submission<'_> {
    /// The command line. `--export=ALL` hands on what we constructed; every other form makes the node load the
    /// user's login environment first (traps.md). The singleton lets one job of a name run at a time, whatever
    /// happened to our earlier attempts. USR1 comes five minutes before the wall time ends the job.
    pub fn command(&self) -> Command {
        let directory = self.directory.to_string_lossy();
        let mut command = Command::new("sbatch", DEADLINE)
            .arg("--parsable")
            .arg(format!("--job-name={}", self.job_name))
            .arg(format!("--comment={}", self.comment))
            .arg(format!("--output={directory}/slurm-%j.out"))
            .arg(format!("--chdir={directory}"))
            .args(["--no-requeue", "--dependency=singleton", "--signal=B:USR1@300", "--export=ALL"]);
        if let Some(clusters) = self.clusters {
            command = command.arg(format!("--clusters={clusters}"));
        }
        command = command.args(self.resources).input(self.script.to_vec());
        for (name, value) in self.environment {
            command = command.env(name, value.clone());
        }
        command
    }
}

/// What a submission came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Submitted(JobId),
    /// Slurm refused; no job exists.
    Rejected {
        said: String,
    },
    /// Refused for now: a limit on submitted jobs, or a full queue.
    Limit {
        said: String,
    },
    /// Nothing reached a controller; no job exists.
    NotSent {
        said: String,
    },
    /// A job may exist, now or in a moment. `refused`: it reads like a refusal in words that are not known here.
    Unknown {
        said: String,
        refused: bool,
    },
}

/// Texts with which a server or sbatch itself refuses before a job exists.
const REJECTIONS: &[&str] = &[
    "invalid partition",
    "Invalid partition",
    "Invalid account",
    "Invalid qos",
    "Invalid feature",
    "Invalid node name",
    "Invalid generic resource",
    "Invalid gres",
    "reservation is invalid",
    "Requested reservation",
    "Requested time limit is invalid",
    "Requested node configuration is not available",
    "Node count specification invalid",
    "More processors requested",
    "Job violates accounting/QOS policy",
    "violates accounting",
    "DOS line breaks",
    "does not look like a batch script",
    "I/O error writing script/environment",
    "Access/permission denied",
    "Invalid --",
    "Invalid numeric value",
    "unrecognized option",
    "ambiguous option",
    "Try \"sbatch --help\"",
    "Memory specification can not be satisfied",
    "Memory required by task is not available",
    "CPU count",
    "Invalid license",
    "No cluster '",
    "invalid entry for --cluster",
    "User's group not permitted",
    "Required partition not available",
    "Job dependency problem",
    "Invalid wckey",
    "Unable to open file",
    "Invalid TRES",
    "Invalid Trackable RESource",
    "Requested partition configuration not available",
];

/// What to change about a refused submission, by what sbatch complains of.
const REMEDIES: &[(&str, &str)] = &[
    ("partition", "correct partition; `sinfo --summarize` lists them"),
    ("account", "correct account; `sacctmgr show associations user=$USER` lists yours"),
    ("qos", "correct qos; `sacctmgr show associations user=$USER format=account,qos` lists yours"),
    ("reservation", "correct reservation; `scontrol show reservation` lists them"),
    ("feature", "correct constraint; `sinfo --format='%n %f'` lists the nodes' features"),
    ("generic resource", "correct gres or gpus; `sinfo --format='%n %G'` lists what nodes have"),
    ("gres", "correct gres or gpus; `sinfo --format='%n %G'` lists what nodes have"),
    ("time limit", "lower timeLimit; `sinfo --format='%P %l'` lists the partitions' limits"),
    ("Memory", "lower mem; `sinfo --format='%n %m'` lists what nodes have"),
    ("node configuration", "ask for less, or for another partition: no node has all that is asked for"),
    ("cluster", "correct clusters; `sacctmgr show clusters` lists them"),
    ("runner", "correct the runner script"),
    ("batch script", "correct the runner script"),
];

/// What to change after a refusal.
pub fn remedy(said: &str) -> &'static str {
    let hit = REMEDIES.iter().find(|(word, _)| said.contains(word));
    hit.map_or("correct what sbatch names in external.config", |(_, remedy)| remedy)
}

/// Texts of a refusal that time heals.
const LIMITS: &[&str] = &["MaxSubmitJob", "temporarily", "Too many jobs", "queue full", "MaxJobCount"];

/// Texts that say that no controller was reached: nothing was sent. Only the connection itself counts; a failure to
/// send or receive leaves the outcome open.
const NOT_SENT: &[&str] = &[
    "Unable to contact slurm controller (connect failure)",
    "Unable to establish control machine address",
    "Unable to establish configuration source",
    "Munge encode failed",
    "could not establish a configuration source",
    "sbatch: fatal:",
];

/// Texts that leave the outcome open, whatever else is said.
const OPEN: &[&str] = &[
    "Socket timed out",
    "send failure",
    "receive failure",
    "Zero Bytes were transmitted",
    "Unexpected message received",
    "Connection reset",
    "Connection refused by peer",
];

/// Reads sbatch's answer. With `--parsable` it is one line, `id` or `id;cluster`; wrappers and hooks may say more
/// around it, so the last line that is exactly of that form counts (hazards.md 1.1, A3).
pub fn outcome(output: &Output) -> Outcome {
    let said = output.said();
    match output.end {
        End::Exit(0) => match output.stdout_text().lines().rev().find_map(parse_id) {
            Some(job) => Outcome::Submitted(job),
            None => Outcome::Unknown { said, refused: false },
        },
        End::Exit(_) => {
            let text = output.stderr_text() + &output.stdout_text();
            let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
            let named_a_job = output.stdout_text().lines().any(|line| parse_id(line).is_some());
            if named_a_job || has(OPEN) {
                Outcome::Unknown { said, refused: false }
            } else if has(LIMITS) {
                Outcome::Limit { said }
            } else if has(NOT_SENT) {
                Outcome::NotSent { said }
            } else if has(REJECTIONS) {
                Outcome::Rejected { said }
            } else {
                // A job_submit plugin's refusal, for example, reads "Unspecified error".
                Outcome::Unknown { said, refused: true }
            }
        }
        End::Signal(_) | End::DeadlinePassed | End::TooMuchOutput | End::ConnectionLost => {
            Outcome::Unknown { said, refused: false }
        }
    }
}

fn parse_id(line: &str) -> Option<JobId> {
    let (id, cluster) = match line.trim_end_matches('\r').split_once(';') {
        Some((id, cluster)) => (id, Some(cluster)),
        None => (line.trim_end_matches('\r'), None),
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
            Outcome::Rejected { .. } => "rejected".into(),
            Outcome::Limit { .. } => "limit".into(),
            Outcome::NotSent { .. } => "not sent".into(),
            Outcome::Unknown { refused: true, .. } => "unknown, refused".into(),
            Outcome::Unknown { .. } => "unknown".into(),
        }
    }

    #[rstest]
    #[case(End::Exit(0), "12\n", "", "12")]
    #[case(End::Exit(0), "1;annex\n", "", "1;annex")]
    #[case(End::Exit(0), "Welcome to Stampede3\n3 nodes idle\n42\nbye\n", "", "42")]
    #[case(End::Exit(0), "", "", "unknown")]
    #[case(End::Exit(0), "Submitted batch job 13\n", "", "unknown")]
    #[case(End::Exit(0), "0\n", "", "unknown")]
    #[case(End::Exit(0), "12;$(x)\n", "", "unknown")]
    #[case(
        End::Exit(1),
        "",
        "sbatch: error: Batch job submission failed: Invalid partition name specified",
        "rejected"
    )]
    #[case(
        End::Exit(1),
        "",
        "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid partition name specified",
        "rejected"
    )]
    #[case(
        End::Exit(1),
        "",
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
        "rejected"
    )]
    #[case(
        End::Exit(1),
        "",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "unknown"
    )]
    #[case(
        End::Exit(1),
        "",
        "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
        "unknown"
    )]
    #[case(
        End::Exit(1),
        "",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "not sent"
    )]
    #[case(
        End::Exit(1),
        "",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (send failure)",
        "unknown"
    )]
    #[case(
        End::Exit(1),
        "",
        "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "limit"
    )]
    #[case(
        End::Exit(255),
        "",
        "sbatch: unrecognized option '--x'\nTry \"sbatch --help\" for more information",
        "rejected"
    )]
    #[case(
        End::Exit(1),
        "",
        "sbatch: error: You cannot\nsbatch: error: Batch job submission failed: Unspecified error",
        "unknown, refused"
    )]
    #[case(End::Exit(1), "", "gibberish", "unknown, refused")]
    #[case(End::Exit(1), "12\n", "sbatch: error: Invalid license specification", "unknown")]
    #[case(
        End::Exit(1),
        "",
        "sbatch: error: Socket timed out on send/recv operation\nsbatch: error: Unable to contact slurm controller (connect failure)",
        "unknown"
    )]
    #[case(End::DeadlinePassed, "", "", "unknown")]
    #[case(End::Signal(9), "12\n", "", "unknown")]
    fn outcomes(#[case] end: End, #[case] stdout: &str, #[case] stderr: &str, #[case] expected: &str) {
        assert_eq!(name(&outcome(&output(end, stdout, stderr))), expected);
    }
}
