//! Hundreds and thousands of leases: what they cost the controller, and that the answer still fits the client.

use std::time::Duration;

use serde_json::json;

use crate::scenarios::process;
use crate::scenarios::say;
use crate::scenarios::site::{Call, Lease, Place, Setup, Site, hex, job_of};
use crate::scenarios::wire::Reply;

/// Makes more leases out of one, each with a job id of its own, as shell lines on files.
pub fn multiply(site: &Site, model: &Lease, count: usize, first_job: usize) -> Vec<Lease> {
    let leases = format!("{}/leases", site.state_dir());
    let record = std::fs::read_to_string(format!("{}/record.json", site.record_dir(model))).unwrap();
    let identity = std::fs::read_to_string(format!("{}/identity.json", site.record_dir(model))).unwrap();
    let job = format!("\"id\": {}", job_of(&site.row(model).unwrap()));
    assert!(record.contains(&job), "{record}");
    let made: Vec<Lease> =
        (0..count).map(|_| Lease::of(&format!("cbx_{}", hex(6)), "golden-crab-of-the-day")).collect();
    for (n, lease) in made.iter().enumerate() {
        let dir = format!("{leases}/{}", lease.id);
        std::fs::create_dir(&dir).unwrap();
        let of = |text: &str| {
            text.replace(&model.id, &lease.id).replace(&model.name, &lease.name).replace(&model.slug, &lease.slug)
        };
        let record = of(&record).replace(&job, &format!("\"id\": {}", first_job + n));
        std::fs::write(format!("{dir}/record.json"), record).unwrap();
        std::fs::write(format!("{dir}/identity.json"), of(&identity)).unwrap();
        std::fs::write(format!("{dir}/lock"), "").unwrap();
    }
    site.shell(&format!("chmod -R go= {leases}")).ok();
    made
}

fn calls(site: &Site) -> usize {
    let Place::Fake(fake) = &site.place else { panic!("the fake") };
    fake.control(&["calls"]).line().parse().unwrap()
}

#[test]
fn a_thousand_leases_cost_one_question() {
    let site = Site::fake(Setup::default());
    let model = site.lease("model");
    site.acquired(&model, json!({}));
    multiply(&site, &model, 1000, 100_000);
    let before = calls(&site);
    let reply = site.ask("list", json!({}));
    say(&format!(
        "measured: fake: list of 1,001 leases, 1,000 denied for the first time: {} ms",
        reply.took.as_millis()
    ));
    assert_eq!(reply.rows().len(), 1001);
    assert_eq!(calls(&site) - before, 1, "one squeue for all");
    let again = site.ask("list", json!({"all": true, "refresh": true}));
    say(&format!("measured: fake: list of 1,001 leases: {} ms", again.took.as_millis()));
    assert_eq!(again.rows().len(), 1001);
    assert_eq!(calls(&site) - before, 2);
    // An outage and its end cost no more.
    let Place::Fake(fake) = &site.place else { panic!("the fake") };
    fake.control(&["set", "all", "down"]).ok();
    let down = site.ask("list", json!({}));
    assert_eq!(down.rows().len(), 1001);
    assert!(down.stderr.lines().count() <= 3, "{}", down.stderr);
    fake.control(&["clear"]).ok();
    let cleanup = site.ask("cleanup", json!({"dryRun": true}));
    cleanup.ok();
    // Where the calls came so slowly that it is a second denial, some are asked for by themselves, 64 a call at most.
    assert!(calls(&site) - before <= 6 + 64, "{} questions", calls(&site) - before);
    assert_eq!(site.resolve(&model.id).lease()["status"], "RUNNING");
    site.release(&model).ok();
}

/// Slurm's answer of a moment ago is shared by those who resolve what was proven just now; an older one is not.
#[test]
fn resolves_share_answers() {
    let site = Site::fake(Setup::default());
    let lease = site.lease("shared");
    site.acquired(&lease, json!({}));
    site.resolve(&lease.id).lease();
    let (before, began) = (calls(&site), std::time::Instant::now());
    for _ in 0..10 {
        site.resolve(&lease.id).lease();
    }
    let most = 1 + began.elapsed().as_secs() as usize / 2;
    assert!(calls(&site) - before <= most, "{} questions, {most} would do", calls(&site) - before);
    let before = calls(&site);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    site.resolve(&lease.id).lease();
    assert_eq!(calls(&site) - before, 1, "the last answer is old");
    site.release(&lease).ok();
}

/// Releases at once ask together: each believes only what was asked for after its own cancellation.
#[test]
fn releases_share_answers() {
    const COUNT: usize = 16;
    let site = Site::fake(Setup::default());
    let leases: Vec<Lease> = (0..COUNT).map(|_| site.lease("together")).collect();
    process::each(&leases, |lease| {
        site.acquired(lease, json!({}));
    });
    let Place::Fake(fake) = &site.place else { panic!("the fake") };
    let asked = || fake.control(&["calls", "squeue"]).line().parse::<usize>().unwrap();
    let before = asked();
    let release =
        |lease: &Lease| Call::request(&site.request("release", json!({"lease": lease.desired(), "force": true})));
    let running: Vec<_> = leases.iter().map(|lease| site.spawn(release(lease))).collect();
    for call in running {
        Reply::read(&call.end(Duration::from_secs(60))).ok();
    }
    let questions = asked() - before;
    say(&format!("measured: fake: {questions} questions for {COUNT} releases at once"));
    // Each by itself would ask before its scancel and at least once after it.
    assert!(questions < 2 * COUNT, "{questions} questions for {COUNT} releases");
    leases.iter().for_each(|lease| site.nothing_left(lease));
}

#[test]
fn the_list_of_five_thousand_leases_fits() {
    let site = Site::fake(Setup::default());
    let model = site.lease("model");
    site.acquired(&model, json!({}));
    let made = multiply(&site, &model, 5000, 100_000);
    let Place::Fake(fake) = &site.place else { panic!("the fake") };
    // Without an answer of Slurm nothing is written down for each.
    fake.control(&["set", "squeue", "down"]).ok();
    let reply = site.ask("list", json!({}));
    say(&format!("measured: fake: list of 5,001 leases: {} ms", reply.took.as_millis()));
    let ids: std::collections::HashSet<_> =
        reply.rows().iter().map(|row| row["leaseId"].as_str().unwrap().to_owned()).collect();
    assert!(made.iter().all(|lease| ids.contains(&lease.id)) && ids.len() == 5001);
    // A slug that all of them have makes a message that is still one line.
    let twin = site.resolve(&made[0].slug);
    twin.refused("not-found");
    assert!(reply.took < process::limit(20), "{:?}", reply.took);
    fake.control(&["clear"]).ok();
    let only = site.ask("resolve", json!({"id": made[7].id, "releaseOnly": true}));
    assert!(only.lease()["leaseId"] == made[7].id.as_str() && only.took < process::limit(1), "{:?}", only.took);
    site.release(&model).ok();
}
