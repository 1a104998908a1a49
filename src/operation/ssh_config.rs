//! ssh-config: the block of ssh configuration by which `ssh NAME.sandbox` reaches a lease, shown, installed or taken back.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, json};

use crate::config::Settings;
use crate::config::value::{is_safe_path, is_user_name};
use crate::failure::{self, Failure, Kind};
use crate::files::UserFile;
use crate::lease::names::Names;
use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::operation::settings;
use crate::progress::progress;
use crate::ssh::config_file::{Block, OtherUser, include_line, with_include, without_include};
use crate::ssh::effective::{self, Effective, Unknown};

/// `ssh -G` asks nobody, unless a name service hangs.
const EFFECTIVE_DEADLINE: Duration = Duration::from_secs(5);

/// What is done with the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Show,
    Install,
    Remove,
}

/// Does it, and tells what was done. `flags` are this call's own that a connection needs as well.
pub fn run(options: &Options, flags: &[String], action: Action) -> Result<String> {
    let store = Store::open(&options.state_dir)?;
    let names = store.names().map_err(|error| storage("making", &options.state_dir.join("ssh"), &error))?;
    match action {
        Action::Show => block(options, flags, &names),
        Action::Install => {
            let block = block(options, flags, &names)?;
            names.write_config(&block).map_err(|error| storage("writing", &names.config_path(), &error))?;
            install(&names, &user_path()?)
        }
        Action::Remove => remove(&names, &user_path()?),
    }
}

/// The text of the block for this program, state dir and configuration.
fn block(options: &Options, flags: &[String], names: &Names) -> Result<String> {
    let program = std::env::current_exe()?;
    let words = std::iter::once(program.to_string_lossy().into_owned()).chain(flags.iter().cloned());
    let words: Vec<String> = words.collect();
    if let Some(word) = words.iter().find(|word| word.starts_with('/') && !is_safe_path(word)) {
        let what = format!("the path {word} cannot stand in a configuration of ssh");
        let remedy = "move it to a path of letters, digits and ._/@+,:=- alone";
        return Err(Failure::new(Kind::BadConfig, what).remedy(remedy).into());
    }
    let no_config = Map::new();
    let user = user_of(&settings::effective(options, &no_config, "making the block")?.settings)?;
    let profiles = settings::profiles(options, &no_config).unwrap_or_else(|error| {
        progress(&format!("profiles with a user of their own are left out: {error}"));
        vec![]
    });
    let mut others: Vec<OtherUser> = Vec::new();
    for name in profiles {
        let config = json!({"profile": name}).as_object().cloned().unwrap_or_default();
        let own = settings::effective(options, &config, "making the block")
            .map_err(anyhow::Error::from)
            .and_then(|own| user_of(&own.settings));
        match own {
            Ok(own) if own == user => {}
            Ok(own) => match others.iter_mut().find(|other| other.user == own) {
                Some(other) => other.names.push(name),
                None => others.push(OtherUser { user: own, names: vec![name] }),
            },
            Err(error) => progress(&format!("profile {name} is left out: {}", failure::of(&error))),
        }
    }
    Ok(Block { program: &words.join(" "), hosts: &names.hosts_path(), user: &user, others: &others }.text())
}

/// Whom leases of these settings let in: who is named, or the user that ssh takes on the login host, or who we are.
fn user_of(settings: &Settings) -> Result<String> {
    let on_login_host = || {
        let submit = settings.submit.as_ref()?;
        let by_ssh = || {
            let output = effective::ask(Unknown::Ignored, None, &submit.host, 22, EFFECTIVE_DEADLINE).ok()?;
            Effective::of(&output).get("user").map(str::to_owned)
        };
        submit.user.clone().or_else(by_ssh)
    };
    let found = settings.ssh_user.clone().or_else(on_login_host).or_else(|| crate::host::own_name().map(str::to_owned));
    found
        .filter(|name| is_user_name(name))
        .ok_or_else(|| Failure::new(Kind::BadConfig, "the name of this user is not known").remedy("set sshUser").into())
}

/// The file that ssh reads by itself.
fn user_path() -> Result<PathBuf, Failure> {
    let home = crate::config::value::expand_home("~").ok_or_else(|| {
        Failure::new(Kind::BadConfig, "the home directory is not known, and so where ssh's configuration is")
            .remedy("set HOME; without a flag the block is only shown")
    })?;
    Ok(Path::new(&home).join(".ssh/config"))
}

fn install(names: &Names, path: &Path) -> Result<String> {
    let line = include_line(&names.config_path());
    let failed = |error: io::Error| {
        storage("changing", path, &error).remedy(format!("put this line before all else there by hand: {line}"))
    };
    let file = UserFile::open(path).map_err(failed)?;
    let done = match with_include(file.text().unwrap_or_default(), &line) {
        None => format!("{} includes it already", path.display()),
        Some(text) => {
            if file.text().is_none() {
                names.note_made_user_file().map_err(|error| storage("writing", &names.config_path(), &error))?;
            }
            file.replace(&text).map_err(failed)?;
            format!("{} begins with the line {line:?}", path.display())
        }
    };
    Ok(format!("{done}\n`ssh NAME.sandbox` now reaches lease NAME, or acquires a lease of profile NAME\n"))
}

fn remove(names: &Names, path: &Path) -> Result<String> {
    let line = include_line(&names.config_path());
    let failed =
        |error: io::Error| storage("changing", path, &error).remedy(format!("remove this line by hand: {line}"));
    let file = UserFile::open(path).map_err(failed)?;
    let done = match without_include(file.text().unwrap_or_default(), &line) {
        None => format!("{} does not include it", path.display()),
        Some(text) if text.is_empty() && names.made_user_file() => {
            file.remove().map_err(failed)?;
            format!("{} is removed, nothing else was in it", path.display())
        }
        Some(text) => {
            file.replace(&text).map_err(failed)?;
            format!("{} no longer includes it", path.display())
        }
    };
    names.remove_config().map_err(|error| storage("removing", &names.config_path(), &error))?;
    Ok(format!("{done}\n"))
}

fn storage(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Storage, format!("{doing} {}", path.display())).cause(error.to_string())
}
