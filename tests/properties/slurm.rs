//! What Slurm's commands print.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use slurm_sandbox::host::{End, Output};
use slurm_sandbox::slurm::job::{Class, JobId, Resources, Row, State, pending_reason};
use slurm_sandbox::slurm::squeue::{parse_listing, parse_single};

use crate::wire::text;
use crate::{check, oracle};

pub const STATES: &[&str] = &[
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "SUSPENDED",
    "STOPPED",
    "COMPLETING",
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REQUEUED",
    "SPECIAL_EXIT",
    "RESIZING",
    "EXPEDITING",
];

fn output(end: End, stdout: impl Into<Vec<u8>>, stderr: impl Into<Vec<u8>>) -> Output {
    Output { end, stdout: stdout.into(), stderr: stderr.into(), took: Duration::from_secs(1) }
}

/// Text that a job may be named or commented with: anything, whole rows with the mark of another query among it.
fn free_text() -> impl Strategy<Value = String> {
    let other = oracle::MARK.replace('1', "2");
    let forged = format!(
        "{other}@7\u{1f}CANCELLED\u{1f}None\u{1f}n1\u{1f}1\u{1f}2\u{1f}3\u{1f}b\u{1f}1001\u{1f}1\u{1f}1G{other}n{other}/{other}c{other}a{other}q{other}g{other}$"
    );
    let line = prop_oneof![
        text(),
        Just("@7".to_owned()),
        Just("$".to_owned()),
        Just("\u{1f}".to_owned()),
        Just("CLUSTER: annex".to_owned()),
        Just(forged)
    ];
    vec(line, 0..4).prop_map(|lines| lines.join("\n").replace('\0', ""))
}

fn word() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_(),. -]{0,12}"
}

/// Rows of different jobs.
fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    vec(row(), 0..most).prop_map(|mut rows| {
        let mut seen = std::collections::HashSet::new();
        rows.retain(|row| seen.insert(row.job.id));
        rows
    })
}

fn row() -> impl Strategy<Value = Row> {
    let times = (option::of(any::<u32>()), option::of(any::<u32>()), option::of(any::<u32>()));
    (
        any::<u64>(),
        select(STATES),
        word(),
        ("[a-z0-9-]{1,8}", "[a-z]{1,8}", free_text()),
        times,
        any::<u32>(),
        (free_text(), free_text()),
        (free_text(), free_text(), free_text(), word(), word()),
    )
        .prop_map(|(id, state, reason, (node, partition, directory), times, uid, (name, comment), resources)| {
            Row {
                job: JobId { id, cluster: None },
                state: State::new(state),
                reason,
                node,
                submitted: times.0.map(i64::from),
                start: times.1.map(i64::from),
                end: times.2.map(i64::from),
                partition,
                directory,
                uid,
                name,
                comment,
                resources: Resources {
                    account: resources.0,
                    qos: resources.1,
                    gres: resources.2,
                    cpus: resources.3,
                    mem: resources.4,
                },
            }
        })
}

/// A row as squeue prints it.
pub fn printed(row: &Row) -> String {
    let time = |time: Option<i64>| time.map_or("N/A".to_owned(), |time| time.to_string());
    let (submitted, start, end) = (time(row.submitted), time(row.start), time(row.end));
    let id = format!("@{}", row.job.id);
    let uid = row.uid as i32;
    let Row { name, directory, comment, resources, .. } = row;
    let Resources { account, qos, gres, cpus, mem } = resources;
    let uid = uid.to_string();
    let slurms =
        [&id, row.state.word(), &row.reason, &row.node, &submitted, &start, &end, &row.partition, &uid, cpus, mem];
    let owners = [name, directory, comment, account, qos, gres].map(String::as_str);
    let mark = oracle::MARK;
    format!("{mark}{}{mark}{}{mark}$\n", slurms.join("\u{1f}"), owners.join(mark))
}

/// What is read of a row: squeue pads what it bounds.
fn as_read(row: &Row) -> Row {
    let present = |text: &str| {
        let absent = ["n/a", "N/A", "(null)", "None assigned"].contains(&text);
        if absent { String::new() } else { text.to_owned() }
    };
    Row {
        name: row.name.trim_end().to_owned(),
        comment: present(row.comment.trim_end()),
        reason: if row.reason == "None" { String::new() } else { present(&row.reason) },
        resources: Resources::default(),
        ..row.clone()
    }
}

/// Rows without what is only shown, which is one line of plain text.
fn without_resources(rows: &[Row]) -> Vec<Row> {
    let without = |row: &Row| {
        let Resources { account, qos, gres, cpus, mem } = &row.resources;
        assert!(![account, qos, gres, cpus, mem].iter().any(|text| text.contains(char::is_control)), "{row:?}");
        Row { resources: Resources::default(), ..row.clone() }
    };
    rows.iter().map(without).collect()
}

/// Whatever a job's owner writes: every row is found as it is, and nothing else is.
#[test]
fn rows_that_were_printed_are_found() {
    check(700, rows(6), |rows| {
        let text: String = rows.iter().map(printed).collect();
        let listing = parse_listing(&output(End::Exit(0), text, ""), &oracle::mark(), None).unwrap();
        assert_eq!(without_resources(&listing.rows), rows.iter().map(as_read).collect::<Vec<_>>());
        assert!(listing.complete);
    });
}

/// Nothing between two rows shows that more should follow: exactly there a cut is not noticed. That is the limit of a
/// listing's word; a second denial, at least ten seconds later, stands behind it.
#[test]
fn a_cut_listing_is_never_complete_unless_cut_between_rows() {
    check(700, (rows(5), any::<prop::sample::Index>()), |(rows, at)| {
        let texts: Vec<String> = rows.iter().map(printed).collect();
        let whole = texts.concat();
        let at = at.index(whole.len() + 1);
        let mut ends = vec![0];
        for text in &texts {
            ends.push(ends[ends.len() - 1] + text.len());
        }
        // Without its last line end a row is still whole.
        let between = ends.iter().any(|end| at == *end || at + 1 == *end);
        let cut = output(End::Exit(0), &whole.as_bytes()[..at], "");
        let listing = parse_listing(&cut, &oracle::mark(), None).unwrap();
        assert_eq!(listing.complete, between, "cut at {at} of {whole:?}");
        assert!(rows.iter().map(as_read).collect::<Vec<_>>().starts_with(&without_resources(&listing.rows)));
        oracle::cut_listing(&output(End::Exit(0), whole.as_bytes(), ""), None, at);
    });
}

#[test]
fn other_text_beside_rows_hides_none_and_is_noticed() {
    let noise = "[A-Za-z !:.,]{1,30}".prop_filter("not blank", |text| !text.trim().is_empty());
    check(512, (rows(4), noise, any::<prop::sample::Index>()), |(rows, noise, at)| {
        let mut lines: Vec<String> = rows.iter().map(printed).collect();
        lines.insert(at.index(rows.len() + 1), format!("{noise}\n"));
        let listing = parse_listing(&output(End::Exit(0), lines.concat(), ""), &oracle::mark(), None).unwrap();
        assert_eq!(without_resources(&listing.rows), rows.iter().map(as_read).collect::<Vec<_>>());
        assert!(!listing.complete);
    });
}

#[test]
fn only_a_clean_end_and_a_silent_stderr_make_a_listing_complete() {
    let end = prop_oneof![
        (0..3i32).prop_map(End::Exit),
        Just(End::Signal(9)),
        Just(End::DeadlinePassed),
        Just(End::TooMuchOutput)
    ];
    check(512, (rows(3), end, text()), |(rows, end, stderr)| {
        let text: String = rows.iter().map(printed).collect();
        let found = parse_listing(&output(end, text, stderr.as_str()), &oracle::mark(), None);
        assert_eq!(
            found.as_ref().is_ok_and(|listing| listing.complete),
            end == End::Exit(0) && stderr.trim().is_empty()
        );
        assert!(end == End::Exit(0) || found.is_err());
    });
}

#[test]
fn one_job_is_denied_only_in_so_many_words() {
    let stderr =
        prop_oneof![text(), Just("slurm_load_jobs error: Invalid job id specified\n".to_owned()), Just(String::new())];
    check(600, (0..3i32, rows(2), stderr), |(code, rows, stderr)| {
        let text: String = rows.iter().map(printed).collect();
        let job = JobId { id: 7, cluster: None };
        let denied = parse_single(&output(End::Exit(code), text, stderr.as_str()), &oracle::mark(), &job) == Ok(None);
        assert_eq!(denied, code == 1 && stderr.contains("Invalid job id specified"));
    });
}

#[test]
fn any_bytes_from_squeue() {
    check(800, vec(prop_oneof![any::<u8>(), select(&b"@7\x1f\x1f\x1f$\n\0 x"[..])], 0..150), |bytes| {
        oracle::squeue(&bytes)
    });
}

#[test]
fn any_bytes_from_sacct() {
    let line = prop_oneof![
        text(),
        ("[78]", "(cbx-4b38f35d4e31|x)", select(STATES), "[0-9:]{0,3}", any::<i32>())
            .prop_map(|(id, name, state, exit, at)| format!("{id}|{state}|{exit}|{at}|{name}")),
        (select(STATES), 95..105i64).prop_map(|(state, at)| format!("7|{state}|0:0|{at}|cbx-4b38f35d4e31")),
    ];
    check(600, vec(line, 0..5), |lines| oracle::sacct(lines.join("\n").as_bytes()));
}

/// Texts of sbatch, of wrappers and hooks around it.
fn said() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        text(),
        "[0-9]{1,22}",
        "[0-9]{1,4};[a-z0-9;$-]{0,6}",
        "(Submitted batch job )?[0-9]{1,4}[ \r]{0,2}",
        Just("sbatch: error: Batch job submission failed: Invalid partition name specified".to_owned()),
        Just("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation".to_owned()),
        Just("Unable to contact slurm controller (connect failure)".to_owned()),
        Just("AssocMaxSubmitJobLimit".to_owned()),
    ];
    vec(line, 0..4).prop_map(|lines| lines.join("\n"))
}

#[test]
fn a_submission_is_believed_only_when_a_line_is_exactly_an_id() {
    let end = prop_oneof![3 => Just(End::Exit(0)), 2 => Just(End::Exit(1)), 1 => Just(End::Signal(15)), 1 => Just(End::DeadlinePassed)];
    check(1200, (end, said(), said()), |(end, stdout, stderr)| oracle::sbatch_output(&output(end, stdout, stderr)));
}

#[test]
fn what_sbatch_printed_is_the_job_that_is_known() {
    check(
        500,
        (1..u64::MAX, option::of("[a-z0-9_][a-z0-9_.-]{0,8}"), "[A-Za-z ]{0,9}", "[A-Za-z ]{0,9}"),
        |(id, cluster, before, after)| {
            let job = JobId { id, cluster };
            let text = format!("{before}\n{job}\n{after}\n");
            let outcome = slurm_sandbox::slurm::sbatch::outcome(&output(End::Exit(0), text, ""));
            assert_eq!(outcome, slurm_sandbox::slurm::sbatch::Outcome::Submitted(job));
        },
    );
}

#[test]
fn no_word_is_an_end_but_slurms_own() {
    const ENDS: &[&str] = &[
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMEOUT",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "BOOT_FAIL",
        "DEADLINE",
        "PREEMPTED",
        "LAUNCH_FAILED",
        "RECONFIG_FAIL",
    ];
    let state = (
        prop_oneof![select(STATES).prop_map(str::to_owned), select(ENDS).prop_map(str::to_owned), text()],
        "[A-Z +]{0,3}",
    );
    check(2000, state, |(word, more)| {
        let word = word + &more;
        let ended = State::new(&word).class() == Class::Ended;
        assert_eq!(
            ended,
            ENDS.iter().any(|end| word == *end
                || word.starts_with(&format!("{end} "))
                || word.starts_with(&format!("{end}+")))
        );
    });
}

#[test]
fn any_reason_has_some_hope() {
    check(500, text(), |reason| {
        pending_reason(&reason);
    });
}
