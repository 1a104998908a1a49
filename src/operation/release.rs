//! release: takes a lease back, and says so only when nothing of it runs or can start.
//!
//! The client kills a release after 30 s, so this one is bounded: 5 s for the lock, 20 s in all. What is not settled by
//! then stays on record, without its permit, and is finished by the next list, cleanup or release.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Demands, Found, Options, check_expected, load, now, progress};
use crate::allocation::{self, Farewell, View};
use crate::config::login::LoginHost;
use crate::failure::{Failure, Kind};
use crate::host::Host;
use crate::lease::lifecycle::Verdict;
use crate::lease::record::{Attempt, Phase, Record, comment, format_for};
use crate::lease::store::{Guard, Loaded, Store};
use crate::lease::{Identity, Nonce, required_lease_id};
use crate::protocol::{Answer, Request};
use crate::shared_dir::{self, SharedDir};
use crate::slurm::squeue;

/// Patience for the lease's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// All of a release; the client's own limit is 30 s.
pub const BOUND: Duration = Duration::from_secs(20);

/// How long a job on its way out is waited for: most end within two seconds, one that ignores TERM only after Slurm's
/// KillWait, 30 s by default.
const ENDING_PATIENCE: Duration = Duration::from_secs(8);

/// Longest wait for one answer of Slurm inside a release.
const QUERY_DEADLINE: Duration = Duration::from_secs(12);

/// Pauses between looks at Slurm.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// How a release came out when it did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// Nothing is left.
    Gone,
    /// The job is on its way out, its cancellation accepted; it stays listed until it is gone.
    Ending,
}

/// Carries out a release.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    let sent = request.lease.clone().unwrap_or_default();
    let id = required_lease_id(&sent.lease_id)?;
    let store = Store::open(&options.state_dir)?;
    let Some(found) = load(&store, &id)? else {
        store.clear(&id)?;
        return Ok(Answer {
            message: Some(format!("lease {id} does not exist; nothing to release")),
            ..Answer::default()
        });
    };
    if let Loaded::Whole(_) = found.loaded {
        check_expected(request.expected.as_ref(), &found)?;
        Demands {
            slug: &sent.slug,
            name: &sent.name,
            cloud_id: cloud_id(&sent.cloud_id, &found),
            ..Demands::default()
        }
        .check(&found)?;
    }
    let settings = super::lenient(&request.config);
    let submit = settings.as_ref().and_then(|settings| settings.submit.as_ref());
    let message = match release(&store, &found, submit, Instant::now() + BOUND, "release")? {
        Released::Gone => format!("lease {id} is released; its job has ended and its files are removed"),
        Released::Ending => {
            format!("lease {id} is released; its job is ending and stays listed until Slurm has ended it")
        }
    };
    Ok(Answer { message: Some(message), ..Answer::default() })
}

/// The cloud id that the caller holds the lease by. Before a job id is known we answer the attempt's; a lease listed
/// then and released now is the same lease, whatever its cloud id has become.
fn cloud_id<'a>(sent: &'a str, found: &Found) -> &'a str {
    match found.record() {
        Some(record) if sent == format!("slurm/attempt/{}", record.attempt.nonce) => "",
        _ if sent.starts_with("slurm/lost/") => "",
        _ => sent,
    }
}

/// Releases a lease that the caller has identified. Where its record is damaged, `submit` tells where its job is looked
/// for.
pub fn release(
    store: &Store,
    found: &Found,
    submit: Option<&LoginHost>,
    deadline: Instant,
    why: &str,
) -> Result<Released> {
    // A login host that is lost in the middle must not hold us beyond our bound.
    let _bound = found.record().map_or_else(|| Host::of(submit), allocation::host).end_by(deadline);
    // Without lock or record: whatever else is going on, nothing of this lease may start any more.
    let taken = found.record().filter(|record| SharedDir::of(record).revoke().is_ok());
    let patience = LOCK_PATIENCE.min(deadline.saturating_duration_since(Instant::now()));
    let guard = match found.dir.lock(patience) {
        Ok(Some(guard)) => guard,
        Ok(None) => {
            let permit = if taken.is_some() { "; its permit is taken away" } else { "" };
            let what = format!("releasing lease {}: another call works on it{permit}", found.dir.id);
            return Err(Failure::new(Kind::Releasing, what).into());
        }
        Err(error) if crate::failure::of(&error).kind == Kind::NotFound => return Ok(Released::Gone),
        Err(error) => return Err(error),
    };
    let mut record = match guard.lease.load() {
        Loaded::Whole(record) => *record,
        Loaded::Damaged { identity, why } => {
            progress(&format!(
                "the record of lease {} is damaged ({why}); it is set aside and its jobs are looked for by name",
                identity.lease_id
            ));
            guard.set_aside(now());
            recovered(store, &identity, submit)?
        }
    };
    // Nobody can have given it back to a record that is still the same.
    let mut revoked = taken.is_some_and(|before| *before == record);
    if record.phase != Phase::Releasing {
        record.phase = Phase::Releasing;
        record.releasing = Some(now());
        // In a record of a newer version nothing is written; the missing permit says the same, also to that version.
        guard.keep(&record)?;
        guard.lease.note(now(), "releasing", why);
    }
    if !revoked {
        match SharedDir::of(&record).revoke() {
            Ok(()) => revoked = true,
            // The job itself is ended all the same; only one that starts later would find its permit.
            Err(error) => progress(&format!("the permit of {} could not be removed: {error:#}", record.shown())),
        }
    }
    settle(store, guard, record, revoked, deadline)
}

/// A record for a lease that has lost its own: its jobs are found by name and comment, whichever their nonce is, and
/// tell where its shared dir is.
fn recovered(store: &Store, identity: &Identity, submit: Option<&LoginHost>) -> Result<Record> {
    let host = Host::of(submit);
    let user = super::user(&host, &format!("releasing lease {}", identity.lease_id))?;
    let listing = squeue::list_user(&host, user.uid, None, QUERY_DEADLINE);
    let rows = listing.map(|listing| listing.rows).unwrap_or_default();
    let shared_dir = rows.iter().find_map(|row| {
        let word = comment(&row.comment).filter(|word| word.lease_id == identity.lease_id)?;
        shared_dir::root_of(&row.directory, &word.lease_id, &word.nonce)
    });
    let shared_dir = shared_dir.unwrap_or_else(|| super::default_shared_dir(submit, store.path(), &user));
    let nonce = match shared_dir::permitted(&host, &shared_dir, &identity.lease_id).ok().flatten() {
        Some(nonce) => nonce,
        None => Nonce::random()?,
    };
    Ok(Record {
        format: format_for(submit),
        identity: identity.clone(),
        phase: Phase::Prepared,
        keep: false,
        created: now(),
        uid: user.uid,
        user: submit.and(user.name),
        submit: submit.cloned(),
        route: None,
        // Whether a submission is on its way is lost with the record, so one is assumed.
        attempt: Attempt { nonce, sent: Some(now()) },
        clusters: None,
        job: None,
        submitted: None,
        cloud_id: Some(format!("slurm/lost/{}", identity.lease_id)),
        server_type: "slurm".into(),
        shared_dir,
        contract: false,
        key: Default::default(),
        endpoint: None,
        denied: None,
        ended: None,
        releasing: None,
    })
}

/// Cancels and watches until the lease is gone or time is up.
fn settle(store: &Store, guard: Guard<'_>, mut record: Record, revoked: bool, deadline: Instant) -> Result<Released> {
    let mut pauses = PAUSES.iter().chain(std::iter::repeat(&PAUSES[PAUSES.len() - 1]));
    let mut complaint = None;
    let mut cancelled: Option<Instant> = None;
    let mut ending: Option<Instant> = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let view = look(&guard, &mut record, left)?;
        let shown = record.shown();
        let waiting = match allocation::farewell(&record, &view, now()) {
            Farewell::Gone => {
                finish(store, guard, &record)?;
                return Ok(Released::Gone);
            }
            Farewell::Ending => {
                let since = *ending.get_or_insert_with(Instant::now);
                if since.elapsed() >= ENDING_PATIENCE || left <= ENDING_PATIENCE / 4 {
                    return Ok(Released::Ending);
                }
                "its job is ending".to_owned()
            }
            Farewell::Cancel(jobs) => {
                // A cancellation that was lost is repeated, one that works is given time.
                if cancelled.is_none_or(|at| at.elapsed() >= Duration::from_secs(3)) {
                    complaint = allocation::cancel(&allocation::host(&record), &jobs, left.min(QUERY_DEADLINE)).err();
                    cancelled = Some(Instant::now());
                }
                "its job still lives after scancel".to_owned()
            }
            Farewell::Wait(why) => why,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let pause = pauses.next().copied().unwrap_or(Duration::from_secs(2));
        if left <= pause {
            let permit = if revoked { "it has no permit any more and" } else { "its permit could not be removed, it" };
            let mut failure =
                Failure::new(Kind::Releasing, format!("releasing {shown}: not proven ended; {permit} stays listed"))
                    .cause([complaint, Some(waiting)].into_iter().flatten().collect::<Vec<_>>().join("; "));
            if record.job.is_none() {
                failure = failure
                    .remedy("repeat release, or let list or cleanup finish it; a job that appears now ends by itself");
            }
            return Err(failure.into());
        }
        std::thread::sleep(pause);
    }
}

/// Asks Slurm once and writes down what it proves. A first denial is taken to the accounting, which may know the end
/// already; without it, a second look ten seconds later has to do.
fn look(guard: &Guard<'_>, record: &mut Record, left: Duration) -> Result<View> {
    let before = record.clone();
    let view = allocation::ask(record, left.min(QUERY_DEADLINE).max(Duration::from_secs(1)));
    let mut changed = allocation::learn(record, &view, now());
    let denied = crate::lease::lifecycle::judge(record, &view.observation, now()) == Verdict::Denied;
    if denied
        && record.ended.is_none()
        && let Some(ended) = allocation::accounted_end(record, now(), left)
    {
        record.ended = Some(ended);
        changed = true;
    }
    if changed {
        guard.keep_learned(&before, record)?;
    }
    Ok(view)
}

/// Removes all that is left of a lease whose jobs have ended.
pub fn finish(store: &Store, guard: Guard<'_>, record: &Record) -> Result<()> {
    match SharedDir::of(record).remove() {
        Ok(_) => {}
        // Nothing was sent, so there is no job that could find a permit.
        Err(shared_dir::Error::Away(_)) if record.attempt.sent.is_none() => {}
        Err(error) => {
            let what = format!("releasing {}: its job has ended, but its shared files are not removed", record.shown());
            return Err(error.failure(what).into());
        }
    }
    store.trash_lease(guard)
}
