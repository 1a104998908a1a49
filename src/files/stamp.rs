//! By what a file is told from what it was: the ground on which content that was read before stands for what is there now.

use std::fs::Metadata;
use std::io;
use std::time::Duration;

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::{Dir, FILE_MODE, FileId, random_hex};

/// A file that was changed so lately is read again: another change within the same tick of its file system's clock would leave no trace in
/// its times. Ticks are milliseconds long, and seconds on some old file systems.
pub const YOUNG: Duration = Duration::from_secs(2);

/// Has a network file system ask its server, as it does for an open; by itself it believes for up to a minute what it was told last
/// (statx(2); the kernel takes the flag here too). Who does not know it refuses, and then nothing is taken for unchanged.
const ASK_SERVER: AtFlags = AtFlags::from_bits_retain(libc::AT_STATX_FORCE_SYNC);

/// What another content of a file shows in; of a directory, another name in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, i64, i64, u64)", into = "(u64, i64, i64, u64)")]
pub struct Stamp {
    id: FileId,
    size: u64,
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Stamp {
        Stamp { id: FileId::of(meta), size: meta.len() }
    }

    /// When it was last changed, since the epoch, by the clock of its file system.
    pub fn changed(&self) -> Duration {
        let part = |number: i64| u64::try_from(number).unwrap_or_default();
        Duration::from_secs(part(self.id.changed_seconds)) + Duration::from_nanos(part(self.id.changed_nanoseconds))
    }
}

impl From<&FileStat> for Stamp {
    fn from(stat: &FileStat) -> Stamp {
        let id = FileId { inode: stat.st_ino, changed_seconds: stat.st_ctime, changed_nanoseconds: stat.st_ctime_nsec };
        Stamp { id, size: u64::try_from(stat.st_size).unwrap_or_default() }
    }
}

impl From<(u64, i64, i64, u64)> for Stamp {
    fn from((inode, changed_seconds, changed_nanoseconds, size): (u64, i64, i64, u64)) -> Stamp {
        Stamp { id: FileId { inode, changed_seconds, changed_nanoseconds }, size }
    }
}

impl From<Stamp> for (u64, i64, i64, u64) {
    fn from(Stamp { id, size }: Stamp) -> (u64, i64, i64, u64) {
        (id.inode, id.changed_seconds, id.changed_nanoseconds, size)
    }
}

impl Dir {
    /// The stamp of what lies at a path below, as it is now; of a link, its own.
    pub fn stamp(&self, path: &str) -> io::Result<Stamp> {
        Ok(Stamp::from(&fstatat(&self.fd, path, AtFlags::AT_SYMLINK_NOFOLLOW | ASK_SERVER)?))
    }

    /// The time of day, since the epoch, by the clock of this directory's file system, which may be another machine's: that of a file
    /// which is made for it.
    pub fn clock(&self) -> io::Result<Duration> {
        let name = format!(".clock.{}", random_hex(8)?);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.fd, name.as_str(), flags, FILE_MODE)?;
        let stat = fstat(&file);
        unlinkat(&self.fd, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
        Ok(Stamp::from(&stat?).changed())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests change files as others do")]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_file_and_of_a_directory_shows() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::private_root(&temp.path().join("root")).unwrap();
        dir.make_subdir("d").unwrap();
        let path = temp.path().join("root/d/a");
        let mut seen = Vec::new();
        let mut look = |what: &str| {
            let stamps = (dir.stamp("d").unwrap(), dir.stamp("d/a").ok());
            assert!(!seen.contains(&stamps), "{what}");
            seen.push(stamps);
            // Longer than a tick.
            std::thread::sleep(Duration::from_millis(20));
        };
        look("missing");
        std::fs::write(&path, "one").unwrap();
        look("made");
        std::fs::write(&path, "two").unwrap();
        look("rewritten, as long as before");
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        look("its time of writing set back");
        std::fs::rename(&path, path.with_file_name("b")).unwrap();
        std::os::unix::fs::symlink("b", &path).unwrap();
        look("a link in its place");
        std::fs::remove_file(&path).unwrap();
        look("removed");
    }

    #[test]
    fn the_clock_is_that_of_the_files_and_leaves_none() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::private_root(&temp.path().join("root")).unwrap();
        let before = dir.clock().unwrap();
        dir.put("a", b"one").unwrap();
        let (changed, after) = (dir.stamp("a").unwrap().changed(), dir.clock().unwrap());
        assert!(before <= changed && changed <= after, "{before:?} {changed:?} {after:?}");
        assert_eq!(dir.names().unwrap(), ["a"]);
    }

    #[test]
    fn a_stamp_is_written_and_read() {
        let stamp = Stamp::from((7, 1_795_308_136, 123_456_789, 1100));
        let text = serde_json::to_string(&stamp).unwrap();
        assert_eq!(text, "[7,1795308136,123456789,1100]");
        assert_eq!(serde_json::from_str::<Stamp>(&text).unwrap(), stamp);
        assert_eq!(stamp.changed(), Duration::new(1_795_308_136, 123_456_789));
    }
}
