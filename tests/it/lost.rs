//! Commands of Slurm that lie, die, or never answer, one knob of the fake at a time: no job is lost, none runs twice,
//! nothing is called gone that is not.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use crate::scenarios::process::{self, Output};
use crate::scenarios::session::Login;
use crate::scenarios::site::{Call, Lease, Place, Setup, Site, job_of};
use crate::scenarios::wire::Reply;

fn site() -> Site {
    Site::fake(Setup::default())
}

#[track_caller]
fn control(site: &Site, words: &str) -> Output {
    let Place::Fake(fake) = &site.place else { panic!("these need the fake") };
    let (words, times) = words.split_once(" --times ").map_or((words, None), |(words, times)| (words, Some(times)));
    // The last of four words may be a text with spaces.
    let mut words: Vec<&str> = words.splitn(4, ' ').collect();
    words.extend(times.iter().flat_map(|times| ["--times", *times]));
    let output = fake.control(&words);
    output.ok();
    output
}

fn calls(site: &Site, command: &str) -> usize {
    control(site, &format!("calls {command}")).line().parse().unwrap()
}

/// Waits until so many submissions have been answered.
#[track_caller]
fn submitted(site: &Site, count: usize) {
    process::until("sbatch's answer", Duration::from_secs(40), || {
        let calls = control(site, "calls sbatch --list");
        // The third column is the exit code, `-` while it runs.
        let answered = calls.stdout.lines().filter(|line| line.split('\t').nth(2) != Some("-")).count();
        (answered >= count).then_some(())
    });
}

/// The one lease that came of it all: a login works, one job lives, and in the end nothing is left.
#[track_caller]
fn whole(site: &Site, lease: &Lease, handed: &Value, what: &str) {
    let job = job_of(handed);
    assert_eq!(site.live_jobs(lease), [format!("{job} RUNNING")], "{what}");
    assert_eq!(Login::of(handed).ssh(site, "echo $SLURM_JOB_ID").line(), job, "{what}");
    site.release_cleanly(lease);
}

/// sbatch's answer is lost, late, or comes with noise; its job exists or appears later. It is found by name.
#[rstest]
#[case::timeout_done("timeout done")]
#[case::timeout_2("timeout 2")]
#[case::zero_bytes_done("zero-bytes done")]
#[case::zero_bytes_1("zero-bytes 1")]
#[case::empty("empty")]
#[case::garble("garble")]
#[case::truncate_0("truncate 0")]
#[case::banner("banner")]
#[case::banner_after("banner-after")]
#[case::banner_welcome_to_cluster_12("banner Welcome to cluster 12")]
#[case::banner_stderr("banner-stderr")]
#[case::banner_after_99_bottles("banner-after 99 bottles")]
fn submissions_whose_answer_is_lost_are_found(#[case] fault: &str) {
    let site = site();
    let lease = site.lease("lost");
    control(&site, &format!("set sbatch {fault}"));
    let reply = site.acquire(&lease, json!({}));
    assert_eq!(calls(&site, "sbatch"), 1, "{fault}: submitted twice");
    whole(&site, &lease, reply.lease(), fault);
}

/// The request is lost for good: after two denials another attempt, and never two jobs past their permit.
#[rstest]
#[case::timeout_lost("timeout lost")]
#[case::zero_bytes_lost("zero-bytes lost")]
#[case::frozen_then_killed("frozen-then-killed")]
fn submissions_that_are_lost_are_made_again(#[case] fault: &str) {
    let site = site();
    let lease = site.lease("again");
    control(&site, &format!("set sbatch {fault}"));
    let waiting = site.spawn(site.acquiring(&lease, json!({})));
    submitted(&site, 1);
    control(&site, "clear sbatch");
    let reply = site.reply(waiting);
    assert_eq!(calls(&site, "sbatch"), 2, "{fault}");
    whole(&site, &lease, reply.lease(), fault);
}

/// A job of an attempt that was given up starts late: it finds no permit and ends by itself.
#[test]
fn a_job_that_appears_late_ends_by_itself() {
    let site = site();
    let lease = site.lease("ghost");
    // The first request is held back until `clear`, the next one gets through.
    control(&site, "set sbatch timeout thaw --times 1");
    let waiting = site.spawn(site.acquiring(&lease, json!({})));
    let handed = site.reply(waiting).lease().clone();
    assert_eq!(calls(&site, "sbatch"), 2);
    let job = job_of(&handed);
    control(&site, "clear sbatch");
    // One job of a name runs at a time, so the late one waits behind the lease's own.
    let late = process::until("the late job", Duration::from_secs(10), || {
        site.live_jobs(&lease).into_iter().find(|line| !line.starts_with(&format!("{job} ")))
    });
    assert!(late.ends_with(" PENDING"), "{late}");
    // Whoever looks next ends it.
    site.list();
    process::until("only one lives", Duration::from_secs(10), || {
        (site.live_jobs(&lease) == [format!("{job} RUNNING")]).then_some(())
    });
    whole(&site, &lease, &handed, "a late job");
}

/// The caller dies with its process group between the submission and its own record of it.
#[rstest]
#[case::after("after")]
#[case::after_group("after-group")]
#[case::before("before")]
#[case::before_group("before-group")]
fn an_acquire_killed_by_its_sbatch(#[case] moment: &str) {
    let site = site();
    let lease = site.lease("dies");
    control(&site, &format!("set sbatch kill-parent {moment}"));
    let output = site.run(site.acquiring(&lease, json!({})));
    assert_eq!((output.code, output.stdout.as_str()), (128 + 9, ""), "{}", output.stderr);
    control(&site, "clear sbatch");
    let row = site.row(&lease).expect("listed");
    assert_eq!(row["labels"]["state"], "provisioning", "{row}");
    let reply = site.acquire(&lease, json!({}));
    let submitted = if moment.contains("after") { 1 } else { 2 };
    assert_eq!(calls(&site, "sbatch"), submitted);
    whole(&site, &lease, reply.lease(), moment);
}

/// The same in a release: the next one finishes it.
#[rstest]
#[case::scancel_after("scancel kill-parent after")]
#[case::scancel_before("scancel kill-parent before")]
#[case::squeue_after("squeue kill-parent after")]
#[case::squeue_before_group("squeue kill-parent before-group")]
fn a_release_killed_by_its_own_command(#[case] fault: &str) {
    let site = site();
    let lease = site.lease("dies");
    site.acquired(&lease, json!({}));
    control(&site, &format!("set {fault}"));
    let output = site.run(Call::request(&site.request("release", json!({"lease": lease.desired()}))));
    assert_eq!((output.code, output.stdout.as_str()), (128 + 9, ""), "{}", output.stderr);
    control(&site, "clear");
    site.release_cleanly(&lease);
}

/// A release after a submission whose fate is unknown: an error that keeps it listed, until the job appears and is
/// ended by whoever looks next.
#[test]
fn a_release_before_the_fate_of_a_submission_is_known() {
    let site = site();
    let lease = site.lease("early");
    control(&site, "set sbatch timeout thaw");
    let mut waiting = site.spawn(site.acquiring(&lease, json!({})));
    submitted(&site, 1);
    std::thread::sleep(Duration::from_millis(300));
    waiting.kill();
    drop(waiting);
    let release = site.release(&lease);
    assert!(release.took < process::limit(25), "{:?}", release.took);
    site.refusal(&release, "releasing", &lease, None);
    assert_eq!(site.row(&lease).expect("listed")["labels"]["state"], "deleting");
    control(&site, "clear");
    process::until("it appeared and ended", Duration::from_secs(20), || {
        (!site.all_jobs(&lease).is_empty()).then_some(())
    });
    site.settled_by_list(&lease, Duration::from_secs(20));
    site.nothing_left(&lease);
}

/// scancel that does nothing, or says that it failed: release does not believe either, and says so.
#[rstest]
#[case::noeffect("noeffect")]
#[case::timeout_lost("timeout lost")]
#[case::error_exit0("error-exit0")]
#[case::down("down")]
fn cancellations_that_do_nothing(#[case] fault: &str) {
    let site = site();
    let lease = site.lease("stays");
    let job = job_of(&site.acquired(&lease, json!({"runnerScript": site.write("stubborn.sh", STUBBORN)})));
    control(&site, &format!("set scancel {fault}"));
    let release = site.release(&lease);
    site.refusal(&release, "releasing", &lease, Some(&job));
    assert!(release.took < process::limit(25), "{fault} took {:?}", release.took);
    assert_eq!(site.live_jobs(&lease), [format!("{job} RUNNING")], "{fault}");
    assert_eq!(site.row(&lease).expect("listed")["labels"]["state"], "deleting", "{fault}");
    control(&site, "clear");
    site.settled_by_list(&lease, Duration::from_secs(20));
    site.shell(&format!("rm -rf {}/work", site.root)).ok();
    site.nothing_left(&lease);
}

/// In the reference adapter's contract: it does not end when its permit goes.
const STUBBORN: &str = crate::scenarios::runners::REFERENCE;

/// squeue that fails, lies or stammers: the row stays, nothing is gone, nothing is cancelled, and a lease that works is
/// not called dead.
#[rstest]
#[case::down("down")]
#[case::timeout("timeout")]
#[case::zero_bytes("zero-bytes")]
#[case::munge_here("munge-here")]
#[case::munge_there("munge-there")]
#[case::empty("empty")]
#[case::garble("garble")]
#[case::truncate("truncate")]
#[case::truncate_20("truncate 20")]
#[case::banner("banner")]
#[case::banner_after("banner-after")]
#[case::banner_between("banner-between")]
#[case::banner_stderr("banner-stderr")]
#[case::error_exit0("error-exit0")]
#[case::exit_1("exit 1:slurm_load_jobs error: Unexpected message received")]
#[case::unknown_state_expediting("unknown-state EXPEDITING")]
#[case::omit_all("omit all")]
#[case::exit_0("exit 0")]
#[case::exit_7("exit 7")]
fn listings_that_lie_move_nothing(#[case] fault: &str) {
    let site = site();
    let lease = site.lease("shown");
    let handed = site.acquired(&lease, json!({}));
    control(&site, &format!("set squeue {fault}"));
    assert_eq!(site.row(&lease).expect("listed")["cloudId"], handed["cloudId"]);
    let reply = site.ask("resolve", json!({"id": lease.id, "config": {"resolveWaitSeconds": 1}}));
    if reply.value.get("lease").is_none() {
        assert_ne!(reply.error().code, "job-ended", "{}", reply.value);
    }
    site.ask("cleanup", json!({}));
    assert_eq!(calls(&site, "scancel"), 0);
    control(&site, "clear");
    assert_eq!(site.resolve(&lease.id).lease()["ssh"], handed["ssh"]);
    whole(&site, &lease, &handed, fault);
}

/// An id that belongs to another job now: that job is not ours to end.
#[test]
fn recycled_job_ids_are_left_alone() {
    for user in ["user=mallory:4242", &format!("user=me:{}", nix::unistd::getuid())] {
        let site = site();
        let lease = site.lease("recycled");
        let job = job_of(&site.acquired(&lease, json!({})));
        site.shell(&format!("scancel {job}")).ok();
        site.no_live_job(&lease);
        control(&site, &format!("inject id={job} {user} name=innocent"));
        let row = site.row(&lease).expect("listed");
        assert!(["missing", "failed"].contains(&row["labels"]["state"].as_str().unwrap()), "{row}");
        // Another job under the id is believed when it was seen twice, ten seconds apart.
        process::until("the end is proven", Duration::from_secs(40), || {
            let reply = site.resolve(&lease.id);
            let code = reply.value["code"].as_str().unwrap_or_default().to_owned();
            assert!(["job-ended", "timed-out", "endpoint-unusable"].contains(&code.as_str()), "{}", reply.value);
            (code == "job-ended").then_some(())
        });
        site.release(&lease).ok();
        assert_eq!(calls(&site, "scancel"), 1, "only the test's own");
        assert_eq!(site.shell(&format!("squeue -h -j {job} -o '%T %j'")).line(), "RUNNING innocent");
        site.nothing_left(&lease);
    }
}

/// Other things that befall a job: the lease says so at once and lets itself be released.
#[rstest]
#[case::node_fail("node-fail", "NODE_FAIL")]
#[case::oom("oom", "OUT_OF_MEMORY")]
#[case::deadline("deadline", "DEADLINE")]
#[case::preempt_cancel("preempt-cancel", "PREEMPTED")]
#[case::requeue("requeue", "")]
#[case::requeue_hold("requeue-hold", "")]
#[case::suspend("suspend", "SUSPENDED")]
fn jobs_that_meet_an_accident(#[case] event: &str, #[case] words: &str) {
    let site = site();
    let lease = site.lease("accident");
    let handed = site.acquired(&lease, json!({}));
    let job = job_of(&handed);
    control(&site, &format!("hit {job} {event}"));
    process::until(event, Duration::from_secs(15), || {
        let state = site.shell(&format!("squeue -h -t all -j {job} -o %T"));
        (!["RUNNING", "COMPLETING"].contains(&state.line())).then_some(())
    });
    if event == "suspend" {
        // The state is told before the processes stand still; until then the lease can be used.
        let state = format!("ps -o stat= -p $(pgrep -f -- '[-]p {} -E')", Login::of(&handed).port);
        process::until("its sshd stands still", Duration::from_secs(15), || {
            site.shell(&state).line().starts_with('T').then_some(())
        });
    }
    let reply = site.ask("resolve", json!({"id": lease.id, "config": {"resolveWaitSeconds": 1}}));
    let refusal = reply.error();
    refusal.says(&[&lease.id, &format!("job {job}"), words]);
    assert!(refusal.took < process::limit(6), "{event} took {:?}", refusal.took);
    let row = site.row(&lease).expect("listed");
    assert_ne!(row["labels"]["state"], "ready", "{event}: {row}");
    site.release(&lease).ok();
    // Who is killed without a warning cannot clear the node.
    site.shell(&format!(
        "rm -rf {}/work $(grep -lsF -D skip {} /tmp/slurm-sandbox.*/* | xargs -r -n1 dirname)",
        site.root, lease.id
    ))
    .ok();
    site.nothing_left(&lease);
}

/// A job that cannot be launched is an error with a reason, not a wait.
#[rstest]
#[case::in_its_prolog("prolog-fail", "never-runs", "launch failed")]
#[case::by_its_node("launch-fail", "job-ended", "0:53")]
fn jobs_that_cannot_be_launched(#[case] fault: &str, #[case] code: &str, #[case] word: &str) {
    let site = site();
    let lease = site.lease("launch");
    control(&site, &format!("set node {fault}"));
    let reply = site.acquire(&lease, json!({}));
    assert_eq!(reply.value["code"], code, "{fault}: {}", reply.value);
    site.refusal(&reply, code, &lease, None).says(&[word]);
    assert!(reply.took < process::limit(15), "{fault} took {:?}", reply.took);
    site.nothing_left(&lease);
}

/// No Slurm at all.
#[test]
fn slurms_commands_are_missing() {
    let site = site();
    let lease = site.lease("none");
    // A real Slurm may be installed, so only what is not Slurm's is on PATH.
    site.shell("mkdir ~/bin; for tool in bash ssh ssh-keygen; do ln -s $(command -v $tool) ~/bin/; done").ok();
    let call = site.acquiring(&lease, json!({})).env("PATH", &format!("{}/home/bin", site.root));
    let reply = Reply::read(&site.run(call));
    site.refusal(&reply, "slurm-unavailable", &lease, None).says(&["PATH"]);
    assert!(reply.took < process::limit(5), "{:?}", reply.took);
    site.nothing_left(&lease);
}
