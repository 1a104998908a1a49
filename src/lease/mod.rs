//! Leases: their identities, their records, and where both lie. This module never runs a command.

pub(crate) mod acquirer;
pub(crate) mod cache;
pub mod cloud_id;
mod dir;
pub mod format;
pub(crate) mod instance;
pub mod lifecycle;
pub mod limits;
pub(crate) mod names;
pub(crate) mod proof;
pub mod record;
pub(crate) mod store;
mod work_roots;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Kind};

/// `cbx_` and twelve lower-case hex digits: the only form the client accepts, and safe as a file name (docs/facts/client.md, "Identities").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaseId(String);

impl LeaseId {
    pub fn parse(text: &str) -> Option<LeaseId> {
        let hex = text.strip_prefix("cbx_")?;
        is_hex(hex, 12).then(|| LeaseId(text.to_owned()))
    }

    /// A new one from random bits.
    pub fn random() -> std::io::Result<LeaseId> {
        Ok(LeaseId(format!("cbx_{}", crate::files::random_hex(6)?)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The Slurm job name: unique to the lease, of `[a-z0-9-]` (a comma would break `--name`, docs/facts/slurm.md, "Job names").
    pub fn job_name(&self) -> String {
        format!("cbx-{}", &self.0[4..])
    }

    /// The lease of a job name that [`Self::job_name`] made.
    pub fn of_job_name(name: &str) -> Option<LeaseId> {
        LeaseId::parse(&format!("cbx_{}", name.strip_prefix("cbx-")?))
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LeaseId {
    type Error = String;
    fn try_from(text: String) -> Result<LeaseId, String> {
        LeaseId::parse(&text).ok_or_else(|| format!("{text:?} is not a lease id"))
    }
}

impl From<LeaseId> for String {
    fn from(id: LeaseId) -> String {
        id.0
    }
}

/// A seat's id. It has the form of a lease's, so that the runner and the shared dir know both by one rule, and is no lease's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeatId(LeaseId);

impl SeatId {
    pub fn parse(text: &str) -> Option<SeatId> {
        LeaseId::parse(text).map(SeatId)
    }

    pub fn random() -> std::io::Result<SeatId> {
        LeaseId::random().map(SeatId)
    }

    /// The same where a seat and a lease are treated alike.
    pub fn as_lease_id(&self) -> &LeaseId {
        &self.0
    }
}

impl fmt::Display for SeatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one attempt: 16 random hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(String);

impl Nonce {
    pub fn parse(text: &str) -> Option<Nonce> {
        is_hex(text, 16).then(|| Nonce(text.to_owned()))
    }

    pub fn random() -> std::io::Result<Nonce> {
        Ok(Nonce(crate::files::random_hex(8)?))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Nonce {
    type Error = String;
    fn try_from(text: String) -> Result<Nonce, String> {
        Nonce::parse(&text).ok_or_else(|| format!("{text:?} is not a nonce"))
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> String {
        nonce.0
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What a platform calls a lease; fixed when the lease is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub lease_id: LeaseId,
    pub slug: String,
    pub name: String,
}

/// Longest slug; five thousand rows of identities with slugs and names of this order stay below the client's 1 MiB.
const SLUG_BYTES: usize = 128;

/// Longest name; the client makes `crabbox-<slug>-<8 hex>`.
const NAME_BYTES: usize = 255;

impl Identity {
    /// Checks the client's rules for raw identities (docs/facts/client.md, "Identity rules"); all that is wrong is told at once.
    pub fn parse(lease_id: &str, slug: &str, name: &str) -> Result<Identity, Failure> {
        let mut wrong = Vec::new();
        let id = parse_lease_id(lease_id).map_err(|text| wrong.push(text)).ok();
        let slug_chars = slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if slug.is_empty() || slug.len() > SLUG_BYTES || !slug_chars || slug.starts_with('-') || slug.ends_with('-') {
            wrong.push(format!(
                "slug {} is not 1 to {SLUG_BYTES} of a-z, 0-9 and inner hyphens",
                crate::protocol::shown(&slug.into())
            ));
        }
        if name.is_empty() || name.len() > NAME_BYTES || name.trim() != name || name.chars().any(char::is_control) {
            wrong.push(format!(
                "name {} is not 1 to {NAME_BYTES} bytes of printable, trimmed text",
                crate::protocol::shown(&name.into())
            ));
        }
        match id {
            Some(lease_id) if wrong.is_empty() => {
                Ok(Identity { lease_id, slug: slug.to_owned(), name: name.to_owned() })
            }
            _ => {
                Err(Failure::new(Kind::BadRequest, format!("the lease's identity is not usable: {}", wrong.join("; "))))
            }
        }
    }
}

fn parse_lease_id(text: &str) -> Result<LeaseId, String> {
    LeaseId::parse(text).ok_or_else(|| match text {
        "" => "leaseId is missing".to_owned(),
        _ => format!("leaseId {} is not cbx_ and 12 lower-case hex digits", crate::protocol::shown(&text.into())),
    })
}

/// A lease id from a request, or a failure that touches nothing.
pub fn required_lease_id(text: &str) -> Result<LeaseId, Failure> {
    parse_lease_id(text).map_err(|what| Failure::new(Kind::BadRequest, what))
}

/// The name that the client derives from lease id and slug: the hash is FNV-1a over the lease id (docs/facts/client.md, "Identities").
pub fn client_name(lease_id: &LeaseId, slug: &str) -> String {
    let hash = lease_id
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("crabbox-{slug}-{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("cbx_4b38f35d4e31", true)]
    #[case("cbx_4b38f35d4e3", false)]
    #[case("cbx_4B38F35D4E31", false)]
    #[case("../../x", false)]
    #[case("cbx_../../../../x", false)]
    #[case("", false)]
    fn lease_ids(#[case] text: &str, #[case] good: bool) {
        assert_eq!(LeaseId::parse(text).is_some(), good);
    }

    #[test]
    fn names_are_the_clients() {
        let id = LeaseId::parse("cbx_4b38f35d4e31").unwrap();
        assert_eq!(client_name(&id, "smoke"), "crabbox-smoke-42b80a31");
        assert_eq!(LeaseId::of_job_name(&id.job_name()), Some(id));
    }

    #[rstest]
    #[case("cbx_4b38f35d4e31", "smoke", "crabbox-smoke", "")]
    #[case("../../x", "smoke", "n", "leaseId")]
    #[case("cbx_4b38f35d4e31", "Smoke", "n", "slug")]
    #[case("cbx_4b38f35d4e31", "-a", "n", "slug")]
    #[case("cbx_4b38f35d4e31", "a", " n", "name")]
    #[case("cbx_4b38f35d4e31", "a", "n\n", "name")]
    #[case("", "", "", "leaseId is missing; slug")]
    fn identities(#[case] id: &str, #[case] slug: &str, #[case] name: &str, #[case] complaint: &str) {
        match Identity::parse(id, slug, name) {
            Ok(_) => assert_eq!(complaint, ""),
            Err(failure) => assert!(!complaint.is_empty() && failure.to_string().contains(complaint), "{failure}"),
        }
    }
}
