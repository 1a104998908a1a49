//! The allocation turns against us: whatever its code writes into the shared dir, nothing of it runs, is read or is
//! deleted on our side, and the lease stays releasable.

use std::time::Duration;

use serde_json::json;

use super::process;
use super::runners::REFERENCE;
use super::session::Login;
use super::site::{Lease, Open, Setup, Site, job_of};

/// Shell lines that put something in the place of `$1` that is no file to read; `$secret` is a file that nothing may read.
pub const FILES: &[(&str, &str)] = &[
    ("a_link_to_a_secret", "ln -s $secret $1"),
    ("a_link_to_nowhere", "ln -s /nonexistent/x $1"),
    ("a_fifo", "mkfifo $1"),
    ("a_directory", "mkdir $1"),
    ("huge", "head -c 3000000 /dev/zero | tr '\\0' 1 > $1"),
    ("binary", "head -c 300 /dev/urandom > $1"),
];

/// The same with texts that are no endpoint; `$trap` is a file that nothing may make.
pub const TEXTS: &[(&str, &str)] = &[
    ("empty", ": > $1"),
    ("half", "printf '{\"port\":\"' > $1"),
    ("an_array", "echo '[1,2]' > $1"),
    ("no_port", "echo '{\"host\":\"localhost\"}' > $1"),
    ("a_port_with_a_command", "echo '{\"port\":\"22;touch '$trap'\"}' > $1"),
    ("port_0", "echo '{\"port\":0}' > $1"),
    ("another_nonce", "echo '{\"port\":\"'$port'\",\"nonce\":\"ffffffffffffffff\"}' > $1"),
    (
        "a_host_key_line_too_many",
        "printf '{\"port\":\"%s\",\"hostKeys\":[\"ssh-ed25519 AAAA\\\\n@cert-authority * ssh-ed25519 AAAA\"]}' $port > $1",
    ),
];

/// What only matters once an endpoint is pinned.
pub const LATER: &[(&str, &str)] = &[("a_lure", LURE), ("gone", "true")];

/// An endpoint whose port is right and whose other fields are traps.
const LURE: &str = r#"printf '{"port":"%s","host":"evil.example","user":"root;touch %s","key":"/etc/passwd","readyCheck":"touch %s","proxyCommand":"touch %s","loginHost":"$(touch %s)","fallbackPorts":["22"],"authSecret":true}' $port $trap $trap $trap $trap > $1"#;

fn runner(site: &Site, attack: &str) -> String {
    let publish = format!(
        "publish() {{ set -- \"$dir/endpoint.json\"; secret={0}/secret trap={0}/trap; {attack}\n}}\n",
        site.root
    );
    let (start, rest) = REFERENCE.split_once("publish() {").unwrap();
    let (_, end) = rest.split_once("\n}\n").unwrap();
    format!("{start}{publish}{end}")
}

fn unharmed(site: &Site) {
    for trap in site.everywhere(&format!("cat {0}/secret; ls {0}/trap 2>/dev/null; :", site.root)) {
        assert_eq!(trap, "TOP-SECRET\n");
    }
}

/// From the first word that the runner writes.
pub fn endpoints_that_lie_before_the_answer(open: Open, attack: &str) {
    let site = open(Setup::default());
    site.write("secret", "TOP-SECRET\n");
    let script = site.write("attack.sh", &runner(&site, attack));
    let lease = site.lease("lies");
    let reply = site.acquire(&lease, json!({"runnerScript": script, "acquireTimeoutSeconds": 8}));
    let refusal = reply.error();
    assert!(["endpoint-unusable", "timed-out"].contains(&refusal.code.as_str()), "{}", reply.value);
    refusal.says(&[&lease.id, "job "]);
    assert!(!refusal.text.contains("TOP-SECRET"), "{}", refusal.text);
    assert!(reply.took < process::limit(30), "took {:?}", reply.took);
    site.shell(&format!("rm -rf {}/work/{}", site.root, lease.id)).ok();
    site.nothing_left(&lease);
    unharmed(&site);
}

/// All but the port is Slurm's word, the site's or ours.
pub fn a_lure_before_the_answer(open: Open) {
    let site = open(Setup::default());
    site.write("secret", "TOP-SECRET\n");
    let script = site.write("lure.sh", &runner(&site, LURE));
    let lease = site.lease("lure");
    let handed = site.acquired(&lease, json!({"runnerScript": script, "readyCheck": "true"}));
    assert_eq!((&handed["ssh"]["user"], &handed["ssh"]["readyCheck"]), (&json!(site.user()), &json!("true")));
    assert_eq!(handed["ssh"]["host"], handed["labels"]["slurmNode"]);
    let proxy = handed["ssh"].get("proxyCommand").map(ToString::to_string);
    assert!(proxy.is_none_or(|own| site.is_outside() && !own.contains("touch")), "{handed}");
    assert!(handed["ssh"].get("authSecret").is_none(), "{handed}");
    assert!(handed["ssh"]["key"].as_str().unwrap().starts_with(&site.root));
    unharmed(&site);
    site.release(&lease).ok();
}

/// After the answer the endpoint is pinned: rewriting the file changes nothing.
pub fn endpoints_that_lie_after_the_answer(open: Open, attack: &str) {
    let site = open(Setup::default());
    site.write("secret", "TOP-SECRET\n");
    let lease = site.lease("turns");
    let handed = site.acquired(&lease, json!({}));
    let path = site.shell(&format!("echo {}/*/endpoint.json", site.shared_dir(&lease))).line().to_owned();
    attacked(&site, &Login::of(&handed), &[&path], attack);
    let resolved = site.resolve(&lease.id);
    assert_eq!(resolved.lease()["ssh"], handed["ssh"]);
    assert!(resolved.took < process::limit(5), "took {:?}", resolved.took);
    assert_eq!(site.row(&lease).unwrap()["ssh"], handed["ssh"]);
    unharmed(&site);
    site.release_cleanly(&lease);
}

/// Code in the lease puts something else in the place of these files.
fn attacked(site: &Site, login: &Login, paths: &[&str], attack: &str) {
    let lines: Vec<_> = paths.iter().map(|path| format!("set -- {path}; rm -rf $1; {attack}\n")).collect();
    let script = format!("secret={0}/secret trap={0}/trap port=4022\n{1}", site.root, lines.concat());
    let script = site.write("attack.sh", &script);
    login.ssh(site, &format!("bash {script}")).ok();
}

fn attempt_dir(site: &Site, lease: &Lease) -> String {
    site.shell(&format!("dirname {}/*/endpoint.json", site.shared_dir(lease))).line().to_owned()
}

/// Every other file that we read or write in the lease's shared dir, replaced by what hangs, leads away or is huge.
pub fn other_files_that_lie(open: Open, attack: &str) {
    let site = open(Setup::default());
    site.write("secret", "TOP-SECRET\n");
    let lease = site.lease("files");
    let handed = site.acquired(&lease, json!({}));
    let (dir, output) = (attempt_dir(&site, &lease), format!("slurm-{}.out", job_of(&handed)));
    let names = ["deadline", "answered", "kept", "ending.json", "authorized_keys", &output];
    let paths = names.map(|name| format!("{dir}/{name}"));
    attacked(&site, &Login::of(&handed), &paths.each_ref().map(String::as_str), attack);
    // A touch may fail, but must neither hang nor follow.
    let touch = site.ask("touch", json!({"lease": lease.desired(), "state": "running"}));
    let logs = site.cli(&["logs", &lease.id]);
    let resolved = site.resolve(&lease.id);
    for (verb, took) in [("touch", touch.took), ("logs", logs.took), ("resolve", resolved.took)] {
        assert!(took < process::limit(5), "{verb} took {took:?}");
    }
    assert!(!logs.stdout.contains("TOP-SECRET"), "logs followed a link");
    assert_eq!(resolved.lease()["ssh"], handed["ssh"]);
    unharmed(&site);
    site.release_cleanly(&lease);
}

/// The end of a lease is told without what links lead to.
pub fn files_that_lie_at_the_end(open: Open) {
    let site = open(Setup::default());
    site.write("secret", "TOP-SECRET\n");
    let lease = site.lease("files");
    let handed = site.acquired(&lease, json!({}));
    let (job, login, dir) = (job_of(&handed), Login::of(&handed), attempt_dir(&site, &lease));
    // sshd itself appends to its log, whatever that is, so only we are asked.
    site.shell(&format!("rm {dir}/sshd.log; ln -s {}/secret {dir}/sshd.log", site.root)).ok();
    assert!(!site.cli(&["logs", &lease.id]).stdout.contains("TOP-SECRET"));
    site.shell(&format!("rm {dir}/sshd.log")).ok();
    let script = format!(
        "cd {dir}; rm -rf slurm-{job}.out ending.json; ln -s {0}/secret slurm-{job}.out; mkfifo ending.json",
        site.root
    );
    login.ssh(&site, &script).ok();
    site.shell(&format!("scancel {job}")).ok();
    site.no_live_job(&lease);
    let refusal = site.resolve(&lease.id).refused("job-ended");
    assert!(!refusal.text.contains("TOP-SECRET"), "{}", refusal.text);
    site.release_cleanly(&lease);
    unharmed(&site);
}

/// The lease's shared dir itself is replaced or gone: `$D`; `$N` is the attempt's directory in it.
pub const LEADS_AWAY: &[(&str, &str)] = &[
    ("a_link", "mv $D $R/aside; ln -s $R/victim $D"),
    ("the_attempt_a_link", "mv $N $R/aside; ln -s $R/victim $N"),
    ("a_file", "mv $D $R/aside; echo x > $D"),
    ("gone", "mv $D $R/aside"),
    ("deep", "mkdir -p $D/$(printf 'd/%.0s' $(seq 400))"),
    ("unreadable", "mkdir $D/x; touch $D/x/y; chmod 0 $D/x"),
];

pub fn a_shared_dir_that_leads_away(open: Open, attack: &str) {
    let site = open(Setup::default());
    let lease = site.lease("leads");
    let job = job_of(&site.acquired(&lease, json!({})));
    let place = format!("{}/away", site.root);
    let shared = site.shared_dir(&lease);
    site.shell(&format!(
        "R={place} D={shared} N=$(dirname {shared}/*/endpoint.json); mkdir -p $R/victim; echo precious > $R/victim/file; {attack}"
    ))
    .ok();
    site.resolve(&lease.id);
    let row = site.row(&lease).expect("listed");
    assert_eq!(row["cloudId"], format!("slurm/job/{job}"));
    let reply = site.release(&lease);
    assert!(reply.value.get("error").is_none(), "{}", reply.value);
    assert!(site.live_jobs(&lease).is_empty());
    // What the job itself writes through the link is its own user's affair.
    assert_eq!(site.shell(&format!("cat {place}/victim/file")).ok(), "precious\n");
    site.shell(&format!("chmod -R u+rwx {place}; rm -rf {place}")).ok();
    site.nothing_left(&lease);
}

/// Code in one lease writes into another lease's directory, which the same user owns: that one may end, but nothing
/// else comes of it.
pub fn one_lease_against_another(open: Open) {
    let site = open(Setup::default());
    let [bad, good] = [site.lease("bad"), site.lease("good")];
    let attacker = Login::of(&site.acquired(&bad, json!({})));
    let handed = site.acquired(&good, json!({}));
    let script = format!(
        "cd {0}/; for d in */; do case $d in [0-9a-f]*) n=${{d%/}} ;; esac; done; m=$(ls {1} | grep -v permit); cp {1}/$m/endpoint.json $n/endpoint.json; cat {1}/permit > permit",
        site.shared_dir(&good),
        site.shared_dir(&bad)
    );
    attacker.ssh(&site, &script).ok();
    let resolved = site.resolve(&good.id);
    if resolved.value.get("lease").is_some() {
        assert_eq!(resolved.lease()["ssh"], handed["ssh"], "another lease's endpoint was answered");
    }
    // Without its own permit it ends by itself.
    process::until("its end", Duration::from_secs(15), || site.live_jobs(&good).is_empty().then_some(()));
    assert_eq!(attacker.ssh(&site, "echo alive").line(), "alive");
    site.release_cleanly(&good);
    assert_eq!(site.live_jobs(&bad).len(), 1);
    site.release_cleanly(&bad);
}
