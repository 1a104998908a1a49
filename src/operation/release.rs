//! release: takes a lease back, and says so only when nothing of it runs or can start.
//!
//! The client kills a release after 30 s, so this one is bounded: 5 s for the lock, 20 s in all. What is not settled by
//! then stays on record, without its permit, and is finished by the next list, cleanup or release.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::recover::{Recovery, recover};
use super::settle::{self, Released};
use crate::allocation;
use crate::clock::epoch;
use crate::failure::{Failure, Kind};
use crate::host::Host;
use crate::lease::cloud_id::CloudId;
use crate::lease::record::{Phase, Record};
use crate::lease::required_lease_id;
use crate::lease::store::{Loaded, Locked, Store};
use crate::operation::context::Options;
use crate::operation::lookup::{FoundLease, IdentityCheck, check_expected, load};
use crate::operation::loss;
use crate::progress::progress;
use crate::protocol::{Answer, Request};
use crate::shared_dir::SharedDir;

/// Patience for the lease's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// All of a release; the client's own limit is 30 s.
pub const BOUND: Duration = Duration::from_secs(20);

/// Carries out a release.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    let sent = request.lease.clone().unwrap_or_default();
    let id = required_lease_id(&sent.lease_id)?;
    let (store, deadline) = (Store::open(&options.state_dir)?, Instant::now() + BOUND);
    let Some(found) = load(&store, &id)? else {
        store.clear(&id)?;
        return Ok(Answer {
            message: Some(format!("lease {id} does not exist; nothing to release")),
            ..Answer::default()
        });
    };
    // An identity that was made up for a damaged lease is not what the caller knows it by.
    if !matches!(found.loaded, Loaded::Damaged { origin: None, .. }) {
        check_expected(request.expected.as_ref(), &found.loaded)?;
        IdentityCheck {
            slug: &sent.slug,
            name: &sent.name,
            cloud_id: demanded(&sent.cloud_id, found.loaded.record()),
            ..IdentityCheck::default()
        }
        .check(&found.loaded)?;
    }
    let settings = crate::operation::settings::lenient(options, &request.config);
    let recovery = Recovery::configured(settings.as_ref());
    // Its history goes with it.
    loss::seen(options, &store, &found.dir);
    let message = match release(&store, &found, &recovery, deadline, "release")? {
        Released::Gone => format!("lease {id} is released; its job has ended and its files are removed"),
        Released::Ending => {
            format!("lease {id} is released; its job is ending and stays listed until Slurm has ended it")
        }
    };
    Ok(Answer { message: Some(message), ..Answer::default() })
}

/// The cloud id that a lease must have for the caller to mean it; empty demands none. Before a job id is known we answer the attempt's; a lease listed
/// then and released now is the same lease, whatever its cloud id has become.
fn demanded<'a>(sent: &'a str, record: Option<&Record>) -> &'a str {
    match (CloudId::parse(sent), record) {
        (Some(CloudId::Attempt(nonce)), Some(record)) if nonce == record.attempt.nonce => "",
        (Some(CloudId::Lost(_)), _) => "",
        _ => sent,
    }
}

/// Releases a lease that the caller has identified. Where its record is damaged, `recovery` tells where its job is looked for.
pub fn release(
    store: &Store,
    found: &FoundLease,
    recovery: &Recovery,
    deadline: Instant,
    why: &str,
) -> Result<Released> {
    // A login host that is lost in the middle must not hold us beyond our bound.
    let host = found.loaded.record().map_or_else(|| Host::of(recovery.submit.as_ref()), allocation::host);
    let _bound = host.end_by(deadline);
    if let Loaded::Newer { identity } = &found.loaded {
        return Err(crate::operation::lookup::newer("releasing", identity).into());
    }
    // Without lock or record: whatever else is going on, nothing of this lease may start any more.
    let taken = found.loaded.record().filter(|record| SharedDir::of(record).revoke().is_ok());
    let patience = LOCK_PATIENCE.min(deadline.saturating_duration_since(Instant::now()));
    let guard = match found.dir.lock(patience)? {
        Locked::Held(guard) => guard,
        Locked::Gone => return Ok(Released::Gone),
        Locked::Busy => {
            let permit = if taken.is_some() { "; its permit is taken away" } else { "" };
            let what = format!("releasing lease {}: another call works on it{permit}", found.dir.id);
            return Err(Failure::new(Kind::Releasing, what).into());
        }
    };
    let mut record = match guard.lease.load() {
        Loaded::Whole(record) => *record,
        Loaded::Newer { identity } => return Err(crate::operation::lookup::newer("releasing", &identity).into()),
        Loaded::Damaged { identity, origin, why } => {
            let record = recover("releasing", store, &identity, origin.as_deref(), recovery, deadline)?;
            progress(&format!(
                "the record of lease {} is damaged ({why}); it is set aside and its jobs are looked for by name",
                identity.lease_id
            ));
            guard.set_aside(epoch());
            record
        }
    };
    if record.phase != Phase::Releasing {
        guard.begin_release(&mut record, epoch(), why)?;
    }
    // Nobody can have given it back to a record that is still the same attempt.
    let revoked = match taken {
        Some(before) if before.attempt == record.attempt => Ok(()),
        _ => SharedDir::of(&record).revoke(),
    };
    // The job itself is ended all the same; only one that starts later would find its permit.
    if let Err(why) = &revoked {
        progress(&format!("the permit of {} could not be removed: {why}", record.shown()));
    }
    settle::end(store, guard, record, &revoked, deadline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::record::tests::record;
    use rstest::rstest;

    #[rstest]
    #[case::its_job("slurm/job/7", "slurm/job/7")]
    #[case::another_job("slurm/job/8", "slurm/job/8")]
    #[case::listed_before_its_job_was_known("slurm/attempt/00112233445566ff", "")]
    #[case::another_attempt("slurm/attempt/ffeeddccbbaa9988", "slurm/attempt/ffeeddccbbaa9988")]
    #[case::listed_while_its_record_was_damaged("slurm/lost/cbx_4b38f35d4e31", "")]
    #[case::not_ours("i-0123", "i-0123")]
    #[case::none("", "")]
    fn what_the_caller_holds_a_lease_by(#[case] sent: &str, #[case] expected: &str) {
        assert_eq!(demanded(sent, Some(&record())), expected);
    }

    #[test]
    fn a_damaged_lease_is_not_taken_for_an_attempt() {
        assert_eq!(demanded("slurm/attempt/00112233445566ff", None), "slurm/attempt/00112233445566ff");
    }
}
