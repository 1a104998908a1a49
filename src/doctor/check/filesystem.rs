//! What kind of file system a directory is on, and who else can see it.

use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;
use nix::sys::statvfs::statvfs;

use crate::doctor::run::Clock;
use crate::host::{Command, End};

/// Who sees what is written to a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Other hosts, as a rule.
    Network,
    /// A disk of this host, unless it exports it.
    Local,
    /// The memory of this host.
    Memory,
    /// It can be either: FUSE, automounts, kinds that are not known here.
    Unclear,
}

/// A file system's magic number, name and reach (statfs(2), and the sources of the ones outside the kernel).
const KINDS: &[(u64, &str, Reach)] = &[
    (0x6969, "nfs", Reach::Network),
    (0x0BD0_0BD0, "lustre", Reach::Network),
    (0x4750_4653, "gpfs", Reach::Network),
    (0x1983_0326, "beegfs", Reach::Network),
    (0x00C3_6400, "ceph", Reach::Network),
    (0xAAD7_AAEA, "panfs", Reach::Network),
    (0x2003_0528, "orangefs", Reach::Network),
    (0x0116_1970, "gfs2", Reach::Network),
    (0x7461_636F, "ocfs2", Reach::Network),
    (0x5346_414F, "afs", Reach::Network),
    (0x6B41_4653, "afs", Reach::Network),
    (0x517B, "smb", Reach::Network),
    (0xFE53_4D42, "smb", Reach::Network),
    (0xFF53_4D42, "cifs", Reach::Network),
    (0x0102_1997, "9p", Reach::Unclear),
    (0x6573_5546, "fuse", Reach::Unclear),
    (0x0187, "autofs", Reach::Unclear),
    (0xEF53, "ext4", Reach::Local),
    (0x5846_5342, "xfs", Reach::Local),
    (0x9123_683E, "btrfs", Reach::Local),
    (0x2FC1_2FC1, "zfs", Reach::Local),
    (0xF2F5_2010, "f2fs", Reach::Local),
    (0x794C_7630, "overlay", Reach::Local),
    (0x0102_1994, "tmpfs", Reach::Memory),
    (0x8584_58F6, "ramfs", Reach::Memory),
];

/// A directory's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    pub name: String,
    pub reach: Reach,
    /// Tells file systems of this host apart.
    pub device: u64,
    pub space: Space,
}

/// What is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub free_bytes: u64,
    pub inodes: u64,
    pub free_inodes: u64,
}

impl FileSystem {
    /// Looks at the file system of an existing directory; this hangs when it does.
    pub fn of(path: &Path) -> std::io::Result<FileSystem> {
        use std::os::unix::fs::MetadataExt;
        let device = std::fs::metadata(path)?.dev();
        let numbers = statvfs(path)?;
        let (name, reach) = kind(magic(statfs(path)?.filesystem_type().0));
        let space = Space {
            free_bytes: wide(numbers.blocks_available()).saturating_mul(wide(numbers.fragment_size())),
            inodes: wide(numbers.files()),
            free_inodes: wide(numbers.files_available()),
        };
        Ok(FileSystem { name, reach, device, space })
    }
}

impl FileSystem {
    /// One of another host, from stat's `%t %a %S %c %d`.
    pub fn parse(text: &str) -> Option<FileSystem> {
        let mut text = text.split_whitespace();
        let (name, reach) = kind(u64::from_str_radix(text.next()?, 16).ok()?);
        let mut number = || text.next()?.parse::<u64>().ok();
        let (blocks, size, inodes, free_inodes) = (number()?, number()?, number()?, number()?);
        let space = Space { free_bytes: blocks.saturating_mul(size), inodes, free_inodes };
        Some(FileSystem { name, reach, device: 0, space })
    }

    /// Whether other hosts see it, as a rule.
    pub fn is_for_all(&self) -> bool {
        self.reach == Reach::Network
    }
}

/// These numbers are 32 or 64 bits wide, depending on the platform.
fn wide(number: impl Into<u128>) -> u64 {
    u64::try_from(number.into()).unwrap_or(u64::MAX)
}

/// The number is signed on some platforms; the magic is its lower 32 bits.
fn magic(number: impl Into<i128>) -> u64 {
    (number.into() & 0xFFFF_FFFF) as u64
}

fn kind(magic: u64) -> (String, Reach) {
    match KINDS.iter().find(|(number, ..)| *number == magic) {
        Some((_, name, reach)) => ((*name).to_owned(), *reach),
        None => (format!("unknown kind 0x{magic:x}"), Reach::Unclear),
    }
}

/// Lets another process look first. A call into a file system that hangs cannot always be broken off, and a process
/// does not end before its threads have left the kernel: then the child stays behind, and we answer.
pub fn answers(path: &Path, clock: Clock) -> Result<(), String> {
    match Command::new("stat", clock.left()).arg("--file-system").arg(path).run() {
        Ok(output) if output.end == End::DeadlinePassed => {
            Err(format!("{}: looking at its file system has {}", path.display(), output.said()))
        }
        // That it does not exist, or that there is no stat, is not for here.
        _ => Ok(()),
    }
}

/// What becomes scarce and whether it already stops leases; quotas do not show here.
pub fn scarcity(space: Space) -> Option<(bool, String)> {
    const MIB: u64 = 1 << 20;
    const STOPS_BYTES: u64 = 4 * MIB;
    const SCARCE_BYTES: u64 = 200 * MIB;
    const STOPS_INODES: u64 = 50;
    const SCARCE_INODES: u64 = 5_000;
    let free = || format!("{} MiB free", space.free_bytes / MIB);
    // File systems that make inodes as they need them count none.
    let counted = space.inodes > 0;
    match (space.free_bytes, space.free_inodes) {
        (bytes, _) if bytes < STOPS_BYTES => Some((true, free())),
        (_, inodes) if counted && inodes < STOPS_INODES => Some((true, format!("{inodes} inodes free"))),
        (bytes, _) if bytes < SCARCE_BYTES => Some((false, free())),
        (_, inodes) if counted && inodes < SCARCE_INODES => Some((false, format!("{inodes} inodes free"))),
        _ => None,
    }
}

/// Free space in words.
pub fn free(space: Space) -> String {
    match space.free_bytes >> 20 {
        mib @ 0..10_240 => format!("{mib} MiB free"),
        mib => format!("{} GiB free", mib >> 10),
    }
}

/// The nearest directory above (or the path itself) that exists here.
pub fn nearest_existing(path: &Path) -> PathBuf {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    existing.unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0x6969, "nfs", Reach::Network)]
    #[case(0x0102_1994, "tmpfs", Reach::Memory)]
    #[case(0xEF53, "ext4", Reach::Local)]
    #[case(0x1234, "unknown kind 0x1234", Reach::Unclear)]
    fn kinds(#[case] number: u64, #[case] name: &str, #[case] reach: Reach) {
        assert_eq!(kind(number), (name.to_owned(), reach));
    }

    #[test]
    fn a_negative_number_keeps_its_magic() {
        assert_eq!(kind(magic(0x9123_683Eu32.cast_signed())).0, "btrfs");
    }

    #[rstest]
    #[case(1 << 40, 1_000_000, 900_000, None)]
    #[case(1 << 40, 0, 0, None)]
    #[case(1 << 20, 1_000_000, 900_000, Some(true))]
    #[case(100 << 20, 1_000_000, 900_000, Some(false))]
    #[case(1 << 40, 1_000_000, 3, Some(true))]
    #[case(1 << 40, 1_000_000, 300, Some(false))]
    fn space(#[case] free_bytes: u64, #[case] inodes: u64, #[case] free_inodes: u64, #[case] stops: Option<bool>) {
        assert_eq!(scarcity(Space { free_bytes, inodes, free_inodes }).map(|(stops, _)| stops), stops);
    }

    #[test]
    fn one_of_another_host_is_told() {
        let system = FileSystem::parse("bd00bd0 256 4096 100 50").unwrap();
        assert_eq!((system.name.as_str(), system.reach), ("lustre", Reach::Network));
        assert_eq!(system.space, Space { free_bytes: 1 << 20, inodes: 100, free_inodes: 50 });
        assert_eq!(FileSystem::parse("stat: cannot read"), None);
    }

    #[test]
    fn proc_is_looked_at_without_writing() {
        assert_eq!(FileSystem::of(Path::new("/proc")).unwrap().reach, Reach::Unclear);
        assert_eq!(nearest_existing(Path::new("/proc/nosuch/dir")), Path::new("/proc"));
    }
}
