//! How spares end before their time: their permit goes first, and all else is as with a lease that is released.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::lock;
use crate::clock::epoch;
use crate::failure;
use crate::lease::SeatId;
use crate::lease::record::{Phase, Record};
use crate::lease::store::{Guard, LeaseDir, Locked, Store};
use crate::operation::inventory::{Entry, Inventory};
use crate::operation::lookup::FoundLease;
use crate::operation::recover::Recovery;
use crate::operation::{release, settle};
use crate::shared_dir::SharedDir;
use crate::slurm::squeue;

/// Who holds a spare for longer than this takes it, or ends it.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// All that the end of a damaged spare may take; the next call goes on.
const DAMAGED_TIME: Duration = Duration::from_secs(5);

/// Whether this state dir has made a spare where it lies now; those of a copy's original are that one's.
pub fn is_ours(store: &Store, record: &Record) -> bool {
    store.instance().owns(record.instance.as_deref())
}

/// Ends a spare whose record cannot be read; its job is looked for by name.
pub fn end_damaged(store: &Store, entry: &Entry) -> Option<String> {
    let dir = entry.dir(store).ok()??;
    let found = FoundLease { loaded: dir.load(), dir };
    let deadline = Instant::now() + DAMAGED_TIME;
    let ended = release::release(store, &found, &Recovery::default(), deadline, "its record is damaged");
    Some(match ended {
        Ok(_) => format!("ended the spare {}: its record is damaged", entry.id),
        Err(error) => format!("the spare {}, whose record is damaged, is left: {}", entry.id, failure::of(&error)),
    })
}

/// From now on a spare is given to nobody, and its job may not start any more. `false` where a lease has taken it, or another call
/// holds it.
pub fn begin_end(store: &Store, seat: &SeatId, why: &str) -> Result<bool> {
    let Some(dir) = store.spare(seat)? else { return Ok(false) };
    let Some((_guard, record)) = held_for_its_end(store, &dir, Duration::ZERO, why)? else { return Ok(false) };
    SharedDir::of(&record).revoke().ok();
    Ok(true)
}

/// A spare's lock, with its record, which says from now on that it is to end; `None` where another call holds it, or a lease has it.
fn held_for_its_end<'a>(
    store: &Store,
    dir: &'a LeaseDir,
    patience: Duration,
    why: &str,
) -> Result<Option<(Guard<'a>, Record)>> {
    let Locked::Held(guard) = dir.lock(patience)? else { return Ok(None) };
    let Some(mut record) = guard.lease.load().record().filter(|record| is_ours(store, record)).cloned() else {
        return Ok(None);
    };
    if record.phase != Phase::Releasing {
        guard.begin_release(&mut record, epoch(), why)?;
    }
    Ok(Some((guard, record)))
}

/// Removes a spare whose end is on record.
pub fn remove(store: &Store, entry: &Entry) -> Result<Option<String>> {
    let Some(dir) = entry.dir(store)? else { return Ok(None) };
    let Locked::Held(guard) = dir.lock(Duration::ZERO)? else { return Ok(None) };
    let Some(record) = guard.lease.load().record().filter(|record| record.ended.is_some()).cloned() else {
        return Ok(None);
    };
    let why = record.ended.as_ref().map(|ended| format!("{} {}", ended.state, ended.why())).unwrap_or_default();
    settle::finish(store, guard, &record)?;
    Ok(Some(format!("removed {}: its job ended ({})", record.shown(), why.trim_end())))
}

/// Ends one spare, the youngest of those in the queue, and else of those that no lease of this pool could take, so that a lease can
/// be submitted in its place. Whether one has gone.
pub fn make_room(store: &Store, deadline: Instant) -> bool {
    let Some(_alone) = lock(store, Duration::from_secs(2)) else { return false };
    let Ok(inventory) = Inventory::take_spares(store, squeue::DEADLINE, Duration::ZERO) else { return false };
    let mut spares: Vec<_> = inventory.leases.iter().collect();
    spares.sort_by_key(|entry| (entry.runs(), std::cmp::Reverse(entry.record().map(|record| record.created))));
    spares.iter().any(|entry| {
        let Some(seat) = SeatId::parse(entry.id.as_str()) else { return false };
        end(store, &seat, "its place in the queue is needed", deadline).is_ok_and(|ended| ended)
    })
}

/// Ends a spare, and waits for it as a release does. Whether it is gone; `false` also where a lease has taken it.
pub fn end(store: &Store, seat: &SeatId, why: &str, deadline: Instant) -> Result<bool> {
    let Some(dir) = store.spare(seat)? else { return Ok(false) };
    let Some((guard, record)) = held_for_its_end(store, &dir, LOCK_PATIENCE, why)? else { return Ok(false) };
    let revoked = SharedDir::of(&record).revoke();
    Ok(settle::end(store, guard, record, &revoked, deadline)? == settle::Released::Gone)
}
