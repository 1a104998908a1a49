//! cleanup: removes leases whose jobs are gone, finishes releases, and ends orphans: jobs that carry our comment but
//! belong to no lease any more. It ends only what is provably ours and was never handed out.

use std::collections::BTreeSet;

use anyhow::Result;

use super::inventory::{Entry, Inventory};
use super::{Options, load, now, progress, release};
use crate::allocation;
use crate::config::login::LoginHost;
use crate::failure::{self, Kind};
use crate::host::Host;
use crate::lease::LeaseId;
use crate::lease::record::{Phase, comment};
use crate::lease::store::{Loaded, Store};
use crate::protocol::{Answer, Request};
use crate::shared_dir::{self, Marked};
use crate::slurm::job::{Class, JobId, Listing, Unasked};
use crate::slurm::squeue;

/// A job younger than this may belong to an acquire that runs now on another host, in seconds.
const ORPHAN_AGE_SECONDS: i64 = 120;

/// What one cleanup spends on the removal of what releases have left in one place; 100,000 files a minute is slow.
const SWEEPING: std::time::Duration = std::time::Duration::from_secs(60);

/// Carries out a cleanup.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    let store = Store::open(&options.state_dir)?;
    let mut inventory = Inventory::take(&store, squeue::DEADLINE)?;
    let mut lines = Vec::new();
    if !request.dry_run {
        let before = inventory.leases.len();
        inventory.settle(&store)?;
        let finished = before - inventory.leases.len();
        if finished > 0 {
            lines.push(format!("finished {finished} release(s)"));
        }
        if store.is_writable() {
            store.empty_trash()?;
        }
        let shared = inventory
            .leases
            .iter()
            .filter_map(Entry::record)
            .map(|record| (record.submit.clone(), record.shared_dir.clone()));
        for (submit, root) in shared.chain([(None, store.path().join("shared"))]).collect::<BTreeSet<_>>() {
            let told = match shared_dir::sweep(&Host::of(submit.as_ref()), &root, SWEEPING) {
                Ok(swept) => swept.left(&root),
                Err(error) => Some(format!("{} was not looked at: {error}", root.display())),
            };
            lines.extend(told);
        }
    }
    let verb = if request.dry_run { "would remove" } else { "removed" };
    for found in &inventory.leases {
        let Some(record) = found.record() else { continue };
        let mut learned = record.clone();
        allocation::learn(&mut learned, &inventory.view(record), now());
        let reason = match (&learned.ended, learned.phase) {
            (Some(ended), _) => format!("its job ended ({})", format!("{} {}", ended.state, ended.why()).trim_end()),
            (None, Phase::Prepared) if now() - record.created > ORPHAN_AGE_SECONDS => {
                "nothing was ever submitted for it".to_owned()
            }
            _ => continue,
        };
        match if request.dry_run { Ok(true) } else { remove(&store, found) } {
            Ok(true) => lines.push(format!("{verb} {}: {reason}", record.shown())),
            Ok(false) => {}
            // One that cannot be removed must not keep the others.
            Err(error) => lines.push(format!("left {}: {}", record.shown(), failure::of(&error))),
        }
    }
    let submit = super::lenient(&request.config).and_then(|settings| settings.submit);
    lines.extend(end_orphans(&store, &inventory, submit.as_ref(), request.dry_run)?);
    if lines.is_empty() {
        lines.push("nothing to clean up".to_owned());
    }
    lines.iter().for_each(|line| progress(line));
    Ok(Answer { message: Some(lines.join("; ")), ..Answer::default() })
}

/// Removes a lease whose end is on record, unless another call works on it or it changed meanwhile.
fn remove(store: &Store, found: &Entry) -> Result<bool> {
    let Some(dir) = store.lease(&found.id)? else { return Ok(false) };
    let guard = match dir.lock(std::time::Duration::ZERO) {
        Ok(Some(guard)) => guard,
        Ok(None) => return Ok(false),
        Err(error) if failure::of(&error).kind == Kind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match guard.lease.load() {
        Loaded::Whole(record) if record.ended.is_some() || record.phase == Phase::Prepared => {
            release::finish(store, guard, &record).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// Ends the jobs of leases that have no record here any more, and says which are left alone. They are looked for where
/// leases are, and where the request's own configuration sends jobs.
fn end_orphans(store: &Store, inventory: &Inventory, submit: Option<&LoginHost>, dry_run: bool) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut listings: Vec<(Option<&LoginHost>, &Listing)> = inventory.listings().collect();
    let own;
    if !listings.iter().any(|(from, _)| *from == submit) {
        let host = Host::of(submit);
        let listed = host.user().map_err(|error| Unasked(error.to_string()));
        match listed.and_then(|user| squeue::list_user(&host, user.uid, None, squeue::DEADLINE)) {
            Ok(listing) => {
                own = listing;
                listings.push((submit, &own));
            }
            Err(Unasked(why)) => lines.push(format!("orphans were not looked for{}: {why}", host.shown())),
        }
    }
    let known: BTreeSet<&LeaseId> = inventory.leases.iter().map(|lease| &lease.id).collect();
    let recorded = |id: &LeaseId| Ok(known.contains(id) || load(store, id)?.is_some());
    for (submit, listing) in listings {
        let host = Host::of(submit);
        let cancel = orphans(store.instance(), &recorded, &host, listing, dry_run, &mut lines)?;
        if !dry_run
            && !cancel.is_empty()
            && let Err(why) = allocation::cancel(&host, &cancel, std::time::Duration::from_secs(12))
        {
            lines.push(format!("not all orphans could be cancelled: {why}"));
        }
    }
    Ok(lines)
}

/// The jobs of a listing that are to be cancelled; what is decided about each is told.
fn orphans(
    instance: &str,
    recorded: &impl Fn(&LeaseId) -> Result<bool>,
    host: &Host,
    listing: &Listing,
    dry_run: bool,
    lines: &mut Vec<String>,
) -> Result<Vec<JobId>> {
    let mut cancel: Vec<JobId> = Vec::new();
    for row in &listing.rows {
        let live = matches!(row.state.class(), Class::Queued | Class::Running | Class::Suspended);
        let Some(word) = comment(&row.comment).filter(|word| live && word.instance == instance) else {
            continue;
        };
        let named_so = LeaseId::of_job_name(&row.name).as_ref() == Some(&word.lease_id);
        if !named_so || recorded(&word.lease_id)? || host.user().is_ok_and(|user| user.uid != row.uid) {
            continue;
        }
        let shown = format!("job {} of lease {}, which has no record", row.job, word.lease_id);
        if row.submitted.is_none_or(|at| now() - at < ORPHAN_AGE_SECONDS) {
            lines.push(format!("left {shown}: it is younger than {ORPHAN_AGE_SECONDS} s"));
        } else if shared_dir::root_of(&row.directory, &word.lease_id, &word.nonce)
            .is_none_or(|root| shared_dir::marked(host, &root, &word.lease_id, &word.nonce) != Marked::No)
        {
            lines.push(format!("left {shown}: it was handed out; end it with `scancel {}`", row.job.id));
        } else {
            let verb = if dry_run { "would cancel" } else { "cancelled" };
            lines.push(format!("{verb} {shown}: it was never handed out"));
            cancel.push(row.job.clone());
        }
    }
    Ok(cancel)
}
