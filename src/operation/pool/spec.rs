//! What makes two spares interchangeable: everything that their jobs and their endpoints are made of, as one hash.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::allocation::Runner;
use crate::config::Settings;
use crate::files::hex;
use crate::host::{Host, User};

/// This program's version, of which a spare and the call that takes it must be.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// Names a pool: 16 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spec(String);

impl Spec {
    pub fn parse(text: &str) -> Option<Spec> {
        let good = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        good.then(|| Spec(text.to_owned()))
    }
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The spec of a configuration. All settings count but those that only say how a call waits and counts, and with them the runner's
/// bytes, the user, and the environment that the job would be handed.
pub fn spec(settings: &Settings, runner: &Runner, user: &User, shared_dir: &Path) -> Spec {
    let relevant = Settings {
        acquire_timeout: 0,
        resolve_wait: 0,
        max_leases: None,
        reacquire_always: false,
        most_idle: None,
        spares: settings.spares.of_a_spare(),
        ..settings.clone()
    };
    let environment = Host::of(settings.submit.as_ref()).handed_on();
    let text = format!("{PROGRAM}\n{relevant:?}\n{user:?}\n{environment:?}\n{}\n", shared_dir.display());
    let digest = Sha256::new().chain_update(text).chain_update(&runner.script).finalize();
    Spec(hex(&digest[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn of(changes: &Value) -> Spec {
        let mut config = json!({"spares": 1, "timeLimit": 60, "partition": "batch"});
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let settings = crate::config::parse(config.as_object().unwrap()).unwrap();
        let user = User { uid: 1001, name: Some("alice".into()), home: None };
        spec(&settings, &Runner::ours(), &user, Path::new("/shared"))
    }

    #[rstest]
    #[case::patience(json!({"acquireTimeoutSeconds": 5, "resolveWaitSeconds": 1}))]
    #[case::counts(json!({"spares": 9, "maxLeases": 4}))]
    #[case::what_a_lease_needs(json!({"spareMinTimeLeft": 60}))]
    fn what_makes_no_difference(#[case] changes: Value) {
        assert_eq!(of(&changes), of(&json!({})));
        assert_eq!(Spec::parse(&of(&changes).to_string()), Some(of(&changes)));
    }

    #[rstest]
    #[case::partition(json!({"partition": "gpu"}))]
    #[case::time(json!({"timeLimit": 61}))]
    #[case::spare_time(json!({"spareSeconds": 600}))]
    #[case::preamble(json!({"preamble": "module load cuda"}))]
    #[case::launcher(json!({"launcher": "apptainer exec a.sif"}))]
    #[case::ending(json!({"onEnding": "true"}))]
    #[case::key(json!({"sshPrivateKey": "/home/alice/.ssh/id"}))]
    #[case::ports(json!({"sshPort": "20000-20010"}))]
    #[case::address(json!({"bindAddress": "localhost"}))]
    #[case::host(json!({"submitHost": "login"}))]
    #[case::mode(json!({"sshMode": "stdio"}))]
    #[case::ready_check(json!({"readyCheck": "true"}))]
    #[case::idle_time(json!({"idleTimeoutSeconds": 5}))]
    #[case::work_root(json!({"runnerWorkRoot": "/scratch/alice/w"}))]
    fn what_makes_another_pool(#[case] changes: Value) {
        assert_ne!(of(&changes), of(&json!({})));
    }

    #[test]
    fn another_runner_user_or_place_is_another_pool() {
        let settings = crate::config::parse(&serde_json::Map::new()).unwrap();
        let user = User { uid: 1001, name: None, home: None };
        let ours = spec(&settings, &Runner::ours(), &user, Path::new("/shared"));
        let sites = Runner { path: None, script: b"#!/bin/bash\n".to_vec() };
        assert_ne!(spec(&settings, &sites, &user, Path::new("/shared")), ours);
        assert_ne!(spec(&settings, &Runner::ours(), &User { uid: 1002, ..user.clone() }, Path::new("/shared")), ours);
        assert_ne!(spec(&settings, &Runner::ours(), &user, Path::new("/other")), ours);
    }
}
