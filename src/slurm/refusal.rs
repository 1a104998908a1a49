//! What sbatch's words mean when it has not submitted a job, and what to change then.
//!
//! The texts are those of Slurm's error numbers and of sbatch's own option parser, from 20.11 on. Nothing is taken for
//! a refusal that is not known to be one. All matching is done here; the outcome is an enum.

/// What the words of an sbatch that failed prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// No job exists; the same request is refused again.
    Refused(Change),
    /// No job exists, for a limit on submitted jobs.
    Limit,
    /// No job exists, since Slurm takes none at present.
    Closed,
    /// No job exists: the request did not leave, or the controller did not take it up.
    NotSent,
    /// The site's own plugin refused in words of its own, as far as can be told.
    Plugin,
    /// A job may exist.
    Unknown,
}

/// What to change about a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Account,
    Partition,
    Qos,
    TimeLimit,
    Cpus,
    Memory,
    Nodes,
    Gpus,
    Constraint,
    Nodelist,
    Reservation,
    Licenses,
    Wckey,
    Clusters,
    Runner,
    /// Options that sbatch does not know, or that contradict each other.
    Options,
    /// More than any node, or a limit, allows; Slurm does not say of what.
    Less,
    /// A limit on what one user has in use at a time.
    LessAtOnce,
    /// Only the site's own text says it.
    AsSaid,
}

impl Change {
    /// What to do, for people.
    pub fn remedy(self) -> &'static str {
        match self {
            Change::Account => {
                "correct account, or a partition that it may not use; `sacctmgr show associations user=$USER` lists yours"
            }
            Change::Partition => "correct partition; `sinfo --summarize` lists them",
            Change::Qos => {
                "correct qos, or a partition that it may not use; `sacctmgr show associations user=$USER format=account,qos` lists yours"
            }
            Change::TimeLimit => {
                "set or lower timeLimit; `sinfo --format='%P %l'` lists the partitions' limits, `sacctmgr show qos format=name,maxwall` those of the QOS"
            }
            Change::Cpus => "ask for fewer cpus, or for another partition or qos",
            Change::Memory => "lower mem; `sinfo --format='%n %m'` lists what nodes have",
            Change::Nodes => "ask for fewer nodes, or for another partition or qos",
            Change::Gpus => "correct gres or gpus; `sinfo --format='%n %G'` lists what nodes have",
            Change::Constraint => "correct constraint; `sinfo --format='%n %f'` lists the nodes' features",
            Change::Nodelist => {
                "correct nodelist or exclude; `sinfo --Node` lists the nodes, `scontrol show reservation` what is reserved"
            }
            Change::Reservation => "correct reservation; `scontrol show reservation` lists them",
            Change::Licenses => "correct licenses; `scontrol show licenses` lists them",
            Change::Wckey => "correct --wckey in extraSbatchArgs; `sacctmgr show wckey user=$USER` lists yours",
            Change::Clusters => "correct clusters; `sacctmgr show clusters` lists them",
            Change::Runner => "correct the runner script",
            Change::Options => "correct the options that sbatch names, in external.config",
            Change::Less => "ask for less (timeLimit, cpus, mem, gpus, nodes), or for another partition or qos",
            Change::LessAtOnce => "ask for less, or wait until other jobs of yours have ended",
            Change::AsSaid => "do what the site's text says",
        }
    }
}

use Change::*;
use Meaning::{Closed, Limit, NotSent, Refused};

/// Texts that leave the outcome open, whatever else is said.
const OPEN: &[&str] = &[
    "socket timed out",
    "send failure",
    "receive failure",
    "shutdown failure",
    "zero bytes were transmitted",
    "unexpected message received",
    "connection reset",
    "connection refused by peer",
    "broken pipe",
];

/// What sbatch says before anything is sent: of its configuration, and of munge or sackd on its own host.
const BEFORE_SENDING: &[&str] = &[
    "unable to contact slurm controller (connect failure)",
    "unable to establish control machine address",
    "establish configuration source",
    "establish a configuration source",
    "unable to process configuration file",
    "munge encode failed",
    "sack sockets",
    "has authentication error",
];

/// The texts of Slurm's error numbers and of sbatch, in lower case; the first that fits counts.
const KNOWN: &[(&str, Meaning)] = &[
    ("unable to contact slurm controller (connect failure)", NotSent),
    ("rate limit exceeded", NotSent),
    ("in standby mode", NotSent),
    ("cli_filter plugin terminated", Refused(AsSaid)),
    ("system submissions disabled", Closed),
    ("requested operation is presently disabled", Closed),
    ("maxjobcount", Limit),
    ("unable to create job record", Limit),
    ("too many jobs", Limit),
    ("queue full", Limit),
    ("temporarily unable to accept job", Limit),
    ("resource temporarily unavailable", Limit),
    ("invalid account or account/partition combination", Refused(Account)),
    ("invalid or unknown association", Refused(Account)),
    ("invalid account", Refused(Account)),
    ("account not permitted to use this partition", Refused(Account)),
    ("qos not permitted to use this partition", Refused(Qos)),
    ("requested account has breached requested qos", Refused(Qos)),
    ("invalid partition", Refused(Partition)),
    ("no partition specified", Refused(Partition)),
    ("group not permitted", Refused(Partition)),
    ("required partition not available", Refused(Partition)),
    ("partition in down state", Refused(Partition)),
    ("requested partition configuration not available", Refused(Less)),
    ("multiple partition job request not supported", Refused(Partition)),
    ("invalid qos", Refused(Qos)),
    ("requested time limit is invalid", Refused(TimeLimit)),
    ("invalid time-min", Refused(TimeLimit)),
    ("invalid --time", Refused(TimeLimit)),
    ("time limit specification required", Refused(TimeLimit)),
    ("memory specification can not be satisfied", Refused(Memory)),
    ("memory required by task is not available", Refused(Memory)),
    ("more processors requested", Refused(Cpus)),
    ("cpu count", Refused(Cpus)),
    ("task count specification", Refused(Cpus)),
    ("more threads per core", Refused(Cpus)),
    ("node count specification", Refused(Nodes)),
    ("invalid node name", Refused(Nodelist)),
    ("requested nodes not in this partition", Refused(Nodelist)),
    ("required node not available", Refused(Nodelist)),
    ("requested node configuration is not available", Refused(Less)),
    ("requested topology configuration is not available", Refused(Less)),
    ("job size specification needs to be provided", Refused(Less)),
    ("invalid generic resource", Refused(Gpus)),
    ("duplicate generic resource", Refused(Gpus)),
    ("invalid gres", Refused(Gpus)),
    ("requested gres option unsupported", Refused(Gpus)),
    ("insufficient gres", Refused(Gpus)),
    ("restrictedcorespergpu", Refused(Gpus)),
    ("trackable resource", Refused(Gpus)),
    ("invalid tres", Refused(Gpus)),
    ("invalid feature", Refused(Constraint)),
    ("invalid preferred feature", Refused(Constraint)),
    ("--batch option is invalid", Refused(Constraint)),
    ("reservation", Refused(Reservation)),
    ("invalid license", Refused(Licenses)),
    ("licenses currently unavailable", Refused(Licenses)),
    ("invalid wckey", Refused(Wckey)),
    ("no cluster '", Refused(Clusters)),
    ("invalid entry for --cluster", Refused(Clusters)),
    ("invalid cluster", Refused(Clusters)),
    ("dos line breaks", Refused(Runner)),
    ("does not look like a batch script", Refused(Runner)),
    ("unable to open file", Refused(Runner)),
    ("i/o error writing script/environment", Refused(AsSaid)),
    ("access/permission denied", Refused(AsSaid)),
    ("rejecting authentication of user nobody", Refused(AsSaid)),
    ("job dependency problem", Refused(AsSaid)),
    ("requested operation not supported", Refused(Options)),
    ("burst buffer", Refused(Options)),
    ("task distribution specification invalid", Refused(Options)),
    ("invalid --", Refused(Options)),
    ("invalid numeric value", Refused(Options)),
    ("invalid mcs_label", Refused(Options)),
    ("unrecognized option", Refused(Options)),
    ("invalid option", Refused(Options)),
    ("ambiguous option", Refused(Options)),
    ("is ambiguous", Refused(Options)),
    ("mutually exclusive", Refused(Options)),
    ("try \"sbatch --help\"", Refused(Options)),
];

/// The word that every refusal by a limit has in common; which limit it was, the accounting's own name before it tells.
const POLICY: &str = "violates accounting";

/// Names of limits (squeue's reasons of `Assoc…` and `QOS…`), in lower case; the first that fits counts. The limit of
/// submitted jobs alone is one that time heals.
const LIMITS: &[(&str, Meaning)] = &[
    ("submitjob", Limit),
    ("wall", Refused(TimeLimit)),
    ("timelimit", Refused(TimeLimit)),
    ("minutes", Refused(TimeLimit)),
    ("peruser", Refused(LessAtOnce)),
    ("peraccount", Refused(LessAtOnce)),
    ("maxcpu", Refused(Cpus)),
    ("mincpu", Refused(Cpus)),
    ("maxnode", Refused(Nodes)),
    ("maxmem", Refused(Memory)),
    ("gres", Refused(Gpus)),
    ("qosnotallowed", Refused(Qos)),
    ("accountnotallowed", Refused(Account)),
];

/// What precedes Slurm's own answer.
const ANSWER: &str = "job submission failed: ";

/// Reads what an sbatch that failed has said.
pub fn meaning(said: &str) -> Meaning {
    let text = said.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(OPEN) {
        return Meaning::Unknown;
    }
    let answer = text.lines().rev().find_map(|line| line.split_once(ANSWER)).map(|(_, answer)| answer);
    match answer {
        Some(answer) if answer.contains(POLICY) => first(LIMITS, &text).unwrap_or(Refused(Less)),
        Some(answer) => match first(KNOWN, answer) {
            Some(Refused(Less)) => Refused(more_exactly(&text)),
            Some(meaning) => meaning,
            None if has(BEFORE_SENDING) => NotSent,
            None if answer.contains("unspecified error") => Meaning::Plugin,
            None => Meaning::Unknown,
        },
        None if has(BEFORE_SENDING) => NotSent,
        None => first(KNOWN, &text).or_else(|| contradiction(&text)).unwrap_or(Meaning::Unknown),
    }
}

fn first(table: &[(&str, Meaning)], text: &str) -> Option<Meaning> {
    table.iter().find(|(word, _)| text.contains(word)).map(|(_, meaning)| *meaning)
}

/// Before "Requested node configuration is not available" sbatch says which part of it.
fn more_exactly(text: &str) -> Change {
    match first(&[("memory", Refused(Memory)), ("cpu count", Refused(Cpus))], text) {
        Some(Refused(change)) => change,
        _ => Less,
    }
}

/// sbatch gives up over an option before it sends anything; it names the option then.
fn contradiction(text: &str) -> Option<Meaning> {
    let mut lines = text.lines().filter(|line| line.contains("sbatch: fatal: ") || line.contains("sbatch: error: "));
    lines.any(|line| line.contains(" --")).then_some(Refused(Options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    // Slurm's own answers.
    #[case("Invalid account or account/partition combination specified", Refused(Account))]
    #[case("Invalid partition name specified", Refused(Partition))]
    #[case("No partition specified or system default partition", Refused(Partition))]
    #[case("User's group not permitted to use this partition", Refused(Partition))]
    #[case("Invalid qos specification", Refused(Qos))]
    #[case("Job's account not permitted to use this partition (batch allows lab not labsub)", Refused(Account))]
    #[case("Job's QOS not permitted to use this partition (batch allows long not normal)", Refused(Qos))]
    #[case("Required node not available (down, drained or reserved)", Refused(Nodelist))]
    #[case("Required partition not available (inactive or drain)", Refused(Partition))]
    #[case("Requested time limit is invalid (missing or exceeds some limit)", Refused(TimeLimit))]
    #[case("More processors requested than permitted", Refused(Cpus))]
    #[case("Node count specification invalid", Refused(Nodes))]
    #[case("Invalid node name specified", Refused(Nodelist))]
    #[case("Requested node configuration is not available", Refused(Less))]
    #[case("Invalid generic resource (gres) specification", Refused(Gpus))]
    #[case("Invalid Trackable RESource (TRES) specification", Refused(Gpus))]
    #[case("Invalid feature specification", Refused(Constraint))]
    #[case("Requested reservation is invalid", Refused(Reservation))]
    #[case("Access denied to requested reservation", Refused(Reservation))]
    #[case("Invalid license specification", Refused(Licenses))]
    #[case("Invalid wckey specification", Refused(Wckey))]
    #[case("Access/permission denied", Refused(AsSaid))]
    #[case("MaxJobCount limit reached", Limit)]
    #[case("Unable to create job record, try again", Limit)]
    #[case("Resource temporarily unavailable", Limit)]
    #[case("System submissions disabled", Closed)]
    #[case("Rate limit exceeded, please retry later", NotSent)]
    #[case("Rate limit exceeded, please retry momentarily", NotSent)]
    #[case("Slurm backup controller in standby mode", NotSent)]
    #[case("Controller is in standby mode, try a different controller", NotSent)]
    #[case("Unable to contact slurm controller (connect failure)", NotSent)]
    #[case("Unable to contact slurm controller (send failure)", Meaning::Unknown)]
    #[case("Socket timed out on send/recv operation", Meaning::Unknown)]
    #[case("Zero Bytes were transmitted or received", Meaning::Unknown)]
    #[case("Transport endpoint is not connected", Meaning::Unknown)]
    #[case("Unexpected missing socket error", Meaning::Unknown)]
    #[case("Protocol authentication error", Meaning::Unknown)]
    #[case("Slurm internal error, contact system administrator", Meaning::Unknown)]
    #[case("Unspecified error", Meaning::Plugin)]
    fn answers(#[case] answer: &str, #[case] expected: Meaning) {
        assert_eq!(meaning(&format!("sbatch: error: Batch job submission failed: {answer}\n")), expected);
    }

    #[rstest]
    #[case("AssocMaxSubmitJobLimit", Limit)]
    #[case("AssocGrpSubmitJobsLimit", Limit)]
    #[case("QOSGrpSubmitJobsLimit", Limit)]
    #[case("QOSMaxSubmitJobPerUserLimit", Limit)]
    #[case("QOSMaxWallDurationPerJobLimit", Refused(TimeLimit))]
    #[case("AssocMaxWallDurationPerJobLimit", Refused(TimeLimit))]
    #[case("QOSTimeLimit", Refused(TimeLimit))]
    #[case("QOSMaxCpuPerUserLimit", Refused(LessAtOnce))]
    #[case("QOSMaxCpuPerJobLimit", Refused(Cpus))]
    #[case("QOSMaxNodePerJobLimit", Refused(Nodes))]
    #[case("QOSMaxMemoryPerJob", Refused(Memory))]
    #[case("QOSMaxGRESPerJob", Refused(Gpus))]
    #[case("", Refused(Less))]
    fn limits(#[case] name: &str, #[case] expected: Meaning) {
        let answer = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)";
        let said = format!("sbatch: error: {name}\nsbatch: error: Batch job submission failed: {answer}\n");
        assert_eq!(meaning(&said), expected);
    }

    #[rstest]
    // sbatch's own.
    #[case("sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.", Refused(Options))]
    #[case("sbatch: fatal: --core-spec and --thread-spec options are mutually exclusive", Refused(Options))]
    #[case(
        "sbatch: fatal: --gpus-per-task or --tres-per-task used without either --gpus or -n/--ntasks is not allowed.",
        Refused(Options)
    )]
    #[case("sbatch: unrecognized option '--x'\nTry \"sbatch --help\" for more information", Refused(Options))]
    #[case("sbatch: error: Invalid --time specification", Refused(TimeLimit))]
    #[case("sbatch: error: Invalid --distribution specification", Refused(Options))]
    #[case("sbatch: error: Batch script contains DOS line breaks (\\r\\n)", Refused(Runner))]
    #[case(
        "sbatch: error: 'x' can't be reached now, or it is an invalid entry for --cluster.  Use 'sacctmgr list clusters' to see available clusters.",
        Refused(Clusters)
    )]
    #[case("sbatch: fatal: Could not establish a configuration source", NotSent)]
    #[case("sbatch: error: Unable to establish control machine address", NotSent)]
    #[case("sbatch: fatal: Unable to process configuration file", NotSent)]
    #[case("sbatch: fatal: something went wrong", Meaning::Unknown)]
    #[case("gibberish", Meaning::Unknown)]
    #[case("", Meaning::Unknown)]
    // Several lines.
    #[case(
        "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid partition name specified",
        Refused(Partition)
    )]
    #[case(
        "sbatch: error: Memory specification can not be satisfied\nsbatch: error: Batch job submission failed: Requested node configuration is not available",
        Refused(Memory)
    )]
    #[case(
        "sbatch: error: If munged is up, restart with --num-threads=10\nsbatch: error: Munge encode failed: Failed to access \"/run/munge/munge.socket.2\": No such file or directory (Did you start munged?)\nsbatch: error: slurm_send_node_msg: auth_g_create: REQUEST_SUBMIT_BATCH_JOB has authentication error\nsbatch: error: Batch job submission failed: Protocol authentication error",
        NotSent
    )]
    #[case(
        "sbatch: error: failed to connect to any sack sockets\nsbatch: error: Batch job submission failed: Unspecified error",
        NotSent
    )]
    #[case(
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\nsbatch: error: Batch job submission failed: Invalid qos specification",
        Refused(Qos)
    )]
    #[case(
        "sbatch: error: Please set a time limit (--time) for jobs in account nil\nsbatch: error: Batch job submission failed: Unspecified error",
        Meaning::Plugin
    )]
    #[case(
        "sbatch: error: Socket timed out on send/recv operation\nsbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        Meaning::Unknown
    )]
    fn texts(#[case] said: &str, #[case] expected: Meaning) {
        assert_eq!(meaning(said), expected);
    }
}
