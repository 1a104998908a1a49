//! Which job a lease lives in: when one is submitted, found again, adopted or cancelled.
//!
//! Three guards together keep a lease at one job: the permit names the one attempt that may run, the singleton
//! dependency lets one job of the lease's name run at a time, and an attempt is written down before it is sent.

mod submission;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::exchange::Exchange;
use crate::host::Host;
use crate::lease::lifecycle::{Observation, OpenSubmission, Verdict, judge, open_submission};
use crate::lease::record::{Ended, Phase, Record};
use crate::slurm::job::{Class, JobId, Listing, Row, Unasked};
use crate::slurm::shared::{Heard, Shared};
use crate::slurm::{sacct, scancel, squeue};
pub use submission::{Runner, submit};

/// What Slurm shows of one lease.
#[derive(Debug, Clone)]
pub struct View {
    pub observation: Observation,
    /// Live jobs of this lease that are not its current one: left behind by an attempt that lost its permit.
    pub strays: Vec<JobId>,
}

impl View {
    /// The row of the lease's job.
    pub fn row(&self) -> Option<&Row> {
        match &self.observation {
            Observation::Row(row) => Some(row),
            _ => None,
        }
    }
}

/// Where Slurm's commands run for a record.
pub fn host(record: &Record) -> Host {
    Host::of(record.submit.as_ref())
}

/// Whether Slurm has anything to say about a record: not about one that never asked it for anything. One that has ended
/// is looked at again, since an operator can requeue what said that it would not be.
pub fn concerns_slurm(record: &Record) -> bool {
    record.attempt.sent.is_some()
}

/// Where Slurm is asked about a record: its job's cluster, or every cluster that the site may have sent it to. Each is
/// asked by itself: of several in one call, squeue silently leaves out one that is down.
pub fn clusters(record: &Record) -> Vec<Option<String>> {
    match (&record.job, &record.clusters) {
        (Some(job), _) => vec![job.cluster.clone()],
        (None, Some(names)) => {
            names.split(',').filter(|name| !name.is_empty()).map(|name| Some(name.to_owned())).collect()
        }
        (None, None) => vec![None],
    }
}

/// One listing of several; as whole as all of them.
pub fn merge<'a>(listings: impl Iterator<Item = &'a Result<Listing, Unasked>>) -> Result<Listing, Unasked> {
    let mut merged = Listing { rows: vec![], complete: true };
    let mut unasked = None;
    let mut asked = false;
    for listing in listings {
        asked = true;
        match listing {
            Ok(listing) => {
                merged.rows.extend(listing.rows.iter().cloned());
                merged.complete &= listing.complete;
            }
            Err(why) => unasked = Some(why.clone()),
        }
    }
    match unasked {
        None if !asked => Err(Unasked("no cluster was asked".to_owned())),
        Some(why) if merged.rows.is_empty() => Err(why),
        Some(_) => Ok(Listing { complete: false, ..merged }),
        None => Ok(merged),
    }
}

/// Reads a record's job and strays out of a listing of its cluster. A job that is not known yet is found by name,
/// user and nonce; of several, the oldest that lives.
pub fn view(record: &Record, listing: &Result<Listing, Unasked>) -> View {
    let listing = match listing {
        Ok(listing) => listing,
        Err(Unasked(why)) => {
            return View { observation: Observation::Unasked(why.clone()), strays: vec![] };
        }
    };
    let current = match &record.job {
        Some(job) => listing.rows.iter().find(|row| &row.job == job),
        None => {
            let mut ours: Vec<&Row> = listing.rows.iter().filter(|row| record.owns(row)).collect();
            ours.sort_by_key(|row| (row.state.class() == Class::Ended, row.submitted, row.job.id));
            ours.first().copied()
        }
    };
    let observation = match current {
        Some(row) => Observation::Row(Box::new(row.clone())),
        None if listing.complete => Observation::Denied,
        None => Observation::Unasked("squeue's listing came with other text and may not be whole".to_owned()),
    };
    let strays = listing.rows.iter().filter(|row| {
        record.related(row) && row.state.class() != Class::Ended && current.is_none_or(|current| current.job != row.job)
    });
    View { observation, strays: strays.map(|row| row.job.clone()).collect() }
}

/// Asks Slurm about one record: one listing, and where that is empty or not clean, the job's own id.
pub fn ask(record: &Record, deadline: Duration) -> View {
    ask_by(record, deadline, |cluster| squeue::list_user(&host(record), record.uid, cluster, deadline))
}

/// The same, content with an answer that another process got at most `oldest` ago.
pub fn ask_shared(record: &Record, shared: &Shared, oldest: Duration, deadline: Duration) -> View {
    ask_by(record, deadline, |cluster| {
        about(record, shared.list_user(&host(record), record.uid, cluster, oldest, deadline))
    })
}

/// What an answer says about a record. One from before may not know its job yet, so what is missing in it is not denied.
fn about(record: &Record, heard: Heard) -> Result<Listing, Unasked> {
    match heard.listing {
        Ok(listing)
            if heard.old
                && !listing.rows.iter().any(|row| record.related(row) || record.job.as_ref() == Some(&row.job)) =>
        {
            Err(Unasked("Slurm takes long to answer and is left alone for a while".to_owned()))
        }
        listing => listing,
    }
}

fn ask_by(record: &Record, deadline: Duration, list: impl Fn(Option<&str>) -> Result<Listing, Unasked>) -> View {
    if !concerns_slurm(record) {
        return View { observation: Observation::Unasked("Slurm was not asked".to_owned()), strays: vec![] };
    }
    let listings: Vec<_> = clusters(record).iter().map(|cluster| list(cluster.as_deref())).collect();
    let listing = merge(listings.iter());
    let mut view = view(record, &listing);
    let doubtful = match (&view.observation, &listing) {
        (Observation::Denied, Ok(listing)) => listing.rows.is_empty(),
        (Observation::Unasked(_), Ok(_)) => true,
        _ => false,
    };
    if let (true, Some(job)) = (doubtful, &record.job) {
        view.observation = match squeue::find(&host(record), job, deadline) {
            Ok(Some(row)) => Observation::Row(Box::new(row)),
            Ok(None) => Observation::Denied,
            Err(Unasked(why)) => Observation::Unasked(why),
        };
    }
    view
}

/// Writes into the record what a view proves: the job's id and time, its denial, its end with the runner's note about
/// it. Whether anything changed.
pub fn learn(record: &mut Record, view: &View, now: i64) -> bool {
    let before = record.clone();
    if let Observation::Row(row) = &view.observation
        && record.owns(row)
    {
        if record.job.is_none() {
            record.job = Some(row.job.clone());
            if record.phase == Phase::Submitting {
                record.phase = Phase::Queued;
            }
        }
        record.submitted = record.submitted.or(row.submitted);
        record.denied = None;
        if !matches!(row.state.class(), Class::Ended | Class::Unknown) {
            // Taken for ended before, but an operator has requeued it.
            record.ended = None;
        }
    }
    match judge(record, &view.observation, now) {
        Verdict::Ended if record.ended.is_none() => {
            let reason = view.row().map(|row| row.reason.clone()).filter(|reason| reason != "None").unwrap_or_default();
            let state = view.row().map(|row| row.state.word().to_owned()).unwrap_or_default();
            record.ended = Some(Ended { state, reason, exit: None, runner: None, at: now });
        }
        Verdict::Denied if record.denied.is_none_or(|first| first > now) => record.denied = Some(now),
        Verdict::Gone if record.job.is_some() && record.ended.is_none() => {
            record.ended = Some(Ended {
                state: "GONE".into(),
                reason: "Slurm no longer knows the job".into(),
                exit: None,
                runner: None,
                at: now,
            });
        }
        _ => {}
    }
    if before.ended.is_none() && record.ended.is_some() {
        let note = Exchange::of(record).ending();
        if let Some(ended) = &mut record.ended {
            ended.runner = note.map(|note| note.reason);
        }
    }
    *record != before
}

/// What has to happen before a lease that is being released is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Farewell {
    /// Nothing of it runs or can start.
    Gone,
    /// These are to be cancelled, for which they were just proven ours.
    Cancel(Vec<JobId>),
    /// Its last job is ending; nothing else can start.
    Ending,
    /// Nothing can be done but to look again.
    Wait(String),
}

/// Decides about a lease that is being released, from a record that has learned from the view.
pub fn farewell(record: &Record, view: &View, now: i64) -> Farewell {
    let mut cancel = view.strays.clone();
    if record.job.is_none() {
        if !cancel.is_empty() {
            return Farewell::Cancel(cancel);
        }
        return match (&view.observation, open_submission(record, now)) {
            (_, OpenSubmission::NeverSent) => Farewell::Gone,
            (Observation::Denied, OpenSubmission::Lost) => Farewell::Gone,
            (Observation::Unasked(why), _) => Farewell::Wait(why.clone()),
            _ => Farewell::Wait("sbatch gave no answer, and its job may still appear".to_owned()),
        };
    }
    let current = if record.ended.is_some() { Verdict::Ended } else { judge(record, &view.observation, now) };
    if matches!(current, Verdict::Queued | Verdict::Running | Verdict::Suspended) {
        cancel.extend(view.row().map(|row| row.job.clone()));
    }
    match current {
        _ if !cancel.is_empty() => Farewell::Cancel(cancel),
        Verdict::Ended | Verdict::Gone => Farewell::Gone,
        Verdict::Ending => Farewell::Ending,
        Verdict::Denied => Farewell::Wait("Slurm does not know the job; a second look has to confirm it".to_owned()),
        Verdict::Unknown(why) => Farewell::Wait(why),
        Verdict::Queued | Verdict::Running | Verdict::Suspended => Farewell::Wait("the job lives on".to_owned()),
    }
}

/// Asks for the end of jobs that were just proven ours, one scancel a cluster.
pub fn cancel(host: &Host, jobs: &[JobId], deadline: Duration) -> Result<(), String> {
    let mut by_cluster: BTreeMap<Option<&str>, Vec<u64>> = BTreeMap::new();
    for job in jobs {
        by_cluster.entry(job.cluster.as_deref()).or_default().push(job.id);
    }
    let results: Vec<_> =
        by_cluster.into_iter().map(|(cluster, ids)| scancel::cancel(host, cluster, &ids, deadline)).collect();
    results.into_iter().collect()
}

/// The end of a job that the controller denies, as the accounting tells it.
pub fn accounted_end(record: &Record, now: i64, deadline: Duration) -> Option<Ended> {
    let job = record.job.as_ref()?;
    let ended = sacct::ended(&host(record), job, &record.lease_id().job_name(), record.submitted, deadline)?;
    Some(Ended {
        state: ended.state.word().to_owned(),
        reason: String::new(),
        exit: Some(ended.exit),
        runner: None,
        at: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::record::tests::{record, row};
    use crate::slurm::job::State;
    use rstest::rstest;

    fn listing(rows: Vec<Row>) -> Result<Listing, Unasked> {
        Ok(Listing { rows, complete: true })
    }

    fn in_state(word: &str) -> Row {
        Row { state: State::new(word), ..row() }
    }

    fn stray() -> Row {
        let comment = row().comment.replace("00112233445566ff", "ffffffffffffffff");
        Row { job: JobId { id: 6, cluster: None }, submitted: Some(900), comment, ..row() }
    }

    #[test]
    fn a_lost_submission_is_adopted_by_its_nonce_and_strays_are_told_apart() {
        let mut lost = Record { job: None, submitted: None, phase: Phase::Submitting, ..record() };
        let view = view(&lost, &listing(vec![stray(), row()]));
        assert!(learn(&mut lost, &view, 2000));
        assert_eq!(
            (lost.job, lost.submitted, lost.phase),
            (Some(JobId { id: 7, cluster: None }), Some(1001), Phase::Queued)
        );
        assert_eq!(view.strays, [JobId { id: 6, cluster: None }]);
    }

    #[test]
    fn a_job_that_lives_again_has_not_ended() {
        let mut record = record();
        let failed = view(&record, &listing(vec![in_state("NODE_FAIL")]));
        learn(&mut record, &failed, 2000);
        assert!(record.ended.is_some());
        let alive = view(&record, &listing(vec![in_state("RUNNING")]));
        learn(&mut record, &alive, 2001);
        assert_eq!(farewell(&record, &alive, 2001), Farewell::Cancel(vec![JobId { id: 7, cluster: None }]));
    }

    #[test]
    fn the_first_look_takes_the_id_that_sbatch_gave() {
        let fresh = Record { submitted: None, ..record() };
        let rewritten = Row { comment: "by a plugin".into(), ..row() };
        assert!(fresh.owns(&rewritten));
    }

    #[test]
    fn absence_counts_only_in_a_whole_listing() {
        assert_eq!(view(&record(), &listing(vec![])).observation, Observation::Denied);
        let noisy = Ok(Listing { rows: vec![], complete: false });
        assert!(matches!(view(&record(), &noisy).observation, Observation::Unasked(_)));
        assert!(matches!(view(&record(), &Err(Unasked("x".into()))).observation, Observation::Unasked(_)));
    }

    #[rstest]
    #[case::running(vec![in_state("RUNNING")], Farewell::Cancel(vec![JobId { id: 7, cluster: None }]))]
    #[case::pending(vec![in_state("PENDING")], Farewell::Cancel(vec![JobId { id: 7, cluster: None }]))]
    #[case::completing(vec![in_state("COMPLETING")], Farewell::Ending)]
    #[case::cancelled(vec![in_state("CANCELLED")], Farewell::Gone)]
    #[case::recycled(vec![Row { name: "other".into(), comment: String::new(), ..row() }], Farewell::Gone)]
    #[case::stray_left(vec![in_state("CANCELLED"), stray()], Farewell::Cancel(vec![JobId { id: 6, cluster: None }]))]
    fn farewells(#[case] rows: Vec<Row>, #[case] expected: Farewell) {
        let mut record = record();
        let view = view(&record, &listing(rows));
        learn(&mut record, &view, 2000);
        assert_eq!(farewell(&record, &view, 2000), expected);
    }

    #[test]
    fn an_answer_from_before_the_submission_denies_nothing() {
        let heard = |rows, old| Heard { listing: listing(rows), old };
        let other =
            || Row { job: JobId { id: 8, cluster: None }, name: "other".into(), comment: String::new(), ..row() };
        assert!(about(&record(), heard(vec![other()], true)).is_err());
        assert!(about(&record(), heard(vec![other()], false)).is_ok_and(|listing| listing.complete));
        assert_eq!(about(&record(), heard(vec![other(), row()], true)), listing(vec![other(), row()]));
    }

    #[test]
    fn one_denial_is_written_down_and_the_second_ends() {
        let mut record = record();
        let denial = view(&record, &listing(vec![]));
        learn(&mut record, &denial, 2000);
        assert!(matches!(farewell(&record, &denial, 2005), Farewell::Wait(_)));
        learn(&mut record, &denial, 2005);
        assert_eq!(record.denied, Some(2000));
        learn(&mut record, &denial, 2010);
        assert_eq!(farewell(&record, &denial, 2010), Farewell::Gone);
    }

    #[rstest]
    #[case::unknown_submission(Some(1900), Some(1950), false)]
    #[case::past_the_horizon(Some(1000), Some(1990), true)]
    #[case::past_the_horizon_denied_once(Some(1000), None, false)]
    #[case::past_the_horizon_denied_just_now(Some(1000), Some(1995), false)]
    #[case::never_sent(None, None, true)]
    fn a_submission_without_an_answer_is_not_released(
        #[case] sent: Option<i64>,
        #[case] denied: Option<i64>,
        #[case] gone: bool,
    ) {
        let now = 2000;
        let mut record = Record { job: None, submitted: None, phase: Phase::Releasing, denied, ..record() };
        record.attempt.sent = sent;
        let nothing = view(&record, &listing(vec![]));
        assert_eq!(farewell(&record, &nothing, now) == Farewell::Gone, gone);
        let silence = View { observation: Observation::Unasked("down".into()), strays: vec![] };
        assert_eq!(farewell(&record, &silence, now) == Farewell::Gone, sent.is_none());
    }
}
