//! What was found here, each by its smallest input.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slurm_sandbox::allocation::{clusters, merge, view};
use slurm_sandbox::clock::Now;
use slurm_sandbox::config::{self, EndpointHost};
use slurm_sandbox::failure::Kind;
use slurm_sandbox::host::{End, Output};
use slurm_sandbox::lease::Identity;
use slurm_sandbox::lease::lifecycle::{Verdict, classify};
use slurm_sandbox::lease::limits::Limits;
use slurm_sandbox::lease::record::{Denials, PinnedEndpoint, Record};
use slurm_sandbox::operation::answer;
use slurm_sandbox::operation::settle::{Step, apply, next_step};
use slurm_sandbox::operation::status::status;
use slurm_sandbox::shared_dir::endpoint_file::{self, Published};
use slurm_sandbox::slurm::job::{JobId, Listing, QueryFailed, Row, State};
use slurm_sandbox::slurm::sbatch::{Outcome, outcome};
use slurm_sandbox::slurm::{sacct, squeue};
use slurm_sandbox::ssh::target;

use crate::lease::{record, row};
use crate::oracle;

const NOW: Now = Now { epoch: 2000, uptime: 2000 };

fn refused(value: &Value) -> bool {
    config::parse(value.as_object().unwrap()).is_err_and(|failure| failure.kind == Kind::BadConfig)
}

fn seen(rows: Vec<Row>) -> Result<Listing, QueryFailed> {
    Ok(Listing { rows, complete: true })
}

/// P1. An end that is written down, then a sight of the job alive (requeued by an operator, or back after a controller
/// lost its state): what lives is cancelled, not called gone.
#[test]
fn p1_an_ended_job_that_lives_again_is_not_gone() {
    let mut record = Record { shared_dir: "/nonexistent".into(), ..record() };
    for state in ["NODE_FAIL", "RUNNING"] {
        let view = view(&record, &seen(vec![Row { state: State::new(state), ..row() }]));
        apply(&mut record, &view, NOW);
        if state == "RUNNING" {
            assert_eq!(next_step(&record, &view, NOW), Step::Cancel(vec![row().job]));
        }
    }
}

/// P2. Nothing was asked, so nothing was denied: `clusters` of commas names no cluster at all.
#[test]
fn p2_no_listing_is_no_denial() {
    let nothing: [Result<Listing, QueryFailed>; 0] = [];
    assert!(!merge(nothing.iter()).is_ok_and(|listing| listing.complete));
}

/// P2, at its source.
#[test]
fn p2_clusters_have_names() {
    for text in [",", "a,", ",a", "a,,b"] {
        assert!(refused(&json!({"clusters": text})), "{text:?}");
    }
    let record = Record { job: None, clusters: Some(",".into()), ..record() };
    let listing = merge(clusters(&record).iter().map(|_| unreachable!("no cluster")));
    assert!(!listing.is_ok_and(|listing| listing.complete));
}

/// P3. `--clusters=all` is every cluster: `scancel --clusters=all 7` ends a job 7 on each of them.
#[test]
fn p3_all_is_no_cluster() {
    assert!(refused(&json!({"clusters": "all"})));
    assert!(refused(&json!({"clusters": "a,all"})));
}

/// P4. The id is what sbatch answered, name and user are ours; the comment was replaced by the site's plugin before the
/// first look, when no time of submission is known yet. Nothing says that it is another job.
#[test]
fn p4_a_job_is_owned_by_id_and_name_until_its_submission_is_known() {
    let record = Record { submitted: None, ..record() };
    let seen = seen(vec![Row { comment: "the site's".into(), ..row() }]);
    assert_ne!(classify(&record, &view(&record, &seen).observation, NOW), Verdict::Gone);
}

fn said(end: End, stdout: &str, stderr: &str) -> Outcome {
    outcome(&Output { end, stdout: stdout.into(), stderr: stderr.into(), took: Duration::ZERO })
}

/// P5. sbatch, or a wrapper of it, printed an id and then failed at something else: a job may exist.
#[test]
fn p5_a_printed_id_is_never_no_job() {
    for stderr in ["Invalid license", "AssocMaxSubmitJobLimit", "Unable to contact slurm controller (connect failure)"]
    {
        assert!(matches!(said(End::Exit(1), "12\n", stderr), Outcome::Unknown { .. }), "{stderr}");
    }
}

/// P6. One controller took the request and did not answer, the next could not be reached: open, whatever else is said.
#[test]
fn p6_an_open_send_stays_open_beside_a_failed_connection() {
    let stderr = "sbatch: error: slurm_receive_msg: Socket timed out on send/recv operation\n\
                  sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n";
    assert!(matches!(said(End::Exit(1), "", stderr), Outcome::Unknown { .. }));
}

/// P7. A pattern with many stars is tried in every way there is, against a host that the sandboxed code chose.
#[test]
fn p7_a_pattern_of_many_stars_ends() {
    let rule = EndpointHost::Runner { pattern: "*a".repeat(6) + "b" };
    let published = Published { host: "a".repeat(48), port: 1, host_keys: vec![] };
    let started = Instant::now();
    assert!(endpoint_file::host(&rule, "n1", &published).is_err());
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
}

/// P8. The same directories, spelled otherwise.
#[test]
fn p8_a_shared_work_root_is_refused_however_it_is_written() {
    for text in ["/tmp/.", "//tmp", "/./tmp", "/home//alice", "/home/alice/.", "/home/./alice"] {
        assert!(refused(&json!({"runnerWorkRoot": text})), "{text}");
    }
}

/// P9. FoundLease by fuzzing: a number in sacct's output, or a time in a damaged record, beyond all time.
#[test]
fn p9_times_at_the_ends_of_time_are_no_panic() {
    let text = format!("7|FAILED|1:0|{}|cbx-4b38f35d4e31\n", i64::MIN).replace('|', oracle::MARK);
    assert_eq!(sacct::parse(&text, &oracle::mark(), 7, "cbx-4b38f35d4e31", Some(100)), None);
    for time in [i64::MIN, i64::MAX] {
        let mut record = Record {
            shared_dir: "/nonexistent".into(),
            denied: Denials { first: Some(time), elsewhere: false },
            ..record()
        };
        record.attempt.sent = Some(time);
        let view = view(&record, &seen(vec![]));
        classify(&record, &view.observation, NOW);
        record.job = None;
        next_step(&record, &view, NOW);
    }
}

/// P10. A name may start with a dash; in a proxy command it would be an option.
#[test]
fn p10_a_name_in_a_proxy_command_is_no_option() {
    let mut record = Record { endpoint: Some(PinnedEndpoint { host: "n1".into(), port: 4022 }), ..record() };
    record.identity = Identity::parse("cbx_4b38f35d4e31", "smoke", "-V").unwrap();
    let settings =
        config::parse(json!({"proxyCommand": "jump {name}", "sshUser": "alice"}).as_object().unwrap()).unwrap();
    let command = target::of_lease(&record, &settings).unwrap().proxy_command.unwrap();
    assert!(!command.contains(" -"), "{command}");
}

/// P11. A piece lost from the middle of a listing joins the head of one row to the tail of the next.
#[test]
fn p11_two_rows_run_together_are_not_a_whole_listing() {
    let line = |id: u64| crate::slurm::printed(&Row { job: JobId { id, cluster: None }, ..row() });
    let (first, second) = (line(7), line(8));
    for at in 1..first.len() - 1 {
        let text = first[..at].to_owned() + &second;
        let output = Output { end: End::Exit(0), stdout: text.into(), stderr: vec![], took: Duration::ZERO };
        let listing = squeue::parse_listing(&output, &oracle::mark(), None).unwrap();
        assert!(!listing.complete, "cut at {at}: {listing:?}");
    }
}

/// P12. Slurm's counts are digits.
#[test]
fn p12_a_node_count_is_of_digits() {
    assert!(refused(&json!({"nodes": "+1"})));
    assert!(refused(&json!({"nodes": "1-+2"})));
}

/// P13. Labels of hyphens alone became empty.
#[test]
fn p13_no_label_is_empty() {
    let record = Record { shared_dir: "/nonexistent".into(), ..record() };
    let view = view(&record, &seen(vec![Row { reason: "(...)(".replace('.', "("), ..row() }]));
    let labels = answer::listed(&record, &Limits::default(), &view, &status(&record, &view, NOW), None).labels;
    assert!(labels.values().all(|value| !value.is_empty()), "{labels:?}");
}

/// P14. A comment that imitates the end of a row, or its beginning, hides nothing.
#[test]
fn p14_a_comment_that_imitates_a_mark_hides_no_row() {
    for comment in ["$\nx", "x\n@7"] {
        let text = crate::slurm::printed(&Row { comment: comment.into(), ..row() });
        let output = Output { end: End::Exit(0), stdout: text.into(), stderr: vec![], took: Duration::ZERO };
        let listing = squeue::parse_listing(&output, &oracle::mark(), None).unwrap();
        assert!(listing.complete && listing.rows.len() == 1, "{comment:?}");
    }
}

/// P15. FoundLease by fuzzing: a complaint so long that only its end was told.
#[test]
fn p15_a_long_complaint_names_its_key() {
    let config = json!({"proxyCommand": "{x}".repeat(600), "partition": "a b"});
    let failure = config::parse(config.as_object().unwrap()).unwrap_err().to_string();
    assert!(failure.contains("\"proxyCommand\"") && failure.contains("\"partition\""), "{failure}");
}
