//! forget: an operator settles a lease whose end can never be proven, for example because its cluster is gone for
//! good. It is written down with its reason, and refused while Slurm shows a job of the lease alive.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::recover::{Recovery, recover};
use super::settle::{self, Step};
use crate::allocation;
use crate::clock::Now;
use crate::clock::epoch;
use crate::failure::{Failure, Kind};
use crate::lease::format;
use crate::lease::store::{Loaded, Locked, Store};
use crate::operation::context::Options;
use crate::operation::lookup::required;
use crate::shared_dir::SharedDir;
use crate::slurm::squeue;

/// Patience for the lease's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Forgets the lease that `word` means; what was done, in words.
pub fn run(options: &Options, word: &str, because: &str) -> Result<String> {
    let store = Store::open(&options.state_dir)?;
    let found = required(&store, word)?;
    let id = found.dir.id.clone();
    let Locked::Held(guard) = found.dir.lock(LOCK_PATIENCE)? else {
        return Err(Failure::new(Kind::Busy, format!("forgetting lease {id}: another call works on it")).into());
    };
    let record = match guard.lease.load() {
        Loaded::Whole(record) => *record,
        Loaded::Newer { identity } => return Err(crate::operation::lookup::newer("forgetting", &identity).into()),
        Loaded::Damaged { identity, origin, .. } => {
            let deadline = Instant::now() + squeue::DEADLINE;
            recover("forgetting", &store, &identity, origin.as_deref(), &Recovery::default(), deadline)?
        }
    };
    let view = allocation::ask(&record, squeue::DEADLINE);
    let job = record.job.as_ref().map(ToString::to_string);
    if let Step::Cancel(_) | Step::Ending = settle::next_step(&record, &view, Now::read()) {
        let what = format!("forgetting {}: Slurm shows its job alive", record.shown());
        return Err(Failure::new(Kind::Releasing, what).remedy(format!("run `slurm-sandbox release {id}`")).into());
    }
    let shared = SharedDir::of(&record);
    shared.revoke().and_then(|()| shared.remove()).ok();
    let last: serde_json::Value = serde_json::from_slice(&format::write(&record)?)?;
    let line = serde_json::json!({"at": epoch(), "leaseId": id, "job": job, "because": because, "record": last});
    store.log_forgotten(&line.to_string()).context("writing down what is forgotten")?;
    store.trash_lease(guard)?;
    let job = job.map_or_else(|| "no known job".to_owned(), |job| format!("job {job}"));
    Ok(format!("lease {id} ({job}) is forgotten; if that job lives after all, end it with scancel"))
}
