//! The one connection of a client outside, and everything that can happen to it: whatever does, nothing is lost, what is not
//! known is not said, and the login host is not pestered.

use std::time::Duration;

use serde_json::{Value, json};

use super::campus::Campus;
use super::process;
use super::session::Login;
use super::site::{CONNECTIONS, Call, Open, Place, Setup, Site, job_of};
use super::wire::Reply;

/// On the campus without accounting, where nobody else is this user, whose logins are counted.
const ALONE: Setup = Setup { accounting: false, user: "mallory", alone: true };

impl Site {
    #[track_caller]
    pub fn on_campus(&self) -> &Campus {
        match &self.place {
            Place::Campus(campus) => campus,
            Place::Fake(_) => panic!("this needs the campus"),
        }
    }

    /// How often the login host's sshd has said this of the user.
    #[track_caller]
    fn sshd_said(&self, text: &str) -> usize {
        let campus = self.on_campus();
        let script = format!("grep -c '{text} {} ' /var/log/sshd.log; :", campus.user());
        let output = process::run(campus.shell("login", "root", &[], &script), Vec::new(), Duration::from_secs(20));
        output.line().parse().expect("a number")
    }

    #[track_caller]
    pub fn logins(&self) -> usize {
        self.sshd_said("Accepted publickey for")
    }

    /// Kills the masters of this site; how many there were.
    #[track_caller]
    fn kill_masters(&self) -> usize {
        let script = format!(
            "for s in {CONNECTIONS}/*; do [ -S $s ] || continue; \
             pid=$(ssh -O check -S $s x 2>&1 | sed -n 's/.*pid=\\([0-9]*\\).*/\\1/p'); [ \"$pid\" ] && kill -9 $pid && echo $pid; done; :",
        );
        self.client(&script).ok().lines().count()
    }

    /// A process of the user on the login host.
    #[track_caller]
    fn runs_on_login(&self, name: &str) {
        process::until(&format!("{name} runs on the login host"), Duration::from_secs(20), || {
            let pids = self.on_campus().control("pids", &["login", self.on_campus().user()]);
            pids.stdout.lines().any(|line| line.split(' ').nth(1) == Some(name)).then_some(())
        });
    }
}

/// Heals what a scenario has broken, however it ends.
struct Healed<'a>(&'a Site);

impl Drop for Healed<'_> {
    fn drop(&mut self) {
        // Without a panic of its own, which would hide the first.
        let campus = self.0.on_campus();
        let _ = campus.tool("net").args(["login", "heal"]).output();
        let _ = campus.tool("svc").args(["login", "start", "sshd"]).output();
        let _ = campus.tool("svc").args(["ctl", "thaw", "slurmctld"]).output();
    }
}

/// Everything that a lease is for, with one login.
pub fn one_login(_: Open) {
    let site = Site::laptop_apart(ALONE);
    let before = site.logins();
    let lease = site.lease("login");
    let handed = site.acquired(&lease, json!({}));
    let login = Login::of(&handed);
    assert_eq!(login.ssh(&site, "echo $SLURM_JOB_ID").line(), job_of(&handed));
    login.transfer(&site);
    assert_eq!(site.row(&lease).expect("listed")["ssh"], handed["ssh"]);
    assert_eq!(site.resolve(&lease.slug).lease()["ssh"], handed["ssh"]);
    site.ask("touch", json!({"lease": lease.desired(), "state": "running"})).ok();
    site.ask("cleanup", json!({})).ok();
    site.release_cleanly(&lease);
    assert_eq!(site.logins() - before, 1);
}

/// What doctor sees of a login host, and that one trouble with it is told once.
pub fn a_doctor_from_outside(_: Open) {
    let site = Site::laptop_apart(ALONE);
    let doctor = site.ask("doctor", json!({}));
    let checks = doctor.ok()["checks"].as_array().expect("checks").clone();
    let status = |checks: &[Value], name: &str| {
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no check {name:?}"))["status"].as_str().unwrap().to_owned()
    };
    for name in ["login host", "clock", "one connection", "forwarding", "slurm commands", "controller", "private keys"]
    {
        assert_eq!(status(&checks, name), "ok", "{name}: {}", doctor.value);
    }
    let campus = site.on_campus();
    let healed = Healed(&site);
    site.kill_masters();
    campus.control("svc", &["login", "stop", "sshd"]);
    let doctor = site.ask("doctor", json!({}));
    doctor.refused("doctor-red").says(&["login host", "Connection refused"]);
    assert_eq!(doctor.error().text.matches("Connection refused").count(), 1, "{}", doctor.value);
    assert!(!doctor.error().text.contains("squeue"), "{}", doctor.value);
    drop(healed);
    site.ask("doctor", json!({})).ok();
}

/// More calls at once than a connection takes sessions by default.
pub fn twelve_at_once(_: Open) {
    let site = Site::laptop_apart(Setup { user: "bob", alone: false, ..ALONE });
    let before = site.logins();
    let leases: Vec<_> = (0..12).map(|_| site.lease("crowd")).collect();
    let running: Vec<_> = leases.iter().map(|lease| site.spawn(site.acquiring(lease, json!({})))).collect();
    let replies: Vec<Reply> = running.into_iter().map(|running| site.reply(running)).collect();
    let jobs: Vec<String> = replies.iter().map(|reply| job_of(reply.lease())).collect();
    let inside: Vec<_> =
        replies.iter().map(|reply| site.background(&Login::of(reply.lease()).line("echo $SLURM_JOB_ID"))).collect();
    let inside: Vec<String> =
        inside.into_iter().map(|running| running.end(Duration::from_secs(60)).line().to_owned()).collect();
    assert_eq!(inside, jobs);
    let releases =
        leases.iter().map(|lease| Call::request(&site.request("release", json!({"lease": lease.desired()}))));
    let running: Vec<_> = releases.map(|call| site.spawn(call)).collect();
    for running in running {
        site.reply(running).ok();
    }
    assert_eq!(site.list(), Vec::<Value>::new());
    let logins = site.logins() - before;
    assert!((2..=4).contains(&logins), "{logins} logins for sessions of two connections");
}

/// The master is killed, which leaves its socket: while nobody needs it, while a call waits, and under a session.
pub fn a_master_that_is_killed(_: Open) {
    let site = Site::laptop_apart(ALONE);
    let before = site.logins();
    let [lease, waits] = [site.lease("used"), site.lease("waits")];
    let handed = site.acquired(&lease, json!({}));
    assert_eq!(site.kill_masters(), 1);
    assert_eq!(site.row(&lease).expect("listed")["labels"]["state"], "ready");
    assert_eq!(site.kill_masters(), 1);
    assert_eq!(Login::of(&handed).ssh(&site, "echo in").line(), "in", "the proxy makes a master as well");

    let waiting = site.spawn(site.acquiring(&waits, json!({"partition": "closed"})));
    let job = site.job_in(&waits, "PENDING");
    assert_eq!(site.kill_masters(), 1);
    site.let_start(&job);
    assert_eq!(job_of(site.reply(waiting).lease()), job);
    assert_eq!(site.all_jobs(&waits), [format!("{job} RUNNING")]);
    assert_eq!(site.kill_masters(), 1);
    for lease in [&lease, &waits] {
        site.release_cleanly(lease);
    }
    assert_eq!(site.logins() - before, 5);
}

/// The master dies under calls, as OpenSSH 8.4's does with a client that is killed: none of them notices.
pub fn a_master_killed_under_calls(_: Open) {
    let site = Site::laptop_apart(ALONE);
    let lease = site.lease("beside");
    let handed = site.acquired(&lease, json!({}));
    let touch = json!({"lease": lease.desired(), "state": "running"});
    let mut killed = 0;
    for moment in [0, 20, 40, 70, 110, 160, 220, 300] {
        let ask = |operation: &str, fields| site.spawn(Call::request(&site.request(operation, fields)));
        let (list, touch) = (ask("list", json!({})), ask("touch", touch.clone()));
        let resolve = ask("resolve", json!({"id": lease.id}));
        std::thread::sleep(Duration::from_millis(moment));
        killed += site.kill_masters();
        let listed = site.reply(list);
        assert_eq!(listed.rows()[0]["labels"]["state"], "ready", "{moment} ms: {}", listed.stderr);
        site.reply(touch).ok();
        assert_eq!(site.reply(resolve).lease()["ssh"], handed["ssh"], "{moment} ms");
    }
    assert!(killed > 0);
    let release = site.spawn(Call::request(&site.request("release", json!({"lease": lease.desired()}))));
    std::thread::sleep(Duration::from_millis(60));
    site.kill_masters();
    site.reply(release).ok();
    site.settled_by_list(&lease, Duration::from_secs(30));
    site.nothing_left(&lease);
}

/// The client is killed with its whole process group while the first call logs in.
pub fn a_caller_killed_at_its_first_login(_: Open) {
    let site = Site::laptop_apart(ALONE);
    let lease = site.lease("first");
    for moment in [5, 20, 40, 80, 120, 160, 220, 300] {
        let mut call = site.spawn(site.acquiring(&lease, json!({"partition": "closed"})));
        std::thread::sleep(Duration::from_millis(moment));
        call.kill();
        drop(call);
        let rows = site.ask("list", json!({}));
        assert!(rows.rows().len() <= 1 && rows.took < process::limit(5), "{moment} ms: {:?}", rows.took);
        site.kill_masters();
    }
    let job = site.spawn(site.acquiring(&lease, json!({})));
    process::until("a job waits or runs", Duration::from_secs(30), || {
        (!site.live_jobs(&lease).is_empty()).then_some(())
    });
    let live = site.live_jobs(&lease);
    assert_eq!(live.len(), 1, "{live:?}");
    site.let_start(live[0].split(' ').next().unwrap_or_default());
    site.reply(job).lease();
    site.release_cleanly(&lease);
}

/// Every packet to and from the login host is lost without a word, in the middle of everything.
pub fn a_network_that_is_cut(_: Open) {
    let site = Site::laptop_apart(ALONE);
    let healed = Healed(&site);
    let [one, two, waits, late] = ["one", "two", "waits", "late"].map(|word| site.lease(word));
    let handed = site.acquired(&one, json!({}));
    site.acquired(&two, json!({}));
    let waiting = site.spawn(site.acquiring(&waits, json!({"partition": "closed", "acquireTimeoutSeconds": 150})));
    let job = site.job_in(&waits, "PENDING");
    process::until("its row", Duration::from_secs(20), || {
        (site.row(&waits)?["cloudId"] == format!("slurm/job/{job}")).then_some(())
    });
    site.on_campus().control("net", &["login", "cut"]);
    let ask = |operation: &str, fields| site.spawn(Call::request(&site.request(operation, fields)));
    let list = ask("list", json!({}));
    let release = ask("release", json!({"lease": two.desired()}));
    let resolve = ask("resolve", json!({"id": one.id}));
    let acquire = site.spawn(site.acquiring(&late, json!({"acquireTimeoutSeconds": 5})));
    let release = site.reply(release);
    assert!(release.took < process::limit(28), "the client kills a release after 30 s: {:?}", release.took);
    release.refused("releasing").says(&[&two.id]);
    let listed = site.reply(list);
    assert!(listed.took < process::limit(40), "{:?}", listed.took);
    for row in listed.rows() {
        assert!(!["missing", "failed", "stopped"].contains(&row["labels"]["state"].as_str().unwrap()), "{row}");
    }
    assert!(
        [&one, &two, &waits].iter().all(|lease| listed.rows().iter().any(|row| row["leaseId"] == lease.id.as_str()))
    );
    let resolved = site.reply(resolve);
    assert_ne!(resolved.error().code, "job-ended");
    assert!(resolved.took < process::limit(45), "{:?}", resolved.took);
    let refused = site.reply(acquire);
    refused.error().says(&[&late.id]);
    assert!(refused.took < process::limit(45), "{:?}", refused.took);

    site.on_campus().control("net", &["login", "heal"]);
    site.let_start(&job);
    assert_eq!(job_of(site.reply(waiting).lease()), job);
    assert_eq!(site.resolve(&one.id).lease()["ssh"], handed["ssh"]);
    assert_eq!(Login::of(&handed).ssh(&site, "echo in").line(), "in");
    site.settled_by_list(&two, Duration::from_secs(30));
    site.release(&late).ok();
    for lease in [&two, &late] {
        site.nothing_left(lease);
    }
    for lease in [&one, &waits] {
        site.release_cleanly(lease);
    }
    drop(healed);
}

/// The login host takes no new connections, and the old one is gone.
pub fn a_login_host_that_refuses_connections(_: Open) {
    let site = Site::laptop_apart(ALONE);
    let healed = Healed(&site);
    let lease = site.lease("lives");
    let handed = site.acquired(&lease, json!({}));
    site.on_campus().control("svc", &["login", "stop", "sshd"]);
    assert_eq!(site.row(&lease).expect("listed")["labels"]["state"], "ready", "the open connection stays");
    site.kill_masters();
    let listed = site.ask("list", json!({}));
    assert_eq!(
        (&listed.rows()[0]["cloudId"], &listed.rows()[0]["labels"]["state"]),
        (&handed["cloudId"], &json!("unknown"))
    );
    assert!(listed.stderr.contains("login") && listed.took < process::limit(5), "{:?} {}", listed.took, listed.stderr);
    let late = site.lease("late");
    let refused = site.acquire(&late, json!({"acquireTimeoutSeconds": 3}));
    site.refusal(&refused, "slurm-unavailable", &late, None).says(&["login", "refused"]);
    let connect = site.cli(&["connect", &lease.id]);
    assert!(connect.code != 0 && connect.stderr.contains(&lease.id) && connect.took < process::limit(5), "{connect:?}");
    site.release(&lease).refused("releasing").says(&[&lease.id]);
    site.on_campus().control("svc", &["login", "start", "sshd"]);
    site.settled_by_list(&lease, Duration::from_secs(30));
    site.nothing_left(&lease);
    site.nothing_left(&late);
    drop(healed);
}

/// The connection dies while sbatch asks a controller that stands still: its job may appear later, and is the only one.
pub fn an_sbatch_whose_answer_is_lost(_: Open) {
    let site = Site::laptop_apart(ALONE);
    let healed = Healed(&site);
    let [lives, killed] = [site.lease("answer"), site.lease("killed")];
    site.freeze();
    let waiting = site.spawn(site.acquiring(&lives, json!({"acquireTimeoutSeconds": 80})));
    let mut dropped = site.spawn(site.acquiring(&killed, json!({})));
    site.runs_on_login("sbatch");
    // The other's, too.
    std::thread::sleep(Duration::from_millis(500));
    dropped.kill();
    drop(dropped);
    site.kill_masters();
    std::thread::sleep(Duration::from_secs(1));
    site.thaw();
    let handed = site.reply(waiting).lease().clone();
    let job = job_of(&handed);
    assert_eq!(site.live_jobs(&lives), [format!("{job} RUNNING")]);
    assert_eq!(Login::of(&handed).ssh(&site, "echo $SLURM_JOB_ID").line(), job);
    super::waiting::killed_acquire_is_continued(&site, &killed, "killed while its sbatch asked");
    site.release_cleanly(&lives);
    drop(healed);
}

/// The login host refuses the key: it is not asked as often as we are.
pub fn a_key_that_is_refused(_: Open) {
    let site = Site::laptop_apart(ALONE);
    let config = |key: &str| {
        let text = format!("Host login\n  IdentityFile {key}\n  IdentitiesOnly yes\n");
        site.write("ssh_config", &text)
    };
    let path = config("~/.ssh/id_ed25519");
    site.configure(json!({"sshConfig": path}));
    site.client(&format!("ssh-keygen -q -t ed25519 -N '' -f {}/wrong", site.root)).ok();
    let lease = site.lease("refused");
    let handed = site.acquired(&lease, json!({}));
    config(&format!("{}/wrong", site.root));
    site.kill_masters();
    let before = site.sshd_said("Connection closed by authenticating user");
    for _ in 0..20 {
        let listed = site.ask("list", json!({}));
        let row = &listed.rows()[0];
        assert_eq!((&row["cloudId"], &row["labels"]["state"]), (&handed["cloudId"], &json!("unknown")));
        assert!(listed.stderr.contains("Permission denied"), "{}", listed.stderr);
    }
    let tries = site.sshd_said("Connection closed by authenticating user") - before;
    assert!((1..=4).contains(&tries), "{tries} logins were tried");
    let late = site.lease("late");
    let refused = site.acquire(&late, json!({"acquireTimeoutSeconds": 3}));
    site.refusal(&refused, "slurm-unavailable", &late, None).says(&["Permission denied"]);

    config("~/.ssh/id_ed25519");
    process::until("the pause is over", Duration::from_secs(40), || {
        (site.row(&lease)?["labels"]["state"] == "ready").then_some(())
    });
    site.release_cleanly(&lease);
}

/// Where only the user may log in, we say how and wait for it.
pub fn a_connection_that_only_the_user_may_open(_: Open) {
    let site = Site::laptop_apart(ALONE);
    site.configure(json!({"requireExistingMaster": true}));
    let before = site.logins();
    let lease = site.lease("existing");
    let refused = site.acquire(&lease, json!({"acquireTimeoutSeconds": 3}));
    let refusal = site.refusal(&refused, "slurm-unavailable", &lease, None);
    assert_eq!(site.logins(), before, "it logged in by itself");
    let command = refusal.text.split("open one with: ").nth(1).unwrap_or_else(|| panic!("{}", refusal.text));
    assert!(command.starts_with("ssh ") && command.ends_with(" login"), "{command}");
    // The connection of an older ssh keeps the stderr that it was started with.
    let open = format!("{command} >~/opened 2>&1");
    site.client(&open).ok();
    let handed = site.acquired(&lease, json!({}));
    assert_eq!(Login::of(&handed).ssh(&site, "echo in").line(), "in");
    assert_eq!(site.logins() - before, 1);
    assert_eq!(site.kill_masters(), 1);
    let outside = Login::of(&handed).ssh(&site, "echo in");
    assert!(outside.code != 0 && outside.stderr.contains("requireExistingMaster"), "{outside:?}");
    assert_eq!(site.row(&lease).expect("listed")["labels"]["state"], "unknown");
    assert_eq!(site.logins() - before, 1, "it logged in by itself");
    site.client(&open).ok();
    site.release_cleanly(&lease);
}
