//! How spares come to be: submitted as an attempt like every other, and tried out by one login.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Pool;
use super::spare::{NOTE, Note, Spare};
use super::wanted::{self, Wanted};
use crate::allocation;
use crate::clock::{Now, epoch};
use crate::failure::{self, Failure, Kind};
use crate::files::Dir;
use crate::lease::record::{Phase, Record};
use crate::lease::store::{Locked, Place, Store};
use crate::lease::{Identity, SeatId, client_name};
use crate::operation::context::Options;
use crate::operation::draft::draft;
use crate::operation::settle;
use crate::operation::wait::{Doing, Wait};
use crate::slurm::sbatch::Outcome;
use crate::slurm::squeue;
use crate::ssh::lease::{Probe, link_key, make_key};

/// An sshd that lets nobody in for so long after its job's start does not come to it any more, in seconds.
const START_SECONDS: i64 = 60;

/// All that proving one spare may take: a caller waits for its own answer.
const PROOF_TIME: Duration = Duration::from_secs(10);

/// Notes what a submission came to, and tells it.
pub fn note_outcome(submitted: Result<Submitted>, pools: &Dir, wanted: Wanted, may_be_shorter: bool) -> String {
    let (wanted, line) = match submitted {
        Ok(Submitted::Job(shown)) => (wanted.after_success(), format!("submitted {shown}")),
        Ok(Submitted::Unknown(shown, said)) => {
            let why = format!("whether {shown} was submitted is not known: {said}");
            (wanted.after_failure(&why, Now::read()), why)
        }
        // With its waiting time on top it may be longer than the partition allows.
        Ok(Submitted::Refused(_)) if may_be_shorter && !wanted.is_plain() => (
            wanted.with_plain_time(),
            "a spare was refused; the next one asks for no more time than a lease".to_owned(),
        ),
        Ok(Submitted::Refused(said)) => {
            let why = format!("no spare was submitted: {said}");
            (wanted.after_failure(&why, Now::read()), why)
        }
        Err(error) => {
            let why = format!("no spare was submitted: {}", failure::of(&error));
            (wanted.after_failure(&why, Now::read()), why)
        }
    };
    wanted::keep(pools, &wanted);
    line
}

/// What came of the submission of a spare.
pub enum Submitted {
    Job(String),
    /// It may exist; it counts as existing until that is certain.
    Unknown(String, String),
    Refused(String),
}

/// Submits one spare, as an attempt like every other: its record first, then its permit, then the job.
pub fn submit(store: &Store, pool: &Pool, plain_time: bool) -> Result<Submitted> {
    let seat = SeatId::random()?;
    let id = seat.as_lease_id().clone();
    let identity = Identity { name: client_name(&id, "spare"), slug: "spare".to_owned(), lease_id: id };
    let settings = if plain_time { pool.settings.clone() } else { pool.settings.of_a_spare() };
    store.create_at(Place::Spares, &identity, |dir, path| {
        let key = match &settings.ssh_private_key {
            Some(key) => link_key(dir, key)?,
            None => make_key(dir, &format!("spare {seat}"))?,
        };
        dir.put(NOTE, &serde_json::to_vec(&pool.note())?)?;
        let draft = draft(store, &settings, &pool.runner, &pool.user, &identity, path.join(key))?;
        Ok(Record { pooled: true, seat: Some(seat.clone()), ..draft })
    })?;
    let vanished = || Failure::new(Kind::Storage, format!("the spare {seat} has vanished while it was submitted"));
    let dir = store.spare(&seat)?.ok_or_else(vanished)?;
    let Locked::Held(guard) = dir.lock(Duration::from_secs(1))? else { return Err(vanished().into()) };
    // Where locks do not hold between hosts, another call may have taken it for one whose call was killed.
    let prepared = |record: &&Record| record.phase == Phase::Prepared;
    let Some(mut record) = guard.lease.load().record().filter(prepared).cloned() else { return Err(vanished().into()) };
    match allocation::submit(store, &guard, &mut record, &settings, &pool.runner, Now::read())? {
        Outcome::Submitted(_) => Ok(Submitted::Job(record.shown())),
        Outcome::Unknown { said, .. } => Ok(Submitted::Unknown(record.shown(), said)),
        Outcome::NoJob { said, .. } | Outcome::NotSent { said } => {
            settle::finish(store, guard, &record)?;
            Ok(Submitted::Refused(said))
        }
    }
}

/// What a first login on a spare has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    Yes,
    /// It is not up yet, or was taken.
    NotYet,
    /// It lets nobody in, and what was said.
    No(String),
}

/// Logs in to a spare once, so that one which lets nobody in is found before a lease takes it.
pub fn try_out(options: &Options, store: &Store, pool: &Pool, spare: &Spare) -> Proven {
    let view = allocation::ask(&spare.record, squeue::DEADLINE);
    let deadline = Instant::now() + PROOF_TIME;
    let mut wait = Wait::new(options, store, &pool.settings, &spare.dir, Doing::Acquiring, deadline, None);
    let since = view.row().and_then(|row| row.start);
    match wait.try_spare(&spare.record, &view) {
        Some(Probe::Ready) => {
            if let Ok(Locked::Held(guard)) = spare.dir.lock(Duration::ZERO) {
                guard.lease.keep_beside(NOTE, &Note { proven: true, ..spare.note.clone() });
            }
            Proven::Yes
        }
        Some(Probe::NotReady { said, .. } | Probe::Unreachable(_, said) | Probe::Refused(said))
            if since.is_some_and(|since| epoch().saturating_sub(since) >= START_SECONDS) =>
        {
            Proven::No(said)
        }
        _ => Proven::NotYet,
    }
}
