//! render: what an acquire would submit, by the code that submits it, without submitting anything.

use std::path::PathBuf;

use anyhow::Result;

use super::{Acquire, Terms};
use crate::allocation;
use crate::operation::context::Options;
use crate::operation::lookup::{IdentityCheck, load, whole};
use crate::protocol::Request;

/// A submission that was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// sbatch and its arguments.
    pub command: Vec<String>,
    /// The variables of the job beside those that are passed on.
    pub environment: Vec<(&'static str, String)>,
    /// What sbatch reads.
    pub script: Vec<u8>,
}

/// Renders the submission of a request to acquire. That of a lease which exists bears its own nonce; one that does not exist yet gets
/// a new one each time, as its acquire will.
pub fn render(options: &Options, request: &Request) -> Result<Rendered> {
    let acquire = Acquire::new(options, request, Terms { caller: None, existing: false })?;
    let record = match load(&acquire.store, &acquire.identity.lease_id)? {
        Some(found) => {
            let record = whole("rendering", &found.loaded)?;
            IdentityCheck { slug: &acquire.identity.slug, name: &acquire.identity.name, ..IdentityCheck::default() }
                .check(&found.loaded)?;
            record.clone()
        }
        None => acquire.record(PathBuf::new())?,
    };
    let submission = allocation::submission(&acquire.store, &record, &acquire.settings, &acquire.runner);
    let environment = submission.environment.iter();
    Ok(Rendered {
        command: submission.command().argv(),
        environment: environment.map(|(name, value)| (*name, value.to_string_lossy().into_owned())).collect(),
        script: submission.script.to_vec(),
    })
}
