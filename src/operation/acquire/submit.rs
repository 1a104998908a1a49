//! An acquire up to its job: submissions, and the search for those whose answer was lost.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Acquire;
use crate::allocation::{self, View};
use crate::clock::Now;
use crate::clock::epoch;
use crate::failure::{Failure, Kind};
use crate::lease::lifecycle::{Observation, OpenSubmission, open_submission};
use crate::lease::record::{Phase, Record, comment};
use crate::lease::store::{Guard, LeaseDir};
use crate::operation::pool::ending::make_room;
use crate::operation::settle;
use crate::progress::progress;
use crate::shared_dir::{self, Permit, SharedDir};
use crate::slurm::job::{Class, QueryFailed, Row};
use crate::slurm::refusal::Change;
use crate::slurm::sbatch::{NoJob, Outcome};
use crate::slurm::squeue;

/// Pauses between looks for a submission whose answer was lost (docs/facts/slurm.md, "Looking for a lost submission"), then the last one again and again.
const RECONCILE_PAUSES: [Duration; 5] = [
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
];

/// Pauses between submissions that reached no controller.
const RESEND_PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// How often in one call sbatch may give no clear answer, with no job to be found, before the call gives up.
const MOST_UNCLEAR: u32 = 3;

/// The end of a spare in the queue takes a moment; one that is not seen within this time makes no room.
const ROOM_TIME: Duration = Duration::from_secs(10);

/// What sbatch said last, and how often it gave no clear answer.
#[derive(Debug, Default)]
struct Said {
    last: String,
    plugin: bool,
    unclear: u32,
    /// Whether a spare was to be ended in favour of this lease.
    made_room: bool,
}

/// What a lease has come to.
pub(super) enum Submitted {
    /// It has a job; what Slurm has shown of it already.
    Has(Option<Box<View>>),
    /// It went away.
    Gone,
}

enum Step {
    /// The job is known.
    Done,
    /// Submit, at once.
    Again,
    /// Submit again after a pause.
    Later,
    /// Look for the job.
    Poll,
}

impl Acquire<'_> {
    /// Brings the lease to the point where its job is known.
    pub(super) fn submitted(&self, dir: &LeaseDir) -> Result<Submitted> {
        let mut resends = RESEND_PAUSES.iter();
        let mut looks = RECONCILE_PAUSES.iter();
        let mut said = Said::default();
        loop {
            let Some(guard) = self.lock(dir)? else { return Ok(Submitted::Gone) };
            // Nothing is to be submitted for nobody.
            self.caller_lives()?;
            let mut record = self.checked(&guard)?;
            // A release was cut short after it took the permit away.
            let losing = matches!(record.phase, Phase::Queued | Phase::Answered)
                && SharedDir::of(&record).permit() == Permit::Lost;
            let step = match record.phase {
                Phase::Queued | Phase::Answered if !losing => return Ok(Submitted::Has(None)),
                Phase::Queued | Phase::Answered | Phase::Releasing => {
                    drop(guard);
                    return self.wait_for_release(dir).map(|()| Submitted::Gone);
                }
                Phase::Prepared => {
                    if let Some(view) = self.take_spare(&guard, &record)? {
                        return Ok(Submitted::Has(Some(Box::new(view))));
                    }
                    looks = RECONCILE_PAUSES.iter();
                    self.submit(&guard, &mut record, &mut said)?
                }
                Phase::Submitting => self.reconcile(&guard, &mut record, &said)?,
            };
            let pause = match step {
                Step::Done => return Ok(Submitted::Has(None)),
                Step::Again => continue,
                Step::Later => resends.next().unwrap_or(&RESEND_PAUSES[4]),
                Step::Poll => looks.next().unwrap_or(&RECONCILE_PAUSES[4]),
            };
            drop(guard);
            let pause = (*pause).max(self.options.poll_interval);
            if Instant::now() + pause >= self.deadline {
                return Err(self.not_submitted(&record, &said).into());
            }
            self.sleep(pause)?;
        }
    }

    /// Submits the prepared attempt.
    fn submit(&self, guard: &Guard<'_>, record: &mut Record, said: &mut Said) -> Result<Step> {
        let id = &self.identity.lease_id;
        self.nobody_else_holds(record)?;
        if record.key.as_os_str().is_empty() {
            record.key = guard.lease.path().join(self.make_key(guard.lease.directory())?);
            // On record before anything is shared: where a spare is taken after all, this tells that there is something to remove.
            guard.save(record)?;
        }
        let outcome = allocation::submit(&self.store, guard, record, &self.settings, &self.runner, Now::read())?;
        const REFUSED: &str = "sbatch refused the job, none was submitted";
        let (why, text) = match outcome {
            Outcome::Submitted(_) => return Ok(Step::Done),
            Outcome::NotSent { said: text } => {
                progress(&format!(
                    "{}: no controller took the job, the submission is repeated: {text}",
                    record.shown()
                ));
                said.last = text;
                return Ok(Step::Later);
            }
            Outcome::Unknown { said: text, plugin } => {
                progress(&format!("lease {id}: sbatch gave no clear answer, the job is looked for by name: {text}"));
                *said = Said { last: text, plugin, unclear: said.unclear + 1, ..*said };
                return Ok(Step::Poll);
            }
            Outcome::NoJob { why, said } => (why, said),
        };
        // Spares cost nobody a lease.
        if why == NoJob::Limit && !said.made_room {
            said.made_room = true;
            if make_room(&self.store, self.deadline.min(Instant::now() + ROOM_TIME)) {
                progress(&format!("lease {id}: a limit on jobs is reached, a spare is ended for it"));
                return Ok(Step::Again);
            }
        }
        let (kind, what, remedy) = match why {
            NoJob::Refused(change) => (Kind::SubmitRejected, REFUSED, change.remedy()),
            NoJob::Limit => (
                Kind::LimitReached,
                REFUSED,
                "end other jobs of yours or wait until some have ended, then repeat the call",
            ),
            NoJob::Closed => (
                Kind::SlurmUnavailable,
                "Slurm takes no jobs at present, none was submitted",
                "repeat the call when it takes jobs again",
            ),
            NoJob::NoSbatch => (
                Kind::SlurmUnavailable,
                "nothing was submitted",
                "put Slurm's commands on PATH, or run this where they are",
            ),
        };
        Err(Failure::new(kind, format!("acquiring lease {id}: {what}")).remedy(remedy).cause(text).into())
    }

    /// Refuses where another state dir has a lease of this id in the same shared dir, with a job that lives: the permit that
    /// this attempt takes would end it.
    fn nobody_else_holds(&self, record: &Record) -> Result<()> {
        let host = allocation::host(record);
        let id = record.lease_id();
        // What cannot be read now is told when the permit is given.
        let Ok(Some(holder)) = shared_dir::permitted(&host, &record.shared_dir, id) else { return Ok(()) };
        if holder == record.attempt.nonce || record.given_up.contains(&holder) {
            return Ok(());
        }
        for cluster in allocation::clusters(record) {
            let listing = squeue::list_user(&host, allocation::owner(record), cluster.as_deref(), squeue::DEADLINE);
            let listing = listing.map_err(|QueryFailed(why)| {
                let what = format!("acquiring lease {id}: whether another state dir holds it could not be asked");
                Failure::new(Kind::SlurmUnavailable, what).cause(why)
            })?;
            let theirs = |row: &&Row| {
                row.uid == record.uid
                    && row.state.class() != Class::Ended
                    && comment(&row.comment).is_some_and(|word| word.lease_id == *id && word.nonce == holder)
            };
            if let Some(row) = listing.rows.iter().find(theirs) {
                let what = format!(
                    "acquiring lease {id}: another state dir has a lease of this id in {}, with job {}; nothing was touched",
                    record.shared_dir.display(),
                    row.job
                );
                return Err(Failure::new(Kind::Storage, what)
                    .remedy(
                        "release it where it was acquired, or acquire under another lease id or with another sharedDir",
                    )
                    .into());
            }
        }
        Ok(())
    }

    /// Looks for the job of a submission without an answer, and moves on to another attempt once it is denied twice.
    fn reconcile(&self, guard: &Guard<'_>, record: &mut Record, said: &Said) -> Result<Step> {
        let view = allocation::ask(record, squeue::DEADLINE);
        let (before, time) = (record.clone(), Now::read());
        if settle::apply(record, &view, time) {
            guard.keep_learned(&before, record)?;
        }
        if record.job.is_some() {
            guard.lease.note(epoch(), "adopted", &record.shown());
            return Ok(Step::Done);
        }
        if !matches!(view.observation, Observation::Denied) {
            return Ok(Step::Poll);
        }
        match open_submission(record, time) {
            OpenSubmission::Wait => Ok(Step::Poll),
            OpenSubmission::NeverSent | OpenSubmission::Resubmit | OpenSubmission::Lost => {
                record.begin_attempt()?;
                guard.save(record)?;
                let id = record.lease_id();
                let failure = if said.plugin {
                    // Asking again would be refused again.
                    let what = format!("acquiring lease {id}: sbatch refused the job, none was submitted");
                    Failure::new(Kind::SubmitRejected, what).remedy(Change::AsSaid.remedy())
                } else if said.unclear >= MOST_UNCLEAR {
                    let what = format!(
                        "acquiring lease {id}: sbatch gave no clear answer {MOST_UNCLEAR} times, and Slurm knows no job of it"
                    );
                    Failure::new(Kind::SlurmUnavailable, what).remedy("repeat the call when `sbatch` works again")
                } else {
                    return Ok(Step::Again);
                };
                Err(failure.cause(&said.last).into())
            }
        }
    }

    fn not_submitted(&self, record: &Record, said: &Said) -> Failure {
        let id = record.lease_id();
        let (kind, what) = match record.phase {
            Phase::Prepared => (
                Kind::SlurmUnavailable,
                format!("acquiring lease {id}: no controller took the job in time, nothing was submitted"),
            ),
            _ => (
                Kind::SubmitUnknown,
                format!("acquiring lease {id}: whether its job was submitted could not be found out in time"),
            ),
        };
        Failure::new(kind, what).cause(&said.last)
    }
}
