//! The schemas against what reads: they refuse what the program refuses, as far as a schema can, and never what it takes.

use std::sync::LazyLock;

use jsonschema::Validator;
use proptest::prelude::*;
use proptest::sample::select;
use rstest::rstest;
use serde_json::{Map, Value, json};
use slurm_sandbox::config::keys::KEYS;
use slurm_sandbox::config::parse;
use slurm_sandbox::protocol::read;
use slurm_sandbox::schema::Document;

use crate::check;
use crate::site::{likely, map};
use crate::wire::{json_value, shaped};

static CONFIG: LazyLock<Validator> = LazyLock::new(|| validator(Document::Config));
static REQUEST: LazyLock<Validator> = LazyLock::new(|| validator(Document::Request));

fn validator(document: Document) -> Validator {
    jsonschema::validator_for(&document.schema()).unwrap()
}

fn takes(value: &Value) -> bool {
    parse(value.as_object().unwrap()).is_ok()
}

fn keys() -> Vec<&'static str> {
    KEYS.iter().map(|key| key.name).collect()
}

#[test]
fn what_the_config_takes_passes() {
    check(3000, map(4), |map: Map<String, Value>| {
        let value = Value::Object(map);
        if takes(&value) {
            let told: Vec<_> = CONFIG.iter_errors(&value).map(|error| error.to_string()).collect();
            assert_eq!(told, Vec::<String>::new(), "{value}");
        }
    });
}

/// What no schema can tell.
fn beyond_a_schema(key: &str, value: &Value) -> bool {
    let reversed = |text: &str| {
        let numbers = text.split_once('-').and_then(|(low, high)| Some((low.parse::<u64>().ok()?, high.parse().ok()?)));
        numbers.is_some_and(|(low, high)| low > high)
    };
    match value {
        // JSON Schema takes 4.0 for a whole number, and -0.0 for 0.
        Value::Number(number) => number.as_f64().is_some_and(|number| number.fract() == 0.0) && !number.is_u64(),
        Value::String(text) => {
            // Letters of other alphabets are told from signs by a table, and lengths are counted in characters.
            !text.is_ascii()
                || (matches!(key, "nodes" | "sshPort") && reversed(text))
                || (key == "runnerWorkRoot" && std::env::var("HOME").is_ok_and(|home| text.starts_with(&home)))
                || (matches!(key, "bindAddress" | "submitHost" | "loginHost") && text.contains(':'))
        }
        Value::Array(items) => items.iter().any(|item| {
            // A site's own option that differs from one of Slurm's in the case of its letters.
            item.as_str().is_some_and(|text| !text.is_ascii() || text.bytes().any(|byte| byte.is_ascii_uppercase()))
        }),
        _ => false,
    }
}

#[test]
fn what_the_config_refuses_of_a_key_does_not_pass() {
    let value = prop_oneof![4 => likely(), 1 => json_value()];
    check(4000, (select(keys()), value), |(key, value)| {
        let config = json!({key: value});
        if !takes(&config) && !beyond_a_schema(key, &config[key]) {
            assert!(!CONFIG.is_valid(&config), "{config}");
        }
    });
}

/// One of each mistake that a person makes.
#[rstest]
#[case(json!({"partiton": "batch"}))]
#[case(json!({"cpus": 0}))]
#[case(json!({"cpus": "100001"}))]
#[case(json!({"cpus": 1.5}))]
#[case(json!({"cpus": true}))]
#[case(json!({"mem": "16 GB"}))]
#[case(json!({"mem": -1}))]
#[case(json!({"timeLimit": "0:00"}))]
#[case(json!({"timeLimit": "2026-01-01T00:00:00Z"}))]
#[case(json!({"nodes": "+1"}))]
#[case(json!({"account": "-A"}))]
#[case(json!({"partition": "a b"}))]
#[case(json!({"clusters": "a,,b"}))]
#[case(json!({"clusters": "ALL"}))]
#[case(json!({"exclusive": "maybe"}))]
#[case(json!({"comment": "a\nb"}))]
#[case(json!({"extraSbatchArgs": "--nice=1"}))]
#[case(json!({"extraSbatchArgs": ["-N2"]}))]
#[case(json!({"extraSbatchArgs": ["--wrap=true"]}))]
#[case(json!({"extraSbatchArgs": ["--wra=true"]}))]
#[case(json!({"extraSbatchArgs": ["--mem=4G"]}))]
#[case(json!({"extraSbatchArgs": ["--ntasks"]}))]
#[case(json!({"extraSbatchArgs": ["--contiguous=yes"]}))]
#[case(json!({"extraSbatchArgs": ["--nice=1\n2"]}))]
#[case(json!({"submitHost": "login:2222"}))]
#[case(json!({"submitHost": "alice@login"}))]
#[case(json!({"submitUser": "alice"}))]
#[case(json!({"submitHost": "login", "requireExistingMaster": 3}))]
#[case(json!({"requireExistingMaster": "yes"}))]
#[case(json!({"controlPath": "/tmp/x"}))]
#[case(json!({"sshMode": "tunnel"}))]
#[case(json!({"sshMode": "proxy-through-login"}))]
#[case(json!({"sshMode": "stdio", "proxyCommand": "x"}))]
#[case(json!({"loginHost": "a,b,c,d,e", "sshMode": "proxy-through-login"}))]
#[case(json!({"proxyCommand": "ssh 'a'"}))]
#[case(json!({"proxyCommand": "ssh {hots}"}))]
#[case(json!({"proxyCommand": "ssh {loginHost}"}))]
#[case(json!({"proxyCommand": "ssh {loginHost}", "loginHost": "a,b"}))]
#[case(json!({"proxyCommand": "ssh {loginUser}@x"}))]
#[case(json!({"readyCheck": "test 'a'"}))]
#[case(json!({"endpointHost": "{node};x"}))]
#[case(json!({"bindAddress": "eth0"}))]
#[case(json!({"bindAddress": "256.1.1.1"}))]
#[case(json!({"sshPort": 65536}))]
#[case(json!({"sshPort": "022"}))]
#[case(json!({"preamble": {"a": 1}}))]
#[case(json!({"preamble": ["a", 1]}))]
#[case(json!({"runnerWorkRoot": "/tmp/"}))]
#[case(json!({"runnerWorkRoot": "//tmp/."}))]
#[case(json!({"runnerWorkRoot": "/home/alice"}))]
#[case(json!({"runnerWorkRoot": "~/"}))]
#[case(json!({"sharedDir": "relative/dir"}))]
#[case(json!({"sharedDir": "/a/../b"}))]
#[case(json!({"sharedDir": "$SCRATCH/x"}))]
#[case(json!({"acquireTimeoutSeconds": 0}))]
#[case(json!({"idleTimeoutSeconds": "31622401"}))]
#[case(json!({"maxLeases": 0}))]
#[case(json!({"spares": 1}))]
#[case(json!({"spares": "2", "ttlSeconds": "0", "timeLimit": ""}))]
#[case(json!({"spares": 33, "timeLimit": 60}))]
#[case(json!({"gpus": 1, "gres": "gpu:1"}))]
#[case(json!({"mem": "4G", "extraSbatchArgs": ["--mem-per-cpu=1G"]}))]
#[case(json!({"extraSbatchArgs": ["--mem-per-cpu=1G", "--mem-per-gpu=1G"]}))]
fn mistakes_do_not_pass(#[case] config: Value) {
    assert!(!takes(&config), "the config takes {config}");
    assert!(!CONFIG.is_valid(&config), "{config}");
    let request = json!({"protocolVersion": 1, "operation": "doctor", "config": config});
    assert!(!REQUEST.is_valid(&request), "{request}");
}

#[rstest]
#[case(json!({}))]
#[case(json!({"$schema": "config.json", "cpus": null, "mem": "", "extraSbatchArgs": ""}))]
#[case(json!({"cpus": "4", "mem": 16, "account": 42, "timeLimit": 90, "nodes": "1-2", "sshPort": "20000-20999"}))]
#[case(json!({"account": "Labor für Physik", "reservation": "a b", "constraint": "a100&(nvlink|ib)"}))]
#[case(json!({"extraSbatchArgs": ["--ntasks=1", "--contiguous", "--container-image=docker://x", "--site-flag"]}))]
#[case(json!({"submitHost": "2001:db8::1", "submitUser": "CORP\\alice", "requireExistingMaster": "Yes"}))]
#[case(json!({"sshMode": "proxy-through-login", "loginHost": "a,b", "loginUser": "bob"}))]
#[case(json!({"proxyCommand": "jump {host} {port} {user} {slug} ${HOME} {} {a b}"}))]
#[case(json!({"gres": "gpumem:4", "gpus": "a100:2"}))]
#[case(json!({"endpointHost": "{node}-ib.example", "bindAddress": "::1"}))]
#[case(json!({"preamble": ["set -e", ""], "runnerWorkRoot": "~/work", "sshConfig": "~/.ssh/other", "submitHost": "x"}))]
fn what_people_write_passes(#[case] config: Value) {
    assert!(takes(&config), "the config refuses {config}");
    let told: Vec<_> = CONFIG.iter_errors(&config).map(|error| error.to_string()).collect();
    assert_eq!(told, Vec::<String>::new(), "{config}");
}

/// A request without what one operation needs of it.
#[test]
fn shapes_of_requests_are_told_apart() {
    check(2000, shaped(), |mut value: Value| {
        if value.get("config").is_some_and(|config| !CONFIG.is_valid(config)) {
            value["config"] = json!({});
        }
        if matches!(value["operation"].as_str(), Some("acquire" | "release" | "touch")) {
            value["operation"] = json!("resolve");
        }
        assert_eq!(REQUEST.is_valid(&value), read(value.to_string().as_bytes()).is_ok(), "{value}");
    });
}

#[rstest]
#[case(json!({"operation": "acquire"}), false)]
#[case(json!({"operation": "acquire", "desired": {"leaseId": "cbx_4b38f35d4e31", "slug": "a", "name": "n"}}), true)]
#[case(json!({"operation": "acquire", "desired": {"leaseId": "cbx_4b38f35d4e31", "slug": "A", "name": "n"}}), false)]
#[case(json!({"operation": "acquire", "desired": {"leaseId": "../../x", "slug": "a", "name": "n"}}), false)]
#[case(json!({"operation": "release", "lease": {"cloudId": "slurm/job/1"}}), false)]
#[case(json!({"operation": "release", "lease": {"leaseId": "cbx_4b38f35d4e31", "labels": {"a": null}}}), true)]
#[case(json!({"operation": "touch", "lease": {"leaseId": "cbx_4b38f35d4e31", "labels": {"a": 1}}}), false)]
#[case(json!({"operation": "resolve", "id": "a", "repo": {"root": "/r"}}), true)]
#[case(json!({"operation": "nuke"}), false)]
fn what_operations_need(#[case] mut request: Value, #[case] good: bool) {
    request["protocolVersion"] = json!(1);
    assert_eq!(REQUEST.is_valid(&request), good, "{request}");
    request["protocolVersion"] = json!(2);
    assert!(!REQUEST.is_valid(&request));
}
