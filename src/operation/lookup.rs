//! From a word or an identity to the lease that is meant, and whether it is the one that the caller expects.

use anyhow::Result;

use crate::failure::{Failure, Kind};
use crate::lease::record::Record;
use crate::lease::store::{LeaseDir, Loaded, Store};
use crate::lease::{Identity, LeaseId};
use crate::protocol::Expected;

/// A lease with what is on disk of it.
#[derive(Debug)]
pub struct FoundLease {
    pub dir: LeaseDir,
    pub loaded: Loaded,
}

/// What is told of a lease that a newer program keeps.
pub fn newer(doing: &str, identity: &Identity) -> Failure {
    let what = format!("{doing} lease {}: a newer slurm-sandbox keeps it; nothing was touched", identity.lease_id);
    Failure::new(Kind::Storage, what).remedy("use that version")
}

/// The record of a lease that must have one.
pub fn whole<'a>(doing: &str, loaded: &'a Loaded) -> Result<&'a Record, Failure> {
    match loaded {
        Loaded::Whole(record) => Ok(record),
        Loaded::Newer { identity } => Err(newer(doing, identity)),
        Loaded::Damaged { identity, why, .. } => {
            let what = format!("{doing} lease {}: its record is damaged", identity.lease_id);
            Err(Failure::new(Kind::Storage, what).remedy("release the lease; its job is found by name").cause(why))
        }
    }
}

/// Opens one lease.
pub fn load(store: &Store, id: &LeaseId) -> Result<Option<FoundLease>> {
    Ok(store.lease(id)?.map(|dir| {
        let loaded = dir.load();
        FoundLease { dir, loaded }
    }))
}

/// Finds the lease that a word means: its id before everything else; slug, name, cloud id and job id only when one
/// lease alone answers to it.
pub fn find(store: &Store, word: &str) -> Result<Option<FoundLease>> {
    find_beside(store, word, None)
}

/// The same as if one lease had nothing but its id.
pub fn find_beside(store: &Store, word: &str, but: Option<&LeaseId>) -> Result<Option<FoundLease>> {
    if let Some(id) = LeaseId::parse(word) {
        return load(store, &id);
    }
    let mut hits = Vec::new();
    for id in store.ids()?.into_iter().filter(|id| Some(id) != but) {
        let Some(loaded) = store.load(&id)? else { continue };
        let identity = loaded.identity();
        let job = loaded.record().and_then(|record| record.job.as_ref());
        let job = job.is_some_and(|job| job.to_string() == word || job.id.to_string() == word);
        if identity.slug == word || identity.name == word || loaded.cloud_id().to_string() == word || job {
            hits.push(id);
        }
    }
    if hits.len() > 1 {
        const NAMED: usize = 5;
        let mut ids: Vec<_> = hits.iter().take(NAMED).map(LeaseId::to_string).collect();
        if hits.len() > NAMED {
            ids.push(format!("or one of {} more", hits.len() - NAMED));
        }
        let shown = crate::protocol::shown(&word.into());
        return Err(Failure::new(Kind::NotFound, format!("{shown} means more than one lease"))
            .remedy(format!("name one by its id: {}", ids.join(", ")))
            .into());
    }
    hits.pop().map_or(Ok(None), |id| load(store, &id))
}

/// The lease that a word means, or a failure.
pub fn required(store: &Store, word: &str) -> Result<FoundLease> {
    match find(store, word)? {
        Some(found) => Ok(found),
        None => {
            Err(Failure::new(Kind::NotFound, format!("no lease answers to {}", crate::protocol::shown(&word.into())))
                .into())
        }
    }
}

/// What a request demands of a lease's identity; empty demands nothing.
#[derive(Debug, Default)]
pub struct IdentityCheck<'a> {
    pub lease_id: &'a str,
    pub slug: &'a str,
    pub name: &'a str,
    pub cloud_id: &'a str,
}

impl<'a> IdentityCheck<'a> {
    fn expected(expected: &'a Expected) -> [IdentityCheck<'a>; 2] {
        let all = IdentityCheck {
            lease_id: &expected.lease_id,
            slug: &expected.slug,
            name: "",
            cloud_id: &expected.cloud_id,
        };
        [all, IdentityCheck { lease_id: &expected.attempt_lease_id, ..IdentityCheck::default() }]
    }

    /// Refuses when the lease is another than the caller means; nothing was touched then.
    pub fn check(&self, lease: &Loaded) -> Result<(), Failure> {
        let identity = lease.identity();
        let cloud_id = lease.cloud_id().to_string();
        // The cloud id that a lease was handed out with is lost with its record.
        let asked = if lease.record().is_some() { self.cloud_id } else { "" };
        let pairs = [
            ("leaseId", self.lease_id, identity.lease_id.as_str()),
            ("slug", self.slug, identity.slug.as_str()),
            ("name", self.name, identity.name.as_str()),
            ("cloudId", asked, cloud_id.as_str()),
        ];
        for (field, wanted, is) in pairs {
            if !wanted.is_empty() && wanted != is {
                let wanted = crate::protocol::shown(&wanted.into());
                let what =
                    format!("lease {} has the {field} {is:?}, not {wanted}; nothing was touched", identity.lease_id);
                return Err(Failure::new(Kind::IdentityMismatch, what));
            }
        }
        Ok(())
    }
}

pub fn check_expected(expected: Option<&Expected>, lease: &Loaded) -> Result<(), Failure> {
    match expected {
        Some(expected) => IdentityCheck::expected(expected).iter().try_for_each(|demands| demands.check(lease)),
        None => Ok(()),
    }
}
