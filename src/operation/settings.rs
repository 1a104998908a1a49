//! The settings of a call: its request, and the config files beside it. Which files count is decided here; what they mean together
//! in `config/layers`.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::config::Settings;
use crate::config::layers::{self, Clamped, ConfigFile, Merged, Origin, Role};
use crate::config::login_host::LoginHost;
use crate::failure::Failure;
use crate::host::Host;
use crate::host::remote::Greeting;
use crate::operation::config_files::{ConfigFiles, of_login_host, open};
use crate::operation::context::{AskedBy, Options};
use crate::progress::notice;

/// The settings of a call, with all that tells how they came about.
#[derive(Debug, Clone)]
pub struct Effective {
    pub settings: Settings,
    /// All layers as one configuration, held to the limits.
    pub merged: Merged,
    /// What the limits have changed.
    pub clamped: Vec<Clamped>,
    /// The files that count, from the lowest layer up.
    pub files: Vec<ConfigFile>,
}

impl Effective {
    /// The same as the admins' limits allow it. They are for what is begun: a lease that there is stays usable when they change.
    ///
    /// # Errors
    /// When they do not allow it.
    pub fn limited(mut self) -> Result<Effective, Failure> {
        self.clamped = self.merged.limit(&self.files)?;
        let most_idle = self.files.iter().filter_map(|file| file.limits.most_idle()).min();
        let most_spares = self.files.iter().filter_map(|file| file.limits.most_spares()).min();
        self.settings = Settings { most_idle, ..self.merged.check()? };
        self.settings.spares.most = most_spares;
        Ok(self)
    }

    /// Says what the admins want said, and what their limits have made of what was asked for.
    pub fn tell(&self) {
        for message in self.files.iter().flat_map(|file| &file.messages) {
            notice(message);
        }
        for clamped in &self.clamped {
            if let Some(text) = lowering(clamped) {
                notice(&text);
            }
        }
    }
}

/// A change that is worth a word: of something that was asked for.
pub fn lowering(clamped: &Clamped) -> Option<String> {
    let Clamped { key, from, to, by } = clamped;
    from.as_ref().map(|from| format!("{key} is lowered from {from} to {to} by the limits of {by}"))
}

/// The files of this machine under one request, before a login host has been asked for its own.
#[derive(Debug, Clone)]
pub struct Local {
    files: Vec<ConfigFile>,
    request: Map<String, Value>,
    asked: Origin,
    pub merged: Merged,
    /// Where Slurm's commands run, when not here.
    pub submit: Option<LoginHost>,
}

impl Local {
    /// Reads the files of this machine.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn read(options: &Options, request: &Map<String, Value>) -> Result<Local, Failure> {
        let ConfigFiles { admin, user, named } = &options.config_files;
        let asked = match options.asked_by {
            AskedBy::Client => Origin::Request,
            AskedBy::CommandLine => Origin::Flag,
        };
        let (user, named) = (open(user.as_deref(), Role::User)?, named.clone().transpose()?);
        let mut files: Vec<_> = user.into_iter().chain(named).collect();
        let without = layers::merge(&files, request, &asked);
        // A file that is about another cluster must not hinder a call, so it is looked at last.
        let admin = open(admin.as_deref(), Role::Admin).or_else(|error| match without.login_host() {
            Some(_) => Ok(None),
            None => Err(error),
        })?;
        if let Some(admin) = admin {
            files.insert(0, admin);
        }
        let mut merged = layers::merge(&files, request, &asked);
        if let Some(first) = files.first()
            && first.role == Role::Admin
            && !layers::is_about_this_cluster(first, &merged)
        {
            files.remove(0);
            merged = without;
        }
        let submit = merged.login_host();
        Ok(Local { files, request: request.clone(), asked, merged, submit })
    }

    /// Tells what is wrong before anybody is asked.
    ///
    /// # Errors
    /// When what is known here cannot be used, whatever a login host's file says.
    pub fn check(&self) -> Result<(), Failure> {
        if self.submit.is_none() {
            layers::known_profile(&self.files, &self.merged)?;
        }
        self.merged.check().map(drop)
    }

    /// All settings. The login host is asked who we are there, which every call asks that submits something; its admins' file
    /// comes with the answer.
    ///
    /// # Errors
    /// As [`Local::with`], and when the login host cannot be asked; `what` is being done then.
    pub fn complete(&self, what: &str) -> Result<Effective, Failure> {
        self.check()?;
        let greeting = match Host::of(self.submit.as_ref()) {
            Host::Here => None,
            Host::Login(login) => Some(login.greeting().map_err(|error| {
                error.failure(format!("{what}: the login host {} cannot be asked", login.target().destination()))
            })?),
        };
        self.with(greeting.as_ref())?.limited()
    }

    /// All settings for a lease of this login host. That it cannot be asked is said by what is asked there next: until then what
    /// is known here has to do.
    ///
    /// # Errors
    /// As [`Local::with`].
    pub fn for_lease_of(&self, submit: Option<&LoginHost>, patience: Duration) -> Result<Effective, Failure> {
        let host = Host::of(self.submit.as_ref());
        let greeting = match &host {
            Host::Here => None,
            Host::Login(login) if self.submit.as_ref() == submit => {
                let _bound = host.end_by(Instant::now() + patience);
                login.greeting().ok()
            }
            Host::Login(login) => login.greeted(),
        };
        self.with(greeting.as_ref())
    }

    /// What can be known by now. No login host is asked for its file; where it was asked for something else, it has brought it.
    pub fn known(&self) -> Option<Settings> {
        let greeting = match Host::of(self.submit.as_ref()) {
            Host::Here => None,
            Host::Login(login) => login.greeted(),
        };
        self.with(greeting.as_ref()).ok().map(|effective| effective.settings)
    }

    /// All settings but for limits, with what the login host's greeting has brought where there is one.
    ///
    /// # Errors
    /// When a file, or all together, cannot be used.
    pub fn with(&self, greeting: Option<&Greeting>) -> Result<Effective, Failure> {
        let Local { mut files, request, asked, mut merged, submit } = self.clone();
        let remote =
            submit.as_ref().zip(greeting).map_or(Ok(None), |(target, greeting)| of_login_host(target, greeting))?;
        if let Some(remote) = remote {
            // It goes over what the admins of this machine say of that cluster.
            let at = files.iter().take_while(|file| file.role == Role::Admin).count();
            files.insert(at, remote);
            merged = layers::merge(&files, &request, &asked);
        }
        // While the login host cannot be asked, it may have the profile.
        if submit.is_none() || greeting.is_some() {
            layers::known_profile(&files, &merged)?;
        }
        let settings = merged.check()?;
        Ok(Effective { settings, merged, clamped: Vec::new(), files })
    }
}

/// The settings of a call that submits something, or shows them.
///
/// # Errors
/// When they cannot be used, or the login host cannot be asked; `what` is being done then.
pub fn effective(options: &Options, request: &Map<String, Value>, what: &str) -> Result<Effective, Failure> {
    Local::read(options, request)?.complete(what)
}

/// Settings that an operation can do without: an old lease must be releasable after its config's keys have changed their meaning.
pub fn lenient(options: &Options, request: &Map<String, Value>) -> Option<Settings> {
    Local::read(options, request).ok()?.known()
}

/// The names of the profiles that a caller can use.
///
/// # Errors
/// When a file cannot be used, or the login host cannot be asked.
pub fn profiles(options: &Options, request: &Map<String, Value>) -> Result<Vec<String>, Failure> {
    effective(options, request, "listing profiles").map(|effective| layers::profiles(&effective.files))
}
