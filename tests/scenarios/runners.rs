//! Runners that a site wrote for the reference adapter.

use serde_json::json;

use super::session::Login;
use super::site::{Open, Setup, job_of};

/// One in that adapter's contract: CBX_* in, `endpoint.json` out before sshd listens, and `exec sshd` at the end.
pub const REFERENCE: &str = r#"#!/usr/bin/env bash
#SBATCH --signal=TERM@30
set -euo pipefail
umask 077
mkdir -p "$CBX_WORK_ROOT/$CBX_LEASE_ID"
dir=$CBX_STATE_DIR/jobs/$CBX_LEASE_ID
ssh-keygen -q -t ed25519 -N '' -f "$dir/host_key"
cp "$CBX_SSH_PUBLIC_KEY_FILE" "$dir/authorized_keys"
user=${CBX_SSH_USER:-$(id -un)}
sshd=${CBX_SSHD:-$(command -v sshd || echo /usr/sbin/sshd)}
port=${CBX_SSH_PORT:-}
while [[ ! $port ]]; do
  port=$((20000 + RANDOM % 20000))
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then port=; fi
done
[[ $UID != 0 ]] || mkdir -p /run/sshd
cat >"$dir/sshd_config" <<CONF
Port $port
HostKey $dir/host_key
AuthorizedKeysFile $dir/authorized_keys
PidFile none
UsePAM no
PasswordAuthentication no
StrictModes no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
CONF
publish() {
  printf '{"host":"%s","port":"%s","user":"%s","readyCheck":"true"}\n' "$(hostname)" "$port" "$user" >"$dir/endpoint.tmp"
  mv "$dir/endpoint.tmp" "$dir/endpoint.json"
}
publish
exec "$sshd" -D -e -f "$dir/sshd_config"
"#;

/// It runs unchanged; host, user and ready check come from us, not from what it says.
pub fn a_runner_of_the_reference_adapter(open: Open) {
    let site = open(Setup::default());
    let script = site.write("reference.sh", REFERENCE);
    let lease = site.lease("reference");
    let reply = site.acquire(&lease, json!({"runnerScript": script, "readyCheck": "command -v bash"}));
    let handed = reply.lease();
    let job = job_of(handed);
    assert_eq!(handed["ssh"]["user"], site.user());
    assert_eq!(handed["ssh"]["readyCheck"], "command -v bash");
    let login = Login::of(handed);
    assert_eq!(login.ssh(&site, "echo in; test -d $HOME && exit 5").code, 5);
    let resolved = site.ask("resolve", json!({"id": lease.slug, "config": {"readyCheck": "command -v bash"}}));
    assert_eq!(resolved.lease()["ssh"], handed["ssh"]);
    assert_eq!(site.row(&lease).expect("listed")["labels"]["slurmJobId"], *job);
    site.ask("touch", json!({"lease": lease.desired(), "state": "running"})).ok();
    site.release(&lease).ok();
    // Such a runner leaves its work dir; the platform's files and processes are gone all the same.
    site.shell(&format!("rm -rf {}/work", site.root)).ok();
    site.nothing_left(&lease);

    if site.is_outside() {
        // What is set there is of the laptop and not of the site.
        return;
    }
    // The flag names it as well, and a site's own sshd and port pass through.
    let lease = site.lease("reference");
    let call = site.acquiring(&lease, json!({"readyCheck": "true"})).args(&["--runner-script", &script]);
    let call =
        call.env("CBX_SSHD", "/usr/sbin/sshd").env("CBX_SSH_PORT", &(40000 + std::process::id() % 9000).to_string());
    let port = call.env[1].1.clone();
    let output = site.run(call);
    assert_eq!(super::wire::Reply::read(&output).lease()["ssh"]["port"], port);
    site.release(&lease).ok();
}

/// An sshd that refuses its user says why in its log alone, which goes with the lease: acquire tells it.
pub fn an_sshd_that_refuses_its_user(open: Open) {
    let site = open(Setup::default());
    if site.is_outside() {
        // What is set there is of the laptop and not of the site.
        return;
    }
    let sshd = site.write("sshd", "#!/bin/bash\nexec /usr/sbin/sshd \"$@\" -o DenyUsers=*\n");
    site.shell(&format!("chmod 755 {sshd}")).ok();
    let lease = site.lease("refusing");
    let call = site.acquiring(&lease, json!({"acquireTimeoutSeconds": 8})).env("CBX_SSHD", &sshd);
    let reply = super::wire::Reply::read(&site.run(call));
    let refusal = reply.refused("endpoint-unusable");
    refusal.says(&[
        &lease.id,
        "Permission denied",
        "its sshd.log ends with",
        "not allowed because listed in DenyUsers",
    ]);
    site.nothing_left(&lease);
}

/// All tasks of an array would find the one permit: refused before anything is submitted, and red.
pub fn a_runner_that_asks_for_an_array(open: Open) {
    let site = open(Setup::default());
    let script = site.write("array.sh", &REFERENCE.replacen('\n', "\n#SBATCH --array=0-1\n", 1));
    let lease = site.lease("array");
    let config = json!({"runnerScript": script});
    let words = "`#SBATCH --array=0-1` asks for several jobs";
    site.acquire(&lease, config.clone()).refused("bad-config").says(&[&script, words]);
    site.nothing_left(&lease);
    let report = site.ask("doctor", json!({"config": config}));
    assert!(report.value.to_string().contains(words), "{:?}", report.value);
}

/// Login shells that are not bash, and start-up files that talk: nothing of it is seen or breaks a tool.
pub fn login_shells_that_talk(open: Open, users: &[&'static str]) {
    for user in users {
        let site = open(Setup { user, ..Setup::default() });
        let lease = site.lease(user);
        // As a person does it: through the login shell of that user, start-up files and all.
        let handed = site.acquired(&lease, json!({}));
        let login = Login::of(&handed);
        let inside = login.ssh(&site, "echo $SLURM_JOB_ID; id -un; test 1 = 1 && echo 'quo\"ted' >&2");
        let expected = format!("{}\n{user}\n", job_of(&handed));
        assert_eq!(
            (inside.code, inside.stdout.as_str(), inside.stderr.as_str()),
            (0, expected.as_str(), "quo\"ted\n"),
            "{user}"
        );
        let silent = login.ssh(&site, "true");
        assert_eq!((silent.stdout.as_str(), silent.stderr.as_str()), ("", ""), "{user}");
        login.transfer(&site);
        site.release_cleanly(&lease);
    }
}
