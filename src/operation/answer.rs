//! Turns a record and what Slurm shows of it into the lease that a client sees.

use std::collections::BTreeMap;

use crate::allocation::View;
use crate::lease::Identity;
use crate::lease::cloud_id::CloudId;
use crate::lease::record::Record;
use crate::operation::status::{LeaseState, Status};
use crate::protocol::{Lease, Ssh};
use crate::slurm::job::Row;

/// The client cuts label values to this and turns everything outside the safe set into hyphens (docs/facts/client.md, "Labels and touch").
const LABEL_CHARS: usize = 63;

/// The lease for an answer.
pub fn lease(record: &Record, view: &View, status: &Status, ssh: Option<Ssh>) -> Lease {
    Lease {
        lease_id: record.lease_id().to_string(),
        slug: record.identity.slug.clone(),
        name: record.identity.name.clone(),
        cloud_id: record.cloud_id().to_string(),
        status: status.slurm_state.clone(),
        server_type: record.server_type.clone(),
        labels: labels(record, view.row(), status),
        ssh,
    }
}

/// The row of a lease whose record cannot be read: complete in its identity, so that it can be released.
pub fn damaged(identity: &Identity, why: &str) -> Lease {
    let labels = [("state", LeaseState::Unknown.word().to_owned()), ("slurmReason", format!("damaged record: {why}"))];
    Lease {
        lease_id: identity.lease_id.to_string(),
        slug: identity.slug.clone(),
        name: identity.name.clone(),
        cloud_id: CloudId::Lost(identity.lease_id.clone()).to_string(),
        status: "DAMAGED".into(),
        server_type: String::new(),
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), safe(&value))).collect(),
        ssh: None,
    }
}

/// The row of a lease that a newer program keeps.
pub fn newer(identity: &Identity) -> Lease {
    let labels = [
        ("state", LeaseState::Newer.word()),
        ("slurmReason", "a newer slurm-sandbox keeps this lease; use that version"),
    ];
    Lease {
        status: "NEWER".into(),
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), safe(value))).collect(),
        ..damaged(identity, "")
    }
}

fn labels(record: &Record, row: Option<&Row>, status: &Status) -> BTreeMap<String, String> {
    let mut labels: Vec<(&str, String)> = vec![
        ("state", status.state.word().to_owned()),
        ("slurmState", status.slurm_state.clone()),
        ("keep", record.keep.to_string()),
        ("created_at", record.created.to_string()),
        ("slurmReason", status.reason.clone()),
    ];
    labels.extend(record.job.as_ref().map(|job| ("slurmJobId", job.id.to_string())));
    labels.extend(record.job.as_ref().and_then(|job| job.cluster.clone()).map(|cluster| ("slurmCluster", cluster)));
    labels.extend(record.ended.as_ref().and_then(|ended| ended.exit.clone()).map(|exit| ("slurmExitCode", exit)));
    if let Some(row) = row {
        labels.push(("slurmPartition", row.partition.clone()));
        labels.push(("slurmNode", row.node.clone()));
        labels.extend(row.start.map(|start| ("slurmStart", start.to_string())));
        labels.extend(row.end.map(|end| ("slurmEnd", end.to_string())));
        if status.state == LeaseState::Ready {
            labels.extend(row.end.map(|end| ("expires_at", end.to_string())));
        }
    }
    let safe = labels.into_iter().map(|(name, value)| (name.to_owned(), safe(&value)));
    safe.filter(|(_, value)| !value.is_empty()).collect()
}

fn safe(value: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' }
    };
    let text: String = value.chars().map(keep).take(LABEL_CHARS).collect();
    text.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::lease::lifecycle::Observation;
    use crate::lease::record::Phase;
    use crate::lease::record::tests::{record, row};
    use crate::operation::status::status;
    use crate::slurm::job::State;

    fn view(word: &str) -> View {
        View { observation: Observation::Row(Box::new(Row { state: State::new(word), ..row() })), stale_jobs: vec![] }
    }

    #[test]
    fn labels_are_safe_and_reserve_nothing() {
        let mut record = record();
        record.phase = Phase::Answered;
        let mut view = view("RUNNING");
        if let Observation::Row(row) = &mut view.observation {
            row.reason = "Nodes required, (bad) ".repeat(9);
        }
        let labels = lease(&record, &view, &status(&record, &view, Now { epoch: 0, uptime: 2000 }), None).labels;
        for (name, value) in &labels {
            assert!(
                !["lease", "slug", "name", "externalResourceName", "externalResourceNameFromEnv"]
                    .contains(&name.as_str())
            );
            assert!(
                !value.is_empty()
                    && value.len() <= 63
                    && value.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)),
                "{value}"
            );
        }
        assert_eq!(labels["expires_at"], "2800");
        assert_eq!(labels["slurmJobId"], "7");
    }
}
