//! Requests, read once into owned types that allow what the client sends and nothing more: absent and null mean empty
//! or false, unknown fields are ignored. What an operation needs of them it validates itself.

use std::collections::BTreeMap;
use std::io::Read;

use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::{MAX_BYTES, VERSION, shown};
use crate::failure::{Failure, Kind};

/// The seven operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
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
    /// All of them, with their words.
    pub const ALL: [(&'static str, Operation); 7] = [
        ("doctor", Operation::Doctor),
        ("acquire", Operation::Acquire),
        ("resolve", Operation::Resolve),
        ("list", Operation::List),
        ("release", Operation::Release),
        ("touch", Operation::Touch),
        ("cleanup", Operation::Cleanup),
    ];

    fn parse(word: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|(known, _)| *known == word).map(|(_, operation)| operation)
    }
}

/// The identity that a client wants or has.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub struct Desired {
    #[schemars(with = "Option<String>")]
    pub lease_id: String,
    #[schemars(with = "Option<String>")]
    pub slug: String,
    #[schemars(with = "Option<String>")]
    pub name: String,
}

/// What the caller believes of a lease; a constraint, never a way to find one.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub struct Expected {
    #[schemars(with = "Option<String>")]
    pub lease_id: String,
    #[schemars(with = "Option<String>")]
    pub attempt_lease_id: String,
    #[schemars(with = "Option<String>")]
    pub slug: String,
    #[schemars(with = "Option<String>")]
    pub cloud_id: String,
}

/// Labels as they are read: a null one is empty.
type Labels = Option<BTreeMap<String, Option<String>>>;

/// The lease as the client sends it back.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub struct SentLease {
    #[schemars(with = "Option<String>")]
    pub lease_id: String,
    #[schemars(with = "Option<String>")]
    pub slug: String,
    #[schemars(with = "Option<String>")]
    pub name: String,
    #[schemars(with = "Option<String>")]
    pub cloud_id: String,
    #[schemars(with = "Labels")]
    pub labels: BTreeMap<String, String>,
}

/// A request whose version and verb were checked.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub struct Request {
    pub operation: Operation,
    pub config: Map<String, Value>,
    pub desired: Option<Desired>,
    pub lease: Option<SentLease>,
    pub expected: Option<Expected>,
    /// The word by which a resolve finds its lease.
    #[schemars(with = "Option<String>")]
    pub id: String,
    /// What the client does with the lease that it touches.
    #[schemars(with = "Option<String>")]
    pub state: String,
    /// Whether the job stays when an acquire has waited in vain.
    #[schemars(with = "Option<bool>")]
    pub keep: bool,
    /// Whether a resolve only tells the identity.
    #[schemars(with = "Option<bool>")]
    pub release_only: bool,
    /// Whether a cleanup only says what it would do.
    #[schemars(with = "Option<bool>")]
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

/// Finds the end of the first JSON value in bytes that come piece by piece.
#[derive(Debug, Default)]
struct End {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl End {
    /// Whether the value ends, or cannot be one that we take, within the next bytes. Only an object or an array has an end
    /// of its own; they alone are waited for.
    fn is_in(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' if self.depth > 0 => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.depth == 0 && !byte.is_ascii_whitespace() {
                return true;
            }
        }
        false
    }
}

/// Reads the bytes of one value. A client may keep its end open, so the end of the value counts, not that of the input.
fn value(mut input: impl Read) -> std::io::Result<Vec<u8>> {
    let (mut bytes, mut end) = (Vec::new(), End::default());
    let mut buffer = [0; 65536];
    while bytes.len() <= MAX_BYTES {
        let count = match input.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = buffer.get(..count).unwrap_or_default();
        bytes.extend_from_slice(piece);
        if count == 0 || end.is_in(piece) {
            break;
        }
    }
    Ok(bytes)
}

/// Reads one request; more than [`MAX_BYTES`] is refused, and so is text around the value that comes together with it.
pub fn read(input: impl Read) -> Result<Request, Failure> {
    let bad = |what: String| Failure::new(Kind::BadRequest, what);
    let bytes = value(input).map_err(|e| bad("reading the request from stdin".into()).cause(e.to_string()))?;
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

    /// A client that writes piece by piece and keeps its end open.
    struct Open<'a>(std::slice::Iter<'a, &'static str>);

    impl Read for Open<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let piece = self.0.next().expect("nothing is read beyond the value").as_bytes();
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[rstest]
    #[case::whole(&["{\"protocolVersion\":1,\"operation\":\"list\"}\n"], None)]
    #[case::in_pieces(&[" \n", "{\"protocolVersion\":1,\"id\":\"}\\", "\"]\",\"config\":{},", "\"operation\":\"list\"}"], None)]
    #[case::trailing(&["{\"protocolVersion\":1,\"operation\":\"list\"}x"], Some("trailing"))]
    #[case::no_object(&["nonsense"], Some("not one JSON value"))]
    #[case::closed_too_often(&["}"], Some("not one JSON value"))]
    #[case::bom(&["\u{feff}{"], Some("not one JSON value"))]
    fn the_end_of_the_value_is_enough(#[case] pieces: &[&'static str], #[case] problem: Option<&str>) {
        let result = read(Open(pieces.iter()));
        match problem {
            None => assert_eq!(result.unwrap().operation, Operation::List),
            Some(expected) => assert!(result.unwrap_err().to_string().contains(expected)),
        }
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
