//! All leases at once: one question to Slurm a cluster, however many leases there are.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::{Found, load, now, progress, release};
use crate::allocation::{self, Farewell, View};
use crate::config::login::LoginHost;
use crate::failure::{self, Kind};
use crate::host::Host;
use crate::lease::lifecycle::Observation;
use crate::lease::record::{Phase, Record};
use crate::lease::store::{Loaded, Store};
use crate::slurm::job::{JobId, Listing, Unasked};
use crate::slurm::squeue;

/// The leases of a state dir and what Slurm shows of them.
#[derive(Debug)]
pub struct Inventory {
    pub leases: Vec<Found>,
    listings: BTreeMap<Source, Result<Listing, Unasked>>,
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
            leases.extend(load(store, &id)?);
        }
        let mut listings = BTreeMap::new();
        let records = leases.iter().filter_map(Found::record).filter(|record| allocation::concerns_slurm(record));
        let wanted = records.flat_map(|record| sources(record).map(|source| (source, record.uid)));
        for ((submit, cluster), uid) in wanted.collect::<BTreeMap<_, _>>() {
            let host = Host::of(submit.as_ref());
            let mut listing = squeue::list_user(&host, uid, cluster.as_deref(), deadline);
            if let Ok(found) = &listing
                && found.complete
                && found.rows.is_empty()
                && let Some(record) = leases
                    .iter()
                    .filter_map(Found::record)
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
            listings.insert((submit, cluster), listing);
        }
        Ok(Inventory { leases, listings })
    }

    /// What Slurm shows of one record.
    pub fn view(&self, record: &Record) -> View {
        let listings: Vec<_> = sources(record).filter_map(|source| self.listings.get(&source)).collect();
        match listings[..] {
            [] => View { observation: Observation::Unasked("Slurm was not asked".into()), strays: vec![] },
            [one] => allocation::view(record, one),
            _ => allocation::view(record, &allocation::merge(listings.into_iter())),
        }
    }

    /// The listings, each with the login host that gave it.
    pub fn listings(&self) -> impl Iterator<Item = (Option<&LoginHost>, &Listing)> {
        self.listings.iter().filter_map(|((submit, _), listing)| Some((submit.as_ref(), listing.as_ref().ok()?)))
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
            if !changed && !releasing && view.strays.is_empty() {
                settled.push(found);
                continue;
            }
            let guard = match found.dir.lock(Duration::ZERO) {
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
            settled.push(Found { loaded: Loaded::Whole(Box::new(current)), dir: found.dir });
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
