//! What sbatch answers on a bad day, and what the caller is told.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;

use crate::scenarios::process;
use crate::scenarios::site::{Call, Place, Setup, Site};
use crate::scenarios::wire::Reply;

fn site() -> Site {
    Site::fake(Setup::default())
}

#[track_caller]
fn control(site: &Site, words: &[&str]) -> String {
    let Place::Fake(fake) = &site.place else { panic!("these need the fake") };
    fake.control(words).line().to_owned()
}

/// A refusal is one at once, with sbatch's text and what to change.
#[rstest]
#[case::account(
    "reject",
    "Invalid account or account/partition combination specified",
    "submit-rejected",
    "correct account"
)]
#[case::options(
    "exit",
    "1:sbatch: fatal: --core-spec and --thread-spec options are mutually exclusive",
    "submit-rejected",
    "options"
)]
#[case::qos_time(
    "exit",
    "1:sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "submit-rejected",
    "lower timeLimit"
)]
#[case::group_limit(
    "exit",
    "1:sbatch: error: AssocGrpSubmitJobsLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "limit-reached",
    "repeat"
)]
#[case::closed("reject", "System submissions disabled", "slurm-unavailable", "repeat")]
fn refusals_say_what_to_change(#[case] fault: &str, #[case] text: &str, #[case] code: &str, #[case] remedy: &str) {
    let site = site();
    let lease = site.lease("refused");
    control(&site, &["set", "sbatch", fault, text]);
    let reply = site.acquire(&lease, json!({}));
    let refusal = site.refusal(&reply, code, &lease, None);
    refusal.says(&[remedy, text.rsplit(": ").next().unwrap_or_default()]);
    assert_eq!(refusal.retry_safe, code != "submit-rejected");
    assert_eq!(control(&site, &["calls", "sbatch"]), "1");
    assert!(reply.took < process::limit(5), "{:?}", reply.took);
    site.nothing_left(&lease);
}

/// What passes is waited for, and what it was is told where it does not.
#[test]
fn troubles_that_pass() {
    let texts = ["Rate limit exceeded, please retry later", "Slurm backup controller in standby mode"];
    process::each(&texts, |text| {
        let site = site();
        let lease = site.lease("passes");
        control(&site, &["set", "sbatch", "reject", text]);
        let reply = site.acquire(&lease, json!({"acquireTimeoutSeconds": 3}));
        let refusal = site.refusal(&reply, "slurm-unavailable", &lease, None);
        refusal.says(&[text]);
        assert!(refusal.retry_safe);
        site.nothing_left(&lease);
        control(&site, &["set", "sbatch", "reject", text, "--times", "2"]);
        site.acquire(&lease, json!({})).lease();
        site.release_cleanly(&lease);
    });
}

/// Words that are not known: the job is looked for, then sent again.
#[test]
fn unknown_words_are_no_refusal() {
    let site = site();
    let lease = site.lease("unknown");
    control(&site, &["set", "sbatch", "exit", "1:sbatch: error: Transport endpoint is not connected", "--times", "1"]);
    site.acquire(&lease, json!({})).lease();
    assert_eq!(control(&site, &["calls", "sbatch"]), "2");
    site.release_cleanly(&lease);
}

/// And not for ever.
#[test]
fn unknown_words_are_believed_in_the_end() {
    let site = site();
    let lease = site.lease("unclear");
    control(&site, &["set", "sbatch", "exit", "1:sbatch: error: the flux capacitor is empty"]);
    let reply = site.acquire(&lease, json!({"acquireTimeoutSeconds": 80}));
    let refusal = site.refusal(&reply, "slurm-unavailable", &lease, None);
    refusal.says(&["flux capacitor", "3 times"]);
    assert_eq!(control(&site, &["calls", "sbatch"]), "3");
    site.nothing_left(&lease);
}

/// Two numbers are no answer: the job is found by its name, and the other number is nobody's.
#[test]
fn a_second_number_is_not_believed() {
    process::each(&["banner-after", "banner"], |fault| {
        let site = site();
        let lease = site.lease("numbers");
        control(&site, &["set", "sbatch", fault, "5000"]);
        site.acquire(&lease, json!({})).lease();
        assert_eq!(control(&site, &["calls", "sbatch"]), "1");
        site.release_cleanly(&lease);
    });
}

/// Neither TMPDIR nor a PATH of absolute entries is needed, nor is standard input closed.
#[test]
fn odd_places_of_the_process() {
    let site = site();
    let lease = site.lease("odd");
    let call = site.acquiring(&lease, json!({})).env("TMPDIR", "/nonexistent/tmp").before("PATH=.:$PATH:");
    Reply::read(&site.run(call)).lease();
    let request = site.request("list", json!({}));
    let program = format!("{} --state-dir {}", site.program(), site.state_dir());
    let script = format!("mkfifo ~/pipe && exec 8<>~/pipe && cat >&8 && {program} <~/pipe");
    let output = site.shell_with(&script, format!("{request}\n").into_bytes(), Duration::from_secs(30));
    assert!(output.stdout.contains(&lease.id), "{output:?}");
    let whole = Call::raw(format!("{request}x"));
    Reply::read(&site.run(whole)).refused("bad-request");
    site.release_cleanly(&lease);
}
