//! init: a first config file. Slurm is asked what there is, a proposal is made, a person at a terminal is asked a few questions, and
//! the file is written, never over another one. doctor then tells whether it will do.

mod facts;
mod file;
mod proposal;
mod questions;

use std::io::IsTerminal;
use std::path::PathBuf;

use serde_json::Map;

use self::proposal::Proposal;
use self::questions::{Questions, Unanswered};
use crate::config::layers::{self, Role};
use crate::config::login_host::LoginHost;
use crate::failure::{Failure, Kind};
use crate::files::Dir;
use crate::host::{Host, on_path};
use crate::lease::store::Store;
use crate::operation::config_files::user_file;
use crate::operation::context::{Options, user};
use crate::operation::lookup;
use crate::operation::settings::{Local, profiles};
use crate::progress::notice;

/// How it is done.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The login host, `alice@login` too.
    pub submit_host: Option<String>,
    /// Ask nobody.
    pub yes: bool,
    /// Write nothing.
    pub print: bool,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Proposed {
    pub path: PathBuf,
    pub text: String,
    /// Whether it lies there now.
    pub written: bool,
}

/// Proposes a config file, and writes it unless it is only to be shown.
///
/// # Errors
/// When there is one already, nobody can be asked, or it cannot be written.
pub fn run(options: &Options, wishes: &Wishes) -> Result<Proposed, Failure> {
    let path = user_file().ok_or_else(|| {
        Failure::new(Kind::BadConfig, "there is no home directory to write a config file in").remedy("set HOME")
    })?;
    if !wishes.print && path.symlink_metadata().is_ok() {
        return Err(there_already(&path));
    }
    let asks = !wishes.yes && !wishes.print && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stderr());
    let mut questions = Questions { input: &mut input, output: &mut output };
    let submit = login_host(options, wishes, asks.then_some(&mut questions))?;
    let host = Host::of(submit.as_ref());
    let user = user(&host, "proposing a configuration")?;
    let facts = facts::ask(&host, user.name.as_deref(), user.home.as_deref());
    if facts.partitions.is_empty() {
        let what = format!("Slurm shows no partition that jobs can be sent to{}; nothing was written", host.shown());
        return Err(Failure::new(Kind::SlurmUnavailable, what)
            .remedy("see `scontrol show partition`, then repeat the call")
            .cause(facts.gaps.join("; ")));
    }
    let mut proposal = Proposal::of(&facts, submit);
    if asks {
        proposal = proposal.ask(&facts, &mut questions).map_err(unanswered)?;
    }
    let text = file::text(&facts, &proposal);
    let name = path.display().to_string();
    layers::parse(&name, Role::User, &text).map_err(|mistakes| {
        Failure::new(Kind::Internal, "the proposed config file could not be used; nothing was written")
            .causes(&mistakes)
    })?;
    if wishes.print {
        return Ok(Proposed { path, text, written: false });
    }
    match Dir::new_file(&path, text.as_bytes()) {
        Ok(true) => {}
        Ok(false) => return Err(there_already(&path)),
        Err(error) => {
            return Err(Failure::new(Kind::Storage, format!("the config file {name} cannot be written"))
                .remedy("make room, or set XDG_CONFIG_HOME to a directory that can be written")
                .cause(error.to_string()));
        }
    }
    // That the layers do not fit together is for doctor to tell.
    let profiles = profiles(options, &Map::new()).unwrap_or_default();
    profiles.iter().for_each(|profile| warn_of_a_lease(options, profile));
    Ok(Proposed { path, text, written: true })
}

fn there_already(path: &std::path::Path) -> Failure {
    let what = format!("{} is there already; nothing was written", path.display());
    Failure::new(Kind::BadConfig, what).remedy("edit it; `slurm-sandbox init --print` shows what would be proposed")
}

fn unanswered(Unanswered: Unanswered) -> Failure {
    Failure::new(Kind::BadRequest, "the questions were not answered; nothing was written")
        .remedy("answer them, or pass --yes to take what is proposed")
}

/// The login host: as it was said, else as the files say that there are, else none where Slurm's commands are here.
fn login_host(
    options: &Options,
    wishes: &Wishes,
    questions: Option<&mut Questions<'_>>,
) -> Result<Option<LoginHost>, Failure> {
    let known = |word: &str| -> Result<Option<LoginHost>, Failure> {
        let (user, host) = word.rsplit_once('@').map_or((None, word), |(user, host)| (Some(user), host));
        let mut request = Map::new();
        request.insert("submitHost".into(), host.into());
        if let Some(user) = user {
            request.insert("submitUser".into(), user.into());
        }
        let local = Local::read(options, &request)?;
        local.check()?;
        Ok(local.submit)
    };
    if let Some(word) = &wishes.submit_host {
        return known(word);
    }
    let local = Local::read(options, &Map::new())?;
    if local.submit.is_some() || on_path("sbatch").is_some() {
        return Ok(local.submit);
    }
    match questions {
        Some(questions) => {
            let fits = |answer: &str| answer.is_empty().then(|| "write a name as in `ssh NAME`".to_owned());
            let what = "Slurm's commands are not on this machine. Login host, as in `ssh NAME`";
            known(&questions.ask(what, "", fits).map_err(unanswered)?)
        }
        None => {
            Err(Failure::new(Kind::SlurmUnavailable, "Slurm's commands are not on this machine; nothing was written")
                .remedy("name the login host: `slurm-sandbox init --submit-host LOGIN`, as in `ssh LOGIN`"))
        }
    }
}

/// A word that means a lease is taken for that one before a profile is.
fn warn_of_a_lease(options: &Options, profile: &str) {
    if !options.state_dir.is_dir() {
        return;
    }
    if let Ok(store) = Store::open(&options.state_dir)
        && let Ok(Some(found)) = lookup::find(&store, profile)
    {
        notice(&format!(
            "lease {} is called {profile} too: the name means that lease as long as there is one, and the profile after it",
            found.dir.id
        ));
    }
}
