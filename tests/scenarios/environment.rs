//! What surrounds a call: variables that steer Slurm's commands, secrets, a working directory that is gone.

use serde_json::json;

use super::process;
use super::session::Login;
use super::site::{Call, Lease, Open, Place, Setup, Site, hex, job_of};
use super::wire::Reply;

/// Variables that change what Slurm's commands do or say.
const POISON: &[(&str, &str)] = &[
    ("SQUEUE_STATES", "CANCELLED"),
    ("SQUEUE_FORMAT", "%i"),
    ("SQUEUE_FORMAT2", "jobid"),
    ("SQUEUE_NAMES", "nobody"),
    ("SQUEUE_USERS", "nobody"),
    ("SQUEUE_PARTITION", "closed"),
    ("SQUEUE_ACCOUNT", "nobody"),
    ("SQUEUE_SORT", "S"),
    ("SBATCH_TIMELIMIT", "00:01:00"),
    ("SBATCH_ARRAY_INX", "1-4"),
    ("SBATCH_PARTITION", "closed"),
    ("SBATCH_JOB_NAME", "other"),
    ("SBATCH_EXPORT", "NONE"),
    ("SBATCH_WAIT", "1"),
    ("SBATCH_OUTPUT", "/dev/null"),
    ("SBATCH_QOS", "long"),
    ("SBATCH_ACCOUNT", "nobody"),
    ("SBATCH_COMMENT", "other"),
    ("SBATCH_CLUSTERS", "nowhere"),
    ("SCANCEL_STATE", "PENDING"),
    ("SCANCEL_NAME", "nobody"),
    ("SCANCEL_PARTITION", "closed"),
    ("SCANCEL_INTERACTIVE", "1"),
    ("SLURM_CLUSTERS", "nowhere"),
    ("SLURM_JOB_ID", "999999"),
    ("SLURM_JOBID", "999999"),
    ("SLURM_EXPORT_ENV", "NONE"),
    ("SLURM_TIME_FORMAT", "relative"),
    ("SLURM_NTASKS", "3"),
    ("SLURM_MEM_PER_CPU", "1"),
    ("SLURM_RESTART_COUNT", "3"),
    ("SACCT_FORMAT", "jobid"),
    ("SACCT_FEDERATION", "1"),
    ("SLURM_DEBUG", "9"),
    ("TZ", "Asia/Kathmandu"),
    ("LANG", "tr_TR.UTF-8"),
    ("LC_TIME", "tr_TR.UTF-8"),
    ("POSIXLY_CORRECT", "1"),
    ("BASH_FUNC_squeue%%", "() { echo hello; }"),
    ("CBX_NONCE", "x"),
    ("CBX_STATE_DIR", "/nonexistent"),
    ("CDPATH", "/"),
    ("IFS", "_"),
    ("RUST_LOG", "trace"),
    ("RUST_BACKTRACE", "full"),
];

fn poisoned(call: Call) -> Call {
    POISON.iter().fold(call, |call, (name, value)| call.env(name, value))
}

/// With every such variable set, all operations do what they do without.
pub fn variables_that_steer_slurm_change_nothing(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("poison");
    let ask =
        |operation: &str, fields| Reply::read(&site.run(poisoned(Call::request(&site.request(operation, fields)))));
    let handed = ask("acquire", json!({"desired": lease.desired(), "config": {"timeLimit": "00:25:00"}}));
    let job = job_of(handed.lease());
    assert_eq!(site.all_jobs(&lease), [format!("{job} RUNNING")]);
    let shown = site.shell(&format!("scontrol -o show job {job}"));
    let words: Vec<&str> = shown.ok().split_whitespace().collect();
    for word in ["TimeLimit=00:25:00", "Partition=batch", "Requeue=0"] {
        assert!(words.contains(&word), "no {word} in {}", shown.stdout);
    }
    assert!(!shown.stdout.contains("ArrayJobId"), "{}", shown.stdout);
    let inside = Login::of(handed.lease()).ssh(&site, "echo $SLURM_JOB_ID; env");
    assert_eq!(inside.ok().lines().next(), Some(job.as_str()));
    for name in ["SQUEUE_STATES", "SBATCH_TIMELIMIT", "SCANCEL_STATE", "SLURM_CLUSTERS=", "RUST_LOG"] {
        assert!(!inside.stdout.contains(name), "{name} reached the job");
    }
    assert_eq!(ask("resolve", json!({"id": job})).lease()["ssh"], handed.lease()["ssh"]);
    assert_eq!(ask("list", json!({})).rows()[0]["status"], "RUNNING");
    ask("touch", json!({"lease": lease.desired(), "state": "running"})).ok();
    ask("doctor", json!({})).ok();
    ask("cleanup", json!({})).ok();
    ask("release", json!({"lease": lease.desired()})).ok();
    site.nothing_left(&lease);
}

/// A caller's secrets do not get into job, comment, arguments or files, and the private key stays where it is.
pub fn secrets_stay_with_their_owner(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("secret");
    let secret = format!("SECRET{}", hex(12));
    let call = site
        .acquiring(&lease, json!({"comment": "a note"}))
        .env("AWS_SECRET_ACCESS_KEY", &secret)
        .env("GITHUB_TOKEN", &secret)
        .env("CRABBOX_ADAPTER_OWNER", &secret)
        .env("SSH_AUTH_SOCK", &format!("/tmp/{secret}"));
    let output = site.run(call);
    let handed = Reply::read(&output).lease().clone();
    let login = Login::of(&handed);
    let key = site.client(&format!("grep -v -- ---- {} | head -n 2 | tail -n 1", login.key));
    let key = key.line();
    assert!(key.len() > 60, "the middle of the key");
    let mut left = Vec::new();
    for (what, word) in [("the caller's secret", secret.as_str()), ("the private key", key)] {
        assert!(!output.stdout.contains(word) && !output.stderr.contains(word), "{what} in the answer");
        // As lines of a file, so that the search itself does not show them; -s: fifos and what went away.
        let finding = site.write("words", &format!("{word}\n"));
        let job = job_of(&handed);
        let asked = site.shell(&format!(
            "{{ scontrol -dd show job {job}; squeue -h -j {job} -o '%all'; }} 2>&1 | grep -F -f {finding}"
        ));
        // On a client outside the key's own place is there alone.
        let own = if site.is_outside() {
            format!("-e '^laptop:.*/{}/id_ed25519$'", lease.id)
        } else {
            "-e '/id_ed25519$'".into()
        };
        let files = site.everywhere(&format!(
            "grep -rlsF -D skip -f {finding} {}/ | sed \"s|^|$HOSTNAME:|\" | grep -v -e '/words$' {own} -e /calls.log; :",
            site.root
        ));
        left.extend(
            [asked.stdout]
                .into_iter()
                .chain(files)
                .filter(|found| !found.is_empty())
                .map(|found| format!("{what}: {found}")),
        );
        let inside = login.ssh(&site, &format!("env | grep -F -f {finding}; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -aF -f {finding}"));
        if !inside.stdout.is_empty() {
            left.push(format!("{what} is seen inside"));
        }
        left.extend(daemons_know(&site, word, &lease).into_iter().map(|place| format!("{what}: {place}")));
        site.everywhere(&format!("rm {finding}"));
    }
    assert!(left.is_empty(), "{left:?}");
    let modes = site.client(&format!("stat -c '%a %n' {} {} {}", site.state_dir(), site.record_dir(&lease), login.key));
    let shared = site.shell(&format!("stat -c '%a %n' {0} $(dirname {0})", site.shared_dir(&lease)));
    for line in modes.ok().lines().chain(shared.ok().lines()) {
        assert!(line.starts_with("700 ") || line.starts_with("600 "), "{line}");
    }
    site.release_cleanly(&lease);
}

/// Where Slurm's daemons keep the job: spool directories and the processes of the job, as root.
fn daemons_know(site: &Site, word: &str, lease: &Lease) -> Vec<String> {
    let script = r#"
        read -r word; read -r id
        for dir in /var/spool/slurm* /var/log/slurm*; do
          [ -e "$dir" ] && printf %s "$word" | grep -rlsaF -D skip -f - "$dir"
        done
        cd /proc
        for pid in $(printf 'CBX_LEASE_ID=%s' "$id" | grep -lszxF -f - [0-9]*/environ); do
          printf %s "$word" | grep -lsaF -f - "$pid" "${pid%environ}cmdline"
        done; :"#;
    let input = format!("{word}\n{}\n", lease.id);
    let look = |command| process::run(command, input.clone().into_bytes(), std::time::Duration::from_secs(30));
    let outputs = match &site.place {
        Place::Fake(fake) => vec![look(fake.shell(&[], script))],
        Place::Campus(campus) => ["ctl", "n1", "n2"].map(|host| look(campus.shell(host, "root", &[], script))).to_vec(),
    };
    outputs.iter().flat_map(|output| output.ok().lines()).map(str::to_owned).collect()
}

/// The caller's directory is gone, its standard streams are closed, its umask is strange.
pub fn a_caller_in_a_strange_place(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("strange");
    let gone = "mkdir -p $HOME/gone && cd $HOME/gone && rmdir $HOME/gone";
    let open_all = "umask 0";
    let closed = "umask 0777";
    let ask = |operation: &str, fields, before: &str| {
        Reply::read(&site.run(Call::request(&site.request(operation, fields)).before(before)))
    };
    let handed = ask("acquire", json!({"desired": lease.desired()}), &format!("{gone}\n{open_all}"));
    let login = Login::of(handed.lease());
    assert!(login.ssh(&site, "pwd").line().starts_with('/'));
    let found = |dir: &str| format!("find {dir} ! -type l ! -name 'slurm-*.out' -perm /022 | head -3");
    assert_eq!(site.client(&found(&site.state_dir())).ok(), "", "others may write here");
    assert_eq!(site.shell(&found(&site.shared_dir(&lease))).ok(), "", "others may write here");
    assert_eq!(ask("resolve", json!({"id": lease.id}), gone).lease()["leaseId"], *lease.id);
    assert_eq!(ask("list", json!({}), &format!("{gone}\n{closed}")).rows().len(), 1);

    // Without stdin there is no request; without stderr there still is an answer.
    let reply = Reply::read(&site.run(Call::raw("").after("<&-")));
    reply.refused("bad-request");
    let quiet = site.run(Call::request(&site.request("list", json!({}))).after("2>&-"));
    assert_eq!(Reply::read(&quiet).rows().len(), 1);
    let output = site.run(Call::request(&site.request("list", json!({}))).after(">&-"));
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    let full = site.run(Call::request(&site.request("list", json!({}))).after(">/dev/full"));
    assert!(full.code != 0 && !full.stderr.contains("panicked"), "exit {} {}", full.code, full.stderr);
    ask("release", json!({"lease": lease.desired()}), &format!("{gone}\n{closed}")).ok();
    site.nothing_left(&lease);
}
