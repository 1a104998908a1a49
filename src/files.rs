//! The only module that writes files, and the way every file of ours is read.
//!
//! Both trees (the private state dir and the shared dir on the cluster) can be written by code of the same user, the
//! sandboxed code included. So a directory is opened once, checked, and everything below it is reached by name from
//! that open directory, never following a link; a file is read only when it is a regular file of a bounded size.
//! Writes are durable before they are visible: a new file in the same directory, synced, renamed, directory synced.

mod kept;
mod removal;
mod stamp;
pub mod trust;
mod user_file;

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::dir::Dir as DirStream;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

pub use kept::{BY_NAME, KeptFiles};
pub use removal::Cleared;
pub use stamp::{Stamp, YOUNG};
pub use user_file::UserFile;

const FILE_MODE: Mode = Mode::from_bits_truncate(0o600);
const DIR_MODE: Mode = Mode::from_bits_truncate(0o700);

/// How a file is opened to be read: a FIFO in its place must not hold us.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);

/// A directory of ours has some ten files; what code inside a lease has put beside them must not hold a call.
const REMOVAL_TIME: Duration = Duration::from_secs(2);

/// An open directory of ours and the path that it was opened by, for messages and other programs.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// Tells a file from a copy of it: its number in its file system, and when it was last changed, which nobody can set
/// (st_ctim of stat(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileId {
    pub inode: u64,
    pub changed_seconds: i64,
    pub changed_nanoseconds: i64,
}

impl FileId {
    fn of(meta: &Metadata) -> FileId {
        FileId { inode: meta.ino(), changed_seconds: meta.ctime(), changed_nanoseconds: meta.ctime_nsec() }
    }
}

/// A part of a file, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub start: u64,
    pub bytes: Vec<u8>,
}

impl Dir {
    /// Opens the root of a tree, making it (and what leads to it) with mode 0700 when it is missing. The path may
    /// lead through links, its end must be a directory of this user that nobody else can enter; an empty directory
    /// that others can only read is tightened, since somebody just made it for us.
    pub fn private_root(path: &Path) -> io::Result<Dir> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let dir = Dir::open_root(path)?;
        dir.make_private()?;
        Ok(dir)
    }

    /// The same directly below one where others make theirs; a link in its place is an error.
    pub fn private_below(parent: &Path, name: &str) -> io::Result<Dir> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        let dir = Dir::open_root(parent)?.make_subdir(name)?;
        dir.make_private()?;
        Ok(dir)
    }

    fn make_private(&self) -> io::Result<()> {
        let meta = fstat(&self.fd)?;
        if meta.st_uid != geteuid().as_raw() {
            let problem = format!("{} belongs to user id {}, not to {}", self.path.display(), meta.st_uid, geteuid());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        if meta.st_mode & 0o077 != 0 {
            if meta.st_mode & 0o022 != 0 || !self.names()?.is_empty() {
                let mode = meta.st_mode & 0o7777;
                let problem = format!("{} has mode {mode:04o}, others can enter it", self.path.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
            }
            nix::sys::stat::fchmod(&self.fd, DIR_MODE)?;
        }
        Ok(())
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
    /// opened anew, which makes NFS ask its server (docs/facts/files.md, "Names that show up late").
    pub fn names(&self) -> io::Result<Vec<String>> {
        self.some_names(usize::MAX, |_| true)
    }

    /// The first `most` of the names below that are wanted.
    pub fn some_names(&self, most: usize, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut stream = DirStream::openat(&self.fd, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in stream.iter() {
            if names.len() >= most {
                break;
            }
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
                && wanted(name)
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Whether a name is there, told by the directory itself: of a name that was missing NFS says for half a minute that
    /// it still is.
    pub fn lists(&self, name: &str) -> io::Result<bool> {
        Ok(!self.some_names(1, |found| found == name)?.is_empty())
    }

    /// Whether a name is that of a regular file of exactly these bytes; `None` when there is no such name.
    pub fn holds(&self, name: &str, bytes: &[u8]) -> io::Result<Option<bool>> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return if self.lists(name)? { Err(Errno::ENOENT.into()) } else { Ok(None) },
            Err(error) => return Err(error.into()),
            Ok(meta) if kind(meta.st_mode) != SFlag::S_IFREG => return Ok(Some(false)),
            Ok(_) => {}
        }
        let holds = self.read_regular(name, |file, _| {
            let mut read = Vec::new();
            file.take(bytes.len() as u64 + 1).read_to_end(&mut read)?;
            Ok(read == bytes)
        })?;
        holds.map(Some).ok_or_else(|| Errno::ENOENT.into())
    }

    /// Whether a name is that of a directory which belongs to this user.
    pub fn has_own_dir(&self, name: &str) -> bool {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|meta| kind(meta.st_mode) == SFlag::S_IFDIR && meta.st_uid == geteuid().as_raw())
    }

    /// Reads a regular file; `None` when it is missing, an error when it is anything else or longer than `max` bytes.
    pub fn read(&self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        self.read_regular(name, |file, size| read_whole(&file, size, max, &self.path.join(name)))
    }

    /// The same of a file in a directory below, in one step where the kernel can walk a path without following a link (Linux 5.6).
    pub fn read_below(&self, subdir: &str, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        let path = Path::new(subdir).join(name);
        let how = OpenHow::new().flags(READ).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        let read = || -> io::Result<Option<Vec<u8>>> {
            let file = match openat2(&self.fd, &path, how) {
                Err(Errno::ENOENT) => return Ok(None),
                opened => File::from(opened?),
            };
            let meta = file.metadata()?;
            match meta.is_file() {
                true => read_whole(&file, meta.len(), max, &path).map(Some),
                false => Err(io::ErrorKind::Other.into()),
            }
        };
        // What hinders that hinders the long way too, which says what it is.
        read().or_else(|_| self.subdir(subdir)?.map_or(Ok(None), |dir| dir.read(name, max)))
    }

    /// The first `max` bytes of a regular file; `None` when it is missing.
    pub fn read_start(&self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        self.read_regular(name, |file, size| {
            let mut bytes = Vec::with_capacity(size.min(max) as usize);
            file.take(max).read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

    /// The last `max` bytes of a regular file; `None` when it is missing.
    pub fn read_tail(&self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.read_part(name, None, max)?.map(|part| part.bytes))
    }

    /// At most `max` bytes of a regular file from `start` on; without it, its last ones. `None` when it is missing.
    pub fn read_part(&self, name: &str, start: Option<u64>, max: u64) -> io::Result<Option<Part>> {
        use std::io::{Seek, SeekFrom};
        self.read_regular(name, |mut file, size| {
            let start = start.unwrap_or(size.saturating_sub(max));
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(max).read_to_end(&mut bytes)?;
            Ok(Part { start, bytes })
        })
    }

    /// What `read` gets from a regular file, which it is given with its size.
    fn read_regular<T>(&self, name: &str, read: impl Fn(File, u64) -> io::Result<T>) -> io::Result<Option<T>> {
        again_if_stale(|| self.open_regular(name)?.map(|(file, meta)| read(file, meta.len())).transpose())
    }

    fn open_regular(&self, name: &str) -> io::Result<Option<(File, Metadata)>> {
        let strange = || io::Error::other(format!("{} is not a regular file", self.path.join(name).display()));
        let file = match openat(&self.fd, name, READ, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP | Errno::ENXIO) => return Err(strange()),
            Err(error) => return Err(error.into()),
        };
        let meta = file.metadata()?;
        if meta.is_file() { Ok(Some((file, meta))) } else { Err(strange()) }
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

    /// Makes a file that must not exist yet, and the directories that lead to it; whether it was us who made it. A file that could
    /// not be written whole does not stay.
    pub fn new_file(path: &Path, bytes: &[u8]) -> io::Result<bool> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        let dir = Dir::open_root(parent)?;
        let made = dir.create(name, bytes);
        if made.is_err() {
            let _ = dir.unlink(name);
        }
        if made? { dir.sync().map(|()| true) } else { Ok(false) }
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

    /// Makes a symbolic link in the place of what is there.
    pub fn replace_symlink(&self, points_to: &Path, name: &str) -> io::Result<()> {
        let temp = format!(".{name}.{}", random_hex(8)?);
        self.symlink(points_to, &temp)?;
        self.rename(&temp, self, name).inspect_err(|_| drop(self.unlink(&temp)))
    }

    /// Where a symbolic link leads to; `None` when there is no such name, or it is none.
    pub fn link_target(&self, name: &str) -> Option<PathBuf> {
        nix::fcntl::readlinkat(&self.fd, name).ok().map(PathBuf::from)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, points_to: &Path, name: &str) -> io::Result<()> {
        Ok(nix::unistd::symlinkat(points_to, &self.fd, name)?)
    }

    /// Removes what nobody uses any more and all below it, see [`Dir::clear`]; missing is fine.
    ///
    /// # Errors
    /// What is left then goes with the next try.
    pub fn remove_tree(&self, name: &str) -> io::Result<()> {
        match self.clear(name, Instant::now() + REMOVAL_TIME) {
            Cleared::All => Ok(()),
            Cleared::TimeUp => Err(io::ErrorKind::TimedOut.into()),
            Cleared::Stuck(error) => Err(error),
        }
    }

    /// Whether this very directory still lies where it was opened.
    pub fn is_in_place(&self) -> bool {
        match (fstat(&self.fd), std::fs::symlink_metadata(&self.path)) {
            (Ok(ours), Ok(there)) => (ours.st_dev, ours.st_ino) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    /// Whether both are one directory, by whatever names they were opened.
    pub fn is_same(&self, other: &Dir) -> bool {
        match (fstat(&self.fd), fstat(&other.fd)) {
            (Ok(one), Ok(two)) => (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino),
            _ => false,
        }
    }

    /// Which file a name is; `None` when it is missing.
    pub fn file_id(&self, name: &str) -> io::Result<Option<FileId>> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(meta) => Ok(Some(FileId {
                inode: meta.st_ino,
                changed_seconds: meta.st_ctime,
                changed_nanoseconds: meta.st_ctime_nsec,
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// When a file was last written, in seconds since the epoch; `None` when it is missing or not a regular file.
    pub fn modified(&self, name: &str) -> Option<i64> {
        let meta = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        (kind(meta.st_mode) == SFlag::S_IFREG).then_some(meta.st_mtime)
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
        let deadline = Instant::now() + patience;
        match again_if_stale(|| self.lock_until(how, name, deadline)) {
            Err(error) if is_stale(&error) && !self.is_in_place() => Err(io::ErrorKind::NotFound.into()),
            result => result,
        }
    }

    fn lock_until(&self, how: FlockArg, name: &str, deadline: Instant) -> io::Result<Option<Lock>> {
        const RETRY: Duration = Duration::from_millis(25);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.fd, name, flags, FILE_MODE)?);
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

/// The bytes of a file of a known size, without a further read that would find its end: a file of ours does not grow.
fn read_whole(file: &File, size: u64, max: u64, path: &Path) -> io::Result<Vec<u8>> {
    if size > max {
        return Err(io::Error::other(format!("{} is longer than {max} bytes", path.display())));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Does it once more when another host has removed or replaced the file meanwhile (docs/facts/files.md, "Stale handles"): a name
/// that is opened anew leads to what is there now.
fn again_if_stale<T>(act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match act() {
        Err(error) if is_stale(&error) => act(),
        result => result,
    }
}

fn is_stale(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ESTALE as i32)
}

/// An absolute path without links and `..`, as far as it exists.
pub fn resolve(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut resolved = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::Normal(name) => {
                resolved.push(name);
                resolved = std::fs::canonicalize(&resolved).unwrap_or(resolved);
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    resolved
}

fn kind(mode: u32) -> SFlag {
    SFlag::from_bits_truncate(mode) & SFlag::S_IFMT
}

/// Whether an error of [`Dir::lock`] means that the file system has no locks that work (docs/facts/files.md, "Locks"), not that
/// something is wrong with the file.
pub fn locks_nothing(error: &io::Error) -> bool {
    let without = [Errno::ENOLCK, Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EINVAL];
    error.raw_os_error().is_some_and(|number| without.contains(&Errno::from_raw(number)))
}

/// Whether an error means that the disk is full, or the user's share of it.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
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

/// `bytes` random bytes from the kernel, as lower-case hex.
pub fn random_hex(bytes: usize) -> io::Result<String> {
    static RANDOM: OnceLock<File> = OnceLock::new();
    let mut random = match RANDOM.get() {
        Some(random) => random,
        None => {
            let opened = File::open("/dev/urandom")?;
            RANDOM.get_or_init(|| opened)
        }
    };
    let mut buffer = vec![0u8; bytes];
    random.read_exact(&mut buffer)?;
    Ok(hex(&buffer))
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    fn a_disk_or_a_quota_is_full() {
        for (error, full) in [(Errno::ENOSPC, true), (Errno::EDQUOT, true), (Errno::EACCES, false)] {
            assert_eq!(is_full(&error.into()), full, "{error}");
        }
    }

    #[test]
    fn a_stale_handle_is_opened_once_more() {
        let stale = || io::Error::from(Errno::ESTALE);
        for (stale_times, other, result) in
            [(1, false, Ok(2)), (2, false, Err(Errno::ESTALE)), (0, true, Err(Errno::EIO))]
        {
            let calls = std::cell::Cell::new(0);
            let got = again_if_stale(|| {
                calls.set(calls.get() + 1);
                match calls.get() <= stale_times {
                    true => Err(stale()),
                    false if other => Err(Errno::EIO.into()),
                    false => Ok(calls.get()),
                }
            });
            let got = got.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap()));
            assert_eq!(got, result);
        }
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
        assert_eq!(dir.read_part("a", None, 2).unwrap(), Some(Part { start: 1, bytes: b"wo".to_vec() }));
        assert_eq!(dir.read_part("a", Some(1), 1).unwrap(), Some(Part { start: 1, bytes: b"w".to_vec() }));
        assert_eq!(dir.read_part("a", Some(9), 1).unwrap(), Some(Part { start: 9, bytes: vec![] }));
    }

    #[test]
    fn a_new_file_never_takes_the_place_of_another() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b/config.toml");
        assert!(Dir::new_file(&path, b"one").unwrap());
        assert!(!Dir::new_file(&path, b"two").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let link = temp.path().join("a/link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(!Dir::new_file(&link, b"two").unwrap());
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
    fn a_path_of_two_steps_is_read_as_in_two() {
        let (temp, dir) = scratch();
        assert_eq!(dir.read_below("lease", "a", 9).unwrap(), None);
        let lease = dir.make_subdir("lease").unwrap();
        assert_eq!(dir.read_below("lease", "a", 9).unwrap(), None);
        lease.put("a", b"one").unwrap();
        assert_eq!(dir.read_below("lease", "a", 9).unwrap().unwrap(), b"one");
        assert!(dir.read_below("lease", "a", 2).unwrap_err().to_string().contains("longer than 2 bytes"));
        std::os::unix::fs::symlink(lease.path(), dir.path().join("link")).unwrap();
        assert!(dir.read_below("link", "a", 9).is_err());
        lease.symlink(Path::new("a"), "other").unwrap();
        assert!(dir.read_below("lease", "other", 9).is_err());
        nix::unistd::mkfifo(&lease.path().join("pipe"), Mode::S_IRWXU).unwrap();
        assert!(dir.read_below("lease", "pipe", 9).is_err());
        lease.make_subdir("dir").unwrap();
        assert!(dir.read_below("lease", "dir", 9000).is_err());
        // What leads to the tree may be a link.
        std::os::unix::fs::symlink(dir.path(), temp.path().join("way")).unwrap();
        let way = Dir::open_root(&temp.path().join("way")).unwrap();
        assert_eq!(way.read_below("lease", "a", 9).unwrap().unwrap(), b"one");
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
