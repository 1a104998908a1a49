//! Jobs that carry our comment but belong to no lease any more: a record was lost, or a state dir was restored from an older
//! backup. Only what is provably of this state dir, was never handed out, and is still there two minutes later, is ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;

use super::inventory::Inventory;
use crate::allocation;
use crate::clock::{BootTime, Now};
use crate::config::login_host::LoginHost;
use crate::files::Dir;
use crate::host::Host;
use crate::lease::record::{CommentWord, Seating, comment};
use crate::lease::store::{Loaded, Store};
use crate::lease::{LeaseId, SeatId};
use crate::operation::lookup::load;
use crate::shared_dir::{self, Marked};
use crate::slurm::job::{Class, JobId, Listing, QueryFailed, Row};
use crate::slurm::squeue::{self, Owner};

/// How long a job must have been seen without a record, by this host's own clock: the record of an acquire that runs on another
/// host of the same home may show up late (docs/facts/files.md, "Names that show up late").
const SEEN_FOR_SECONDS: i64 = 120;

/// All orphans of one login host in one scancel.
const CANCEL_DEADLINE: Duration = Duration::from_secs(12);

/// Where first sights are noted, in the cache of the state dir.
const SIGHTS: &str = "orphans.json";
const MAX_BYTES: u64 = 1 << 20;

/// First sights of jobs without a record.
#[derive(Debug, Default)]
struct Sights {
    before: BTreeMap<String, BootTime>,
    now: BTreeMap<String, BootTime>,
}

impl Sights {
    fn read(cache: Option<&Dir>) -> Sights {
        let bytes = cache.and_then(|cache| cache.read(SIGHTS, MAX_BYTES).ok()?);
        let before = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Sights { before, now: BTreeMap::new() }
    }

    /// For how many seconds a job has been seen; notes a first sight.
    fn seconds(&mut self, row: &Row, word: &CommentWord, now: Now) -> i64 {
        let key = format!("{} {} {}", row.job, word.lease_id, word.nonce);
        let known = self.before.get(&key).filter(|first| first.elapsed(now).is_some()).cloned();
        let Some(first) = known.or_else(|| BootTime::of(now)) else { return 0 };
        let seconds = first.elapsed(now).unwrap_or_default();
        self.now.insert(key, first);
        seconds
    }

    /// What is not written down is seen for the first time by the next call.
    fn write(&self, cache: &Dir) {
        if self.now != self.before
            && let Ok(bytes) = serde_json::to_vec(&self.now)
        {
            cache.put(SIGHTS, &bytes).ok();
        }
    }
}

/// Ends the jobs of leases that have no record here any more, and says which are left alone. They are looked for where
/// leases are, and where the request's own configuration sends jobs.
pub fn end(store: &Store, inventory: &Inventory, submit: Option<&LoginHost>, dry_run: bool) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut listings: Vec<(Option<&LoginHost>, u32, &Listing)> = inventory.listings().collect();
    let own;
    if !listings.iter().any(|(from, _, _)| *from == submit) {
        let host = Host::of(submit);
        let listed = host.user().map_err(|error| QueryFailed(error.to_string())).and_then(|user| {
            let owner = Owner { uid: user.uid, name: user.name.as_deref() };
            Ok((user.uid, squeue::list_user(&host, owner, None, squeue::DEADLINE)?))
        });
        match listed {
            Ok((uid, listing)) => {
                own = listing;
                listings.push((submit, uid, &own));
            }
            Err(QueryFailed(why)) => lines.push(format!("orphans were not looked for{}: {why}", host.shown())),
        }
    }
    let cache = store.cache().ok();
    let mut sights = Sights::read(cache.as_ref());
    let known: BTreeSet<&LeaseId> = inventory.leases.iter().map(|lease| &lease.id).collect();
    let recorded = |id: &LeaseId| -> Result<bool> {
        Ok(known.contains(id) || load(store, id)?.is_some() || is_a_seat(store, id)?)
    };
    for (submit, uid, listing) in listings {
        let host = Host::of(submit);
        let mut cancel: Vec<JobId> = Vec::new();
        for row in &listing.rows {
            let Some(word) = candidate(store, row, uid) else { continue };
            // The name that the listing was asked for by may mean another account now.
            if recorded(&word.lease_id)? || !host.user().is_ok_and(|user| user.uid == uid) {
                continue;
            }
            let shown = format!("job {} of lease {}, which has no record", row.job, word.lease_id);
            let seen = sights.seconds(row, &word, inventory.time);
            match handed_out(&host, row, &word) {
                None => lines.push(format!(
                    "left {shown}: whether it was handed out cannot be seen now; run cleanup again later"
                )),
                Some(true) => {
                    lines.push(format!("left {shown}: it was handed out; end it with `scancel {}`", row.job.id));
                }
                Some(false) if seen < SEEN_FOR_SECONDS => {
                    let left = SEEN_FOR_SECONDS - seen;
                    lines.push(format!("left {shown}: a cleanup in {left} s or later ends it, if no record appears"));
                }
                Some(false) => {
                    let verb = if dry_run { "would cancel" } else { "cancelled" };
                    lines.push(format!("{verb} {shown}: it was never handed out"));
                    cancel.push(row.job.clone());
                }
            }
        }
        if !dry_run
            && !cancel.is_empty()
            && let Err(why) = allocation::cancel(&host, &cancel, CANCEL_DEADLINE)
        {
            lines.push(format!("not all orphans could be cancelled: {why}"));
        }
    }
    if let Some(cache) = cache.filter(|_| store.is_writable()) {
        sights.write(&cache);
    }
    Ok(lines)
}

/// Whether this is the id of a spare, or of the seat that a lease has taken. Seats go from the spares to the leases, so that who looks
/// there in this order does not miss one that is on its way.
fn is_a_seat(store: &Store, id: &LeaseId) -> Result<bool> {
    let Some(seat) = SeatId::parse(id.as_str()) else { return Ok(false) };
    if store.spare(&seat)?.is_some() {
        return Ok(true);
    }
    for lease in store.ids()? {
        let taken = match store.load(&lease)? {
            Some(Loaded::Whole(record)) => record.seat == Some(seat.clone()),
            // It may have this one.
            Some(Loaded::Damaged { origin, .. }) => match origin.map(|origin| origin.seating) {
                Some(Seating::Taken(its)) => its == seat,
                Some(Seating::Unknown) => true,
                Some(Seating::None) | None => false,
            },
            Some(Loaded::Newer { .. }) | None => false,
        };
        if taken {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A live job of this user that this state dir has submitted.
fn candidate(store: &Store, row: &Row, uid: u32) -> Option<CommentWord> {
    let live = matches!(row.state.class(), Class::Queued | Class::Running | Class::Suspended);
    let word = comment(&row.comment).filter(|_| live && row.uid == uid)?;
    let ours = store.instance().owns(Some(&word.instance)) && row.name.contains(&word.lease_id.job_name());
    ours.then_some(word)
}

/// Whether the lease of a job was handed out; `None` where the shared dir does not tell.
fn handed_out(host: &Host, row: &Row, word: &CommentWord) -> Option<bool> {
    let root = shared_dir::root_of(&row.directory, &word.lease_id, &word.nonce)?;
    match shared_dir::marked(host, &root, &word.lease_id, &word.nonce) {
        Marked::Yes => Some(true),
        Marked::No => Some(false),
        Marked::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::record::tests::row;

    #[test]
    fn a_job_is_seen_for_as_long_as_this_hosts_clock_says() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Dir::private_root(&temp.path().join("cache")).unwrap();
        let word = comment(&row().comment).unwrap();
        let at = |uptime| Now { epoch: 0, uptime };
        for (uptime, expected) in [(1000, 0), (1100, 100), (1200, 200)] {
            let mut sights = Sights::read(Some(&cache));
            assert_eq!(sights.seconds(&row(), &word, at(uptime)), expected);
            sights.write(&cache);
        }
        // One cleanup that does not see it begins anew.
        Sights::read(Some(&cache)).write(&cache);
        assert_eq!(Sights::read(Some(&cache)).seconds(&row(), &word, at(1300)), 0);
        let elsewhere =
            BTreeMap::from([(format!("7 {} {}", word.lease_id, word.nonce), BootTime { boot: "x".into(), uptime: 1 })]);
        cache.put(SIGHTS, &serde_json::to_vec(&elsewhere).unwrap()).unwrap();
        assert_eq!(Sights::read(Some(&cache)).seconds(&row(), &word, at(1300)), 0);
    }
}
