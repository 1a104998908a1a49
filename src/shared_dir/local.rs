//! The shared dir as files of this machine. Everything here may find a file system that hangs, see [`super::guarded`].

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::guarded::run;
use super::{
    ASIDE, AttemptDir, Error, Marked, OLD_ENOUGH, Permit, Removed, Snapshot, Swept, TREE_FORMAT, Watch, aside_name,
    clearing, in_parts, is_leftover, work_entry,
};
use crate::clock::epoch;
use crate::files::{Cleared, Dir, Part};
use crate::lease::{LeaseId, Nonce};
use crate::shared_dir::endpoint_file;

/// Most that one sweep takes on.
const MOST_SWEPT: usize = 1000;

/// The shared dir of one lease on this machine.
#[derive(Debug)]
pub struct Local(pub AttemptDir);

impl Local {
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AttemptDir) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let attempt = self.0.clone();
        run(&self.0.root, Duration::ZERO, move || work(&attempt))
    }

    /// The same for what also removes, within the time that a call has for removals.
    fn run_clearing<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AttemptDir, Instant) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        clearing(|time| {
            let attempt = self.0.clone();
            run(&self.0.root, time, move || work(&attempt, Instant::now() + time))
        })
    }

    pub fn grant(&self, public_key: &[u8]) -> Result<(), Error> {
        let public_key = public_key.to_owned();
        self.run(move |attempt| attempt.grant(&public_key))
    }

    pub fn revoke(&self) -> Result<(), Error> {
        self.run_clearing(AttemptDir::revoke)
    }

    pub fn permit(&self) -> Permit {
        self.run(|attempt| Ok(attempt.permit())).unwrap_or(Permit::Unknown)
    }

    pub fn snapshot(&self, watch: &mut Watch) -> Snapshot {
        let mut taken = std::mem::take(watch);
        let looked = self.run(move |attempt| {
            let snapshot = taken.poll(attempt);
            Ok((snapshot, taken))
        });
        match looked {
            Ok((snapshot, taken)) => {
                *watch = taken;
                snapshot
            }
            Err(error) => Snapshot { notice: Err(error), ..Snapshot::empty() },
        }
    }

    pub fn ending(&self) -> Option<Vec<u8>> {
        self.run(|attempt| Ok(attempt.dir()?.read("ending.json", endpoint_file::MAX_BYTES)?)).ok()?
    }

    pub fn part(&self, name: &str, start: Option<u64>, max: u64) -> Option<Part> {
        let name = name.to_owned();
        self.run(move |attempt| Ok(attempt.dir()?.read_part(&name, start, max)?)).ok()?
    }

    pub fn put(&self, name: &str, text: &str) -> Result<(), Error> {
        let (name, text) = (name.to_owned(), text.to_owned());
        self.run(move |attempt| Ok(attempt.dir()?.put(&name, text.as_bytes())?))
    }

    pub fn remove(&self) -> Result<Removed, Error> {
        self.run_clearing(|attempt, until| {
            let root = open(&attempt.root)?;
            let Some(lease) = attempt.of_another(&root) else {
                return move_aside(&root, attempt.lease.as_str(), &root, &attempt.lease, until);
            };
            let own = attempt.own_nonces();
            let moved = own.map(|nonce| move_aside(&lease, nonce.as_str(), &root, &attempt.lease, until));
            let moved = moved.collect::<Result<Vec<_>, Error>>()?;
            let unfinished = moved.contains(&Removed::AsideUnfinished);
            Ok(if unfinished { Removed::AsideUnfinished } else { Removed::Gone })
        })
    }
}

impl AttemptDir {
    fn grant(&self, public_key: &[u8]) -> Result<(), Error> {
        let root = Dir::private_root(&self.root)?;
        match root.read("format", 16)? {
            None => root.write("format", format!("{TREE_FORMAT}\n").as_bytes())?,
            Some(bytes) => match String::from_utf8_lossy(&bytes).trim().parse::<u32>() {
                Ok(format) if format <= TREE_FORMAT => {}
                _ => {
                    let file = root.path().join("format");
                    return Err(Error::Failed(format!("a newer slurm-sandbox wrote {}", file.display())));
                }
            },
        }
        let lease = root.make_subdir(self.lease.as_str())?;
        let attempt = lease.make_subdir(self.nonce.as_str())?;
        attempt.make_subdir("jobs")?.make_subdir(self.lease.as_str())?;
        attempt.put("authorized_keys", public_key)?;
        Ok(lease.write("permit", self.permit_text().as_bytes())?)
    }

    /// The lease's directory, where another state dir's attempt has the permit: one with a nonce that is not ours, and a directory.
    fn of_another(&self, root: &Dir) -> Option<Dir> {
        let lease = root.subdir(self.lease.as_str()).ok()??;
        let text = lease.read("permit", 64).ok()??;
        let holder = Nonce::parse(std::str::from_utf8(&text).ok()?.strip_suffix('\n')?)?;
        let another = self.own_nonces().all(|own| *own != holder) && lease.subdir(holder.as_str()).ok()?.is_some();
        another.then_some(lease)
    }

    /// What sandboxed code put in the place of the permit or of the whole directory is moved away, never followed.
    fn revoke(&self, until: Instant) -> Result<(), Error> {
        let root = open(&self.root)?;
        if self.of_another(&root).is_some() {
            return Ok(());
        }
        let name = self.lease.as_str();
        let revoked = match root.subdir(name) {
            Ok(None) if root.lists(name)? => Err(Error::Failed(format!("{name} is listed but cannot be opened"))),
            Ok(None) => Ok(()),
            Ok(Some(lease)) => match lease.unlink("permit") {
                Ok(_) => Ok(lease.sync()?),
                Err(_) => move_aside(&lease, "permit", &root, &self.lease, until).map(|_| ()),
            },
            Err(error) => Err(error.into()),
        };
        revoked.or_else(|_| move_aside(&root, name, &root, &self.lease, until).map(|_| ()))
    }

    fn permit(&self) -> Permit {
        let held = || -> io::Result<Permit> {
            match Dir::open_root(&self.root)?.subdir(self.lease.as_str())? {
                Some(lease) => self.permit_in(&lease),
                None => Ok(Permit::Unknown),
            }
        };
        held().unwrap_or(Permit::Unknown)
    }

    /// What the lease's directory says.
    pub(super) fn permit_in(&self, lease: &Dir) -> io::Result<Permit> {
        Ok(match lease.holds("permit", self.permit_text().as_bytes())? {
            Some(true) => Permit::Held,
            Some(false) | None => Permit::Lost,
        })
    }

    fn find(&self) -> io::Result<Option<Dir>> {
        match Dir::open_root(&self.root)?.subdir(self.lease.as_str())? {
            Some(lease) => lease.subdir(self.nonce.as_str()),
            None => Ok(None),
        }
    }

    fn dir(&self) -> Result<Dir, Error> {
        self.find()?.ok_or_else(|| Error::Failed(format!("the directory {} is gone", self.attempt_path().display())))
    }
}

fn open(root: &Path) -> Result<Dir, Error> {
    Dir::open_root(root).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Away(root.to_owned()),
        _ => Error::Failed(format!("opening {}: {error}", root.display())),
    })
}

/// Takes a name away by one rename, durably; then as much of what it named as there is time for.
pub(super) fn move_aside(
    from: &Dir,
    name: &str,
    root: &Dir,
    lease: &LeaseId,
    until: Instant,
) -> Result<Removed, Error> {
    let aside = aside_name(lease)?;
    match from.rename(name, root, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound && !from.lists(name)? => {
            // An earlier call may have been killed before this was durable.
            from.sync()?;
            return Ok(Removed::Gone);
        }
        Err(error) => return Err(Error::Failed(format!("moving {} away: {error}", from.path().join(name).display()))),
    }
    root.sync()?;
    from.sync()?;
    Ok(match root.clear(&aside, until) {
        Cleared::All => Removed::Gone,
        Cleared::TimeUp | Cleared::Stuck(_) => Removed::AsideUnfinished,
    })
}

/// Removes what earlier calls had to leave.
pub fn sweep(root: &Path, time: Duration) -> Result<Swept, Error> {
    let place = root.to_owned();
    let removed = run(root, Duration::ZERO, move || {
        let root = open(&place)?;
        let now = epoch();
        let old = |name: &String| {
            let written = root.modified(name).filter(|at| *at >= 0);
            written.is_some_and(|at| now.saturating_sub(at) > OLD_ENOUGH.as_secs() as i64)
        };
        for name in root.some_names(MOST_SWEPT, is_leftover)?.iter().filter(|name| old(name)) {
            root.unlink(name).ok();
        }
        Ok(())
    });
    match removed {
        Err(Error::Away(_)) => Ok(Swept::default()),
        Err(error) => Err(error),
        Ok(()) => clear_asides(root, time),
    }
}

/// Removes what was moved aside. The time is shared out, so that one tree does not take it from all others.
fn clear_asides(root: &Path, time: Duration) -> Result<Swept, Error> {
    in_parts(time, |part| {
        let place = root.to_owned();
        run(root, part, move || {
            let until = Instant::now() + part;
            let root = open(&place)?;
            let names = root.some_names(MOST_SWEPT, |name| name.starts_with(ASIDE))?;
            let mut swept = Swept::default();
            for (index, name) in names.iter().enumerate() {
                let others = u32::try_from(names.len() - index).unwrap_or(u32::MAX);
                let share = until.saturating_duration_since(Instant::now()) / others;
                match root.clear(name, Instant::now() + share) {
                    Cleared::All => swept.removed += 1,
                    Cleared::TimeUp => swept.unfinished += 1,
                    Cleared::Stuck(error) => swept.stuck.push(error.to_string()),
                }
            }
            Ok(swept)
        })
    })
}

/// More than a runner's mark, a line of a few names.
const MARK_BYTES: u64 = 4096;

/// What a work root holds of leases.
pub fn list_work_root(root: &Path) -> Result<Vec<String>, Error> {
    let place = root.to_owned();
    run(root, Duration::ZERO, move || match open(&place) {
        Ok(root) => Ok(root.some_names(MOST_SWEPT, |name| work_entry(name).is_some() && root.has_own_dir(name))?),
        Err(Error::Away(_)) => Ok(vec![]),
        Err(error) => Err(error),
    })
}

/// Removes these entries of a work root, and what was moved aside there.
pub fn clear_work_root(root: &Path, names: Vec<String>, time: Duration) -> Result<Swept, Error> {
    let place = root.to_owned();
    let mut stuck = run(root, Duration::ZERO, move || {
        let root = open(&place)?;
        let mut stuck = Vec::new();
        for name in names.iter().filter(|name| !name.starts_with(ASIDE) && root.has_own_dir(name)) {
            let Some(lease) = work_entry(name) else { continue };
            match root.rename(name, &root, &aside_name(&lease)?) {
                Ok(()) => remove_mark(&root, &lease, name),
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    stuck.push(format!("moving {} away: {error}", root.path().join(name).display()));
                }
                _ => {}
            }
        }
        Ok(stuck)
    })?;
    let mut swept = clear_asides(root, time)?;
    swept.stuck.append(&mut stuck);
    Ok(swept)
}

/// Removes the runner's mark beside a work directory that it had moved aside, unless another attempt has marked the place since.
fn remove_mark(root: &Dir, lease: &LeaseId, moved: &str) {
    let mark = format!(".{lease}.owner");
    let nonce = moved.rsplit('.').next().unwrap_or_default();
    let ours = |text: Vec<u8>| text.starts_with(format!("nonce={nonce} ").as_bytes());
    if root.read(&mark, MARK_BYTES).is_ok_and(|text| text.is_some_and(ours)) {
        root.unlink(&mark).ok();
    }
}

/// Whether a shared dir says that an attempt was handed out, for a lease whose record is lost. What a readable directory does
/// not list is not there; but the directory has to be a shared dir, not the place where one is mounted.
pub fn marked(root: &Path, lease: &LeaseId, nonce: &Nonce) -> Marked {
    let (place, lease, nonce) = (root.to_owned(), lease.clone(), nonce.clone());
    let marked = run(root, Duration::ZERO, move || {
        let mut dir = open(&place)?;
        if !dir.lists("format")? {
            return Ok(Marked::Unknown);
        }
        for name in [lease.as_str(), nonce.as_str()] {
            dir = match dir.subdir(name)? {
                Some(inner) => inner,
                None if dir.lists(name)? => return Ok(Marked::Unknown),
                None => return Ok(Marked::No),
            };
        }
        Ok(if dir.lists("answered")? { Marked::Yes } else { Marked::No })
    });
    marked.unwrap_or(Marked::Unknown)
}

/// The permit that a shared dir holds for a lease, for a lease whose record is lost.
pub fn permitted(root: &Path, lease: &LeaseId) -> Result<Option<Nonce>, Error> {
    let (place, lease) = (root.to_owned(), lease.clone());
    run(root, Duration::ZERO, move || {
        let Some(lease) = open(&place)?.subdir(lease.as_str())? else { return Ok(None) };
        let bytes = lease.read("permit", 64)?.unwrap_or_default();
        Ok(Nonce::parse(String::from_utf8_lossy(&bytes).trim_end()))
    })
}

/// Absolute paths without links and `..`, as far as they exist.
pub fn resolve(path: &Path) -> Result<std::path::PathBuf, Error> {
    let place = path.to_owned();
    run(path, Duration::ZERO, move || Ok(crate::files::resolve(&place)))
}
