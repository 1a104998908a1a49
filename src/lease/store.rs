//! The state dir: records, keys and locks, private to the user and written by nobody but this program.
//!
//! ```text
//! <state-dir>/ 0700
//!   format                  version of this tree; a newer one is read, never written
//!   instance place.json     names this tree in the comments of its jobs; where it had that name (see instance.rs)
//!   lock                    held while the name is given
//!   leases/<leaseId>/       lock identity.json record.json id_<type>[.pub] known_hosts events.jsonl denied
//!   spares/<seat>/          the same of a job that is ready and belongs to no lease yet
//!   pooled/<leaseId>/       a lease that was made where spares are configured; seat/ is the spare's directory that it has taken
//!   pools/                  what spares are kept for (see operation/pool/wanted.rs)
//!   cache/                  Slurm's last answers, shared by all calls on a host; what was read of the leases (see cache.rs)
//!   adopted.jsonl           when a copy of a state dir took over the leases of its original
//!   forgotten.jsonl         leases that an operator gave up, with their reasons and last records
//!   work-roots.jsonl        where leases had their work directories
//!   trash/                  what is being made or removed; never looked at
//! ```
//! A lease's directory appears and goes by a rename, so it is always whole. Records are written only by the holder of
//! the lease's lock.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};

pub use super::dir::{Guard, LeaseDir, Loaded, Locked, Place};
use super::dir::{MAX_FILE_BYTES, NO_LOCKS, SEAT, is_without_its_seat, read_record};
use super::format;
use super::instance::Instance;
use super::names::Names;
use super::record::Record;
use super::work_roots;
use super::{Identity, LeaseId, SeatId};
use crate::clock::Now;
use crate::config::login_host::LoginHost;
use crate::failure::{Failure, Kind};
use crate::files::{Dir, Lock, Stamp, random_hex};

/// Threads that work on leases, and the fewest leases that are worth one.
const THREADS: usize = 4;
const FEWEST_EACH: usize = 100;

/// Held for one rename at a time.
const PLACING_PATIENCE: Duration = Duration::from_secs(10);

/// Format of the tree. 1: the first.
pub(crate) const TREE_FORMAT: u32 = 1;

/// The state dir.
#[derive(Debug)]
pub struct Store {
    root: Dir,
    leases: Dir,
    /// Not set where no lease was ever made with spares.
    pooled: OnceLock<Dir>,
    instance: Instance,
    writable: bool,
}

impl Store {
    /// Opens the tree, making it when it is missing.
    pub fn open(path: &Path) -> Result<Store> {
        let shown = path.display();
        let storage = |what: &str| {
            Failure::new(Kind::Storage, format!("{what} the state dir {shown}")).remedy(format!(
                "make it a directory of your own with `chmod 700 {shown}`, or pass another --state-dir"
            ))
        };
        if !path.to_str().is_some_and(crate::config::value::is_safe_path) {
            let remedy = "pass an absolute --state-dir of letters, digits and ._/@+,:=- only, as ssh's options need it";
            return Err(storage("refusing").remedy(remedy).into());
        }
        let failed = |what: &str, error: &io::Error| {
            let failure = match crate::files::is_full(error) {
                true => storage(what).remedy("free some space or quota there, or pass another --state-dir"),
                false => storage(what),
            };
            failure.cause(error.to_string())
        };
        let root = Dir::private_root(path).map_err(|error| failed("opening", &error))?;
        let open = || -> io::Result<Store> {
            let leases = root.make_subdir(Place::Leases.name())?;
            let format = match root.read("format", 16)? {
                Some(bytes) => String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(u32::MAX),
                None => {
                    root.write("format", format!("{TREE_FORMAT}\n").as_bytes())?;
                    TREE_FORMAT
                }
            };
            let writable = format <= TREE_FORMAT;
            let pooled = root.subdir(Place::Pooled.name())?.map_or_else(OnceLock::new, OnceLock::from);
            Ok(Store { leases, pooled, instance: Instance::open(&root, writable)?, writable, root })
        };
        open().map_err(|error| match crate::files::locks_nothing(&error) {
            true => storage("locking").remedy(NO_LOCKS).cause(error.to_string()).into(),
            false => failed("reading", &error).into(),
        })
    }

    /// Whether this program may make leases here; a tree of a newer version is only read, and its leases released.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Where answers are kept that all calls share.
    pub fn cache(&self) -> io::Result<Dir> {
        self.root.make_subdir("cache")
    }

    /// What ssh reads by the names of leases.
    pub fn names(&self) -> io::Result<Names> {
        Ok(Names::new(self.root.make_subdir("ssh")?))
    }

    /// Names this state dir in the comments of its jobs.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Takes over what was made before this state dir was copied; the names that it had.
    pub fn adopt(&self) -> Result<Vec<String>> {
        if !self.writable {
            let what = format!("the state dir {} was written by a newer slurm-sandbox", self.path().display());
            return Err(Failure::new(Kind::Storage, what).remedy("use that version").into());
        }
        let adopted = Instance::adopt(&self.root).context("writing down whose leases these are")?;
        self.root.append_line(
            "adopted.jsonl",
            &serde_json::json!({"at": crate::clock::epoch(), "instances": adopted}).to_string(),
        )?;
        Ok(adopted)
    }

    /// All leases, sorted.
    pub fn ids(&self) -> Result<Vec<LeaseId>> {
        let mut ids: Vec<_> = self.homes().map(|(_, home)| ids_in(home)).collect::<Result<Vec<_>>>()?.concat();
        ids.sort();
        Ok(ids)
    }

    /// All spares, sorted.
    pub fn spare_ids(&self) -> Result<Vec<SeatId>> {
        let Some(spares) = self.spares()? else { return Ok(vec![]) };
        let mut ids: Vec<_> = ids_in(&spares)?.iter().filter_map(|id| SeatId::parse(id.as_str())).collect();
        ids.sort();
        Ok(ids)
    }

    /// Where leases lie.
    fn homes(&self) -> impl Iterator<Item = (Place, &Dir)> {
        let pooled = self.pooled.get().map(|pooled| (Place::Pooled, pooled));
        [(Place::Leases, &self.leases)].into_iter().chain(pooled)
    }

    fn spares(&self) -> Result<Option<Dir>> {
        self.root.subdir(Place::Spares.name()).context("opening the directory of the spares")
    }

    /// The directory that leases of this place have, made when it is missing.
    fn home(&self, place: Place) -> io::Result<Dir> {
        let home = self.root.make_subdir(place.name())?;
        self.know(place)?;
        Ok(home)
    }

    /// Another call may have made the first lease with spares since this state dir was opened.
    fn know(&self, place: Place) -> io::Result<()> {
        if place == Place::Pooled
            && self.pooled.get().is_none()
            && let Some(pooled) = self.root.subdir(place.name())?
        {
            self.pooled.set(pooled).ok();
        }
        Ok(())
    }

    /// The directory of a lease; `None` when there is no such lease.
    pub fn lease(&self, id: &LeaseId) -> Result<Option<LeaseDir>> {
        for (place, home) in self.homes() {
            if let Some(dir) = self.open_in(home, place, id)? {
                return Ok(Some(dir));
            }
        }
        Ok(None)
    }

    /// The directory of a spare; `None` when there is none of this id, or a lease has taken it.
    pub fn spare(&self, seat: &SeatId) -> Result<Option<LeaseDir>> {
        let Some(spares) = self.spares()? else { return Ok(None) };
        self.open_in(&spares, Place::Spares, seat.as_lease_id())
    }

    fn open_in(&self, home: &Dir, place: Place, id: &LeaseId) -> Result<Option<LeaseDir>> {
        let dir = home.subdir(id.as_str()).map_err(|error| {
            Failure::new(Kind::Storage, format!("opening the directory {id} in {}", home.path().display()))
                .cause(error.to_string())
        })?;
        Ok(dir.map(|dir| LeaseDir { id: id.clone(), dir, writable: self.writable, place }))
    }

    /// Gives a spare to a lease, whose lock the caller holds: this rename is what decides. `false` where it has become another
    /// lease's. A network file system may report a rename as failed that has happened, so what lies there afterwards counts.
    pub fn take_seat(&self, guard: &Guard<'_>, spare: &LeaseDir) -> Result<bool> {
        let Some(spares) = self.spares()? else { return Ok(false) };
        let (lease, id) = (&guard.lease.dir, spare.id.as_str());
        let moved = spares.rename(id, lease, SEAT);
        let taken =
            moved.is_ok() || lease.subdir(SEAT).is_ok_and(|seat| seat.is_some_and(|seat| seat.is_same(&spare.dir)));
        if taken {
            let durable = lease.sync().and_then(|()| spares.sync());
            durable.with_context(|| format!("giving the spare {id} to lease {}", guard.lease.id))?;
        }
        Ok(taken)
    }

    /// Puts a seat that a lease could not claim back to the spares, where it is ended; its record says so already.
    pub fn give_seat_back(&self, guard: &Guard<'_>, seat: &SeatId) -> Result<()> {
        let back = || {
            let spares = self.home(Place::Spares)?;
            guard.lease.dir.rename(SEAT, &spares, seat.as_lease_id().as_str())?;
            spares.sync()?;
            guard.lease.dir.sync()
        };
        back().with_context(|| format!("giving the seat {seat} of lease {} back", guard.lease.id))
    }

    /// Where is written what spares are kept for, made when it is missing.
    pub fn pools(&self) -> io::Result<Dir> {
        self.root.make_subdir("pools")
    }

    /// The same, where there is something.
    pub fn known_pools(&self) -> io::Result<Option<Dir>> {
        self.root.subdir("pools")
    }

    /// Reads a lease without opening its directory, where its record is whole; `None` when there is no such lease.
    pub fn load(&self, id: &LeaseId) -> Result<Option<Loaded>> {
        self.load_by(id, |name| self.read(id, name, MAX_FILE_BYTES))
    }

    /// The same, its record by what `read` gets of its files.
    pub(super) fn load_by(
        &self,
        id: &LeaseId,
        read: impl FnMut(&str) -> io::Result<Option<Vec<u8>>>,
    ) -> Result<Option<Loaded>> {
        match read_record(id, read) {
            Ok(record) if self.writable && !is_without_its_seat(&record) => Ok(Some(Loaded::Whole(record))),
            _ => Ok(self.lease(id)?.map(|dir| dir.load())),
        }
    }

    /// Reads a file of a lease without opening its directory.
    pub(super) fn read(&self, id: &LeaseId, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        match (self.leases.read_below(id.as_str(), name, max)?, self.pooled.get()) {
            (None, Some(pooled)) => pooled.read_below(id.as_str(), name, max),
            (read, _) => Ok(read),
        }
    }

    /// The stamp of a lease's directory, or of a file there.
    pub(super) fn stamp(&self, id: &LeaseId, name: Option<&str>) -> io::Result<Stamp> {
        let path = name.map_or_else(|| id.to_string(), |name| format!("{id}/{name}"));
        match (self.leases.stamp(&path), self.pooled.get()) {
            (Err(_), Some(pooled)) => pooled.stamp(&path),
            (stamp, _) => stamp,
        }
    }

    /// Makes a lease: its directory is filled by `fill` where nobody looks, and appears whole. `fill` is told where
    /// it will be. Whether it was us who made it: another call may have been faster.
    pub fn create(&self, identity: &Identity, fill: impl Fn(&Dir, &Path) -> Result<Record>) -> Result<bool> {
        self.create_at(Place::Leases, identity, fill)
    }

    /// The same at another place.
    pub fn create_at(
        &self,
        place: Place,
        identity: &Identity,
        fill: impl Fn(&Dir, &Path) -> Result<Record>,
    ) -> Result<bool> {
        if !self.writable {
            let what = format!("the state dir {} was written by a newer slurm-sandbox", self.path().display());
            return Err(Failure::new(Kind::Storage, what).remedy("use that version").into());
        }
        self.clear(&identity.lease_id)?;
        // Another call's clearing may take a directory away in the moment before it is locked. Each call clears once, so this
        // many calls at once would have to be in each other's way.
        const TRIES: u32 = 100;
        let mut made = self.make(identity, place, &fill);
        for _ in 1..TRIES {
            match &made {
                Err(error)
                    if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) =>
                {
                    made = self.make(identity, place, &fill);
                }
                _ => break,
            }
        }
        made.map_err(|error| {
            if error.chain().any(|cause| cause.is::<Failure>()) {
                return error;
            }
            let locks = error.downcast_ref::<io::Error>().is_some_and(crate::files::locks_nothing);
            let remedy = if locks { NO_LOCKS } else { "check space, quota and permissions of the state dir" };
            Failure::new(Kind::Storage, format!("making the record of lease {}", identity.lease_id))
                .remedy(remedy)
                .cause(format!("{error:#}"))
                .into()
        })
    }

    fn make(&self, identity: &Identity, place: Place, fill: &impl Fn(&Dir, &Path) -> Result<Record>) -> Result<bool> {
        let home = self.home(place).context("opening the directory of the leases")?;
        let trash = self.trash()?;
        let id = identity.lease_id.as_str();
        let name = format!("new-{id}-{}", random_hex(4).context("reading random bits")?);
        let dir = trash.make_subdir(&name).context("making a directory")?;
        // Whoever finds this directory unlocked may clear it away. The lock moves with the directory.
        let _lock = match dir.lock("lock", Duration::ZERO) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(io::Error::from(io::ErrorKind::NotFound).into()),
            Err(error) => {
                trash.remove_tree(&name).ok();
                return Err(error.into());
            }
        };
        let make = || -> Result<bool> {
            let record = fill(&dir, &home.path().join(id))?;
            dir.write_part("identity.json", &format::write_identity(&record)?).context("writing identity.json")?;
            dir.write("record.json", &format::write(&record)?).context("writing record.json")?;
            // Two calls may have different settings, and so make the lease at different places.
            let _placing = self.root.lock("placing", PLACING_PATIENCE)?;
            let elsewhere = [Place::Leases, Place::Pooled].into_iter().filter(|other| *other != place);
            for other in elsewhere.filter(|_| place != Place::Spares) {
                if self.root.subdir(other.name())?.is_some_and(|home| home.has_own_dir(id)) {
                    self.know(other)?;
                    return Ok(false);
                }
            }
            match trash.rename(&name, &home, id) {
                Ok(()) => home.sync().map(|()| true).context("making the lease durable"),
                Err(error) if taken(&error) => Ok(false),
                Err(error) => Err(error).context("moving the lease into place"),
            }
        };
        let made = make();
        if !matches!(made, Ok(true)) {
            trash.remove_tree(&name).ok();
        }
        made
    }

    /// Removes what calls that were killed have left of a lease; what a call makes right now is locked and stays.
    pub fn clear(&self, id: &LeaseId) -> Result<()> {
        let trash = self.trash()?;
        for name in trash.names().context("listing the trash")? {
            if name.starts_with(&format!("new-{id}-")) || name.starts_with(&format!("old-{id}-")) {
                clear_entry(&trash, &name).ok();
            }
        }
        Ok(())
    }

    /// Removes what calls that were killed have left of any lease. What another call still writes to is left for the
    /// next time.
    pub fn empty_trash(&self) -> Result<()> {
        let trash = self.trash()?;
        for name in trash.names().context("listing the trash")? {
            clear_entry(&trash, &name).ok();
        }
        Ok(())
    }

    /// Ends a lease: its directory leaves the list at once and is removed then.
    pub fn trash_lease(&self, guard: Guard<'_>) -> Result<()> {
        let trash = self.trash()?;
        let id = guard.lease.id.as_str();
        let name = format!("old-{id}-{}", random_hex(4).context("reading random bits")?);
        // Before the lease goes: a call that is killed here must not leave a profile that seems never to have ended.
        if let (Loaded::Whole(record), Ok(Some(ssh))) = (guard.lease.load(), self.root.subdir("ssh")) {
            Names::new(ssh).forget(&record, guard.lease.path(), Now::read());
        }
        let home = self.home(guard.lease.place).context("opening the directory of the leases")?;
        let moved = home.rename(id, &trash, &name).and_then(|()| home.sync());
        moved.with_context(|| format!("removing lease {id}"))?;
        // Gone is gone: what another call still writes there goes with the next clearing.
        trash.remove_tree(&name).ok();
        self.clear(&guard.lease.id).ok();
        Ok(())
    }

    /// Writes down a lease that an operator gave up, for good.
    pub fn log_forgotten(&self, line: &str) -> io::Result<()> {
        self.root.append_line("forgotten.jsonl", line)
    }

    /// Remembers where a lease's work directory will be, for those who look for what is left of it.
    pub fn remember_work_root(&self, submit: Option<&LoginHost>, path: &Path) -> io::Result<()> {
        if self.writable { work_roots::remember(&self.root, submit, path) } else { Ok(()) }
    }

    /// Where leases had their work directories, on this host or a login host.
    pub fn work_roots(&self, submit: Option<&LoginHost>) -> io::Result<Vec<PathBuf>> {
        work_roots::of(&self.root, submit)
    }

    fn trash(&self) -> Result<Dir> {
        self.root.make_subdir("trash").context("opening the trash")
    }
}

/// What `work` makes of each item, in their order. Many are worked on side by side: where a state dir lies on a network file system
/// each lease that is read is some round trips to its server.
pub fn each<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let share = items.len().div_ceil(THREADS).max(FEWEST_EACH);
    let work_on = |items: &[I]| -> Vec<T> { items.iter().map(&work).collect() };
    let (first, others) = items.split_at(share.min(items.len()));
    std::thread::scope(|scope| {
        let work_on = &work_on;
        let others: Vec<_> = others
            .chunks(share)
            .map(|items| (items, std::thread::Builder::new().spawn_scoped(scope, move || work_on(items))))
            .collect();
        let mut all = work_on(first);
        for (items, thread) in others {
            // Where no thread could be had, or one broke off, it is done here.
            all.extend(thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| work_on(items)));
        }
        all
    })
}

fn ids_in(home: &Dir) -> Result<Vec<LeaseId>> {
    let names = home.names().with_context(|| format!("listing {}", home.path().display()))?;
    Ok(names.iter().filter_map(|name| LeaseId::parse(name)).collect())
}

/// Removes an entry of the trash unless the call that makes it is alive.
fn clear_entry(trash: &Dir, name: &str) -> Result<()> {
    if !name.starts_with("new-") {
        return trash.remove_tree(name).context("emptying the trash");
    }
    let Some((aside, _lock)) = set_aside(trash, name)? else { return Ok(()) };
    trash.remove_tree(&aside).context("emptying the trash")
}

/// Takes the place of a lease that is being made from the call that makes it, if that has died. Under its new name nobody makes
/// it any more: who opened the directory before and locks it after its lock file was removed finds that it lies elsewhere.
fn set_aside(trash: &Dir, name: &str) -> Result<Option<(String, Option<Lock>)>> {
    let lock = match trash.subdir(name) {
        Ok(Some(dir)) => match dir.lock("lock", Duration::ZERO) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Ok(None),
            // It has just become a lease.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("looking into the trash"),
        },
        Ok(None) => return Ok(None),
        // No directory, so none that is being made.
        Err(_) => None,
    };
    let aside = name.replacen("new-", "old-", 1);
    trash.rename(name, trash, &aside).context("emptying the trash")?;
    Ok(Some((aside, lock)))
}

fn taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

#[cfg(test)]
pub mod tests {
    use super::super::record::tests::record;
    use super::*;

    pub fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(&temp.path().join("state")).unwrap();
        (temp, store)
    }

    #[test]
    fn a_lease_appears_whole_once_and_goes() {
        let (_temp, store) = store();
        let record = record();
        assert!(store.create(&record.identity, |_, _| Ok(record.clone())).unwrap());
        assert!(!store.create(&record.identity, |_, _| Ok(record.clone())).unwrap());
        assert_eq!(store.ids().unwrap(), [record.lease_id().clone()]);
        let lease = store.lease(record.lease_id()).unwrap().unwrap();
        let Loaded::Whole(read) = lease.load() else { panic!("damaged") };
        assert_eq!(*read, record);
        store.trash_lease(lease.lock(Duration::ZERO).unwrap().held()).unwrap();
        assert!(store.ids().unwrap().is_empty());
        assert!(store.trash().unwrap().names().unwrap().is_empty());
        assert!(matches!(lease.lock(Duration::ZERO), Ok(Locked::Gone)));
    }

    #[test]
    fn what_is_worked_on_side_by_side_keeps_its_order() {
        for count in [0, 1, FEWEST_EACH - 1, FEWEST_EACH, FEWEST_EACH + 1, THREADS * FEWEST_EACH, 1001] {
            let items: Vec<_> = (0..count).collect();
            let threads = std::sync::Mutex::new(std::collections::HashSet::new());
            let done = each(&items, |n| {
                threads.lock().unwrap().insert(std::thread::current().id());
                *n
            });
            assert_eq!(done, items);
            assert_eq!(threads.into_inner().unwrap().len(), count.div_ceil(FEWEST_EACH).min(THREADS));
        }
    }

    #[test]
    fn a_place_that_is_cleared_cannot_be_locked_any_more() {
        let (_temp, store) = store();
        let trash = store.trash().unwrap();
        let making = trash.make_subdir("new-x").unwrap();
        let (aside, _lock) = set_aside(&trash, "new-x").unwrap().unwrap();
        assert!(trash.subdir(&aside).unwrap().unwrap().unlink("lock").unwrap());
        let error = making.lock("lock", Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(set_aside(&trash, "new-x").unwrap().is_none());
    }

    /// Each call clears what it takes for the leftovers of others.
    #[test]
    fn many_make_a_lease_at_once_and_one_has_made_it() {
        let (temp, store) = store();
        let state = temp.path().join("state");
        drop(store);
        for _ in 0..8 {
            let start = std::sync::Barrier::new(64);
            let made: usize = std::thread::scope(|scope| {
                let calls: Vec<_> = (0..64)
                    .map(|_| {
                        scope.spawn(|| {
                            let store = Store::open(&state).unwrap();
                            let record = record();
                            start.wait();
                            store.create(&record.identity, |_, _| Ok(record.clone())).unwrap()
                        })
                    })
                    .collect();
                calls.into_iter().map(|call| usize::from(call.join().unwrap())).sum()
            });
            assert_eq!(made, 1);
            let store = Store::open(&state).unwrap();
            let lease = store.lease(record().lease_id()).unwrap().unwrap();
            store.trash_lease(lease.lock(Duration::ZERO).unwrap().held()).unwrap();
        }
    }
}
