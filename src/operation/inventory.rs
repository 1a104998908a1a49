//! All leases at once: one question to Slurm a cluster, however many leases there are.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::settle::{self, Step};
use crate::allocation::{self, View};
use crate::clock::Now;
use crate::config::login_host::LoginHost;
use crate::failure;
use crate::host::Host;
use crate::lease::cache::{CachedFiles, CachedLease};
use crate::lease::lifecycle::Observation;
use crate::lease::limits::Limits;
use crate::lease::record::{Phase, Record, comment};
use crate::lease::store::{LeaseDir, Loaded, Locked, Store, each};
use crate::lease::{LeaseId, SeatId, acquirer};
use crate::progress::progress;
use crate::shared_dir::SharedDir;
use crate::slurm::cache::{BackOff, Moment, Question, Shared};
use crate::slurm::job::{Class, JobId, Listing, QueryFailed, Row};
use crate::slurm::squeue::{self, Owner};

/// Most questions about single jobs in one call, and the time after which no more are begun: the load on the controller must
/// not grow with the leases (docs/design.md, promise 8). What is left over is confirmed by later calls.
const CONFIRMATIONS: usize = 64;
const CONFIRMATION_TIME: Duration = Duration::from_secs(2);

/// The leases of a state dir and what Slurm shows of them.
#[derive(Debug)]
pub struct Inventory {
    pub leases: Vec<Entry>,
    listings: Listings,
    /// When Slurm had answered; one moment for all leases.
    pub time: Now,
}

/// A lease as it was read. Its directory is not kept open: thousands are more than a process may have.
#[derive(Debug)]
pub struct Entry {
    pub id: LeaseId,
    /// Whether it is a spare, and so no lease.
    spare: bool,
    pub loaded: Loaded,
    /// Read only for who asks for them.
    pub limits: Limits,
    /// Whether it waits for an acquire which a call here can judge, and which does not live.
    unclaimed: bool,
    /// What Slurm shows of the record, as it was when Slurm was asked.
    pub view: View,
}

/// What is read of each lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    Records,
    RecordsAndLimits,
}

impl Entry {
    fn read(id: &LeaseId, files: &mut CachedLease<'_>, contents: Contents) -> Result<Option<Entry>> {
        let Some(loaded) = files.load()? else { return Ok(None) };
        let unclaimed = loaded.record().is_some_and(acquirer::concerns) && files.has_lost_its_acquirer();
        let limits = match contents {
            Contents::Records => Limits::default(),
            Contents::RecordsAndLimits => files.limits(),
        };
        let view = View::query_failed("Slurm was not asked");
        Ok(Some(Entry { id: id.clone(), spare: false, loaded, limits, unclaimed, view }))
    }

    fn of_spare(store: &Store, seat: &SeatId) -> Result<Option<Entry>> {
        let view = View::query_failed("Slurm was not asked");
        Ok(store.spare(seat)?.map(|dir| Entry {
            id: dir.id.clone(),
            spare: true,
            loaded: dir.load(),
            limits: Limits::default(),
            unclaimed: false,
            view,
        }))
    }

    /// Whether its job has its allocation.
    pub fn runs(&self) -> bool {
        self.view.row().is_some_and(|row| row.state.class() == Class::Running && !row.node.is_empty())
    }

    /// Its directory; `None` when it is gone, or a spare that a lease has taken.
    pub fn dir(&self, store: &Store) -> Result<Option<LeaseDir>> {
        match SeatId::parse(self.id.as_str()).filter(|_| self.spare) {
            Some(seat) => store.spare(&seat),
            None => store.lease(&self.id),
        }
    }

    pub fn record(&self) -> Option<&Record> {
        self.loaded.record()
    }
}

/// A listing whose rows are found by job and by name, so that a view does not cost a look at every row.
#[derive(Debug)]
struct Indexed {
    listing: Listing,
    by_job: HashMap<u64, Vec<usize>>,
    by_lease: HashMap<LeaseId, Vec<usize>>,
}

impl Indexed {
    fn new(listing: Listing) -> Indexed {
        let (mut by_job, mut by_lease) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (index, row) in listing.rows.iter().enumerate() {
            by_job.entry(row.job.id).or_default().push(index);
            for lease in leases_of(row) {
                by_lease.entry(lease).or_default().push(index);
            }
        }
        Indexed { listing, by_job, by_lease }
    }

    /// A record's own rows: those of its job's id, and those that name the lease. No other row has anything to say about it.
    fn of(&self, record: &Record) -> Vec<&Row> {
        let by_job = record.job.as_ref().and_then(|job| self.by_job.get(&job.id));
        let by_lease = [record.lease_id(), record.job_owner()].map(|id| self.by_lease.get(id));
        let mut indices: Vec<usize> =
            by_job.into_iter().chain(by_lease.into_iter().flatten()).flatten().copied().collect();
        indices.sort_unstable();
        indices.dedup();
        indices.iter().filter_map(|index| self.listing.rows.get(*index)).collect()
    }
}

/// The leases that a row names, by its comment or by the directory that its job started in.
fn leases_of(row: &Row) -> impl Iterator<Item = LeaseId> {
    let named = comment(&row.comment).map(|word| word.lease_id);
    let started_in = row.directory.rsplit('/').nth(1).and_then(LeaseId::parse);
    let started_in = started_in.filter(|lease| named.as_ref() != Some(lease));
    named.into_iter().chain(started_in)
}

/// Where a listing comes from: a login host, or here; a user of it; a cluster.
type Source = (Option<LoginHost>, u32, Option<String>);
type Listings = BTreeMap<Source, Result<Indexed, QueryFailed>>;

fn sources(record: &Record) -> impl Iterator<Item = Source> {
    allocation::clusters(record).into_iter().map(|cluster| (record.submit.clone(), record.uid, cluster))
}

impl Inventory {
    /// Reads all leases and asks Slurm once for each user and cluster that they use, each within the deadline; not at all when
    /// there is no lease.
    pub fn take(store: &Store, contents: Contents, deadline: Duration) -> Result<Inventory> {
        let leases = Inventory::read(store, contents)?;
        Ok(Inventory::of(leases, |host, owner, cluster| squeue::list_user(host, owner, cluster, deadline)))
    }

    /// The same, content with an answer that any process of this host has got since `oldest` ago. Of one from before the records were
    /// read, only what it shows counts: a job that is missing there may be younger.
    pub fn take_shared(store: &Store, contents: Contents, deadline: Duration, oldest: Duration) -> Result<Inventory> {
        let leases = Inventory::read(store, contents)?;
        Ok(Inventory::of_shared(store, leases, deadline, oldest))
    }

    /// The same for spares. One whose job is not known yet is looked for at once.
    pub fn take_spares(store: &Store, deadline: Duration, oldest: Duration) -> Result<Inventory> {
        let seats = store.spare_ids()?;
        let read = seats.iter().map(|seat| Entry::of_spare(store, seat)).collect::<Result<Vec<_>>>()?;
        let spares: Vec<_> = read.into_iter().flatten().collect();
        let lost = spares.iter().filter_map(Entry::record).any(|record| record.phase == Phase::Submitting);
        Ok(Inventory::of_shared(store, spares, deadline, if lost { Duration::ZERO } else { oldest }))
    }

    fn of_shared(store: &Store, leases: Vec<Entry>, deadline: Duration, oldest: Duration) -> Inventory {
        let Some(shared) = store.cache().ok().and_then(Shared::open) else {
            return Inventory::of(leases, |host, owner, cluster| squeue::list_user(host, owner, cluster, deadline));
        };
        Inventory::of(leases, |host, owner, cluster| {
            let (now, question) = (Moment::now(), Question { host, owner, cluster, wanted: &|_| true });
            let known = shared.list_user(question, now.before(oldest), deadline, BackOff::Kept).listing;
            // Moments are whole milliseconds.
            match shared.answer_after(question, now.before(Duration::from_millis(1))) {
                Some((since, _)) => since,
                None => known.map(|listing| Listing { complete: false, ..listing }),
            }
        })
    }

    fn read(store: &Store, contents: Contents) -> Result<Vec<Entry>> {
        let ids = store.ids()?;
        let files = CachedFiles::open(store, ids.len());
        let read = each(&ids, |id| files.lease(id, |files| Entry::read(id, files, contents)));
        files.keep(&ids);
        let read = read.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(read.into_iter().flatten().collect())
    }

    fn of(
        mut leases: Vec<Entry>,
        ask: impl Fn(&Host, Owner<'_>, Option<&str>) -> Result<Listing, QueryFailed>,
    ) -> Inventory {
        let mut listings = BTreeMap::new();
        for record in leases.iter().filter_map(Entry::record).filter(|record| allocation::concerns_slurm(record)) {
            for source in sources(record) {
                listings.entry(source).or_insert_with_key(|(submit, _, cluster)| {
                    let host = Host::of(submit.as_ref());
                    let listing = ask(&host, allocation::owner(record), cluster.as_deref());
                    if let Err(QueryFailed(why)) = &listing {
                        progress(&format!(
                            "could not ask Slurm{}{}; leases are shown as they were last known: {why}",
                            host.shown(),
                            in_cluster(cluster)
                        ));
                    }
                    listing.map(Indexed::new)
                });
            }
        }
        let time = Now::read();
        let views = each(&leases, |entry| entry.record().map(|record| view(&listings, record)));
        for (entry, view) in leases.iter_mut().zip(views) {
            entry.view = view.unwrap_or_else(|| View::query_failed("Slurm was not asked"));
        }
        confirm(&mut leases, &listings, time);
        Inventory { leases, listings, time }
    }

    /// The listings, each with the login host and the user that it is of.
    pub fn listings(&self) -> impl Iterator<Item = (Option<&LoginHost>, u32, &Listing)> {
        self.listings
            .iter()
            .filter_map(|((submit, uid, _), listing)| Some((submit.as_ref(), *uid, &listing.as_ref().ok()?.listing)))
    }

    /// Says once of a copied state dir what becomes of the leases that its original made.
    pub fn tell_of_a_copy(&self, store: &Store) {
        let records = self.leases.iter().filter_map(Entry::record);
        let others = records.filter(|record| !store.instance().owns(record.instance.as_deref())).count();
        if others > 0 {
            progress(&format!(
                "{others} lease(s) were made before {} was copied to this place; they may be in use from there, so list and \
                 cleanup end nothing of them; release one by its id, or take all over with `slurm-sandbox state adopt`",
                store.path().display()
            ));
        }
    }

    /// Writes down what the listings prove, and finishes or repeats what releases have left: lost cancellations in
    /// one scancel, removal of what is gone. Leases that another call works on are left to it, and so are those that were made
    /// before this state dir was copied.
    pub fn settle(&mut self, store: &Store) -> Result<()> {
        let mut cancel: BTreeMap<Option<LoginHost>, Vec<JobId>> = BTreeMap::new();
        let mut settled = Vec::new();
        for entry in std::mem::take(&mut self.leases) {
            match self.settle_one(store, &entry, &mut cancel) {
                Ok(Settled::AsItWas) => settled.push(entry),
                Ok(Settled::Is(loaded)) => settled.push(Entry { loaded, ..entry }),
                Ok(Settled::Changed(loaded)) => {
                    let view = View::query_failed("the lease has changed while Slurm was asked");
                    settled.push(Entry { loaded, view, ..entry });
                }
                Ok(Settled::Gone) => {}
                // One lease's trouble must not hide the others.
                Err(error) => {
                    progress(&failure::of(&error).to_string());
                    settled.push(entry);
                }
            }
        }
        self.leases = settled;
        for (submit, jobs) in cancel.iter().filter(|(_, jobs)| !jobs.is_empty()) {
            if let Err(why) = allocation::cancel(&Host::of(submit.as_ref()), jobs, CANCEL_DEADLINE) {
                progress(&format!("ending the jobs of released leases failed, the next call repeats it: {why}"));
            }
        }
        Ok(())
    }

    fn settle_one(
        &self,
        store: &Store,
        entry: &Entry,
        cancel: &mut BTreeMap<Option<LoginHost>, Vec<JobId>>,
    ) -> Result<Settled> {
        let Some(asked_for) = entry.record() else { return Ok(Settled::AsItWas) };
        let (view, time) = (&entry.view, self.time);
        let changes = settle::apply(&mut asked_for.clone(), view, time);
        let ours = store.instance().owns(asked_for.instance.as_deref());
        let unclaimed = ours && entry.unclaimed;
        let due = changes || asked_for.phase == Phase::Releasing || !view.stale_jobs.is_empty();
        if !due && !unclaimed {
            return Ok(Settled::AsItWas);
        }
        let Some(dir) = entry.dir(store)? else { return Ok(Settled::Gone) };
        let abandoned = unclaimed && acquirer::life(&dir).is_over();
        if !due && !abandoned {
            return Ok(Settled::AsItWas);
        }
        let guard = match dir.lock(Duration::ZERO)? {
            Locked::Held(guard) => guard,
            Locked::Busy => return Ok(Settled::AsItWas),
            Locked::Gone => return Ok(Settled::Gone),
        };
        let Some(mut record) = settle::persist(&guard, asked_for, view, time)? else {
            return Ok(Settled::Changed(guard.lease.load()));
        };
        if abandoned && acquirer::release_abandoned(&guard, &mut record, time.epoch)? {
            progress(&format!("{}: its acquire has died, it is released", record.shown()));
            SharedDir::of(&record).revoke().ok();
        }
        if ours {
            let jobs = match settle::next_step(&record, view, time) {
                _ if record.phase != Phase::Releasing => view.stale_jobs.clone(),
                Step::Gone => return settle::finish(store, guard, &record).map(|()| Settled::Gone),
                Step::Cancel(jobs) => jobs,
                Step::Ending | Step::Wait(_) => vec![],
            };
            cancel.entry(record.submit.clone()).or_default().extend(jobs);
        }
        Ok(Settled::Is(Loaded::Whole(Box::new(record))))
    }
}

/// What the listings show of one record.
fn view(listings: &Listings, record: &Record) -> View {
    let listings: Vec<_> = sources(record).filter_map(|source| listings.get(&source)).collect();
    let own = |listing: &&Result<Indexed, QueryFailed>| match listing {
        Ok(indexed) => {
            let rows = indexed.of(record).into_iter().cloned().collect();
            Ok(Listing { rows, complete: indexed.listing.complete })
        }
        Err(failed) => Err(failed.clone()),
    };
    match &listings[..] {
        [] => View::query_failed("Slurm was not asked"),
        [Ok(one)] => allocation::view_of(record, &one.of(record), one.listing.complete),
        several => {
            let own: Vec<_> = several.iter().map(own).collect();
            allocation::view(record, &allocation::merge(own.iter()))
        }
    }
}

/// Asks for the single ids of jobs whose absence would change something.
fn confirm(leases: &mut [Entry], listings: &Listings, time: Now) {
    let begun = Instant::now();
    let mut asked = 0;
    for Entry { loaded, view, .. } in leases {
        let Some(record) = loaded.record() else { continue };
        // Every place where the job may be has given a listing.
        let answered = || sources(record).all(|source| matches!(listings.get(&source), Some(Ok(_))));
        if !settle::needs_confirmation(record, view, time) || !answered() {
            continue;
        }
        if asked < CONFIRMATIONS && begun.elapsed() < CONFIRMATION_TIME {
            asked += 1;
            *view = allocation::confirm(record, view.clone(), squeue::DEADLINE);
        } else {
            let why = "Slurm's listing leaves the job out; a later call asks for it by its id";
            view.observation = Observation::QueryFailed(why.to_owned());
        }
    }
}

/// All jobs of one login host in one scancel.
const CANCEL_DEADLINE: Duration = Duration::from_secs(12);

/// What became of a lease.
enum Settled {
    AsItWas,
    /// Its record is this one now.
    Is(Loaded),
    /// Another call has written it meanwhile.
    Changed(Loaded),
    Gone,
}

fn in_cluster(cluster: &Option<String>) -> String {
    cluster.as_ref().map(|name| format!(" (cluster {name})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::record::tests::record;
    use crate::slurm::job::{Resources, State};

    fn row(id: u64, name: &str, comment: &str) -> Row {
        Row {
            job: JobId { id, cluster: None },
            state: State::new("RUNNING"),
            reason: String::new(),
            node: "n1".into(),
            submitted: None,
            start: None,
            end: None,
            partition: "batch".into(),
            directory: "/".into(),
            uid: record().uid,
            name: name.into(),
            comment: comment.into(),
            resources: Resources::default(),
        }
    }

    #[test]
    fn a_view_of_a_records_own_rows_is_that_of_the_whole_listing() {
        let mut record = record();
        let (name, word) = (record.lease_id().job_name(), record.comment_word("abcd1234"));
        let older = word.replace(record.attempt.nonce.as_str(), "ffeeddccbbaa0011");
        record.given_up = vec![crate::lease::Nonce::parse("ffeeddccbbaa0011").unwrap()];
        let rows = vec![
            row(1, "other", ""),
            row(2, &name, &word),
            row(3, &name, &older),
            row(4, "cbx-000000000000", &word),
            row(5, &name, "cbx:x y"),
        ];
        for complete in [true, false] {
            let listing = Listing { rows: rows.clone(), complete };
            let indexed = Indexed::new(listing.clone());
            for job in [None, Some(1), Some(2), Some(3), Some(9)] {
                record.job = job.map(|id| JobId { id, cluster: None });
                let part = allocation::view_of(&record, &indexed.of(&record), complete);
                let whole = allocation::view(&record, &Ok(listing.clone()));
                assert_eq!((part.observation, part.stale_jobs), (whole.observation, whole.stale_jobs), "{job:?}");
            }
        }
    }
}
