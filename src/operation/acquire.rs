//! acquire: a lease for exactly the identity that is asked for, now or as an earlier call left it.
//!
//! The client kills us with our whole process group whenever it likes and sends no release after it (protocol.md
//! fact 1), so every act is on record before it is done, and a call begins by finding out what the last one did.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::recover::Recovery;
use super::release;
use super::settle::{self, Released};
use super::wait::Wait;
use super::{Demands, Found, Options, load, now, progress, runner, shared_dir, user};
use crate::allocation::{self, Runner};
use crate::clock::Now;
use crate::config::Settings;
use crate::config::connection::Connection;
use crate::failure::{self, Failure, Kind};
use crate::files::Dir;
use crate::host::{Host, User};
use crate::lease::lifecycle::{OpenSubmission, open_submission};
use crate::lease::record::{Attempt, Denials, Phase, Record};
use crate::lease::store::{Guard, LeaseDir, Loaded, Store};
use crate::lease::{Identity, Nonce};
use crate::protocol::{Answer, Lease, Request};
use crate::shared_dir::{Permit, SharedDir};
use crate::slurm::sbatch::{self, Outcome};
use crate::slurm::squeue;
use crate::ssh;

/// Pauses between looks for a submission whose answer was lost (hazards.md 1.2), then the last one again and again.
const RECONCILE_PAUSES: [Duration; 5] = [
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
];

/// Pauses between submissions that reached no controller.
const RESEND_PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// Carries out an acquire.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    let mut settings = crate::config::parse(&request.config)?;
    let desired = request.desired.clone().unwrap_or_default();
    let identity = Identity::parse(&desired.lease_id, &desired.slug, &desired.name)?;
    let runner = runner(options, &settings)?;
    let user = user(&Host::of(settings.submit.as_ref()), &format!("acquiring lease {}", identity.lease_id))?;
    settings.at_home(user.home.as_deref());
    check_user(&settings, &user)?;
    super::places::check(&Host::of(settings.submit.as_ref()), &settings, &options.state_dir, &user)?;
    let deadline = Instant::now() + Duration::from_secs(settings.acquire_timeout);
    let acquire = Acquire {
        options,
        settings,
        identity,
        runner,
        user,
        keep: request.keep,
        deadline,
        store: Store::open(&options.state_dir)?,
    };
    let lease = acquire.run()?;
    Ok(Answer { lease: Some(lease), ..Answer::default() })
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
    deadline: Instant,
    store: Store,
}

impl Acquire<'_> {
    fn run(&self) -> Result<Lease> {
        loop {
            let Some(dir) = self.store.lease(&self.identity.lease_id)? else {
                self.create()?;
                continue;
            };
            match self.submitted(&dir) {
                Ok(true) => {}
                // It was released meanwhile: begin anew.
                Ok(false) => continue,
                Err(error) => return Err(self.roll_back(&dir, error)),
            }
            let mut wait = Wait::new(self.options, &self.store, &self.settings, &dir, "acquiring", self.deadline);
            return wait.until_ready().map_err(|error| self.roll_back(&dir, error));
        }
    }

    /// Makes the record of a lease that nobody has made yet.
    fn create(&self) -> Result<()> {
        let submit = &self.settings.submit;
        let route = match &self.settings.connection {
            Connection::Connect(route) => Some(route.clone()),
            Connection::Direct | Connection::Proxy { .. } => None,
        };
        self.store.create(&self.identity, |dir: &Dir, place| {
            let name = match &self.settings.ssh_private_key {
                Some(key) => ssh::link_key(dir, key)?,
                None => ssh::make_key(dir, self.identity.lease_id.as_str())?,
            };
            Ok(Record {
                identity: self.identity.clone(),
                phase: Phase::Prepared,
                keep: self.keep,
                created: now(),
                uid: self.user.uid,
                user: submit.as_ref().and(self.user.name.clone()),
                submit: submit.clone(),
                route: route.clone(),
                attempt: Attempt { nonce: Nonce::random()?, sent: None, sent_at: None },
                given_up: vec![],
                instance: Some(self.store.instance().name.clone()),
                clusters: self.settings.clusters.clone(),
                job: None,
                submitted: None,
                cloud_id: None,
                server_type: self.settings.resources.summary.clone(),
                shared_dir: shared_dir(&self.settings, self.store.path(), &self.user),
                contract: self.runner.keeps_contract(),
                key: place.join(name),
                endpoint: None,
                denied: Denials::default(),
                ended: None,
                releasing: None,
            })
        })?;
        Ok(())
    }

    /// Brings the lease to the point where its job is known; `false` when it went away.
    fn submitted(&self, dir: &LeaseDir) -> Result<bool> {
        let mut resends = RESEND_PAUSES.iter().chain(std::iter::repeat(&RESEND_PAUSES[4]));
        let mut looks = RECONCILE_PAUSES.iter().chain(std::iter::repeat(&RECONCILE_PAUSES[4]));
        let mut refusal = None;
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let guard = match dir.lock(left) {
                Ok(Some(guard)) => guard,
                Ok(None) => {
                    let what = format!("acquiring lease {}: another call holds it", self.identity.lease_id);
                    return Err(Failure::new(Kind::Busy, what).into());
                }
                Err(error) if failure::of(&error).kind == Kind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            };
            let mut record = self.checked(&guard)?;
            // A release was cut short after it took the permit away.
            let losing = matches!(record.phase, Phase::Queued | Phase::Answered)
                && SharedDir::of(&record).permit() == Permit::Lost;
            let pause = match record.phase {
                _ if losing => {
                    drop(guard);
                    return self.wait_for_release(dir).map(|()| false);
                }
                Phase::Queued | Phase::Answered => return Ok(true),
                Phase::Releasing => {
                    drop(guard);
                    return self.wait_for_release(dir).map(|()| false);
                }
                Phase::Prepared => match self.submit(&guard, &mut record)? {
                    Step::Done => return Ok(true),
                    Step::Again(why) => {
                        progress(&format!("{}: {why}", record.shown()));
                        resends.next()
                    }
                    Step::Refused(said) => {
                        refusal = Some(said);
                        looks.next()
                    }
                    Step::Look => looks.next(),
                },
                Phase::Submitting => match self.reconcile(&guard, &mut record, &refusal)? {
                    Step::Done => return Ok(true),
                    Step::Again(_) => continue,
                    Step::Refused(_) | Step::Look => looks.next(),
                },
            };
            drop(guard);
            let pause = pause.copied().unwrap_or(Duration::from_secs(20)).max(self.options.poll_interval);
            if Instant::now() + pause >= self.deadline {
                return Err(self.not_submitted(&record, refusal).into());
            }
            std::thread::sleep(pause);
        }
    }

    /// The record, if it is the lease that is asked for.
    fn checked(&self, guard: &Guard<'_>) -> Result<Record> {
        let id = &self.identity.lease_id;
        match guard.lease.load() {
            Loaded::Whole(record) => {
                let found = Found { loaded: Loaded::Whole(record.clone()), dir: self.dir(id)? };
                Demands { slug: &self.identity.slug, name: &self.identity.name, ..Demands::default() }.check(&found)?;
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
            Loaded::Newer { identity } => Err(super::newer("acquiring", &identity).into()),
            Loaded::Damaged { why, .. } => Err(Failure::new(
                Kind::Storage,
                format!("acquiring lease {id}: its record is damaged; nothing was touched"),
            )
            .remedy("release the lease, its job is found by name; then acquire it again")
            .cause(why)
            .into()),
        }
    }

    fn dir(&self, id: &crate::lease::LeaseId) -> Result<LeaseDir> {
        let gone = || Failure::new(Kind::NotFound, format!("lease {id} was released meanwhile"));
        Ok(self.store.lease(id)?.ok_or_else(gone)?)
    }

    /// Submits the prepared attempt.
    fn submit(&self, guard: &Guard<'_>, record: &mut Record) -> Result<Step> {
        if let Some(most) = self.settings.max_leases
            && self.store.ids()?.len() as u64 > most
        {
            let what = format!("acquiring lease {}: maxLeases is {most}, and as many leases exist", record.lease_id());
            return Err(Failure::new(Kind::LimitReached, what).into());
        }
        let id = &self.identity.lease_id;
        let refused = |kind, said: String| {
            Failure::new(kind, format!("acquiring lease {id}: sbatch refused the job, none was submitted")).cause(said)
        };
        match allocation::submit(&self.store, guard, record, &self.settings, &self.runner, Now::read())? {
            Outcome::Submitted(_) => Ok(Step::Done),
            Outcome::Rejected { said } => {
                let remedy = sbatch::remedy(&said);
                Err(refused(Kind::SubmitRejected, said).remedy(remedy).into())
            }
            Outcome::Limit { said } => {
                let failure = refused(Kind::LimitReached, said).remedy("end other jobs of yours, then repeat the call");
                Err(failure.into())
            }
            Outcome::NotSent { said } if said.starts_with(allocation::NO_SBATCH) => {
                Err(Failure::new(Kind::SlurmUnavailable, format!("acquiring lease {id}: nothing was submitted"))
                    .remedy("put Slurm's commands on PATH, or run this where they are")
                    .cause(said)
                    .into())
            }
            Outcome::NotSent { said } => {
                Ok(Step::Again(format!("no controller was reached, the submission is repeated: {said}")))
            }
            Outcome::Unknown { said, refused } => {
                progress(&format!("lease {id}: sbatch gave no clear answer, the job is looked for by name: {said}"));
                Ok(if refused { Step::Refused(said) } else { Step::Look })
            }
        }
    }

    /// Looks for the job of a submission without an answer, and moves on to another attempt once it is denied twice.
    fn reconcile(&self, guard: &Guard<'_>, record: &mut Record, refusal: &Option<String>) -> Result<Step> {
        let view = allocation::ask(record, squeue::DEADLINE);
        let (before, time) = (record.clone(), Now::read());
        if settle::apply(record, &view, time) {
            guard.keep_learned(&before, record)?;
        }
        if record.job.is_some() {
            guard.lease.note(now(), "adopted", &record.shown());
            return Ok(Step::Done);
        }
        if !matches!(view.observation, crate::lease::lifecycle::Observation::Denied) {
            return Ok(Step::Look);
        }
        match open_submission(record, time) {
            OpenSubmission::Wait => Ok(Step::Look),
            OpenSubmission::NeverSent | OpenSubmission::Resubmit | OpenSubmission::Lost => {
                record.begin_attempt()?;
                guard.save(record)?;
                match refusal {
                    // Asking again would be refused again.
                    Some(said) => {
                        let what = format!(
                            "acquiring lease {}: sbatch refused the job, none was submitted",
                            record.lease_id()
                        );
                        Err(Failure::new(Kind::SubmitRejected, what).remedy(sbatch::remedy(said)).cause(said).into())
                    }
                    None => Ok(Step::Again(String::new())),
                }
            }
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

    fn not_submitted(&self, record: &Record, refusal: Option<String>) -> Failure {
        let id = record.lease_id();
        let (kind, what) = match record.phase {
            Phase::Prepared => (
                Kind::SlurmUnavailable,
                format!("acquiring lease {id}: no controller was reached in time, nothing was submitted"),
            ),
            _ => (
                Kind::SubmitUnknown,
                format!("acquiring lease {id}: whether its job was submitted could not be found out in time"),
            ),
        };
        Failure::new(kind, what).cause(refusal.unwrap_or_default())
    }

    /// Takes back what a failed acquire has made. What stays is what was handed out before, what `keep` may still
    /// use, and what belongs to somebody else.
    fn roll_back(&self, dir: &LeaseDir, error: anyhow::Error) -> anyhow::Error {
        let mut failure = failure::of(&error);
        let Loaded::Whole(record) = dir.load() else {
            return error;
        };
        let kept = self.keep
            && record.phase != Phase::Prepared
            && matches!(failure.kind, Kind::TimedOut | Kind::EndpointUnusable | Kind::SubmitUnknown);
        let untouchable =
            matches!(failure.kind, Kind::IdentityMismatch | Kind::Busy | Kind::Releasing | Kind::NotFound);
        if kept {
            // A job that starts later is wanted, so idle time bounds it, not the grace of one that nobody came for. One
            // whose endpoint is of no use has run already.
            if matches!(failure.kind, Kind::TimedOut | Kind::SubmitUnknown) {
                SharedDir::of(&record).mark("kept", now()).ok();
            }
            dir.note(now(), "kept", &failure.to_string());
            failure = failure.remedy(format!(
                "{} is kept; acquire or resolve it again to use it, release it to end it",
                record.shown()
            ));
            return failure.into();
        }
        if record.phase == Phase::Answered || untouchable || !dir.may_write() {
            return error;
        }
        // Where nothing can be locked nothing is known to be ours alone: another call may wait for this very job.
        if let Err(problem) = dir.lock(Duration::ZERO) {
            let problem = failure::of(&problem);
            return if problem.kind == failure.kind { error } else { failure.and_then(&problem).into() };
        }
        let found = match load(&self.store, &dir.id) {
            Ok(Some(found)) => found,
            _ => return error,
        };
        match release::release(&self.store, &found, &self.recovery(), Instant::now() + release::BOUND, "rolled back") {
            Ok(_) if failure.kind == Kind::JobEnded => {
                failure.remedy("nothing of it is left; mend what its output tells, then acquire again").into()
            }
            Ok(_) => failure.into(),
            Err(problem) => failure.and_then(&failure::of(&problem)).into(),
        }
    }
}

enum Step {
    /// The job is known.
    Done,
    /// Submit, again.
    Again(String),
    /// It reads like a refusal; look for the job to be sure.
    Refused(String),
    /// Look for the job.
    Look,
}
