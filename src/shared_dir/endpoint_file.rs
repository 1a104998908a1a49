//! The endpoint file: what a runner publishes, and what is believed of it.
//!
//! Code in the sandbox can rewrite the file, so of all it says only a port number and, the first time, host keys are
//! taken. The host comes from Slurm or the site's template; user, proxy and ready check from the request's
//! configuration (docs/design.md, promise 6).

use serde_json::Value;

use crate::config::EndpointHost;
use crate::config::value::is_host;
use crate::lease::Nonce;
use crate::ssh::public_key::host_key;

/// Name of the file in the attempt's directory.
pub const FILE: &str = "endpoint.json";

/// A published endpoint is some hundred bytes long.
pub const MAX_BYTES: u64 = 64 * 1024;

/// More than a runner has key types.
const MOST_HOST_KEYS: usize = 4;

/// What a runner published, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The runner's own idea of its host; used only where the site says so.
    pub host: String,
    pub port: u16,
    /// `type base64` each; empty for a runner of the reference adapter's contract.
    pub host_keys: Vec<String>,
}

/// Reads an endpoint file; the error says what about it was refused.
pub fn parse(bytes: &[u8], nonce: &Nonce) -> Result<Published, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON ({error})"))?;
    let object = value.as_object().ok_or("it is not a JSON object")?;
    match object.get("nonce") {
        None => {}
        Some(Value::String(text)) if text == nonce.as_str() => {}
        Some(other) => {
            return Err(format!("its nonce {} is not this attempt's", crate::protocol::shown(other)));
        }
    }
    let port = match object.get("port") {
        Some(Value::String(text)) => text.parse().ok(),
        Some(Value::Number(number)) => number.as_u64().and_then(|port| u16::try_from(port).ok()),
        _ => None,
    };
    let port = port.filter(|port| *port > 0).ok_or_else(|| match object.get("port") {
        Some(other) => format!("its port {} is not a number from 1 to 65535", crate::protocol::shown(other)),
        None => "it has no port".to_owned(),
    })?;
    let host = object.get("host").and_then(Value::as_str).filter(|host| is_host(host)).unwrap_or_default().to_owned();
    let host_keys = match object.get("hostKeys") {
        None => Vec::new(),
        Some(Value::Array(keys)) if !keys.is_empty() && keys.len() <= MOST_HOST_KEYS => {
            let keys: Option<Vec<_>> = keys.iter().map(|key| key.as_str().and_then(host_key)).collect();
            keys.ok_or("one of its host keys is none")?
        }
        Some(_) => return Err(format!("its host keys are not 1 to {MOST_HOST_KEYS} strings")),
    };
    Ok(Published { host, port, host_keys })
}

/// The host name for the client: from Slurm's batch host, or from the runner where the site allows its names.
pub fn host(rule: &EndpointHost, node: &str, published: &Published) -> Result<String, String> {
    match rule {
        EndpointHost::Template(template) => {
            let host = template.replace("{node}", node);
            if !node.is_empty() && is_host(&host) {
                Ok(host)
            } else {
                Err(format!("Slurm names {node:?} as the batch host"))
            }
        }
        EndpointHost::Runner { pattern } => {
            let host = &published.host;
            if is_host(host) && matches(pattern, host) {
                Ok(host.clone())
            } else {
                Err(format!("the runner's host {host:?} does not match endpointHost's pattern {pattern:?}"))
            }
        }
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any characters.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    // Each piece where it first occurs: what fits later fits then too.
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBoW8fvCV1hVX5Ei4Pq8eW5oS9mZ0m6vL1o4v1s8Q2bT";

    fn read(text: &str) -> Result<Published, String> {
        parse(text.as_bytes(), &Nonce::parse("00112233445566ff").unwrap())
    }

    #[test]
    fn ours_and_the_reference_adapters_are_read() {
        let ours = format!(
            r#"{{"format":1,"nonce":"00112233445566ff","host":"n1","port":"4022","hostKeys":["{KEY} c"],"proxyCommand":"evil"}}"#
        );
        assert_eq!(read(&ours), Ok(Published { host: "n1".into(), port: 4022, host_keys: vec![KEY.into()] }));
        let theirs = r#"{"host":"n1.example","port":"39022","user":"alice","readyCheck":"true"}"#;
        assert_eq!(read(theirs), Ok(Published { host: "n1.example".into(), port: 39022, host_keys: vec![] }));
    }

    #[rstest]
    #[case("", "not JSON")]
    #[case("{\"port\":", "not JSON")]
    #[case("[]", "not a JSON object")]
    #[case("{}", "no port")]
    #[case(r#"{"port":"0"}"#, "1 to 65535")]
    #[case(r#"{"port":"22; rm"}"#, "1 to 65535")]
    #[case(r#"{"port":70000}"#, "1 to 65535")]
    #[case(r#"{"port":1,"nonce":"ffffffffffffffff"}"#, "not this attempt's")]
    #[case(r#"{"port":1,"hostKeys":["ssh-ed25519 a b\n@cert-authority *"]}"#, "host keys is none")]
    #[case(r#"{"port":1,"hostKeys":[]}"#, "host keys are not")]
    #[case(r#"{"port":1,"hostKeys":"x"}"#, "host keys are not")]
    fn refusals(#[case] text: &str, #[case] expected: &str) {
        assert!(read(text).unwrap_err().contains(expected));
    }

    #[rstest]
    #[case("{node}", "n1", "", Some("n1"))]
    #[case("{node}-ib.example", "n1", "", Some("n1-ib.example"))]
    #[case("{node}", "", "", None)]
    #[case("{node}", "-oX", "", None)]
    #[case("runner:*", "n1", "gw.example", Some("gw.example"))]
    #[case("runner:*.example", "n1", "gw.example", Some("gw.example"))]
    #[case("runner:*.example", "n1", "gw.evil", None)]
    #[case("runner:*", "n1", "", None)]
    #[case("runner:gw*.b*.example", "n1", "gw1.b2.example", Some("gw1.b2.example"))]
    #[case("runner:a*a", "n1", "a", None)]
    #[case("runner:*a*a*a*a*a*a*a*a*ab", "n1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", None)]
    fn hosts(#[case] rule: &str, #[case] node: &str, #[case] published: &str, #[case] expected: Option<&str>) {
        let rule = match rule.strip_prefix("runner:") {
            Some(pattern) => EndpointHost::Runner { pattern: pattern.into() },
            None => EndpointHost::Template(rule.into()),
        };
        let published = Published { host: published.into(), port: 1, host_keys: vec![] };
        assert_eq!(host(&rule, node, &published).ok().as_deref(), expected);
    }
}
