//! The ways to an endpoint from outside: forwarded by a login host or several, and a session of its own in the job, where
//! nothing listens.

use std::time::Duration;

use serde_json::{Value, json};

use super::process;
use super::session::Login;
use super::site::{Call, Open, Setup, Site, job_of};
use super::wire::Reply;

impl Login {
    /// Reaches a port inside through the client's own forwarding.
    #[track_caller]
    fn forward(&self, site: &Site, name: &str) {
        let far = format!("{}/served-{name}", site.root);
        let serve = format!(
            "import socket, os\ns = socket.create_server((\"127.0.0.1\", 0))\nopen(\"{far}.new\", \"w\").write(str(s.getsockname()[1]))\n\
             os.rename(\"{far}.new\", \"{far}\")\nwhile True:\n  c, _ = s.accept(); c.sendall(b\"served {name}\\n\"); c.close()"
        );
        let _server = site.background(&format!("exec {}", self.line(&format!("python3 -c '{serve}'"))));
        let port = process::until(&format!("the server's port: {name}"), Duration::from_secs(20), || {
            let port = site.shell(&format!("cat {far} 2>/dev/null")).stdout;
            (!port.is_empty()).then_some(port)
        });
        // The client's ports are its own; two tests on it may choose the same.
        let answer = process::until("an answer through the forwarding", Duration::from_secs(30), || {
            let here = 20_000 + u32::from_str_radix(&super::site::hex(2), 16).ok()? % 20_000;
            let script = format!(
                "{} & pid=$!; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 0.1; \
                 if {{ exec 3<>/dev/tcp/127.0.0.1/{here}; }} 2>/dev/null; then read -r -t 5 line <&3; break; fi; done; \
                 kill $pid; wait $pid 2>/dev/null; echo \"$line\"",
                self.line(":")
                    .replacen(
                        "ssh ",
                        &format!("ssh -N -o ExitOnForwardFailure=yes -L 127.0.0.1:{here}:127.0.0.1:{port} "),
                        1
                    )
                    .trim_end_matches(" ':'")
            );
            Some(site.client(&script).stdout).filter(|text| !text.trim().is_empty())
        });
        assert_eq!(answer, format!("served {name}\n"));
    }
}

/// Everything that the client does with a lease.
#[track_caller]
fn used(site: &Site, name: &str, config: &Value) {
    let lease = site.lease(name);
    let handed = site.acquired(&lease, config.clone());
    let job = job_of(&handed);
    let login = Login::of(&handed);
    let inside = login.ssh(site, "echo $SLURM_JOB_ID; echo to stderr >&2; exit 7");
    assert_eq!((inside.code, inside.stdout, inside.stderr.as_str()), (7, format!("{job}\n"), "to stderr\n"), "{name}");
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sum = site.client_with(&format!("{} | sha256sum", login.line("cat")), bytes.clone(), Duration::from_secs(60));
    assert_eq!(sum.ok(), site.client_with("sha256sum", bytes, Duration::from_secs(20)).ok(), "{name}");
    login.transfer(site);
    login.forward(site, name);
    let resolved = site.ask("resolve", json!({"id": lease.id, "config": config}));
    assert_eq!(resolved.lease()["ssh"], handed["ssh"], "{name}");
    // And what acquire advises needs no configuration.
    assert_eq!(site.cli(&["ssh", &lease.id, "--", "echo", "$SLURM_JOB_ID"]).line(), job, "{name}");
    // Its way is on record: what today's request says of ways changes nothing.
    assert_eq!(site.row(&lease).expect("listed")["ssh"], handed["ssh"], "{name}");
    site.release_cleanly(&lease);
}

/// A mode and login hosts.
pub const WAYS: &[(&str, (&str, &str))] = &[
    ("one_login_host", ("proxy-through-login", "")),
    ("a_chain", ("proxy-through-login", "login,login")),
    ("stdio", ("stdio", "")),
];

fn config_of((mode, hosts): (&str, &str)) -> Value {
    let mut config = json!({"sshMode": mode});
    if !hosts.is_empty() {
        config["loginHost"] = json!(hosts);
    }
    config
}

/// ssh, sftp, scp, rsync and a forwarded port, each way.
pub fn every_way_from_a_laptop(_: Open, way: (&str, &str)) {
    used(&Site::laptop(Setup::default()), "way", &config_of(way));
}

/// The same where nothing needs a login host but the platform was told of one; and a lease of ours beside: both are listed and
/// both are released, each where it is.
pub fn a_login_host_reached_from_itself(_: Open) {
    let site = Site::campus_apart(Setup { accounting: false, user: "mallory", alone: true });
    let prepare = format!(
        "set -e; cd {0}; ssh-keygen -q -t ed25519 -N '' -f key -C {0}; cp -a ~/.ssh/authorized_keys kept; cat key.pub >> ~/.ssh/authorized_keys; \
         echo \"login $(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)\" > known; \
         printf 'Host login\\n IdentityFile {0}/key\\n IdentitiesOnly yes\\n UserKnownHostsFile {0}/known\\n' > ssh_config",
        site.root
    );
    site.shell(&prepare).ok();
    let remote = json!({"submitHost": "login", "sshConfig": format!("{}/ssh_config", site.root), "sharedDir": format!("{}/beyond", site.root)});
    let with = |mode: &str| {
        let mut config = remote.clone();
        config["sshMode"] = json!(mode);
        config
    };
    for mode in ["direct", "stdio"] {
        used(&site, mode, &with(mode));
    }
    let [near, far] = [site.lease("near"), site.lease("far")];
    let handed = [site.acquired(&near, json!({})), site.acquired(&far, with("direct"))];
    for (lease, handed) in [&near, &far].into_iter().zip(&handed) {
        let row = site.row(lease).expect("both are listed");
        assert_eq!((&row["labels"]["state"], &row["cloudId"]), (&json!("ready"), &handed["cloudId"]), "{row}");
        assert_eq!(Login::of(&row).ssh(&site, "echo $SLURM_JOB_ID").line(), job_of(handed));
    }
    site.ask("cleanup", json!({})).ok();
    site.ask("cleanup", json!({"config": remote})).ok();
    assert_eq!(site.list().len(), 2);
    site.release_cleanly(&near);
    site.release_cleanly(&far);
    site.shell(&format!("cp -a {0}/kept ~/.ssh/authorized_keys; for s in /tmp/slurm-sandbox-$(id -u)/*; do ssh -O exit -S $s x; done 2>/dev/null; :", site.root)).ok();
}

/// In a session of its own there is the job's environment, the work in it counts, and it ends with the lease.
pub fn sessions_of_their_own(_: Open) {
    let site = Site::laptop(Setup::default());
    let lease = site.lease("stdio");
    let config = json!({"sshMode": "stdio", "idleTimeoutSeconds": 4, "takenGraceSeconds": 60, "preamble": ["export GREETING='hello there'"], "cpus": 2});
    let handed = site.acquired(&lease, config);
    let (login, job) = (Login::of(&handed), job_of(&handed));
    let inside = login.ssh(&site, "echo $SLURM_JOB_ID $GREETING; hostname; nproc; env | grep -c ^SLURM_STEP; pwd");
    let lines: Vec<&str> = inside.ok().lines().collect();
    assert_eq!(
        (lines[0], lines[1]),
        (format!("{job} hello there").as_str(), handed["labels"]["slurmNode"].as_str().unwrap())
    );
    let listening = site.on_campus().control("pids", &[lines[1], site.on_campus().user()]);
    let listens = |line: &&str| line.contains("sshd -D") && line.contains(&lease.id);
    assert_eq!(listening.stdout.lines().find(listens), None);

    let mut session = site.background(&format!("exec {}", login.line("sleep 600; :")));
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(site.live_jobs(&lease), [format!("{job} RUNNING")], "a session is no use");
    site.release_cleanly(&lease);
    process::until("the session's end", Duration::from_secs(20), || session.is_over().then_some(()));

    // Without one it is idle.
    let lease = site.lease("stdio");
    let handed = site.acquired(&lease, json!({"sshMode": "stdio", "idleTimeoutSeconds": 4, "takenGraceSeconds": 60}));
    Login::of(&handed).ssh(&site, "echo used").ok();
    site.ends_by_itself(&lease, &job_of(&handed), "idle");
}

/// connect says why there is no way, at once; and a host key that is not the pinned one is refused.
pub fn ways_that_lead_nowhere(_: Open, way: (&str, &str)) {
    let site = Site::laptop(Setup::default());
    let lease = site.lease("nowhere");
    let handed = site.acquired(&lease, config_of(way));
    let job = job_of(&handed);
    let login = Login::of(&handed);
    let known = format!("{}/known_hosts", site.record_dir(&lease));
    let other = format!(
        "cp {known} {0}/known && ssh-keygen -q -t ed25519 -N '' -f {0}/key && \
         key=$(cut -d' ' -f1,2 {0}/key.pub) && while read -r host _; do echo \"$host $key\"; done <{0}/known >{known}",
        site.root
    );
    site.client(&other).ok();
    let refused = login.ssh(&site, "echo in");
    assert!(
        refused.code == 255 && refused.stdout.is_empty() && refused.stderr.contains("verification failed"),
        "{refused:?}"
    );
    let resolved = site.resolve(&lease.id);
    assert!(resolved.value.get("lease").is_none(), "{}", resolved.value);
    site.client(&format!("cat {}/known >{known}", site.root)).ok();
    assert_eq!(login.ssh(&site, "echo in").line(), "in");

    site.shell(&format!("scancel {job}")).ok();
    site.no_live_job(&lease);
    for _ in 0..2 {
        let dead = login.ssh(&site, "echo in");
        assert!(dead.code == 255 && dead.took < process::limit(6), "{dead:?}");
        for word in [&lease.id, &job, "CANCELLED"] {
            assert!(dead.stderr.contains(word), "no {word} in {}", dead.stderr);
        }
    }
    site.release_cleanly(&lease);
    let gone = site.cli(&["connect", &lease.id]);
    assert!(gone.code != 0 && gone.stderr.contains("no lease"), "{gone:?}");
}

/// A session of its own and a proxy of the site's exclude each other.
pub fn a_way_that_is_none(_: Open) {
    let site = Site::laptop(Setup::default());
    let reply = Reply::read(&site.run(Call::request(&site.request(
        "acquire",
        json!({"desired": site.lease("x").desired(), "config": {"sshMode": "stdio", "proxyCommand": "x"}}),
    ))));
    reply.refused("bad-config");
}
