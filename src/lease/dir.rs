//! One lease's directory: what is read of it by anybody, and written only by the holder of its lock.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::record::{FORMAT, Record};
use super::{Identity, LeaseId};
use crate::failure::{Failure, Kind};
use crate::files::{Dir, Lock};

/// More than any record or note that we write.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// What to do where files cannot be locked (hazards.md D8). Going on without a lock would pretend that one was held.
pub(super) const NO_LOCKS: &str = "the state dir needs a file system with locks: pass a --state-dir on another one, such as a local \
     disk, or have it mounted with them (Lustre: flock; NFS: a running lock manager), then repeat the call";

/// When Slurm first denied the job, where the record does not say it yet: `<nonce> <seconds>`.
const DENIED: &str = "denied";

/// One lease's directory.
#[derive(Debug)]
pub struct LeaseDir {
    pub id: LeaseId,
    pub(super) dir: Dir,
    pub(super) writable: bool,
}

/// What a lease's directory holds.
#[derive(Debug)]
pub enum Loaded {
    Whole(Box<Record>),
    /// The record cannot be used; the identity is complete all the same.
    Damaged {
        identity: Identity,
        why: String,
    },
}

impl LeaseDir {
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Whether the lease has not been released since this was opened.
    pub fn is_in_place(&self) -> bool {
        self.dir.is_in_place()
    }

    /// Reads the lease; damage is not an error but a state that must stay visible.
    pub fn load(&self) -> Loaded {
        let record = match self.dir.read("record.json", MAX_FILE_BYTES) {
            Ok(Some(bytes)) => serde_json::from_slice::<Record>(&bytes).map_err(|error| error.to_string()),
            Ok(None) => Err("record.json is missing".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let why = match record {
            Ok(record) if record.identity.lease_id == self.id => {
                let denied = self.noted_denial(&record).or(record.denied);
                return Loaded::Whole(Box::new(Record { denied, ..record }));
            }
            Ok(record) => format!("record.json is that of lease {}", record.identity.lease_id),
            Err(why) => match self.format() {
                Some(format) if format > u64::from(FORMAT) => {
                    format!("a newer slurm-sandbox wrote it in format {format}, which this one cannot read: {why}")
                }
                _ => why,
            },
        };
        Loaded::Damaged { identity: self.identity(), why }
    }

    /// The format that a record claims which cannot be read as one of ours.
    fn format(&self) -> Option<u64> {
        let bytes = self.dir.read("record.json", MAX_FILE_BYTES).ok().flatten()?;
        serde_json::from_slice::<serde_json::Value>(&bytes).ok()?.get("format")?.as_u64()
    }

    /// Whether this program may write a record here: neither the tree nor the record is a newer one's.
    pub fn may_write(&self, record: &Record) -> bool {
        self.writable && record.format <= FORMAT
    }

    /// The first denial that was noted beside the record, if it is one of this attempt.
    fn noted_denial(&self, record: &Record) -> Option<i64> {
        let bytes = self.dir.read(DENIED, 64).ok()??;
        let text = String::from_utf8_lossy(&bytes);
        let (nonce, first) = text.trim_end().split_once(' ')?;
        if nonce == record.attempt.nonce.as_str() { first.parse().ok() } else { None }
    }

    /// The identity from `identity.json`, or one made up that the client accepts.
    fn identity(&self) -> Identity {
        let read = self.dir.read("identity.json", MAX_FILE_BYTES).ok().flatten();
        let read = read.and_then(|bytes| serde_json::from_slice::<Identity>(&bytes).ok());
        let good = read.filter(|identity| {
            identity.lease_id == self.id && Identity::parse(self.id.as_str(), &identity.slug, &identity.name).is_ok()
        });
        good.unwrap_or_else(|| {
            let slug = format!("damaged-{}", &self.id.as_str()[4..]);
            let name = super::client_name(&self.id, &slug);
            Identity { lease_id: self.id.clone(), slug, name }
        })
    }

    /// Takes the lease's lock; `Ok(None)` when it stayed busy, [`Kind::NotFound`] when the lease went away meanwhile.
    pub fn lock(&self, patience: Duration) -> Result<Option<Guard<'_>>> {
        match self.dir.lock("lock", patience) {
            Ok(lock) => Ok(lock.map(|lock| Guard { lease: self, _lock: lock })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Failure::new(Kind::NotFound, format!("lease {} was released meanwhile", self.id)).into())
            }
            Err(error) => {
                let remedy = match crate::files::locks_nothing(&error) {
                    true => NO_LOCKS,
                    false => "check space, quota and permissions of the state dir, then repeat the call",
                };
                Err(Failure::new(Kind::Storage, format!("locking lease {}", self.id))
                    .remedy(remedy)
                    .cause(error.to_string())
                    .into())
            }
        }
    }

    /// Adds a line to the lease's history; losing one harms nobody.
    pub fn note(&self, now: i64, event: &str, detail: &str) {
        let line = serde_json::json!({"at": now, "event": event, "detail": crate::text::line(detail)}).to_string();
        self.dir.append_line("events.jsonl", &line).ok();
    }

    /// The last bytes of the lease's history.
    pub fn history(&self, max: u64) -> Option<String> {
        let bytes = self.dir.read_tail("events.jsonl", max).ok().flatten()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The public half of the lease's key.
    pub fn public_key(&self, record: &Record) -> Result<Vec<u8>> {
        let name = record.key.file_name().and_then(|name| name.to_str()).context("the record's key has no name")?;
        let bytes = self.dir.read(&format!("{name}.pub"), MAX_FILE_BYTES).context("reading the public key")?;
        bytes.context("the public key is missing")
    }

    /// Whether host keys were pinned.
    pub fn has_known_hosts(&self) -> bool {
        matches!(self.dir.read("known_hosts", MAX_FILE_BYTES), Ok(Some(bytes)) if !bytes.is_empty())
    }
}

/// The right to write a lease's record.
#[derive(Debug)]
pub struct Guard<'a> {
    pub lease: &'a LeaseDir,
    _lock: Lock,
}

impl Guard<'_> {
    /// Writes the record durably; one of a newer version is an error.
    pub fn save(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(record)?;
        // The note goes first: one that outlived its record would make the next denial the second.
        self.write(record, |dir| dir.unlink(DENIED).and_then(|_| dir.write("record.json", &bytes)))
    }

    fn write(&self, record: &Record, write: impl FnOnce(&Dir) -> io::Result<()>) -> Result<()> {
        self.must_be_ours(record)?;
        write(&self.lease.dir).map_err(|error| {
            Failure::new(Kind::Storage, format!("writing the record of {}", record.shown()))
                .remedy("check space, quota and permissions of the state dir")
                .cause(error.to_string())
                .into()
        })
    }

    /// Refuses what would have to be written into a record of a newer version.
    pub fn must_be_ours(&self, record: &Record) -> Result<(), Failure> {
        if self.lease.may_write(record) {
            return Ok(());
        }
        let what = format!("{}: a newer slurm-sandbox wrote its record; nothing was touched", record.shown());
        Err(Failure::new(Kind::Storage, what).remedy("use that version, or release the lease"))
    }

    /// Writes down what was learned of a lease, where that only spares the next call the same question. What a newer
    /// version wrote stays as it is, so that its lease can be listed and released all the same.
    pub fn keep(&self, record: &Record) -> Result<()> {
        if self.lease.may_write(record) { self.save(record) } else { Ok(()) }
    }

    /// The same for what a look at Slurm has changed. A first denial alone is noted beside the record without being
    /// synced: after an outage each of a thousand leases has one, and one that gets lost costs ten seconds more.
    pub fn keep_learned(&self, before: &Record, record: &Record) -> Result<()> {
        match record.denied {
            Some(first) if *before == (Record { denied: before.denied, ..record.clone() }) => {
                let note = format!("{} {first}\n", record.attempt.nonce);
                if self.lease.may_write(record) {
                    self.write(record, |dir| dir.put(DENIED, note.as_bytes()))
                } else {
                    Ok(())
                }
            }
            _ => self.keep(record),
        }
    }

    /// Pins the host keys where the client looks for them: beside the key.
    pub fn write_known_hosts(&self, text: &str) -> Result<()> {
        self.lease.dir.write_part("known_hosts", text.as_bytes()).context("writing known_hosts")
    }

    /// Keeps a damaged record for later inspection.
    pub fn set_aside(&self, now: i64) {
        self.lease.dir.rename("record.json", &self.lease.dir, &format!("record.json.damaged-{now}")).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::store::tests::store;
    use super::*;

    #[test]
    fn damage_keeps_a_valid_identity() {
        let (_temp, store) = store();
        let record = record();
        store.create(&record.identity, |_, _| Ok(record.clone())).unwrap();
        let lease = store.lease(record.lease_id()).unwrap().unwrap();
        for bytes in [&b"{\"format\":1"[..], b"", b"\xff\xfe"] {
            lease.dir.write("record.json", bytes).unwrap();
            let Loaded::Damaged { identity, .. } = lease.load() else { panic!("whole") };
            assert_eq!(identity, record.identity);
        }
        lease.dir.write("identity.json", b"{}").unwrap();
        let Loaded::Damaged { identity, .. } = lease.load() else { panic!("whole") };
        assert_eq!(identity.slug, "damaged-4b38f35d4e31");
    }

    #[test]
    fn a_first_denial_is_a_note_until_the_record_is_written() {
        let (_temp, store) = store();
        let before = record();
        store.create(&before.identity, |_, _| Ok(before.clone())).unwrap();
        let lease = store.lease(before.lease_id()).unwrap().unwrap();
        let guard = lease.lock(Duration::ZERO).unwrap().unwrap();
        let read = || match lease.load() {
            Loaded::Whole(record) => *record,
            Loaded::Damaged { why, .. } => panic!("{why}"),
        };
        let written = || lease.dir.read("record.json", MAX_FILE_BYTES).unwrap();
        let durable = written();
        let denied = Record { denied: Some(2000), ..before.clone() };
        guard.keep_learned(&before, &denied).unwrap();
        assert_eq!((read(), written()), (denied.clone(), durable.clone()));
        // A crash may empty it.
        lease.dir.put(DENIED, b"").unwrap();
        assert_eq!(read(), before);
        // That of an attempt before counts for nothing.
        lease.dir.put(DENIED, b"ffffffffffffffff 2000\n").unwrap();
        assert_eq!(read(), before);
        guard.keep_learned(&before, &denied).unwrap();
        guard.keep_learned(&denied, &before).unwrap();
        assert_eq!((read(), written()), (before.clone(), durable));
        // More than the denial goes into the record.
        let adopted = Record { phase: crate::lease::record::Phase::Releasing, ..denied };
        guard.keep_learned(&before, &adopted).unwrap();
        assert_eq!(read(), adopted);
        assert!(lease.dir.read(DENIED, 64).unwrap().is_none());
    }

    #[test]
    fn a_newer_record_is_read_and_never_written() {
        let (_temp, store) = store();
        let newer = Record { format: FORMAT + 1, ..record() };
        store.create(&newer.identity, |_, _| Ok(newer.clone())).unwrap();
        let lease = store.lease(newer.lease_id()).unwrap().unwrap();
        assert!(matches!(lease.load(), Loaded::Whole(_)));
        assert!(lease.lock(Duration::ZERO).unwrap().unwrap().save(&newer).is_err());
        let before = lease.dir.read("record.json", MAX_FILE_BYTES).unwrap();
        let learned = Record { denied: Some(7), ..newer };
        lease.lock(Duration::ZERO).unwrap().unwrap().keep(&learned).unwrap();
        assert_eq!(lease.dir.read("record.json", MAX_FILE_BYTES).unwrap(), before);
    }

    #[test]
    fn a_newer_record_that_cannot_be_read_says_so() {
        let (_temp, store) = store();
        let record = record();
        store.create(&record.identity, |_, _| Ok(record.clone())).unwrap();
        let lease = store.lease(record.lease_id()).unwrap().unwrap();
        lease.dir.write("record.json", b"{\"format\": 9, \"phase\": \"hibernating\"}").unwrap();
        let Loaded::Damaged { identity, why } = lease.load() else { panic!("whole") };
        assert_eq!(identity, record.identity);
        assert!(why.contains("newer") && why.contains("format 9"), "{why}");
    }
}
