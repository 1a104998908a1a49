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
            Err(why) => why,
        };
        Loaded::Damaged { identity: self.identity(), why }
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
            Err(error) => Err(Failure::new(Kind::Storage, format!("locking lease {}", self.id))
                .remedy("the file system of the state dir must support locks; pass a --state-dir on one that does")
                .cause(error.to_string())
                .into()),
        }
    }

    /// Adds a line to the lease's history; losing one harms nobody.
    pub fn note(&self, now: i64, event: &str, detail: &str) {
        let line = serde_json::json!({"at": now, "event": event, "detail": detail}).to_string();
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
    /// Writes the record durably.
    pub fn save(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(record)?;
        // The note goes first: one that outlived its record would make the next denial the second.
        self.write(record, |dir| dir.unlink(DENIED).and_then(|_| dir.write("record.json", &bytes)))
    }

    /// Writes down what a look at Slurm has changed of a record. A first denial alone is noted beside it without being
    /// synced: after an outage each of a thousand leases has one, and one that gets lost costs ten seconds more.
    pub fn save_learned(&self, before: &Record, record: &Record) -> Result<()> {
        match record.denied {
            Some(first) if *before == (Record { denied: before.denied, ..record.clone() }) => {
                let note = format!("{} {first}\n", record.attempt.nonce);
                self.write(record, |dir| dir.put(DENIED, note.as_bytes()))
            }
            _ => self.save(record),
        }
    }

    fn write(&self, record: &Record, write: impl FnOnce(&Dir) -> io::Result<()>) -> Result<()> {
        let refuse = |what: &str| Failure::new(Kind::Storage, format!("{what} the record of {}", record.shown()));
        if !self.lease.writable || record.format > FORMAT {
            return Err(refuse("leaving alone").remedy("a newer slurm-sandbox wrote it; use that version").into());
        }
        write(&self.lease.dir).map_err(|error| {
            let failure = refuse("writing").remedy("check space, quota and permissions of the state dir");
            failure.cause(error.to_string()).into()
        })
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
        guard.save_learned(&before, &denied).unwrap();
        assert_eq!((read(), written()), (denied.clone(), durable.clone()));
        // A crash may empty it.
        lease.dir.put(DENIED, b"").unwrap();
        assert_eq!(read(), before);
        // That of an attempt before counts for nothing.
        lease.dir.put(DENIED, b"ffffffffffffffff 2000\n").unwrap();
        assert_eq!(read(), before);
        guard.save_learned(&before, &denied).unwrap();
        guard.save_learned(&denied, &before).unwrap();
        assert_eq!((read(), written()), (before.clone(), durable));
        // More than the denial goes into the record.
        let adopted = Record { phase: crate::lease::record::Phase::Releasing, ..denied };
        guard.save_learned(&before, &adopted).unwrap();
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
    }
}
