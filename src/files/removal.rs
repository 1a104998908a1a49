//! Removal of trees that sandboxed code has made: of any depth, width and permissions.
//!
//! A tree is flattened instead of being descended: what lies in the top directory's directories is removed, and a directory
//! found there that is not empty moves up into the top directory under a random name. So a removal has four descriptors open
//! at most and no stack, however deep the tree is, and can stop anywhere: what is left is a tree to be removed like
//! the first. Nothing is removed through a link or on another mount: the kernel neither removes nor moves what is mounted on,
//! and a directory is entered only when it is on the mount of the one above.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use nix::dir::{Dir as DirStream, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Dir, random_hex};

/// How far a removal came.
#[derive(Debug)]
#[must_use]
pub enum Cleared {
    /// Nothing is left.
    All,
    /// Time was up; the next removal goes on.
    TimeUp,
    /// This is in the way of the rest: an entry of somebody else, an immutable one, a mount.
    Stuck(io::Error),
}

impl Dir {
    /// Removes an entry and all below it until the time is up; missing is fine.
    pub fn clear(&self, name: impl AsRef<OsStr>, until: Instant) -> Cleared {
        let name = name.as_ref();
        if name.as_bytes().contains(&b'/') || name.is_empty() || name == "." || name == ".." {
            return Cleared::Stuck(io::Error::from(io::ErrorKind::InvalidInput));
        }
        clear(self, name, until).unwrap_or_else(|error| Cleared::Stuck(self.about(name, &error)))
    }

    fn about(&self, name: &OsStr, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.join(name).display()))
    }
}

fn clear(above: &Dir, name: &OsStr, until: Instant) -> io::Result<Cleared> {
    if !is_dir(&above.fd, name)? {
        ignore_missing(unlinkat(&above.fd, name, UnlinkatFlags::NoRemoveDir))?;
        return Ok(Cleared::All);
    }
    let Some(top) = enter(&above.fd, name)? else { return Ok(Cleared::All) };
    let mount = Mount::of(&top)?;
    if mount != Mount::of(&above.fd)? {
        return Err(io::Error::other("another file system is mounted here"));
    }
    loop {
        match level(&top, &mount, until)? {
            Pass { time_up: true, .. } => return Ok(Cleared::TimeUp),
            Pass { moved: 0, removed: 0, stuck, .. } => {
                return match (unlinkat(&above.fd, name, UnlinkatFlags::RemoveDir), stuck) {
                    (Ok(()) | Err(Errno::ENOENT), _) => Ok(Cleared::All),
                    // Somebody goes on making files here.
                    (Err(Errno::ENOTEMPTY | Errno::EEXIST), None) => Ok(Cleared::TimeUp),
                    (Err(_), Some(error)) => Err(error),
                    (Err(error), None) => Err(error.into()),
                };
            }
            Pass { .. } => {}
        }
    }
}

/// What one pass over a directory has done.
#[derive(Debug, Default)]
struct Pass {
    removed: u64,
    moved: u64,
    time_up: bool,
    /// The first that could not be removed.
    stuck: Option<io::Error>,
}

impl Pass {
    fn take(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.removed += 1,
            Err(error) => {
                self.stuck.get_or_insert(error);
            }
        }
    }
}

/// Removes what lies in a directory; `full` is given the directories in it that are not empty.
fn remove_entries(
    dir: &OwnedFd,
    until: Instant,
    pass: &mut Pass,
    mut full: impl FnMut(&OsStr, &mut Pass),
) -> io::Result<()> {
    each_entry(dir, |name, kind| {
        if Instant::now() >= until {
            pass.time_up = true;
        } else if !is_perhaps_dir(kind) || !is_dir(dir, name).unwrap_or(true) {
            pass.take(remove_file(dir, name));
        } else if unlinkat(dir, name, UnlinkatFlags::RemoveDir).is_ok() {
            pass.removed += 1;
        } else {
            full(name, pass);
        }
        !pass.time_up
    })
}

/// Removes what lies in the top directory, and the contents of its directories.
fn level(top: &OwnedFd, mount: &Mount, until: Instant) -> io::Result<Pass> {
    let mut pass = Pass::default();
    remove_entries(top, until, &mut pass, |name, pass| empty(top, name, mount, until, pass))?;
    Ok(pass)
}

/// Empties a directory of the top directory and removes it. Its own directories move up.
fn empty(top: &OwnedFd, name: &OsStr, mount: &Mount, until: Instant, pass: &mut Pass) {
    let inner = match enter(top, name) {
        Ok(Some(inner)) => inner,
        Ok(None) => return,
        Err(error) => return pass.take(Err(error)),
    };
    if !Mount::of(&inner).is_ok_and(|found| found == *mount) {
        return pass.take(Err(io::Error::other(format!("{}: another file system is mounted here", name.display()))));
    }
    let walked = remove_entries(&inner, until, pass, |entry, pass| match move_up(&inner, entry, top) {
        Ok(()) => pass.moved += 1,
        Err(error) => pass.take(Err(error)),
    });
    if let Err(error) = walked {
        return pass.take(Err(error));
    }
    match unlinkat(top, name, UnlinkatFlags::RemoveDir) {
        Ok(()) => pass.removed += 1,
        // Told by what is in it.
        Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOENT) => {}
        Err(error) => pass.take(Err(error.into())),
    }
}

fn move_up(from: &OwnedFd, name: &OsStr, top: &OwnedFd) -> io::Result<()> {
    let up = random_hex(8)?;
    if renameat(from, name, top, up.as_str()).is_ok() {
        return Ok(());
    }
    // A directory that gets another parent has to be writable itself.
    open_up(from, name).ok();
    Ok(renameat(from, name, top, up.as_str())?)
}

fn remove_file(from: &OwnedFd, name: &OsStr) -> io::Result<()> {
    ignore_missing(unlinkat(from, name, UnlinkatFlags::NoRemoveDir))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", name.display())))
}

/// Calls `take` with each entry until it answers no. Entries may go and come meanwhile.
fn each_entry(dir: &OwnedFd, mut take: impl FnMut(&OsStr, Option<Type>) -> bool) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut stream = DirStream::openat(dir, ".", flags, Mode::empty())?;
    for entry in stream.iter() {
        let entry = entry?;
        let name = OsString::from(OsStr::from_bytes(entry.file_name().to_bytes()));
        if name != "." && name != ".." && !take(&name, entry.file_type()) {
            break;
        }
    }
    Ok(())
}

fn is_perhaps_dir(kind: Option<Type>) -> bool {
    matches!(kind, None | Some(Type::Directory))
}

fn is_dir(from: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(meta) => Ok(super::kind(meta.st_mode) == SFlag::S_IFDIR),
        Err(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory that may be closed to us; `None` when it is gone.
fn enter(from: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    if fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|meta| meta.st_mode & 0o700 != 0o700) {
        // Where it is not ours to change, what can be removed is removed all the same.
        open_up(from, name).ok();
    }
    match openat(from, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Gives us access to a directory of ours that was closed to us; it is held open meanwhile, so that the change cannot be
/// led elsewhere by a link.
fn open_up(from: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let held = openat(from, name, flags, Mode::empty())?;
    let place = format!("/proc/self/fd/{}", held.as_raw_fd());
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o700))
}

/// Which mount a directory is on. The device alone does not tell a bind mount from what lies around it.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: u64,
    /// `None` on kernels before 3.15 and without /proc.
    id: Option<u64>,
}

impl Mount {
    fn of(fd: &OwnedFd) -> io::Result<Mount> {
        let info = std::fs::read_to_string(Path::new("/proc/self/fdinfo").join(fd.as_fd().as_raw_fd().to_string()));
        let id = |text: &str| text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        Ok(Mount { device: fstat(fd)?.st_dev, id: info.ok().as_deref().and_then(id) })
    }
}

fn ignore_missing(result: nix::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests play the sandboxed code")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn scratch() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(temp.path()).unwrap();
        (temp, dir)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// A chain of directories, each in the one before, with a file in each.
    fn chain(top: &Dir, name: &str, levels: usize) {
        let mut dir = top.make_subdir("tree").unwrap();
        for _ in 0..levels {
            dir.create("file", b"").unwrap();
            let inner = dir.make_subdir(name).unwrap();
            // The path of a directory this deep is longer than the kernel takes, and nobody asks for it.
            dir = Dir { fd: inner.fd, path: Path::new("deep").to_owned() };
        }
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let (temp, dir) = scratch();
        chain(&dir, &"n".repeat(255), 3000);
        let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(move || dir.clear("tree", soon())).unwrap();
        assert!(matches!(thread.join().unwrap(), Cleared::All));
        assert!(!temp.path().join("tree").exists());
    }

    #[test]
    fn what_time_has_left_goes_with_the_next_try() {
        let (temp, dir) = scratch();
        chain(&dir, "d", 300);
        assert!(matches!(dir.clear("tree", Instant::now()), Cleared::TimeUp));
        let mut tries = 0;
        while !matches!(dir.clear("tree", Instant::now() + Duration::from_millis(2)), Cleared::All) {
            tries += 1;
            assert!(tries < 5000, "it never ends");
        }
        assert!(!temp.path().join("tree").exists());
    }

    #[test]
    fn neither_modes_nor_strange_entries_stop_it_and_links_are_not_followed() {
        use std::os::unix::fs::PermissionsExt;
        let (temp, dir) = scratch();
        let outside = temp.path().join("outside");
        std::fs::create_dir_all(outside.join("thesis")).unwrap();
        let tree = temp.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b/c/d")).unwrap();
        std::fs::create_dir_all(tree.join("closed/in/deeper")).unwrap();
        for link in [tree.join("link"), tree.join("a/link"), tree.join("a/b/c/link")] {
            std::os::unix::fs::symlink(&outside, link).unwrap();
        }
        nix::unistd::mkfifo(&tree.join("a/b/fifo"), Mode::S_IRWXU).unwrap();
        std::fs::write(tree.join("a").join(OsStr::from_bytes(b"\xff\n")), "").unwrap();
        for closed in ["closed/in/deeper", "closed/in", "closed", "a/b"] {
            std::fs::set_permissions(tree.join(closed), PermissionsExt::from_mode(0o000)).unwrap();
        }
        assert!(matches!(dir.clear("tree", soon()), Cleared::All));
        assert!(!tree.exists() && outside.join("thesis").exists());
        std::os::unix::fs::symlink(&outside, &tree).unwrap();
        assert!(matches!(dir.clear("tree", soon()), Cleared::All));
        assert!(!tree.exists() && outside.join("thesis").exists());
        assert!(matches!(dir.clear("..", soon()), Cleared::Stuck(_)));
        assert!(matches!(dir.clear("outside/thesis", soon()), Cleared::Stuck(_)));
    }

    #[test]
    fn a_mount_is_known_by_more_than_its_device() {
        let (temp, _) = scratch();
        let here = Dir::open_root(temp.path()).unwrap();
        let proc = Dir::open_root(Path::new("/proc")).unwrap();
        assert_eq!(Mount::of(&here.fd).unwrap(), Mount::of(&here.fd).unwrap());
        assert_ne!(Mount::of(&here.fd).unwrap(), Mount::of(&proc.fd).unwrap());
        assert!(Mount::of(&here.fd).unwrap().id.is_some());
    }
}
