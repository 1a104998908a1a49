//! One lease's directory: what is read of it by anybody, and written only by the holder of its lock.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cloud_id::CloudId;
use super::format::{self, Unreadable};
use super::limits::{self, Limits};
use super::proof::{self, Proof};
use super::record::{Denials, Origin, Phase, Record, Seating};
use super::{Identity, LeaseId, SeatId};
use crate::clock::boot_id;
use crate::failure::{Failure, Kind};
use crate::files::{Dir, KeptFiles, Lock, Part};

/// More than any record or note that we write.
pub(super) const MAX_FILE_BYTES: u64 = 256 * 1024;

/// What to do where files cannot be locked (docs/facts/files.md, "Locks"). Going on without a lock would pretend that one was held.
pub(super) const NO_LOCKS: &str = "the state dir needs a file system with locks: pass a --state-dir on another one, such as a local \
     disk, or have it mounted with them (Lustre: flock; NFS: a running lock manager), then repeat the call";

const RECORD: &str = "record.json";
const IDENTITY: &str = "identity.json";

/// The seat that a lease has taken: the directory that the spare had.
pub(super) const SEAT: &str = "seat";

/// Which of the state dir's directories one lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Leases that every release knows.
    Leases,
    /// Leases that were made where spares are configured.
    Pooled,
    /// Spares, which are no leases.
    Spares,
}

impl Place {
    /// The directory's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Place::Leases => "leases",
            Place::Pooled => "pooled",
            Place::Spares => "spares",
        }
    }
}

/// When Slurm first denied the job: a line `<boot> <nonce> <seconds of that boot>` for each boot of each host that was told so.
const DENIED: &str = "denied";

/// More hosts than ever share a state dir.
const DENIED_LINES: usize = 32;

/// One lease's directory.
#[derive(Debug)]
pub struct LeaseDir {
    pub id: LeaseId,
    pub(super) dir: Dir,
    pub(super) writable: bool,
    pub place: Place,
}

/// What a lease's directory holds.
#[derive(Debug)]
pub enum Loaded {
    Whole(Box<Record>),
    /// The record cannot be used; the identity is complete all the same.
    Damaged {
        identity: Identity,
        /// What is known of the lease's origin; `None` where the identity is made up, too.
        origin: Option<Box<Origin>>,
        why: String,
    },
    /// A newer program wrote it. Only that one knows what it means, so it is shown and nothing else.
    Newer {
        identity: Identity,
    },
}

impl Loaded {
    pub fn identity(&self) -> &Identity {
        match self {
            Loaded::Whole(record) => &record.identity,
            Loaded::Damaged { identity, .. } | Loaded::Newer { identity } => identity,
        }
    }

    pub fn record(&self) -> Option<&Record> {
        match self {
            Loaded::Whole(record) => Some(record),
            Loaded::Damaged { .. } | Loaded::Newer { .. } => None,
        }
    }

    pub fn cloud_id(&self) -> CloudId {
        match self {
            Loaded::Whole(record) => record.cloud_id(),
            Loaded::Damaged { identity, .. } | Loaded::Newer { identity } => CloudId::Lost(identity.lease_id.clone()),
        }
    }
}

impl LeaseDir {
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The directory itself, for who makes the lease's key.
    pub fn directory(&self) -> &Dir {
        &self.dir
    }

    /// Whether the lease has not been released since this was opened.
    pub fn is_in_place(&self) -> bool {
        self.dir.is_in_place()
    }

    /// Reads the lease; damage is not an error but a state that must stay visible.
    pub fn load(&self) -> Loaded {
        self.load_by(|name| self.dir.read(name, MAX_FILE_BYTES))
    }

    /// The same for those who look again and again, with what they keep open of this lease.
    pub fn poll(&self, kept: &mut KeptFiles) -> Loaded {
        self.load_by(|name| kept.read(&self.dir, name, MAX_FILE_BYTES))
    }

    fn load_by(&self, read: impl FnMut(&str) -> io::Result<Option<Vec<u8>>>) -> Loaded {
        if !self.writable {
            return Loaded::Newer { identity: self.identity().0 };
        }
        let why = match read_record(&self.id, read) {
            Ok(record) => match self.with_seat(record) {
                Ok(record) => return Loaded::Whole(record),
                Err(why) => why,
            },
            Err(Unreadable::Newer) => return Loaded::Newer { identity: self.identity().0 },
            Err(Unreadable::Damaged(why)) => why,
        };
        let (identity, origin) = self.identity();
        Loaded::Damaged { identity, origin: origin.map(Box::new), why }
    }

    /// A record with the seat that was taken for it, where a call was killed before it had written that down.
    fn with_seat(&self, record: Box<Record>) -> Result<Box<Record>, String> {
        if !is_without_its_seat(&record) {
            return Ok(record);
        }
        let Some(seat) = self.seat() else { return Ok(record) };
        let read = seat.read(RECORD, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
        match format::read(&read.ok_or("its seat has no record")?) {
            Ok(of_seat) => Ok(Box::new(record.seated(of_seat, &self.dir.path().join(SEAT)))),
            Err(Unreadable::Newer) => Err("a newer slurm-sandbox wrote the record of its seat".to_owned()),
            Err(Unreadable::Damaged(why)) => Err(format!("the record of its seat: {why}")),
        }
    }

    /// The directory of the seat that the lease has taken.
    fn seat(&self) -> Option<Dir> {
        (self.place == Place::Pooled).then(|| self.dir.subdir(SEAT).ok().flatten()).flatten()
    }

    /// Whether this program may write a record here: the tree is not a newer one's.
    pub fn may_write(&self) -> bool {
        self.writable
    }

    /// The identity and origin from `identity.json`, or an identity made up that the client accepts.
    fn identity(&self) -> (Identity, Option<Origin>) {
        let read = |dir: &Dir| {
            let bytes = dir.read(IDENTITY, MAX_FILE_BYTES).ok().flatten()?;
            format::read_identity(&bytes)
        };
        let good = read(&self.dir).filter(|(identity, _)| {
            identity.lease_id == self.id && Identity::parse(self.id.as_str(), &identity.slug, &identity.name).is_ok()
        });
        match good {
            Some((identity, mut origin)) => {
                if let (Seating::None, Some(seat)) = (&origin.seating, self.seat()) {
                    let seat = read(&seat).and_then(|(identity, _)| SeatId::parse(identity.lease_id.as_str()));
                    origin.seating = seat.map_or(Seating::Unknown, Seating::Taken);
                }
                (identity, Some(origin))
            }
            None => {
                let slug = format!("damaged-{}", &self.id.as_str()[4..]);
                let name = super::client_name(&self.id, &slug);
                let seating = match self.place {
                    Place::Spares => SeatId::parse(self.id.as_str()).map(Seating::Taken),
                    Place::Pooled => self.seat().map(|_| Seating::Unknown),
                    Place::Leases => None,
                };
                let origin = seating.map(|seating| Origin { seating, ..Origin::default() });
                (Identity { lease_id: self.id.clone(), slug, name }, origin)
            }
        }
    }

    /// The lines about an attempt with this boot's own; those of other hosts stay.
    fn denied_text(&self, record: &Record, first: i64) -> String {
        let boot = boot_id().unwrap_or_default();
        let bytes = self.dir.read(DENIED, MAX_FILE_BYTES).ok().flatten().unwrap_or_default();
        let others = denied_lines(record, &bytes).filter(|(of, _)| *of != boot).take(DENIED_LINES);
        let lines = std::iter::once((boot.clone(), first)).chain(others);
        lines.map(|(boot, first)| format!("{boot} {} {first}\n", record.attempt.nonce)).collect()
    }

    /// Takes the lease's lock, trying until `patience` is over.
    ///
    /// # Errors
    /// Where nothing can be locked.
    pub fn lock(&self, patience: Duration) -> Result<Locked<'_>, Failure> {
        match self.dir.lock("lock", patience) {
            Ok(Some(lock)) => Ok(Locked::Held(Guard { lease: self, _lock: lock })),
            Ok(None) => Ok(Locked::Busy),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Locked::Gone),
            Err(error) => {
                let remedy = match crate::files::locks_nothing(&error) {
                    true => NO_LOCKS,
                    false => "check space, quota and permissions of the state dir, then repeat the call",
                };
                Err(Failure::new(Kind::Storage, format!("locking lease {}", self.id))
                    .remedy(remedy)
                    .cause(error.to_string()))
            }
        }
    }

    /// How long the lease may live and be idle.
    pub fn limits(&self) -> Limits {
        Limits::parse(self.dir.read(limits::FILE, MAX_FILE_BYTES))
    }

    /// Keeps them for those who look; losing them harms nobody.
    pub fn keep_limits(&self, limits: &Limits) {
        self.keep_beside(limits::FILE, limits);
    }

    /// The last login that proved the lease, if this program can read of one.
    pub fn proof(&self) -> Option<Proof> {
        self.beside(proof::FILE)
    }

    /// Keeps it for later calls; losing it costs one of them a login.
    pub fn keep_proof(&self, proof: &Proof) {
        self.keep_beside(proof::FILE, proof);
    }

    /// What stands in a file beside the record, if this program can read it.
    pub fn beside<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let bytes = self.dir.read(name, MAX_FILE_BYTES).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps something beside the record that harms nobody when it gets lost.
    pub fn keep_beside(&self, name: &str, what: &impl Serialize) {
        if let Some(bytes) = serde_json::to_vec(what).ok().filter(|_| self.writable) {
            self.dir.put(name, &bytes).ok();
        }
    }

    /// Adds a line to the lease's history; losing one harms nobody.
    pub fn note(&self, now: i64, event: &str, detail: &str) {
        let line = serde_json::json!({"at": now, "event": event, "detail": crate::text::line(detail)}).to_string();
        self.dir.append_line("events.jsonl", &line).ok();
    }

    /// Whether an event stands in the lease's history.
    pub fn has_noted(&self, event: &str) -> bool {
        let is_it =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line["event"] == event);
        self.history(None, MAX_FILE_BYTES).is_some_and(|part| String::from_utf8_lossy(&part.bytes).lines().any(is_it))
    }

    /// Held by the call that runs the user's hook for this lease; `None` where another one does. Nothing else waits for it.
    pub fn lock_hook(&self) -> io::Result<Option<Lock>> {
        self.dir.lock("hook", Duration::ZERO)
    }

    /// A part of the lease's history from `start` on; without it, its last lines.
    pub fn history(&self, start: Option<u64>, max: u64) -> Option<Part> {
        self.dir.read_part("events.jsonl", start, max).ok().flatten()
    }

    /// The public half of the lease's key.
    pub fn public_key(&self, record: &Record) -> Result<Vec<u8>> {
        let name = record.key.file_name().and_then(|name| name.to_str()).context("the record's key has no name")?;
        let bytes = self.dir.read(&format!("{name}.pub"), MAX_FILE_BYTES).context("reading the public key")?;
        bytes.context("the public key is missing")
    }

    /// The pinned host keys, as ssh reads them.
    pub fn known_hosts(&self) -> Option<String> {
        let bytes = self.seat().as_ref().unwrap_or(&self.dir).read("known_hosts", MAX_FILE_BYTES).ok().flatten()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether host keys were pinned.
    pub fn has_known_hosts(&self) -> bool {
        self.known_hosts().is_some_and(|text| !text.is_empty())
    }
}

/// Whether a record may be that of a lease which has just taken a seat.
pub(super) fn is_without_its_seat(record: &Record) -> bool {
    record.pooled && record.seat.is_none()
}

/// The record of a lease, its denials beside it; `read` gets a file of the lease's directory.
pub(super) fn read_record(
    id: &LeaseId,
    mut read: impl FnMut(&str) -> io::Result<Option<Vec<u8>>>,
) -> Result<Box<Record>, Unreadable> {
    let record = match read(RECORD) {
        Ok(Some(bytes)) => format::read(&bytes)?,
        Ok(None) => return Err(Unreadable::Damaged("record.json is missing".to_owned())),
        Err(error) => return Err(Unreadable::Damaged(error.to_string())),
    };
    if record.identity.lease_id != *id {
        return Err(Unreadable::Damaged(format!("record.json is that of lease {}", record.identity.lease_id)));
    }
    let denied = read(DENIED).ok().flatten().map(|note| denials(&record, &note)).unwrap_or_default();
    Ok(Box::new(Record { denied, ..record }))
}

/// The denials of a record's attempt, from the note beside it.
fn denials(record: &Record, note: &[u8]) -> Denials {
    let boot = boot_id();
    denied_lines(record, note).fold(Denials::default(), |denials, (of, first)| match boot.as_ref() == Some(&of) {
        true => Denials { first: Some(first), ..denials },
        false => Denials { elsewhere: true, ..denials },
    })
}

fn denied_lines(record: &Record, note: &[u8]) -> impl Iterator<Item = (String, i64)> {
    let lines: Vec<_> = String::from_utf8_lossy(note)
        .lines()
        .filter_map(|line| {
            let [boot, nonce, first] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
            (nonce == record.attempt.nonce.as_str()).then_some((boot.to_owned(), first.parse().ok()?))
        })
        .collect();
    lines.into_iter()
}

/// What came of a try at a lease's lock.
#[derive(Debug)]
pub enum Locked<'a> {
    Held(Guard<'a>),
    /// Another call has held it all along.
    Busy,
    /// The lease was released meanwhile.
    Gone,
}

#[cfg(test)]
impl<'a> Locked<'a> {
    pub fn held(self) -> Guard<'a> {
        match self {
            Locked::Held(guard) => guard,
            other => panic!("{other:?}"),
        }
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
        let bytes = format::write(record)?;
        self.write(record, |dir| dir.write("record.json", &bytes))
    }

    /// Writes down the seat that the lease has just taken, beside its record for the day on which that is damaged.
    pub fn save_seat(&self, record: &Record) -> Result<()> {
        self.save(record)?;
        let identity = format::write_identity(record)?;
        self.write(record, |dir| dir.write(IDENTITY, &identity))
    }

    /// From now on the seat that the lease has taken is to be ended, whosesoever it is.
    pub fn end_seat(&self, now: i64) -> Result<()> {
        let Some(seat) = self.lease.seat() else { return Ok(()) };
        let read = seat.read(RECORD, MAX_FILE_BYTES).context("reading the record of a seat")?.unwrap_or_default();
        let Ok(record) = format::read(&read) else { return Ok(()) };
        let record = Record { phase: Phase::Releasing, releasing: Some(now), ..record };
        seat.write(RECORD, &format::write(&record)?).context("writing the record of a seat")
    }

    /// From now on the lease is to be released, and no call gives it out any more.
    pub fn begin_release(&self, record: &mut Record, now: i64, why: &str) -> Result<()> {
        record.phase = Phase::Releasing;
        record.releasing = Some(now);
        self.save(record)?;
        self.lease.note(now, "releasing", why);
        Ok(())
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
        if self.lease.may_write() {
            return Ok(());
        }
        let what = format!("{}: a newer slurm-sandbox wrote its record; nothing was touched", record.shown());
        Err(Failure::new(Kind::Storage, what).remedy("use that version, or release the lease"))
    }

    /// The record as it is now, if it is the one that `before` was read from; else what was asked meanwhile is about another.
    pub fn still(&self, before: &Record) -> Option<Record> {
        match self.lease.load() {
            Loaded::Whole(record) if *record == (Record { denied: record.denied, ..before.clone() }) => Some(*record),
            _ => None,
        }
    }

    /// Writes down what a look at Slurm has changed. Denials stand beside the record and are not synced: after an outage each
    /// of a thousand leases has one, and one that gets lost costs ten seconds more.
    pub fn keep_learned(&self, before: &Record, record: &Record) -> Result<()> {
        if record.denied != before.denied {
            self.write(record, |dir| match record.denied.first {
                Some(first) => dir.put(DENIED, self.lease.denied_text(record, first).as_bytes()),
                None => dir.unlink(DENIED).map(|_| ()),
            })?;
        }
        if *before == (Record { denied: before.denied, ..record.clone() }) { Ok(()) } else { self.save(record) }
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
    fn a_damaged_record_leaves_the_origin() {
        let (_temp, store) = store();
        let record = Record { clusters: Some("annex".into()), ..record() };
        store.create(&record.identity, |_, _| Ok(record.clone())).unwrap();
        let lease = store.lease(record.lease_id()).unwrap().unwrap();
        lease.dir.write("record.json", b"{").unwrap();
        let Loaded::Damaged { origin: Some(origin), .. } = lease.load() else { panic!("no origin") };
        let expected = Origin {
            submit: None,
            clusters: Some("annex".into()),
            shared_dir: Some("/shared".into()),
            instance: Some("abcd1234".into()),
            seating: Seating::None,
        };
        assert_eq!(*origin, expected);
        // That of the first release holds the identity alone.
        let first = br#"{"leaseId": "cbx_4b38f35d4e31", "slug": "smoke", "name": "crabbox-smoke-42b80a31"}"#;
        lease.dir.write("identity.json", first).unwrap();
        let Loaded::Damaged { identity, origin: Some(origin), .. } = lease.load() else { panic!("no origin") };
        assert_eq!((identity, *origin), (record.identity, Origin::default()));
    }

    #[test]
    fn denials_stand_beside_the_record_a_line_a_boot() {
        let (_temp, store) = store();
        let before = record();
        store.create(&before.identity, |_, _| Ok(before.clone())).unwrap();
        let lease = store.lease(before.lease_id()).unwrap().unwrap();
        let guard = lease.lock(Duration::ZERO).unwrap().held();
        let read = || match lease.load() {
            Loaded::Whole(record) => *record,
            other => panic!("{other:?}"),
        };
        let durable = lease.dir.read("record.json", MAX_FILE_BYTES).unwrap();
        let nonce = &before.attempt.nonce;
        // Another host's, and one of an attempt before.
        lease.dir.put(DENIED, format!("other {nonce} 50\nother ffffffffffffffff 7\n\nrubbish\n").as_bytes()).unwrap();
        assert_eq!(read().denied, Denials { first: None, elsewhere: true });
        let denied = Record { denied: Denials { first: Some(2000), elsewhere: true }, ..before.clone() };
        guard.keep_learned(&read(), &denied).unwrap();
        assert_eq!(read(), denied);
        let text = String::from_utf8(lease.dir.read(DENIED, 999).unwrap().unwrap()).unwrap();
        assert!(text.contains(&format!("other {nonce} 50\n")) && !text.contains("ffffffffffffffff"), "{text}");
        assert_eq!(lease.dir.read("record.json", MAX_FILE_BYTES).unwrap(), durable, "only the note changed");
        assert!(guard.still(&before).is_some());
        // A sight of the job undoes them all.
        guard.keep_learned(&denied, &before).unwrap();
        assert_eq!(read(), before);
        assert!(lease.dir.read(DENIED, 64).unwrap().is_none());
        let adopted = Record { phase: crate::lease::record::Phase::Releasing, ..denied };
        guard.keep_learned(&before, &adopted).unwrap();
        assert!(guard.still(&before).is_none());
    }

    #[test]
    fn what_a_newer_program_wrote_is_shown_and_nothing_else() {
        let (_temp, store) = store();
        let newer = record();
        store.create(&newer.identity, |_, _| Ok(newer.clone())).unwrap();
        let lease = store.lease(newer.lease_id()).unwrap().unwrap();
        lease.dir.write("record.json", b"{\"format\": 9, \"phase\": \"hibernating\"}").unwrap();
        let Loaded::Newer { identity } = lease.load() else { panic!("{:?}", lease.load()) };
        assert_eq!(identity, newer.identity);
        assert!(lease.lock(Duration::ZERO).unwrap().held().still(&newer).is_none());
    }

    #[test]
    fn in_a_newer_tree_every_lease_is_newer() {
        let (temp, store) = store();
        let record = record();
        store.create(&record.identity, |_, _| Ok(record.clone())).unwrap();
        Dir::open_root(store.path()).unwrap().write("format", b"2\n").unwrap();
        let store = super::super::store::Store::open(&temp.path().join("state")).unwrap();
        let lease = store.lease(record.lease_id()).unwrap().unwrap();
        assert!(matches!(lease.load(), Loaded::Newer { .. }));
        assert!(lease.lock(Duration::ZERO).unwrap().held().save(&record).is_err());
    }
}
