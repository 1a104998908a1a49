//! The protocol: what is read and what is written.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use slurm_sandbox::failure::{Failure, Kind};
use slurm_sandbox::protocol::{self, Answer, Check, CheckStatus, Lease, MAX_BYTES, Operation, Ssh, read, render};

use crate::{check, oracle};

/// Any JSON value, not too deep.
pub fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..5u64).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(text(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Text of every kind: plain, hostile to shells and terminals, and anything at all.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9-]{0,12}",
        "[ -~]{0,20}",
        r#"[-;&|<>()$`\\"'*?~#=%{} \t\n\r\x00\x1b\x7f\u{85}\u{2028}a-z]{0,16}"#,
        any::<String>(),
    ]
}

const FIELDS: &[&str] = &[
    "protocolVersion",
    "operation",
    "config",
    "desired",
    "lease",
    "expected",
    "id",
    "state",
    "keep",
    "releaseOnly",
    "dryRun",
    "leaseId",
    "attemptLeaseId",
    "slug",
    "name",
    "cloudId",
    "labels",
];

/// An object with the request's own field names and anything in them.
pub fn shaped() -> impl Strategy<Value = Value> {
    let object = |value: BoxedStrategy<Value>| {
        btree_map(proptest::sample::select(FIELDS), value, 0..8)
            .prop_map(|map| Value::Object(map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
    };
    let inner = prop_oneof![json_value(), object(json_value().boxed())];
    (object(inner.boxed()), 0..4u8).prop_map(|(mut value, sound)| {
        if sound > 0 {
            value["protocolVersion"] = json!(1);
        }
        if sound > 1 {
            value["operation"] = json!("touch");
        }
        value
    })
}

#[test]
fn any_bytes_are_read_or_refused() {
    check(512, vec(any::<u8>(), 0..200), |bytes| oracle::request(&bytes));
}

#[test]
fn any_shape_is_read_or_refused() {
    check(512, prop_oneof![json_value(), shaped()], |value| oracle::request(value.to_string().as_bytes()));
}

#[test]
fn a_cut_request_is_refused() {
    let whole =
        json!({"protocolVersion": 1, "operation": "release", "id": "smoke", "expected": {"slug": "é"}}).to_string();
    check(256, 0..whole.len(), |at| {
        assert_eq!(read(&whole.as_bytes()[..at]).unwrap_err().kind, Kind::BadRequest);
    });
}

const VERBS: [(&str, Operation); 7] = [
    ("doctor", Operation::Doctor),
    ("acquire", Operation::Acquire),
    ("resolve", Operation::Resolve),
    ("list", Operation::List),
    ("release", Operation::Release),
    ("touch", Operation::Touch),
    ("cleanup", Operation::Cleanup),
];

#[test]
fn a_sound_request_is_read_as_it_was_sent() {
    let texts = || vec(text(), 11);
    let labels = btree_map(text(), text(), 0..4);
    let parts = (proptest::sample::select(&VERBS[..]), texts(), any::<[bool; 3]>(), labels, json_value());
    check(512, parts, |((verb, operation), texts, [keep, release_only, dry_run], labels, unknown)| {
        let config: Map<String, Value> =
            [("partition".to_owned(), Value::from(texts[0].as_str()))].into_iter().collect();
        let sent = json!({
            "protocolVersion": 1, "operation": verb, "config": config, "id": texts[1], "state": texts[2],
            "desired": {"leaseId": texts[3], "slug": texts[4], "name": texts[5]},
            "expected": {"leaseId": texts[6], "attemptLeaseId": texts[7], "slug": texts[8], "cloudId": texts[9]},
            "lease": {"cloudId": texts[10], "labels": labels, "unknown": unknown},
            "keep": keep, "releaseOnly": release_only, "dryRun": dry_run, "unknown": unknown,
        });
        let request = read(sent.to_string().as_bytes()).unwrap();
        assert_eq!((request.operation, &request.config), (operation, &config));
        assert_eq!((request.keep, request.release_only, request.dry_run), (keep, release_only, dry_run));
        let (desired, expected, lease) = (request.desired.unwrap(), request.expected.unwrap(), request.lease.unwrap());
        let read = [
            request.id,
            request.state,
            desired.lease_id,
            desired.slug,
            desired.name,
            expected.lease_id,
            expected.attempt_lease_id,
            expected.slug,
            expected.cloud_id,
            lease.cloud_id,
        ];
        assert_eq!(read[..], texts[1..]);
        assert_eq!(lease.labels, labels);
    });
}

fn lease() -> impl Strategy<Value = Lease> {
    let ssh =
        (text(), text(), text(), 1..=65535u16, option::of(text())).prop_map(|(user, host, key, port, proxy)| Ssh {
            user,
            host,
            key,
            port: port.to_string(),
            fallback_ports: [],
            ready_check: "true".into(),
            ssh_config_proxy: proxy.is_some(),
            proxy_command: proxy,
        });
    (vec(text(), 6), btree_map(text(), text(), 0..3), option::of(ssh)).prop_map(|(texts, labels, ssh)| {
        let [lease_id, slug, name, cloud_id, status, server_type] = texts.try_into().unwrap();
        let labels = labels.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Lease { lease_id, slug, name, cloud_id, status, server_type, labels, ssh }
    })
}

/// One line of JSON within the client's bound.
fn one_line(bytes: &[u8]) -> Value {
    assert!(bytes.len() <= MAX_BYTES, "{} bytes", bytes.len());
    let (end, line) = bytes.split_last().unwrap();
    assert!(*end == b'\n' && !line.contains(&b'\n') && !line.contains(&b'\r'));
    let value: Value = serde_json::from_slice(line).unwrap();
    assert_eq!(value["protocolVersion"], 1);
    value
}

fn identities<'a>(rows: impl IntoIterator<Item = &'a Lease>) -> Vec<[String; 5]> {
    rows.into_iter()
        .map(|row| [&row.lease_id, &row.slug, &row.name, &row.cloud_id, &row.status].map(Clone::clone))
        .collect()
}

fn told(value: &Value) -> Vec<[String; 5]> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let row = |row| ["leaseId", "slug", "name", "cloudId", "status"].map(|name| text(row, name));
    value["leases"].as_array().unwrap().iter().map(row).collect()
}

/// A list is told whole, or as an error: a client takes a missing lease for one that is gone.
fn told_whole_or_refused(rows: Vec<Lease>) {
    let all = identities(&rows);
    let value = one_line(&render(&Ok(Answer { leases: Some(rows), ..Answer::default() })));
    if value.get("error").is_some() {
        assert_eq!(value["code"], "limit-reached");
        assert!(value.get("leases").is_none());
    } else {
        assert_eq!(told(&value), all);
    }
}

#[test]
fn any_list_is_one_line_and_none_is_dropped() {
    check(128, vec(lease(), 0..20), told_whole_or_refused);
}

#[test]
fn long_lists_shrink_and_too_long_ones_are_refused() {
    // Around the bound: rows of 100 to some 1000 bytes, 500 to 6000 of them.
    check(5, (vec(lease(), 1..4), 500..6000usize, 0..400usize), |(rows, count, padding)| {
        let pad = "ü\"\u{1}".repeat(padding / 4);
        let padded = |row: &Lease| Lease {
            server_type: pad.clone(),
            slug: format!("{}{}", row.slug, &pad[..pad.len() / 8 * 4]),
            ..row.clone()
        };
        told_whole_or_refused(rows.iter().cycle().take(count).map(padded).collect());
    });
}

#[test]
fn any_answer_is_one_line() {
    let checks = vec((text(), text(), text()), 0..5);
    check(256, (option::of(lease()), option::of(text()), checks, 0..3u32), |(lease, message, checks, long)| {
        let long = usize::try_from(long * 400_000).unwrap();
        let message = message.map(|text| text + &"m".repeat(long));
        let checks = checks.into_iter().map(|(name, seen, remedy)| Check {
            name,
            status: CheckStatus::Red,
            seen,
            remedy,
            checked_at: None,
        });
        let answer = Answer { lease, leases: None, message, checks: Some(checks.collect()), unowned: false };
        one_line(&render(&Ok(answer)));
    });
}

#[test]
fn any_failure_is_one_line_with_its_row() {
    let parts = (proptest::sample::select(&Kind::ALL[..]), text(), option::of(text()), text(), 0..3000usize);
    check(96, parts, |(kind, what, remedy, cause, often)| {
        let mut failure = Failure::new(kind, what.repeat(often)).cause(cause.repeat(often));
        if let Some(remedy) = remedy {
            failure = failure.remedy(remedy);
        }
        oracle::message(&failure);
        let value = one_line(&render(&Err(failure.clone())));
        assert_eq!(value["code"], kind.row().code);
        assert_eq!(value["retrySafe"], kind.row().retry_safe);
        assert_eq!(value["error"], failure.to_string());
    });
}

#[test]
fn a_value_is_shown_short() {
    check(512, json_value(), |value| assert!(protocol::shown(&value).chars().count() <= 81));
}

#[test]
fn labels_are_told_as_they_are() {
    check(128, btree_map(text(), text(), 0..6), |labels: BTreeMap<String, String>| {
        let told_as = labels.clone().into_iter().map(|(name, value)| (name.into(), value)).collect();
        let row = Lease { labels: told_as, ..empty() };
        let value = one_line(&render(&Ok(Answer { lease: Some(row), ..Answer::default() })));
        let told = value["lease"].get("labels").cloned().unwrap_or_else(|| json!({}));
        assert_eq!(told, json!(labels));
    });
}

fn empty() -> Lease {
    let text = String::new;
    Lease {
        lease_id: text(),
        slug: text(),
        name: text(),
        cloud_id: text(),
        status: text(),
        server_type: text(),
        labels: BTreeMap::new(),
        ssh: None,
    }
}
