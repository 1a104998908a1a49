//! How a lease takes a spare: the seat's directory is renamed into the lease's, which decides, and the login that proves the lease
//! tells the job. A seat that does not let itself be claimed is given back to be ended, and the lease goes another way.

use std::time::Duration;

use anyhow::Result;

use super::Acquire;
use crate::allocation::{self, View};
use crate::clock::epoch;
use crate::failure::{self, Failure, Kind};
use crate::lease::limits::Limits;
use crate::lease::record::{Phase, Record};
use crate::lease::store::{Guard, LeaseDir, Loaded, Locked};
use crate::operation::pool::Pool;
use crate::operation::pool::spare::{self, Spare, Unfit, fitness};
use crate::operation::wait::{Doing, Wait};
use crate::progress::progress;
use crate::shared_dir::SharedDir;
use crate::slurm::cache::{BackOff, Moment, Shared};
use crate::slurm::squeue;

/// How old an answer of Slurm may be by which a spare is chosen. That its job still runs is proven by the claim, which the job
/// itself decides.
const CHOSEN_BY: Duration = Duration::from_secs(60);

/// Where that answer does not show a spare that has published its endpoint, one of a moment ago has to.
const SHOWN_SINCE: Duration = Duration::from_millis(500);

/// What has become of a lease in the queue.
pub(super) enum Changed {
    Nothing,
    /// It has a seat, and this is what Slurm showed of the job.
    Seated(View),
    /// The spare was another one's in the end, and its own job may not start any more.
    Anew,
}

/// What a job in the queue costs once its lease has a seat.
const CANCEL_DEADLINE: Duration = Duration::from_secs(5);

impl Acquire<'_> {
    /// Gives a prepared lease a spare, if there is one: what Slurm showed of its job.
    pub(super) fn take_spare(&self, guard: &Guard<'_>, record: &Record) -> Result<Option<View>> {
        self.take(guard, record, || Ok(()))
    }

    /// The same for a lease whose own job waits in the queue: that may not start any more before the seat is taken.
    pub(super) fn change_over(&self, dir: &LeaseDir) -> Result<Changed> {
        let Some(guard) = self.lock(dir)? else { return Ok(Changed::Nothing) };
        let mut record = self.checked(&guard)?;
        let is_queued = record.phase == Phase::Queued && record.seat.is_none();
        let Some(job) = record.job.clone().filter(|_| is_queued) else { return Ok(Changed::Nothing) };
        let mut revoked = false;
        let seated = self.take(&guard, &record, || {
            revoked = true;
            let removed = SharedDir::of(&record).revoke();
            removed.map_err(|error| error.failure(format!("taking the permit of {} away", record.shown())).into())
        });
        match seated {
            Ok(Some(view)) => {
                // What is missed here is seen again by each look at the lease.
                allocation::cancel(&allocation::host(&record), &[job], CANCEL_DEADLINE).ok();
                Ok(Changed::Seated(view))
            }
            Ok(None) if !revoked => Ok(Changed::Nothing),
            other => {
                record.begin_attempt()?;
                record.job = None;
                record.submitted = None;
                guard.save(&record)?;
                other.map(|_| Changed::Anew)
            }
        }
    }

    fn take(&self, guard: &Guard<'_>, record: &Record, mut before: impl FnMut() -> Result<()>) -> Result<Option<View>> {
        let Some(pool) = &self.pool else { return Ok(None) };
        let spares = spare::of_pool(&self.store, &pool.spec)?;
        if spares.is_empty() {
            return Ok(None);
        }
        let shared = self.store.cache().ok().and_then(Shared::open);
        for candidate in spares {
            let Some(view) = self.looked_at(pool, &candidate, shared.as_ref()) else { continue };
            // Who holds it proves it, ends it, or takes it.
            let Ok(Locked::Held(_held)) = candidate.dir.lock(Duration::ZERO) else { continue };
            let Loaded::Whole(now) = candidate.dir.load() else { continue };
            if now.phase != candidate.record.phase || now.endpoint.is_none() {
                continue;
            }
            before()?;
            if !self.store.take_seat(guard, &candidate.dir)? {
                guard.lease.note(epoch(), "spare lost", candidate.seat.as_lease_id().as_str());
                continue;
            }
            return self.seated(guard, record, candidate, view).map(Some);
        }
        Ok(None)
    }

    /// What Slurm shows of a spare that a lease can have now, its endpoint pinned.
    fn looked_at(&self, pool: &Pool, candidate: &Spare, shared: Option<&Shared>) -> Option<View> {
        let Spare { record, note, dir, .. } = candidate;
        let fit = |view: &View| {
            view.row().map_or(Err(Unfit::NotRunning), |row| fitness(note, row, pool.spares.time_left(), epoch()))
        };
        let known = shared
            .and_then(|shared| allocation::answer_after(record, shared, Moment::now().before(CHOSEN_BY)))
            .map(|(listing, _)| allocation::view(record, &listing));
        let view = match known.filter(|view| view.row().is_some_and(|row| !row.node.is_empty())) {
            Some(view) => view,
            // One that has not begun has published nothing.
            None if record.endpoint.is_none() && SharedDir::of(record).part("endpoint.json", None, 1).is_none() => {
                return None;
            }
            None => match shared {
                Some(shared) => {
                    let after = Moment::now().before(SHOWN_SINCE);
                    allocation::ask_shared(record, shared, after, squeue::DEADLINE, BackOff::Kept)
                }
                None => allocation::ask(record, squeue::DEADLINE),
            },
        };
        fit(&view).ok()?;
        if record.endpoint.is_none() {
            let mut wait =
                Wait::new(self.options, &self.store, &self.settings, dir, Doing::Acquiring, self.deadline, None);
            let node = view.row().map(|row| row.node.clone()).unwrap_or_default();
            wait.pin_spare(record, &node).ok()?.endpoint?;
        }
        Some(view)
    }

    /// Writes down what the rename has decided. A call that is killed before is finished by each reading of the lease.
    fn seated(&self, guard: &Guard<'_>, before: &Record, candidate: Spare, view: View) -> Result<View> {
        let record = match guard.lease.load() {
            Loaded::Whole(record) => record,
            other => {
                let what = format!(
                    "acquiring lease {}: the spare {} that it took has no record that can be read",
                    guard.lease.id, candidate.seat
                );
                let cause = if let Loaded::Damaged { why, .. } = other { why } else { String::new() };
                return Err(Failure::new(Kind::Storage, what).remedy("release the lease").cause(cause).into());
            }
        };
        guard.save_seat(&record)?;
        let (ttl, idle, most_idle) =
            (Some(self.settings.ttl), Some(self.settings.idle_timeout), self.settings.most_idle);
        guard.lease.keep_limits(&Limits { ttl, idle, most_idle, touched: None });
        guard.lease.note(epoch(), "took a spare", &format!("{} (was {})", record.shown(), candidate.seat));
        if before.job.is_some() {
            progress(&format!(
                "{}: a spare has become free, and is taken in the place of its job in the queue",
                record.shown()
            ));
        }
        Ok(View { observation: view.observation, stale_jobs: vec![] })
    }

    /// Whether the failure of a wait is that of a seat which the lease has not been handed out with; then it is given back.
    pub(super) fn loses_its_seat(&self, dir: &LeaseDir, error: &anyhow::Error) -> Result<bool> {
        let failure = failure::of(error);
        match failure.kind {
            Kind::JobEnded | Kind::EndpointUnusable | Kind::NeverRuns => self.give_back(dir, &failure.to_string()),
            _ => Ok(false),
        }
    }

    /// Gives a seat back that could not be claimed: to be ended by whoever looks after the spares. `false` where the lease has none, or
    /// has been handed out with it.
    pub(super) fn give_back(&self, dir: &LeaseDir, why: &str) -> Result<bool> {
        let Some(guard) = self.lock(dir)? else { return Ok(false) };
        let record = self.checked(&guard)?;
        let Some(seat) = record.seat.clone().filter(|_| record.is_to_be_claimed()) else { return Ok(false) };
        guard.lease.note(epoch(), "spare given back", &crate::text::line(why));
        // Where the permit cannot be removed now, the end of the spare does it.
        SharedDir::of(&record).revoke().ok();
        guard.end_seat(epoch())?;
        guard.save_seat(&record.without_seat()?)?;
        self.store.give_seat_back(&guard, &seat)?;
        // It is there to be ended now.
        self.looked_after.set(false);
        Ok(true)
    }
}
