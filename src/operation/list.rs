//! list: every lease of this state dir, with its complete identity, until its job is gone. It is polled, so it costs
//! one squeue; it also finishes what releases have left.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value};

use super::answer;
use super::inventory::{Contents, Inventory};
use super::loss;
use super::usage::Asked;
use crate::allocation::View;
use crate::lease::record::Record;
use crate::lease::store::{Loaded, Store, each};
use crate::operation::context::Options;
use crate::operation::settings::lenient;
use crate::operation::status::{LeaseState, Status, status};
use crate::protocol::{Answer, Lease, Request};
use crate::ssh::target;

/// People and dashboards wait for it; without an answer by then leases are shown as they were last known. A squeue whose controller is
/// gone takes 18 s and more to say so.
const DEADLINE: Duration = Duration::from_secs(12);

/// Carries out a list.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    let leases = shaped(options, &request.config, None, |lease, _| lease)?;
    Ok(Answer { leases: Some(leases), ..Answer::default() })
}

/// A lease as people see it: the client's, and what has no place in its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRow {
    pub lease: Lease,
    /// `None` where the record cannot be read.
    pub state: Option<LeaseState>,
    /// Why it stands so, as Slurm spells it.
    pub reason: String,
    /// Slurm's estimate for a job that waits.
    pub expected: Option<i64>,
    pub size: answer::Size,
    /// For the question what of it is used.
    pub asked: Option<Asked>,
}

/// All leases for people. `oldest`: an answer of Slurm is young enough that another process got so long ago.
pub fn rows(options: &Options, oldest: Option<Duration>) -> Result<Vec<ListRow>> {
    shaped(options, &Map::new(), oldest, |lease, of| match of {
        None => ListRow {
            reason: lease.labels.get("slurmReason").cloned().unwrap_or_default(),
            lease,
            state: None,
            expected: None,
            size: answer::Size::default(),
            asked: None,
        },
        Some((record, view, status)) => {
            let waits = view.row().filter(|row| row.node.is_empty());
            ListRow {
                lease,
                state: Some(status.state),
                reason: crate::text::line(&status.reason),
                expected: waits.and_then(|row| row.start),
                size: answer::size(record, view.row()),
                asked: Asked::of(record, view.row()),
            }
        }
    })
}

/// Settles what can be settled, and shapes each lease with what is known of it.
fn shaped<T: Send>(
    options: &Options,
    config: &Map<String, Value>,
    oldest: Option<Duration>,
    shape: impl Fn(Lease, Option<(&Record, &View, &Status)>) -> T + Sync,
) -> Result<Vec<T>> {
    let store = Store::open(&options.state_dir)?;
    const CONTENTS: Contents = Contents::RecordsAndLimits;
    let mut inventory = match oldest {
        None => Inventory::take(&store, CONTENTS, DEADLINE)?,
        Some(oldest) => Inventory::take_shared(&store, CONTENTS, DEADLINE, oldest)?,
    };
    inventory.settle(&store)?;
    inventory.tell_of_a_copy(&store);
    loss::seen_among(options, &store, &inventory.leases);
    // Today's config is not that of the leases: it only fills in how an endpoint would be reached.
    let settings = lenient(options, config);
    let rows = each(&inventory.leases, |found| match &found.loaded {
        Loaded::Damaged { identity, why, .. } => shape(answer::damaged(identity, why), None),
        Loaded::Newer { identity } => shape(answer::newer(identity), None),
        Loaded::Whole(record) => {
            let status = status(record, &found.view, inventory.time);
            let ssh = settings.as_ref().filter(|_| status.state == LeaseState::Ready);
            let ssh = ssh.and_then(|settings| target::of_lease(record, settings));
            let lease = answer::listed(record, &found.limits, &found.view, &status, ssh);
            shape(lease, Some((record, &found.view, &status)))
        }
    });
    Ok(rows)
}
