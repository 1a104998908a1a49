//! What becomes of a lease whose acquire has failed.

use std::time::{Duration, Instant};

use super::Acquire;
use crate::clock::epoch;
use crate::failure::{self, Kind};
use crate::lease::acquirer::Held;
use crate::lease::record::Phase;
use crate::lease::store::{LeaseDir, Loaded};
use crate::operation::lookup::load;
use crate::operation::release;
use crate::shared_dir::SharedDir;

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// `keep` may still use it. A job that starts later is wanted, so idle time bounds it, not the grace of one that nobody
    /// came for; one whose endpoint is of no use has run already.
    Kept {
        may_start: bool,
    },
    /// It was handed out before, or belongs to somebody else.
    Untouched,
    TakenBack,
}

fn fate(kind: Kind, phase: Phase, keep: bool) -> Fate {
    match kind {
        Kind::TimedOut | Kind::SubmitUnknown | Kind::EndpointUnusable if keep && phase != Phase::Prepared => {
            Fate::Kept { may_start: kind != Kind::EndpointUnusable }
        }
        _ if phase == Phase::Answered => Fate::Untouched,
        Kind::IdentityMismatch | Kind::Busy | Kind::Releasing | Kind::NotFound => Fate::Untouched,
        _ => Fate::TakenBack,
    }
}

impl Acquire<'_> {
    /// The command that ends the lease.
    fn ending(&self) -> String {
        self.options.ending(&self.identity.slug, &self.identity.lease_id)
    }

    /// Takes back what a failed acquire has made. What stays is what was handed out before, what `keep` may still
    /// use, and what belongs to somebody else.
    pub(super) fn roll_back(&self, dir: &LeaseDir, held: &mut Held, error: anyhow::Error) -> anyhow::Error {
        let failure = failure::of(&error);
        let Loaded::Whole(record) = dir.load() else {
            return error;
        };
        match fate(failure.kind, record.phase, self.keep) {
            Fate::Kept { may_start } => {
                // One on a seat starts no more, and its time is bounded by the spare's.
                if may_start && record.seat.is_none() {
                    SharedDir::of(&record).mark("kept", epoch()).ok();
                }
                dir.note(epoch(), "kept", &failure.to_string());
                let going_on = self.options.going_on(&record.identity);
                let remedy =
                    format!("{} is kept; `{going_on}` goes on with it, `{}` ends it", record.shown(), self.ending());
                return failure.remedy(remedy).into();
            }
            Fate::Untouched => return error,
            Fate::TakenBack if !dir.may_write() => return error,
            Fate::TakenBack => {}
        }
        let Some(_alone) = held.alone(dir) else {
            let left =
                format!("{} is left to another acquire that waits for it; `{}` ends it", record.shown(), self.ending());
            return failure.remedy(left).into();
        };
        // Where nothing can be locked nothing is known to be ours alone: another call may wait for this very job.
        if let Err(problem) = dir.lock(Duration::ZERO) {
            return if problem.kind == failure.kind { error } else { failure.and_then(&problem).into() };
        }
        let found = match load(&self.store, &dir.id) {
            Ok(Some(found)) => found,
            _ => return error,
        };
        match release::release(&self.store, &found, &self.recovery(), Instant::now() + release::BOUND, "rolled back") {
            Ok(_) if failure.kind == Kind::JobEnded => {
                failure.remedy("nothing of it is left; mend what its output tells, then acquire again").into()
            }
            Ok(_) => failure.into(),
            Err(problem) => failure.and_then(&failure::of(&problem)).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::queued_too_long(Kind::TimedOut, Phase::Queued, false, Fate::TakenBack)]
    #[case::queued_too_long_and_kept(Kind::TimedOut, Phase::Queued, true, Fate::Kept { may_start: true })]
    #[case::no_answer_from_sbatch(Kind::SubmitUnknown, Phase::Submitting, true, Fate::Kept { may_start: true })]
    #[case::endpoint_of_no_use(Kind::EndpointUnusable, Phase::Queued, true, Fate::Kept { may_start: false })]
    #[case::never_submitted(Kind::TimedOut, Phase::Prepared, true, Fate::TakenBack)]
    #[case::handed_out_before(Kind::TimedOut, Phase::Answered, false, Fate::Untouched)]
    #[case::handed_out_before_and_kept(Kind::TimedOut, Phase::Answered, true, Fate::Kept { may_start: true })]
    #[case::handed_out_and_ended(Kind::JobEnded, Phase::Answered, false, Fate::Untouched)]
    #[case::ended(Kind::JobEnded, Phase::Queued, true, Fate::TakenBack)]
    #[case::somebody_elses(Kind::IdentityMismatch, Phase::Queued, false, Fate::Untouched)]
    #[case::another_call_works_on_it(Kind::Busy, Phase::Queued, false, Fate::Untouched)]
    #[case::on_its_way_out(Kind::Releasing, Phase::Releasing, false, Fate::Untouched)]
    #[case::released_meanwhile(Kind::NotFound, Phase::Queued, true, Fate::Untouched)]
    fn a_failed_acquire(#[case] kind: Kind, #[case] phase: Phase, #[case] keep: bool, #[case] expected: Fate) {
        assert_eq!(fate(kind, phase, keep), expected);
    }
}
