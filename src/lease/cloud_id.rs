//! The cloud id: what a caller knows a lease's allocation by. It is fixed once a lease was handed out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{LeaseId, Nonce};
use crate::slurm::job::JobId;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CloudId {
    /// `slurm/job/<id>[;cluster]`
    Job(JobId),
    /// `slurm/attempt/<nonce>`, before a job id is known
    Attempt(Nonce),
    /// `slurm/lost/<lease id>`, of a lease whose record cannot be read
    Lost(LeaseId),
}

impl CloudId {
    /// The cloud id that a text is; nothing where it is not one of ours.
    pub fn parse(text: &str) -> Option<CloudId> {
        let (kind, rest) = text.strip_prefix("slurm/")?.split_once('/')?;
        let id = match kind {
            "job" => CloudId::Job(job(rest)?),
            "attempt" => CloudId::Attempt(Nonce::parse(rest)?),
            "lost" => CloudId::Lost(LeaseId::parse(rest)?),
            _ => return None,
        };
        (id.to_string() == text).then_some(id)
    }
}

fn job(text: &str) -> Option<JobId> {
    let (id, cluster) = match text.split_once(';') {
        Some((id, cluster)) => (id, Some(cluster.to_owned())),
        None => (text, None),
    };
    Some(JobId { id: id.parse().ok()?, cluster })
}

impl fmt::Display for CloudId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloudId::Job(job) => write!(f, "slurm/job/{job}"),
            CloudId::Attempt(nonce) => write!(f, "slurm/attempt/{nonce}"),
            CloudId::Lost(lease) => write!(f, "slurm/lost/{lease}"),
        }
    }
}

impl TryFrom<String> for CloudId {
    type Error = String;
    fn try_from(text: String) -> Result<CloudId, String> {
        CloudId::parse(&text).ok_or_else(|| format!("{text:?} is not a cloud id"))
    }
}

impl From<CloudId> for String {
    fn from(id: CloudId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("slurm/job/12")]
    #[case("slurm/job/12;annex")]
    #[case("slurm/attempt/0123456789abcdef")]
    #[case("slurm/lost/cbx_0123456789ab")]
    fn reads_what_it_writes(#[case] text: &str) {
        assert_eq!(CloudId::parse(text).expect("a cloud id").to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("12")]
    #[case("slurm/job/")]
    #[case("slurm/job/012")]
    #[case("slurm/job/+12")]
    #[case("slurm/attempt/0123")]
    #[case("slurm/lost/../x")]
    #[case("other/job/12")]
    fn takes_nothing_else(#[case] text: &str) {
        assert_eq!(CloudId::parse(text), None);
    }
}
