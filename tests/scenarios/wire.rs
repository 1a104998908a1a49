//! What the client sees of a call, and the rules that every answer keeps (docs/facts/client.md, "Answers").

use std::time::Duration;

use serde_json::Value;

use super::process::Output;

/// The answer to one request.
#[derive(Debug, Clone)]
pub struct Reply {
    pub value: Value,
    pub stderr: String,
    pub took: Duration,
}

/// An answer that is an error.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub text: String,
    pub code: String,
    pub remedy: String,
    pub retry_safe: bool,
    pub took: Duration,
}

const MOST_BYTES: usize = 1_048_576;
const RESERVED_LABELS: [&str; 5] = ["lease", "slug", "name", "externalResourceName", "externalResourceNameFromEnv"];

impl Reply {
    /// Reads the output of one protocol call; whatever it did, these rules hold.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "shown when the test fails later, for what the answer has led to")]
    pub fn read(output: &Output) -> Reply {
        let Output { code, stdout, stderr, took } = output;
        let shown = format!("stdout: {}\nstderr: {}", head(stdout), head(stderr));
        println!("{shown}");
        assert_eq!(*code, 0, "a protocol call exits with 0\n{shown}");
        assert!(stdout.len() <= MOST_BYTES && stderr.len() <= MOST_BYTES, "longer than 1 MiB");
        assert!(stdout.ends_with('\n') && stdout.matches('\n').count() == 1, "not exactly one line\n{shown}");
        assert!(!stdout.starts_with(char::is_whitespace), "text before the answer\n{shown}");
        let value: Value =
            serde_json::from_str(stdout).unwrap_or_else(|error| panic!("not one JSON value: {error}\n{shown}"));
        assert_eq!(value["protocolVersion"], 1, "{shown}");
        assert!(!stdout.contains("PRIVATE KEY") && !stderr.contains("PRIVATE KEY"), "a private key is shown");
        assert!(!stderr.contains("panicked"), "{shown}");
        for line in stderr.lines() {
            assert!(
                line.starts_with("slurm-sandbox: ") && !line.chars().any(char::is_control),
                "progress line {line:?}"
            );
        }
        super::schemas::answer(&value);
        if let Some(lease) = value.get("lease") {
            lease_rules(lease);
        }
        for row in value.get("leases").map(|rows| rows.as_array().expect("leases is an array")).into_iter().flatten() {
            lease_rules(row);
        }
        Reply { value, stderr: stderr.clone(), took: *took }
    }

    /// The answer of a call that must have succeeded.
    #[track_caller]
    pub fn ok(&self) -> &Value {
        assert!(self.value.get("error").is_none(), "refused: {}\nstderr: {}", self.value, head(&self.stderr));
        &self.value
    }

    /// The lease of a call that must have answered one.
    #[track_caller]
    pub fn lease(&self) -> &Value {
        let value = self.ok();
        value.get("lease").unwrap_or_else(|| panic!("no lease: {value}"))
    }

    /// The rows of a list.
    #[track_caller]
    pub fn rows(&self) -> &Vec<Value> {
        let value = self.ok();
        value["leases"].as_array().unwrap_or_else(|| panic!("no leases: {value}"))
    }

    /// The error of a call that must have been refused with this code.
    #[track_caller]
    pub fn refused(&self, code: &str) -> Refusal {
        let refusal = self.error();
        assert_eq!(refusal.code, code, "{}\nstderr: {}", self.value, head(&self.stderr));
        refusal
    }

    /// The error of a call that must have been refused.
    #[track_caller]
    pub fn error(&self) -> Refusal {
        let text = |name: &str| match self.value.get(name) {
            Some(Value::String(text)) => text.clone(),
            _ => panic!("no {name} in {}", head(&self.value.to_string())),
        };
        let refusal = Refusal {
            text: text("error"),
            code: text("code"),
            remedy: text("remedy"),
            retry_safe: self.value["retrySafe"].as_bool().expect("retrySafe is a boolean"),
            took: self.took,
        };
        assert!(!text("category").is_empty() && !refusal.remedy.is_empty(), "{}", self.value);
        assert!(refusal.text.contains(&refusal.remedy), "the text does not say what to do: {}", refusal.text);
        assert!(!refusal.text.chars().any(char::is_control) && refusal.text.len() < 10_000, "{:?}", refusal.text);
        assert!(self.value.get("lease").is_none() && self.value.get("leases").is_none(), "{}", self.value);
        refusal
    }
}

impl Refusal {
    /// Checks that the message has all these words in it.
    #[track_caller]
    pub fn says(&self, words: &[&str]) -> &Refusal {
        for word in words {
            assert!(self.text.contains(word), "no {word:?} in: {}", self.text);
        }
        self
    }
}

/// What the client demands of every lease in an answer.
#[track_caller]
pub fn lease_rules(lease: &Value) {
    let text = |name: &str| {
        let text = lease[name].as_str().unwrap_or_else(|| panic!("{name} is no string in {lease}"));
        assert!(!text.is_empty() && text.trim() == text && text.len() <= 4096, "{name} of {lease}");
        assert!(!text.chars().any(char::is_control), "{name} of {lease}");
        text
    };
    let id = text("leaseId").strip_prefix("cbx_").unwrap_or_else(|| panic!("{lease}"));
    assert!(id.len() == 12 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{lease}");
    let slug = text("slug");
    assert!(slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{lease}");
    text("name");
    assert!(text("cloudId").starts_with("slurm/"), "{lease}");
    text("status");
    if let Some(labels) = lease.get("labels") {
        for (name, value) in labels.as_object().expect("labels is an object") {
            let value = value.as_str().unwrap_or_else(|| panic!("label {name} is no string: {lease}"));
            assert!(!RESERVED_LABELS.contains(&name.as_str()), "reserved label {name}");
            let safe = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            assert!((1..=63).contains(&value.len()) && value.chars().all(safe), "label {name}={value:?}");
        }
    }
    if let Some(ssh) = lease.get("ssh") {
        let text = |name: &str| ssh[name].as_str().unwrap_or_else(|| panic!("ssh.{name} is no string in {lease}"));
        assert!(!text("user").is_empty() && !text("host").is_empty() && !text("readyCheck").is_empty(), "{lease}");
        assert!(text("port").parse::<u16>().is_ok_and(|port| port > 0), "{lease}");
        assert!(text("key").starts_with('/'), "{lease}");
        assert_eq!(ssh["fallbackPorts"], serde_json::json!([]), "without it the client tries port 22 of the node");
        assert!(!ssh.to_string().contains('\''), "single quotes break the client's rsync: {ssh}");
    }
}

fn head(text: &str) -> String {
    text.chars().take(3000).collect()
}
