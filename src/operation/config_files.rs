//! The config files of a call: where they lie, whose they have to be, and how one is refused.

use std::path::{Path, PathBuf};

use crate::config::layers::{self, ADMIN_FILE, ConfigFile, MAX_BYTES, Role};
use crate::config::login_host::LoginHost;
use crate::failure::{Failure, Kind};
use crate::files::trust::{self, Owners, Unsafe};
use crate::host::remote::Greeting;

/// The files that a caller has beside its request; by default none.
#[derive(Debug, Clone, Default)]
pub struct ConfigFiles {
    pub admin: Option<PathBuf>,
    pub user: Option<PathBuf>,
    /// Named by the caller, and read once: it may be a pipe. What is wrong with it hinders nobody who needs no settings.
    pub named: Option<Result<ConfigFile, Failure>>,
}

impl ConfigFiles {
    /// The files of whoever runs this program, and the one that is named.
    ///
    /// # Errors
    /// When that one cannot be read.
    pub fn of_caller(named: Option<&Path>) -> Result<ConfigFiles, Failure> {
        Ok(ConfigFiles {
            admin: Some(PathBuf::from(ADMIN_FILE)),
            user: user_file(),
            named: named.map(read_named).transpose()?,
        })
    }

    /// The program that the user wants run for a lease that was lost, with its arguments; none where their file cannot be used, which
    /// calls that need settings say.
    pub fn on_lost(&self) -> Option<Vec<String>> {
        let file = open(self.user.as_deref(), Role::User).ok().flatten()?;
        Some(file.on_lost).filter(|argv| !argv.is_empty())
    }
}

/// The user's own file: `$XDG_CONFIG_HOME/slurm-sandbox/config.toml`, else below `~/.config`.
pub fn user_file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|base| base.join("slurm-sandbox/config.toml"))
}

fn read_named(path: &Path) -> Result<Result<ConfigFile, Failure>, Failure> {
    let name = path.display().to_string();
    let bad = |why: String| {
        let remedy =
            "give TOML with [defaults] and [profiles.NAME], or one JSON object with the keys of external.config";
        Failure::new(Kind::BadConfig, format!("the config file {name} cannot be used")).remedy(remedy).cause(why)
    };
    let bytes = trust::read_named(path, crate::protocol::MAX_BYTES as u64).map_err(|error| {
        Failure::new(Kind::BadConfig, format!("the config file {name} cannot be read"))
            .remedy("correct --config")
            .cause(error.to_string())
    })?;
    let text = String::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
    Ok(layers::parse(&name, Role::Named, &text).map_err(|mistakes| bad(String::new()).causes(&mistakes)))
}

/// A file that steers this program, if it is there.
///
/// # Errors
/// When it is there and cannot be used.
pub fn open(path: Option<&Path>, role: Role) -> Result<Option<ConfigFile>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let owners = match role {
        Role::Admin => Owners::Root,
        _ => Owners::UserOrRoot(nix::unistd::geteuid().as_raw()),
    };
    let name = path.display().to_string();
    let bytes = match trust::read(path, owners, MAX_BYTES) {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(Unsafe::Missing)) => return Ok(None),
        Ok(Err(why)) => return Err(unsafe_file(&name, path, owners, &why)),
        Err(error) => return Err(unreadable(&name, &error.to_string())),
    };
    let text = String::from_utf8(bytes).map_err(|error| unreadable(&name, &error.to_string()))?;
    layers::parse(&name, role, &text).map(Some).map_err(|mistakes| in_file(&name, &mistakes))
}

fn unsafe_file(name: &str, path: &Path, owners: Owners, why: &Unsafe) -> Failure {
    let whose = match owners {
        Owners::Root => "it has to be root's, and writable by nobody else",
        Owners::UserOrRoot(_) => "it has to be yours or root's, and writable by nobody else",
    };
    Failure::new(Kind::BadConfig, format!("the config file {name} {why}: {whose}")).remedy(why.remedy(path, owners))
}

fn unreadable(name: &str, why: &str) -> Failure {
    Failure::new(Kind::BadConfig, format!("the config file {name} cannot be read"))
        .remedy("make it a readable text file, or remove it")
        .cause(why)
}

fn in_file(name: &str, mistakes: &[String]) -> Failure {
    Failure::new(Kind::BadConfig, format!("the config file {name} has {} mistake(s)", mistakes.len()))
        .remedy("correct the file, or have its owner do so")
        .causes(mistakes)
}

/// The admins' file of a login host, as its greeting brought it.
///
/// # Errors
/// When there is one and it cannot be used.
pub fn of_login_host(target: &LoginHost, greeting: &Greeting) -> Result<Option<ConfigFile>, Failure> {
    let Some(seen) = &greeting.admin_file else { return Ok(None) };
    let (path, name) = (Path::new(ADMIN_FILE), format!("{ADMIN_FILE} on {}", target.destination()));
    let judged = trust::is_roots(&seen.directory, &["directory"])
        .map_err(|why| Unsafe::In(Box::new(why)))
        .and_then(|()| trust::is_roots(&seen.file, &["regular file", "regular empty file"]));
    match judged {
        Ok(()) => {}
        Err(Unsafe::Missing) => return Err(unreadable(&name, &seen.file)),
        Err(why) => return Err(unsafe_file(&name, path, Owners::Root, &why)),
    }
    let text = seen.text.as_deref().ok_or_else(|| unreadable(&name, "it is not readable for you, or too long"))?;
    let file = layers::parse(&name, Role::Admin, text).map_err(|mistakes| in_file(&name, &mistakes))?;
    Ok(Some(file.of_login_host()))
}
