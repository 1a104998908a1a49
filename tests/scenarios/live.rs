//! doctor --live: a lease of its own, which never stays.

use std::time::Duration;

use serde_json::{Value, json};

use super::lease::Lease;
use super::process::{self, Output};
use super::site::{Open, Setup, Site};

impl Site {
    /// `doctor --live` with this configuration, sent a signal after some seconds; its checks if it came to them.
    fn doctor_live(&self, config: Value, interrupted_after: u64) -> (Output, Vec<Value>) {
        let request = self.request("doctor", json!({"config": config}));
        let file = self.write("live.json", &request["config"].to_string());
        let line = format!(
            "timeout --preserve-status --signal=INT {interrupted_after} {} --state-dir {} --config {file} --json doctor --live",
            self.program(),
            process::quoted(&self.state_dir())
        );
        let output = self.client_with(&line, vec![], Duration::from_secs(180));
        let checks = serde_json::from_str::<Value>(&output.stdout).ok();
        let checks = checks.and_then(|checks| checks.as_array().cloned()).unwrap_or_default();
        (output, checks)
    }

    /// Nothing is left of the lease that stderr tells of.
    #[track_caller]
    fn nothing_left_of(&self, output: &Output) {
        let said = &output.stderr;
        let id =
            said.split_whitespace().find(|word| word.starts_with("cbx_")).unwrap_or_else(|| panic!("no lease: {said}"));
        let id = &id[..16];
        let slug = format!("doctor-{}", &id[10..]);
        let lease = self.adopt(Lease::of(id, &slug));
        assert_eq!(self.live_jobs(&lease), Vec::<String>::new());
        assert_eq!(self.list(), Vec::<Value>::new());
        self.nothing_left(&lease);
    }
}

#[track_caller]
fn check<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {checks:?}"))
}

/// What only a node can tell, and nothing is left.
pub fn a_look_at_a_node(open: Open) {
    let site = open(Setup::default());
    let (output, checks) = site.doctor_live(json!({}), 170);
    assert_eq!(output.code, 0, "{output:?}");
    for name in ["live lease", "node's account", "node's sshd", "node's clock", "node's files", "live release"] {
        assert_eq!(check(&checks, name)["status"], "ok", "{checks:#?}");
    }
    for name in ["node's tools", "node's GPUs", "node's cgroups", "node's namespaces"] {
        assert!(check(&checks, name)["seen"].as_str().is_some_and(|seen| !seen.is_empty()), "{checks:#?}");
    }
    assert_eq!(site.list(), Vec::<Value>::new());
    // Without a listener as well.
    let (output, checks) = site.doctor_live(json!({"sshMode": "stdio"}), 170);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(check(&checks, "live release")["status"], "ok", "{checks:#?}");
    assert_eq!(site.list(), Vec::<Value>::new());
}

/// A job that waits its turn is no fault of the site's; the reason is told, and nothing is left.
pub fn a_job_that_waits(open: Open) {
    let site = open(Setup::default());
    let (output, checks) = site.doctor_live(json!({"partition": "closed", "acquireTimeoutSeconds": 5}), 170);
    let lease = check(&checks, "live lease");
    assert_eq!(lease["status"], "warning", "{lease}");
    assert!(
        lease["seen"].as_str().is_some_and(|seen| seen.starts_with("the job waits because of Partition")),
        "{lease}"
    );
    site.nothing_left_of(&output);
}

/// Ctrl-C takes the lease back, whatever it is at.
pub fn an_interrupted_one(open: Open) {
    let site = open(Setup::default());
    let (output, _) = site.doctor_live(json!({"partition": "closed"}), 12);
    assert_eq!(output.code, 130, "{output:?}");
    assert!(output.stderr.contains("is taken back"), "{output:?}");
    site.nothing_left_of(&output);
}

/// A configuration that cannot be used is told as such, and nothing is submitted.
pub fn a_mistake_in_the_configuration(open: Open) {
    let site = open(Setup::default());
    let (output, checks) = site.doctor_live(json!({"cpus": "many"}), 170);
    assert_eq!(output.code, 17, "{output:?}");
    assert_eq!(check(&checks, "live lease")["seen"], "not tried: the configuration has a mistake");
    assert_eq!(site.list(), Vec::<Value>::new());
}
