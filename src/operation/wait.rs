//! The wait for a lease: from a submitted job to a login that succeeds.
//!
//! The shared dir is read often, which costs the controller nothing; Slurm is asked rarely, and at once when a file
//! of the runner appears. What is done next is decided from the record, the last look and the clock.

use std::time::{Duration, Instant};

use anyhow::Result;
use time::OffsetDateTime;
use time::macros::format_description;

use super::answer::{self, Standing};
use super::{Options, now, progress};
use crate::allocation::{self, View};
use crate::config::Settings;
use crate::config::connection::Connection;
use crate::endpoint;
use crate::exchange::{Exchange, Look};
use crate::failure::{Failure, Kind};
use crate::lease::lifecycle::{DENIAL_GAP_SECONDS, Verdict, judge};
use crate::lease::record::{Ended, Phase, PinnedEndpoint, Record};
use crate::lease::store::{LeaseDir, Loaded};
use crate::protocol::Lease;
use crate::slurm::job::{Hope, hope};
use crate::slurm::{scontrol, squeue};
use crate::ssh::{self, Probe};

/// How long an endpoint that was published may refuse its first login, or its ready check be red, before the wait is
/// given up: the job runs, so more waiting costs the user's allocation.
const ENDPOINT_PATIENCE: Duration = Duration::from_secs(60);

/// Patience for the lease's lock, held elsewhere for one submission or release.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// A wait for one lease.
#[derive(Debug)]
pub struct Wait<'a> {
    pub options: &'a Options,
    pub settings: &'a Settings,
    pub dir: &'a LeaseDir,
    /// `acquiring` or `resolving`, for messages.
    pub doing: &'static str,
    pub deadline: Instant,
    started: Instant,
    asked: Option<Instant>,
    /// Ask at this time even where the schedule would wait.
    ask_at: Option<Instant>,
    hopeless: bool,
    said: String,
    /// Since when the shared dir or the endpoint file could not be used.
    trouble: Option<Instant>,
    first_refusal: Option<Instant>,
    probe_at: Option<Instant>,
    refusals: u32,
}

impl<'a> Wait<'a> {
    pub fn new(
        options: &'a Options,
        settings: &'a Settings,
        dir: &'a LeaseDir,
        doing: &'static str,
        deadline: Instant,
    ) -> Wait<'a> {
        Wait {
            options,
            settings,
            dir,
            doing,
            deadline,
            started: Instant::now(),
            asked: None,
            ask_at: None,
            hopeless: false,
            said: String::new(),
            trouble: None,
            first_refusal: None,
            probe_at: None,
            refusals: 0,
        }
    }

    /// Waits until the lease can be handed out, or cannot.
    pub fn until_ready(&mut self) -> Result<Lease> {
        let mut view = None;
        loop {
            // Another call may have released the lease, or pinned its endpoint.
            let mut record = self.record()?;
            let look = if record.endpoint.is_none() { self.look(&record)? } else { Look::Nothing };
            let eager = record.endpoint.is_some() || look != Look::Nothing;
            if self.ask_is_due(eager && self.usable(&record, view.as_ref()).is_none()) {
                let seen = self.ask(&mut record)?;
                view = Some(seen);
            }
            if let Some(node) = self.usable(&record, view.as_ref())
                && let Some(view) = &view
            {
                if let Look::Endpoint(found) = look
                    && record.endpoint.is_none()
                {
                    match self.pin(&record, &node, found) {
                        Ok(pinned) => record = pinned,
                        Err(_) if self.bear_trouble() => {}
                        Err(error) => return Err(error),
                    }
                }
                if record.endpoint.is_some()
                    && let Some(lease) = self.prove(&mut record, view)?
                {
                    return Ok(lease);
                }
            }
            if Instant::now() >= self.deadline {
                // The last word of Slurm belongs into the message, and may be that the job has ended.
                if self.asked.is_none_or(|at| at.elapsed() >= LAST_WORD_AGE.max(self.options.poll_interval)) {
                    view = Some(self.ask(&mut record)?);
                }
                return Err(self.timed_out(&record, view.as_ref()).into());
            }
            if let Some(view) = &view {
                self.report(&record, view);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            std::thread::sleep(look_interval(self.started.elapsed()).min(left));
        }
    }

    /// The record as it is now; a lease that is being released is nobody's to wait for.
    fn record(&self) -> Result<Record> {
        match self.dir.load() {
            Loaded::Whole(record) if record.phase == Phase::Releasing => {
                Err(Failure::new(Kind::Releasing, format!("{} {}: it is being released", self.doing, record.shown()))
                    .remedy("repeat the call when the release is through")
                    .into())
            }
            Loaded::Whole(record) => Ok(*record),
            Loaded::Damaged { why, .. } => {
                let gone = !self.dir.path().exists();
                let what = format!(
                    "{} lease {}: {}",
                    self.doing,
                    self.dir.id,
                    if gone { "it was released meanwhile" } else { "its record is damaged" }
                );
                let kind = if gone { Kind::NotFound } else { Kind::Storage };
                let failure = Failure::new(kind, what);
                Err(if gone {
                    failure.remedy("acquire it anew if it is still wanted")
                } else {
                    failure.remedy("release the lease, its job is found by name; then acquire it anew").cause(why)
                }
                .into())
            }
        }
    }

    fn look(&mut self, record: &Record) -> Result<Look> {
        match Exchange::of(record).look() {
            Ok(look) => Ok(look),
            Err(_) if self.bear_trouble() => Ok(Look::Nothing),
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

    fn ask_is_due(&self, eager: bool) -> bool {
        let floor = self.options.poll_interval;
        match self.asked {
            // A resolve is often about a job that has ended, which is an error at once.
            None => eager || self.doing == "resolving" || self.started.elapsed() >= ask_after(None).max(floor),
            Some(last) => {
                let due = if eager { EAGER_INTERVAL } else { ask_after(Some(last - self.started)) };
                let due = match self.ask_at {
                    Some(at) => due.min(at.saturating_duration_since(last)),
                    None => due,
                };
                last.elapsed() >= due.max(floor)
            }
        }
    }

    /// Asks Slurm, writes down what it proves, and fails where nothing more can come of the job.
    fn ask(&mut self, record: &mut Record) -> Result<View> {
        *record = self.record()?;
        let view = allocation::ask(record, squeue::DEADLINE);
        self.asked = Some(Instant::now());
        self.ask_at = None;
        self.write_down(record, |record| allocation::learn(record, &view, now()))?;
        let after = |pause: Duration| Some(Instant::now() + pause);
        match judge(record, &view.observation, now()) {
            Verdict::Ended | Verdict::Gone => return Err(self.ended(record).into()),
            _ if record.ended.is_some() => return Err(self.ended(record).into()),
            Verdict::Denied => self.ask_at = after(Duration::from_secs(DENIAL_GAP_SECONDS as u64)),
            Verdict::Ending => self.ask_at = after(Duration::from_secs(1)),
            Verdict::Queued => {
                let row_reason = view.row().map(|row| row.reason.clone()).unwrap_or_default();
                match hope(&row_reason) {
                    Hope::Never(remedy) if self.hopeless => {
                        let what = format!("{} {}: the job can never start: {row_reason}", self.doing, record.shown());
                        return Err(Failure::new(Kind::NeverRuns, what).remedy(remedy).into());
                    }
                    // A controller that is just starting calls everything impossible for a moment.
                    Hope::Never(_) => {
                        self.hopeless = true;
                        self.ask_at = after(Duration::from_secs(2));
                    }
                    Hope::Normal | Hope::Attention => self.hopeless = false,
                }
            }
            Verdict::Running | Verdict::Suspended | Verdict::Unknown(_) => {}
        }
        Ok(view)
    }

    /// Says how the job stands when that has changed.
    fn report(&mut self, record: &Record, view: &View) {
        let standing = answer::standing(record, view, now());
        let mut text = format!("{} is {}", record.shown(), standing.status);
        if !standing.reason.is_empty() {
            text.push_str(&format!(" ({})", standing.reason));
        }
        let estimate = view.row().filter(|_| standing.status == "PENDING").and_then(|row| row.start);
        if let Some(start) = estimate.and_then(utc) {
            text.push_str(&format!(", estimated start {start}"));
        }
        if standing.status == "RUNNING" && record.endpoint.is_none() {
            text.push_str(", its sshd is not up yet");
        }
        if text != self.said {
            progress(&text);
            self.said = text;
        }
    }

    /// The node, when the lease's endpoint may be used: the job runs, or Slurm is silent about one that was answered
    /// before, whose own login then has to prove it.
    fn usable(&self, record: &Record, view: Option<&View>) -> Option<String> {
        let view = view?;
        match judge(record, &view.observation, now()) {
            Verdict::Running => {
                view.row().map(|row| row.node.clone()).filter(|node| !node.is_empty() || record.endpoint.is_some())
            }
            Verdict::Unknown(_) if record.phase == Phase::Answered => Some(String::new()),
            _ => None,
        }
    }

    /// Fixes host, port and host keys, once.
    fn pin(&self, record: &Record, node: &str, found: Result<Vec<u8>, String>) -> Result<Record> {
        let refuse = |why: String| {
            Failure::new(
                Kind::EndpointUnusable,
                format!("{} {}: the runner's endpoint file was refused", self.doing, record.shown()),
            )
            .remedy(
                "the runner, or code in its place, wrote something else than its contract; see `slurm-sandbox logs`",
            )
            .cause(why)
        };
        let bytes = found.map_err(refuse)?;
        let published = endpoint::parse(&bytes, &record.attempt.nonce).map_err(refuse)?;
        let host = endpoint::host(&self.settings.endpoint_host, node, &published).map_err(refuse)?;
        let guard = self.lock()?;
        let mut record = self.record()?;
        if record.endpoint.is_none() {
            let direct = self.settings.connection == Connection::Direct;
            guard.write_known_hosts(&ssh::known_hosts(&host, published.port, &published.host_keys, direct))?;
            record.endpoint = Some(PinnedEndpoint { host, port: published.port });
            guard.save(&record)?;
        }
        Ok(record)
    }

    fn lock(&self) -> Result<crate::lease::store::Guard<'a>> {
        let dir = self.dir;
        match dir.lock(LOCK_PATIENCE)? {
            Some(guard) => Ok(guard),
            None => {
                Err(Failure::new(Kind::Busy, format!("{} lease {}: another call holds it", self.doing, self.dir.id))
                    .into())
            }
        }
    }

    /// Logs in as the client will, and hands the lease out when that works.
    fn prove(&mut self, record: &mut Record, view: &View) -> Result<Option<Lease>> {
        if self.probe_at.is_some_and(|at| Instant::now() < at && at < self.deadline) {
            return Ok(None);
        }
        let Some(ssh) = answer::ssh(record, self.settings) else {
            let failure = Failure::new(
                Kind::BadConfig,
                format!("{} {}: the user to log in as is not known", self.doing, record.shown()),
            );
            return Err(failure.remedy("set sshUser").into());
        };
        let problem = match ssh::probe(&ssh, self.dir.has_known_hosts()) {
            Probe::Ready => return self.hand_out(record, view, ssh).map(Some),
            Probe::Unreachable(said) => (
                "no login on its sshd succeeds; check that this machine reaches the node, or set sshMode, loginHost or endpointHost",
                said,
            ),
            Probe::NotReady(said) => (
                "the ready check fails on the node; install what it misses, load it in preamble, or set readyCheck",
                said,
            ),
        };
        let first = *self.first_refusal.get_or_insert_with(Instant::now);
        if first.elapsed() >= ENDPOINT_PATIENCE || Instant::now() >= self.deadline {
            let (what, remedy) = problem.0.split_once("; ").unwrap_or((problem.0, ""));
            let place = format!("{}:{}", ssh.host, ssh.port);
            return Err(Failure::new(
                Kind::EndpointUnusable,
                format!("{} {}: {what} ({place})", self.doing, record.shown()),
            )
            .remedy(remedy)
            .cause(problem.1)
            .into());
        }
        if self.refusals == 1 {
            progress(&format!("{} runs, but does not let us in yet: {}", record.shown(), problem.1));
        }
        // sshd penalises what fails to log in, each time for longer (hazards.md E12).
        let pause = Duration::from_millis(250) * 2u32.pow(self.refusals.min(5));
        self.refusals += 1;
        self.probe_at = Some(Instant::now() + pause);
        // The job may have ended meanwhile.
        self.ask_at = Some(Instant::now());
        Ok(None)
    }

    /// Marks the lease as answered and gives it away.
    fn hand_out(&self, record: &mut Record, view: &View, ssh: crate::protocol::Ssh) -> Result<Lease> {
        let guard = self.lock()?;
        *record = self.record()?;
        let exchange = Exchange::of(record);
        let marked = exchange.has("answered") || exchange.mark("answered", now()).is_ok();
        // Of a lease that was answered before, sandboxed code may have removed the directory; its sshd works.
        if !marked && record.phase != Phase::Answered {
            exchange.mark("answered", now())?;
        }
        if record.phase != Phase::Answered {
            record.phase = Phase::Answered;
            record.cloud_id = Some(record.cloud_id());
            guard.save(record)?;
            guard.lease.note(now(), "answered", &format!("{}:{}", ssh.host, ssh.port));
        }
        let mut standing = answer::standing(record, view, now());
        if standing.state == "unknown" {
            // Slurm is silent, but the pinned sshd of the job has just let us in.
            standing = Standing { state: "ready", ..standing };
        }
        Ok(answer::lease(record, view, &standing, Some(ssh)))
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

    /// The job is over: why, as far as anybody knows.
    fn ended(&self, record: &mut Record) -> Failure {
        let exchange = Exchange::of(record);
        let mut ended = record.ended.clone().unwrap_or(Ended {
            state: "GONE".into(),
            reason: String::new(),
            exit: None,
            runner: None,
            at: now(),
        });
        if ended.exit.is_none() {
            let accounted = || allocation::accounted_end(record, ended.at, Duration::from_secs(5));
            match record.job.as_ref().and_then(scontrol::exit_code) {
                Some(exit) => ended.exit = Some(exit),
                None => {
                    if let Some(told) = accounted() {
                        ended.exit = told.exit;
                        if ended.state == "GONE" {
                            ended.state = told.state;
                        }
                    }
                }
            }
            let complete = ended.clone();
            self.write_down(record, |record| record.ended.replace(complete.clone()).as_ref() != Some(&complete)).ok();
        }
        failure_of_end(self.doing, record, &ended, &exchange)
    }

    fn timed_out(&self, record: &Record, view: Option<&View>) -> Failure {
        let waited = self.started.elapsed().as_secs();
        let standing = view.map(|view| answer::standing(record, view, now()));
        let (state, reason) = match &standing {
            Some(standing) if standing.reason.is_empty() => (standing.status.as_str(), String::new()),
            Some(standing) => (standing.status.as_str(), format!(" ({})", standing.reason)),
            None => ("not asked for yet", String::new()),
        };
        let start = view
            .and_then(View::row)
            .filter(|row| row.state.word() == "PENDING")
            .and_then(|row| row.start)
            .and_then(utc);
        let start = start.map(|start| format!(", estimated start {start}")).unwrap_or_default();
        let remedy = match self.doing {
            "resolving" => "repeat the call later, or raise resolveWaitSeconds",
            _ => "raise acquireTimeoutSeconds, or ask for less or for another partition",
        };
        Failure::new(
            Kind::TimedOut,
            format!("{} {}: not ready after {waited} s, the job is {state}{reason}{start}", self.doing, record.shown()),
        )
        .remedy(remedy)
    }
}

/// An end in words, with the tail of the job's output last.
pub fn failure_of_end(doing: &str, record: &Record, ended: &Ended, exchange: &Exchange) -> Failure {
    let mut text = format!("{doing} {}: its job ended: {}", record.shown(), ended.state);
    if !ended.reason.is_empty() && ended.reason != "None" {
        text.push_str(&format!(" ({})", ended.reason));
    }
    if let Some(exit) = &ended.exit {
        text.push_str(&format!(", exit {exit}"));
    }
    if let Some(note) = exchange.ending() {
        text.push_str(&format!(", the runner says {}: {}", note.reason, note.detail));
    }
    let failure = Failure::new(Kind::JobEnded, text);
    match record.job.as_ref().and_then(|job| exchange.output_tail(job)) {
        Some(tail) => failure.cause(tail),
        None if ended.exit.as_deref() == Some("0:53") => {
            failure.remedy("the node could not write the job's output: make sharedDir a directory that the nodes see and that has space")
        }
        None => failure,
    }
}

/// How long the shared dir may be unreadable or the endpoint file strange before that is believed.
const TROUBLE_PATIENCE: Duration = Duration::from_secs(10);

/// An answer of Slurm younger than this still tells how a job stands.
const LAST_WORD_AGE: Duration = Duration::from_secs(2);

/// Between two questions while a file of the runner waits to be used.
const EAGER_INTERVAL: Duration = Duration::from_millis(500);

/// When Slurm is asked, in seconds since the start of the wait; later once a minute (hazards.md 3.3).
const ASK_AT_SECONDS: [u64; 5] = [3, 5, 10, 20, 30];

/// How long after a question at `last` (since the start) the next one is due.
fn ask_after(last: Option<Duration>) -> Duration {
    let last = last.unwrap_or(Duration::ZERO);
    let next = ASK_AT_SECONDS.iter().map(|seconds| Duration::from_secs(*seconds)).find(|at| *at > last);
    next.map_or(Duration::from_secs(60), |at| at - last)
}

/// How often the directory is read: often while a start is likely, rarely in a long queue.
fn look_interval(waited: Duration) -> Duration {
    Duration::from_millis(match waited.as_secs() {
        0..10 => 100,
        10..60 => 250,
        60..600 => 1000,
        _ => 2000,
    })
}

/// A time for people, always with its zone.
pub fn utc(seconds: i64) -> Option<String> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(format).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn slurm_is_asked_rarely() {
        let mut at = Duration::ZERO;
        let mut times = Vec::new();
        while at < Duration::from_secs(1800) {
            at += ask_after((!times.is_empty()).then_some(at));
            times.push(at.as_secs());
        }
        assert_eq!(times[..6], [3, 5, 10, 20, 30, 90]);
        assert!(times.len() <= 36, "{} questions in half an hour", times.len());
    }

    #[rstest]
    #[case(0, Some("1970-01-01 00:00:00Z"))]
    #[case(1795308136, Some("2026-11-22 00:42:16Z"))]
    #[case(i64::MAX, None)]
    fn times(#[case] seconds: i64, #[case] expected: Option<&str>) {
        assert_eq!(utc(seconds).as_deref(), expected);
    }
}
