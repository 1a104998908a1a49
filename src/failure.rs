//! The kinds of failure and what each means to a caller.
//!
//! A caller decides by kind, a person by text, so each kind has one row here: a stable code, a category (the words
//! that the client's doctor sorts errors by), whether the same call may be repeated as it is, the exit code of the
//! command line, and a remedy for when the place that failed knows none better. The same fields stand beside `error`
//! in the protocol's answer.

use std::fmt;

use crate::text;

/// What went wrong, as far as a caller has to tell cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is not one that protocol version 1 allows.
    BadRequest,
    /// A config key, a flag or a config file cannot be used, or the limits of the site's admins do not allow it.
    BadConfig,
    /// The lease id is known under another slug, name or cloud id; nothing was touched.
    IdentityMismatch,
    /// No lease, or more than one, answers to the given word.
    NotFound,
    /// Another call works on this lease.
    Busy,
    /// The site's `maxLeases` is reached, or Slurm's own limit on submitted jobs.
    LimitReached,
    /// sbatch refused the job; none exists.
    SubmitRejected,
    /// sbatch gave no answer that tells whether a job exists.
    SubmitUnknown,
    /// The job waits for something that will not come.
    NeverRuns,
    /// The wait ended before the job started or its sshd answered.
    TimedOut,
    /// The job ended.
    JobEnded,
    /// The job runs, but its endpoint cannot be used.
    EndpointUnusable,
    /// The lease is being released and its job is not proven ended.
    Releasing,
    /// Slurm could not be asked.
    SlurmUnavailable,
    /// A file or directory of ours is missing, damaged, unsafe or not writable.
    Storage,
    /// A check of doctor is red.
    DoctorRed,
    /// A bug of this program.
    Internal,
}

/// One row of the table of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Stable word for programs.
    pub code: &'static str,
    /// `config`, `provider`, `network`, `timeout`, `tool` or `internal`.
    pub category: &'static str,
    /// Whether the same call may be repeated unchanged without doing harm and with a chance to succeed.
    pub retry_safe: bool,
    /// Exit code of the command line: 2 usage, 4 identity, 5 provider, as the client's own codes mean.
    pub exit: u8,
    /// What to do when the failing place knows nothing better.
    pub remedy: &'static str,
}

impl Kind {
    /// This kind's row.
    pub fn row(self) -> Row {
        let row = |code, category, retry_safe, exit, remedy| Row { code, category, retry_safe, exit, remedy };
        match self {
            Kind::BadRequest => row("bad-request", "config", false, 2, "correct the request"),
            Kind::BadConfig => row("bad-config", "config", false, 2, "correct the configuration"),
            Kind::IdentityMismatch => row("identity-mismatch", "config", false, 4, "use the lease's own identity"),
            Kind::NotFound => row("not-found", "config", false, 4, "see `slurm-sandbox list`"),
            Kind::Busy => row("busy", "provider", true, 6, "repeat the call in a moment"),
            Kind::LimitReached => row("limit-reached", "provider", true, 7, "release a lease, then repeat the call"),
            Kind::SubmitRejected => row("submit-rejected", "config", false, 8, "correct the resources asked for"),
            Kind::SubmitUnknown => row("submit-unknown", "provider", true, 9, "repeat the same call: it finds the job"),
            Kind::NeverRuns => row("never-runs", "config", false, 10, "ask for resources that the cluster has"),
            Kind::TimedOut => row("timed-out", "timeout", true, 11, "repeat the call, or ask for less"),
            Kind::JobEnded => row("job-ended", "provider", false, 12, "release the lease and acquire a new one"),
            Kind::EndpointUnusable => row("endpoint-unusable", "network", true, 13, "see `slurm-sandbox logs`"),
            Kind::Releasing => {
                row("releasing", "provider", true, 14, "repeat release, or let list or cleanup finish it")
            }
            Kind::SlurmUnavailable => {
                row("slurm-unavailable", "provider", true, 15, "repeat the call when Slurm answers")
            }
            Kind::Storage => row("storage", "tool", false, 16, "see `slurm-sandbox doctor`"),
            Kind::DoctorRed => row("doctor-red", "config", false, 17, "mend what the red lines name"),
            Kind::Internal => row("internal", "internal", false, 70, "report this with the text of the error"),
        }
    }

    /// Every kind, for the documentation and its test.
    pub const ALL: [Kind; 17] = [
        Kind::BadRequest,
        Kind::BadConfig,
        Kind::IdentityMismatch,
        Kind::NotFound,
        Kind::Busy,
        Kind::LimitReached,
        Kind::SubmitRejected,
        Kind::SubmitUnknown,
        Kind::NeverRuns,
        Kind::TimedOut,
        Kind::JobEnded,
        Kind::EndpointUnusable,
        Kind::Releasing,
        Kind::SlurmUnavailable,
        Kind::Storage,
        Kind::DoctorRed,
        Kind::Internal,
    ];
}

/// A failure with its kind, ready for a stranger: what happened, what to do, and last what the tool said.
#[derive(Debug, Clone)]
pub struct Failure {
    pub kind: Kind,
    what: String,
    remedy: Option<String>,
    cause: Option<String>,
    pending: Option<String>,
}

impl Failure {
    /// `what` names the lease and job where there is one.
    pub fn new(kind: Kind, what: impl Into<String>) -> Failure {
        Failure { kind, what: what.into(), remedy: None, cause: None, pending: None }
    }

    /// What to do here, where that is more than the kind's own remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Failure {
        self.remedy = Some(remedy.into());
        self
    }

    /// What the tool or the system said; it is put on one line and bounded.
    #[must_use]
    pub fn cause(mut self, cause: impl AsRef<str>) -> Failure {
        let cause = one_line(cause.as_ref());
        self.cause = (!cause.is_empty()).then_some(cause);
        self
    }

    /// Slurm's reason, where a job was still waiting.
    #[must_use]
    pub fn pending(mut self, reason: impl AsRef<str>) -> Failure {
        self.pending = Some(one_line(reason.as_ref()));
        self
    }

    /// Slurm's reason why the job waits, where that is what was given up.
    pub fn pending_reason(&self) -> Option<&str> {
        self.pending.as_deref()
    }

    /// Several causes, all of them: each bounded, none cut off by the others.
    #[must_use]
    pub fn causes(mut self, causes: &[String]) -> Failure {
        const MOST: usize = 40;
        const CHARS: usize = 300;
        let cut = |text: &String| text::line(text).chars().take(CHARS).collect::<String>();
        let mut shown: Vec<String> = causes.iter().take(MOST).map(cut).collect();
        if causes.len() > MOST {
            shown.push(format!("and {} more", causes.len() - MOST));
        }
        self.cause = Some(shown.join("; "));
        self
    }

    /// A second failure that came while dealing with this one.
    #[must_use]
    pub fn and_then(mut self, second: &Failure) -> Failure {
        let first = self.cause.take().map(|cause| format!("{cause}; ")).unwrap_or_default();
        self.cause = Some(format!("{first}then {second}"));
        self
    }

    /// What to do.
    pub fn remedy_text(&self) -> &str {
        self.remedy.as_deref().unwrap_or(self.kind.row().remedy)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", one_line(&self.what), one_line(self.remedy_text()))?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// The failure inside an error. Where a file could not be used and nobody said more, it is one of storage; what is
/// left is a bug.
pub fn of(error: &anyhow::Error) -> Failure {
    match error.chain().find_map(|cause| cause.downcast_ref::<Failure>()) {
        Some(failure) => failure.clone(),
        None if error.chain().any(|cause| cause.is::<std::io::Error>()) => {
            Failure::new(Kind::Storage, "a file of the state dir or the shared dir could not be used")
                .remedy("check space, quota, permissions and health of their file systems, then repeat the call")
                .cause(format!("{error:#}"))
        }
        None => Failure::new(Kind::Internal, "unexpected failure").cause(format!("{error:#}")),
    }
}

/// Longest text of a tool that goes into a message, in characters.
const CAUSE_CHARS: usize = 1500;

/// Text of a tool as it goes into a message.
pub fn one_line(text: &str) -> String {
    text::last_of_line(text, CAUSE_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_exit_codes_tell_kinds_apart() {
        let codes: HashSet<_> = Kind::ALL.iter().map(|k| k.row().code).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().all(|k| k.row().exit != 0 && k.row().exit != 1));
    }

    #[test]
    fn message_says_what_then_remedy_then_cause_on_one_line() {
        let failure = Failure::new(Kind::SubmitRejected, "acquiring lease cbx_0: sbatch refused the job")
            .cause("sbatch: error: a\n\nsbatch: error: b\x1b[31m\n");
        assert_eq!(
            failure.to_string(),
            "acquiring lease cbx_0: sbatch refused the job; correct the resources asked for: \
             sbatch: error: a / sbatch: error: b[31m"
        );
    }

    #[test]
    fn kind_survives_context() {
        let error = anyhow::Error::new(Failure::new(Kind::Busy, "lease is busy")).context("acquiring lease");
        assert_eq!(of(&error).kind, Kind::Busy);
        assert_eq!(of(&anyhow::anyhow!("boom")).kind, Kind::Internal);
        let full = anyhow::Error::new(std::io::Error::other("disk full")).context("removing lease cbx_0");
        assert_eq!(of(&full).kind, Kind::Storage);
        assert!(of(&full).to_string().ends_with("removing lease cbx_0: disk full"));
    }
}
