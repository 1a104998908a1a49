//! Answers, which keep the client's rules by construction: `port` is a string, `fallbackPorts` is always there, and an
//! answer is at most [`MAX_BYTES`] long.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_BYTES, VERSION};
use crate::failure::{Failure, Kind, Row};

/// How to reach a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ssh {
    pub user: String,
    pub host: String,
    pub key: String,
    /// Decimal, 1 to 65535; the client decodes only a string.
    #[schemars(extend("pattern" = "^[1-9][0-9]{0,4}$"))]
    pub port: String,
    /// Always empty: without the field the client tries port 22, the node's own sshd, outside the allocation.
    pub fallback_ports: [String; 0],
    pub ready_check: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_command: Option<String>,
    /// True with a proxy command: the client then makes no TCP probe of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ssh_config_proxy: bool,
}

/// A lease in an answer; the first four fields are the complete raw identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    #[schemars(extend("pattern" = "^cbx_[0-9a-f]{12}$"))]
    pub lease_id: String,
    #[schemars(length(max = 128), extend("pattern" = "^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$"))]
    pub slug: String,
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    #[schemars(extend("pattern" = "^slurm/"))]
    pub cloud_id: String,
    /// Slurm's word for the job's state, or one of this program's.
    #[schemars(length(min = 1))]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_type: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("additionalProperties" = label()))]
    pub labels: BTreeMap<Cow<'static, str>, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh>,
}

/// The form of a label's value, which the client would otherwise change (docs/facts/client.md, "Labels and touch").
fn label() -> serde_json::Value {
    serde_json::json!({"type": "string", "pattern": "^[A-Za-z0-9_.-]{0,63}$"})
}

impl Lease {
    /// Its identity and state alone.
    fn bare(&self) -> Lease {
        Lease {
            lease_id: self.lease_id.clone(),
            slug: self.slug.clone(),
            name: self.name.clone(),
            cloud_id: self.cloud_id.clone(),
            status: self.status.clone(),
            server_type: String::new(),
            labels: BTreeMap::new(),
            ssh: None,
        }
    }
}

/// What an operation answers when it did not fail.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases: Option<Vec<Lease>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether the lease is nobody's unless this answer is delivered.
    #[serde(skip)]
    pub unowned: bool,
    /// doctor's table, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<Check>>,
}

/// One check of doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    pub name: String,
    pub status: CheckStatus,
    /// What was seen.
    pub seen: String,
    /// What to do; empty when the check is green.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// When it was looked at, where this is an earlier result: RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<String>,
}

/// The colour of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    Ok,
    Warning,
    Red,
}

/// What was asked for is done.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Success<'a> {
    #[schemars(extend("const" = VERSION))]
    protocol_version: u64,
    #[serde(flatten)]
    answer: &'a Answer,
}

/// It is not done, and why.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refusal<'a> {
    #[schemars(extend("const" = VERSION))]
    protocol_version: u64,
    /// For people: what happened, what to do, and last what the tool said.
    error: String,
    #[schemars(extend("enum" = column(|row| row.code)))]
    code: &'a str,
    #[schemars(extend("enum" = column(|row| row.category)))]
    category: &'a str,
    /// Whether the same call may be repeated as it is.
    retry_safe: bool,
    /// What to do.
    remedy: &'a str,
}

/// All words that stand in one column of the table of failures.
fn column(of: fn(Row) -> &'static str) -> BTreeSet<&'static str> {
    Kind::ALL.iter().map(|kind| of(kind.row())).collect()
}

/// The answer's bytes, one line. A list that is too long first loses labels, ssh and server types; what still does
/// not fit is refused, since a shortened list would read as proof that the missing leases are gone.
pub fn render(result: &Result<Answer, Failure>) -> Vec<u8> {
    let failure = match result {
        Ok(answer) => {
            let full = line(&Success { protocol_version: VERSION, answer });
            if full.len() <= MAX_BYTES {
                return full;
            }
            let leases = answer.leases.as_ref().map(|rows| rows.iter().map(Lease::bare).collect());
            let (lease, message, checks) = (answer.lease.clone(), answer.message.clone(), answer.checks.clone());
            let small = Answer { lease, leases, message, unowned: answer.unowned, checks };
            let shrunk = line(&Success { protocol_version: VERSION, answer: &small });
            if shrunk.len() <= MAX_BYTES {
                return shrunk;
            }
            &Failure::new(Kind::LimitReached, format!("the answer is longer than the client's {MAX_BYTES} bytes"))
                .remedy("run `slurm-sandbox cleanup`, or give leases of other projects another --state-dir")
        }
        Err(failure) => failure,
    };
    let row = failure.kind.row();
    line(&Refusal {
        protocol_version: VERSION,
        error: failure.to_string(),
        code: row.code,
        category: row.category,
        retry_safe: row.retry_safe,
        remedy: failure.remedy_text(),
    })
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // These types have string keys and no maps with other keys, so serde_json cannot fail on them.
    let mut bytes = serde_json::to_vec(value).unwrap_or_else(|_| br#"{"error":"answer cannot be written"}"#.to_vec());
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn lease(n: usize) -> Lease {
        Lease {
            lease_id: format!("cbx_{n:012x}"),
            slug: "golden-crab".into(),
            name: "crabbox-golden-crab-0011aabb".into(),
            cloud_id: format!("slurm/job/{n}"),
            status: "RUNNING".into(),
            server_type: "batch 2c/4G".into(),
            labels: [("slurmState".into(), "RUNNING".to_owned())].into(),
            ssh: Some(Ssh {
                user: "alice".into(),
                host: "n1".into(),
                key: "/home/alice/key".into(),
                port: "2222".into(),
                fallback_ports: [],
                ready_check: "true".repeat(50),
                proxy_command: None,
                ssh_config_proxy: false,
            }),
        }
    }

    #[test]
    fn whole_answer_of_one_lease() {
        let answer = Answer { lease: Some(lease(1)), ..Answer::default() };
        let mut expected = lease(1);
        expected.ssh.as_mut().unwrap().ready_check = "true".into();
        let answer = Answer { lease: Some(expected), ..answer };
        assert_eq!(
            String::from_utf8(render(&Ok(answer))).unwrap(),
            r#"{"protocolVersion":1,"lease":{"leaseId":"cbx_000000000001","slug":"golden-crab","name":"crabbox-golden-crab-0011aabb","cloudId":"slurm/job/1","status":"RUNNING","serverType":"batch 2c/4G","labels":{"slurmState":"RUNNING"},"ssh":{"user":"alice","host":"n1","key":"/home/alice/key","port":"2222","fallbackPorts":[],"readyCheck":"true"}}}
"#
            .trim_start()
        );
    }

    #[test]
    fn five_thousand_leases_fit_by_shrinking_and_none_is_dropped() {
        let answer = Answer { leases: Some((0..5000).map(lease).collect()), ..Answer::default() };
        let bytes = render(&Ok(answer));
        assert!(bytes.len() <= MAX_BYTES);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["leases"].as_array().unwrap().len(), 5000);
        assert_eq!(value["leases"][4999]["status"], "RUNNING");
    }

    #[test]
    fn an_empty_list_is_an_array_and_an_error_has_its_row() {
        let empty = Answer { leases: Some(vec![]), ..Answer::default() };
        assert_eq!(render(&Ok(empty)), b"{\"protocolVersion\":1,\"leases\":[]}\n");
        let text = String::from_utf8(render(&Err(Failure::new(Kind::Busy, "lease is busy")))).unwrap();
        assert_eq!(
            text,
            "{\"protocolVersion\":1,\"error\":\"lease is busy; repeat the call in a moment\",\"code\":\"busy\",\
             \"category\":\"provider\",\"retrySafe\":true,\"remedy\":\"repeat the call in a moment\"}\n"
        );
    }
}
