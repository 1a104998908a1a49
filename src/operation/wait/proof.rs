//! When a wait hands out without a login: a lease that a login has proven a short time ago, whose job runs on as it did then, and
//! whose sshd gives its banner. The client logs in itself, on the pinned key, so nothing is trusted that it would not check.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Doing, Wait};
use crate::allocation::{self, View};
use crate::clock::Now;
use crate::config::Settings;
use crate::files::hex;
use crate::lease::proof::Proof;
use crate::lease::record::{Phase, Record};
use crate::lease::store::LeaseDir;
use crate::protocol::Ssh;
use crate::slurm::cache::{BackOff, Moment, Shared};
use crate::slurm::squeue;
use crate::ssh::banner;

/// Where a proof is at hand, Slurm's answer to another call will do that was asked for so long ago: callers that resolve
/// a hundred leases in a row cost a question in two seconds.
const PROVEN_ANSWER: Duration = Duration::from_secs(2);

/// The proof that a wait may use. An acquire is to hand out what it has seen to work. The sshd of a site's own runner may take a
/// connection without a login for an attack and shut its caller out (docs/facts/openssh.md, "Penalties for failed logins").
pub(super) fn usable(doing: Doing, settings: &Settings, dir: &LeaseDir) -> Option<Proof> {
    let ours = settings.runner_script.is_none();
    (doing == Doing::Resolving && ours).then(|| dir.proof()).flatten().filter(|proof| proof.is_recent(Now::read()))
}

/// Names all that a login is made of: where to, as whom, with which key, through what, and what it ran.
fn way(ssh: &Ssh) -> Option<String> {
    let digest = Sha256::digest(serde_json::to_vec(ssh).ok()?);
    Some(hex(&digest))
}

impl Wait<'_> {
    /// What another call was told of a job a moment ago, if that is just how it was proven.
    pub(super) fn view_of_a_proven(&self, record: &Record, shared: &Shared) -> Option<View> {
        let proof = self.proof.as_ref().filter(|_| self.asked.is_none() && record.ended.is_none())?;
        let after = Moment::now().before(PROVEN_ANSWER);
        let view = allocation::ask_shared(record, shared, after, squeue::DEADLINE, BackOff::Kept);
        let holds = view.row().is_some_and(|row| proof.is_of(record, row));
        holds.then_some(view)
    }

    /// Whether a login of a short time ago still tells that the lease can be used, if its sshd answers now.
    pub(super) fn is_proven(&self, record: &Record, view: &View, ssh: &Ssh) -> bool {
        let Some((proof, row)) = self.proof.as_ref().zip(view.row()) else { return false };
        record.phase == Phase::Answered
            && self.refused.is_none()
            && proof.is_of(record, row)
            // Behind a proxy the banner would cost what a login costs.
            && ssh.proxy_command.is_none()
            && way(ssh).as_ref() == Some(&proof.way)
    }

    pub(super) fn sshd_answers(&self, record: &Record) -> bool {
        record.endpoint.as_ref().is_some_and(|endpoint| banner::answers(&endpoint.host, endpoint.port))
    }

    /// Writes down that a login has just succeeded.
    pub(super) fn keep_proof(&self, record: &Record, view: &View, ssh: &Ssh) {
        let proof = view.row().zip(way(ssh)).and_then(|(row, way)| Proof::of(record, row, way, Now::read()));
        proof.iter().for_each(|proof| self.dir.keep_proof(proof));
    }
}
