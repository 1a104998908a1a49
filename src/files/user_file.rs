//! A file that its owner also writes by hand, such as `~/.ssh/config`: changed in one step, its mode kept, links followed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::{Dir, FILE_MODE, random_hex};

/// More than anybody writes by hand.
const MOST_BYTES: u64 = 4 << 20;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// The file as it was found.
#[derive(Debug)]
pub struct UserFile {
    /// Where links lead to.
    path: PathBuf,
    text: Option<Vec<u8>>,
    mode: Mode,
}

impl UserFile {
    /// Reads the file; one that is missing is no error.
    ///
    /// # Errors
    /// When it cannot be read, is another user's, or is no regular file.
    pub fn open(path: &Path) -> io::Result<UserFile> {
        let path = end_of_links(path)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(UserFile { path, text: None, mode: FILE_MODE });
            }
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        let strange = |why: &str| io::Error::other(format!("{} {why}", path.display()));
        if !meta.is_file() {
            return Err(strange("is not a regular file"));
        }
        if meta.uid() != geteuid().as_raw() {
            return Err(strange(&format!("belongs to user id {}", meta.uid())));
        }
        if meta.len() > MOST_BYTES {
            return Err(strange(&format!("is longer than {MOST_BYTES} bytes")));
        }
        let mut text = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut text)?;
        Ok(UserFile { path, text: Some(text), mode: Mode::from_bits_truncate(meta.mode() & 0o7777) })
    }

    /// What it holds; `None` where there is none.
    pub fn text(&self) -> Option<&[u8]> {
        self.text.as_deref()
    }

    /// Puts another text in its place, durably; the directory is made where it is missing.
    ///
    /// # Errors
    /// When it cannot be written, or was changed since it was opened; it is as it was then.
    pub fn replace(&self, text: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent_and_name()?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        let dir = Dir::open_root(parent)?;
        let temp = format!(".{name}.{}", random_hex(8)?);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&dir.fd, temp.as_str(), flags, FILE_MODE)?);
        let written = file
            .write_all(text)
            .and_then(|()| Ok(fchmod(&file, self.mode)?))
            .and_then(|()| file.sync_all())
            .and_then(|()| self.unchanged())
            .and_then(|()| Ok(renameat(&dir.fd, temp.as_str(), &dir.fd, name)?));
        if written.is_err() {
            let _ = unlinkat(&dir.fd, temp.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        written.and_then(|()| dir.sync())
    }

    /// Removes it.
    ///
    /// # Errors
    /// When it cannot be removed, or was changed since it was opened.
    pub fn remove(&self) -> io::Result<()> {
        let (parent, name) = self.parent_and_name()?;
        self.unchanged()?;
        let dir = Dir::open_root(parent)?;
        dir.unlink(name)?;
        dir.sync()
    }

    fn parent_and_name(&self) -> io::Result<(&Path, &str)> {
        let name = self.path.file_name().and_then(|name| name.to_str());
        self.path.parent().zip(name).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// An editor may have written it meanwhile.
    fn unchanged(&self) -> io::Result<()> {
        match UserFile::open(&self.path)?.text == self.text {
            true => Ok(()),
            false => Err(io::Error::other(format!("{} was changed meanwhile", self.path.display()))),
        }
    }
}

fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            // No link, or nothing.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Errno::ELOOP.into())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write files as people do")]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_keeps_its_mode_and_a_link_stays_one() {
        let temp = tempfile::tempdir().unwrap();
        let (real, link) = (temp.path().join("real"), temp.path().join("config"));
        std::fs::write(&real, "one").unwrap();
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o440)).unwrap();
        symlink("real", &link).unwrap();
        let file = UserFile::open(&link).unwrap();
        assert_eq!(file.text(), Some(&b"one"[..]));
        file.replace(b"two").unwrap();
        assert_eq!(std::fs::read(&link).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o440);
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        // It is another text now.
        assert!(file.replace(b"three").is_err() && file.remove().is_err());
        assert_eq!(std::fs::read(&link).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_is_missing_is_made_in_private() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("ssh/config");
        let file = UserFile::open(&path).unwrap();
        assert_eq!(file.text(), None);
        file.replace(b"one").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        UserFile::open(&path).unwrap().remove().unwrap();
        assert!(!path.exists());
        symlink("nowhere", &path).unwrap();
        UserFile::open(&path).unwrap().replace(b"two").unwrap();
        assert_eq!(std::fs::read(path.with_file_name("nowhere")).unwrap(), b"two");
        assert!(UserFile::open(temp.path()).is_err());
    }
}
