//! Several calls at once. Nothing in the client serialises them.

use std::time::Duration;

use serde_json::json;

use super::session::Login;
use super::site::{Call, Open, Setup, Site, job_of};
use super::wire::Reply;

/// The same acquire from several callers at once: one job, one cloud id, and a login for each.
pub fn acquires_of_one_lease_at_once(open: Open) {
    let site = open(Setup::default());
    for callers in [2, 10] {
        let lease = site.lease("same");
        let running: Vec<_> = (0..callers).map(|_| site.spawn(site.acquiring(&lease, json!({})))).collect();
        let answers: Vec<_> = running.into_iter().map(|running| site.reply(running).lease().clone()).collect();
        let job = job_of(&answers[0]);
        assert!(
            answers
                .iter()
                .all(|answer| answer["cloudId"] == answers[0]["cloudId"] && answer["ssh"] == answers[0]["ssh"]),
            "{answers:?}"
        );
        assert_eq!(site.all_jobs(&lease), [format!("{job} RUNNING")], "{callers} callers");
        assert_eq!(Login::of(&answers[callers - 1]).ssh(&site, "echo $SLURM_JOB_ID").line(), job);
        site.release_cleanly(&lease);
    }
}

/// release against acquires of the same lease: when all is over and released once more, nothing is left, and a
/// lease that was answered last was real.
pub fn acquires_against_releases(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("fight");
    for pause in [30, 120, 300] {
        let acquiring: Vec<_> = (0..2).map(|_| site.spawn(site.acquiring(&lease, json!({})))).collect();
        std::thread::sleep(Duration::from_millis(pause));
        let request = site.request("release", json!({"lease": lease.desired()}));
        let releasing = site.spawn(Call::request(&request));
        let listing = site.spawn(Call::request(&site.request("list", json!({}))));
        site.reply(releasing);
        site.reply(listing).ok();
        for running in acquiring {
            let reply = site.reply(running);
            if reply.value.get("lease").is_none() {
                let refusal = reply.error();
                assert!(
                    ["not-found", "releasing", "busy", "job-ended"].contains(&refusal.code.as_str()),
                    "{}",
                    reply.value
                );
                refusal.says(&[&lease.id]);
            }
        }
        assert!(site.live_jobs(&lease).len() <= 1, "{:?}", site.live_jobs(&lease));
    }
    site.release_cleanly(&lease);
    assert_eq!(site.row(&lease), None);
}

/// list and cleanup beside everything else: they never fail, never end what lives, and always show what is there.
pub fn inventories_beside_everything_else(open: Open) {
    let site = open(Setup::default());
    let stays = site.lease("stays");
    let handed = site.acquired(&stays, json!({}));
    let others: Vec<_> = (0..3).map(|_| site.lease("comes")).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = others
            .iter()
            .map(|lease| {
                let site = &site;
                scope.spawn(move || {
                    site.acquired(lease, json!({}));
                    site.release(lease).ok();
                })
            })
            .collect();
        let mut rounds = 0;
        while workers.iter().any(|worker| !worker.is_finished()) || rounds < 3 {
            let listing: Vec<_> = (0..2)
                .map(|_| site.spawn(Call::request(&site.request("list", json!({"all": true, "refresh": true})))))
                .collect();
            let cleaning = site.spawn(Call::request(&site.request("cleanup", json!({}))));
            for running in listing {
                let reply = site.reply(running);
                assert!(reply.rows().iter().any(|row| row["leaseId"] == stays.id.as_str()), "{}", reply.value);
            }
            site.reply(cleaning).ok();
            rounds += 1;
        }
    });
    assert_eq!(site.resolve(&stays.id).lease()["cloudId"], handed["cloudId"]);
    for lease in others.iter().chain([&stays]) {
        site.release_cleanly(lease);
    }
}

/// Acquires of different leases while cleanup runs without a pause: none may lose what it is just making.
pub fn cleanups_beside_starting_acquires(open: Open) {
    let site = open(Setup::default());
    let leases: Vec<_> = (0..6).map(|_| site.lease("starts")).collect();
    let mut acquiring: Vec<_> = leases.iter().map(|lease| site.spawn(site.acquiring(lease, json!({})))).collect();
    while acquiring.iter_mut().any(|running| !running.is_over()) {
        site.ask("cleanup", json!({})).ok();
    }
    let replies: Vec<Reply> = acquiring.into_iter().map(|running| site.reply(running)).collect();
    for (reply, lease) in replies.iter().zip(&leases) {
        reply.lease();
        site.release_cleanly(lease);
    }
}

/// A hundred questions at once are not the controller's business, and an answer is one even so.
pub fn many_resolves_at_once(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("asked");
    let handed = site.acquired(&lease, json!({}));
    let request = site.request("resolve", json!({"id": lease.id}));
    let running: Vec<_> = (0..8).map(|_| site.spawn(Call::request(&request))).collect();
    for running in running {
        assert_eq!(site.reply(running).lease()["ssh"], handed["ssh"]);
    }
    site.release_cleanly(&lease);
}

impl Site {
    /// Waits for the end of a row: what a release that could not wait has left is finished by list.
    #[track_caller]
    pub fn settled_by_list(&self, lease: &super::site::Lease, limit: Duration) {
        super::process::until("list settles it", limit, || self.row(lease).is_none().then_some(()));
    }
}
