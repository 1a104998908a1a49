//! What an observation proves about a lease: pure, no clock, no effects.
//!
//! A denial is Slurm saying that it does not know the job. Right after a thaw it says so of jobs that it creates a
//! moment later (slurm-facts.md 4.2), so one denial is written down and only a second one, later, counts as gone.

use super::record::Record;
use crate::slurm::job::{Class, Row};

/// Least time between two denials that prove an end, in seconds (design.md, promise 2).
pub const DENIAL_GAP_SECONDS: i64 = 10;

/// How long a submission without an answer may still turn into a job, in seconds (hazards.md 1.2).
pub const SUBMISSION_HORIZON_SECONDS: i64 = 900;

/// What Slurm just said of a record's job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    Row(Box<Row>),
    Denied,
    Unasked(String),
}

/// What that means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Queued,
    Running,
    /// It has its allocation, but cannot be reached.
    Suspended,
    /// On its way out, not gone yet.
    Ending,
    /// It will not run again; the row says how it ended.
    Ended,
    /// Denied for the first time, or too soon after it.
    Denied,
    /// Denied for good, or its id belongs to another job now.
    Gone,
    /// Nothing is proven, nothing may change.
    Unknown(String),
}

/// Judges the job of a record.
pub fn judge(record: &Record, observation: &Observation, now: i64) -> Verdict {
    match observation {
        Observation::Unasked(why) => Verdict::Unknown(why.clone()),
        Observation::Row(row) if !record.owns(row) && record.signed(row) => {
            Verdict::Unknown("Slurm shows the job under another name or user".to_owned())
        }
        Observation::Row(row) if !record.owns(row) => Verdict::Gone,
        Observation::Row(row) => match row.state.class() {
            Class::Queued => Verdict::Queued,
            Class::Running => Verdict::Running,
            Class::Suspended => Verdict::Suspended,
            Class::Ending => Verdict::Ending,
            Class::Ended => Verdict::Ended,
            Class::Unknown => {
                Verdict::Unknown(format!("Slurm calls the job {}, a state not known here", row.state.word()))
            }
        },
        Observation::Denied if denied_twice(record.denied, now) => Verdict::Gone,
        Observation::Denied => Verdict::Denied,
    }
}

/// Whether a denial is the second one, long enough after the first. A clock that was set back starts the wait anew.
fn denied_twice(first: Option<i64>, now: i64) -> bool {
    first.is_some_and(|first| now.saturating_sub(first) >= DENIAL_GAP_SECONDS)
}

/// What to do about a submission of which no job is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenSubmission {
    /// sbatch never ran: nothing can exist.
    NeverSent,
    /// It may still appear; look again.
    Wait,
    /// Denied twice. Another attempt is safe, since the permit moves first and jobs of one name run one at a time;
    /// a late job of this one ends by itself.
    Resubmit,
    /// Denied twice, and its horizon has passed: it will not appear any more.
    Lost,
}

/// Decides about a submission of which a complete listing knows no job.
pub fn open_submission(record: &Record, now: i64) -> OpenSubmission {
    match record.attempt.sent {
        None => OpenSubmission::NeverSent,
        // A controller may thaw after any time, and denies the job in its first moments then.
        Some(_) if !denied_twice(record.denied, now) => OpenSubmission::Wait,
        Some(sent) if now.saturating_sub(sent) >= SUBMISSION_HORIZON_SECONDS => OpenSubmission::Lost,
        // A runner without a permit check would run to its end beside the next attempt's wait.
        Some(_) if record.contract => OpenSubmission::Resubmit,
        Some(_) => OpenSubmission::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{record, row};
    use super::*;
    use crate::slurm::job::State;
    use rstest::rstest;

    fn seen(word: &str) -> Observation {
        Observation::Row(Box::new(Row { state: State::new(word), ..row() }))
    }

    #[rstest]
    #[case(seen("PENDING"), None, Verdict::Queued)]
    #[case(seen("RUNNING"), None, Verdict::Running)]
    #[case(seen("SUSPENDED"), None, Verdict::Suspended)]
    #[case(seen("COMPLETING"), None, Verdict::Ending)]
    #[case(seen("TIMEOUT"), None, Verdict::Ended)]
    #[case(Observation::Row(Box::new(Row { name: "other".into(), comment: String::new(), ..row() })), None, Verdict::Gone)]
    #[case(Observation::Denied, None, Verdict::Denied)]
    #[case(Observation::Denied, Some(1995), Verdict::Denied)]
    #[case(Observation::Denied, Some(1990), Verdict::Gone)]
    #[case(Observation::Denied, Some(9999), Verdict::Denied)]
    #[case(Observation::Unasked("down".into()), Some(1), Verdict::Unknown("down".into()))]
    fn verdicts(#[case] observation: Observation, #[case] denied: Option<i64>, #[case] expected: Verdict) {
        let record = Record { denied, ..record() };
        assert_eq!(judge(&record, &observation, 2000), expected);
    }

    #[test]
    fn a_row_that_bears_our_nonce_is_no_recycled_id() {
        let odd = Observation::Row(Box::new(Row { uid: 0, ..row() }));
        assert!(matches!(judge(&record(), &odd, 2000), Verdict::Unknown(_)));
    }

    #[test]
    fn an_unknown_state_moves_nothing() {
        assert!(matches!(judge(&record(), &seen("EXPEDITING"), 2000), Verdict::Unknown(_)));
    }

    #[rstest]
    #[case(None, None, true, OpenSubmission::NeverSent)]
    #[case(Some(1990), None, true, OpenSubmission::Wait)]
    #[case(Some(1900), Some(1995), true, OpenSubmission::Wait)]
    #[case(Some(1900), Some(1990), true, OpenSubmission::Resubmit)]
    #[case(Some(1900), Some(1990), false, OpenSubmission::Wait)]
    #[case(Some(1100), None, false, OpenSubmission::Wait)]
    #[case(Some(1100), Some(1995), false, OpenSubmission::Wait)]
    #[case(Some(1100), Some(1990), false, OpenSubmission::Lost)]
    fn open_submissions(
        #[case] sent: Option<i64>,
        #[case] denied: Option<i64>,
        #[case] contract: bool,
        #[case] expected: OpenSubmission,
    ) {
        let mut record = Record { denied, contract, ..record() };
        record.attempt.sent = sent;
        assert_eq!(open_submission(&record, 2000), expected);
    }
}
