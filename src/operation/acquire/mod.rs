//! acquire: a lease for exactly the identity that is asked for, now or as an earlier call left it.
//!
//! The client kills us with our whole process group whenever it likes and sends no release after it (docs/facts/client.md, "Cancellation"), so every act is on record before it is done, and a call begins by finding out what the last one did.

mod rendered;
mod roll_back;
mod seat;
mod submit;

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::draft::draft;
use super::pool::{Pool, upkeep, wanted};
use super::recover::Recovery;
use super::settle::Released;
use super::wait::{self, Doing, Handed, Wait, Waited};
use super::{loss, release};
use crate::allocation::{Runner, View};
use crate::clock::Now;
use crate::config::Settings;
use crate::failure::{self, Failure, Kind};
use crate::files::{Dir, Lock};
use crate::host::{Caller, Host, User};
use crate::lease::acquirer;
use crate::lease::record::{Phase, Record};
use crate::lease::store::{Guard, LeaseDir, Loaded, Locked, Place, Store};
use crate::lease::{Identity, LeaseId, client_name};
use crate::operation::context::{Options, runner, user};
use crate::operation::lookup::{IdentityCheck, load};
use crate::operation::settings::effective;
use crate::progress::hint;
use crate::protocol::{Answer, Desired, Request};
use crate::ssh::lease::{link_key, make_key};
pub use rendered::{Rendered, render};
use seat::Changed;
use submit::Submitted;

/// Between two looks at the caller while another call holds the lease's lock.
const LOCK_SLICE: Duration = Duration::from_millis(500);

/// Between two looks for a spare of who waits in the queue: spares become free by the minute, and a look reads files alone.
const LOOK_FOR_SPARES: Duration = Duration::from_secs(2);

/// Who counts leases makes one meanwhile, which takes a key.
const COUNTING_PATIENCE: Duration = Duration::from_secs(20);

/// For whom a lease is acquired.
#[derive(Debug)]
pub struct Terms {
    /// Who must live for the wait to go on; `None`: nobody.
    pub caller: Option<Caller>,
    /// Only a lease that exists is waited for; none is made.
    pub existing: bool,
}

/// What a lease is called that we name ourselves.
pub fn desired(id: &LeaseId, slug: String) -> Desired {
    Desired { lease_id: id.to_string(), name: client_name(id, &slug), slug }
}

/// Carries out an acquire. Without `keep` a lease is only for a caller that lives.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    run_for(options, request, Terms { caller: (!request.keep).then(Caller::watch), existing: false })
}

/// The same on other terms.
pub fn run_for(options: &Options, request: &Request, terms: Terms) -> Result<Answer> {
    let acquire = Acquire::new(options, request, terms)?;
    let Identity { lease_id, slug, .. } = &acquire.identity;
    hint(format!("its slug is {slug}; to end it: {}", options.ending(slug, lease_id)));
    let handed = acquire.run_with_spares();
    if handed.is_err()
        && let Ok(Some(dir)) = acquire.store.lease(lease_id)
    {
        loss::seen(options, &acquire.store, &dir);
    }
    let handed = handed?;
    Ok(Answer { lease: Some(handed.lease), unowned: handed.first && !request.keep, ..Answer::default() })
}

/// Takes a lease back that was handed out for the first time in an answer which could not be delivered; what came of it.
pub fn take_back(options: &Options, id: &LeaseId) -> Result<Released> {
    let store = Store::open(&options.state_dir)?;
    let Some(found) = load(&store, id)? else { return Ok(Released::Gone) };
    if acquirer::alone(&found.dir).is_none() {
        return Err(Failure::new(Kind::Busy, format!("lease {id} is left to another acquire that waits for it")).into());
    }
    release::release(
        &store,
        &found,
        &Recovery::default(),
        Instant::now() + release::BOUND,
        "its answer could not be delivered",
    )
}

/// Our runner's sshd lets in only the user that it runs as.
fn check_user(settings: &Settings, user: &User) -> Result<(), Failure> {
    match (&settings.ssh_user, &user.name) {
        (None, None) => Err(Failure::new(Kind::BadConfig, "the name of this user is not known")
            .remedy("set sshUser in external.config")),
        _ => Ok(()),
    }
}

struct Acquire<'a> {
    options: &'a Options,
    settings: Settings,
    identity: Identity,
    runner: Runner,
    user: User,
    keep: bool,
    terms: Terms,
    deadline: Instant,
    store: Store,
    /// The spares that this configuration asks for.
    pool: Option<Pool>,
    /// Whether that was done already that comes with spares.
    looked_after: Cell<bool>,
}

impl<'a> Acquire<'a> {
    /// Looks whether what is asked for can be had; nothing is made yet but the state dir.
    fn new(options: &'a Options, request: &Request, terms: Terms) -> Result<Acquire<'a>> {
        let desired = request.desired.clone().unwrap_or_default();
        let identity = Identity::parse(&desired.lease_id, &desired.slug, &desired.name)?;
        let what = format!("acquiring lease {}", identity.lease_id);
        let known = effective(options, &request.config, &what)?;
        known.tell();
        let mut settings = known.settings.clone();
        let runner = runner(options, &settings)?;
        let user = user(&Host::of(settings.submit.as_ref()), &what)?;
        settings.at_home(user.home.as_deref());
        check_user(&settings, &user)?;
        super::places::check(&Host::of(settings.submit.as_ref()), &settings, &options.state_dir, &user)?;
        super::site_options::check(&Host::of(settings.submit.as_ref()), &settings)?;
        let deadline = Instant::now() + Duration::from_secs(settings.acquire_timeout);
        let store = Store::open(&options.state_dir)?;
        let pool = Pool::of(options, &store, &settings, &known.merged.config, &runner, &user);
        Ok(Acquire {
            options,
            settings,
            identity,
            runner,
            user,
            keep: request.keep,
            terms,
            deadline,
            store,
            pool,
            looked_after: Cell::new(false),
        })
    }

    /// The same, and sees to the spares meanwhile. Whatever comes of those, the lease is what the caller has asked for.
    fn run_with_spares(&self) -> Result<Handed> {
        let Some(pool) = &self.pool else { return self.run() };
        if let Ok(pools) = self.store.pools() {
            wanted::ask(&pools, pool, Now::read());
        }
        let handed = self.run();
        if !self.looked_after.get() {
            upkeep::look_after(self.options, &self.store, Some(pool));
        }
        handed
    }

    fn run(&self) -> Result<Handed> {
        loop {
            self.caller_lives()?;
            let Some(dir) = self.store.lease(&self.identity.lease_id)? else {
                if self.terms.existing {
                    let what = format!("acquiring lease {}: it was released meanwhile", self.identity.lease_id);
                    return Err(Failure::new(Kind::NotFound, what).into());
                }
                self.create()?;
                continue;
            };
            let mut held = acquirer::hold(&dir);
            match self.attempt(&dir) {
                Ok(Some(handed)) => return Ok(handed),
                // It was released meanwhile, or has lost its seat: begin anew.
                Ok(None) => {}
                Err(error) => return Err(self.roll_back(&dir, &mut held, error)),
            }
        }
    }

    /// Brings the lease to a job and waits for that; `None` when it has to be begun anew.
    fn attempt(&self, dir: &LeaseDir) -> Result<Option<Handed>> {
        let (view, pool) = match self.submitted(dir)? {
            Submitted::Gone => return Ok(None),
            Submitted::Has(None) => return self.handed(dir, None),
            Submitted::Has(Some(view)) => (view, self.pool.as_ref()),
        };
        // It has taken a spare, so that another one is missing: most of a login is waiting.
        std::thread::scope(|scope| {
            let (options, store) = (self.options, &self.store);
            let upkeep =
                std::thread::Builder::new().spawn_scoped(scope, move || upkeep::look_after(options, store, pool));
            self.looked_after.set(upkeep.is_ok());
            self.handed(dir, Some(*view))
        })
    }

    /// Waits for the lease's job, of which Slurm has shown this already; `None` when the lease has to be begun anew.
    fn handed(&self, dir: &LeaseDir, view: Option<View>) -> Result<Option<Handed>> {
        let caller = self.terms.caller.as_ref();
        let mut wait =
            Wait::new(self.options, &self.store, &self.settings, dir, Doing::Acquiring, self.deadline, caller);
        view.into_iter().for_each(|view| wait.begin_with(view));
        self.pool.iter().for_each(|_| wait.break_every(LOOK_FOR_SPARES));
        loop {
            match wait.until_ready() {
                Ok(Waited::Handed(handed)) => return Ok(Some(*handed)),
                Ok(Waited::Queued) => match self.change_over(dir)? {
                    Changed::Nothing => {}
                    Changed::Seated(view) => wait.begin_with(view),
                    Changed::Anew => return Ok(None),
                },
                Ok(Waited::SeatLost(why)) => return self.give_back(dir, &why).map(|_| None),
                Err(error) if self.loses_its_seat(dir, &error)? => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether somebody is there to take the lease.
    fn caller_lives(&self) -> Result<()> {
        wait::caller_lives(self.terms.caller.as_ref(), &format!("lease {}", self.identity.lease_id))
    }

    fn sleep(&self, pause: Duration) -> Result<()> {
        match &self.terms.caller {
            Some(caller) => caller.sleep(pause),
            None => std::thread::sleep(pause),
        }
        self.caller_lives()
    }

    /// Makes the record of a lease that nobody has made yet.
    fn create(&self) -> Result<()> {
        let _counted = self.counted()?;
        // Where that fails, making the lease does so too, and says why.
        self.store.remember_work_root(self.settings.submit.as_ref(), &self.settings.work_root).ok();
        let place = if self.pool.is_some() { Place::Pooled } else { Place::Leases };
        self.store.create_at(place, &self.identity, |dir: &Dir, path| {
            // A lease that takes a spare takes its key too.
            let key = match place {
                Place::Leases => path.join(self.make_key(dir)?),
                Place::Pooled | Place::Spares => PathBuf::new(),
            };
            Ok(self.record(key)?)
        })?;
        Ok(())
    }

    /// Makes the lease's key, or a link to the one that is configured; its name.
    fn make_key(&self, dir: &Dir) -> Result<String> {
        match &self.settings.ssh_private_key {
            Some(key) => link_key(dir, key),
            None => make_key(dir, self.identity.lease_id.as_str()),
        }
    }

    /// The record of a lease that nobody has made yet, with a private key at this path.
    fn record(&self, key: PathBuf) -> std::io::Result<Record> {
        let draft = draft(&self.store, &self.settings, &self.runner, &self.user, &self.identity, key)?;
        Ok(Record { keep: self.keep, pooled: self.pool.is_some(), ..draft })
    }

    /// Refuses where as many leases exist as may. Of two that would be the last one wins: who counts holds a lock of the
    /// whole state dir until its own lease counts.
    fn counted(&self) -> Result<Option<Lock>> {
        let Some(most) = self.settings.max_leases else { return Ok(None) };
        let id = &self.identity.lease_id;
        let unlocked = |cause: String| {
            Failure::new(Kind::Storage, format!("acquiring lease {id}: the leases cannot be counted")).cause(cause)
        };
        let lock = self.store.cache().and_then(|cache| cache.lock("counting", COUNTING_PATIENCE));
        let lock = lock.map_err(|error| unlocked(error.to_string()))?;
        let Some(lock) = lock else {
            let what = format!("acquiring lease {id}: another call counts the leases for maxLeases");
            return Err(Failure::new(Kind::Busy, what).into());
        };
        let ids = self.store.ids()?;
        if ids.len() as u64 >= most && !ids.contains(id) {
            let what = format!("acquiring lease {id}: maxLeases is {most}, and as many leases exist");
            return Err(Failure::new(Kind::LimitReached, what).into());
        }
        Ok(Some(lock))
    }

    /// The lease's lock, for which another call may keep us waiting; `None` when the lease went away.
    fn lock<'d>(&self, dir: &'d LeaseDir) -> Result<Option<Guard<'d>>> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match dir.lock(left.min(LOCK_SLICE))? {
                Locked::Held(guard) => return Ok(Some(guard)),
                Locked::Gone => return Ok(None),
                Locked::Busy if left <= LOCK_SLICE => {
                    let what = format!("acquiring lease {}: another call holds it", self.identity.lease_id);
                    return Err(Failure::new(Kind::Busy, what).into());
                }
                Locked::Busy => self.caller_lives()?,
            }
        }
    }

    /// The record, if it is the lease that is asked for.
    fn checked(&self, guard: &Guard<'_>) -> Result<Record> {
        let id = &self.identity.lease_id;
        let loaded = guard.lease.load();
        // An identity that was made up for a damaged record is nobody's.
        if loaded.record().is_some() {
            IdentityCheck { slug: &self.identity.slug, name: &self.identity.name, ..IdentityCheck::default() }
                .check(&loaded)?;
        }
        match loaded {
            Loaded::Whole(record) => {
                let mut record = *record;
                if record.uid != self.user.uid {
                    let what = format!("{} belongs to user id {}, not to this one", record.shown(), record.uid);
                    return Err(Failure::new(Kind::IdentityMismatch, what).into());
                }
                // What was handed out can be handed out again without a word in the record; all else is written down.
                if record.phase != Phase::Answered {
                    guard.must_be_ours(&record)?;
                }
                if self.keep && !record.keep && guard.lease.may_write() {
                    record.keep = true;
                    guard.save(&record)?;
                }
                Ok(record)
            }
            Loaded::Newer { identity } => Err(crate::operation::lookup::newer("acquiring", &identity).into()),
            Loaded::Damaged { why, .. } => Err(Failure::new(
                Kind::Storage,
                format!("acquiring lease {id}: its record is damaged; nothing was touched"),
            )
            .remedy("release the lease, its job is found by name; then acquire it again")
            .cause(why)
            .into()),
        }
    }

    /// Waits as long as a release would for a lease that is on its way out.
    fn wait_for_release(&self, dir: &LeaseDir) -> Result<()> {
        let deadline = self.deadline.min(Instant::now() + release::BOUND);
        let found = load(&self.store, &dir.id)?;
        let outcome = match &found {
            Some(found) => release::release(&self.store, found, &self.recovery(), deadline, "acquire"),
            None => return Ok(()),
        };
        match outcome {
            Ok(Released::Gone) => Ok(()),
            Ok(Released::Ending) | Err(_) => {
                let cause = outcome.err().map(|error| failure::of(&error).to_string()).unwrap_or_default();
                Err(Failure::new(Kind::Releasing, format!("acquiring lease {}: it is being released", dir.id))
                    .remedy("repeat the call when the release is through")
                    .cause(cause)
                    .into())
            }
        }
    }

    fn recovery(&self) -> Recovery {
        Recovery::configured(Some(&self.settings))
    }
}
