//! The external-provider protocol, version 1: one JSON request in, one JSON answer out.
//!
//! Requests are read once into owned types that allow everything the client sends (absent means empty or false,
//! unknown fields are ignored) and nothing more; what an operation needs of them it validates itself. Answers keep
//! the client's rules by construction: `port` is a string, `fallbackPorts` is always there, an answer is at most
//! [`MAX_BYTES`] long (protocol.md sections 1 and 2).

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::failure::{Failure, Kind};

/// The one version that is spoken.
pub const VERSION: u64 = 1;

/// The client kills an adapter whose output is longer (protocol.md 2.1); requests are held to the same bound.
pub const MAX_BYTES: usize = 1_048_576;

/// The seven operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Doctor,
    Acquire,
    Resolve,
    List,
    Release,
    Touch,
    Cleanup,
}

impl Operation {
    fn parse(word: &str) -> Option<Operation> {
        Some(match word {
            "doctor" => Operation::Doctor,
            "acquire" => Operation::Acquire,
            "resolve" => Operation::Resolve,
            "list" => Operation::List,
            "release" => Operation::Release,
            "touch" => Operation::Touch,
            "cleanup" => Operation::Cleanup,
            _ => return None,
        })
    }
}

/// The identity that a client wants or has.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    pub lease_id: String,
    pub slug: String,
    pub name: String,
}

/// What the caller believes of a lease; a constraint, never a way to find one.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    pub lease_id: String,
    pub attempt_lease_id: String,
    pub slug: String,
    pub cloud_id: String,
}

/// The lease as the client sends it back.
#[derive(Debug, Clone, Default)]
pub struct SentLease {
    pub lease_id: String,
    pub slug: String,
    pub name: String,
    pub cloud_id: String,
    pub labels: BTreeMap<String, String>,
}

/// A request whose version and verb were checked.
#[derive(Debug, Clone)]
pub struct Request {
    pub operation: Operation,
    pub config: Map<String, Value>,
    pub desired: Option<Desired>,
    pub lease: Option<SentLease>,
    pub expected: Option<Expected>,
    pub id: String,
    pub state: String,
    pub keep: bool,
    pub release_only: bool,
    pub dry_run: bool,
}

impl Request {
    /// A request of this operation with nothing else said.
    pub fn new(operation: Operation) -> Request {
        Request {
            operation,
            config: Map::new(),
            desired: None,
            lease: None,
            expected: None,
            id: String::new(),
            state: String::new(),
            keep: false,
            release_only: false,
            dry_run: false,
        }
    }
}

/// The fields of an object of the request; its path names them in messages.
struct Fields<'a> {
    path: &'a str,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// A field that is there and not null, as `read` takes it.
    fn field<T>(&self, name: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, Failure> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| {
                let what = format!("field \"{}{name}\" is {}; {wanted} is expected", self.path, shown(value));
                Failure::new(Kind::BadRequest, what)
            }),
        }
    }

    fn text(&self, name: &str) -> Result<String, Failure> {
        Ok(self.field(name, "a string", Value::as_str)?.unwrap_or_default().to_owned())
    }

    fn flag(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.field(name, "true or false", Value::as_bool)?.unwrap_or_default())
    }

    fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, Failure> {
        self.field(name, "an object", Value::as_object)
    }

    fn read(object: &'a Map<String, Value>, operation: Operation) -> Result<Request, Failure> {
        let top = Fields { path: "", object };
        let desired = top.object("desired")?.map(|object| Fields { path: "desired.", object });
        let expected = top.object("expected")?.map(|object| Fields { path: "expected.", object });
        let lease = top.object("lease")?.map(|object| Fields { path: "lease.", object });
        Ok(Request {
            operation,
            config: top.object("config")?.cloned().unwrap_or_default(),
            desired: desired.map(|fields| fields.desired()).transpose()?,
            lease: lease.map(|fields| fields.sent_lease()).transpose()?,
            expected: expected.map(|fields| fields.expected()).transpose()?,
            id: top.text("id")?,
            state: top.text("state")?,
            keep: top.flag("keep")?,
            release_only: top.flag("releaseOnly")?,
            dry_run: top.flag("dryRun")?,
        })
    }

    fn desired(&self) -> Result<Desired, Failure> {
        Ok(Desired { lease_id: self.text("leaseId")?, slug: self.text("slug")?, name: self.text("name")? })
    }

    fn expected(&self) -> Result<Expected, Failure> {
        Ok(Expected {
            lease_id: self.text("leaseId")?,
            attempt_lease_id: self.text("attemptLeaseId")?,
            slug: self.text("slug")?,
            cloud_id: self.text("cloudId")?,
        })
    }

    fn sent_lease(&self) -> Result<SentLease, Failure> {
        let mut labels = BTreeMap::new();
        if let Some(object) = self.object("labels")? {
            let fields = Fields { path: "lease.labels.", object };
            for name in object.keys() {
                labels.insert(name.clone(), fields.text(name)?);
            }
        }
        Ok(SentLease {
            lease_id: self.text("leaseId")?,
            slug: self.text("slug")?,
            name: self.text("name")?,
            cloud_id: self.text("cloudId")?,
            labels,
        })
    }
}

/// Reads one request; more than [`MAX_BYTES`], a second value or text around it is refused.
pub fn read(input: impl Read) -> Result<Request, Failure> {
    let bad = |what: String| Failure::new(Kind::BadRequest, what);
    let mut bytes = Vec::new();
    input
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| bad("reading the request from stdin".into()).cause(e.to_string()))?;
    if bytes.len() > MAX_BYTES {
        return Err(bad(format!("request is longer than {MAX_BYTES} bytes")));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(bad("request is empty: one JSON object is expected on stdin".into())
            .remedy("send a request, or see `slurm-sandbox --help` for the verbs of the command line"));
    }
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|e| bad("request is not one JSON value".into()).cause(e.to_string()))?;
    let object = value.as_object().ok_or_else(|| bad("request is not a JSON object".into()))?;
    match value.get("protocolVersion") {
        Some(version) if version.as_f64() == Some(VERSION as f64) => {}
        Some(version) => {
            return Err(bad(format!("protocolVersion {} is not supported, only {VERSION}", shown(version))));
        }
        None => return Err(bad(format!("protocolVersion is missing; {VERSION} is expected"))),
    }
    let verbs = "doctor, acquire, resolve, list, release, touch or cleanup";
    let operation = match value.get("operation") {
        Some(Value::String(word)) => Operation::parse(word)
            .ok_or_else(|| bad(format!("operation {} is unknown; it is one of {verbs}", shown(&value["operation"]))))?,
        Some(other) => {
            return Err(bad(format!("operation {} is not a string; it is one of {verbs}", shown(other))));
        }
        None => return Err(bad(format!("operation is missing; it is one of {verbs}"))),
    };
    Fields::read(object, operation)
}

/// A value in a message: its JSON, cut to a length that fits a line.
pub fn shown(value: &Value) -> String {
    const SHOWN_CHARS: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// How to reach a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ssh {
    pub user: String,
    pub host: String,
    pub key: String,
    /// Decimal, 1 to 65535; the client decodes only a string.
    pub port: String,
    /// Always empty: without the field the client tries port 22, the node's own sshd, outside the allocation.
    pub fallback_ports: [String; 0],
    pub ready_check: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proxy_command: Option<String>,
    /// True with a proxy command: the client then makes no TCP probe of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub ssh_config_proxy: bool,
}

/// A lease in an answer; the first four fields are the complete raw identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    pub lease_id: String,
    pub slug: String,
    pub name: String,
    pub cloud_id: String,
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_type: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh>,
}

/// What an operation answers when it did not fail.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases: Option<Vec<Lease>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// doctor's table, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<Check>>,
}

/// One check of doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    pub name: String,
    pub status: CheckStatus,
    /// What was seen.
    pub seen: String,
    /// What to do; empty when the check is green.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// The colour of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    Ok,
    Warning,
    Red,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Success<'a> {
    protocol_version: u64,
    #[serde(flatten)]
    answer: &'a Answer,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refusal<'a> {
    protocol_version: u64,
    error: String,
    code: &'a str,
    category: &'a str,
    retry_safe: bool,
    remedy: &'a str,
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
            let mut small = answer.clone();
            for row in small.leases.iter_mut().flatten() {
                row.server_type.clear();
                row.labels.clear();
                row.ssh = None;
            }
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
    use rstest::rstest;

    #[rstest]
    #[case("", "request is empty")]
    #[case("nonsense", "not one JSON value")]
    #[case("[1]", "not a JSON object")]
    #[case(r#"{"operation":"list"}"#, "protocolVersion is missing")]
    #[case(r#"{"protocolVersion":2,"operation":"list"}"#, "protocolVersion 2 is not supported")]
    #[case(r#"{"protocolVersion":"1","operation":"list"}"#, r#"protocolVersion "1" is not supported"#)]
    #[case(r#"{"protocolVersion":1}"#, "operation is missing")]
    #[case(r#"{"protocolVersion":1,"operation":"nuke"}"#, r#"operation "nuke" is unknown"#)]
    #[case(r#"{"protocolVersion":1,"operation":7}"#, "operation 7 is not a string")]
    #[case(r#"{"protocolVersion":1,"operation":"list","config":[]}"#, "field \"config\" is []; an object is expected")]
    #[case(r#"{"protocolVersion":1,"operation":"list"} {}"#, "not one JSON value")]
    #[case(
        r#"{"protocolVersion":1,"operation":"acquire","desired":{"leaseId":5}}"#,
        "field \"desired.leaseId\" is 5; a string is expected"
    )]
    #[case(r#"{"protocolVersion":1,"operation":"touch","lease":{"labels":{"a":1}}}"#, "field \"lease.labels.a\" is 1")]
    fn refuses(#[case] text: &str, #[case] expected: &str) {
        let failure = read(text.as_bytes()).unwrap_err();
        assert_eq!(failure.kind, Kind::BadRequest);
        assert!(failure.to_string().contains(expected), "{failure}");
    }

    #[test]
    fn refuses_what_is_too_large_or_too_deep() {
        let large = format!(r#"{{"protocolVersion":1,"operation":"list","id":"{}"}}"#, "x".repeat(MAX_BYTES));
        assert!(read(large.as_bytes()).unwrap_err().to_string().contains("longer than"));
        let deep = format!(r#"{{"protocolVersion":1,"operation":"list","config":{}"#, "[".repeat(100_000));
        assert!(read(deep.as_bytes()).unwrap_err().to_string().contains("recursion"));
    }

    #[test]
    fn reads_what_the_client_sends() {
        let text = r#"{"protocolVersion":1,"operation":"resolve","config":{"cpus":2},"desired":{"leaseId":"a","slug":"b\"c","name":"n"},"id":"x","releaseOnly":true,"repo":{"root":"/r"},"reclaim":true}"#;
        let request = read(text.as_bytes()).unwrap();
        assert_eq!(request.operation, Operation::Resolve);
        assert!(request.release_only && !request.keep);
        assert_eq!(request.desired.unwrap().slug, "b\"c");
    }

    fn lease(n: usize) -> Lease {
        Lease {
            lease_id: format!("cbx_{n:012x}"),
            slug: "golden-crab".into(),
            name: "crabbox-golden-crab-0011aabb".into(),
            cloud_id: format!("slurm/job/{n}"),
            status: "RUNNING".into(),
            server_type: "batch 2c/4G".into(),
            labels: [("slurmState".to_owned(), "RUNNING".to_owned())].into(),
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
