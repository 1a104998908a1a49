//! What stands in `record.json`, format by format, and nothing else: these types know no configuration and decide nothing. Whoever
//! renames a field or a word here turns living leases into damaged ones; the fixtures in tests/fixtures hold every form that was
//! ever written, and a test compares.
//!
//! Format 1 is a lease whose Slurm is on this machine. Format 2 is one behind a login host, which a program of format 1 would look
//! for on its own machine, and take for gone. A record of a later format is that program's alone.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::record::{self, Denials, Origin, Record, Seating};
use super::{Identity, Nonce, SeatId};
use crate::clock::BootTime;
use crate::config::login_host;
use crate::config::proxy;
use crate::lease::cloud_id::CloudId;
use crate::slurm::job;

/// The newest format that this program reads and writes.
pub const NEWEST: u32 = 2;

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// A later program wrote it.
    Newer,
    Damaged(String),
}

/// Reads a record. Fields that are not known are passed over.
pub fn read(bytes: &[u8]) -> Result<Record, Unreadable> {
    #[derive(Deserialize)]
    struct Claim {
        format: u32,
    }
    // Nearly all are of this format; the claim of the others is looked at first.
    if let Ok(record) = serde_json::from_slice::<Format1>(bytes)
        && record.format == 1
    {
        return Ok(record.into());
    }
    let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
    match serde_json::from_slice::<Claim>(bytes).map_err(damaged)?.format {
        0 => Err(Unreadable::Damaged("it claims the format 0".to_owned())),
        1 => serde_json::from_slice::<Format1>(bytes).map(Record::from).map_err(damaged),
        2 => serde_json::from_slice::<Format2>(bytes).map(Record::from).map_err(damaged),
        _ => Err(Unreadable::Newer),
    }
}

/// A record as it is written: in the oldest format that it fits into.
///
/// # Errors
/// When a path is not UTF-8.
pub fn write(record: &Record) -> serde_json::Result<Vec<u8>> {
    let lease = Format1::from(record);
    match &record.submit {
        None => serde_json::to_vec_pretty(&lease),
        Some(submit) => {
            serde_json::to_vec_pretty(&Format2 { lease: Format1 { format: 2, ..lease }, submit: submit.into() })
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Format1 {
    format: u32,
    identity: LeaseIdentity,
    phase: Phase,
    keep: bool,
    created: i64,
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    route: Option<Route>,
    attempt: Attempt,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    given_up: Vec<Nonce>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    clusters: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    job: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    submitted: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    cloud_id: Option<CloudId>,
    server_type: String,
    shared_dir: PathBuf,
    contract: bool,
    key: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ended: Option<Ended>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    releasing: Option<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pooled: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    seat: Option<SeatId>,
}

/// `identity.json`: who a lease is, and where its job is looked for when its record is lost. That of the first release held the
/// identity alone.
#[derive(Debug, Serialize, Deserialize)]
struct IdentityFile {
    #[serde(flatten)]
    identity: LeaseIdentity,
    #[serde(default)]
    origin: OriginFields,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OriginFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    submit: Option<LoginHost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clusters: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seat: Option<SeatId>,
}

/// `identity.json` of a record.
///
/// # Errors
/// When a path is not UTF-8.
pub fn write_identity(record: &Record) -> serde_json::Result<Vec<u8>> {
    let Identity { lease_id, slug, name } = record.identity.clone();
    serde_json::to_vec(&IdentityFile {
        identity: LeaseIdentity { lease_id, slug, name },
        origin: OriginFields {
            submit: record.submit.as_ref().map(LoginHost::from),
            clusters: record.clusters.clone(),
            shared_dir: Some(record.shared_dir.clone()),
            instance: record.instance.clone(),
            seat: record.seat.clone(),
        },
    })
}

/// Reads `identity.json`; the identity is not checked.
pub fn read_identity(bytes: &[u8]) -> Option<(Identity, Origin)> {
    let IdentityFile { identity, origin } = serde_json::from_slice(bytes).ok()?;
    let LeaseIdentity { lease_id, slug, name } = identity;
    let OriginFields { submit, clusters, shared_dir, instance, seat } = origin;
    let seating = seat.map_or(Seating::None, Seating::Taken);
    let origin = Origin { submit: submit.map(login_host::LoginHost::from), clusters, shared_dir, instance, seating };
    Some((Identity { lease_id, slug, name }, origin))
}

#[derive(Debug, Serialize, Deserialize)]
struct Format2 {
    #[serde(flatten)]
    lease: Format1,
    submit: LoginHost,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeaseIdentity {
    lease_id: super::LeaseId,
    slug: String,
    name: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    Prepared,
    Submitting,
    Queued,
    Answered,
    Releasing,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    nonce: Nonce,
    sent: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sent_at: Option<Moment>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Moment {
    boot: String,
    uptime: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct JobId {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    cluster: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
enum Route {
    Login { hops: Vec<String> },
    Stdio,
}

#[derive(Debug, Serialize, Deserialize)]
struct Endpoint {
    host: String,
    port: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    state: String,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    exit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    runner: Option<String>,
    at: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoginHost {
    host: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ssh_config: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    control_path: Option<PathBuf>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    require_existing_master: bool,
}

impl From<&Record> for Format1 {
    fn from(record: &Record) -> Format1 {
        let Identity { lease_id, slug, name } = record.identity.clone();
        Format1 {
            format: 1,
            identity: LeaseIdentity { lease_id, slug, name },
            phase: record.phase.into(),
            keep: record.keep,
            created: record.created,
            uid: record.uid,
            user: record.user.clone(),
            route: record.route.as_ref().map(Route::from),
            attempt: Attempt {
                nonce: record.attempt.nonce.clone(),
                sent: record.attempt.sent,
                sent_at: record.attempt.sent_at.clone().map(|BootTime { boot, uptime }| Moment { boot, uptime }),
            },
            given_up: record.given_up.clone(),
            instance: record.instance.clone(),
            clusters: record.clusters.clone(),
            job: record.job.clone().map(|job::JobId { id, cluster }| JobId { id, cluster }),
            submitted: record.submitted,
            cloud_id: record.cloud_id.clone(),
            server_type: record.server_type.clone(),
            shared_dir: record.shared_dir.clone(),
            contract: record.contract,
            key: record.key.clone(),
            endpoint: record.endpoint.clone().map(|record::PinnedEndpoint { host, port }| Endpoint { host, port }),
            ended: record.ended.clone().map(|ended| Ended {
                state: ended.state,
                reason: ended.reason,
                exit: ended.exit,
                runner: ended.runner,
                at: ended.at,
            }),
            releasing: record.releasing,
            pooled: record.pooled,
            seat: record.seat.clone(),
        }
    }
}

impl From<Format1> for Record {
    fn from(disk: Format1) -> Record {
        let LeaseIdentity { lease_id, slug, name } = disk.identity;
        let Attempt { nonce, sent, sent_at } = disk.attempt;
        Record {
            identity: Identity { lease_id, slug, name },
            phase: disk.phase.into(),
            keep: disk.keep,
            created: disk.created,
            uid: disk.uid,
            user: disk.user,
            submit: None,
            route: disk.route.map(proxy::Route::from),
            attempt: record::Attempt {
                nonce,
                sent,
                sent_at: sent_at.map(|Moment { boot, uptime }| BootTime { boot, uptime }),
            },
            given_up: disk.given_up,
            instance: disk.instance,
            clusters: disk.clusters,
            job: disk.job.map(|JobId { id, cluster }| job::JobId { id, cluster }),
            submitted: disk.submitted,
            cloud_id: disk.cloud_id,
            server_type: disk.server_type,
            shared_dir: disk.shared_dir,
            contract: disk.contract,
            key: disk.key,
            endpoint: disk.endpoint.map(|Endpoint { host, port }| record::PinnedEndpoint { host, port }),
            denied: Denials::default(),
            ended: disk.ended.map(|ended| record::Ended {
                state: ended.state,
                reason: ended.reason,
                exit: ended.exit,
                runner: ended.runner,
                at: ended.at,
            }),
            releasing: disk.releasing,
            pooled: disk.pooled,
            seat: disk.seat,
        }
    }
}

impl From<Format2> for Record {
    fn from(Format2 { lease, submit }: Format2) -> Record {
        Record { submit: Some(submit.into()), ..Record::from(lease) }
    }
}

impl From<record::Phase> for Phase {
    fn from(phase: record::Phase) -> Phase {
        match phase {
            record::Phase::Prepared => Phase::Prepared,
            record::Phase::Submitting => Phase::Submitting,
            record::Phase::Queued => Phase::Queued,
            record::Phase::Answered => Phase::Answered,
            record::Phase::Releasing => Phase::Releasing,
        }
    }
}

impl From<Phase> for record::Phase {
    fn from(phase: Phase) -> record::Phase {
        match phase {
            Phase::Prepared => record::Phase::Prepared,
            Phase::Submitting => record::Phase::Submitting,
            Phase::Queued => record::Phase::Queued,
            Phase::Answered => record::Phase::Answered,
            Phase::Releasing => record::Phase::Releasing,
        }
    }
}

impl From<&proxy::Route> for Route {
    fn from(route: &proxy::Route) -> Route {
        match route.clone() {
            proxy::Route::Login { hops } => Route::Login { hops },
            proxy::Route::Stdio => Route::Stdio,
        }
    }
}

impl From<Route> for proxy::Route {
    fn from(route: Route) -> proxy::Route {
        match route {
            Route::Login { hops } => proxy::Route::Login { hops },
            Route::Stdio => proxy::Route::Stdio,
        }
    }
}

impl From<&login_host::LoginHost> for LoginHost {
    fn from(host: &login_host::LoginHost) -> LoginHost {
        let login_host::LoginHost { host, user, ssh_config, control_path, require_existing_master } = host.clone();
        LoginHost { host, user, ssh_config, control_path, require_existing_master }
    }
}

impl From<LoginHost> for login_host::LoginHost {
    fn from(host: LoginHost) -> login_host::LoginHost {
        let LoginHost { host, user, ssh_config, control_path, require_existing_master } = host;
        login_host::LoginHost { host, user, ssh_config, control_path, require_existing_master }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;
    use rstest::rstest;
    use serde_json::Value;

    /// Everything that a record can hold, in fields of their own.
    fn full() -> Record {
        Record {
            phase: record::Phase::Releasing,
            keep: true,
            user: Some("alice".into()),
            attempt: record::Attempt {
                sent_at: Some(BootTime { boot: "7b1b1c4e-0000-4000-8000-000000000001".into(), uptime: 77 }),
                ..record().attempt
            },
            given_up: vec![Nonce::parse("ffeeddccbbaa0011").unwrap()],
            clusters: Some("annex".into()),
            job: Some(job::JobId { id: 7, cluster: Some("annex".into()) }),
            cloud_id: CloudId::parse("slurm/job/7;annex"),
            endpoint: Some(record::PinnedEndpoint { host: "n1".into(), port: 20022 }),
            ended: Some(record::Ended {
                state: "TIMEOUT".into(),
                reason: "TimeLimit".into(),
                exit: Some("0:15".into()),
                runner: Some("wall-time".into()),
                at: 1900,
            }),
            releasing: Some(2000),
            ..record()
        }
    }

    fn first() -> Record {
        Record { instance: None, ..record() }
    }

    fn behind_a_login_host() -> Record {
        let submit = login_host::LoginHost {
            host: "login".into(),
            user: Some("alice".into()),
            ssh_config: Some("/home/alice/.ssh/site".into()),
            control_path: Some("/run/m".into()),
            require_existing_master: true,
        };
        Record { submit: Some(submit), ..full() }
    }

    fn with_hops() -> Record {
        Record { route: Some(proxy::Route::Login { hops: vec!["gate".into(), "login".into()] }), ..full() }
    }

    fn without_a_listener() -> Record {
        Record { route: Some(proxy::Route::Stdio), ..behind_a_login_host() }
    }

    /// Every form that was ever written is read; what is written today is, field by field, what stands in the fixture.
    #[rstest]
    #[case::first_release(include_str!("../../tests/fixtures/record-1.json"), first())]
    #[case::everything(include_str!("../../tests/fixtures/record-1-full.json"), full())]
    #[case::hops(include_str!("../../tests/fixtures/record-1-hops.json"), with_hops())]
    #[case::login_host(include_str!("../../tests/fixtures/record-2.json"), behind_a_login_host())]
    #[case::stdio(include_str!("../../tests/fixtures/record-2-stdio.json"), without_a_listener())]
    fn records_on_disk(#[case] text: &str, #[case] record: Record) {
        assert_eq!(read(text.as_bytes()), Ok(record.clone()));
        let written: Value = serde_json::from_slice(&write(&record).unwrap()).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn every_phase_has_its_word() {
        use record::Phase::{Answered, Prepared, Queued, Releasing, Submitting};
        let words = [Prepared, Submitting, Queued, Answered, Releasing].map(|phase| {
            let written: Value = serde_json::from_slice(&write(&Record { phase, ..record() }).unwrap()).unwrap();
            written["phase"].as_str().unwrap().to_owned()
        });
        assert_eq!(words, ["prepared", "submitting", "queued", "answered", "releasing"]);
    }

    #[rstest]
    #[case::later(r#"{"format": 3, "phase": "hibernating"}"#, true)]
    #[case::later_and_readable(&include_str!("../../tests/fixtures/record-1.json").replace("\"format\": 1", "\"format\": 99"), true)]
    #[case::none(r#"{"format": 0}"#, false)]
    #[case::nothing("", false)]
    #[case::cut(r#"{"format": 1, "identity""#, false)]
    #[case::login_host_lost(&include_str!("../../tests/fixtures/record-1.json").replace("\"format\": 1", "\"format\": 2"), false)]
    fn what_is_no_record_of_ours(#[case] text: &str, #[case] newer: bool) {
        assert_eq!(read(text.as_bytes()).map_err(|why| why == Unreadable::Newer), Err(newer));
    }
}
