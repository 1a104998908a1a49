//! cleanup: removes leases whose jobs are gone, finishes releases, and ends orphans: jobs that carry our comment but
//! belong to no lease any more. It ends only what is provably ours and was never handed out.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::inventory::{Contents, Entry, Inventory};
use super::loss::{Hook, Outcome};
use super::{orphans, settle};
use crate::clock::epoch;
use crate::config::Settings;
use crate::failure;
use crate::host::Host;
use crate::lease::LeaseId;
use crate::lease::record::{Ended, Phase, Record};
use crate::lease::store::{Loaded, Locked, Store};
use crate::operation::context::Options;
use crate::operation::settings::Local;
use crate::progress::progress;
use crate::protocol::{Answer, Request};
use crate::shared_dir::{self, Swept};
use crate::slurm::squeue;

/// A record younger than this may belong to an acquire that is about to submit it, in seconds.
const PREPARED_SECONDS: i64 = 120;

/// What one cleanup spends on the removal of what releases have left in one place; 100,000 files a minute is slow.
const SWEEPING: std::time::Duration = std::time::Duration::from_secs(60);

/// Carries out a cleanup.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    let store = Store::open(&options.state_dir)?;
    let local = Local::read(options, &request.config).ok();
    let known = || local.as_ref().and_then(Local::known);
    if !request.dry_run {
        look_ahead(&store, known().as_ref());
    }
    let mut inventory = Inventory::take(&store, Contents::Records, squeue::DEADLINE)?;
    inventory.tell_of_a_copy(&store);
    // A login host that was asked for its jobs has brought its admins' file.
    let settings = known();
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
        lines.extend(sweep(&store, &inventory, settings.as_ref()));
    }
    let hook = LazyCell::new(|| if request.dry_run { None } else { Hook::of(options) });
    let verb = if request.dry_run { "would remove" } else { "removed" };
    for found in &inventory.leases {
        let Some(record) = found.record() else { continue };
        let mut learned = record.clone();
        settle::apply(&mut learned, &found.view, inventory.time);
        if !store.instance().owns(record.instance.as_deref()) {
            continue;
        }
        let reason = match due(&learned, epoch()) {
            Some(Due::Ended(ended)) => {
                format!("its job ended ({})", format!("{} {}", ended.state, ended.why()).trim_end())
            }
            Some(Due::NeverSubmitted) => "nothing was ever submitted for it".to_owned(),
            None => continue,
        };
        if let Some(Outcome::Open(why)) = hook.as_ref().map(|hook| hook.tell_one(&store, &found.id, &learned)) {
            lines.push(format!("left {}: {why}", record.shown()));
            continue;
        }
        match if request.dry_run { Ok(true) } else { remove(&store, found) } {
            Ok(true) => lines.push(format!("{verb} {}: {reason}", record.shown())),
            Ok(false) => {}
            // One that cannot be removed must not keep the others.
            Err(error) => lines.push(format!("left {}: {}", record.shown(), failure::of(&error))),
        }
    }
    let submit = settings.as_ref().and_then(|settings| settings.submit.as_ref());
    lines.extend(orphans::end(&store, &inventory, submit, request.dry_run)?);
    if lines.is_empty() {
        lines.push("nothing to clean up".to_owned());
    }
    lines.iter().for_each(|line| progress(line));
    Ok(Answer { message: Some(lines.join("; ")), ..Answer::default() })
}

/// Why a lease is removed without being asked for.
#[derive(Debug, PartialEq, Eq)]
enum Due<'a> {
    Ended(&'a Ended),
    NeverSubmitted,
}

fn due(record: &Record, now: i64) -> Option<Due<'_>> {
    match (&record.ended, record.phase) {
        (Some(ended), _) => Some(Due::Ended(ended)),
        (None, Phase::Prepared) => (now - record.created > PREPARED_SECONDS).then_some(Due::NeverSubmitted),
        _ => None,
    }
}

/// Removes what releases and runners had to leave: in the shared dirs of all leases, and in the shared dir and the work root of
/// the request's own configuration, which may have no lease any more, and in the work roots that earlier leases had. What is
/// left, and why.
fn sweep(store: &Store, inventory: &Inventory, settings: Option<&Settings>) -> Vec<String> {
    let settings = settings.map(|settings| {
        let user = Host::of(settings.submit.as_ref()).user().ok();
        let mut settings = settings.clone();
        settings.at_home(user.as_ref().and_then(|user| user.home.as_deref()));
        (settings, user)
    });
    let configured = settings.iter().filter_map(|(settings, user)| {
        let root = crate::operation::context::shared_dir(settings, store.path(), user.as_ref()?);
        Some((settings.submit.clone(), root))
    });
    let records = || inventory.leases.iter().filter_map(Entry::record);
    let shared = records().map(|record| (record.submit.clone(), record.shared_dir.clone()));
    let trees: BTreeSet<_> = shared.chain(configured).chain([(None, store.path().join("shared"))]).collect();
    let roots =
        trees.into_iter().flat_map(|(submit, root)| [(submit.clone(), root.join(shared_dir::SEATS)), (submit, root)]);
    let mut lines: Vec<String> = roots
        .flat_map(|(submit, root)| report(&root, shared_dir::sweep(&Host::of(submit.as_ref()), &root, SWEEPING)))
        .collect();
    if let Some((settings, _)) = &settings {
        let host = Host::of(settings.submit.as_ref());
        // The runner of a lease that is known removes its own.
        let known = |id: &LeaseId| inventory.leases.iter().any(|lease| lease.id == *id);
        let remembered = store.work_roots(settings.submit.as_ref()).unwrap_or_default();
        let roots: BTreeSet<_> = remembered.into_iter().chain([settings.work_root.clone()]).collect();
        let until = Instant::now() + SWEEPING;
        for root in roots {
            let time = until.saturating_duration_since(Instant::now());
            lines.extend(report(&root, shared_dir::sweep_work_root(&host, &root, known, time)));
        }
    }
    lines
}

/// Has the directories that will be swept on this machine tried out while Slurm is asked.
fn look_ahead(store: &Store, settings: Option<&Settings>) {
    let Some(settings) = settings.filter(|settings| settings.submit.is_none()) else { return };
    let Ok(user) = Host::Here.user() else { return };
    let mut settings = settings.clone();
    settings.at_home(user.home.as_deref());
    let configured = [
        store.path().join("shared"),
        crate::operation::context::shared_dir(&settings, store.path(), &user),
        settings.work_root,
    ];
    let remembered = store.work_roots(None).unwrap_or_default();
    shared_dir::look_ahead(configured.into_iter().chain(remembered).collect::<BTreeSet<_>>());
}

fn report(root: &Path, swept: Result<Swept, shared_dir::Error>) -> Vec<String> {
    match swept {
        Ok(swept) => swept.done(root).into_iter().chain(swept.left(root)).collect(),
        Err(error) => vec![format!("{} was not looked at: {error}", root.display())],
    }
}

/// Removes a lease whose end is on record, unless another call works on it or it changed meanwhile.
fn remove(store: &Store, found: &Entry) -> Result<bool> {
    let Some(dir) = store.lease(&found.id)? else { return Ok(false) };
    let Locked::Held(guard) = dir.lock(std::time::Duration::ZERO)? else { return Ok(false) };
    match guard.lease.load() {
        Loaded::Whole(record) if record.ended.is_some() || record.phase == Phase::Prepared => {
            settle::finish(store, guard, &record).map(|()| true)
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::just_made(Phase::Prepared, 0, false)]
    #[case::about_to_be_submitted(Phase::Prepared, PREPARED_SECONDS, false)]
    #[case::forgotten(Phase::Prepared, PREPARED_SECONDS + 1, true)]
    #[case::made_in_the_future(Phase::Prepared, -PREPARED_SECONDS, false)]
    #[case::submission_unknown(Phase::Submitting, 1_000_000, false)]
    #[case::long_in_the_queue(Phase::Queued, 1_000_000, false)]
    #[case::in_use(Phase::Answered, 1_000_000, false)]
    #[case::release_under_way(Phase::Releasing, 1_000_000, false)]
    fn a_lease_without_an_end_goes_only_if_nothing_was_submitted(
        #[case] phase: Phase,
        #[case] age: i64,
        #[case] goes: bool,
    ) {
        let record = Record { phase, ..crate::lease::record::tests::record() };
        assert_eq!(due(&record, record.created + age), goes.then_some(Due::NeverSubmitted));
    }

    #[rstest]
    fn a_lease_whose_job_has_ended_goes(#[values(Phase::Queued, Phase::Answered, Phase::Releasing)] phase: Phase) {
        let ended = Ended { state: "TIMEOUT".into(), reason: String::new(), exit: None, runner: None, at: 2000 };
        let record = Record { phase, ended: Some(ended.clone()), ..crate::lease::record::tests::record() };
        assert_eq!(due(&record, record.created), Some(Due::Ended(&ended)));
    }
}
