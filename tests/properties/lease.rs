//! Identities and records.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use slurm_sandbox::lease::cloud_id::CloudId;
use slurm_sandbox::lease::format;
use slurm_sandbox::lease::record::{Attempt, Denials, Ended, Ownership, Phase, PinnedEndpoint, Record, comment};
use slurm_sandbox::lease::{Identity, LeaseId, Nonce, SeatId, client_name};
use slurm_sandbox::slurm::job::{JobId, Resources, Row, State};

use crate::wire::{json_value, text};
use crate::{check, oracle};

/// A queued lease's record: job 7 of user 1001, submitted at 1001.
pub fn record() -> Record {
    format::read(include_bytes!("../fixtures/record-1.json")).unwrap()
}

/// The row of its job.
pub fn row() -> Row {
    Row {
        job: JobId { id: 7, cluster: None },
        state: State::new("RUNNING"),
        reason: String::new(),
        node: "n1".into(),
        submitted: Some(1001),
        start: Some(1002),
        end: Some(2800),
        partition: "batch".into(),
        directory: format!("/shared/cbx_4b38f35d4e31/{}", oracle::NONCE),
        uid: 1001,
        name: "cbx-4b38f35d4e31".into(),
        comment: format!("cbx:cbx_4b38f35d4e31:{}:abcd1234 site text", oracle::NONCE),
        resources: Resources::default(),
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let job = (any::<u64>(), option::of("[a-z]{1,8}")).prop_map(|(id, cluster)| JobId { id, cluster });
    let ended = (text(), text(), option::of(text()), option::of(text()), any::<i64>())
        .prop_map(|(state, reason, exit, runner, at)| Ended { state, reason, exit, runner, at });
    let endpoint = (text(), any::<u16>()).prop_map(|(host, port)| PinnedEndpoint { host, port });
    let phase = select(&[Phase::Prepared, Phase::Submitting, Phase::Queued, Phase::Answered, Phase::Releasing][..]);
    let time = || option::of(any::<i64>());
    let identity = ("[0-9a-f]{12}", "[0-9a-f]{16}", text(), text());
    let words = (option::of(text()), option::of(text()), text(), "/[a-z/]{0,9}", "/[a-z/]{0,9}");
    let flags = (any::<[bool; 3]>(), any::<u32>(), any::<i64>());
    let ids = (option::of(job), option::of("cbx_[0-9a-f]{12}"));
    let times = (time(), time(), time());
    (identity, words, flags, times, phase, ids, option::of(ended), option::of(endpoint)).prop_map(
        |(
            (id, nonce, slug, name),
            words,
            ([keep, contract, pooled], uid, created),
            times,
            phase,
            ids,
            ended,
            endpoint,
        )| {
            Record {
                identity: Identity { lease_id: LeaseId::parse(&format!("cbx_{id}")).unwrap(), slug, name },
                phase,
                keep,
                created,
                user: None,
                submit: None,
                route: None,
                uid,
                attempt: Attempt { nonce: Nonce::parse(&nonce).unwrap(), sent: times.0, sent_at: None },
                given_up: vec![Nonce::parse(&nonce).unwrap()],
                instance: words.1.clone(),
                clusters: words.0,
                job: ids.0,
                submitted: times.1,
                cloud_id: Some(CloudId::Attempt(Nonce::parse(&nonce).unwrap())),
                server_type: words.2,
                shared_dir: words.3.into(),
                contract,
                key: words.4.into(),
                endpoint,
                denied: Denials::default(),
                ended,
                releasing: times.2,
                pooled,
                seat: ids.1.and_then(|seat| SeatId::parse(&seat)),
            }
        },
    )
}

#[test]
fn a_record_is_read_as_it_was_written() {
    check(500, any_record(), |record| {
        assert_eq!(format::read(&format::write(&record).unwrap()), Ok(record));
    });
}

/// A later version's fields, on every level, are passed over.
#[test]
fn unknown_fields_change_nothing() {
    check(300, (any_record(), text(), json_value()), |(record, field, value)| {
        let field = format!("later {field}");
        let mut json: Value = serde_json::from_slice(&format::write(&record).unwrap()).unwrap();
        for path in ["", "/identity", "/attempt", "/job", "/endpoint", "/ended"] {
            if let Some(Value::Object(object)) = json.pointer_mut(path) {
                object.insert(field.clone(), value.clone());
            }
        }
        assert_eq!(format::read(json.to_string().as_bytes()), Ok(record));
    });
}

#[test]
fn a_cut_record_is_damaged_never_another_record() {
    let whole = format::write(&record()).unwrap();
    check(300, 0..whole.len(), |at| assert!(format::read(&whole[..at]).is_err()));
}

#[test]
fn a_record_with_anything_in_a_field_is_read_or_refused() {
    let fields =
        ["format", "identity", "phase", "keep", "uid", "attempt", "job", "submitted", "sharedDir", "denied", "ended"];
    check(500, (select(fields.to_vec()), json_value()), |(field, value)| {
        let mut json: Value = serde_json::from_slice(&format::write(&record()).unwrap()).unwrap();
        json[field] = value;
        format::read(json.to_string().as_bytes()).ok();
    });
}

#[test]
fn lease_ids_are_sixteen_harmless_characters() {
    let id = prop_oneof!["cbx_[0-9a-f]{12}", "cbx_[0-9a-fA-G/.]{11,13}", "[a-z_]{3,4}[0-9a-f]{12}", text()];
    check(1000, id, |id| {
        let tail = id.strip_prefix("cbx_").unwrap_or_default();
        let good = id.len() == 16 && tail.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        let parsed = LeaseId::parse(&id);
        assert_eq!(parsed.is_some(), good && id.starts_with("cbx_"));
        assert_eq!(serde_json::from_value::<LeaseId>(json!(id)).ok(), parsed);
        if let Some(parsed) = parsed {
            assert_eq!(LeaseId::of_job_name(&parsed.job_name()), Some(parsed));
        }
        assert_eq!(LeaseId::of_job_name(&id), None);
    });
}

#[test]
fn nonces_are_sixteen_hex_digits() {
    check(500, prop_oneof!["[0-9a-f]{15,17}", text()], |text| {
        let good = text.len() == 16 && text.chars().all(|c| "0123456789abcdef".contains(c));
        assert_eq!(Nonce::parse(&text).is_some(), good);
    });
}

#[test]
fn identities_are_harmless_or_refused() {
    let slug = prop_oneof!["[a-z0-9-]{0,10}", "[a-z]{120,135}", text()];
    let name = prop_oneof!["[ -~]{0,16}", "[a-zü]{100,260}", text()];
    let id = prop_oneof![9 => Just("cbx_4b38f35d4e31".to_owned()), 1 => text()];
    check(2000, (id, slug, name), |(id, slug, name)| oracle::identity(&id, &slug, &name));
}

#[test]
fn the_name_that_the_client_makes_is_always_allowed() {
    check(300, ("cbx_[0-9a-f]{12}", "[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?"), |(id, slug)| {
        let name = client_name(&LeaseId::parse(&id).unwrap(), &slug);
        assert!(Identity::parse(&id, &slug, &name).is_ok(), "{name}");
    });
}

#[test]
fn a_comment_is_read_back_whatever_the_site_adds() {
    check(500, ("[0-9a-f]{8}", text()), |(instance, site)| {
        let word = record().comment_word(&instance);
        let read = comment(&format!("{word} {site}")).unwrap();
        assert_eq!((&read.lease_id, &read.nonce), (record().lease_id(), &record().attempt.nonce));
        assert_eq!(read.instance, instance);
    });
}

#[test]
fn any_comment_is_ours_only_in_its_exact_form() {
    let part = prop_oneof![Just("cbx".to_owned()), "cbx_[0-9a-f]{12}", "[0-9a-f]{16}", "[a-z0-9]{0,4}", text()];
    check(1500, proptest::collection::vec(part, 0..6), |parts| oracle::comment(parts.join(":").as_bytes()));
}

/// Id and user make a job ours, whatever else is written on it, unless it was submitted later and bears no mark.
#[test]
fn only_a_later_job_without_our_mark_is_another() {
    let part = || prop_oneof![2 => Just(None), 1 => text().prop_map(Some)];
    let parts = (
        [part(), part(), part()],
        prop_oneof![3 => Just(1001u32), 1 => any::<u32>()],
        prop_oneof![1 => Just(Some(1001)), 1 => option::of(any::<i64>())],
    );
    check(1000, parts, |([name, comment, directory], uid, submitted)| {
        let marked = comment.is_none() || directory.is_none();
        let own = row();
        let other = Row {
            uid,
            submitted,
            name: name.unwrap_or(own.name),
            comment: comment.unwrap_or(own.comment),
            directory: directory.unwrap_or(own.directory),
            ..row()
        };
        let later = submitted.is_some_and(|at| at > 1001);
        let expected = match (uid == 1001, marked, later) {
            (true, true, _) | (true, false, false) => Ownership::Ours,
            (_, false, true) => Ownership::Recycled,
            (false, ..) => Ownership::Unclear,
        };
        assert_eq!(record().ownership(&other), expected);
        assert_eq!(record().submitted_as(&other), uid == 1001 && marked);
    });
}
