//! list: every lease of this state dir, with its complete identity, until its job is gone. It is polled, so it costs
//! one squeue; it also finishes what releases have left.

use std::time::Duration;

use anyhow::Result;

use super::answer;
use super::inventory::{Contents, Inventory};
use super::loss::Hook;
use crate::lease::store::{Loaded, Store, each};
use crate::operation::context::Options;
use crate::operation::settings::lenient;
use crate::operation::status::{LeaseState, status};
use crate::protocol::{Answer, Request};
use crate::ssh::target;

/// People and dashboards wait for it; without an answer by then leases are shown as they were last known. A squeue whose controller is
/// gone takes 18 s and more to say so.
const DEADLINE: Duration = Duration::from_secs(12);

/// Carries out a list.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    let store = Store::open(&options.state_dir)?;
    let mut inventory = Inventory::take(&store, Contents::RecordsAndLimits, DEADLINE)?;
    inventory.settle(&store)?;
    inventory.tell_of_a_copy(&store);
    if let Some(hook) = Hook::of(options) {
        hook.tell_all(&store, &inventory.leases);
    }
    // Today's config is not that of the leases: it only fills in how an endpoint would be reached.
    let settings = lenient(options, &request.config);
    let rows = each(&inventory.leases, |found| match &found.loaded {
        Loaded::Damaged { identity, why, .. } => answer::damaged(identity, why),
        Loaded::Newer { identity } => answer::newer(identity),
        Loaded::Whole(record) => {
            let status = status(record, &found.view, inventory.time);
            let ssh = settings.as_ref().filter(|_| status.state == LeaseState::Ready);
            let ssh = ssh.and_then(|settings| target::of_lease(record, settings));
            answer::listed(record, &found.limits, &found.view, &status, ssh)
        }
    });
    Ok(Answer { leases: Some(rows), ..Answer::default() })
}
