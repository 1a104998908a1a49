//! How there come to be as many spares as are asked for, without anything that runs all the time: calls that have just changed
//! something look after all spares on their way out. One call at a time does, it submits one job at most, and whatever goes wrong
//! is noted for `pool` and is no failure of the call.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::ending::{begin_end, end, end_damaged, is_ours, remove};
use super::making::{Proven, note_outcome, submit, try_out};
use super::spare::{self, NOTE, Note, Spare, waits};
use super::spec::{PROGRAM, Spec};
use super::wanted::{self, Wanted};
use super::{Pool, lock};
use crate::clock::Now;
use crate::failure;
use crate::files::Dir;
use crate::lease::SeatId;
use crate::lease::lifecycle::{OpenSubmission, open_submission};
use crate::lease::record::{Phase, Record};
use crate::lease::store::{Loaded, Store};
use crate::operation::context::Options;
use crate::operation::inventory::{Entry, Inventory};
use crate::slurm::job::{Class, PendingReason, pending_reason};
use crate::slurm::squeue;

/// How old an answer of Slurm may be by which spares are counted and cleared away.
const COUNTED_BY: Duration = Duration::from_secs(60);

/// All that the end of a spare in the queue may take here; the next call goes on.
const END_TIME: Duration = Duration::from_secs(3);

/// Looks after all spares, where there are pools and no other call does so: clears away what has ended, ends what nobody may take any
/// more, and submits one that is missing. `pool` is that of the acquire that calls. What was done, for people.
pub fn look_after(options: &Options, store: &Store, pool: Option<&Pool>) -> Vec<String> {
    let Ok(Some(pools)) = store.known_pools() else { return vec![] };
    let Some(_alone) = lock(store, Duration::ZERO).filter(|_| store.is_writable()) else { return vec![] };
    match clear(store, pool.is_some()) {
        Ok((inventory, mut lines)) => {
            lines.extend(refill(options, store, &pools, &inventory, pool));
            lines
        }
        Err(error) => vec![format!("the spares were not looked at: {}", failure::of(&error))],
    }
}

/// Removes spares that have ended, and ends those of another version where an acquire asks. What is left, and what was done.
pub fn clear(store: &Store, asked_by_acquire: bool) -> Result<(Inventory, Vec<String>)> {
    let mut inventory = Inventory::take_spares(store, squeue::DEADLINE, COUNTED_BY)?;
    let mut lines = Vec::new();
    inventory.leases.retain(|entry| entry.record().is_none_or(|record| is_ours(store, record)));
    for entry in &inventory.leases {
        let Some(seat) = SeatId::parse(entry.id.as_str()) else { continue };
        let other = asked_by_acquire
            && spare::read(store, &seat)?.is_some_and(|spare| spare.note.program != PROGRAM && waits(&spare.record));
        if let Loaded::Damaged { .. } = &entry.loaded {
            lines.extend(end_damaged(store, entry));
        } else if other || entry.record().is_some_and(|record| is_over(record, Now::read())) {
            begin_end(store, &seat, "its program was replaced, or nothing came of it")?;
        }
    }
    // What was just begun to end is finished by the next look.
    inventory.settle(store)?;
    store.empty_trash()?;
    let mut left = Vec::new();
    for entry in std::mem::take(&mut inventory.leases) {
        match entry.record().is_some_and(|record| record.ended.is_some()) {
            true => lines.extend(remove(store, &entry)?),
            false => left.push(entry),
        }
    }
    inventory.leases = left;
    Ok((inventory, lines))
}

/// Whether nothing will come of a spare: its call was killed before it was submitted, which no other one does while this one looks
/// after the spares; or its submission is lost.
fn is_over(record: &Record, now: Now) -> bool {
    match record.phase {
        Phase::Prepared => true,
        Phase::Submitting => {
            record.job.is_none()
                && matches!(open_submission(record, now), OpenSubmission::NeverSent | OpenSubmission::Lost)
        }
        Phase::Queued | Phase::Answered | Phase::Releasing => false,
    }
}

/// Why a pool gets no further spare now, or that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// As many exist as are asked for.
    None,
    /// No acquire has come for so long that nobody seems to want one.
    Unwanted,
    /// The last ones failed.
    Paused,
    One,
}

/// Decides whether a pool of so many spares gets another one.
pub fn missing(wanted: &Wanted, most: u64, existing: usize, now: Now) -> Missing {
    match wanted {
        _ if existing as u64 >= most => Missing::None,
        wanted if !wanted.is_recent(now) => Missing::Unwanted,
        wanted if wanted.pauses_for(now).is_some() => Missing::Paused,
        _ => Missing::One,
    }
}

/// Whether a spare exists or may, and is not on its way out.
fn lives(entry: &Entry) -> bool {
    entry.record().is_none_or(|record| record.phase != Phase::Releasing && record.ended.is_none())
}

/// The spares of a pool that exist or may: they are not on their way out.
pub fn existing<'a>(store: &Store, inventory: &'a Inventory, spec: &Spec) -> Vec<(&'a Entry, Note)> {
    let of_pool = |entry: &'a Entry| {
        let note: Note = entry.dir(store).ok()??.beside(NOTE)?;
        (lives(entry) && note.spec == *spec).then_some((entry, note))
    };
    inventory.leases.iter().filter_map(of_pool).collect()
}

/// Submits one spare that is missing, and has another one proven; by the acquire's own settings, or by those of the last one.
fn refill(options: &Options, store: &Store, pools: &Dir, inventory: &Inventory, pool: Option<&Pool>) -> Vec<String> {
    let now = Now::read();
    let mut lines = Vec::new();
    let all = inventory.leases.iter().filter(|entry| lives(entry)).count();
    for wanted in wanted::all(pools).unwrap_or_default() {
        let existing = existing(store, inventory, &wanted.spec);
        if !wanted.is_recent(now) {
            if existing.is_empty() {
                wanted::forget(pools, &wanted.spec);
            }
            // One that runs ends by itself; one that waits could begin hours later.
            let queued = existing.iter().filter(|(entry, _)| is_queued(entry));
            queued.for_each(|(entry, _)| drop(begin_end_of(store, entry, "no acquire has asked for it for long")));
            continue;
        }
        if !wanted.is_of_this_program() || pool.is_some_and(|pool| pool.spec != wanted.spec) {
            continue;
        }
        let restored;
        let pool = match pool {
            Some(pool) => pool,
            None => match restore(options, store, &wanted) {
                Some(pool) => {
                    restored = pool;
                    &restored
                }
                None => continue,
            },
        };
        if let Some((seat, reason)) = never_starts(&existing) {
            lines.push(end_what_never_starts(store, pools, pool, wanted, &seat, &reason));
            continue;
        }
        let room = pool.spares.most.is_none_or(|most| (all as u64) < most);
        if room && missing(&wanted, pool.spares.count, existing.len(), now) == Missing::One {
            let submitted = submit(store, pool, wanted.is_plain());
            lines.push(note_outcome(submitted, pools, wanted, pool.spares.may_be_shorter()));
            return lines;
        }
        if let Some(spare) = unproven(store, &existing)
            && let Proven::No(said) = try_out(options, store, pool, &spare)
        {
            let why = format!("no login on {} succeeds: {said}", spare.record.shown());
            wanted::keep(pools, &wanted.after_failure(&why, now));
            begin_end(store, &spare.seat, &why).ok();
            lines.push(why);
        }
    }
    lines
}

/// The pool of a call that has none of its own, where today's settings are those of its last acquire.
fn restore(options: &Options, store: &Store, wanted: &Wanted) -> Option<Pool> {
    let options = Options { runner_script: wanted.runner_script.clone(), ..options.clone() };
    let pool = Pool::configured(&options, store, &wanted.config, "looking after spares").ok().flatten()?;
    (pool.spec == wanted.spec).then_some(pool)
}

/// A spare that runs and was never logged in to.
fn unproven(store: &Store, existing: &[(&Entry, Note)]) -> Option<Spare> {
    let (entry, _) = existing.iter().find(|(entry, note)| !note.proven && entry.runs())?;
    spare::read(store, &SeatId::parse(entry.id.as_str())?).ok()?
}

/// A spare that waits for what never comes, and why.
pub fn never_starts(existing: &[(&Entry, Note)]) -> Option<(SeatId, String)> {
    existing.iter().find_map(|(entry, _)| {
        let row = entry.view.row().filter(|_| is_queued(entry))?;
        let never = matches!(pending_reason(&row.reason), PendingReason::Never(_));
        never.then(|| Some((SeatId::parse(entry.id.as_str())?, row.reason.clone())))?
    })
}

/// Ends a spare that can never start. Where Slurm takes jobs that are too long for their partition, that is how it refuses them: then
/// the next one asks for no more time than a lease, if it may. What was done.
pub fn end_what_never_starts(
    store: &Store,
    pools: &Dir,
    pool: &Pool,
    wanted: Wanted,
    seat: &SeatId,
    reason: &str,
) -> String {
    let why = format!("a spare can never start: {reason}");
    let plain = pool.spares.may_be_shorter() && !wanted.is_plain();
    let wanted = if plain { wanted.with_plain_time() } else { wanted.after_failure(&why, Now::read()) };
    wanted::keep(pools, &wanted);
    match end(store, seat, &why, Instant::now() + END_TIME) {
        Ok(_) => why,
        Err(error) => format!("{why}; {}", failure::of(&error)),
    }
}

fn is_queued(entry: &Entry) -> bool {
    entry.view.row().is_some_and(|row| row.state.class() == Class::Queued)
}

fn begin_end_of(store: &Store, entry: &Entry, why: &str) -> Result<bool> {
    SeatId::parse(entry.id.as_str()).map_or(Ok(false), |seat| begin_end(store, &seat, why))
}

#[cfg(test)]
mod tests {
    use super::super::wanted::tests::{NOW, wanted};
    use super::*;
    use crate::clock::BootTime;
    use crate::lease::record::Attempt;
    use crate::lease::record::tests::record;
    use rstest::rstest;

    fn later(seconds: i64) -> Now {
        Now { epoch: NOW.epoch + seconds, uptime: NOW.uptime + seconds }
    }

    #[rstest]
    #[case::one_is_missing(2, 1, 0, 0, Missing::One)]
    #[case::enough(2, 2, 0, 0, Missing::None)]
    #[case::more_than_enough(1, 3, 0, 0, Missing::None)]
    #[case::nobody_has_asked_for_long(2, 1, 1801, 0, Missing::Unwanted)]
    #[case::the_last_one_failed(2, 1, 10, 1, Missing::Paused)]
    #[case::it_failed_a_minute_ago(2, 1, 60, 1, Missing::One)]
    #[case::it_failed_again_and_again(2, 1, 60, 2, Missing::Paused)]
    fn who_gets_another_one(
        #[case] most: u64,
        #[case] existing: usize,
        #[case] seconds: i64,
        #[case] failures: usize,
        #[case] expected: Missing,
    ) {
        let wanted = (0..failures).fold(wanted(), |wanted, _| wanted.after_failure("refused", NOW));
        assert_eq!(missing(&wanted, most, existing, later(seconds)), expected);
    }

    #[rstest]
    #[case::its_call_was_killed(Phase::Prepared, false, 0, true)]
    #[case::on_its_way(Phase::Submitting, true, 121, false)]
    #[case::waits(Phase::Queued, true, 1_000_000, false)]
    fn what_comes_to_nothing(#[case] phase: Phase, #[case] sent: bool, #[case] seconds: i64, #[case] expected: bool) {
        let attempt = Attempt {
            sent: sent.then_some(NOW.epoch),
            sent_at: BootTime::of(NOW).filter(|_| sent),
            ..record().attempt
        };
        let record = Record { phase, attempt, job: None, created: NOW.epoch, ..record() };
        assert_eq!(is_over(&record, later(seconds)), expected);
    }
}
