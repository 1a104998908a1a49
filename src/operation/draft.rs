//! The record of what has not been asked of Slurm yet: a lease, or a spare.

use std::io;
use std::path::PathBuf;

use crate::allocation::Runner;
use crate::clock::epoch;
use crate::config::Settings;
use crate::config::proxy::Connection;
use crate::host::User;
use crate::lease::record::{Attempt, Denials, Phase, Record};
use crate::lease::store::Store;
use crate::lease::{Identity, Nonce};
use crate::operation::context::shared_dir;

/// A record that nothing has come of, with a new nonce and a private key at this path.
///
/// # Errors
/// When the system gives no random bits.
pub fn draft(
    store: &Store,
    settings: &Settings,
    runner: &Runner,
    user: &User,
    identity: &Identity,
    key: PathBuf,
) -> io::Result<Record> {
    let submit = &settings.submit;
    let route = match &settings.connection {
        Connection::Connect(route) => Some(route.clone()),
        Connection::Direct | Connection::Proxy { .. } => None,
    };
    Ok(Record {
        identity: identity.clone(),
        phase: Phase::Prepared,
        keep: false,
        created: epoch(),
        uid: user.uid,
        user: submit.as_ref().and(user.name.clone()),
        submit: submit.clone(),
        route,
        attempt: Attempt { nonce: Nonce::random()?, sent: None, sent_at: None },
        given_up: vec![],
        instance: Some(store.instance().name.clone()),
        clusters: settings.clusters.clone(),
        job: None,
        submitted: None,
        cloud_id: None,
        server_type: settings.resources.summary.clone(),
        shared_dir: shared_dir(settings, store.path(), user),
        contract: runner.keeps_contract(),
        key,
        endpoint: None,
        denied: Denials::default(),
        ended: None,
        releasing: None,
        pooled: false,
        seat: None,
    })
}
