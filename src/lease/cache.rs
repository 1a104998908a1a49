//! What was read of the leases' files, kept for the next call: who lists thousands of leases reads only what has changed since.
//!
//! ```text
//! <state-dir>/cache/leases        a line with the format; then for each lease a line `<leaseId> <checksum> <bytes>` and so many bytes of JSON
//! <state-dir>/cache/leases-lock   held by the one that writes it
//! ```
//! It holds what stood in files, no conclusions: what comes from it is understood, or not, like what is read. A file counts while its lease's
//! directory and itself are, by inode, time of change and size, what they were when it was read; both are asked for each time, and on
//! a network file system from its server. Two changes within one tick of a clock look alike, so only what had not changed for two seconds
//! when it was read is kept, by the file system's own clock. So hosts that share a home share the cache; of two that write it the last one wins.
//!
//! Nobody acts by it: who changes a lease reads it anew, under its lock.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::dir::MAX_FILE_BYTES;
use super::limits::{self, Limits};
use super::store::{Loaded, Store};
use super::{LeaseId, acquirer};
use crate::files::{Dir, Stamp, YOUNG};

const FILE: &str = "leases";
const LOCK: &str = "leases-lock";
const TITLE: &str = "lease-files/";
const FORMAT: u32 = 1;

/// Ten thousand leases are 20 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Fewer leases are read as soon as a cache is.
const FEWEST: usize = 100;

/// The cache is written anew when one lease of so many was not in it: to write them all costs more than to read a few.
const ONE_IN: usize = 10;

/// Reads files of leases, what is as it was from the cache.
#[derive(Debug)]
pub struct CachedFiles<'a> {
    store: &'a Store,
    /// Where the cache lies; `None` when it is not used.
    dir: Option<Dir>,
    kept: Kept,
    began: Instant,
    /// What was read because the cache did not have it.
    fresh: Mutex<HashMap<LeaseId, Entry>>,
}

/// The cache as it was found.
#[derive(Debug, Default)]
struct Kept {
    text: String,
    entries: HashMap<LeaseId, Place>,
}

/// Where an entry stands in the text.
#[derive(Debug, Clone)]
struct Place {
    checksum: u64,
    at: Range<usize>,
}

/// What was read of one lease.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    directory: Stamp,
    files: Vec<File>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    name: String,
    /// `None` when there was no such file.
    content: Option<(Stamp, String)>,
}

impl Kept {
    /// Reads a cache; one that is damaged or of another format is as none.
    fn parse(text: String) -> Kept {
        Kept::entries(&text).map(|entries| Kept { entries, text }).unwrap_or_default()
    }

    fn entries(text: &str) -> Option<HashMap<LeaseId, Place>> {
        let (title, mut rest) = text.split_once('\n')?;
        if format_of(title)? != FORMAT {
            return None;
        }
        let mut entries = HashMap::new();
        while !rest.is_empty() {
            let (head, body) = rest.split_once('\n')?;
            let mut words = head.split(' ');
            let id = LeaseId::parse(words.next()?)?;
            let checksum = u64::from_str_radix(words.next()?, 16).ok()?;
            let bytes: usize = words.next()?.parse().ok()?;
            let at = text.len() - body.len();
            rest = body.get(bytes..)?;
            entries.insert(id, Place { checksum, at: at..at + bytes });
        }
        Some(entries)
    }

    /// The text of an entry, if it is whole.
    fn body(&self, id: &LeaseId) -> Option<&str> {
        let place = self.entries.get(id)?;
        self.text.get(place.at.clone()).filter(|body| checksum(id, body) == place.checksum)
    }

    fn entry(&self, id: &LeaseId) -> Option<Entry> {
        serde_json::from_str(self.body(id)?).ok()
    }
}

fn format_of(title: &str) -> Option<u32> {
    title.strip_prefix(TITLE)?.parse().ok()
}

/// Tells damage. A compiler may change how it is made; then the cache of a program that was built by another one is as none.
fn checksum(id: &LeaseId, body: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(id.as_str().as_bytes());
    hasher.write(body.as_bytes());
    hasher.finish()
}

fn push(text: &mut String, id: &LeaseId, body: &str) {
    text.push_str(&format!("{id} {:x} {}\n", checksum(id, body), body.len()));
    text.push_str(body);
}

impl Entry {
    /// Whether all of it had last been changed by then.
    fn is_settled(&self, by: Duration) -> bool {
        let files = self.files.iter().filter_map(|file| file.content.as_ref()).map(|(stamp, _)| stamp);
        files.chain([&self.directory]).all(|stamp| stamp.changed() <= by)
    }
}

impl<'a> CachedFiles<'a> {
    /// For the reading of so many leases.
    pub fn open(store: &'a Store, count: usize) -> CachedFiles<'a> {
        let began = Instant::now();
        let dir = if count >= FEWEST { store.cache().ok() } else { None };
        let read = dir.as_ref().and_then(|dir| dir.read(FILE, MAX_BYTES).ok().flatten());
        let text = read.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        // That of a newer program stays.
        let newer = text.lines().next().and_then(format_of).is_some_and(|format| format > FORMAT);
        CachedFiles { store, dir: dir.filter(|_| !newer), kept: Kept::parse(text), began, fresh: Mutex::default() }
    }

    /// Does `work` with the files of one lease.
    pub fn lease<T>(&self, id: &LeaseId, work: impl FnOnce(&mut CachedLease<'_>) -> T) -> T {
        // Before its files: what changes while they are read shows the next time.
        let directory = self.dir.as_ref().and_then(|_| self.store.stamp(id, None).ok());
        let kept = directory.and_then(|now| self.kept.entry(id).filter(|entry| entry.directory == now));
        let entry = kept.or_else(|| directory.map(|directory| Entry { directory, files: vec![] }));
        let mut lease = CachedLease { store: self.store, id, entry, changed: false };
        let result = work(&mut lease);
        if let Some(entry) = lease.entry.filter(|_| lease.changed) {
            self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), entry);
        }
        result
    }

    /// Writes the cache of these leases anew where enough was not in it. Losing it costs a later call the reading.
    pub fn keep(self, ids: &[LeaseId]) {
        self.keep_settled(ids, YOUNG);
    }

    fn keep_settled(self, ids: &[LeaseId], young: Duration) {
        let mut fresh = self.fresh.into_inner().unwrap_or_else(PoisonError::into_inner);
        let enough = |fresh: &HashMap<_, _>| fresh.len() * ONE_IN >= ids.len();
        let Some(dir) = self.dir.filter(|_| enough(&fresh)) else { return };
        let Ok(Some(_lock)) = dir.lock(LOCK, Duration::ZERO) else { return };
        // When the first of it was read, at the latest.
        let Some(began) = dir.clock().ok().and_then(|now| now.checked_sub(self.began.elapsed())) else { return };
        fresh.retain(|_, entry| entry.is_settled(began.saturating_sub(young)));
        if !enough(&fresh) {
            return;
        }
        let mut text = format!("{TITLE}{FORMAT}\n");
        for id in ids {
            match fresh.get(id).map(serde_json::to_string) {
                Some(Ok(body)) => push(&mut text, id, &body),
                _ => self.kept.body(id).into_iter().for_each(|body| push(&mut text, id, body)),
            }
        }
        dir.put(FILE, text.as_bytes()).ok();
    }
}

/// The files of one lease.
#[derive(Debug)]
pub struct CachedLease<'a> {
    store: &'a Store,
    id: &'a LeaseId,
    /// What may be taken from the cache and put there; `None` when it is not used.
    entry: Option<Entry>,
    /// Whether the entry is no longer the one of the cache.
    changed: bool,
}

impl CachedLease<'_> {
    /// Reads the lease, see [`Store::load`].
    pub fn load(&mut self) -> Result<Option<Loaded>> {
        let (store, id) = (self.store, self.id);
        store.load_by(id, |name| self.read(name))
    }

    /// How long it may live and be idle.
    pub fn limits(&mut self) -> Limits {
        Limits::parse(self.read(limits::FILE))
    }

    /// Whether a call here can judge the lease's acquirer, and it does not live.
    pub fn has_lost_its_acquirer(&mut self) -> bool {
        acquirer::is_here(self.read(acquirer::PLACE))
            && self.store.lease(self.id).is_ok_and(|dir| dir.is_some_and(|dir| !acquirer::lives(&dir)))
    }

    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let read = || self.store.read(self.id, name, MAX_FILE_BYTES);
        let Some(entry) = &mut self.entry else { return read() };
        let stamp = || self.store.stamp(self.id, Some(name));
        if let Some(at) = entry.files.iter().position(|file| file.name == name) {
            match &entry.files[at].content {
                // Another name would be another stamp of the directory.
                None => return Ok(None),
                Some((then, text)) if stamp().is_ok_and(|now| now == *then) => {
                    return Ok(Some(text.clone().into_bytes()));
                }
                Some(_) => drop(entry.files.swap_remove(at)),
            }
        }
        // First, as with the directory.
        let stamp = stamp();
        let read = read()?;
        let content = match (&read, stamp) {
            (None, Err(error)) if error.kind() == io::ErrorKind::NotFound => Some(None),
            (Some(bytes), Ok(stamp)) => std::str::from_utf8(bytes).ok().map(|text| Some((stamp, text.to_owned()))),
            _ => None,
        };
        if let Some(content) = content {
            entry.files.push(File { name: name.to_owned(), content });
            self.changed = true;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
