//! From the name in `ssh NAME.sandbox` to a lease that can be logged in to: lease NAME, or the one lease of profile NAME, which is
//! acquired where there is none.
//!
//! The lease of a profile has an id that follows from the state dir and the profile, so that all that ask for it at once wait for one
//! acquire, as calls of one lease always do. It belongs to the name and not to the window that asked first: who leaves while it waits
//! leaves it in the queue.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::recover::Recovery;
use super::{acquire, release, resolve};
use crate::clock::Now;
use crate::config::Settings;
use crate::failure::{self, Failure, Kind};
use crate::host::Caller;
use crate::lease::LeaseId;
use crate::lease::names::{LastEnd, lease_of_profile};
use crate::lease::record::{Phase, Record};
use crate::lease::store::{Loaded, Store};
use crate::operation::acquire::Terms;
use crate::operation::context::Options;
use crate::operation::lookup::{FoundLease, find_beside, load, whole};
use crate::operation::reacquire::{self, Verdict};
use crate::operation::settings;
use crate::progress::{live, progress};
use crate::protocol::{Lease, Operation, Request};
use crate::ssh::lease::make_key;

/// Another window makes the key meanwhile; rsa takes seconds.
const KEY_PATIENCE: Duration = Duration::from_secs(40);

/// How often one call finds that the lease has just ended before it gives up.
const ROUNDS: u32 = 3;

/// What a name is asked for with.
#[derive(Debug)]
pub struct Wish<'a> {
    pub name: &'a str,
    /// A request's config, of flags.
    pub config: &'a Map<String, Value>,
    /// Whether a person waits for it.
    pub attended: bool,
}

/// A lease that has just let us in.
#[derive(Debug)]
pub struct Ready {
    pub lease: Lease,
    pub record: Record,
    pub known_hosts: String,
}

/// Finds or acquires the lease that a name means. A lease's own slug, name or id comes before a profile's name.
pub fn ready(options: &Options, wish: &Wish<'_>) -> Result<Ready> {
    let store = Store::open(&options.state_dir)?;
    let id = lease_of_profile(&store.instance().name, wish.name);
    let lease = match find_beside(&store, wish.name, Some(&id))? {
        Some(found) => existing(options, &found, wish.config.clone())?,
        None => of_profile(options, &store, &id, wish)?,
    };
    let id = LeaseId::parse(&lease.lease_id).unwrap_or(id);
    let gone = || Failure::new(Kind::NotFound, format!("connecting to lease {id}: it was released meanwhile"));
    let found = load(&store, &id)?.ok_or_else(gone)?;
    let record = whole("connecting to", &found.loaded)?.clone();
    Ok(Ready { lease, record, known_hosts: found.dir.known_hosts().unwrap_or_default() })
}

/// A lease that exists, waited for as long as for one that is acquired.
fn existing(options: &Options, found: &FoundLease, mut config: Map<String, Value>) -> Result<Lease> {
    let id = &found.dir.id;
    let seconds = settings::effective(options, &config, "connecting")?.settings.acquire_timeout;
    config.insert("resolveWaitSeconds".to_owned(), json!(seconds));
    let _line = live("looking at the job");
    let answer = resolve::run(options, &Request { id: id.to_string(), config, ..Request::new(Operation::Resolve) })?;
    answer.lease.ok_or_else(|| Failure::new(Kind::NotFound, answer.message.unwrap_or_default()).into())
}

fn of_profile(options: &Options, store: &Store, id: &LeaseId, wish: &Wish<'_>) -> Result<Lease> {
    let mut config = wish.config.clone();
    config.insert("profile".to_owned(), json!(wish.name));
    let known = settings::profiles(options, wish.config)?;
    if !known.iter().any(|profile| profile == wish.name) {
        // Its profile may have been taken out of the configuration.
        return match load(store, id)? {
            Some(found) => existing(options, &found, wish.config.clone()),
            None => Err(unknown(wish.name, &known).into()),
        };
    }
    let settings = settings::effective(options, &config, "connecting")?.settings;
    let acquired = |existing| acquired(options, store, id, wish.name, &config, &settings, existing);
    let mut just_ended = None;
    for _ in 0..ROUNDS {
        let Some(found) = load(store, id)? else {
            may_start(store, id, wish, &settings)?;
            return acquired(false);
        };
        match &found.loaded {
            Loaded::Whole(record) if record.ended.is_some() => {}
            Loaded::Whole(record) if record.phase == Phase::Answered => {
                match existing(options, &found, config.clone()) {
                    Err(error) if failure::of(&error).kind == Kind::JobEnded => just_ended = Some(error),
                    answer => return answer,
                }
            }
            // One that waits, or is being released, which makes room for a new one.
            _ => match acquired(!wish.attended) {
                Err(error) if !wish.attended && failure::of(&error).kind == Kind::NotFound => continue,
                answer => return answer,
            },
        }
        end(store, &found, just_ended.as_ref())?;
    }
    let what = format!("connecting to {}: its lease {id} ends again and again", wish.name);
    Err(just_ended.unwrap_or_else(|| Failure::new(Kind::JobEnded, what).into()))
}

fn unknown(name: &str, profiles: &[String]) -> Failure {
    let profiles = match profiles {
        [] => "there are no profiles".to_owned(),
        names => format!("the profiles are {}", names.join(", ")),
    };
    Failure::new(Kind::NotFound, format!("connecting to {name}: no lease answers to it, and no profile has that name"))
        .remedy(format!("{profiles}; see `slurm-sandbox list`"))
}

/// Removes a lease whose job has ended, with a word about it.
fn end(store: &Store, found: &FoundLease, error: Option<&anyhow::Error>) -> Result<()> {
    let id = &found.dir.id;
    let why = error.map(|error| format!(": {}", failure::of(error))).unwrap_or_default();
    progress(&format!("lease {id} is removed, since its job has ended{why}"));
    let deadline = Instant::now() + release::BOUND;
    release::release(store, found, &Recovery::default(), deadline, "its job has ended").map(drop)
}

/// Refuses where nobody is there who could want a new lease.
fn may_start(store: &Store, id: &LeaseId, wish: &Wish<'_>, settings: &Settings) -> Result<(), Failure> {
    let end = store.names().ok().and_then(|names| names.last_end(id));
    let now = Now::read();
    match (reacquire::decide(end.as_ref(), wish.attended, settings.reacquire_always, now), end) {
        (Verdict::Paused(left), Some(end)) => Err(paused(wish.name, &end, left, now)),
        _ => Ok(()),
    }
}

fn paused(name: &str, end: &LastEnd, left: i64, now: Now) -> Failure {
    let (ago, left) = (end.elapsed(now) / 60, left / 60 + 1);
    let what = format!(
        "connecting to {name}: its last lease ended {ago} min ago ({}); without a terminal none is started for another {left} min, so that \
         what reconnects by itself starts no job after job",
        end.why
    );
    Failure::new(Kind::JobEnded, what).remedy(format!(
        "start one by `slurm-sandbox ssh --acquire {name}` or by ssh at a terminal, or set \"reacquire\" to \"always\""
    ))
}

fn acquired(
    options: &Options,
    store: &Store,
    id: &LeaseId,
    profile: &str,
    config: &Map<String, Value>,
    settings: &Settings,
    existing: bool,
) -> Result<Lease> {
    let mut config = config.clone();
    if settings.ssh_private_key.is_none() {
        config.insert("sshPrivateKey".to_owned(), json!(key(store, id)?));
    }
    let desired = acquire::desired(id, slug(profile));
    let request = Request { desired: Some(desired), keep: true, config, ..Request::new(Operation::Acquire) };
    let _line = live("preparing the job");
    let answer = acquire::run_for(options, &request, Terms { caller: Some(Caller::watch()), existing })?;
    answer.lease.ok_or_else(|| Failure::new(Kind::Internal, format!("acquiring lease {id}: no answer")).into())
}

/// The key of all leases of a profile, made once.
fn key(store: &Store, id: &LeaseId) -> Result<String> {
    let problem = |cause: String| {
        Failure::new(Kind::Storage, format!("acquiring lease {id}: the key of its profile cannot be made")).cause(cause)
    };
    let dir = store.names().and_then(|names| names.profile(id)).map_err(|error| problem(error.to_string()))?;
    let lock = dir.lock("lock", KEY_PATIENCE).map_err(|error| problem(error.to_string()))?;
    let _lock = lock.ok_or_else(|| problem("another call makes it".to_owned()))?;
    let names = dir.names().map_err(|error| problem(error.to_string()))?;
    // A call that was killed has left one half alone.
    let whole = |name: &&String| names.contains(&format!("{name}.pub"));
    let name = match names.iter().find(whole) {
        Some(name) => name.clone(),
        None => {
            for half in names.iter().filter(|name| name.starts_with("id_")) {
                dir.unlink(half)?;
            }
            make_key(&dir, "slurm-sandbox")?
        }
    };
    Ok(dir.path().join(name).to_string_lossy().into_owned())
}

/// A profile's name as a slug.
fn slug(profile: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let slug: String = profile.chars().map(plain).collect();
    match slug.trim_matches('-') {
        "" => "profile".to_owned(),
        slug => slug.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Identity;
    use rstest::rstest;

    #[rstest]
    #[case("gpu", "gpu")]
    #[case("A100_big.2", "a100-big-2")]
    #[case("_x_", "x")]
    #[case("__", "profile")]
    fn slugs_of_profiles(#[case] profile: &str, #[case] expected: &str) {
        let slug = slug(profile);
        assert_eq!(slug, expected);
        assert!(Identity::parse("cbx_4b38f35d4e31", &slug, "n").is_ok());
    }
}
