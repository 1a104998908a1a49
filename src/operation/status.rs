//! How a lease stands: a record that has learned from a view, judged.

use crate::allocation::View;
use crate::clock::Now;
use crate::lease::lifecycle::{Verdict, classify};
use crate::lease::record::{Phase, Record};

/// How a lease stands, in the words that the client's `status` and `list` understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Its job waits, or its sshd has not let us in yet.
    Provisioning,
    Ready,
    /// Its processes stand still.
    Suspended,
    /// It is on its way out.
    Deleting,
    /// It ended as it was meant to.
    Stopped,
    Failed,
    /// Slurm does not know its job.
    Missing,
    /// A newer program keeps it.
    Newer,
    Unknown,
}

impl LeaseState {
    /// The client's word (docs/facts/client.md, "Labels and touch").
    pub fn word(self) -> &'static str {
        match self {
            LeaseState::Provisioning => "provisioning",
            LeaseState::Ready => "ready",
            LeaseState::Suspended => "suspended",
            LeaseState::Deleting => "deleting",
            LeaseState::Stopped => "stopped",
            LeaseState::Failed => "failed",
            LeaseState::Missing => "missing",
            LeaseState::Newer => "newer",
            LeaseState::Unknown => "unknown",
        }
    }
}

/// How a lease stands, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Slurm's state, or ours where Slurm has none.
    pub slurm_state: String,
    pub state: LeaseState,
    /// Why, for people; may be empty.
    pub reason: String,
}

/// Judges a record that has learned from the view.
pub fn status(record: &Record, view: &View, now: Now) -> Status {
    let row = view.row();
    let word = row.map(|row| row.state.word().to_owned());
    let reason = row.map(|row| row.reason.clone()).unwrap_or_default();
    if let Some(ended) = &record.ended {
        let state = match ended.state.split(' ').next() {
            Some("COMPLETED") => LeaseState::Stopped,
            Some("GONE") => LeaseState::Missing,
            _ if record.phase == Phase::Releasing => LeaseState::Stopped,
            _ => LeaseState::Failed,
        };
        return Status { slurm_state: ended.state.clone(), state, reason: ended.why().to_owned() };
    }
    if record.attempt.sent.is_none() {
        return Status {
            slurm_state: "PREPARED".into(),
            state: LeaseState::Provisioning,
            reason: "nothing was submitted yet".into(),
        };
    }
    let (slurm_state, state, reason) = match classify(record, &view.observation, now) {
        Verdict::Unknown(why) => ("UNKNOWN".to_owned(), LeaseState::Unknown, why),
        Verdict::Denied if record.job.is_none() => {
            ("SUBMITTING".to_owned(), LeaseState::Provisioning, "sbatch gave no answer".to_owned())
        }
        Verdict::Denied | Verdict::Gone => {
            ("MISSING".to_owned(), LeaseState::Missing, "Slurm does not know the job".to_owned())
        }
        Verdict::Running if record.phase == Phase::Answered => (word.unwrap_or_default(), LeaseState::Ready, reason),
        Verdict::Suspended => (word.unwrap_or_default(), LeaseState::Suspended, reason),
        Verdict::Ending | Verdict::Ended => (word.unwrap_or_default(), LeaseState::Deleting, reason),
        Verdict::Queued | Verdict::Running => (word.unwrap_or_default(), LeaseState::Provisioning, reason),
    };
    let state = if record.phase == Phase::Releasing { LeaseState::Deleting } else { state };
    Status { slurm_state, state, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::lifecycle::Observation;
    use crate::lease::record::Ended;
    use crate::lease::record::tests::{record, row};
    use crate::slurm::job::{Row, State};
    use rstest::rstest;

    fn view(word: &str) -> View {
        View { observation: Observation::Row(Box::new(Row { state: State::new(word), ..row() })), stale_jobs: vec![] }
    }

    #[rstest]
    #[case("RUNNING", Phase::Answered, ("RUNNING", "ready"))]
    #[case("RUNNING", Phase::Queued, ("RUNNING", "provisioning"))]
    #[case("PENDING", Phase::Queued, ("PENDING", "provisioning"))]
    #[case("RUNNING", Phase::Releasing, ("RUNNING", "deleting"))]
    #[case("SUSPENDED", Phase::Answered, ("SUSPENDED", "suspended"))]
    #[case("COMPLETING", Phase::Answered, ("COMPLETING", "deleting"))]
    #[case("EXPEDITING", Phase::Answered, ("UNKNOWN", "unknown"))]
    fn states(#[case] word: &str, #[case] phase: Phase, #[case] expected: (&str, &str)) {
        let status = status(&Record { phase, ..record() }, &view(word), Now { epoch: 0, uptime: 2000 });
        assert_eq!((status.slurm_state.as_str(), status.state.word()), expected);
    }

    #[test]
    fn an_end_stays_told_when_slurm_is_silent() {
        let ended = Ended { state: "TIMEOUT".into(), reason: "TimeLimit".into(), exit: None, runner: None, at: 1 };
        let silence = View { observation: Observation::QueryFailed("down".into()), stale_jobs: vec![] };
        let status = status(&Record { ended: Some(ended), ..record() }, &silence, Now { epoch: 0, uptime: 2000 });
        assert_eq!(
            (status.slurm_state.as_str(), status.state.word(), status.reason.as_str()),
            ("TIMEOUT", "failed", "TimeLimit")
        );
    }
}
