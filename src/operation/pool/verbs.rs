//! What people ask of spares: how they stand and what they have cost, some more of them now, and their end.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use super::making::{Proven, Submitted, note_outcome, submit, try_out};
use super::spare::{NOTE, Note, read};
use super::spec::Spec;
use super::upkeep;
use super::wanted::{self, Wanted};
use super::{Pool, ending, lock, obstacle};
use crate::clock::{Now, epoch};
use crate::config::spares::MOST;
use crate::failure::{self, Failure, Kind};
use crate::files::Dir;
use crate::host::Host;
use crate::lease::SeatId;
use crate::lease::record::{Phase, Record};
use crate::lease::store::Store;
use crate::operation::context::{Options, runner, user};
use crate::operation::inventory::{Entry, Inventory};
use crate::operation::settings::effective;
use crate::operation::status::{LeaseState, status};
use crate::progress::progress;
use crate::slurm::job::{Class, Row};
use crate::slurm::squeue;

/// How long a call of a person waits for another one that looks after the spares.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);

/// How long spares that were submitted are waited for; in a longer queue they come later by themselves.
const FILL_TIME: Duration = Duration::from_secs(60);

/// Between two looks at them.
const FILL_LOOK: Duration = Duration::from_millis(500);

/// All that a drain may take for one spare, as a release.
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// How one pool stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolRow {
    pub spec: Spec,
    /// What tells it from others for people: the resources that are asked for.
    pub resources: String,
    /// Spares that a lease can take now.
    pub ready: usize,
    /// Spares that wait in the queue, start, or whose submission is not known.
    pub pending: usize,
    /// Spares that are on their way out.
    pub ending: usize,
    /// CPU time that the spares which exist have held so far, in seconds.
    pub cpu_seconds: i64,
    /// Whether calls submit spares of this pool at present.
    pub wanted: bool,
    /// Seconds for which none is submitted, after failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_seconds: Option<i64>,
    /// The last failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    pub spares: Vec<SpareRow>,
}

/// How one spare stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpareRow {
    pub seat: SeatId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<u64>,
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    pub node: String,
    /// Seconds since it was submitted.
    pub age_seconds: i64,
    /// Whether a login has been tried out.
    pub proven: bool,
    #[serde(skip)]
    pub state: LeaseState,
}

/// How all pools stand, by an answer of Slurm of this moment.
///
/// # Errors
/// When the state dir cannot be read.
pub fn show(options: &Options) -> Result<Vec<PoolRow>> {
    let store = Store::open(&options.state_dir)?;
    let pools = store.known_pools()?;
    let wanted = pools.as_ref().map(wanted::all).transpose()?.unwrap_or_default();
    let inventory = Inventory::take_spares(&store, squeue::DEADLINE, Duration::ZERO)?;
    Ok(rows(&store, &wanted, &inventory, Now::read()))
}

fn rows(store: &Store, wanted: &[Wanted], inventory: &Inventory, now: Now) -> Vec<PoolRow> {
    let note = |entry: &Entry| entry.dir(store).ok().flatten()?.beside::<Note>(NOTE);
    let noted: Vec<_> = inventory.leases.iter().filter_map(|entry| Some((entry, note(entry)?))).collect();
    let mut specs: Vec<_> =
        wanted.iter().map(|wanted| &wanted.spec).chain(noted.iter().map(|(_, note)| &note.spec)).collect();
    specs.sort();
    specs.dedup();
    let row = |spec: &Spec| {
        let wanted = wanted.iter().find(|wanted| wanted.spec == *spec);
        let own = || noted.iter().filter(|(_, note)| note.spec == *spec);
        let spares: Vec<_> = own().filter_map(|(entry, note)| spare_row(entry, note, now)).collect();
        let count = |is: fn(&SpareRow) -> bool| spares.iter().filter(|spare| is(spare)).count();
        PoolRow {
            spec: spec.clone(),
            resources: own().find_map(|(entry, _)| Some(entry.record()?.server_type.clone())).unwrap_or_default(),
            ready: count(|spare| spare.state == LeaseState::Ready),
            pending: count(|spare| {
                matches!(spare.state, LeaseState::Provisioning | LeaseState::Suspended | LeaseState::Unknown)
            }),
            ending: count(|spare| spare.state == LeaseState::Deleting),
            cpu_seconds: own().filter_map(|(entry, _)| cost(entry.view.row()?, now)).sum(),
            wanted: wanted.is_some_and(|wanted| wanted.is_recent(now)),
            pause_seconds: wanted.and_then(|wanted| wanted.pauses_for(now)),
            why: wanted.map(|wanted| wanted.why.clone()).unwrap_or_default(),
            spares,
        }
    };
    specs.into_iter().map(row).collect()
}

fn spare_row(entry: &Entry, note: &Note, now: Now) -> Option<SpareRow> {
    let record: &Record = entry.record()?;
    let how = status(record, &entry.view, now);
    let row = entry.view.row();
    let starts = how.state == LeaseState::Ready && record.endpoint.is_none();
    Some(SpareRow {
        seat: SeatId::parse(entry.id.as_str())?,
        job_id: record.job.as_ref().or(row.map(|row| &row.job)).map(|job| job.id),
        state: match record.phase {
            Phase::Releasing => LeaseState::Deleting,
            _ if row.is_some_and(|row| row.state.class() == Class::Running) && !starts => LeaseState::Ready,
            _ => how.state,
        },
        status: how.slurm_state,
        reason: crate::text::line(&how.reason),
        node: row.map(|row| row.node.clone()).unwrap_or_default(),
        age_seconds: now.epoch.saturating_sub(record.created).max(0),
        proven: note.proven,
    })
}

/// The CPU time of a job so far, in seconds; nothing of one that has not begun.
fn cost(row: &Row, now: Now) -> Option<i64> {
    let cpus: i64 = row.resources.cpus.parse().ok()?;
    let start = row.start.filter(|_| row.state.class() == Class::Running && !row.node.is_empty())?;
    Some(cpus.saturating_mul(now.epoch.saturating_sub(start).max(0)))
}

/// Submits spares until there are so many, `count` or as many as the configuration says, and waits a while for them.
///
/// # Errors
/// When the configuration asks for none or cannot have any, or Slurm takes none.
pub fn fill(options: &Options, config: &Map<String, Value>, count: Option<u64>) -> Result<String> {
    let store = Store::open(&options.state_dir)?;
    let pool = required(options, &store, config)?;
    let most = pool.spares.count.min(pool.spares.most.unwrap_or(u64::MAX));
    let count = count.unwrap_or(most);
    if count > most {
        let what = format!("filling the pool: {count} spares are asked for, and spares is {most}");
        return Err(Failure::new(Kind::BadRequest, what)
            .remedy(format!("ask for {most} at most, or raise spares in the configuration, to {MOST} at most"))
            .into());
    }
    let pools = store.pools()?;
    let Some(_alone) = lock(&store, LOCK_PATIENCE) else {
        return Err(Failure::new(Kind::Busy, "filling the pool: another call looks after the spares").into());
    };
    let (inventory, _) = upkeep::clear(&store, true)?;
    wanted::ask(&pools, &pool, Now::read());
    let mut submitted = submit_missing(&store, &pools, &pool, &inventory, count)?;
    let until = Instant::now() + FILL_TIME;
    loop {
        let inventory = Inventory::take_spares(&store, squeue::DEADLINE, FILL_LOOK)?;
        let existing = upkeep::existing(&store, &inventory, &pool.spec);
        if let Some((seat, reason)) = upkeep::never_starts(&existing) {
            let wanted = wanted::ask(&pools, &pool, Now::read());
            let line = upkeep::end_what_never_starts(&store, &pools, &pool, wanted, &seat, &reason);
            progress(&line);
            let again = wanted::read(&pools, &pool.spec).is_some_and(|wanted| wanted.pauses_for(Now::read()).is_none());
            if !again {
                return Err(none_further(Kind::NeverRuns, submitted, &line).into());
            }
            let (inventory, _) = upkeep::clear(&store, true)?;
            submitted += submit_missing(&store, &pools, &pool, &inventory, count)?;
        }
        let ready = ready(options, &store, &pool, &existing)?;
        match ready >= count {
            true => return Ok(format!("{ready} spare(s) are ready; {submitted} of them were submitted now")),
            false if Instant::now() >= until => {
                return Ok(format!(
                    "{ready} of {count} spare(s) are ready, {submitted} were submitted now; `slurm-sandbox pool` shows what the \
                     others wait for"
                ));
            }
            false => std::thread::sleep(FILL_LOOK),
        }
    }
}

/// Submits as many spares as there are too few; how many.
fn submit_missing(store: &Store, pools: &Dir, pool: &Pool, inventory: &Inventory, count: u64) -> Result<u64> {
    let mut submitted = 0;
    for _ in upkeep::existing(store, inventory, &pool.spec).len() as u64..count {
        let wanted = || wanted::ask(pools, pool, Now::read());
        let plain = wanted().is_plain();
        let mut result = submit(store, pool, plain);
        if matches!(result, Ok(Submitted::Refused(_))) && pool.spares.may_be_shorter() && !plain {
            wanted::keep(pools, &wanted().with_plain_time());
            result = submit(store, pool, true);
        }
        let came = matches!(result, Ok(Submitted::Job(_)));
        let line = note_outcome(result, pools, wanted(), false);
        if !came {
            return Err(none_further(Kind::SubmitRejected, submitted, &line).into());
        }
        progress(&line);
        submitted += 1;
    }
    Ok(submitted)
}

fn none_further(kind: Kind, submitted: u64, line: &str) -> Failure {
    let what = format!("filling the pool: {submitted} spare(s) were submitted, and then no further one");
    Failure::new(kind, what).remedy("see `slurm-sandbox doctor`, and change what Slurm does not take").cause(line)
}

/// How many spares a login has succeeded on, those that have just come up among them.
fn ready(options: &Options, store: &Store, pool: &Pool, existing: &[(&Entry, Note)]) -> Result<u64> {
    let mut ready = existing.iter().filter(|(_, note)| note.proven).count() as u64;
    for (entry, _) in existing.iter().filter(|(entry, note)| !note.proven && entry.runs()) {
        let spare = SeatId::parse(entry.id.as_str()).map(|seat| read(store, &seat)).transpose()?.flatten();
        ready += u64::from(spare.is_some_and(|spare| try_out(options, store, pool, &spare) == Proven::Yes));
    }
    Ok(ready)
}

/// The pool of a configuration, for who wants nothing but that.
fn required(options: &Options, store: &Store, config: &Map<String, Value>) -> Result<Pool> {
    const WHAT: &str = "filling the pool";
    if let Some(pool) = Pool::configured(options, store, config, WHAT)? {
        return Ok(pool);
    }
    let settings = effective(options, config, WHAT)?.settings;
    user(&Host::of(settings.submit.as_ref()), WHAT)?;
    let why = match (settings.spares.count, obstacle(&settings, &runner(options, &settings)?)) {
        (0, _) => "spares is 0, or not set",
        (_, Some(obstacle)) => obstacle.shown(),
        (_, None) => "a newer slurm-sandbox wrote the state dir",
    };
    Err(Failure::new(Kind::BadConfig, format!("{WHAT}: the configuration keeps no spares"))
        .remedy("set spares, from 1, and what docs/spares.md asks for")
        .cause(why)
        .into())
}

/// Ends all spares, of all pools, and has calls submit none until the next acquire.
///
/// # Errors
/// When one could not be ended; the others are.
pub fn drain(options: &Options) -> Result<String> {
    let store = Store::open(&options.state_dir)?;
    let Some(_alone) = lock(&store, LOCK_PATIENCE) else {
        return Err(Failure::new(Kind::Busy, "draining the pools: another call looks after the spares").into());
    };
    if let Some(pools) = store.known_pools()? {
        for wanted in wanted::all(&pools)? {
            wanted::forget(&pools, &wanted.spec);
        }
    }
    let mut seats = store.spare_ids()?;
    let ours = |seat: &SeatId| {
        let dir = store.spare(seat).ok().flatten();
        dir.is_none_or(|dir| dir.load().record().is_none_or(|record| ending::is_ours(&store, record)))
    };
    seats.retain(ours);
    // All lose their permit before the first one is waited for.
    for seat in &seats {
        ending::begin_end(&store, seat, "drained")?;
    }
    let began = epoch();
    let (mut ended, mut left) = (0, Vec::new());
    for seat in &seats {
        match ending::end(&store, seat, "drained", Instant::now() + DRAIN_TIME) {
            Ok(true) => ended += 1,
            Ok(false) if store.spare(seat)?.is_none() => {}
            Ok(false) => left.push(format!("{seat}: its job is ending")),
            Err(error) => left.push(failure::of(&error).to_string()),
        }
    }
    if left.is_empty() {
        return Ok(match ended {
            0 => "there is no spare to end".to_owned(),
            _ => format!("{ended} spare(s) ended in {} s", epoch().saturating_sub(began)),
        });
    }
    let what = format!(
        "draining the pools: {ended} spare(s) ended, {} not proven ended; no lease takes them any more",
        left.len()
    );
    Err(Failure::new(Kind::Releasing, what).remedy("repeat the call, or let cleanup finish it").causes(&left).into())
}
