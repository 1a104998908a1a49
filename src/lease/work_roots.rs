//! Where leases had their work directories: of one that was too much for the time of a release some is left there, and when the
//! lease is gone nothing else names the place.
//!
//! A line a place, the newest last. What gets lost here costs disk space only, until the next lease with that work root.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::login_host::LoginHost;
use crate::files::Dir;

const FILE: &str = "work-roots.jsonl";

/// How many places are kept. A site has one or two; a caller that names another one for each lease cannot fill a disk.
const MOST: usize = 32;

/// More than so many of the longest lines.
const BYTES: u64 = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    /// Whose file system it is on; missing: this host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    submit_host: Option<String>,
    path: PathBuf,
}

/// Remembers a work root.
pub(super) fn remember(root: &Dir, submit: Option<&LoginHost>, path: &Path) -> io::Result<()> {
    let mut lines = read(root)?;
    let line = Line { submit_host: submit.map(LoginHost::destination), path: path.to_owned() };
    if lines.contains(&line) {
        return Ok(());
    }
    if lines.len() < MOST {
        return root.append_line(FILE, &serde_json::to_string(&line)?);
    }
    lines.drain(..=lines.len() - MOST);
    lines.push(line);
    let lines = lines.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    root.write(FILE, format!("{}\n", lines.join("\n")).as_bytes())
}

/// The work roots of leases, on this host or a login host.
pub(super) fn of(root: &Dir, submit: Option<&LoginHost>) -> io::Result<Vec<PathBuf>> {
    let host = submit.map(LoginHost::destination);
    Ok(read(root)?.into_iter().filter(|line| line.submit_host == host).map(|line| line.path).collect())
}

fn read(root: &Dir) -> io::Result<Vec<Line>> {
    let text = root.read_tail(FILE, BYTES)?.unwrap_or_default();
    // A line that was cut off by a crash names nothing.
    Ok(String::from_utf8_lossy(&text).lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_once_by_host_and_the_newest_of_too_many() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::private_root(&temp.path().join("state")).unwrap();
        let login = LoginHost { host: "login".to_owned(), ..LoginHost::default() };
        for _ in 0..2 {
            remember(&root, None, Path::new("/scratch/a")).unwrap();
            remember(&root, Some(&login), Path::new("/scratch/b")).unwrap();
        }
        assert_eq!(of(&root, None).unwrap(), [Path::new("/scratch/a")]);
        assert_eq!(of(&root, Some(&login)).unwrap(), [Path::new("/scratch/b")]);
        root.append_line(FILE, r#"{"path": "/cut"#).unwrap();
        for number in 0..40 {
            remember(&root, None, &PathBuf::from(format!("/many/{number}"))).unwrap();
        }
        let kept = of(&root, None).unwrap();
        assert_eq!((kept.len(), kept.last().unwrap().as_path()), (MOST, Path::new("/many/39")));
        assert_eq!(std::fs::read_to_string(temp.path().join("state").join(FILE)).unwrap().lines().count(), MOST);
    }
}
