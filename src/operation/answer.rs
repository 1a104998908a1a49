//! Turns a record and what Slurm shows of it into the lease that a client sees.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::allocation::View;
use crate::lease::Identity;
use crate::lease::cloud_id::CloudId;
use crate::lease::limits::Limits;
use crate::lease::record::Record;
use crate::operation::status::{LeaseState, Status};
use crate::protocol::{Lease, Ssh};
use crate::slurm::job::{Resources, Row};

/// The client cuts label values to this and turns everything outside the safe set into hyphens (docs/facts/client.md, "Labels and touch").
const LABEL_CHARS: usize = 63;

/// The lease for an answer.
pub fn lease(record: &Record, limits: &Limits, view: &View, status: &Status, ssh: Option<Ssh>) -> Lease {
    Lease {
        lease_id: record.lease_id().to_string(),
        slug: record.identity.slug.clone(),
        name: record.identity.name.clone(),
        cloud_id: record.cloud_id().to_string(),
        status: status.slurm_state.clone(),
        server_type: record.server_type.clone(),
        labels: labels(record, limits, view.row(), status),
        ssh,
    }
}

/// The lease for a row of a list, with what the client would otherwise make up. In the answer to an acquire these would take the
/// place of what the client's user has asked for (docs/facts/client.md, "Labels and touch").
pub fn listed(record: &Record, limits: &Limits, view: &View, status: &Status, ssh: Option<Ssh>) -> Lease {
    let mut lease = lease(record, limits, view, status, ssh);
    let touched = limits.touched.as_ref().map_or(record.created, |touch| touch.at);
    let more = [
        ("class", view.row().map(|row| row.partition.clone())),
        ("ttl_secs", limits.ttl().map(|ttl| ttl.to_string())),
        ("idle_timeout_secs", limits.idle().map(|idle| idle.to_string())),
        ("last_touched_at", Some(touched.to_string())),
    ];
    let more = more.into_iter().filter_map(|(name, value)| Some((name.into(), safe(&value?))));
    lease.labels.extend(more.filter(|(_, value)| !value.is_empty()));
    lease
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
        labels: labels.into_iter().map(|(name, value)| (name.into(), safe(&value))).collect(),
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
        labels: labels.into_iter().map(|(name, value)| (name.into(), safe(value))).collect(),
        ..damaged(identity, "")
    }
}

fn labels(record: &Record, limits: &Limits, row: Option<&Row>, status: &Status) -> BTreeMap<Cow<'static, str>, String> {
    let asked = Asked::read(&record.server_type);
    let mut labels: Vec<(&'static str, String)> = vec![
        ("state", status.state.word().to_owned()),
        ("slurmState", status.slurm_state.clone()),
        ("keep", record.keep.to_string()),
        ("created_at", record.created.to_string()),
        ("slurmReason", status.reason.clone()),
        ("server_type", asked.server_type(row)),
    ];
    labels.extend(record.job.as_ref().map(|job| ("slurmJobId", job.id.to_string())));
    labels.extend(record.job.as_ref().and_then(|job| job.cluster.clone()).map(|cluster| ("slurmCluster", cluster)));
    labels.extend(record.ended.as_ref().and_then(|ended| ended.exit.clone()).map(|exit| ("slurmExitCode", exit)));
    if let Some(row) = row {
        labels.push(("slurmPartition", row.partition.clone()));
        labels.push(("slurmNode", row.node.clone()));
        labels.extend(row.start.map(|start| ("slurmStart", start.to_string())));
        labels.extend(row.end.map(|end| ("slurmEnd", end.to_string())));
        let Resources { account, qos, gres, cpus, mem } = &row.resources;
        labels.push(("slurmAccount", account.clone()));
        labels.push(("slurmQos", qos.clone()));
        labels.push(("slurmGres", if gres.is_empty() { asked.gres.join(",") } else { bare_gres(gres).to_owned() }));
        labels.push(("slurmCpus", cpus.clone()));
        labels.push(("slurmMem", if mem == "0" { String::new() } else { mem.clone() }));
        if matches!(status.state, LeaseState::Provisioning | LeaseState::Ready | LeaseState::Suspended) {
            // That of a waiting job is Slurm's estimate.
            // A spare's time to live begins when a lease takes it.
            let taken = record.seat.as_ref().map(|_| record.created);
            let started = taken.or(row.start).filter(|_| !row.node.is_empty());
            let ends = [row.end, limits.ends(record.created, started)].into_iter().flatten().min();
            labels.extend(ends.map(|end| ("expires_at", end.to_string())));
        }
    }
    let safe = labels.into_iter().map(|(name, value)| (Cow::Borrowed(name), safe(&value)));
    safe.filter(|(_, value)| !value.is_empty()).collect()
}

/// What a job has, in few words, or what was asked for while it has nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Size {
    pub cpus: Option<String>,
    pub mem: Option<String>,
    pub gpus: u64,
}

/// The size of a lease.
pub fn size(record: &Record, row: Option<&Row>) -> Size {
    let asked = Asked::read(&record.server_type);
    let (cpus, mem, gpus) = asked.sizes(row);
    Size { cpus: cpus.map(str::to_owned), mem: mem.map(str::to_owned), gpus }
}

/// What was asked for, as the record has it in words for people: `batch 2c/4G/gpu:1`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked<'a> {
    partition: &'a str,
    cpus: Option<&'a str>,
    mem: Option<&'a str>,
    gres: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    fn read(summary: &'a str) -> Asked<'a> {
        let (partition, parts) = summary.split_once(' ').unwrap_or((summary, ""));
        let mut asked = Asked { partition, ..Asked::default() };
        for part in parts.split('/').filter(|part| !part.is_empty()) {
            let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            match part.strip_suffix('c') {
                Some(cpus) if is_number(cpus) => asked.cpus = Some(cpus),
                _ if is_number(part.trim_end_matches(|c: char| c.is_ascii_alphabetic())) => asked.mem = Some(part),
                _ => asked.gres.push(part),
            }
        }
        asked
    }

    /// CPUs, memory and GPUs: what was asked for, and where nothing was, what the job has.
    fn sizes<'b>(&'b self, row: Option<&'b Row>) -> (Option<&'b str>, Option<&'b str>, u64) {
        let has = row.map(|row| &row.resources);
        let of_job =
            |value: fn(&Resources) -> &String| has.map(value).map(String::as_str).filter(|text| !text.is_empty());
        let cpus = self.cpus.or_else(|| of_job(|has| &has.cpus));
        let mem = self.mem.or_else(|| of_job(|has| &has.mem).filter(|mem| *mem != "0"));
        let given: Vec<&str> = of_job(|has| &has.gres).into_iter().collect();
        let gpus: u64 = if self.gres.is_empty() { &given } else { &self.gres }.iter().map(|gres| gpus(gres)).sum();
        (cpus, mem, gpus)
    }

    /// `batch-4c-16G-1gpu`: partition and size.
    fn server_type(&self, row: Option<&Row>) -> String {
        let partition = row.map_or(self.partition, |row| row.partition.as_str());
        let (cpus, mem, gpus) = self.sizes(row);
        let parts = [
            Some(partition.to_owned()),
            cpus.map(|cpus| format!("{cpus}c")),
            mem.map(str::to_owned),
            (gpus > 0).then(|| format!("{gpus}gpu")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("-")
    }
}

/// Slurm's versions put other words before a generic resource (docs/facts/slurm.md, "What differs between versions").
fn bare_gres(gres: &str) -> &str {
    ["gres:", "gres/"].iter().find_map(|word| gres.strip_prefix(word)).unwrap_or(gres)
}

/// How many GPUs a list of generic resources has.
fn gpus(gres: &str) -> u64 {
    let count = |item: &str| {
        let mut words = bare_gres(item.trim()).split(['(']).next().unwrap_or_default().split([':', '=', '/']);
        (words.next() == Some("gpu")).then(|| words.next_back().and_then(|count| count.parse().ok()).unwrap_or(1))
    };
    gres.split(',').filter_map(count).sum()
}

fn safe(value: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' }
    };
    let mut text = String::with_capacity(value.len().min(LABEL_CHARS));
    text.extend(value.chars().take(LABEL_CHARS).map(keep).skip_while(|c| *c == '-'));
    text.truncate(text.trim_end_matches('-').len());
    text
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
    use rstest::rstest;

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
            row.resources = Resources { account: "lab/x".into(), ..has("4", "16G", "gres:gpu:a100:2") };
        }
        let limits = Limits { ttl: Some(600), idle: Some(900), ..Limits::default() };
        let status = status(&record, &view, Now { epoch: 0, uptime: 2000 });
        let labels = listed(&record, &limits, &view, &status, None).labels;
        for (name, value) in &labels {
            assert!(
                !["lease", "slug", "name", "externalResourceName", "externalResourceNameFromEnv"]
                    .contains(&name.as_ref())
            );
            assert!(
                !value.is_empty()
                    && value.len() <= 63
                    && value.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)),
                "{value}"
            );
        }
        let expected = [
            ("slurmJobId", "7"),
            ("expires_at", "1602"),
            ("ttl_secs", "600"),
            ("idle_timeout_secs", "900"),
            ("last_touched_at", "1000"),
            ("class", "batch"),
            ("server_type", "batch-4c-16G-2gpu"),
            ("slurmAccount", "lab-x"),
            ("slurmGres", "gpu-a100-2"),
            ("slurmCpus", "4"),
            ("slurmMem", "16G"),
        ];
        for (name, value) in expected {
            assert_eq!(labels.get(name).map(String::as_str), Some(value), "{name}");
        }
        // What the client's user has asked for is not answered over.
        let answered = lease(&record, &limits, &view, &status, None).labels;
        for name in ["class", "ttl_secs", "idle_timeout_secs", "last_touched_at"] {
            assert!(!answered.contains_key(name));
        }
    }

    #[rstest]
    #[case::earlier_than_slurms(Some(600), "RUNNING", Some("1602"))]
    #[case::later_than_slurms(Some(6000), "RUNNING", Some("2800"))]
    #[case::none(None, "RUNNING", Some("2800"))]
    #[case::ending(Some(600), "COMPLETING", None)]
    fn a_lease_expires_at_the_earlier_end(
        #[case] ttl: Option<u64>,
        #[case] word: &str,
        #[case] expected: Option<&str>,
    ) {
        let record = Record { phase: Phase::Answered, ..record() };
        let (view, limits) = (view(word), Limits { ttl, ..Limits::default() });
        let status = status(&record, &view, Now { epoch: 0, uptime: 2000 });
        let labels = lease(&record, &limits, &view, &status, None).labels;
        assert_eq!(labels.get("expires_at").map(String::as_str), expected);
    }

    fn has(cpus: &str, mem: &str, gres: &str) -> Resources {
        let text = |text: &str| text.to_owned();
        Resources { cpus: text(cpus), mem: text(mem), gres: text(gres), ..Resources::default() }
    }

    #[rstest]
    #[case("batch 4c/16G/gpu:1", None, "batch-4c-16G-1gpu")]
    #[case("batch 4c/16G/gpu:1", Some(has("8", "32G", "")), "batch-4c-16G-1gpu")]
    #[case("batch", Some(has("2", "4G", "gres:gpu:a100:2")), "batch-2c-4G-2gpu")]
    #[case("slurm 2c", Some(has("2", "0", "")), "batch-2c")]
    #[case("slurm", None, "slurm")]
    #[case("batch 2c/gpu:a100:3/gpumem:20g", None, "batch-2c-3gpu")]
    #[case("batch 4096M/gpu:1g.5gb:1,gpu:2g.10gb:2", None, "batch-4096M-3gpu")]
    #[case("batch", Some(has("1", "1G", "gres/gpu=2")), "batch-1c-1G-2gpu")]
    #[case("batch gpu", None, "batch-1gpu")]
    #[case("", None, "")]
    fn server_types(#[case] asked: &str, #[case] has: Option<Resources>, #[case] expected: &str) {
        let row = has.map(|resources| Row { resources, ..row() });
        assert_eq!(Asked::read(asked).server_type(row.as_ref()), expected);
    }
}
