//! A record for a lease that has lost its own. Its jobs are looked for everywhere they can be, by the lease's id and the state dir
//! in their comments; where one place cannot be asked, nothing is touched.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::clock::epoch;
use crate::clock::{BootTime, Now};
use crate::config::login_host::LoginHost;
use crate::config::{Settings, at_home};
use crate::failure::{Failure, Kind};
use crate::host::{Host, User};
use crate::lease::cloud_id::CloudId;
use crate::lease::record::{Attempt, CommentWord, Denials, Origin, Phase, Record, Seating, comment};
use crate::lease::store::Store;
use crate::lease::{Identity, Nonce, SeatId};
use crate::shared_dir;
use crate::slurm::each_cluster;
use crate::slurm::job::{Class, QueryFailed, Row};
use crate::slurm::squeue::{self, Owner};

/// Longest wait for one answer of Slurm.
const QUERY_DEADLINE: Duration = Duration::from_secs(12);

/// What a request's configuration says of where its leases' jobs are, for leases that do not tell it themselves.
#[derive(Debug, Default)]
pub struct Recovery {
    pub submit: Option<LoginHost>,
    clusters: Option<String>,
    shared_dir: Option<PathBuf>,
}

impl Recovery {
    /// That of settings, where there are any.
    pub fn configured(settings: Option<&Settings>) -> Recovery {
        settings.map_or_else(Recovery::default, |settings| Recovery {
            submit: settings.submit.clone(),
            clusters: settings.clusters.clone(),
            shared_dir: settings.shared_dir.clone(),
        })
    }

    /// The shared dir that is configured, in the home directory of the user there.
    fn shared_dir_of(&self, user: &User) -> Option<PathBuf> {
        at_home(self.shared_dir.as_ref()?, user.home.as_deref())
    }
}

/// A record of what Slurm and the lease's origin tell. `doing` is what it is for, for messages.
///
/// # Errors
/// When a place where its job may be could not be asked.
pub fn recover(
    doing: &str,
    store: &Store,
    identity: &Identity,
    origin: Option<&Origin>,
    configured: &Recovery,
    deadline: Instant,
) -> Result<Record> {
    // An origin of the first release says nothing, but the lease has one.
    let recorded = origin.filter(|origin| origin.shared_dir.is_some());
    let submit = recorded.map_or(&configured.submit, |origin| &origin.submit);
    let clusters = recorded.map_or(&configured.clusters, |origin| &origin.clusters);
    let host = Host::of(submit.as_ref());
    let user = crate::operation::context::user(&host, &format!("{doing} lease {}", identity.lease_id))?;
    let owner = Owner { uid: user.uid, name: user.name.as_deref() };
    let seat = match origin.map(|origin| &origin.seating) {
        None | Some(Seating::None) => None,
        Some(Seating::Taken(seat)) => Some(seat.clone()),
        Some(Seating::Unknown) => return Err(unknown_seat(doing, identity).into()),
    };
    let job_owner = seat.as_ref().map_or(&identity.lease_id, SeatId::as_lease_id);
    let ours = |word: &CommentWord| {
        let made_in = recorded.and_then(|origin| origin.instance.as_deref());
        word.lease_id == *job_owner && (made_in == Some(&word.instance) || store.instance().owns(Some(&word.instance)))
    };
    let mut found: Vec<(Row, CommentWord)> = Vec::new();
    let clusters_asked = each_cluster(clusters.as_deref());
    // Where nothing is asked nothing is denied.
    let mut complete = !clusters_asked.is_empty();
    for cluster in clusters_asked {
        let left = deadline.saturating_duration_since(Instant::now()).min(QUERY_DEADLINE);
        let listing = squeue::list_user(&host, owner, cluster.as_deref(), left)
            .map_err(|QueryFailed(why)| could_not_ask(doing, identity, &why))?;
        complete &= listing.complete;
        let marked =
            |row: Row| comment(&row.comment).filter(|word| row.uid == user.uid && ours(word)).map(|word| (row, word));
        found.extend(listing.rows.into_iter().filter_map(marked));
    }
    if !complete && found.iter().all(|(row, _)| row.state.class() == Class::Ended) {
        return Err(could_not_ask(doing, identity, "squeue's listing came with other text and may not be whole").into());
    }
    // The one that lives is the lease's job; of several, the oldest.
    found.sort_by_key(|(row, _)| (row.state.class() == Class::Ended, row.submitted, row.job.id));
    let root = found.iter().find_map(|(row, word)| shared_dir::root_of(&row.directory, &word.lease_id, &word.nonce));
    let shared_dir = recorded
        .and_then(|origin| origin.shared_dir.clone())
        .or(root.map(|root| match seat {
            Some(_) => root.parent().map(Path::to_owned).unwrap_or(root),
            None => root,
        }))
        .or_else(|| configured.shared_dir_of(&user))
        .unwrap_or_else(|| crate::operation::context::default_shared_dir(submit.as_ref(), store.path(), &user));
    let job = found.first().filter(|(row, _)| row.state.class() != Class::Ended);
    let nonce = match job {
        Some((_, word)) => word.nonce.clone(),
        None => match shared_dir::permitted(&host, &tree_of(&shared_dir, seat.as_ref()), job_owner) {
            Ok(Some(nonce)) => nonce,
            Ok(None) => Nonce::random()?,
            Err(why) => return Err(could_not_ask(doing, identity, &why.to_string()).into()),
        },
    };
    let given_up = found.iter().map(|(_, word)| word.nonce.clone()).filter(|other| *other != nonce).collect();
    Ok(Record {
        identity: identity.clone(),
        phase: Phase::Prepared,
        keep: false,
        created: epoch(),
        uid: user.uid,
        user: submit.as_ref().and(user.name.clone()),
        submit: submit.clone(),
        route: None,
        // Whether a submission is on its way is lost with the record, so one is assumed.
        attempt: Attempt { nonce, sent: Some(epoch()), sent_at: BootTime::of(Now::read()) },
        given_up,
        instance: job.map(|(_, word)| word.instance.clone()).or_else(|| Some(store.instance().name.clone())),
        clusters: clusters.clone(),
        job: job.map(|(row, _)| row.job.clone()),
        submitted: job.and_then(|(row, _)| row.submitted),
        cloud_id: Some(CloudId::Lost(identity.lease_id.clone())),
        server_type: "slurm".into(),
        shared_dir,
        contract: false,
        key: Default::default(),
        endpoint: None,
        denied: Denials::default(),
        ended: None,
        releasing: None,
        pooled: seat.is_some(),
        seat,
    })
}

/// The tree in a shared dir that holds a lease's job.
fn tree_of(shared_dir: &Path, seat: Option<&SeatId>) -> PathBuf {
    seat.map_or_else(|| shared_dir.to_owned(), |_| shared_dir.join(shared_dir::SEATS))
}

/// Its job bears the seat's name; by the lease's, Slurm would deny a job that runs.
fn unknown_seat(doing: &str, identity: &Identity) -> Failure {
    let id = &identity.lease_id;
    let what =
        format!("{doing} lease {id}: its record is damaged, and so is what tells of the spare that it has taken");
    Failure::new(Kind::Storage, what).remedy(format!(
        "end its job with scancel (`squeue --me` shows it), then run `slurm-sandbox forget {id} --because TEXT`"
    ))
}

fn could_not_ask(doing: &str, identity: &Identity, why: &str) -> Failure {
    let what =
        format!("{doing} lease {}: its record is damaged, and its job could not be looked for", identity.lease_id);
    Failure::new(Kind::SlurmUnavailable, what)
        .remedy("repeat the call when Slurm answers; nothing was touched")
        .cause(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_shared_dir_is_in_the_home_of_the_login_hosts_user() {
        let configured = Recovery { shared_dir: Some("~/shared".into()), ..Recovery::default() };
        let user = |home: Option<&str>| User { uid: 1001, name: None, home: home.map(str::to_owned) };
        assert_eq!(configured.shared_dir_of(&user(Some("/home/alice"))), Some("/home/alice/shared".into()));
        assert_eq!(configured.shared_dir_of(&user(None)), None);
    }
}
