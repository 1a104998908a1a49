//! What ssh reads by the names of leases, and what is kept of a profile between its leases.
//!
//! ```text
//! <state-dir>/ssh/
//!   config                  the block that a user's ~/.ssh/config includes
//!   made-user-file          that file was made by us
//!   hosts/<name>/           of one host name, as it was typed: key (a link to its lease's), known_hosts
//!   profiles/<hash>/        of one profile, named by a hash of its lease's id: id_<type>[.pub] (the key of all its leases, one after the
//!                           other), last-end.json
//! ```
//! ssh reads the public half of a key when it starts, long before its proxy command has acquired a lease. With a new key for each lease
//! it would offer the last one's; so the leases of a profile have one key.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::LeaseId;
use super::record::Record;
use crate::clock::{BootTime, Now};
use crate::files::{Dir, hex};

const CONFIG: &str = "config";
const MADE_USER_FILE: &str = "made-user-file";
const HOSTS: &str = "hosts";
const PROFILES: &str = "profiles";
const LAST_END: &str = "last-end.json";
const MAX_BYTES: u64 = 64 * 1024;

/// The one lease of a profile in one state dir: all that ask for it at once mean the same.
pub fn lease_of_profile(instance: &str, profile: &str) -> LeaseId {
    let digest = Sha256::digest(format!("{instance}\n{profile}"));
    LeaseId(format!("cbx_{}", hex(&digest[..6])))
}

/// The name of a profile's directory. It stays when the lease goes, and so is not named like what belongs to the lease.
fn profile_name(lease: &LeaseId) -> String {
    hex(&Sha256::digest(lease.as_str())[..8])
}

/// How the last lease of a profile came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastEnd {
    /// The runner's word, `released`, or Slurm's state.
    pub why: String,
    /// Seconds since the epoch.
    pub at: i64,
    /// The same by the host's own clock.
    pub at_boot: Option<BootTime>,
}

impl LastEnd {
    fn of(record: &Record, now: Now) -> LastEnd {
        // An end that was on record before the release is what the lease ended of.
        let before = |at: i64| record.releasing.is_none_or(|releasing| at <= releasing);
        let (why, at) = match &record.ended {
            Some(ended) if before(ended.at) => (ended.runner.as_ref().unwrap_or(&ended.state).clone(), ended.at),
            _ => ("released".to_owned(), now.epoch),
        };
        let at_boot = BootTime::of(Now { uptime: now.uptime - (now.epoch - at).max(0), ..now });
        LastEnd { why, at, at_boot }
    }

    /// Seconds since then. After a restart only the time of day is left to tell, and one that was set back tells nothing.
    pub fn elapsed(&self, now: Now) -> i64 {
        let by_boot = self.at_boot.as_ref().and_then(|at| at.elapsed(now));
        by_boot.unwrap_or(now.epoch - self.at).max(0)
    }
}

/// The tree.
#[derive(Debug)]
pub struct Names(Dir);

impl Names {
    pub(super) fn new(root: Dir) -> Names {
        Names(root)
    }

    /// Where the block is that a user's file includes.
    pub fn config_path(&self) -> PathBuf {
        self.0.path().join(CONFIG)
    }

    /// Where each name has its directory.
    pub fn hosts_path(&self) -> PathBuf {
        self.0.path().join(HOSTS)
    }

    /// # Errors
    /// When it cannot be written.
    pub fn write_config(&self, text: &str) -> io::Result<()> {
        self.0.write(CONFIG, text.as_bytes())
    }

    /// # Errors
    /// When it cannot be removed.
    pub fn remove_config(&self) -> io::Result<()> {
        self.0.unlink(CONFIG)?;
        self.0.unlink(MADE_USER_FILE)?;
        self.0.sync()
    }

    /// Remembers that the user had no file before.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn note_made_user_file(&self) -> io::Result<()> {
        self.0.write(MADE_USER_FILE, b"")
    }

    pub fn made_user_file(&self) -> bool {
        matches!(self.0.read(MADE_USER_FILE, MAX_BYTES), Ok(Some(_)))
    }

    /// Has ssh find a lease by a host name: its key, and its host keys under any name.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn publish(&self, host: &str, record: &Record, known_hosts: &str) -> io::Result<()> {
        let dir = self.0.make_subdir(HOSTS)?.make_subdir(host)?;
        let keys = known_hosts.lines().filter_map(|line| line.split_once(' '));
        let text: String = keys.map(|(_, key)| format!("* {key}\n")).collect();
        dir.put("known_hosts", text.as_bytes())?;
        match dir.link_target("key") {
            Some(target) if target == record.key => Ok(()),
            _ => dir.replace_symlink(&record.key, "key"),
        }
    }

    /// The directory of a profile's lease, for its key.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn profile(&self, lease: &LeaseId) -> io::Result<Dir> {
        self.0.make_subdir(PROFILES)?.make_subdir(&profile_name(lease))
    }

    /// How the last lease of a profile ended; what cannot be read is none.
    pub fn last_end(&self, lease: &LeaseId) -> Option<LastEnd> {
        let dir = self.0.subdir(PROFILES).ok()??.subdir(&profile_name(lease)).ok()??;
        serde_json::from_slice(&dir.read(LAST_END, MAX_BYTES).ok()??).ok()
    }

    /// Takes a lease that goes out of every name, and notes its end where it was a profile's. What fails costs little: ssh finds a
    /// key that is gone, or a profile's lease is acquired once more.
    pub(super) fn forget(&self, record: &Record, place: &Path, now: Now) {
        if let Ok(Some(hosts)) = self.0.subdir(HOSTS) {
            let leads_there = |name: &String| {
                let target = hosts.subdir(name).ok().flatten().and_then(|dir| dir.link_target("key"));
                target.is_some_and(|target| target.starts_with(place))
            };
            for name in hosts.names().unwrap_or_default().iter().filter(|name| leads_there(name)) {
                hosts.remove_tree(name).ok();
            }
        }
        let profile = || self.0.subdir(PROFILES).ok()??.subdir(&profile_name(record.lease_id())).ok()?;
        if let Some(dir) = profile()
            && let Ok(bytes) = serde_json::to_vec(&LastEnd::of(record, now))
        {
            dir.write(LAST_END, &bytes).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::record::{Ended, Phase};
    use super::super::store::tests::store;
    use super::*;
    use rstest::rstest;
    use std::time::Duration;

    const NOW: Now = Now { epoch: 1_000_000, uptime: 5000 };

    #[test]
    fn a_profile_has_one_lease_in_each_state_dir() {
        let id = lease_of_profile("abcd1234", "gpu");
        assert_eq!(LeaseId::parse(id.as_str()), Some(id.clone()));
        assert_eq!(id, lease_of_profile("abcd1234", "gpu"));
        assert_ne!(id, lease_of_profile("abcd1235", "gpu"));
        assert_ne!(id, lease_of_profile("abcd1234", "gpu2"));
    }

    fn ended(state: &str, runner: Option<&str>, at: i64) -> Ended {
        Ended { state: state.into(), reason: String::new(), exit: None, runner: runner.map(str::to_owned), at }
    }

    #[rstest]
    #[case::idle(Some(ended("COMPLETED", Some("idle"), 999_000)), Some(999_900), "idle", 1000)]
    #[case::its_time_limit(Some(ended("TIMEOUT", None, 999_000)), Some(999_900), "TIMEOUT", 1000)]
    #[case::by_a_release(Some(ended("CANCELLED", Some("permit-removed"), 999_950)), Some(999_900), "released", 0)]
    #[case::not_known_to_have_ended(None, Some(999_900), "released", 0)]
    #[case::forgotten(None, None, "released", 0)]
    fn what_a_lease_ended_of(
        #[case] ended: Option<Ended>,
        #[case] releasing: Option<i64>,
        #[case] why: &str,
        #[case] ago: i64,
    ) {
        let end = LastEnd::of(&Record { ended, releasing, ..record() }, NOW);
        assert_eq!((end.why.as_str(), end.elapsed(NOW)), (why, ago));
        // A clock that is set, and one of another boot.
        assert_eq!(end.elapsed(Now { epoch: 5, uptime: 5060 }), ago + 60);
        let restarted = LastEnd { at_boot: None, ..end };
        assert_eq!(restarted.elapsed(Now { epoch: 1_000_060, uptime: 7 }), ago + 60);
        assert_eq!(restarted.elapsed(Now { epoch: 5, uptime: 7 }), 0);
    }

    #[test]
    fn a_lease_is_found_by_its_name_until_it_goes() {
        let (_temp, store) = store();
        let key = store.path().join("leases/cbx_4b38f35d4e31/id_ed25519");
        let record = Record { phase: Phase::Answered, key: key.clone(), ..record() };
        store.create(&record.identity, |_, _| Ok(record.clone())).unwrap();
        let names = store.names().unwrap();
        names.publish("a.sandbox", &record, "[n1]:4022,[n2]:4022 ssh-ed25519 AAAA\n").unwrap();
        names.publish("a.sandbox", &record, "[n1]:4022 ssh-ed25519 BBBB\nn1 ssh-rsa CCCC\n").unwrap();
        let host = names.hosts_path().join("a.sandbox");
        assert_eq!(std::fs::read_to_string(host.join("known_hosts")).unwrap(), "* ssh-ed25519 BBBB\n* ssh-rsa CCCC\n");
        assert_eq!(std::fs::read_link(host.join("key")).unwrap(), key);
        assert_eq!(names.last_end(record.lease_id()), None);
        names.profile(record.lease_id()).unwrap();
        let lease = store.lease(record.lease_id()).unwrap().unwrap();
        store.trash_lease(lease.lock(Duration::ZERO).unwrap().held()).unwrap();
        assert!(!host.exists());
        assert_eq!(names.last_end(record.lease_id()).unwrap().why, "released");
    }
}
