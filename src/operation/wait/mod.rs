//! The wait for a lease: from a submitted job to a login that succeeds.
//!
//! The shared dir is read often, which costs the controller nothing; Slurm is asked rarely, and at once when a file
//! of the runner appears. What is done next is decided from the record, the last look and the clock.

mod next;
mod probe;
mod proof;
mod report;
mod schedule;
mod throttle;

use std::cell::OnceCell;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

use self::probe::{Probed, Refused};
use super::settle;
use crate::allocation::{self, View};
use crate::clock::Now;
use crate::config::Settings;
use crate::config::proxy::{Connection, Route};
use crate::failure::{self, Failure, Kind};
use crate::files::{Dir, KeptFiles, random_hex};
use crate::host::Caller;
use crate::lease::lifecycle::{DENIAL_GAP_SECONDS, Verdict, classify};
use crate::lease::proof::Proof;
use crate::lease::record::{Phase, Record};
use crate::lease::store::{Guard, LeaseDir, Loaded, Locked, Store};
use crate::operation::context::Options;
use crate::progress::progress;
use crate::protocol::Lease;
use crate::shared_dir::{Notice, Permit, SharedDir, Watch};
use crate::slurm::cache::{BackOff, Moment, Shared};
use crate::slurm::job::{PendingReason, pending_reason};
use crate::slurm::squeue;
use next::{Facts, Shown, Step, next};
pub use report::failure_of_end;
use schedule::{
    EAGER_INTERVAL, FRESH_ANSWER, LAST_WORD_AGE, TROUBLE_PATIENCE, ask_after, jittered, look_interval, oldest_answer,
};

/// Patience for the lease's lock, held elsewhere for one submission or release.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Longest look of a login host by itself. What sandboxed code or another call changes meanwhile it answers at once; that
/// the caller has died is seen after it.
const LONGEST_POLL: Duration = Duration::from_secs(10);

/// How a wait went on.
#[derive(Debug)]
pub enum Waited {
    Handed(Box<Handed>),
    /// The job is in the queue still; for who may have another way to a lease.
    Queued,
    /// The seat cannot be claimed, and why: its job has decided to end, or is another lease's.
    SeatLost(String),
}

/// A lease that was handed out, and whether it was so for the first time.
#[derive(Debug)]
pub struct Handed {
    pub lease: Lease,
    pub first: bool,
}

/// Fails where the caller that a lease is meant for has died.
pub fn caller_lives(caller: Option<&Caller>, lease: &str) -> Result<()> {
    match caller.and_then(Caller::gone) {
        None => Ok(()),
        Some(why) => Err(Failure::new(Kind::TimedOut, format!("acquiring {lease}: given up, since {why}"))
            .remedy("acquire it again, with keep if it is to outlive its caller")
            .into()),
    }
}

/// What a wait is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Acquiring,
    Resolving,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Doing::Acquiring => "acquiring",
            Doing::Resolving => "resolving",
        })
    }
}

fn shown(notice: &Notice) -> Shown {
    match notice {
        Notice::Nothing => Shown::Nothing,
        Notice::Endpoint(_) => Shown::Endpoint,
        Notice::Ending => Shown::Ending,
    }
}

/// A wait for one lease.
#[derive(Debug)]
pub struct Wait<'a> {
    pub options: &'a Options,
    pub settings: &'a Settings,
    pub dir: &'a LeaseDir,
    pub doing: Doing,
    pub deadline: Instant,
    /// Who must live for the wait to go on.
    caller: Option<&'a Caller>,
    shared: Option<Shared>,
    /// Where logins take turns.
    throttle: Option<Dir>,
    /// Random, for the jitter of all gaps.
    seed: u8,
    started: Instant,
    /// The same moment, for answers of other processes.
    begun_at: Moment,
    asked: Option<Instant>,
    /// Ask at this time even where the schedule would wait.
    ask_at: Option<Instant>,
    hopeless: bool,
    said: String,
    /// Since when the shared dir or the endpoint file could not be used.
    trouble: Option<Instant>,
    /// Set while logins are of no use.
    refused: Option<Refused>,
    /// The login that may stand for another one.
    proof: Option<Proof>,
    /// The key exchanges of the user's configuration in the order for a proof, where they were asked for.
    exchanges: Option<String>,
    /// What stays open between two looks at the record and at the shared dir.
    record_files: KeptFiles,
    watch: Watch,
    /// What the shared dir showed last.
    seen: Notice,
    /// Whether the marker of a lease that was handed out is there.
    answered: bool,
    /// Whether the login host could not be asked the last time.
    lost: bool,
    /// Since when the job's output is there.
    begun: Option<Instant>,
    /// What Slurm showed last.
    view: Option<View>,
    /// How often the wait comes back while the job is in the queue.
    breaks: Option<Duration>,
    last_break: Instant,
    /// When the maintenance begins that keeps the job waiting, asked once.
    maintenance: OnceCell<Option<i64>>,
}

impl<'a> Wait<'a> {
    pub fn new(
        options: &'a Options,
        store: &Store,
        settings: &'a Settings,
        dir: &'a LeaseDir,
        doing: Doing,
        deadline: Instant,
        caller: Option<&'a Caller>,
    ) -> Wait<'a> {
        Wait {
            shared: store.cache().ok().and_then(Shared::open),
            throttle: store.cache().ok(),
            seed: random_hex(1).ok().and_then(|hex| u8::from_str_radix(&hex, 16).ok()).unwrap_or_default(),
            options,
            settings,
            dir,
            doing,
            deadline,
            caller,
            started: Instant::now(),
            begun_at: Moment::now(),
            asked: None,
            ask_at: None,
            hopeless: false,
            said: String::new(),
            trouble: None,
            refused: None,
            proof: proof::usable(doing, settings, dir),
            exchanges: None,
            record_files: KeptFiles::default(),
            watch: Watch::default(),
            seen: Notice::Nothing,
            answered: false,
            lost: false,
            begun: None,
            view: None,
            breaks: None,
            last_break: Instant::now(),
            maintenance: OnceCell::new(),
        }
    }

    /// Begins with what Slurm has shown, as if this wait had asked for it.
    pub fn begin_with(&mut self, view: View) {
        self.view = Some(view);
    }

    /// Has the wait come back so often while the job is in the queue.
    pub fn break_every(&mut self, pause: Duration) {
        self.breaks = Some(pause);
    }

    /// Waits until the lease can be handed out, or cannot.
    pub fn until_ready(&mut self) -> Result<Waited> {
        let handed = self.wait();
        // What follows may remove the lease, and NFS lets no file go that is open.
        (self.record_files, self.watch) = Default::default();
        handed
    }

    fn wait(&mut self) -> Result<Waited> {
        let mut view = self.view.take();
        self.remember_route()?;
        loop {
            // Another call may have released the lease, or pinned its endpoint.
            let seen = self.dir.poll(&mut self.record_files);
            let mut record = self.waited_for(seen)?;
            caller_lives(self.caller, &record.shown())?;
            let patience = self.look_patience(&record);
            let notice = self.poll(&record, patience).map_err(|error| self.without_permit(error))?;
            let (mut asked, mut tried_to_pin, mut tried_to_log_in) = (false, false, false);
            loop {
                let usable = self.usable(&record, view.as_ref());
                let facts = Facts {
                    shown: shown(&notice),
                    pinned: record.endpoint.is_some(),
                    usable: usable.is_some(),
                    due: self.due_in(false).is_zero(),
                    due_eagerly: self.due_in(true).is_zero(),
                    over: Instant::now() >= self.deadline,
                    outdated: self.asked.is_none_or(|at| at.elapsed() >= LAST_WORD_AGE.max(self.options.poll_interval)),
                    asked,
                    tried_to_pin,
                    tried_to_log_in,
                };
                match (next(&facts), &view, &notice) {
                    (Step::Ask { eager }, ..) => {
                        view = Some(self.ask(&mut record, eager)?);
                        asked = true;
                    }
                    (Step::Pin, _, Notice::Endpoint(found)) => {
                        tried_to_pin = true;
                        match self.pin(&record, &usable.unwrap_or_default(), found.clone()) {
                            Ok(pinned) => record = pinned,
                            Err(_) if self.bear_trouble() => {}
                            Err(error) => return Err(error),
                        }
                    }
                    (Step::Probe, Some(shown), _) => match self.probe(&mut record, shown)? {
                        Probed::Handed(handed) => return Ok(Waited::Handed(handed)),
                        Probed::SeatLost(why) => return Ok(Waited::SeatLost(why)),
                        Probed::NotYet => tried_to_log_in = true,
                        Probed::Doubtful => view = Some(self.ask(&mut record, true)?),
                    },
                    (Step::GiveUp, view, _) => {
                        view.iter().for_each(|view| self.report(&record, view));
                        return Err(self.timed_out(&record, view.as_ref()).into());
                    }
                    (Step::Poll | Step::Pin | Step::Probe, ..) => break,
                }
            }
            view.iter().for_each(|view| self.report(&record, view));
            if self.is_time_for_a_break(&record) {
                self.view = view;
                return Ok(Waited::Queued);
            }
            // A login host has done the waiting.
            if patience.is_zero() {
                let left = self.deadline.saturating_duration_since(Instant::now());
                let begun = self.begun.map(|at| at.elapsed());
                let pause = look_interval(self.started.elapsed(), begun).min(left);
                match self.caller {
                    Some(caller) => caller.sleep(pause),
                    None => std::thread::sleep(pause),
                }
            }
        }
    }

    fn is_time_for_a_break(&mut self, record: &Record) -> bool {
        let queued = record.phase == Phase::Queued && record.endpoint.is_none() && self.begun.is_none();
        let due = queued && self.breaks.is_some_and(|pause| self.last_break.elapsed() >= pause);
        if due {
            self.last_break = Instant::now();
        }
        due
    }

    /// How long the login host may go on looking by itself: until it is time to ask Slurm, while nothing else is to do.
    fn look_patience(&self, record: &Record) -> Duration {
        if record.submit.is_none() || record.endpoint.is_some() || self.seen != Notice::Nothing {
            return Duration::ZERO;
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.due_in(false).min(left).min(LONGEST_POLL)
    }

    /// Today's way to the endpoint, for `connect`; a lease without a listener keeps its own.
    fn remember_route(&self) -> Result<()> {
        let Connection::Connect(route @ Route::Login { .. }) = &self.settings.connection else { return Ok(()) };
        let mut record = self.record()?;
        self.write_down(&mut record, |record| {
            let other = record.route != Some(Route::Stdio) && record.route.as_ref() != Some(route);
            if other {
                record.route = Some(route.clone());
            }
            other
        })
    }

    /// The record as it is now, with its permit where that costs nothing to see; a login host tells it by each look.
    fn record(&self) -> Result<Record> {
        let record = self.stored()?;
        let lost = record.submit.is_none() && SharedDir::of(&record).permit() == Permit::Lost;
        if lost { Err(self.being_released(&record).into()) } else { Ok(record) }
    }

    fn stored(&self) -> Result<Record> {
        self.waited_for(self.dir.load())
    }

    /// A lease that is being released is nobody's to wait for.
    fn waited_for(&self, loaded: Loaded) -> Result<Record> {
        match loaded {
            Loaded::Whole(record) if record.phase == Phase::Releasing => Err(self.being_released(&record).into()),
            Loaded::Whole(record) => Ok(*record),
            Loaded::Newer { identity } => {
                Err(crate::operation::lookup::newer(&self.doing.to_string(), &identity).into())
            }
            Loaded::Damaged { .. } if !self.dir.is_in_place() => Err(self.released_meanwhile().into()),
            Loaded::Damaged { why, .. } => {
                let what = format!("{} lease {}: its record is damaged", self.doing, self.dir.id);
                Err(Failure::new(Kind::Storage, what)
                    .remedy("release the lease, its job is found by name; then acquire it anew")
                    .cause(why)
                    .into())
            }
        }
    }

    /// A lease that has lost its permit is being released, or its permit was removed by hand and its job has ended by
    /// itself; then that is what to tell, or nobody would hear of it while no list comes by.
    fn without_permit(&self, error: anyhow::Error) -> anyhow::Error {
        if failure::of(&error).kind != Kind::Releasing {
            return error;
        }
        let load = || match self.dir.load() {
            Loaded::Whole(record) if record.phase != Phase::Releasing => Some(*record),
            _ => None,
        };
        let Some(mut record) = load() else { return error };
        let (view, time) = (allocation::ask(&record, squeue::DEADLINE), Now::read());
        if settle::apply(&mut record.clone(), &view, time)
            && let Ok(Locked::Held(guard)) = self.dir.lock(LOCK_PATIENCE)
            // What cannot be written down is learned again by the next call.
            && let Ok(Some(current)) = settle::persist(&guard, &record, &view, time)
        {
            record = current;
        }
        if record.ended.is_some() { self.ended(&mut record).into() } else { error }
    }

    fn released_meanwhile(&self) -> Failure {
        let what = format!("{} lease {}: it was released meanwhile", self.doing, self.dir.id);
        Failure::new(Kind::NotFound, what).remedy("acquire it anew if it is still wanted")
    }

    fn being_released(&self, record: &Record) -> Failure {
        Failure::new(Kind::Releasing, format!("{} {}: it is being released", self.doing, record.shown()))
            .remedy("repeat the call when the release is through")
    }

    fn poll(&mut self, record: &Record, patience: Duration) -> Result<Notice> {
        let snapshot = SharedDir::of(record).snapshot(&mut self.watch, patience);
        if let Some(why) = snapshot.unreachable {
            if !self.lost {
                progress(&format!("{}: the login host cannot be asked, the wait goes on: {why}", record.shown()));
            }
            self.lost = true;
            return Ok(Notice::Nothing);
        }
        self.lost = false;
        if snapshot.permit == Permit::Lost {
            return Err(self.being_released(record).into());
        }
        self.answered = snapshot.answered;
        if snapshot.begun {
            self.begun.get_or_insert_with(Instant::now);
        }
        match snapshot.notice {
            _ if record.endpoint.is_some() => Ok(Notice::Nothing),
            Ok(look) => {
                self.seen = look.clone();
                Ok(look)
            }
            Err(_) if self.bear_trouble() => Ok(Notice::Nothing),
            Err(error) => {
                let what = format!("{} {}: the shared dir cannot be read", self.doing, record.shown());
                Err(Failure::new(Kind::Storage, what)
                    .remedy("check the file system; if something replaced the lease's directory, release the lease")
                    .cause(format!("{error:#}"))
                    .into())
            }
        }
    }

    /// Whether trouble with the shared dir may still pass: network file systems show files late and in parts.
    fn bear_trouble(&mut self) -> bool {
        self.trouble.get_or_insert_with(Instant::now).elapsed() < TROUBLE_PATIENCE && Instant::now() < self.deadline
    }

    /// How long until Slurm is to be asked.
    fn due_in(&self, eager: bool) -> Duration {
        let floor = self.options.poll_interval;
        match self.asked {
            // A resolve is often about a job that has ended, which is an error at once.
            None if eager || self.doing == Doing::Resolving => Duration::ZERO,
            None => self.gap(None).max(floor).saturating_sub(self.started.elapsed()),
            Some(last) => {
                let due = if eager { EAGER_INTERVAL } else { self.gap(Some(last - self.started)) };
                let due = match self.ask_at {
                    Some(at) => due.min(at.saturating_duration_since(last)),
                    None => due,
                };
                due.max(floor).saturating_sub(last.elapsed())
            }
        }
    }

    fn gap(&self, last: Option<Duration>) -> Duration {
        jittered(ask_after(last), self.seed)
    }

    /// After which moment an answer of another process must have been asked for: a short time ago where something has just
    /// happened, never before the job was submitted, and else by the schedule.
    fn answers_after(&self, eager: bool) -> Moment {
        let waited = self.started.elapsed();
        let oldest = match self.asked {
            _ if eager || self.ask_at.is_some() => FRESH_ANSWER,
            None => oldest_answer(waited),
            Some(last) => oldest_answer(last.elapsed()),
        };
        Moment::now().before(oldest).max(self.begun_at)
    }

    /// Asks Slurm, writes down what it proves, and fails where nothing more can come of the job.
    fn ask(&mut self, record: &mut Record, eager: bool) -> Result<View> {
        *record = self.record()?;
        let view = match &self.shared {
            Some(shared) => self.view_of_a_proven(record, shared).unwrap_or_else(|| {
                allocation::ask_shared(record, shared, self.answers_after(eager), squeue::DEADLINE, BackOff::Kept)
            }),
            None => allocation::ask(record, squeue::DEADLINE),
        };
        self.asked = Some(Instant::now());
        self.ask_at = None;
        let time = Now::read();
        if settle::apply(&mut record.clone(), &view, time) {
            let guard = self.lock()?;
            match settle::persist(&guard, record, &view, time)? {
                Some(current) => *record = current,
                // It was written meanwhile, so the answer may be about another job: ask again.
                None => {
                    self.ask_at = Some(Instant::now());
                    return Ok(View::query_failed("the lease has changed while Slurm was asked"));
                }
            }
        }
        let after = |pause: Duration| Some(Instant::now() + pause);
        match classify(record, &view.observation, Now::read()) {
            Verdict::Ended | Verdict::Gone => return Err(self.ended(record).into()),
            _ if record.ended.is_some() => return Err(self.ended(record).into()),
            Verdict::Denied => self.ask_at = after(Duration::from_secs(DENIAL_GAP_SECONDS as u64)),
            Verdict::Ending => self.ask_at = after(Duration::from_secs(1)),
            Verdict::Queued => {
                let row_reason = view.row().map(|row| row.reason.clone()).unwrap_or_default();
                match pending_reason(&row_reason) {
                    PendingReason::Never(remedy) if self.hopeless => {
                        let what = format!("{} {}: the job can never start: {row_reason}", self.doing, record.shown());
                        return Err(Failure::new(Kind::NeverRuns, what).remedy(remedy).into());
                    }
                    // A controller that is just starting calls everything impossible for a moment.
                    PendingReason::Never(_) => {
                        self.hopeless = true;
                        self.ask_at = after(Duration::from_secs(2));
                    }
                    PendingReason::Normal | PendingReason::Attention(_) | PendingReason::Maintenance => {
                        self.hopeless = false;
                    }
                }
            }
            Verdict::Running | Verdict::Suspended | Verdict::Unknown(_) => {}
        }
        Ok(view)
    }

    /// The node, when the lease's endpoint may be used: the job runs, or Slurm is silent about one that was answered
    /// before, whose own login then has to prove it.
    fn usable(&self, record: &Record, view: Option<&View>) -> Option<String> {
        let view = view?;
        match classify(record, &view.observation, Now::read()) {
            Verdict::Running => {
                view.row().map(|row| row.node.clone()).filter(|node| !node.is_empty() || record.endpoint.is_some())
            }
            Verdict::Unknown(_) if record.phase == Phase::Answered => Some(String::new()),
            _ => None,
        }
    }

    fn lock(&self) -> Result<Guard<'a>> {
        let dir = self.dir;
        match dir.lock(LOCK_PATIENCE)? {
            Locked::Held(guard) => Ok(guard),
            Locked::Busy => {
                Err(Failure::new(Kind::Busy, format!("{} lease {}: another call holds it", self.doing, self.dir.id))
                    .into())
            }
            Locked::Gone => Err(self.released_meanwhile().into()),
        }
    }

    /// Changes the record under its lock, if the change is one.
    fn write_down(&self, record: &mut Record, change: impl Fn(&mut Record) -> bool) -> Result<()> {
        if change(&mut record.clone()) {
            let guard = self.lock()?;
            *record = self.record()?;
            if change(record) {
                guard.save(record)?;
            }
        }
        Ok(())
    }
}
