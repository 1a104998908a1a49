//! The only module that writes files, and the way every file of ours is read.
//!
//! Both trees (the private state dir and the shared dir on the cluster) can be written by code of the same user, the
//! sandboxed code included. So a directory is opened once, checked, and everything below it is reached by name from
//! that open directory, never following a link; a file is read only when it is a regular file of a bounded size.
//! Writes are durable before they are visible: a new file in the same directory, synced, renamed, directory synced.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::dir::Dir as DirStream;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

const FILE_MODE: Mode = Mode::from_bits_truncate(0o600);
const DIR_MODE: Mode = Mode::from_bits_truncate(0o700);

/// An open directory of ours and the path that it was opened by, for messages and other programs.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the root of a tree, making it (and what leads to it) with mode 0700 when it is missing. The path may
    /// lead through links, its end must be a directory of this user that nobody else can enter; an empty directory
    /// that others can only read is tightened, since somebody just made it for us.
    pub fn private_root(path: &Path) -> io::Result<Dir> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let dir = Dir::open_root(path)?;
        let meta = fstat(&dir.fd)?;
        if meta.st_uid != geteuid().as_raw() {
            let problem = format!("{} belongs to user id {}, not to {}", path.display(), meta.st_uid, geteuid());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        if meta.st_mode & 0o077 != 0 {
            if meta.st_mode & 0o022 != 0 || !dir.names()?.is_empty() {
                let mode = meta.st_mode & 0o7777;
                let problem = format!("{} has mode {mode:04o}, others can enter it", path.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
            }
            nix::sys::stat::fchmod(&dir.fd, DIR_MODE)?;
        }
        Ok(dir)
    }

    /// Opens a root without making or checking it.
    pub fn open_root(path: &Path) -> io::Result<Dir> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Dir { fd, path: path.to_owned() })
    }

    /// Where this directory was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory below; `None` when there is none. A link or anything else in its place is an error.
    pub fn subdir(&self, name: &str) -> io::Result<Option<Dir>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Dir { fd, path: self.path.join(name) })),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                Err(io::Error::other(format!("{} is not a directory of ours", self.path.join(name).display())))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A directory below, made with mode 0700 when it is missing.
    pub fn make_subdir(&self, name: &str) -> io::Result<Dir> {
        if let Some(dir) = self.subdir(name)? {
            return Ok(dir);
        }
        match mkdirat(&self.fd, name, DIR_MODE) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.subdir(name)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// The names below, unordered, without `.` and `..`; names that are not UTF-8 are none of ours. The directory is
    /// opened anew, which makes NFS ask its server (hazards.md D1).
    pub fn names(&self) -> io::Result<Vec<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut stream = DirStream::openat(&self.fd, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in stream.iter() {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Reads a regular file; `None` when it is missing, an error when it is anything else or longer than `max` bytes.
    pub fn read(&self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        let Some((file, size)) = self.open_regular(name)? else {
            return Ok(None);
        };
        if size > max {
            return Err(io::Error::other(format!("{} is longer than {max} bytes", self.path.join(name).display())));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.take(max).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The last `max` bytes of a regular file; `None` when it is missing.
    pub fn read_tail(&self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        use std::io::{Seek, SeekFrom};
        let Some((mut file, size)) = self.open_regular(name)? else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(size.saturating_sub(max)))?;
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn open_regular(&self, name: &str) -> io::Result<Option<(File, u64)>> {
        // O_NONBLOCK: a FIFO in the file's place must not hold us.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let strange = || io::Error::other(format!("{} is not a regular file", self.path.join(name).display()));
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP | Errno::ENXIO) => return Err(strange()),
            Err(error) => return Err(error.into()),
        };
        let meta = file.metadata()?;
        if meta.is_file() { Ok(Some((file, meta.len()))) } else { Err(strange()) }
    }

    /// Writes a file so that a crash leaves the old content or the new, and a later crash not the old one.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_part(name, bytes)?;
        self.sync()
    }

    /// Like [`Self::write`], durable once the directory is synced: for one of several files.
    pub fn write_part(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(name, bytes, File::sync_all)
    }

    /// Writes a file so that readers see the old content or the new; a crash may lose it.
    pub fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(name, bytes, |_| Ok(()))
    }

    fn replace(&self, name: &str, bytes: &[u8], secure: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let temp = format!(".{name}.{}", random_hex(8)?);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.fd, temp.as_str(), flags, FILE_MODE)?);
        let written = file
            .write_all(bytes)
            .and_then(|()| secure(&file))
            .and_then(|()| renameat(&self.fd, temp.as_str(), &self.fd, name).map_err(io::Error::from));
        if written.is_err() {
            let _ = unlinkat(&self.fd, temp.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        written
    }

    /// Makes a file that must not exist yet; whether it was us who made it.
    pub fn create(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.fd, name, flags, FILE_MODE) {
            Ok(fd) => File::from(fd).write_all(bytes).map(|()| true),
            Err(Errno::EEXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Appends one line; a log whose loss in a crash costs nothing.
    pub fn append_line(&self, name: &str, line: &str) -> io::Result<()> {
        let flags = OFlag::O_WRONLY
            | OFlag::O_CREAT
            | OFlag::O_APPEND
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.fd, name, flags, FILE_MODE)?);
        file.write_all(format!("{line}\n").as_bytes())
    }

    /// Removes a file; whether there was one. Durable once the directory is synced.
    pub fn unlink(&self, name: &str) -> io::Result<bool> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves an entry; the target must not exist, or be an empty directory. Durable once the directories are synced.
    pub fn rename(&self, name: &str, target: &Dir, target_name: &str) -> io::Result<()> {
        Ok(renameat(&self.fd, name, &target.fd, target_name)?)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, points_to: &Path, name: &str) -> io::Result<()> {
        Ok(nix::unistd::symlinkat(points_to, &self.fd, name)?)
    }

    /// Removes an entry and all below it, never through a link; missing is fine.
    pub fn remove_tree(&self, name: &str) -> io::Result<()> {
        self.remove_entry(CString::new(name)?.as_c_str().to_str().map_err(io::Error::other)?.as_ref())
    }

    fn remove_entry(&self, name: &OsStr) -> io::Result<()> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(meta) if SFlag::from_bits_truncate(meta.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR => {
                return ignore_missing(unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir));
            }
            Ok(meta) if meta.st_mode & 0o700 != 0o700 => self.open_up(name)?,
            Ok(_) => {}
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let inner = Dir { fd: openat(&self.fd, name, flags, Mode::empty())?, path: self.path.join(name) };
        let mut stream = DirStream::openat(&inner.fd, ".", flags, Mode::empty())?;
        let mut entries = Vec::new();
        for entry in stream.iter() {
            use std::os::unix::ffi::OsStrExt;
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if bytes != b"." && bytes != b".." {
                entries.push(OsStr::from_bytes(bytes).to_owned());
            }
        }
        for entry in entries {
            inner.remove_entry(&entry)?;
        }
        ignore_missing(unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir))
    }

    /// Gives us access to a directory of ours that was closed to us; it is held open meanwhile, so that the change
    /// cannot be led elsewhere by a link.
    fn open_up(&self, name: &OsStr) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::PermissionsExt;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let held = openat(&self.fd, name, flags, Mode::empty())?;
        let place = format!("/proc/self/fd/{}", held.as_raw_fd());
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o700))
    }

    /// Whether this very directory still lies where it was opened.
    pub fn is_in_place(&self) -> bool {
        match (fstat(&self.fd), std::fs::symlink_metadata(&self.path)) {
            (Ok(ours), Ok(there)) => (ours.st_dev, ours.st_ino) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    /// When a file was last written, in seconds since the epoch; `None` when it is missing or not a regular file.
    pub fn modified(&self, name: &str) -> Option<i64> {
        let meta = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        (SFlag::from_bits_truncate(meta.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG).then_some(meta.st_mtime)
    }

    /// Makes the directory's entries durable.
    pub fn sync(&self) -> io::Result<()> {
        match nix::unistd::fsync(self.fd.as_fd()) {
            // Some network file systems cannot sync a directory; they are synchronous in this already.
            Ok(()) | Err(Errno::EINVAL | Errno::EROFS | Errno::ENOTSUP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock file `name`, trying until `patience` is over; `Ok(None)` when somebody else holds it all along.
    ///
    /// Where the file system has no locks this fails, see [`locks_nothing`]: nobody goes on as if one were held.
    /// The file is never replaced or truncated. When the directory was moved away (a release) between opening and
    /// locking, the lock is of no use any more and the caller is told by [`io::ErrorKind::NotFound`].
    pub fn lock(&self, name: &str, patience: Duration) -> io::Result<Option<Lock>> {
        self.lock_as(FlockArg::LockExclusiveNonblock, name, patience)
    }

    /// The same, beside others who share it.
    pub fn lock_shared(&self, name: &str, patience: Duration) -> io::Result<Option<Lock>> {
        self.lock_as(FlockArg::LockSharedNonblock, name, patience)
    }

    fn lock_as(&self, how: FlockArg, name: &str, patience: Duration) -> io::Result<Option<Lock>> {
        const RETRY: Duration = Duration::from_millis(25);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.fd, name, flags, FILE_MODE)?);
        let deadline = Instant::now() + patience;
        loop {
            match Flock::lock(file, how) {
                Ok(flock) => {
                    let ours = flock.metadata();
                    let lock = Lock(Some(flock));
                    let ours = ours?;
                    let there = std::fs::symlink_metadata(self.path.join(name))?;
                    if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
                        return Err(io::ErrorKind::NotFound.into());
                    }
                    return Ok(Some(lock));
                }
                Err((back, Errno::EWOULDBLOCK)) => {
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                    file = back;
                    std::thread::sleep(RETRY);
                }
                Err((_, error)) => return Err(error.into()),
            }
        }
    }
}

/// Whether an error of [`Dir::lock`] means that the file system has no locks that work (hazards.md D8), not that
/// something is wrong with the file.
pub fn locks_nothing(error: &io::Error) -> bool {
    let without = [Errno::ENOLCK, Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EINVAL];
    error.raw_os_error().is_some_and(|number| without.contains(&Errno::from_raw(number)))
}

/// A held lock; it ends with this value or with the process.
#[derive(Debug)]
pub struct Lock(Option<Flock<File>>);

impl Drop for Lock {
    fn drop(&mut self) {
        use std::os::fd::AsRawFd;
        // Left to itself, a Flock that its file system does not unlock panics. Closing the file unlocks it as well.
        if let Some(Err((stuck, _))) = self.0.take().map(Flock::unlock) {
            nix::unistd::close(stuck.as_raw_fd()).ok();
            std::mem::forget(stuck);
        }
    }
}

fn ignore_missing(result: nix::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `bytes` random bytes from the kernel, as lower-case hex.
pub fn random_hex(bytes: usize) -> io::Result<String> {
    let mut buffer = vec![0u8; bytes];
    File::open("/dev/urandom")?.read_exact(&mut buffer)?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn scratch() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::private_root(&temp.path().join("root")).unwrap();
        (temp, dir)
    }

    #[test]
    fn writes_privately_and_reads_back() {
        let (_temp, dir) = scratch();
        dir.write("a", b"one").unwrap();
        dir.write("a", b"two").unwrap();
        assert_eq!(dir.read("a", 10).unwrap().unwrap(), b"two");
        assert_eq!(dir.names().unwrap(), ["a"]);
        let mode = std::fs::metadata(dir.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(dir.read("missing", 10).unwrap().is_none());
        assert!(dir.read("a", 2).unwrap_err().to_string().contains("longer than 2 bytes"));
        assert_eq!(dir.read_tail("a", 2).unwrap().unwrap(), b"wo");
    }

    #[test]
    fn never_follows_links_or_opens_pipes() {
        let (temp, dir) = scratch();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(temp.path(), dir.path().join("sub")).unwrap();
        assert!(dir.read("link", 100_000).is_err());
        assert!(dir.read("pipe", 100).is_err());
        assert!(dir.subdir("sub").is_err());
        dir.write("link", b"ours").unwrap();
        assert_eq!(dir.read("link", 100).unwrap().unwrap(), b"ours");
    }

    #[test]
    fn removing_a_tree_leaves_what_links_point_to() {
        let (temp, dir) = scratch();
        let outside = Dir::private_root(&temp.path().join("outside")).unwrap();
        outside.write("thesis.tex", b"words").unwrap();
        let inner = dir.make_subdir("lease").unwrap().make_subdir("deeper").unwrap();
        inner.symlink(outside.path(), "link").unwrap();
        let closed = dir.path().join("lease/closed");
        std::fs::DirBuilder::new().mode(0o000).create(&closed).unwrap();
        dir.remove_tree("lease").unwrap();
        dir.remove_tree("lease").unwrap();
        assert!(dir.names().unwrap().is_empty());
        assert!(outside.read("thesis.tex", 10).unwrap().is_some());
    }

    #[test]
    fn refuses_a_root_that_others_can_enter_unless_it_is_empty() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("open");
        Dir::private_root(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let dir = Dir::private_root(&path).unwrap();
        dir.write("record", b"").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o750)).unwrap();
        assert!(Dir::private_root(&path).unwrap_err().to_string().contains("has mode 0750"));
        let writable = temp.path().join("writable");
        Dir::private_root(&writable).unwrap();
        std::fs::set_permissions(&writable, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(Dir::private_root(&writable).unwrap_err().to_string().contains("has mode 0777"));
    }

    #[test]
    fn a_lock_excludes_and_a_moved_directory_is_noticed() {
        let (_temp, dir) = scratch();
        let lease = dir.make_subdir("lease").unwrap();
        let held = lease.lock("lock", Duration::ZERO).unwrap();
        assert!(held.is_some());
        assert!(lease.lock("lock", Duration::from_millis(60)).unwrap().is_none());
        assert!(lease.lock_shared("lock", Duration::ZERO).unwrap().is_none());
        drop(held);
        let (one, two) = (lease.lock_shared("lock", Duration::ZERO), lease.lock_shared("lock", Duration::ZERO));
        assert!(one.unwrap().is_some() && lease.lock("lock", Duration::ZERO).unwrap().is_none());
        assert!(two.unwrap().is_some());
        dir.rename("lease", &dir, "gone").unwrap();
        let error = lease.lock("lock", Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
