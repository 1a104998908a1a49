//! Where the control socket of the connection to a login host lies, and what it is called.
//!
//! All processes of a user on a machine have to find the same one, or each would log in, so nothing of the environment
//! counts: acquire, the client's ssh and a service each have another.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command_line::ssh;
use super::error::LoginError;
use crate::config::login_host::LoginHost;
use crate::files::Dir;

/// A socket's address holds 107 characters (unix(7)), and ssh binds it under a name that is 17 longer.
const LONGEST_PATH: usize = 90;

/// The name of a socket of ours: the hash, and `-15` at most for a further one.
const LONGEST_NAME: usize = 16 + 3;

/// Where the connection's socket lies; `key` is the account's [`key()`], which may have to ask ssh.
pub fn path(target: &LoginHost, key: impl FnOnce() -> String) -> Result<PathBuf, LoginError> {
    match &target.control_path {
        Some(path) if path.to_string_lossy().contains('%') => expanded(target, path),
        Some(path) => Ok(path.clone()),
        None => Ok(directory()?.path().join(key())),
    }
}

/// The directory for what lies beside a socket: its lock, what was last said. Where there is none of ours, the user's
/// own controlPath has one.
pub fn beside(target: &LoginHost, path: &Path) -> Result<Dir, LoginError> {
    directory().or_else(|error| match path.parent() {
        Some(parent) if target.control_path.is_some() => Dir::private_root(parent).map_err(|why| {
            LoginError::NoPlace(format!("{}, the directory of controlPath: {why}; {error}", parent.display()))
        }),
        _ => Err(error),
    })
}

/// Our directory for sockets: in /tmp, or where somebody else has taken that name, in the home directory. The state dir
/// does not do: a user may have several, and their paths are long.
fn directory() -> Result<Dir, LoginError> {
    let mut candidates = vec![(PathBuf::from("/tmp"), format!("slurm-sandbox-{}", nix::unistd::getuid()))];
    candidates.extend(home().map(|home| (home.join(".ssh"), "slurm-sandbox".to_owned())));
    first_usable(&candidates)
}

fn first_usable(candidates: &[(PathBuf, String)]) -> Result<Dir, LoginError> {
    let mut unusable = Vec::new();
    for (parent, name) in candidates {
        let path = parent.join(name);
        if path.as_os_str().len() + 1 + LONGEST_NAME > LONGEST_PATH {
            unusable.push(format!("{} is too long for a socket's path", path.display()));
            continue;
        }
        match Dir::private_below(parent, name) {
            Ok(dir) => return Ok(dir),
            Err(error) => unusable.push(format!("{}: {error}", path.display())),
        }
    }
    Err(LoginError::NoPlace(format!("there is no place for ssh's control socket: {}", unusable.join("; "))))
}

/// The home directory, where ssh looks for it too.
fn home() -> Option<PathBuf> {
    let listed = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.dir);
    listed.or_else(|| std::env::var_os("HOME").map(PathBuf::from)).filter(|home| home.is_absolute())
}

/// A name for the account on a login host, the same in every process on this machine. The machine's name is part of it: a
/// socket on a home directory that machines share is of use on one of them only.
pub fn key(target: &LoginHost) -> String {
    let mut hasher = DefaultHasher::new();
    let here = nix::unistd::gethostname().unwrap_or_default();
    (&target.host, &target.user, &target.ssh_config, configuration(target), here).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// What tells that an alias leads elsewhere than before, since a connection that is in use stays: the user's ssh configuration,
/// or what ssh makes of it where it is in several files. To ask ssh each time would cost a process each call. Who opens
/// the connection by hand says himself where it leads.
fn configuration(target: &LoginHost) -> String {
    if target.require_existing_master {
        return String::new();
    }
    let path = target.ssh_config.clone().or_else(|| Some(home()?.join(".ssh/config")));
    let text = path.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    if !includes(&text) {
        return text;
    }
    let means = |line: &&str| ["user ", "hostname ", "port "].iter().any(|key| line.starts_with(key));
    match resolved(target, &[]) {
        Ok(said) => said.lines().filter(means).collect::<Vec<_>>().join("\n"),
        Err(_) => text,
    }
}

/// Whether a configuration takes in other files.
fn includes(text: &str) -> bool {
    text.lines().any(|line| {
        let word = line.trim_start().split(|c: char| c.is_whitespace() || c == '=').next().unwrap_or_default();
        word.eq_ignore_ascii_case("include")
    })
}

/// ssh's own tokens in a control path, as ssh expands them.
fn expanded(target: &LoginHost, path: &Path) -> Result<PathBuf, LoginError> {
    let said = resolved(target, &[format!("-oControlPath={}", path.display())])?;
    let path = said.lines().find_map(|line| line.strip_prefix("controlpath ")).map(PathBuf::from);
    path.ok_or_else(|| LoginError::NoPlace("ssh does not tell what controlPath means".to_owned()))
}

/// What ssh makes of its configuration.
fn resolved(target: &LoginHost, options: &[String]) -> Result<String, LoginError> {
    let output = ssh(target, Duration::from_secs(5)).args(options).args(["-G", "--", &target.destination()]).run();
    match output {
        Ok(output) if output.success() => Ok(output.stdout_text()),
        Ok(output) => Err(LoginError::Unreachable(format!("ssh does not read its configuration: {}", output.said()))),
        Err(error) => Err(LoginError::NoSsh(format!("ssh could not be started: {error}"))),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests play the user and others on the machine")]
mod tests {
    use super::*;

    fn located(target: &LoginHost) -> Result<PathBuf, LoginError> {
        path(target, || key(target))
    }
    use rstest::rstest;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn target() -> LoginHost {
        LoginHost { host: "login.example".into(), user: Some("alice".into()), ..LoginHost::default() }
    }

    #[test]
    fn paths_are_stable_short_and_of_one_login_host() {
        let own = located(&target()).unwrap();
        assert_eq!(own, located(&target()).unwrap());
        assert!(own.as_os_str().len() + 3 <= LONGEST_PATH);
        assert_ne!(own, located(&LoginHost { user: None, ..target() }).unwrap());
        let expanded = LoginHost { control_path: Some("/run/x/%C".into()), ..target() };
        assert!(!located(&expanded).unwrap().to_string_lossy().contains('%'));
    }

    #[test]
    fn where_a_socket_lies_makes_no_other_login_host() {
        let elsewhere = LoginHost { control_path: Some("/run/x/m".into()), ..target() };
        assert_eq!(key(&elsewhere), key(&target()));
    }

    #[test]
    fn a_name_that_means_another_account_is_another_login_host() {
        let temp = tempfile::tempdir().unwrap();
        let (config, more) = (temp.path().join("config"), temp.path().join("more"));
        let target = LoginHost { user: None, ssh_config: Some(config.clone()), ..target() };
        let with = |text: &str| {
            std::fs::write(&config, text).unwrap();
            key(&target)
        };
        assert_ne!(with("Host *\n User alice\n"), with("Host *\n User bob\n"));
        let include = format!("Include {}\n", more.display());
        let included = |text: &str| {
            std::fs::write(&more, text).unwrap();
            with(&include)
        };
        assert_ne!(included("User alice\n"), included("User bob\n"));
        assert_eq!(included("User alice\n"), included("User alice\nCompression yes\n"));
        let by_hand = LoginHost { require_existing_master: true, ..target.clone() };
        let before = key(&by_hand);
        std::fs::write(&config, "User carol\n").unwrap();
        assert_eq!(key(&by_hand), before);
    }

    #[rstest]
    #[case("Include other\n", true)]
    #[case("  include=other\n", true)]
    #[case("# Include other\nHost includes\n User a\n", false)]
    fn includes_are_seen(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(includes(text), expected);
    }

    #[test]
    fn a_place_that_is_not_ours_alone_is_passed_by() {
        let temp = tempfile::Builder::new().prefix("s").tempdir_in("/tmp").unwrap();
        let open = temp.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        symlink(temp.path(), temp.path().join("link")).unwrap();
        std::fs::write(temp.path().join("file"), "").unwrap();
        let long = "l".repeat(LONGEST_PATH);
        let named = |name: &str| (temp.path().to_owned(), name.to_owned());
        let taken = ["open", "link", "file", &long].map(named);
        let own = first_usable(&[taken.as_slice(), &[named("own")]].concat()).unwrap();
        assert_eq!(own.path(), temp.path().join("own"));
        let error = first_usable(&taken).unwrap_err();
        for part in ["/open has mode 0777", "/link is not a directory", "/file is not a directory", "too long"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
