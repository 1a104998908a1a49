//! Turns a record and what Slurm shows of it into the lease that a client sees.

use std::collections::BTreeMap;
use std::path::Path;

use crate::allocation::View;
use crate::clock::Now;
use crate::config::Settings;
use crate::config::connection::{Connection, Route};
use crate::config::value::is_safe_path;
use crate::host::Host;
use crate::lease::Identity;
use crate::lease::lifecycle::{Verdict, judge};
use crate::lease::record::{Phase, Record};
use crate::protocol::{Lease, Ssh};
use crate::slurm::job::Row;

/// The client cuts label values to this and turns everything outside the safe set into hyphens (protocol.md 5.3).
const LABEL_CHARS: usize = 63;

/// How a lease stands, in the words that the client's `status` and `list` understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Slurm's state, or ours where Slurm has none.
    pub status: String,
    /// `provisioning`, `ready`, `suspended`, `deleting`, `stopped`, `failed`, `missing`, `newer` or `unknown`.
    pub state: &'static str,
    /// Why, for people; may be empty.
    pub reason: String,
}

/// Judges a record that has learned from the view.
pub fn standing(record: &Record, view: &View, now: Now) -> Standing {
    let row = view.row();
    let word = row.map(|row| row.state.word().to_owned());
    let reason = row.map(|row| row.reason.clone()).filter(|reason| reason != "None").unwrap_or_default();
    if let Some(ended) = &record.ended {
        let state = match ended.state.split(' ').next() {
            Some("COMPLETED") => "stopped",
            Some("GONE") => "missing",
            _ if record.phase == Phase::Releasing => "stopped",
            _ => "failed",
        };
        return Standing { status: ended.state.clone(), state, reason: ended.why().to_owned() };
    }
    if record.attempt.sent.is_none() {
        return Standing {
            status: "PREPARED".into(),
            state: "provisioning",
            reason: "nothing was submitted yet".into(),
        };
    }
    let (status, state, reason) = match judge(record, &view.observation, now) {
        Verdict::Unknown(why) => ("UNKNOWN".to_owned(), "unknown", why),
        Verdict::Denied if record.job.is_none() => {
            ("SUBMITTING".to_owned(), "provisioning", "sbatch gave no answer".to_owned())
        }
        Verdict::Denied | Verdict::Gone => ("MISSING".to_owned(), "missing", "Slurm does not know the job".to_owned()),
        Verdict::Running if record.phase == Phase::Answered => (word.unwrap_or_default(), "ready", reason),
        Verdict::Suspended => (word.unwrap_or_default(), "suspended", reason),
        Verdict::Ending | Verdict::Ended => (word.unwrap_or_default(), "deleting", reason),
        Verdict::Queued | Verdict::Running => (word.unwrap_or_default(), "provisioning", reason),
    };
    let state = if record.phase == Phase::Releasing { "deleting" } else { state };
    Standing { status, state, reason }
}

/// The lease for an answer.
pub fn lease(record: &Record, view: &View, standing: &Standing, ssh: Option<Ssh>) -> Lease {
    Lease {
        lease_id: record.lease_id().to_string(),
        slug: record.identity.slug.clone(),
        name: record.identity.name.clone(),
        cloud_id: record.cloud_id(),
        status: standing.status.clone(),
        server_type: record.server_type.clone(),
        labels: labels(record, view.row(), standing),
        ssh,
    }
}

/// The row of a lease whose record cannot be read: complete in its identity, so that it can be released.
pub fn damaged(identity: &Identity, why: &str) -> Lease {
    let labels = [("state", "unknown".to_owned()), ("slurmReason", format!("damaged record: {why}"))];
    Lease {
        lease_id: identity.lease_id.to_string(),
        slug: identity.slug.clone(),
        name: identity.name.clone(),
        cloud_id: format!("slurm/lost/{}", identity.lease_id),
        status: "DAMAGED".into(),
        server_type: String::new(),
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), safe(&value))).collect(),
        ssh: None,
    }
}

/// The row of a lease that a newer program keeps.
pub fn newer(identity: &Identity) -> Lease {
    let labels = [("state", "newer"), ("slurmReason", "a newer slurm-sandbox keeps this lease; use that version")];
    Lease {
        status: "NEWER".into(),
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), safe(value))).collect(),
        ..damaged(identity, "")
    }
}

fn labels(record: &Record, row: Option<&Row>, standing: &Standing) -> BTreeMap<String, String> {
    let mut labels: Vec<(&str, String)> = vec![
        ("state", standing.state.to_owned()),
        ("slurmState", standing.status.clone()),
        ("keep", record.keep.to_string()),
        ("created_at", record.created.to_string()),
        ("slurmReason", standing.reason.clone()),
    ];
    labels.extend(record.job.as_ref().map(|job| ("slurmJobId", job.id.to_string())));
    labels.extend(record.job.as_ref().and_then(|job| job.cluster.clone()).map(|cluster| ("slurmCluster", cluster)));
    labels.extend(record.ended.as_ref().and_then(|ended| ended.exit.clone()).map(|exit| ("slurmExitCode", exit)));
    if let Some(row) = row {
        labels.push(("slurmPartition", row.partition.clone()));
        labels.push(("slurmNode", row.node.clone()));
        labels.extend(row.start.map(|start| ("slurmStart", start.to_string())));
        labels.extend(row.end.map(|end| ("slurmEnd", end.to_string())));
        if standing.state == "ready" {
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

/// How to reach a lease with a pinned endpoint. User, proxy and ready check come from the request's configuration.
pub fn ssh(record: &Record, settings: &Settings) -> Option<Ssh> {
    let endpoint = record.endpoint.as_ref()?;
    let user = settings.ssh_user.clone().or_else(|| record.user.clone()).or_else(|| Host::Here.user().ok()?.name)?;
    let values: BTreeMap<&str, String> = [
        ("host", endpoint.host.clone()),
        ("port", endpoint.port.to_string()),
        ("user", user.clone()),
        ("leaseId", record.lease_id().to_string()),
        ("slug", record.identity.slug.clone()),
        ("name", quoted_if_needed(&record.identity.name)),
        ("jobId", record.job.as_ref().map(|job| job.id.to_string()).unwrap_or_default()),
    ]
    .into();
    let proxy_command = match (&record.route, &settings.connection) {
        (Some(Route::Stdio), _) | (_, Connection::Connect(_)) => Some(connect_command(record)?),
        (_, Connection::Direct | Connection::Proxy { .. }) => settings.connection.proxy_command(&values),
    };
    Some(Ssh {
        user,
        host: endpoint.host.clone(),
        key: record.key.to_string_lossy().into_owned(),
        port: endpoint.port.to_string(),
        fallback_ports: [],
        ready_check: settings.ready_check.clone(),
        ssh_config_proxy: proxy_command.is_some(),
        proxy_command,
    })
}

/// Our own proxy command for a lease: this very program, which finds the rest in the state dir. It is read by ssh, which
/// expands `%`, and by a shell, so that it holds plain words alone.
fn connect_command(record: &Record) -> Option<String> {
    let program = std::env::current_exe().ok()?;
    // <state-dir>/leases/<leaseId>/<key>
    let state_dir = record.key.ancestors().nth(3)?;
    let plain = |path: &Path| path.to_str().filter(|text| is_safe_path(text)).map(str::to_owned);
    Some(format!("{} connect --state-dir {} {}", plain(&program)?, plain(state_dir)?, record.lease_id()))
}

/// A name that a shell could take apart stands for itself only without its special characters.
fn quoted_if_needed(name: &str) -> String {
    let text: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    // Nor may it be taken for an option.
    if let Some(rest) = text.strip_prefix('-') { format!("_{rest}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::lifecycle::Observation;
    use crate::lease::record::tests::{record, row};
    use crate::lease::record::{Ended, PinnedEndpoint};
    use crate::slurm::job::State;
    use rstest::rstest;
    use serde_json::json;

    fn view(word: &str) -> View {
        View { observation: Observation::Row(Box::new(Row { state: State::new(word), ..row() })), strays: vec![] }
    }

    #[rstest]
    #[case("RUNNING", Phase::Answered, ("RUNNING", "ready"))]
    #[case("RUNNING", Phase::Queued, ("RUNNING", "provisioning"))]
    #[case("PENDING", Phase::Queued, ("PENDING", "provisioning"))]
    #[case("RUNNING", Phase::Releasing, ("RUNNING", "deleting"))]
    #[case("SUSPENDED", Phase::Answered, ("SUSPENDED", "suspended"))]
    #[case("COMPLETING", Phase::Answered, ("COMPLETING", "deleting"))]
    #[case("EXPEDITING", Phase::Answered, ("UNKNOWN", "unknown"))]
    fn standings(#[case] word: &str, #[case] phase: Phase, #[case] expected: (&str, &str)) {
        let standing = standing(&Record { phase, ..record() }, &view(word), Now { epoch: 0, uptime: 2000 });
        assert_eq!((standing.status.as_str(), standing.state), expected);
    }

    #[test]
    fn an_end_stays_told_when_slurm_is_silent() {
        let ended = Ended { state: "TIMEOUT".into(), reason: "TimeLimit".into(), exit: None, runner: None, at: 1 };
        let silence = View { observation: Observation::Unasked("down".into()), strays: vec![] };
        let standing = standing(&Record { ended: Some(ended), ..record() }, &silence, Now { epoch: 0, uptime: 2000 });
        assert_eq!(
            (standing.status.as_str(), standing.state, standing.reason.as_str()),
            ("TIMEOUT", "failed", "TimeLimit")
        );
    }

    #[test]
    fn labels_are_safe_and_reserve_nothing() {
        let mut record = record();
        record.phase = Phase::Answered;
        let mut view = view("RUNNING");
        if let Observation::Row(row) = &mut view.observation {
            row.reason = "Nodes required, (bad) ".repeat(9);
        }
        let labels = lease(&record, &view, &standing(&record, &view, Now { epoch: 0, uptime: 2000 }), None).labels;
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

    #[test]
    fn a_proxy_command_cannot_carry_a_name_into_a_shell() {
        let endpoint = PinnedEndpoint { host: "n1".into(), port: 4022 };
        let mut record = Record { endpoint: Some(endpoint), ..record() };
        record.identity.name = "a $(touch x) b".into();
        let config = json!({"proxyCommand": "jump {name} {host}", "sshUser": "alice"});
        let settings = crate::config::parse(config.as_object().unwrap()).unwrap();
        let ssh = ssh(&record, &settings).unwrap();
        assert_eq!(ssh.proxy_command.as_deref(), Some("jump a___touch_x__b n1"));
        assert!(ssh.ssh_config_proxy && ssh.fallback_ports.is_empty());
    }
}
