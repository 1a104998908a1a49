//! Whether the acquire that a lease was made for still lives.
//!
//! ```text
//! acquirer         held shared by every acquire of the lease, for its life; the kernel lets go of it when it dies
//! acquirer-place   host, boot and pid namespace of those that hold it; `several` where they differ
//! acquirer-died    when nobody was first seen to hold it: boot id and milliseconds of that boot
//! ```
//! A lock tells about life and death only where it was taken: file systems that several hosts share may keep their
//! locks on each host. So only a call at the very same place judges, elsewhere the grace of the job decides.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::record::{Phase, Record};
use super::store::{Guard, LeaseDir};
use crate::clock::{boot_id, uptime_millis};
use crate::files::Lock;

const LOCK: &str = "acquirer";
pub(super) const PLACE: &str = "acquirer-place";
const DIED: &str = "acquirer-died";
const SEVERAL: &[u8] = b"several\n";
const MAX_BYTES: u64 = 1024;

/// How long a death must be on record before the lease is ended: a platform repeats an acquire that was killed within
/// seconds.
pub const ABANDONED_AFTER: Duration = Duration::from_secs(30);

/// A judge holds the lock for a moment only.
const JUDGE_PATIENCE: Duration = Duration::from_secs(2);

/// Another acquire that lives holds the lock all along; a judge lets go of it within this time.
const ALONE_PATIENCE: Duration = Duration::from_millis(300);

/// The sign of life of one acquire. It ends with this value or with the process.
#[derive(Debug)]
pub struct Held(Option<Lock>);

/// What a call can tell of a lease's acquirer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It was made elsewhere, or by a program that leaves no sign of life.
    NotOurs,
    Alive,
    /// Dead, as was first noted so long ago.
    Dead(Duration),
}

impl Life {
    /// Whether its lease is to be ended.
    pub fn is_over(self) -> bool {
        matches!(self, Life::Dead(since) if since >= ABANDONED_AFTER)
    }
}

/// Where locks are the same: one boot of one host, seen from one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    host: String,
    boot: String,
    pid_namespace: String,
}

impl Place {
    fn here() -> Option<&'static Place> {
        static HERE: OnceLock<Option<Place>> = OnceLock::new();
        let find = || {
            Some(Place {
                host: nix::unistd::gethostname().ok()?.into_string().ok()?,
                boot: boot_id()?,
                pid_namespace: std::fs::read_link("/proc/self/ns/pid").ok()?.to_str()?.to_owned(),
            })
        };
        HERE.get_or_init(find).as_ref()
    }

    /// Whether a note of a place, as it was read, is of this one.
    fn is(&self, noted: io::Result<Option<Vec<u8>>>) -> bool {
        let noted = noted.ok().flatten();
        noted.and_then(|bytes| serde_json::from_slice(&bytes).ok()).as_ref() == Some(self)
    }
}

/// A death that was noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Death {
    boot: String,
    at: u64,
}

impl Death {
    /// How long ago it was; a note of another boot, or one from the future, tells nothing.
    fn age(&self, boot: &str, now: u64) -> Option<Duration> {
        (self.boot == boot).then(|| now.checked_sub(self.at)).flatten().map(Duration::from_millis)
    }
}

/// Whether a lease is one that nobody wants once its acquirer is dead.
pub fn concerns(record: &Record) -> bool {
    !record.keep && matches!(record.phase, Phase::Prepared | Phase::Submitting | Phase::Queued)
}

/// Shows that an acquire of this lease lives, and forgets that an earlier one has died. Where it cannot be shown the
/// grace decides.
pub fn hold(dir: &LeaseDir) -> Held {
    let Ok(Some(lock)) = dir.dir.lock_shared(LOCK, JUDGE_PATIENCE) else { return Held(None) };
    let here = Place::here().and_then(|here| serde_json::to_vec(here).ok());
    let noted = dir.dir.read(PLACE, MAX_BYTES).ok().flatten();
    let note = match (&here, &noted) {
        (Some(here), None) => Some(here.as_slice()),
        (Some(here), Some(noted)) if here == noted => None,
        _ => Some(SEVERAL),
    };
    if let Some(note) = note {
        dir.dir.put(PLACE, note).ok();
    }
    dir.dir.unlink(DIED).ok();
    Held(Some(lock))
}

impl Held {
    /// Gives the sign of life up, and tells whether it was the only one: the lock that keeps other acquires away, or
    /// `None` where another one waits for the lease. Where nothing can be locked nobody is known to wait.
    pub fn alone(&mut self, dir: &LeaseDir) -> Option<Alone> {
        self.0 = None;
        alone(dir)
    }
}

/// The proof that no acquire of a lease lives at this place; none begins while it lasts.
#[derive(Debug)]
pub struct Alone {
    _lock: Option<Lock>,
}

/// Whether no acquire of a lease lives here.
pub fn alone(dir: &LeaseDir) -> Option<Alone> {
    match dir.dir.lock(LOCK, ALONE_PATIENCE) {
        Ok(None) => None,
        Ok(lock) => Some(Alone { _lock: lock }),
        Err(_) => Some(Alone { _lock: None }),
    }
}

/// Whether a call here can judge the acquirer of a lease, by the note of its place as it was read.
pub(super) fn is_here(noted: io::Result<Option<Vec<u8>>>) -> bool {
    Place::here().is_some_and(|here| here.is(noted))
}

/// Whether an acquirer of a lease lives, at a place that can tell. Nothing is written down.
pub(super) fn lives(dir: &LeaseDir) -> bool {
    matches!(dir.dir.lock(LOCK, Duration::ZERO), Ok(None))
}

/// Judges the acquirer of a lease, and notes its death when it is seen first. It changes nothing else.
pub fn life(dir: &LeaseDir) -> Life {
    let Some(here) = Place::here() else { return Life::NotOurs };
    if !here.is(dir.dir.read(PLACE, MAX_BYTES)) {
        return Life::NotOurs;
    }
    let _alone = match dir.dir.lock(LOCK, Duration::ZERO) {
        Ok(Some(lock)) => lock,
        Ok(None) => return Life::Alive,
        Err(_) => return Life::NotOurs,
    };
    let now = uptime_millis();
    let death = dir.dir.read(DIED, MAX_BYTES).ok().flatten();
    let death = death.and_then(|bytes| serde_json::from_slice::<Death>(&bytes).ok());
    if let Some(age) = death.and_then(|death| death.age(&here.boot, now)) {
        return Life::Dead(age);
    }
    match serde_json::to_vec(&Death { boot: here.boot.clone(), at: now }) {
        Ok(note) if dir.dir.put(DIED, &note).is_ok() => Life::Dead(Duration::ZERO),
        _ => Life::NotOurs,
    }
}

/// Ends a lease whose acquirer has been dead for long, under its lock and with the record as it is now: it is to be
/// released, as if somebody had asked for it. Whether it was.
pub fn release_abandoned(guard: &Guard<'_>, record: &mut Record, now: i64) -> Result<bool> {
    if !concerns(record) || !guard.lease.may_write() || !life(guard.lease).is_over() {
        return Ok(false);
    }
    // None may begin before it can see that the lease is being released.
    let Some(_alone) = alone(guard.lease) else { return Ok(false) };
    guard.begin_release(record, now, "its acquire has died")?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::store::Store;
    use super::super::store::tests::store;
    use super::*;
    use rstest::rstest;

    fn noted_here(dir: &LeaseDir) -> bool {
        is_here(dir.dir.read(PLACE, MAX_BYTES))
    }

    fn lease(store: &Store) -> LeaseDir {
        let record = Record { phase: Phase::Queued, keep: false, ..record() };
        store.create(&record.identity, |_, _| Ok(record.clone())).unwrap();
        store.lease(record.lease_id()).unwrap().unwrap()
    }

    fn died(dir: &LeaseDir, before: Duration) {
        let death =
            Death { boot: Place::here().unwrap().boot.clone(), at: uptime_millis() - before.as_millis() as u64 };
        dir.dir.put(DIED, &serde_json::to_vec(&death).unwrap()).unwrap();
    }

    #[rstest]
    #[case::now("b", 5000, Some(0))]
    #[case::later("b", 35_000, Some(30_000))]
    #[case::from_the_future("b", 4999, None)]
    #[case::another_boot("c", 35_000, None)]
    fn ages(#[case] boot: &str, #[case] now: u64, #[case] expected: Option<u64>) {
        let death = Death { boot: "b".into(), at: 5000 };
        assert_eq!(death.age(boot, now), expected.map(Duration::from_millis));
    }

    #[test]
    fn an_acquire_lives_as_long_as_one_of_several_does() {
        let (_temp, store) = store();
        let dir = lease(&store);
        assert_eq!(life(&dir), Life::NotOurs);
        assert!(!noted_here(&dir) && !lives(&dir));
        let (mut one, mut two) = (hold(&dir), hold(&dir));
        assert_eq!(life(&dir), Life::Alive);
        assert!(noted_here(&dir) && lives(&dir));
        assert!(one.alone(&dir).is_none());
        assert_eq!(life(&dir), Life::Alive);
        assert!(two.alone(&dir).is_some());
        assert!(!lives(&dir) && dir.dir.read(DIED, MAX_BYTES).unwrap().is_none(), "a look notes nothing");
        assert!(matches!(life(&dir), Life::Dead(since) if since < ABANDONED_AFTER));
    }

    #[test]
    fn a_retry_forgets_the_death() {
        let (_temp, store) = store();
        let dir = lease(&store);
        drop(hold(&dir));
        died(&dir, ABANDONED_AFTER);
        assert!(life(&dir).is_over());
        drop(hold(&dir));
        assert!(!life(&dir).is_over());
    }

    #[test]
    fn nobody_judges_from_elsewhere() {
        let (_temp, store) = store();
        let dir = lease(&store);
        drop(hold(&dir));
        let there = Place { host: "elsewhere".into(), ..Place::here().unwrap().clone() };
        dir.dir.put(PLACE, &serde_json::to_vec(&there).unwrap()).unwrap();
        died(&dir, ABANDONED_AFTER);
        assert_eq!(life(&dir), Life::NotOurs);
        assert!(!noted_here(&dir));
        // Two places at once are nobody's to judge.
        drop(hold(&dir));
        assert_eq!(dir.dir.read(PLACE, 64).unwrap().unwrap(), SEVERAL);
        assert_eq!(life(&dir), Life::NotOurs);
    }

    #[rstest]
    #[case::queued(Phase::Queued, false, ABANDONED_AFTER, true)]
    #[case::unsure(Phase::Submitting, false, ABANDONED_AFTER, true)]
    #[case::just_died(Phase::Queued, false, Duration::from_secs(20), false)]
    #[case::kept(Phase::Queued, true, ABANDONED_AFTER, false)]
    #[case::answered(Phase::Answered, false, ABANDONED_AFTER, false)]
    #[case::releasing(Phase::Releasing, false, ABANDONED_AFTER, false)]
    fn burials(#[case] phase: Phase, #[case] keep: bool, #[case] since: Duration, #[case] expected: bool) {
        let (_temp, store) = store();
        let dir = lease(&store);
        drop(hold(&dir));
        died(&dir, since);
        let guard = dir.lock(Duration::ZERO).unwrap().held();
        let mut record = Record { phase, keep, ..record() };
        assert_eq!(release_abandoned(&guard, &mut record, 2000).unwrap(), expected);
        assert_eq!(record.phase == Phase::Releasing, expected || phase == Phase::Releasing);
        let _alive = hold(&dir);
        let mut record = Record { phase: Phase::Queued, keep: false, ..record };
        assert!(!release_abandoned(&guard, &mut record, 2000).unwrap());
    }
}
