//! The release machine: what Slurm shows of a lease is observed, written down, decided upon and acted on, in this order and by
//! nobody else. release, list, cleanup, the roll-back of an acquire and the wait all end leases through here.
//!
//! A view is as old as the record that it was asked for. It is applied under the lease's lock, and only to that very record: one
//! that was written meanwhile may be of another job.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::allocation::{self, View};
use crate::clock::Now;
use crate::clock::epoch;
use crate::failure::{Failure, Kind};
use crate::lease::lifecycle::{Observation, OpenSubmission, Verdict, classify, open_submission};
use crate::lease::record::{Denials, Ended, Phase, Record};
use crate::lease::store::{Guard, Store};
use crate::operation::polls::{Polls, QUERY_DEADLINE};
use crate::progress::progress;
use crate::shared_dir::{self, SharedDir};
use crate::slurm::job::{Class, JobId};

/// How long a job on its way out is waited for: most end within two seconds, one that ignores TERM only after Slurm's
/// KillWait, 30 s by default.
const ENDING_PATIENCE: Duration = Duration::from_secs(8);

/// A cancellation that shows no effect for so long is repeated; one that works is given time.
const CANCEL_AGAIN: Duration = Duration::from_secs(3);

/// What has to happen before a lease that is being released is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing of it runs or can start.
    Gone,
    /// These live, and were just proven to be the lease's.
    Cancel(Vec<JobId>),
    /// Its last job is ending; nothing else can start.
    Ending,
    /// Nothing can be done but to look again.
    Wait(Waiting),
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// Slurm could not be asked, or its answer tells nothing; why.
    Answer(String),
    SecondDenial,
    Submission,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Answer(why) => f.write_str(why),
            Waiting::SecondDenial => f.write_str("Slurm does not know the job; a second look has to confirm it"),
            Waiting::Submission => f.write_str("sbatch gave no answer, and its job may still appear"),
        }
    }
}

/// How a release came out when it did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// Nothing is left.
    Gone,
    /// The job is on its way out, its cancellation accepted; it stays listed until it is gone.
    Ending,
}

/// Puts into the record what a view proves: the job's id and time, its denial, its end. Whether anything changed.
pub fn apply(record: &mut Record, view: &View, now: Now) -> bool {
    // All that a view can change; thousands of whole records would take long to copy.
    let learned =
        |record: &Record| (record.job.clone(), record.phase, record.submitted, record.denied, record.ended.clone());
    let before = learned(record);
    if let Observation::Row(row) = &view.observation {
        if record.job.is_none() {
            record.job = Some(row.job.clone());
            if record.phase == Phase::Submitting {
                record.phase = Phase::Queued;
            }
        }
        // A requeue sets it anew.
        record.submitted = row.submitted.or(record.submitted);
        record.denied = Denials::default();
        if !matches!(row.state.class(), Class::Ended | Class::Unknown) {
            // Taken for ended before, but an operator has requeued it.
            record.ended = None;
        }
    }
    let ended = |state: &str, reason: &str| Ended {
        state: state.to_owned(),
        reason: reason.to_owned(),
        exit: None,
        runner: None,
        at: now.epoch,
    };
    match classify(record, &view.observation, now) {
        Verdict::Ended if record.ended.is_none() => {
            let row = view.row();
            let reason = row.map(|row| row.reason.as_str()).unwrap_or_default();
            record.ended = Some(ended(row.map(|row| row.state.word()).unwrap_or_default(), reason));
        }
        Verdict::Denied if record.denied.first.is_none_or(|first| first > now.uptime) => {
            record.denied.first = Some(now.uptime);
        }
        Verdict::Gone if record.job.is_some() && record.ended.is_none() => {
            record.ended = Some(ended("GONE", "Slurm no longer knows the job"));
        }
        _ => {}
    }
    learned(record) != before
}

/// Decides about a lease that is being released, from a record to which the view was applied.
pub fn next_step(record: &Record, view: &View, now: Now) -> Step {
    let mut cancel = view.stale_jobs.clone();
    if record.job.is_none() {
        if !cancel.is_empty() {
            return Step::Cancel(cancel);
        }
        return match (&view.observation, open_submission(record, now)) {
            (_, OpenSubmission::NeverSent) => Step::Gone,
            (Observation::Denied, OpenSubmission::Lost) => Step::Gone,
            (Observation::QueryFailed(why), _) => Step::Wait(Waiting::Answer(why.clone())),
            _ => Step::Wait(Waiting::Submission),
        };
    }
    // Whatever its state is called: what is the lease's and has not ended is to end.
    let alive = |class| !matches!(class, Class::Ended | Class::Ending);
    cancel.extend(view.row().filter(|row| alive(row.state.class())).map(|row| row.job.clone()));
    let current = if record.ended.is_some() { Verdict::Ended } else { classify(record, &view.observation, now) };
    match current {
        _ if !cancel.is_empty() => Step::Cancel(cancel),
        Verdict::Ended | Verdict::Gone => Step::Gone,
        Verdict::Ending => Step::Ending,
        Verdict::Denied => Step::Wait(Waiting::SecondDenial),
        Verdict::Unknown(why) => Step::Wait(Waiting::Answer(why)),
        Verdict::Queued | Verdict::Running | Verdict::Suspended => {
            Step::Wait(Waiting::Answer("the job lives on".to_owned()))
        }
    }
}

/// Whether a view would change something because Slurm does not show the job, which its single id has to confirm first
/// (docs/design.md, promise 2).
pub fn needs_confirmation(record: &Record, view: &View, now: Now) -> bool {
    match &view.observation {
        Observation::Row(_) => false,
        Observation::Recycled(_) => true,
        Observation::Denied => record.job.is_some() && classify(record, &view.observation, now) == Verdict::Gone,
        // The listing may be spoilt by other jobs; the lease's own id is asked for by itself.
        Observation::QueryFailed(_) => record.job.is_some() && record.phase == Phase::Releasing,
    }
}

/// Applies a view to the record that it was asked for and writes down what changed; `None`, and nothing is done, when the
/// record is another one now.
pub fn persist(guard: &Guard<'_>, asked_for: &Record, view: &View, now: Now) -> Result<Option<Record>> {
    let Some(before) = guard.still(asked_for) else { return Ok(None) };
    let mut record = before.clone();
    if apply(&mut record, view, now) {
        note_ending(&before, &mut record);
        guard.keep_learned(&before, &record)?;
    }
    Ok(Some(record))
}

/// Adds the runner's own word to an end that has just been learned.
pub fn note_ending(before: &Record, record: &mut Record) {
    if before.ended.is_none() && record.ended.is_some() {
        let note = SharedDir::of(record).ending();
        if let Some(ended) = &mut record.ended {
            ended.runner = note.map(|note| note.reason);
        }
    }
}

/// Ends a lease whose record says that it is to end: cancels and watches until it is gone or time is up. `revoked` tells what
/// became of its permit.
pub fn end(
    store: &Store,
    guard: Guard<'_>,
    mut record: Record,
    revoked: &Result<(), shared_dir::Error>,
    deadline: Instant,
) -> Result<Released> {
    let mut polls = Polls::new(store);
    let mut complaint = None;
    let mut cancelled: Option<Instant> = None;
    let mut ending: Option<Instant> = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let view = poll(&mut polls, &guard, &mut record, left)?;
        let waiting = match next_step(&record, &view, Now::read()) {
            Step::Gone => {
                // Another one may ask for all while the files are removed.
                drop(polls);
                finish(store, guard, &record)?;
                return Ok(Released::Gone);
            }
            Step::Ending => {
                let since = *ending.get_or_insert_with(Instant::now);
                if since.elapsed() >= ENDING_PATIENCE || left <= ENDING_PATIENCE / 4 {
                    return Ok(Released::Ending);
                }
                "its job is ending".to_owned()
            }
            Step::Cancel(jobs) => {
                if cancelled.is_none_or(|at| at.elapsed() >= CANCEL_AGAIN) {
                    complaint = allocation::cancel(&allocation::host(&record), &jobs, left.min(QUERY_DEADLINE)).err();
                    cancelled = Some(Instant::now());
                    polls.after_a_cancellation();
                }
                "its job still lives after scancel".to_owned()
            }
            Step::Wait(why) => why.to_string(),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        // A controller that has not answered is not asked again by this call.
        let silent = allocation::silent_until(&record).is_some_and(|until| until >= deadline);
        if left <= polls.pause() || silent {
            let trouble = revoked.as_ref().err().map(ToString::to_string);
            let causes = [complaint, Some(waiting), trouble].into_iter().flatten().collect::<Vec<_>>();
            return Err(not_ended(&record, revoked.is_ok(), &causes.join("; ")).into());
        }
    }
}

fn not_ended(record: &Record, revoked: bool, cause: &str) -> Failure {
    let permit = match revoked {
        true => "it has no permit any more and stays listed",
        false => "its permit could not be removed, it stays listed",
    };
    let what = format!("releasing {}: not proven ended; {permit}", record.shown());
    let failure = Failure::new(Kind::Releasing, what).cause(cause);
    match (&record.job, revoked) {
        (None, true) => {
            failure.remedy("repeat release, or let list or cleanup finish it; a job that appears now ends by itself")
        }
        (_, false) => failure.remedy(format!(
            "see that {} can be reached, then repeat release, or let list or cleanup finish it",
            record.shared_dir.display()
        )),
        _ => failure,
    }
}

/// Looks at Slurm once and writes down what it proves. A first denial is taken to the accounting, which may know the end
/// already; without it, a second look ten seconds later has to do.
fn poll(polls: &mut Polls, guard: &Guard<'_>, record: &mut Record, left: Duration) -> Result<View> {
    let before = record.clone();
    let view = polls.poll(record, left);
    let time = Now::read();
    apply(record, &view, time);
    if record.ended.is_none()
        && classify(record, &view.observation, time) == Verdict::Denied
        && let Some(ended) = allocation::accounted_end(record, epoch(), left)
    {
        record.ended = Some(ended);
    }
    if *record != before {
        note_ending(&before, record);
        guard.keep_learned(&before, record)?;
    }
    Ok(view)
}

/// Removes all that is left of a lease whose jobs have ended. Until its shared files are gone the lease stays listed: a job that
/// comes late, or is requeued, must not find its permit without a record.
///
/// # Errors
/// When something could not be removed; the lease stays then.
pub fn finish(store: &Store, guard: Guard<'_>, record: &Record) -> Result<()> {
    let error = match SharedDir::of(record).remove() {
        Ok(_) => {
            if let Some(own) = SharedDir::before_its_seat(record) {
                // Without a permit, for which nothing has looked since; what is left is for the next sweep.
                own.remove().ok();
            }
            remove_client_files(record);
            return store.trash_lease(guard);
        }
        // Nothing was ever submitted, so no job can look for a permit there.
        Err(shared_dir::Error::Away(_)) if never_submitted(record) => return store.trash_lease(guard),
        Err(error) => error,
    };
    let what = format!(
        "releasing {}: its job has ended, but its files in {} could not be removed; it stays listed",
        record.shown(),
        record.shared_dir.display()
    );
    let remedy = match error {
        shared_dir::Error::Away(_) => format!(
            "repeat release when its file system is mounted; if it was removed for good, run `slurm-sandbox forget {} --because TEXT`",
            record.lease_id()
        ),
        _ => "repeat release, or let list or cleanup finish it".to_owned(),
    };
    Err(Failure::new(Kind::Releasing, what).remedy(remedy).cause(error.to_string()).into())
}

/// Removes what the client keeps of a lease in its user's home. It is no lease's life that hangs on it, so nothing waits for it
/// to succeed.
fn remove_client_files(record: &Record) {
    let host = allocation::host(record);
    // Nothing ran, so the client was nowhere.
    if record.job.is_none() || record.is_spare() {
        return;
    }
    let Ok(user) = host.user() else { return };
    let Some(home) = user.home.filter(|_| user.uid == record.uid) else { return };
    if let Err(error) = shared_dir::client_files::remove(&host, Path::new(&home), record.lease_id()) {
        progress(&format!("the client's files of {} stay in {home}/.crabbox{}: {error}", record.shown(), host.shown()));
    }
}

fn never_submitted(record: &Record) -> bool {
    record.attempt.sent.is_none() && record.job.is_none() && record.given_up.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootTime;
    use crate::lease::record::tests::{given_up, job, left_behind, record, row};
    use crate::slurm::job::{Listing, QueryFailed, Row, State};
    use rstest::rstest;

    const NOW: Now = Now { epoch: 1_000_000, uptime: 2000 };

    fn at(uptime: i64) -> Now {
        Now { uptime, ..NOW }
    }

    fn seen(rows: Vec<Row>, record: &Record) -> View {
        allocation::view(record, &Ok(Listing { rows, complete: true }))
    }

    fn in_state(word: &str) -> Row {
        Row { state: State::new(word), ..row() }
    }

    fn twice_tried() -> Record {
        Record { given_up: given_up(), shared_dir: "/nonexistent".into(), ..record() }
    }

    #[test]
    fn a_job_that_lives_again_has_not_ended() {
        let mut record = twice_tried();
        let failed = seen(vec![in_state("NODE_FAIL")], &record);
        assert!(apply(&mut record, &failed, NOW) && record.ended.is_some());
        let alive = seen(vec![in_state("RUNNING")], &record);
        apply(&mut record, &alive, NOW);
        assert_eq!(next_step(&record, &alive, NOW), Step::Cancel(vec![job(7)]));
    }

    #[test]
    fn a_submission_that_is_found_is_adopted() {
        let mut lost = Record { job: None, submitted: None, phase: Phase::Submitting, ..twice_tried() };
        let view = seen(vec![left_behind(), row()], &lost);
        assert!(apply(&mut lost, &view, NOW));
        assert_eq!((lost.job, lost.submitted, lost.phase), (Some(job(7)), Some(1001), Phase::Queued));
    }

    #[rstest]
    #[case::running(vec![in_state("RUNNING")], Step::Cancel(vec![job(7)]))]
    #[case::pending(vec![in_state("PENDING")], Step::Cancel(vec![job(7)]))]
    #[case::renamed(vec![Row { name: "mine".into(), comment: "x".into(), ..row() }], Step::Cancel(vec![job(7)]))]
    #[case::in_a_state_not_known_here(vec![in_state("EXPEDITING")], Step::Cancel(vec![job(7)]))]
    #[case::running_on_a_sibling_or_nowhere(vec![in_state("REVOKED")], Step::Cancel(vec![job(7)]))]
    #[case::completing(vec![in_state("COMPLETING")], Step::Ending)]
    #[case::cancelled(vec![in_state("CANCELLED")], Step::Gone)]
    #[case::denied_once(vec![], Step::Wait(Waiting::SecondDenial))]
    #[case::stray_left(vec![in_state("CANCELLED"), left_behind()], Step::Cancel(vec![job(6)]))]
    #[case::anothers_stray(vec![in_state("CANCELLED"), Row { comment: left_behind().comment.replace("abcd1234", "00000000"), ..left_behind() }], Step::Gone)]
    fn steps(#[case] rows: Vec<Row>, #[case] expected: Step) {
        let mut record = twice_tried();
        let view = seen(rows, &record);
        apply(&mut record, &view, NOW);
        assert_eq!(next_step(&record, &view, NOW), expected);
    }

    #[test]
    fn a_foreign_job_under_the_id_is_never_cancelled() {
        let mut record = twice_tried();
        let other = Row { comment: String::new(), directory: "/".into(), submitted: Some(5000), ..row() };
        let view = seen(vec![other], &record);
        assert!(!apply(&mut record, &view, NOW) && needs_confirmation(&record, &view, NOW));
        assert!(matches!(next_step(&record, &view, NOW), Step::Wait(Waiting::Answer(_))));
    }

    #[test]
    fn one_denial_is_written_down_and_the_second_ends() {
        let mut record = twice_tried();
        let denial = seen(vec![], &record);
        apply(&mut record, &denial, at(2000));
        assert_eq!(next_step(&record, &denial, at(2005)), Step::Wait(Waiting::SecondDenial));
        assert!(!needs_confirmation(&record, &denial, at(2005)));
        apply(&mut record, &denial, at(2005));
        assert_eq!(record.denied.first, Some(2000));
        assert!(needs_confirmation(&record, &denial, at(2010)));
        apply(&mut record, &denial, at(2010));
        assert_eq!(next_step(&record, &denial, at(2010)), Step::Gone);
    }

    /// Uptimes when it was sent and first denied.
    #[rstest]
    #[case::unknown_submission(Some(1900), Some(1950), false)]
    #[case::past_the_horizon(Some(1000), Some(1990), true)]
    #[case::past_the_horizon_denied_once(Some(1000), None, false)]
    #[case::past_the_horizon_denied_just_now(Some(1000), Some(1995), false)]
    #[case::never_sent(None, None, true)]
    fn a_submission_without_an_answer_is_not_released(
        #[case] sent: Option<i64>,
        #[case] first: Option<i64>,
        #[case] gone: bool,
    ) {
        let denied = Denials { first, elsewhere: false };
        let mut record = Record { job: None, submitted: None, phase: Phase::Releasing, denied, ..twice_tried() };
        record.attempt.sent = sent.map(|_| 7);
        record.attempt.sent_at = sent.and_then(|uptime| BootTime::of(at(uptime)));
        let nothing = seen(vec![], &record);
        assert_eq!(next_step(&record, &nothing, NOW) == Step::Gone, gone);
        let silence = View::query_failed("down");
        assert_eq!(next_step(&record, &silence, NOW) == Step::Gone, sent.is_none());
    }

    #[test]
    fn a_view_is_applied_only_to_the_record_that_it_was_asked_for() {
        let (_temp, store) = crate::lease::store::tests::store();
        let first = twice_tried();
        store.create(&first.identity, |_, _| Ok(first.clone())).unwrap();
        let dir = store.lease(first.lease_id()).unwrap().unwrap();
        let guard = dir.lock(Duration::ZERO).unwrap().held();
        let view = allocation::view(&first, &Err(QueryFailed("down".into())));
        assert!(persist(&guard, &first, &view, NOW).unwrap().is_some());
        let ended = seen(vec![in_state("FAILED")], &first);
        let second = Record { job: Some(job(9)), ..first.clone() };
        guard.save(&second).unwrap();
        assert!(persist(&guard, &first, &ended, NOW).unwrap().is_none());
        assert!(guard.still(&second).is_some());
    }
}
