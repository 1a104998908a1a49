//! Files that steer this program though it did not write them: they count only where nobody can change them but an owner who is
//! trusted with it. What is told of a file of another host is judged by the same rules.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Group, Uid, User};

/// Whose such a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    Root,
    /// This user, or root.
    UserOrRoot(u32),
}

/// Why a file does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsafe {
    Missing,
    OfAnotherKind(String),
    OfUser(String),
    Writable,
    /// The same of its directory.
    In(Box<Unsafe>),
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsafe::Missing => f.write_str("is not there"),
            Unsafe::OfAnotherKind(kind) => write!(f, "is a {kind}"),
            Unsafe::OfUser(uid) => write!(f, "belongs to user id {uid}"),
            Unsafe::Writable => f.write_str("can be written by others than its owner"),
            Unsafe::In(why) => write!(f, "is in a directory that {why}"),
        }
    }
}

impl Unsafe {
    /// What makes the file count.
    pub fn remedy(&self, path: &Path, owners: Owners) -> String {
        let (why, path) = match self {
            Unsafe::In(why) => (&**why, path.parent().unwrap_or(path)),
            why => (why, path),
        };
        let path = path.display();
        match (why, owners) {
            (Unsafe::OfUser(_), Owners::Root) => format!("have root run `chown root {path}`"),
            (Unsafe::OfUser(_), Owners::UserOrRoot(_)) => format!("make {path} your own, or root's"),
            (Unsafe::Writable, _) => format!("run `chmod go-w {path}`"),
            _ => format!("put a regular file at {path}"),
        }
    }
}

/// A regular file of at most `max` bytes, and why it does not count where it does not.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read(path: &Path, owners: Owners, max: u64) -> io::Result<Result<Vec<u8>, Unsafe>> {
    // A person may keep the files of a home elsewhere and have links lead there. Root's are where they are expected.
    let follow = matches!(owners, Owners::UserOrRoot(_));
    let links = if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    if let Some(directory) = path.parent() {
        let meta = if follow { std::fs::metadata(directory) } else { std::fs::symlink_metadata(directory) };
        match meta {
            Err(error) if is_missing(&error) => return Ok(Err(Unsafe::Missing)),
            meta => {
                if let Err(why) = is_trusted(&Attributes::of(&meta?), &["directory"], owners) {
                    return Ok(Err(Unsafe::In(Box::new(why))));
                }
            }
        }
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | links;
    let file = match nix::fcntl::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(Err(Unsafe::Missing)),
        Err(Errno::ELOOP) => return Ok(Err(Unsafe::OfAnotherKind("symbolic link".to_owned()))),
        Err(error) => return Err(error.into()),
    };
    let meta = file.metadata()?;
    if let Err(why) = is_trusted(&Attributes::of(&meta), &["regular file"], owners) {
        return Ok(Err(why));
    }
    super::read_whole(&file, meta.len(), max, path).map(Ok)
}

/// Any file that the caller names, a pipe too, up to `max` bytes.
///
/// # Errors
/// When it cannot be read, or is longer.
pub fn read_named(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max {
        true => Err(io::Error::other(format!("it is longer than {max} bytes"))),
        false => Ok(bytes),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What is seen of a file: owner, mode and kind, the kind in the words of stat(1).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Attributes {
    uid: u32,
    /// Of files of this host.
    gid: Option<u32>,
    mode: u32,
    kind: String,
}

impl Attributes {
    fn of(meta: &std::fs::Metadata) -> Attributes {
        let kind = match meta.file_type() {
            kind if kind.is_file() => "regular file",
            kind if kind.is_dir() => "directory",
            kind if kind.is_symlink() => "symbolic link",
            kind if kind.is_fifo() => "fifo",
            _ => "special file",
        };
        Attributes { uid: meta.uid(), gid: Some(meta.gid()), mode: meta.mode(), kind: kind.to_owned() }
    }
}

/// Judges a line of `stat --format='%u %a %F'`: whether such a thing is root's alone.
///
/// # Errors
/// Why it is not.
pub fn is_roots(line: &str, kinds: &[&str]) -> Result<(), Unsafe> {
    let mut words = line.splitn(3, ' ');
    let (owner, mode, kind) = (words.next().unwrap_or_default(), words.next(), words.next().unwrap_or_default());
    let mode = mode.and_then(|mode| u32::from_str_radix(mode, 8).ok());
    match (owner.parse(), mode) {
        (Ok(uid), Some(mode)) => {
            is_trusted(&Attributes { uid, gid: None, mode, kind: kind.to_owned() }, kinds, Owners::Root)
        }
        _ => Err(Unsafe::Missing),
    }
}

fn is_trusted(seen: &Attributes, kinds: &[&str], owners: Owners) -> Result<(), Unsafe> {
    let (owned, own_group) = match owners {
        Owners::Root => (seen.uid == 0, false),
        Owners::UserOrRoot(uid) => {
            (seen.uid == 0 || seen.uid == uid, seen.gid.is_some_and(|gid| is_users_alone(gid, uid)))
        }
    };
    let others = if own_group { 0o002 } else { 0o022 };
    match () {
        () if !kinds.contains(&seen.kind.as_str()) => Err(Unsafe::OfAnotherKind(seen.kind.clone())),
        () if !owned => Err(Unsafe::OfUser(seen.uid.to_string())),
        () if seen.mode & others != 0 => Err(Unsafe::Writable),
        () => Ok(()),
    }
}

/// Whether a group is a user's private one: Debian and Red Hat give everybody one, and a umask that lets it write.
fn is_users_alone(gid: u32, uid: u32) -> bool {
    let (group, user) = (Group::from_gid(Gid::from_raw(gid)), User::from_uid(Uid::from_raw(uid)));
    let (Ok(Some(group)), Ok(Some(user))) = (group, user) else { return false };
    group.gid == user.gid && group.name == user.name && group.mem.iter().all(|member| *member == user.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Dir;
    use rstest::rstest;
    use std::os::unix::fs::PermissionsExt;

    const ME: u32 = 1001;

    #[rstest]
    #[case::roots(0, 0o644, "regular file", Owners::Root, None)]
    #[case::a_users(ME, 0o644, "regular file", Owners::Root, Some(Unsafe::OfUser("1001".into())))]
    #[case::roots_group_may_write(0, 0o664, "regular file", Owners::Root, Some(Unsafe::Writable))]
    #[case::all_may_write(0, 0o646, "regular file", Owners::Root, Some(Unsafe::Writable))]
    #[case::mine(ME, 0o600, "regular file", Owners::UserOrRoot(ME), None)]
    #[case::roots_for_me(0, 0o644, "regular file", Owners::UserOrRoot(ME), None)]
    #[case::anothers(ME + 1, 0o644, "regular file", Owners::UserOrRoot(ME), Some(Unsafe::OfUser("1002".into())))]
    #[case::all_may_write_mine(ME, 0o602, "regular file", Owners::UserOrRoot(ME), Some(Unsafe::Writable))]
    #[case::a_group_may_write_mine(ME, 0o660, "regular file", Owners::UserOrRoot(ME), Some(Unsafe::Writable))]
    #[case::a_pipe(0, 0o600, "fifo", Owners::Root, Some(Unsafe::OfAnotherKind("fifo".into())))]
    fn who_may_write(
        #[case] uid: u32,
        #[case] mode: u32,
        #[case] kind: &str,
        #[case] owners: Owners,
        #[case] expected: Option<Unsafe>,
    ) {
        let seen = Attributes { uid, gid: None, mode, kind: kind.to_owned() };
        assert_eq!(is_trusted(&seen, &["regular file"], owners).err(), expected);
    }

    #[test]
    fn a_file_is_read_where_its_owner_alone_can_change_it() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::private_root(&temp.path().join("conf")).unwrap();
        let path = dir.path().join("config.toml");
        let mine = Owners::UserOrRoot(nix::unistd::geteuid().as_raw());
        let read = |max| read(&path, mine, max).unwrap();
        assert_eq!(read(9), Err(Unsafe::Missing));
        dir.write("config.toml", b"text").unwrap();
        assert_eq!(read(9), Ok(b"text".to_vec()));
        assert!(super::read(&path, mine, 3).is_err());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o606)).unwrap();
        assert_eq!(read(9), Err(Unsafe::Writable));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o707)).unwrap();
        assert_eq!(read(9), Err(Unsafe::In(Box::new(Unsafe::Writable))));
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        dir.rename("config.toml", &dir, "elsewhere").unwrap();
        dir.symlink(Path::new("elsewhere"), "config.toml").unwrap();
        assert_eq!(read(9), Ok(b"text".to_vec()));
        assert!(super::read(&path, Owners::Root, 9).unwrap().is_err());
        dir.unlink("config.toml").unwrap();
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert_eq!(read(9), Err(Unsafe::OfAnotherKind("fifo".into())));
    }
}
