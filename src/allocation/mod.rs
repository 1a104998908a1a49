//! Which job a lease lives in: when one is submitted, found again, adopted or cancelled.
//!
//! Three guards together keep a lease at one job: the permit names the one attempt that may run, the singleton
//! dependency lets one job of the lease's name run at a time, and an attempt is written down before it is sent.

mod submission;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::files::Lock;
use crate::host::Host;
use crate::lease::LeaseId;
use crate::lease::lifecycle::Observation;
use crate::lease::record::{Ended, Ownership, Record};
use crate::slurm::cache::{BackOff, CachedListing, Moment, Question, Shared};
use crate::slurm::job::{Class, JobId, Listing, QueryFailed, Row};
use crate::slurm::squeue::{Owner, RowText};
use crate::slurm::{sacct, scancel, scontrol, silence, squeue};
pub use submission::{Runner, submission, submit};

/// What Slurm shows of one lease.
#[derive(Debug, Clone)]
pub struct View {
    pub observation: Observation,
    /// Live jobs of this lease that are not its current one: left behind by an attempt that lost its permit.
    pub stale_jobs: Vec<JobId>,
}

impl View {
    /// That of a lease about which nobody was asked, and why.
    pub fn query_failed(why: impl Into<String>) -> View {
        View { observation: Observation::QueryFailed(why.into()), stale_jobs: vec![] }
    }

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

/// Whose jobs are asked for on behalf of a record. A record names its user only where that is another machine's.
pub fn owner(record: &Record) -> Owner<'_> {
    // Only a large user id is asked for by name.
    let needed = record.submit.is_none() && i32::try_from(record.uid).is_err();
    let own = || if needed { crate::host::own_name() } else { None };
    Owner { uid: record.uid, name: record.user.as_deref().or_else(own) }
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
        (None, names) => crate::slurm::each_cluster(names.as_deref()),
    }
}

/// One listing of several; as whole as all of them.
pub fn merge<'a>(listings: impl Iterator<Item = &'a Result<Listing, QueryFailed>>) -> Result<Listing, QueryFailed> {
    let mut merged = Listing { rows: vec![], complete: true };
    let mut failed = None;
    let mut asked = false;
    for listing in listings {
        asked = true;
        match listing {
            Ok(listing) => {
                merged.rows.extend(listing.rows.iter().cloned());
                merged.complete &= listing.complete;
            }
            Err(why) => failed = Some(why.clone()),
        }
    }
    match failed {
        None if !asked => Err(QueryFailed("no cluster was asked".to_owned())),
        Some(why) if merged.rows.is_empty() => Err(why),
        Some(_) => Ok(Listing { complete: false, ..merged }),
        None => Ok(merged),
    }
}

/// Reads a record's job and stale_jobs out of a listing of its cluster. A job that is not known yet is found by user and nonce; of
/// several, the oldest that lives.
pub fn view(record: &Record, listing: &Result<Listing, QueryFailed>) -> View {
    match listing {
        Ok(listing) => view_of(record, &listing.rows.iter().collect::<Vec<_>>(), listing.complete),
        Err(QueryFailed(why)) => View::query_failed(why),
    }
}

/// The same out of some rows of a listing, all that may be the record's among them.
pub fn view_of(record: &Record, rows: &[&Row], complete: bool) -> View {
    let rows = || rows.iter().copied();
    let current = match &record.job {
        Some(job) => rows().find(|row| &row.job == job),
        None => {
            let ours = rows().filter(|row| record.submitted_as(row));
            ours.min_by_key(|row| (row.state.class() == Class::Ended, row.submitted, row.job.id))
        }
    };
    let observation = match current {
        Some(row) => observed(record, row.clone()),
        None if complete => Observation::Denied,
        None => Observation::QueryFailed(
            "squeue's listing may leave jobs out: it came with other text, or another user asked for it".to_owned(),
        ),
    };
    let stale_jobs = rows().filter(|row| {
        row.state.class() != Class::Ended
            && current.is_none_or(|current| current.job != row.job)
            && record.left_behind(row)
    });
    View { observation, stale_jobs: stale_jobs.map(|row| row.job.clone()).collect() }
}

/// What a row proves that stands under a record's id, or bears its nonce.
fn observed(record: &Record, row: Row) -> Observation {
    match if record.job.is_some() { record.ownership(&row) } else { Ownership::Ours } {
        Ownership::Ours => Observation::Row(Box::new(row)),
        Ownership::Recycled => Observation::Recycled(Box::new(row)),
        Ownership::Unclear => {
            Observation::QueryFailed(format!("Slurm shows a job of user id {} under the id {}", row.uid, row.job))
        }
    }
}

/// Asks Slurm about one record: one listing of each of its clusters, and where that does not show the job, its own id.
pub fn ask(record: &Record, deadline: Duration) -> View {
    ask_by(record, deadline, |cluster| squeue::list_user(&host(record), owner(record), cluster, deadline))
}

/// The same, content with an answer that any process has asked for later than `after`.
pub fn ask_shared(record: &Record, shared: &Shared, after: Moment, deadline: Duration, back_off: BackOff) -> View {
    let (host, wanted) = (host(record), |row: &RowText<'_>| concerns(record, row));
    ask_by(record, deadline, |cluster| {
        let question = Question { host: &host, owner: owner(record), cluster, wanted: &wanted };
        about(record, shared.list_user(question, after, deadline, back_off))
    })
}

/// Whether a row may have anything to say about a record: it stands under its job's id, or names the lease.
fn concerns(record: &Record, row: &RowText<'_>) -> bool {
    let names = |id: &LeaseId| row.comment.contains(id.as_str()) || row.directory.contains(id.as_str());
    record.job.as_ref().is_some_and(|job| job.id == row.id) || names(record.lease_id()) || names(record.job_owner())
}

/// The last listing of where a record's job may be, if it was asked for later than `after`, and when. Nobody is asked.
pub fn answer_after(record: &Record, shared: &Shared, after: Moment) -> Option<(Result<Listing, QueryFailed>, Moment)> {
    let (host, wanted) = (host(record), |row: &RowText<'_>| concerns(record, row));
    let ask = |cluster: Option<String>| {
        let question = Question { host: &host, owner: owner(record), cluster: cluster.as_deref(), wanted: &wanted };
        shared.answer_after(question, after)
    };
    let (listings, asked): (Vec<_>, Vec<_>) =
        clusters(record).into_iter().map(ask).collect::<Option<Vec<_>>>()?.into_iter().unzip();
    Some((merge(listings.iter()), asked.into_iter().min()?))
}

/// The right to ask for all who wait for a change of such jobs.
pub fn lead(record: &Record, shared: &Shared) -> Option<Lock> {
    let (host, clusters) = (host(record), clusters(record));
    let cluster = clusters.first()?.as_deref();
    shared.lead(Question { host: &host, owner: owner(record), cluster, wanted: &|_| true })
}

/// What an answer says about a record. One from before may not know its job yet, so what is missing in it is not denied.
fn about(record: &Record, cached: CachedListing) -> Result<Listing, QueryFailed> {
    let names = |row: &Row| record.job.as_ref() == Some(&row.job) || record.submitted_as(row);
    match cached.listing {
        Ok(listing) if cached.old && !listing.rows.iter().any(names) => {
            Err(QueryFailed("Slurm takes long to answer and is left alone for a while".to_owned()))
        }
        listing => listing,
    }
}

fn ask_by(record: &Record, deadline: Duration, list: impl Fn(Option<&str>) -> Result<Listing, QueryFailed>) -> View {
    if !concerns_slurm(record) {
        return View::query_failed("Slurm was not asked");
    }
    let listings: Vec<_> = clusters(record).iter().map(|cluster| list(cluster.as_deref())).collect();
    confirmed(record, &merge(listings.iter()), deadline)
}

/// What a listing shows of one record, its own id asked for where that does not show its job.
pub fn confirmed(record: &Record, listing: &Result<Listing, QueryFailed>, deadline: Duration) -> View {
    let view = view(record, listing);
    // Where squeue gives no listing at all, it would not answer about one id either.
    if view.row().is_some() || listing.is_err() { view } else { confirm(record, view, deadline) }
}

/// Asks once more about a job that a listing does not show as the lease's: by its own id, and where another job seems to have
/// got that, by what scontrol tells of requeues. A listing alone proves no absence: squeue leaves out what a federation or a
/// filter hides, and a wrapper may answer from a cache. What stays of the answer counts.
pub fn confirm(record: &Record, view: View, deadline: Duration) -> View {
    let host = host(record);
    if let Err(QueryFailed(why)) = asked_as_owner(record, &host) {
        return View { observation: Observation::QueryFailed(why), ..view };
    }
    let Some(job) = &record.job else { return view };
    let found = match view.observation {
        Observation::Row(_) | Observation::Recycled(_) => view.observation,
        Observation::Denied | Observation::QueryFailed(_) => match squeue::find(&host, job, deadline) {
            Ok(Some(row)) => observed(record, row),
            Ok(None) => Observation::Denied,
            Err(QueryFailed(why)) => Observation::QueryFailed(why),
        },
    };
    let observation = match found {
        Observation::Recycled(row) => recycled(row, scontrol::restarts(&host, job)),
        other => other,
    };
    View { observation, ..view }
}

/// Whether a row without any mark of ours, submitted later than our job, is another job: not when Slurm has requeued it, which
/// sets the time of submission anew.
fn recycled(row: Box<Row>, restarts: Option<u64>) -> Observation {
    match restarts {
        Some(0) => Observation::Denied,
        Some(_) => Observation::Row(row),
        None => Observation::QueryFailed(format!("whether Slurm has requeued the job {} could not be asked", row.job)),
    }
}

/// Slurm shows jobs of others only where the site lets it, so a denial to another user proves nothing (docs/facts/slurm.md, "Jobs of other users"). The
/// account behind the name of a login host may have changed since.
fn asked_as_owner(record: &Record, host: &Host) -> Result<(), QueryFailed> {
    match host.user() {
        Ok(user) if user.uid == record.uid => Ok(()),
        Ok(user) => Err(QueryFailed(format!(
            "Slurm{} is asked as user id {}, but the job is one of user id {}",
            host.shown(),
            user.uid,
            record.uid
        ))),
        Err(error) => Err(QueryFailed(error.to_string())),
    }
}

/// Until when nobody who could tell of a record is asked, since none of its controllers has answered this call.
pub fn silent_until(record: &Record) -> Option<Instant> {
    let host = host(record);
    let clusters = clusters(record);
    let ends: Option<Vec<_>> = clusters.iter().map(|cluster| silence::until(&host, cluster.as_deref())).collect();
    ends?.into_iter().min()
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
    let ended = sacct::ended(&host(record), job, &record.job_owner().job_name(), record.submitted, deadline)?;
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
    use crate::lease::record::Phase;
    use crate::lease::record::tests::{given_up, job, left_behind, record, row};
    use crate::slurm::job::State;
    use rstest::rstest;

    fn listing(rows: Vec<Row>) -> Result<Listing, QueryFailed> {
        Ok(Listing { rows, complete: true })
    }

    fn unmarked() -> Row {
        Row { comment: String::new(), directory: "/".into(), ..row() }
    }

    #[test]
    fn a_lost_submission_is_found_by_its_nonce_and_strays_are_told_apart() {
        let lost = Record { job: None, submitted: None, phase: Phase::Submitting, given_up: given_up(), ..record() };
        let renamed = Row { name: "alice_x".into(), ..row() };
        for ours in [row(), renamed, Row { comment: "the site's".into(), ..row() }] {
            let view = view(&lost, &listing(vec![left_behind(), ours]));
            assert_eq!(view.row().map(|row| row.job.id), Some(7));
            assert_eq!(view.stale_jobs, [job(6)]);
        }
        assert_eq!(view(&lost, &listing(vec![unmarked()])).observation, Observation::Denied);
    }

    /// What squeue prints of rows.
    fn printed(rows: &[Row]) -> squeue::Answer {
        let mark = squeue::Mark::random().unwrap();
        let m = mark.as_str();
        let text = rows.iter().map(|row| {
            let Row { job, state, node, partition, uid, name, directory, comment, .. } = row;
            let submitted = row.submitted.unwrap_or_default();
            let columns =
                [&job.id.to_string(), state.word(), "None", node, &submitted.to_string(), "1", "2", partition];
            let columns = format!("{}\u{1f}{uid}\u{1f}1\u{1f}1G", columns.join("\u{1f}"));
            format!("{m}@{columns}{m}{name}{m}{directory}{m}{comment}{m}{m}{m}{m}$\n")
        });
        Ok(squeue::Printed { mark: mark.clone(), text: text.collect(), quiet: true })
    }

    /// The rows that are copied out of a shared answer show of a record what all rows show.
    #[test]
    fn rows_that_do_not_concern_a_record_change_nothing() {
        let other = Row { job: job(9), comment: "cbx:cbx_000000000000:00112233445566ff:abcd1234".into(), ..unmarked() };
        let renamed = Row { name: "alice_x".into(), comment: String::new(), ..row() };
        let rows = [unmarked(), row(), renamed, left_behind(), Row { job: job(8), ..unmarked() }];
        let known = Record { given_up: given_up(), ..record() };
        let lost = Record { job: None, submitted: None, phase: Phase::Submitting, ..known.clone() };
        for record in [known, lost] {
            for row in &rows {
                let answer = printed(&[other.clone(), row.clone()]);
                let whole = view(&record, &squeue::listing(&answer, None));
                let part = squeue::listing_of(&answer, None, &|row| concerns(&record, row));
                assert!(part.as_ref().is_ok_and(|part| part.complete && part.rows.iter().all(|row| row.job.id != 9)));
                let part = view(&record, &part);
                assert_eq!((part.observation, part.stale_jobs), (whole.observation, whole.stale_jobs), "{row:?}");
            }
        }
    }

    #[test]
    fn what_stands_under_the_jobs_id() {
        let seen = |row: Row| view(&record(), &listing(vec![row])).observation;
        assert!(matches!(seen(Row { name: "mine".into(), ..unmarked() }), Observation::Row(_)));
        assert!(matches!(seen(Row { submitted: Some(5000), ..unmarked() }), Observation::Recycled(_)));
        assert!(matches!(seen(Row { uid: 7, ..row() }), Observation::QueryFailed(_)));
    }

    #[rstest]
    #[case(Some(0), "denied")]
    #[case(Some(1), "ours")]
    #[case(None, "unasked")]
    fn a_requeue_is_no_other_job(#[case] restarts: Option<u64>, #[case] expected: &str) {
        let found = match recycled(Box::new(Row { submitted: Some(5000), ..unmarked() }), restarts) {
            Observation::Row(_) => "ours",
            Observation::Denied => "denied",
            Observation::QueryFailed(_) => "unasked",
            Observation::Recycled(_) => "recycled",
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn absence_counts_only_in_a_whole_listing() {
        assert_eq!(view(&record(), &listing(vec![])).observation, Observation::Denied);
        let noisy = Ok(Listing { rows: vec![], complete: false });
        assert!(matches!(view(&record(), &noisy).observation, Observation::QueryFailed(_)));
        assert!(matches!(view(&record(), &Err(QueryFailed("x".into()))).observation, Observation::QueryFailed(_)));
    }

    #[test]
    fn a_denial_to_another_user_proves_nothing() {
        let own = nix::unistd::geteuid().as_raw();
        assert!(asked_as_owner(&Record { uid: own, ..record() }, &Host::Here).is_ok());
        assert!(asked_as_owner(&Record { uid: own + 1, ..record() }, &Host::Here).is_err());
    }

    #[test]
    fn an_answer_from_before_the_submission_denies_nothing() {
        let cached = |rows, old| CachedListing { listing: listing(rows), old };
        let other = || Row { job: job(8), name: "other".into(), ..unmarked() };
        assert!(about(&record(), cached(vec![other()], true)).is_err());
        assert!(about(&record(), cached(vec![other()], false)).is_ok_and(|listing| listing.complete));
        assert_eq!(about(&record(), cached(vec![other(), row()], true)), listing(vec![other(), row()]));
    }

    #[test]
    fn a_listing_of_several_clusters_is_as_whole_as_all_of_them() {
        let noisy: Result<Listing, QueryFailed> = Ok(Listing { rows: vec![], complete: false });
        let seen = State::new("RUNNING");
        assert!(merge([&listing(vec![]), &listing(vec![])].into_iter()).is_ok_and(|listing| listing.complete));
        assert!(merge([&listing(vec![row()]), &noisy].into_iter()).is_ok_and(|listing| !listing.complete));
        let partly = merge([&listing(vec![row()]), &Err(QueryFailed("down".into()))].into_iter()).unwrap();
        assert!(!partly.complete && partly.rows[0].state == seen);
        assert!(merge([&listing(vec![]), &Err(QueryFailed("down".into()))].into_iter()).is_err());
    }
}
