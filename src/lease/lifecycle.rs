//! What an observation proves about a lease: pure, no clock, no effects.
//!
//! A denial is Slurm saying that it does not know the job. Right after a thaw it says so of jobs that it creates a
//! moment later (docs/facts/slurm.md, "One look proves nothing"), so one denial is written down and only a second one, later, counts as gone.

use super::record::{Ownership, Record};
use crate::clock::Now;
use crate::slurm::job::{Class, Row};

/// Least time between two denials that prove an end, in seconds (docs/design.md, promise 2).
pub const DENIAL_GAP_SECONDS: i64 = 10;

/// How long a submission without an answer may still turn into a job, in seconds (docs/facts/slurm.md, "Looking for a lost submission").
pub const SUBMISSION_HORIZON_SECONDS: i64 = 900;

/// What Slurm just said of a record's job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    Row(Box<Row>),
    /// Under the job's id stands what looks like another job. A requeue looks so too, so it proves nothing yet.
    Recycled(Box<Row>),
    /// Slurm does not know the job, or has given its id to another one.
    Denied,
    QueryFailed(String),
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
pub fn classify(record: &Record, observation: &Observation, now: Now) -> Verdict {
    match observation {
        Observation::QueryFailed(why) => Verdict::Unknown(why.clone()),
        Observation::Recycled(_) => Verdict::Unknown(
            "Slurm shows a job under its id that was submitted later and bears no mark of it".to_owned(),
        ),
        Observation::Row(row) if record.job.is_some() && record.ownership(row) != Ownership::Ours => {
            Verdict::Unknown("Slurm shows a job of another user under its id".to_owned())
        }
        Observation::Row(row) => match row.state.class() {
            Class::Queued => Verdict::Queued,
            Class::Running => Verdict::Running,
            Class::Suspended => Verdict::Suspended,
            Class::Ending => Verdict::Ending,
            Class::Ended => Verdict::Ended,
            Class::Unknown => {
                Verdict::Unknown(format!("Slurm calls the job {}, which is no end and no start", row.state.word()))
            }
        },
        Observation::Denied if denied_twice(record, now) => Verdict::Gone,
        Observation::Denied => Verdict::Denied,
    }
}

/// Whether a denial is the second one, long enough after the first.
fn denied_twice(record: &Record, now: Now) -> bool {
    record.denied.first.is_some_and(|first| now.uptime.saturating_sub(first) >= DENIAL_GAP_SECONDS)
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
pub fn open_submission(record: &Record, now: Now) -> OpenSubmission {
    // What was sent from another host, or before this one started, counts from the first denial seen here.
    let since_sent = record.attempt.sent_at.as_ref().and_then(|at| at.elapsed(now));
    let since_denied = record.denied.first.map(|first| now.uptime.saturating_sub(first));
    match record.attempt.sent {
        None => OpenSubmission::NeverSent,
        // A controller may thaw after any time, and denies the job in its first moments then.
        Some(_) if !denied_twice(record, now) => OpenSubmission::Wait,
        Some(_) if since_sent.or(since_denied).is_some_and(|passed| passed >= SUBMISSION_HORIZON_SECONDS) => {
            OpenSubmission::Lost
        }
        // A runner without a permit check would run to its end beside the next attempt's wait.
        Some(_) if record.contract => OpenSubmission::Resubmit,
        Some(_) => OpenSubmission::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Denials;
    use super::super::record::tests::{record, row};
    use super::*;
    use crate::clock::BootTime;
    use crate::slurm::job::State;
    use rstest::rstest;

    fn seen(word: &str) -> Observation {
        Observation::Row(Box::new(Row { state: State::new(word), ..row() }))
    }

    /// Twelve o'clock anywhere, and this host is up for 2000 seconds.
    const NOW: Now = Now { epoch: 1_000_000, uptime: 2000 };

    fn denied(first: Option<i64>) -> Denials {
        Denials { first, elsewhere: false }
    }

    #[rstest]
    #[case(seen("PENDING"), None, Verdict::Queued)]
    #[case(seen("RUNNING"), None, Verdict::Running)]
    #[case(seen("SUSPENDED"), None, Verdict::Suspended)]
    #[case(seen("COMPLETING"), None, Verdict::Ending)]
    #[case(seen("TIMEOUT"), None, Verdict::Ended)]
    #[case(Observation::Denied, None, Verdict::Denied)]
    #[case(Observation::Denied, Some(1995), Verdict::Denied)]
    #[case(Observation::Denied, Some(1990), Verdict::Gone)]
    #[case(Observation::Denied, Some(9999), Verdict::Denied)]
    #[case(Observation::QueryFailed("down".into()), Some(1), Verdict::Unknown("down".into()))]
    fn verdicts(#[case] observation: Observation, #[case] first: Option<i64>, #[case] expected: Verdict) {
        let record = Record { denied: denied(first), ..record() };
        assert_eq!(classify(&record, &observation, NOW), expected);
    }

    #[rstest]
    #[case::a_state_not_known_here(seen("EXPEDITING"))]
    #[case::a_federated_job_that_runs_elsewhere(seen("REVOKED"))]
    #[case::another_users_job(Observation::Row(Box::new(Row { uid: 0, ..row() })))]
    #[case::another_job_not_yet_confirmed(Observation::Recycled(Box::new(row())))]
    fn what_moves_nothing(#[case] observation: Observation) {
        assert!(matches!(classify(&record(), &observation, NOW), Verdict::Unknown(_)));
    }

    /// Uptimes: when it was sent (here, or by another host), when it was first denied.
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
        #[case] first: Option<i64>,
        #[case] contract: bool,
        #[case] expected: OpenSubmission,
    ) {
        let mut record = Record { denied: denied(first), contract, ..record() };
        record.attempt.sent = sent.map(|_| 77);
        record.attempt.sent_at = sent.and_then(|uptime| BootTime::of(Now { epoch: 0, uptime }));
        assert_eq!(open_submission(&record, NOW), expected);
    }

    #[test]
    fn what_another_host_sent_counts_from_the_first_denial_here() {
        let mut record = Record { denied: denied(Some(1500)), contract: false, ..record() };
        record.attempt.sent_at = Some(BootTime { boot: "another".into(), uptime: 1 });
        assert_eq!(open_submission(&record, NOW), OpenSubmission::Wait);
        assert_eq!(open_submission(&record, Now { uptime: 2400, ..NOW }), OpenSubmission::Lost);
    }
}
