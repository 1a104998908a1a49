//! The site's configuration.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use slurm_sandbox::config::value::Reader;
use slurm_sandbox::config::{login_host, parse, proxy, resources};

use crate::wire::{json_value, text};
use crate::{check, oracle};

const KEYS: &[&str] = &[
    "account",
    "partition",
    "qos",
    "gres",
    "gpus",
    "constraint",
    "reservation",
    "nodelist",
    "exclude",
    "licenses",
    "cpus",
    "mem",
    "tmp",
    "timeLimit",
    "nodes",
    "exclusive",
    "extraSbatchArgs",
    "sshMode",
    "loginHost",
    "loginUser",
    "proxyCommand",
    "submitHost",
    "submitUser",
    "sshConfig",
    "controlPath",
    "requireExistingMaster",
    "clusters",
    "comment",
    "sshUser",
    "sshPrivateKey",
    "readyCheck",
    "endpointHost",
    "bindAddress",
    "sshPort",
    "preamble",
    "launcher",
    "runnerWorkRoot",
    "runnerScript",
    "sharedDir",
    "acquireTimeoutSeconds",
    "resolveWaitSeconds",
    "idleTimeoutSeconds",
    "ttlSeconds",
    "takenGraceSeconds",
    "maxLeases",
    "spares",
    "spareSeconds",
    "spareMinTimeLeft",
];

/// Values that are nearly right.
pub fn likely() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        "[a-z0-9._,:@/=+-]{1,12}",
        "[0-9]{1,8}[KMGTkb:-]{0,2}[0-9]{0,3}",
        "(/|~|~/|//|/home/|/tmp)[a-z./]{0,12}",
        "(runner:|slurm|runner|direct|proxy-through-login|stdio|user|true)[*a-z.:-]{0,6}",
        r"[a-z.-]{0,4}\{(node|host|port|loginHost|name|x)\}[a-z.'; -]{0,6}",
        text(),
    ];
    let extra = vec(extra_argument().prop_map(Value::from), 0..4).prop_map(Value::from);
    prop_oneof![4 => word.prop_map(Value::from), 2 => any::<u16>().prop_map(Value::from), 1 => extra, 1 => json_value()]
}

pub fn map(most: usize) -> impl Strategy<Value = Map<String, Value>> {
    let key = prop_oneof![20 => select(KEYS).prop_map(str::to_owned), 1 => text()];
    btree_map(key, likely(), 0..most).prop_map(|map| map.into_iter().collect())
}

#[test]
fn any_map_is_accepted_whole_or_refused() {
    check(1500, map(4), |map| oracle::config_map(&map));
}

#[test]
fn every_complaint_names_its_key() {
    check(700, map(6), |map| {
        let mut reader = Reader::new(&map);
        resources::read(&mut reader);
        let submit = login_host::read(&mut reader);
        proxy::read(&mut reader, submit.as_ref());
        for complaint in reader.finish() {
            let rest = complaint.strip_prefix("config key").unwrap_or_else(|| panic!("{complaint}"));
            // The key as Rust writes a string, after "key" or "keys".
            let key = rest.trim_start_matches('s').trim_start().strip_prefix('"').unwrap().split('"').next().unwrap();
            let known = KEYS.contains(&key)
                || map.keys().any(|given| {
                    let short: String = given.chars().take(60).collect();
                    format!("{short:?}").starts_with(&format!("\"{key}"))
                });
            assert!(known, "{complaint}");
        }
    });
}

#[test]
fn each_key_alone_is_accepted_or_named() {
    check(1500, (select(KEYS), likely()), |(key, value)| {
        let map: Map<String, Value> = [(key.to_owned(), value)].into_iter().collect();
        oracle::config_map(&map);
        if let Err(failure) = parse(&map) {
            assert!(failure.to_string().contains(&format!("{key:?}")), "{failure}");
        }
    });
}

/// sbatch's options, whole and cut short, with and without a value.
fn extra_argument() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "ntasks",
        "ntasks-per-node",
        "nice",
        "hint",
        "bb",
        "bbf",
        "contiguous",
        "overcommit",
        "wrap",
        "array",
        "output",
        "error",
        "job-name",
        "export",
        "export-file",
        "chdir",
        "dependency",
        "signal",
        "wait",
        "hold",
        "begin",
        "requeue",
        "uid",
        "gid",
        "parsable",
        "test-only",
        "get-user-env",
        "clusters",
        "comment",
        "open-mode",
        "input",
        "time-min",
        "mem-per-cpu",
        "mem",
        "time",
        "prefer",
        "wckey",
        "propagate",
        "network",
        "segment",
        "stepmgr",
        "container",
        "container-image",
    ];
    let option = (0..4u8, select(NAMES), any::<prop::sample::Index>(), "(=[a-z0-9 \n\t-]{0,6})?", 0..3u8);
    let option = option.prop_map(|(dashes, name, cut, value, whole)| {
        let name = if whole > 0 { name } else { &name[..=cut.index(name.len())] };
        format!("{}{name}{value}", "-".repeat(usize::from(dashes.min(2))))
    });
    prop_oneof![5 => option, 1 => text()]
}

#[test]
fn extra_arguments_are_one_allowed_option_each() {
    check(1500, vec(extra_argument(), 1..4), |arguments| {
        let map: Map<String, Value> = [("extraSbatchArgs".to_owned(), json!(arguments))].into_iter().collect();
        oracle::config_map(&map);
        if let Ok(settings) = parse(&map) {
            assert_eq!(settings.resources.options, arguments);
        }
    });
}

#[test]
fn any_word_key_becomes_one_option() {
    check(1500, (select(&KEYS[..10]), text()), |(key, value)| {
        let map: Map<String, Value> = [(key.to_owned(), json!(value))].into_iter().collect();
        if let Ok(settings) = parse(&map) {
            let expected = if value.is_empty() { vec![] } else { vec![format!("--{key}={value}")] };
            assert_eq!(settings.resources.options, expected);
        }
    });
}

#[test]
fn paths_stay_where_they_say() {
    check(1000, "(/|~/|//|~)[a-z./~-]{0,16}", |text| {
        let map: Map<String, Value> = [("sharedDir".to_owned(), json!(text))].into_iter().collect();
        if let Ok(settings) = parse(&map) {
            let path = settings.shared_dir.unwrap();
            assert!(path.is_absolute());
            assert!(path.components().all(|part| part != std::path::Component::ParentDir));
        }
    });
}
