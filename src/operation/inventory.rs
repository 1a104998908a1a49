//! All leases at once: one question to Slurm a cluster, however many leases there are.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::Result;

use super::{load, now, progress, release};
use crate::allocation::{self, Farewell, View};
use crate::config::login::LoginHost;
use crate::exchange::Exchange;
use crate::failure::{self, Kind};
use crate::host::Host;
use crate::lease::lifecycle::Observation;
use crate::lease::record::{Phase, Record};
use crate::lease::store::{Loaded, Store};
use crate::lease::{LeaseId, acquirer};
use crate::slurm::job::{JobId, Listing, Unasked};
use crate::slurm::squeue;

/// The leases of a state dir and what Slurm shows of them.
#[derive(Debug)]
pub struct Inventory {
    pub leases: Vec<Entry>,
    listings: BTreeMap<Source, Result<Indexed, Unasked>>,
}

/// A lease as it was read. Its directory is closed again: thousands of open ones are more than a process may have.
#[derive(Debug)]
pub struct Entry {
    pub id: LeaseId,
    pub loaded: Loaded,
}

impl Entry {
    pub fn record(&self) -> Option<&Record> {
        match &self.loaded {
            Loaded::Whole(record) => Some(record),
            Loaded::Damaged { .. } => None,
        }
    }
}

/// A listing whose rows are found by job and by name, so that a view does not cost a look at every row.
#[derive(Debug)]
struct Indexed {
    listing: Listing,
    by_job: HashMap<u64, Vec<usize>>,
    by_name: HashMap<String, Vec<usize>>,
}

impl Indexed {
    fn new(listing: Listing) -> Indexed {
        let (mut by_job, mut by_name) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (index, row) in listing.rows.iter().enumerate() {
            by_job.entry(row.job.id).or_default().push(index);
            by_name.entry(row.name.clone()).or_default().push(index);
        }
        Indexed { listing, by_job, by_name }
    }

    /// The listing as if nothing but a record's own rows were in it: those of its job's id or of its job name. No other
    /// row has anything to say about it.
    fn of(&self, record: &Record) -> Listing {
        let by_job = record.job.as_ref().and_then(|job| self.by_job.get(&job.id));
        let by_name = self.by_name.get(&record.lease_id().job_name());
        let mut indices: Vec<usize> = by_job.into_iter().chain(by_name).flatten().copied().collect();
        indices.sort_unstable();
        indices.dedup();
        let rows = indices.iter().filter_map(|index| self.listing.rows.get(*index).cloned()).collect();
        Listing { rows, complete: self.listing.complete }
    }
}

/// Where a listing comes from: a login host, or here; and a cluster.
type Source = (Option<LoginHost>, Option<String>);

fn sources(record: &Record) -> impl Iterator<Item = Source> {
    allocation::clusters(record).into_iter().map(|cluster| (record.submit.clone(), cluster))
}

impl Inventory {
    /// Reads all leases and asks Slurm once for each cluster that they use; not at all when there is no lease.
    pub fn take(store: &Store, deadline: Duration) -> Result<Inventory> {
        let mut leases = Vec::new();
        for id in store.ids()? {
            leases.extend(load(store, &id)?.map(|found| Entry { id, loaded: found.loaded }));
        }
        let mut listings = BTreeMap::new();
        let records = leases.iter().filter_map(Entry::record).filter(|record| allocation::concerns_slurm(record));
        let wanted = records.flat_map(|record| sources(record).map(|source| (source, record.uid)));
        for ((submit, cluster), uid) in wanted.collect::<BTreeMap<_, _>>() {
            let host = Host::of(submit.as_ref());
            let mut listing = squeue::list_user(&host, uid, cluster.as_deref(), deadline);
            if let Ok(found) = &listing
                && found.complete
                && found.rows.is_empty()
                && let Some(record) = leases
                    .iter()
                    .filter_map(Entry::record)
                    .find(|r| r.submit == submit && r.job.as_ref().is_some_and(|job| job.cluster == cluster))
            {
                // An empty answer is what a broken filter gives, so one job's own id confirms it.
                listing = match allocation::ask(record, deadline).observation {
                    Observation::Denied => listing,
                    // Its id belongs to another job now, of a user whose jobs are not in the listing.
                    Observation::Row(row) if !record.owns(&row) => listing,
                    Observation::Row(_) => Err(Unasked("squeue's empty listing leaves out a job that it knows".into())),
                    Observation::Unasked(why) => Err(Unasked(why)),
                };
            }
            if let Err(Unasked(why)) = &listing {
                progress(&format!(
                    "could not ask Slurm{}{}; leases are shown as they were last known: {why}",
                    host.shown(),
                    in_cluster(&cluster)
                ));
            }
            listings.insert((submit, cluster), listing.map(Indexed::new));
        }
        Ok(Inventory { leases, listings })
    }

    /// What Slurm shows of one record.
    pub fn view(&self, record: &Record) -> View {
        let listings = sources(record).filter_map(|source| self.listings.get(&source));
        let own = |listing: &Result<Indexed, Unasked>| match listing {
            Ok(indexed) => Ok(indexed.of(record)),
            Err(unasked) => Err(unasked.clone()),
        };
        let listings: Vec<_> = listings.map(own).collect();
        match &listings[..] {
            [] => View { observation: Observation::Unasked("Slurm was not asked".into()), strays: vec![] },
            [one] => allocation::view(record, one),
            several => allocation::view(record, &allocation::merge(several.iter())),
        }
    }

    /// The listings, each with the login host that gave it.
    pub fn listings(&self) -> impl Iterator<Item = (Option<&LoginHost>, &Listing)> {
        self.listings
            .iter()
            .filter_map(|((submit, _), listing)| Some((submit.as_ref(), &listing.as_ref().ok()?.listing)))
    }

    /// Writes down what the listings prove, and finishes or repeats what releases have left: lost cancellations in
    /// one scancel, removal of what is gone. Leases that another call works on are left to it.
    pub fn settle(&mut self, store: &Store) -> Result<()> {
        let mut cancel: BTreeMap<Option<LoginHost>, Vec<JobId>> = BTreeMap::new();
        let mut settled = Vec::new();
        for found in std::mem::take(&mut self.leases) {
            let Some(record) = found.record() else {
                settled.push(found);
                continue;
            };
            let view = self.view(record);
            let mut learned = record.clone();
            let changed = allocation::learn(&mut learned, &view, now());
            let releasing = record.phase == Phase::Releasing;
            // acquirer: one that has died leaves its lease to us.
            let abandoned = acquirer::concerns(record)
                && store.lease(&found.id)?.is_some_and(|dir| acquirer::judge(&dir).is_over());
            let releasing = releasing || abandoned;
            if !changed && !releasing && view.strays.is_empty() {
                settled.push(found);
                continue;
            }
            let Some(dir) = store.lease(&found.id)? else {
                settled.push(found);
                continue;
            };
            let guard = match dir.lock(Duration::ZERO) {
                Ok(Some(guard)) => guard,
                held => {
                    let lost = held.err().map(|error| failure::of(&error)).filter(|it| it.kind != Kind::NotFound);
                    lost.iter().for_each(|failure| progress(&failure.to_string()));
                    settled.push(found);
                    continue;
                }
            };
            let Loaded::Whole(current) = guard.lease.load() else {
                drop(guard);
                settled.push(found);
                continue;
            };
            let before = *current;
            let mut current = before.clone();
            if allocation::learn(&mut current, &view, now()) {
                guard.keep_learned(&before, &current)?;
            }
            // acquirer: looked at again under the lock.
            if abandoned && acquirer::bury(&guard, &mut current, now())? {
                progress(&format!("{}: its acquire has died, it is released", current.shown()));
                Exchange::of(&current).revoke().ok();
            }
            if current.phase == Phase::Releasing {
                match allocation::farewell(&current, &view, now()) {
                    Farewell::Gone => {
                        release::finish(store, guard, &current)?;
                        continue;
                    }
                    Farewell::Cancel(jobs) => cancel.entry(current.submit.clone()).or_default().extend(jobs),
                    Farewell::Ending | Farewell::Wait(_) => {}
                }
            } else {
                cancel.entry(current.submit.clone()).or_default().extend(view.strays);
            }
            drop(guard);
            settled.push(Entry { loaded: Loaded::Whole(Box::new(current)), id: found.id });
        }
        self.leases = settled;
        for (submit, jobs) in cancel.iter().filter(|(_, jobs)| !jobs.is_empty()) {
            if let Err(why) = allocation::cancel(&Host::of(submit.as_ref()), jobs, Duration::from_secs(12)) {
                progress(&format!("ending the jobs of released leases failed, the next call repeats it: {why}"));
            }
        }
        Ok(())
    }
}

fn in_cluster(cluster: &Option<String>) -> String {
    cluster.as_ref().map(|name| format!(" (cluster {name})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::record::tests::record;
    use crate::slurm::job::{Row, State};

    fn row(id: u64, name: &str, comment: &str) -> Row {
        Row {
            job: JobId { id, cluster: None },
            state: State::new("RUNNING"),
            reason: "None".into(),
            node: "n1".into(),
            submitted: None,
            start: None,
            end: None,
            partition: "batch".into(),
            directory: "/".into(),
            uid: record().uid,
            name: name.into(),
            comment: comment.into(),
        }
    }

    #[test]
    fn a_view_of_a_records_own_rows_is_that_of_the_whole_listing() {
        let mut record = record();
        let (name, word) = (record.lease_id().job_name(), record.comment_word("13b13c65"));
        let older = word.replace(record.attempt.nonce.as_str(), "ffeeddccbbaa0011");
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
                let (part, whole) = (Ok(indexed.of(&record)), Ok(listing.clone()));
                let (part, whole) = (allocation::view(&record, &part), allocation::view(&record, &whole));
                assert_eq!((part.observation, part.strays), (whole.observation, whole.strays), "{job:?}");
            }
        }
    }
}
