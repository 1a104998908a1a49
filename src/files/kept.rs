//! Files that are looked at again and again. Each stays open between two looks and is read anew only when it may hold something else:
//! an open file keeps its inode, so that none which takes its place can pass for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::{Dir, Stamp, YOUNG, again_if_stale, read_whole};

/// How long an open file is trusted to be the one that its name leads to. What another host has put in its place NFS tells only
/// when the name is opened anew (docs/facts/files.md, "Names that show up late").
pub const BY_NAME: Duration = Duration::from_secs(5);

/// Files of one directory, as they were seen last.
#[derive(Debug, Default)]
pub struct KeptFiles(BTreeMap<String, Kept>);

#[derive(Debug)]
struct Kept {
    file: File,
    opened: Instant,
    stamp: Stamp,
    /// Whether it may have changed since without a trace.
    young: bool,
    bytes: Vec<u8>,
}

impl KeptFiles {
    /// Reads a file like [`Dir::read`]; always of the same directory.
    pub fn read(&mut self, dir: &Dir, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        // A handle that fails is stale, or its file is being changed: its name leads on.
        if let Some(kept) = self.0.get_mut(name)
            && kept.refresh().unwrap_or(false)
        {
            return Ok(Some(kept.bytes.clone()));
        }
        self.0.remove(name);
        // Most of what is missing stays so, and need not be opened to tell that.
        if let Err(Errno::ENOENT) = fstatat(&dir.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            return Ok(None);
        }
        let kept = again_if_stale(|| Kept::open(dir, name, max))?;
        let bytes = kept.as_ref().map(|kept| kept.bytes.clone());
        self.0.extend(kept.map(|kept| (name.to_owned(), kept)));
        Ok(bytes)
    }
}

impl Kept {
    fn open(dir: &Dir, name: &str, max: u64) -> io::Result<Option<Kept>> {
        let Some((file, meta)) = dir.open_regular(name)? else { return Ok(None) };
        let (stamp, young) = (Stamp::of(&meta), is_young(&meta, SystemTime::now()));
        let bytes = read_whole(&file, meta.len(), max, &dir.path.join(name))?;
        Ok(Some(Kept { file, opened: Instant::now(), stamp, young, bytes }))
    }

    /// Whether this is still what its name leads to; then its bytes are those of now.
    fn refresh(&mut self) -> io::Result<bool> {
        let meta = self.file.metadata()?;
        if self.opened.elapsed() >= BY_NAME || meta.nlink() == 0 || Stamp::of(&meta) != self.stamp {
            return Ok(false);
        }
        if self.young {
            self.young = is_young(&meta, SystemTime::now());
            self.file.read_exact_at(&mut self.bytes, 0)?;
        }
        Ok(true)
    }
}

/// Whether a file was last changed less than [`YOUNG`] before, or after, the time of day.
fn is_young(meta: &std::fs::Metadata, now: SystemTime) -> bool {
    let changed = Duration::new(meta.ctime().try_into().unwrap_or(0), meta.ctime_nsec().try_into().unwrap_or(0));
    now.duration_since(UNIX_EPOCH + changed).is_ok_and(|age| age < YOUNG) || now < UNIX_EPOCH + changed
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests change files as others do")]
mod tests {
    use super::*;
    use rstest::rstest;

    fn scratch() -> (tempfile::TempDir, Dir, KeptFiles) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::private_root(&temp.path().join("root")).unwrap();
        (temp, dir, KeptFiles::default())
    }

    /// What is read between two looks, the file being as old as `young` says.
    fn seen(change: impl Fn(&Dir, &mut Kept), young: bool) -> Option<Vec<u8>> {
        let (_temp, dir, mut kept) = scratch();
        dir.put("a", b"one").unwrap();
        assert_eq!(kept.read(&dir, "a", 9).unwrap().unwrap(), b"one");
        kept.0.get_mut("a").unwrap().young = young;
        change(&dir, kept.0.get_mut("a").unwrap());
        kept.read(&dir, "a", 9).unwrap()
    }

    /// A file with the stamp that another had: the same inode and size, changed within the same tick.
    fn take_stamp(kept: &mut Kept) {
        kept.stamp = Stamp::of(&kept.file.metadata().unwrap());
    }

    #[rstest]
    fn every_change_is_seen(#[values(false, true)] young: bool) {
        assert_eq!(seen(|_, _| {}, young).unwrap(), b"one");
        assert_eq!(seen(|dir, _| dir.put("a", b"two").unwrap(), young).unwrap(), b"two", "replaced");
        assert_eq!(
            seen(|dir, _| std::fs::write(dir.path().join("a"), "2").unwrap(), young).unwrap(),
            b"2",
            "rewritten"
        );
        assert_eq!(seen(|dir, _| assert!(dir.unlink("a").unwrap()), young), None, "removed");
        assert_eq!(seen(|dir, _| dir.rename("a", dir, "b").unwrap(), young), None, "moved away");
    }

    /// Without the count of links: the inode that is kept open is not the one that the name leads to.
    #[test]
    fn one_that_was_replaced_within_a_tick_is_seen() {
        let replace = |dir: &Dir, kept: &mut Kept| {
            dir.put("a", b"two").unwrap();
            take_stamp(kept);
        };
        assert_eq!(seen(replace, false).unwrap(), b"two");
    }

    /// Without the distrust of young files: nothing but their bytes tells the change.
    #[test]
    fn one_that_was_rewritten_within_a_tick_is_seen() {
        let rewrite = |dir: &Dir, kept: &mut Kept| {
            std::fs::write(dir.path().join("a"), "two").unwrap();
            take_stamp(kept);
        };
        assert_eq!(seen(rewrite, true).unwrap(), b"two");
        assert_eq!(seen(rewrite, false).unwrap(), b"one", "the case is one that only the distrust tells");
    }

    /// Without the look by name: what another host has put in a file's place shows in nothing that is open here.
    #[test]
    fn one_that_another_host_has_replaced_is_seen_by_its_name() {
        let replace = |late: Duration| {
            move |dir: &Dir, kept: &mut Kept| {
                std::fs::hard_link(dir.path().join("a"), dir.path().join("still-there")).unwrap();
                dir.put("a", b"two").unwrap();
                take_stamp(kept);
                kept.opened -= late;
            }
        };
        assert_eq!(seen(replace(Duration::ZERO), false).unwrap(), b"one", "the case is one that only the name tells");
        assert_eq!(seen(replace(BY_NAME), false).unwrap(), b"two");
    }

    #[test]
    fn what_is_missing_or_strange_is_told_as_by_a_read() {
        let (_temp, dir, mut kept) = scratch();
        assert_eq!(kept.read(&dir, "a", 9).unwrap(), None);
        dir.put("a", b"more than nine").unwrap();
        assert!(kept.read(&dir, "a", 9).unwrap_err().to_string().contains("longer than 9 bytes"));
        dir.unlink("a").unwrap();
        dir.symlink(std::path::Path::new("/etc/passwd"), "a").unwrap();
        assert!(kept.read(&dir, "a", 1 << 20).is_err());
        dir.put("a", b"one").unwrap();
        assert_eq!(kept.read(&dir, "a", 9).unwrap().unwrap(), b"one");
    }

    #[rstest]
    #[case::just_now(0, true)]
    #[case::a_moment_ago(1999, true)]
    #[case::long_ago(2001, false)]
    #[case::in_the_future(-500, true)]
    fn young_files(#[case] age_millis: i64, #[case] expected: bool) {
        let (_temp, dir, _) = scratch();
        dir.put("a", b"one").unwrap();
        let meta = std::fs::metadata(dir.path().join("a")).unwrap();
        let changed = UNIX_EPOCH + Duration::new(meta.ctime() as u64, meta.ctime_nsec() as u32);
        let offset = Duration::from_millis(age_millis.unsigned_abs());
        let now = if age_millis < 0 { changed - offset } else { changed + offset };
        assert_eq!(is_young(&meta, now), expected);
    }
}
