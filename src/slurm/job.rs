//! What Slurm says of jobs: rows, states, and the reasons why a job waits.
//!
//! Nothing here runs anything. A word that is not known is never read as an end: Slurm's list of states grows, and
//! what is called ended is taken back and thrown away (docs/facts/slurm.md, "States of a job").

use std::fmt;

/// A job, as every later call must name it: ids repeat between clusters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobId {
    pub id: u64,
    pub cluster: Option<String>,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            Some(cluster) => write!(f, "{};{cluster}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

/// A job's base state in Slurm's long form, and what it means for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State(String);

/// What a state means for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It has not started, or not again.
    Queued,
    Running,
    /// It holds its allocation, but its processes stand still.
    Suspended,
    /// Its processes are being ended: of no use any more, not yet gone.
    Ending,
    /// It will not run again.
    Ended,
    /// A word of a later Slurm, or one that tells nothing.
    Unknown,
}

impl State {
    pub fn new(word: &str) -> State {
        State(word.to_owned())
    }

    pub fn word(&self) -> &str {
        &self.0
    }

    pub fn class(&self) -> Class {
        // sacct adds who cancelled a job: `CANCELLED by 1001`.
        match self.0.split([' ', '+']).next().unwrap_or_default() {
            "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "RESV_DEL_HOLD"
            | "SPECIAL_EXIT" | "POWER_UP_NODE" => Class::Queued,
            "RUNNING" | "RESIZING" | "SIGNALING" | "STAGE_OUT" => Class::Running,
            "SUSPENDED" | "STOPPED" => Class::Suspended,
            "COMPLETING" => Class::Ending,
            "COMPLETED" | "FAILED" | "CANCELLED" | "TIMEOUT" | "NODE_FAIL" | "OUT_OF_MEMORY" | "BOOT_FAIL"
            | "DEADLINE" | "PREEMPTED" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => Class::Ended,
            // REVOKED too: a job of a federation runs on a sibling cluster then, or nowhere; only the sibling knows.
            _ => Class::Unknown,
        }
    }
}

/// One job of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub job: JobId,
    pub state: State,
    pub reason: String,
    /// The host that runs the batch script; empty while there is none.
    pub node: String,
    /// Seconds since the epoch, where Slurm named one.
    pub submitted: Option<i64>,
    /// The start, or for a waiting job Slurm's estimate.
    pub start: Option<i64>,
    /// When the time limit ends it.
    pub end: Option<i64>,
    pub partition: String,
    pub uid: u32,
    /// What follows the job's owner may write as he likes; nothing of it proves an end. Where the batch script started: an
    /// attempt's directory.
    pub directory: String,
    pub name: String,
    pub comment: String,
    pub resources: Resources,
}

/// What a job asks for or was given, as Slurm tells it to people; empty where it tells nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    pub account: String,
    pub qos: String,
    /// For each node.
    pub gres: String,
    pub cpus: String,
    /// For each node, or CPU.
    pub mem: String,
}

/// A listing of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub rows: Vec<Row>,
    /// Whether a job that is missing here is denied: a clean answer from end to end.
    pub complete: bool,
}

/// Why Slurm could not be asked, or what it said that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryFailed(pub String);

/// How much hope a waiting job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingReason {
    /// It waits its turn.
    Normal,
    /// Somebody has to act, but may; what the job's owner can do.
    Attention(&'static str),
    /// It would not end before a maintenance begins.
    Maintenance,
    /// It can never run as it was asked for; what to change.
    Never(&'static str),
}

/// What Slurm writes out instead of AccountNotAllowed and QOSNotAllowed, with the partition's rule behind it:
/// `Job's account not permitted to use this partition (batch allows lab not labsub)`.
const PARTITION_RULES: [(&str, &str); 2] = [
    ("Job's account not permitted to use this partition", "correct account, or choose another partition"),
    ("Job's QOS not permitted to use this partition", "correct qos, or choose another partition"),
];

/// Classifies a pending reason (docs/facts/slurm.md, "Pending reasons"). Site texts such as `Nodes required for job are DOWN, …` stand beside
/// Slurm's own words, so spaces count as underscores and only what stands before the first comma counts.
pub fn pending_reason(reason: &str) -> PendingReason {
    if let Some((_, remedy)) = PARTITION_RULES.iter().find(|(text, _)| reason.trim().starts_with(text)) {
        return PendingReason::Never(remedy);
    }
    let word = reason.trim().trim_matches(['(', ')']).split(',').next().unwrap_or_default().trim().replace(' ', "_");
    let word = word.as_str();
    let per_job = |word: &str| word.contains("PerJob") || word.contains("PerNode") || word.contains("MinutesPerJob");
    match word {
        "PartitionTimeLimit" | "AssocMaxWallDurationPerJobLimit" | "QOSMaxWallDurationPerJobLimit" => {
            PendingReason::Never("lower timeLimit, or choose a partition or QOS that allows it")
        }
        "PartitionNodeLimit" | "PartitionConfig" => {
            PendingReason::Never("ask for fewer cpus, nodes or less memory, or choose another partition")
        }
        "BadConstraints" => PendingReason::Never("correct constraint, gres, mem or cpus: no node has them together"),
        "MaxMemPerLimit" => PendingReason::Never("lower mem"),
        "InvalidAccount" | "AccountNotAllowed" => {
            PendingReason::Never("correct account, or ask the site to be added to it")
        }
        "InvalidQOS" | "QOSNotAllowed" => PendingReason::Never("correct qos, or ask the site for it"),
        "DependencyNeverSatisfied" => PendingReason::Never("release the lease and acquire a new one"),
        "DeadLine" => PendingReason::Never("correct the deadline in extraSbatchArgs"),
        "JobHeldAdmin" | "JobHoldMaxRequeue" => PendingReason::Never("ask the site why the job is held"),
        "launch_failed_requeued_held" | "job_requeued_in_held_state" => {
            PendingReason::Never("ask the site about the node's prolog, then release the lease and acquire it again")
        }
        "RESV_DEL_HOLD" | "ReservationDeleted" | "ReservationInvalid" => PendingReason::Never("correct reservation"),
        _ if word.starts_with("QOSMin") => PendingReason::Never("ask for at least what the QOS demands"),
        _ if word.contains("Max") && per_job(word) => {
            PendingReason::Never("ask for less, below the limit that the reason names")
        }
        "PartitionDown" | "PartitionInactive" => {
            PendingReason::Attention("choose another partition, or wait until the site's admins open this one")
        }
        "Licenses" => {
            PendingReason::Attention("ask for fewer licenses, or wait; `scontrol show licenses` tells who has them")
        }
        "Reservation" => PendingReason::Attention(
            "wait until the reservation begins, `scontrol show reservation` tells when, or correct reservation",
        ),
        "JobHeldUser" => {
            PendingReason::Attention("the job is held: `scontrol release` lets it go, or release the lease")
        }
        "QOSUsageThreshold" => {
            PendingReason::Attention("the QOS asks for more of its share to be left: choose another qos")
        }
        "FedJobLock" => PendingReason::Attention("tell the site's admins: a cluster of the federation does not answer"),
        _ if word.starts_with("ReqNodeNotAvail") && reason.to_ascii_lowercase().contains("maintenance") => {
            PendingReason::Maintenance
        }
        _ if word.starts_with("ReqNodeNotAvail")
            || word.starts_with("Nodes_required_for_job_are_DOWN")
            || word == "NodeDown" =>
        {
            PendingReason::Attention(
                "the nodes that it asks for are down, drained or reserved: ask for others (nodelist, constraint, partition); `sinfo --list-reasons` tells why",
            )
        }
        _ if word.contains("Grp") && word.contains("Minutes") => {
            PendingReason::Attention("the budget of the account or QOS is used up: choose another account or qos")
        }
        _ => PendingReason::Normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("RUNNING", Class::Running)]
    #[case("PENDING", Class::Queued)]
    #[case("COMPLETING", Class::Ending)]
    #[case("CANCELLED by 1001", Class::Ended)]
    #[case("OUT_OF_ME+", Class::Unknown)]
    #[case("EXPEDITING", Class::Unknown)]
    #[case("REVOKED", Class::Unknown)]
    #[case("", Class::Unknown)]
    fn states(#[case] word: &str, #[case] class: Class) {
        assert_eq!(State::new(word).class(), class);
    }

    #[rstest]
    #[case("Resources", "normal")]
    #[case("None", "normal")]
    #[case("QOSMaxCpuPerUserLimit", "normal")]
    #[case("AssocGrpCpuLimit", "normal")]
    #[case("AssocGrpCPUMinutesLimit", "attention")]
    #[case("ReqNodeNotAvail, UnavailableNodes:n1", "attention")]
    #[case("Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions", "attention")]
    #[case("ReqNodeNotAvail, Reserved for maintenance", "maintenance")]
    #[case("ReqNodeNotAvail,_Reserved_for_maintenance", "maintenance")]
    #[case("PartitionDown", "attention")]
    #[case("PartitionTimeLimit", "never")]
    #[case("ReservationInvalid", "never")]
    #[case("(PartitionConfig)", "never")]
    #[case("QOSMaxCpuPerJobLimit", "never")]
    #[case("AssocMaxCpuMinutesPerJobLimit", "never")]
    #[case("QOSMinGRES", "never")]
    #[case("launch failed requeued held", "never")]
    #[case("Job's account not permitted to use this partition (batch allows lab not labsub)", "never")]
    #[case("Job's QOS not permitted to use this partition (batch allows long not normal)", "never")]
    #[case("SomethingNew", "normal")]
    fn hopes(#[case] reason: &str, #[case] expected: &str) {
        let found = match pending_reason(reason) {
            PendingReason::Normal => "normal",
            PendingReason::Attention(_) => "attention",
            PendingReason::Maintenance => "maintenance",
            PendingReason::Never(_) => "never",
        };
        assert_eq!(found, expected);
    }
}
