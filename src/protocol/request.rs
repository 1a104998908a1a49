//! Requests, read once into owned types that allow what the client sends and nothing more: absent and null mean empty
//! or false, unknown fields are ignored. What an operation needs of them it validates itself.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Map, Value};

use super::{MAX_BYTES, VERSION, shown};
use crate::failure::{Failure, Kind};

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
}
