//! resolve: finds a lease and proves that it can be used. A dead job is an error at once: the client would wait twenty
//! minutes for an old endpoint (docs/facts/client.md, "An old endpoint costs twenty minutes").

use std::time::{Duration, Instant};

use anyhow::Result;

use super::settings::Local;
use super::status::{LeaseState, Status, status};
use super::wait::{Doing, Wait, Waited, failure_of_end};
use super::{answer, loss};
use crate::allocation::View;
use crate::clock::Now;
use crate::failure::{Failure, Kind};
use crate::lease::limits::Limits;
use crate::lease::store::{Loaded, Store};
use crate::operation::context::Options;
use crate::operation::lookup::{IdentityCheck, check_expected, find, whole};
use crate::protocol::{Answer, Lease, Request};
use crate::shared_dir::SharedDir;

/// How long a login host is waited for before it is asked about the lease itself: a call that resolves waits for 10 s in all.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);

/// Carries out a resolve. An unknown lease is answered without a lease, which callers read as gone.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    // releaseOnly is the way to an end and must not fail over a config that has grown old.
    let began = Instant::now();
    let local = if request.release_only { None } else { Some(Local::read(options, &request.config)?) };
    if let Some(local) = &local {
        local.check()?;
    }
    let desired = request.desired.clone().unwrap_or_default();
    let word = if desired.lease_id.is_empty() { request.id.as_str() } else { desired.lease_id.as_str() };
    if word.is_empty() {
        return Err(Failure::new(Kind::BadRequest, "resolving a lease: neither desired.leaseId nor id is given").into());
    }
    let store = Store::open(&options.state_dir)?;
    let Some(found) = find(&store, word)? else {
        return Ok(Answer {
            message: Some(format!("no lease answers to {}", crate::protocol::shown(&word.into()))),
            ..Answer::default()
        });
    };
    check_expected(request.expected.as_ref(), &found.loaded)?;
    IdentityCheck { lease_id: &desired.lease_id, slug: &desired.slug, name: &desired.name, ..IdentityCheck::default() }
        .check(&found.loaded)?;
    let Some(local) = local else {
        return Ok(Answer { lease: Some(identity_only(&found.loaded)), ..Answer::default() });
    };
    let record = whole("resolving", &found.loaded)?;
    if let Some(ended) = &record.ended {
        loss::seen(options, &store, &found.dir);
        return Err(failure_of_end("resolving", record, ended, &SharedDir::of(record)).into());
    }
    let settings = local.for_lease_of(record.submit.as_ref(), GREETING_PATIENCE)?.settings;
    let deadline = began + Duration::from_secs(settings.resolve_wait);
    let mut wait = Wait::new(options, &store, &settings, &found.dir, Doing::Resolving, deadline, None);
    let handed = wait.until_ready().and_then(|waited| match waited {
        Waited::Handed(handed) => Ok(handed.lease),
        // Only who asks for breaks gets some.
        Waited::Queued => Err(Failure::new(Kind::Internal, "a wait without breaks came back").into()),
        Waited::SeatLost(why) => {
            Err(Failure::new(Kind::NotFound, format!("resolving {}: its spare is lost", record.shown()))
                .remedy("repeat its acquire, which takes another one or submits a job")
                .cause(why)
                .into())
        }
    });
    if handed.is_err() {
        loss::seen(options, &store, &found.dir);
    }
    Ok(Answer { lease: Some(handed?), ..Answer::default() })
}

/// Who the lease is, from our own record alone: never waits, works for queued and ended jobs, and gives no host, or
/// the client would try to log in before it releases.
fn identity_only(loaded: &Loaded) -> Lease {
    match loaded {
        Loaded::Damaged { identity, why, .. } => answer::damaged(identity, why),
        Loaded::Newer { identity } => answer::newer(identity),
        Loaded::Whole(record) => {
            let view = View::query_failed("Slurm was not asked");
            let status = match &record.ended {
                Some(_) => status(record, &view, Now::read()),
                None => Status { slurm_state: "UNKNOWN".into(), state: LeaseState::Unknown, reason: String::new() },
            };
            answer::lease(record, &Limits::default(), &view, &status, None)
        }
    }
}
