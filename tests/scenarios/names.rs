//! `ssh NAME.sandbox` with ssh's own tools and nothing but the block of configuration that ssh-config writes: lease NAME, or the one lease
//! of profile NAME.

use std::time::Duration;

use serde_json::{Value, json};

use super::process::{self, Output, Running, quoted};
use super::site::{Call, Lease, Open, Setup, Site, hex};

/// The profile of these tests.
const PROFILE: &str = "gpu";

/// Says a word to whoever connects.
const SERVE: &str = "import socket, sys\nserver = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nwhile True:\n    server.accept()[0].sendall(b'through\\n')\n";

/// A user's machine after `ssh-config`.
struct Machine {
    site: Site,
    config: String,
    ssh: String,
}

impl Machine {
    #[track_caller]
    fn new(open: Open, profile: Value) -> Machine {
        let site = open(Setup::default());
        let mut config = site.request("acquire", json!({}))["config"].clone();
        config["profiles"] = json!({ PROFILE: profile });
        let config = site.write("config.json", &config.to_string());
        let shown = site.cli(&["--config", &config, "ssh-config"]);
        let ssh = format!("{}/ssh_config", site.root);
        site.client_with(&format!("umask 077; cat >{ssh}"), shown.ok().into(), Duration::from_secs(20)).ok();
        Machine { site, config, ssh }
    }

    /// The words that begin every ssh command line.
    fn line(&self, words: &str) -> String {
        format!("ssh -F {} -o BatchMode=yes {words}", self.ssh)
    }

    #[track_caller]
    fn ssh(&self, words: &str) -> Output {
        self.site.client_with(&self.line(words), Vec::new(), Duration::from_secs(90))
    }

    /// The same at a terminal.
    #[track_caller]
    fn ssh_at_a_terminal(&self, words: &str) -> Output {
        let line = format!("script -qec {} /dev/null </dev/null", quoted(&self.line(words)));
        self.site.client_with(&line, Vec::new(), Duration::from_secs(90))
    }

    #[track_caller]
    fn cli(&self, words: &[&str]) -> Output {
        self.site.cli(&[&["--config", &self.config], words].concat())
    }

    /// The one lease that is listed, which ends with the site.
    #[track_caller]
    fn lease(&self) -> Lease {
        let rows = self.site.list();
        let [row] = rows.as_slice() else { panic!("not one lease: {rows:?}") };
        let text = |name: &str| row[name].as_str().expect("a text");
        self.site.adopt(Lease::of(text("leaseId"), text("slug")))
    }

    #[track_caller]
    fn release(&self, lease: &Lease) {
        self.cli(&["release", &lease.id]).ok();
        self.site.nothing_left(lease);
    }
}

/// What people and their editors do, over a name that needs an acquire first.
pub fn a_name_for_everything(open: Open) {
    let machine = Machine::new(open, json!({}));
    let site = &machine.site;
    let first = machine.ssh("gpu.sandbox 'echo $CBX_LEASE_ID'");
    let lease = machine.lease();
    assert_eq!(first.line(), lease.id, "{}", first.stderr);
    assert_eq!(lease.slug, PROFILE);
    let job = site.job_in(&lease, "RUNNING");

    // As an editor does: a shell that is fed, several sessions that stay, a way to a port of the node.
    let fed =
        site.client_with(&machine.line("-T gpu.sandbox bash"), b"echo fed\nexit 3\n".to_vec(), Duration::from_secs(60));
    assert_eq!((fed.code, fed.stdout.as_str()), (3, "fed\n"), "{}", fed.stderr);
    let sessions: Vec<Running> =
        (0..4).map(|n| site.background(&machine.line(&format!("gpu.sandbox 'echo {n}; sleep 2'")))).collect();
    for (n, session) in sessions.into_iter().enumerate() {
        assert_eq!(session.end(Duration::from_secs(60)).line(), n.to_string());
    }
    let [near, beyond] = [hex(2), hex(2)].map(|hex| 20_000 + u32::from_str_radix(&hex, 16).expect("hex") % 9000);
    let serve = site.write("serve.py", SERVE);
    let forwarding =
        machine.line(&format!("-L 127.0.0.1:{near}:127.0.0.1:{beyond} gpu.sandbox python3 {serve} {beyond}"));
    let forwarded = site.client(&format!(
        "{forwarding} & trap 'kill $!' EXIT; for i in $(seq 150); do \
         {{ exec 3<>/dev/tcp/127.0.0.1/{near} && read -r line <&3; }} 2>/dev/null && break; sleep 0.1; done; echo \"$line\""
    ));
    assert_eq!(forwarded.stdout, "through\n", "{}", forwarded.stderr);

    // Files, and a repository.
    let (dir, far) = (format!("{}/here", site.root), format!("{}/there", site.root));
    site.everywhere(&format!("mkdir -p {dir} {far}"));
    let ssh = machine.line("");
    let moved = site.client(&format!(
        "set -e; cd {dir}; head -c 100000 /dev/urandom >a; o='-F {} -o BatchMode=yes'; \
         rsync -e '{ssh}' a gpu.sandbox:{far}/rsync; rsync -e '{ssh}' gpu.sandbox:{far}/rsync rsync; cmp a rsync; \
         scp -q $o a gpu.sandbox:{far}/scp; scp -q $o gpu.sandbox:{far}/scp scp; cmp a scp; \
         echo 'get {far}/scp sftp' | sftp -q $o -b - gpu.sandbox >/dev/null; cmp a sftp; \
         git init -q here; cd here; git config user.email a@b; git config user.name a; cp ../a .; git add a; git commit -qm a; \
         {ssh} gpu.sandbox git init -q --bare {far}/repository; \
         GIT_SSH_COMMAND='{ssh}' git push -q gpu.sandbox:{far}/repository HEAD:main; \
         GIT_SSH_COMMAND='{ssh}' git clone -q -b main gpu.sandbox:{far}/repository ../back; cmp a ../back/a",
        machine.ssh
    ));
    assert_eq!(moved.ok(), "", "{}", moved.stderr);

    // A connection that the user shares among sessions.
    let shared = machine.line(&format!("-o ControlMaster=auto -o ControlPath={}/m-%C -o ControlPersist=60", site.root));
    let shared = site.client(&format!(
        "{shared} gpu.sandbox echo one && {shared} gpu.sandbox echo two; {shared} -O exit gpu.sandbox 2>/dev/null"
    ));
    assert_eq!(shared.ok(), "one\ntwo\n", "{}", shared.stderr);

    assert_eq!(site.live_jobs(&lease), [format!("{job} RUNNING")], "all of it in one job");
    assert_eq!(machine.ssh(&format!("{}.sandbox echo by its id", lease.id)).line(), "by its id");
    machine.release(&lease);
    assert_eq!(site.client(&format!("ls {}/ssh/hosts", site.state_dir())).ok(), "", "nothing is left of the names");
}

/// As an editor with ten windows does at its start.
pub fn ten_at_once_are_one_lease(open: Open) {
    let machine = Machine::new(open, json!({}));
    let site = &machine.site;
    let running: Vec<Running> =
        (0..10).map(|_| site.background(&machine.line("gpu.sandbox 'echo $SLURM_JOB_ID'"))).collect();
    let jobs: Vec<String> =
        running.into_iter().map(|running| running.end(Duration::from_secs(120)).line().to_owned()).collect();
    let lease = machine.lease();
    assert_eq!(site.all_jobs(&lease), [format!("{} RUNNING", jobs[0])]);
    assert!(jobs.iter().all(|job| *job == jobs[0]), "{jobs:?}");
    // A job that is gone and a new one: the name goes on, with what ssh has read of the old one.
    site.shell(&format!("scancel {}", jobs[0])).ok();
    process::until("the job has ended", Duration::from_secs(30), || site.live_jobs(&lease).is_empty().then_some(()));
    let again = machine.ssh_at_a_terminal("gpu.sandbox 'echo $SLURM_JOB_ID'");
    assert_eq!(again.code, 0, "{}", again.stdout);
    let job = site.job_in(&lease, "RUNNING");
    assert_ne!(job, jobs[0]);
    assert!(again.stdout.lines().any(|line| line.trim() == job), "{}", again.stdout);
    machine.release(&lease);
}

/// A window that is closed while its job waits leaves it in the queue, and the next one goes on with it.
pub fn a_window_that_is_closed_in_the_queue(open: Open) {
    let machine = Machine::new(open, json!({"partition": "closed"}));
    let site = &machine.site;
    let mut window = site.background(&format!("exec {}", machine.line("gpu.sandbox true")));
    let lease = process::until("a lease", Duration::from_secs(30), || {
        let rows = site.list();
        let row = rows.first()?;
        Some(site.adopt(Lease::of(row["leaseId"].as_str()?, row["slug"].as_str()?)))
    });
    let job = site.job_in(&lease, "PENDING");
    window.kill();
    drop(window);
    site.list();
    assert_eq!(site.live_jobs(&lease), [format!("{job} PENDING")]);
    let window = site.background(&machine.line("gpu.sandbox 'echo $SLURM_JOB_ID'"));
    site.let_start(&job);
    assert_eq!(window.end(Duration::from_secs(60)).line(), job);
    machine.release(&lease);
}

/// An editor that goes on reconnecting after everybody has gone home.
pub fn no_job_at_night(open: Open) {
    let machine = Machine::new(open, json!({"idleTimeoutSeconds": 3, "takenGraceSeconds": 30}));
    let site = &machine.site;
    let first = machine.ssh("gpu.sandbox 'echo $SLURM_JOB_ID'");
    let lease = machine.lease();
    let job = first.line();
    process::until("it is idle and ends", Duration::from_secs(60), || site.live_jobs(&lease).is_empty().then_some(()));
    let retry = || {
        let output = machine.ssh("gpu.sandbox true");
        assert_eq!(output.code, 255);
        assert!(output.stderr.contains("slurm-sandbox ssh --acquire gpu"), "what to do is told: {}", output.stderr);
    };
    (0..4).for_each(|_| retry());
    // Neither what others remove, nor a release, is a beginning.
    site.cli(&["cleanup"]).ok();
    retry();
    assert_eq!(site.list(), Vec::<Value>::new());
    let at_a_terminal = machine.ssh_at_a_terminal("gpu.sandbox echo in");
    assert!(at_a_terminal.ok().contains("in\r\n"), "{}", at_a_terminal.stdout);
    let new = site.job_in(&lease, "RUNNING");
    assert_ne!(new, job);
    assert_eq!(machine.ssh("gpu.sandbox echo in").line(), "in", "what runs is entered by anybody");
    machine.release(&lease);
    retry();
    let by_command = machine.cli(&["ssh", "--acquire", "gpu", "--", "echo", "in"]);
    assert_eq!(by_command.line(), "in");
    machine.release(&lease);
    retry();
    site.write("config.json", &{
        let mut config = site.request("acquire", json!({}))["config"].clone();
        config["profiles"] = json!({ PROFILE: {"reacquire": "always"} });
        config.to_string()
    });
    assert_eq!(machine.ssh("gpu.sandbox echo in").line(), "in");
    machine.release(&lease);
}

/// Which lease a name means, and what is none.
pub fn names_that_are_taken_or_none(open: Open) {
    let machine = Machine::new(open, json!({}));
    let site = &machine.site;
    let lease = site.adopt(Lease::of(&site.lease("x").id, PROFILE));
    machine.cli(&["acquire", "--lease-id", &lease.id, "--slug", PROFILE]).ok();
    let inside = machine.ssh("gpu.sandbox 'echo $CBX_LEASE_ID'");
    assert_eq!(inside.line(), lease.id, "a slug comes before a profile");
    for (name, says) in [("none.sandbox", "the profiles are gpu"), ("a..b.sandbox", "no lease"), ("-x.sandbox", "")] {
        let output = machine.ssh(&format!("{} true", quoted(name)));
        assert!(output.code == 255 && output.stderr.contains(says), "{name}: {}", output.stderr);
    }
    let touched = format!("{}/touched", site.root);
    for name in [format!("$(touch {touched}).sandbox"), format!("'$(touch {touched})'.sandbox")] {
        for words in [quoted(&name), format!("-l {} gpu.sandbox", quoted(name.trim_end_matches(".sandbox")))] {
            assert_eq!(machine.ssh(&format!("{words} true")).code, 255, "{words}");
        }
    }
    assert_eq!(site.client(&format!("ls {touched} 2>/dev/null; :")).ok(), "");
    let other = machine.ssh("-l nobody gpu.sandbox true");
    assert!(other.code == 255 && other.stderr.contains("`Host gpu.sandbox`"), "{}", other.stderr);
    machine.release(&lease);
}

/// Files as users have them, and what is in them after an install, after another one, and after a removal.
pub fn files_of_ssh_as_users_have_them(open: Open) {
    let site = open(Setup::default());
    let home = format!("{}/odd", site.root);
    let run = |action: &str| {
        let call = Call::raw("").env("HOME", &home).args(&["ssh-config", action]);
        let call = if site.is_outside() {
            call.args(&["--config", &site.write("c.json", r#"{"submitHost": "login"}"#)])
        } else {
            call
        };
        site.run(call)
    };
    let shell = |script: &str| site.client(&format!("cd {home} && {script}")).ok().to_owned();
    site.client(&format!("mkdir -p {home}")).ok();
    let include = format!("Include {}/ssh/config", site.state_dir());
    // What is made first, and its name, mode and text afterwards.
    let text = "Host x\n  User y";
    for (what, make, state) in [
        ("none", ":", "regular file 600"),
        ("its directory alone", "mkdir -m 700 .ssh", "regular file 600"),
        (
            "without a line end",
            "mkdir -m 700 .ssh; printf 'Host x\\n  User y' >.ssh/config; chmod 600 .ssh/config",
            "regular file 600",
        ),
        (
            "read-only",
            "mkdir -m 700 .ssh; printf 'Host x\\n  User y' >.ssh/config; chmod 400 .ssh/config",
            "regular file 400",
        ),
        (
            "a link",
            "mkdir -m 700 .ssh; printf 'Host x\\n  User y' >dot; chmod 640 dot; ln -s ../dot .ssh/config",
            "regular file 640",
        ),
        ("empty", "mkdir -m 700 .ssh; : >.ssh/config; chmod 600 .ssh/config", "regular empty file 600"),
    ] {
        shell(&format!("rm -rf .ssh dot; {make}"));
        let before = shell("ls -lRn --time-style=+ . | grep -v ^total; cat .ssh/config 2>/dev/null; :");
        run("--install").ok();
        assert_eq!(shell("head -n 1 .ssh/config").trim(), include, "{what}");
        let installed = shell("stat -Lc '%F %a' .ssh/config; cat .ssh/config");
        assert!(installed.starts_with(&state.replace("empty ", "")), "{what}: {installed}");
        assert!(installed.ends_with(text) || installed.trim_end().ends_with(&include), "{what}: {installed}");
        assert_eq!(
            shell("ssh -G -F .ssh/config any.sandbox | grep ^stricthostkeychecking"),
            "stricthostkeychecking true\n",
            "{what}"
        );
        run("--install").ok();
        assert_eq!(shell("stat -Lc '%F %a' .ssh/config; cat .ssh/config"), installed, "{what}: twice");
        run("--remove").ok();
        run("--remove").ok();
        let after = shell("ls -lRn --time-style=+ . | grep -v ^total; cat .ssh/config 2>/dev/null; :");
        // A directory that was missing stays.
        assert!(after == before || what == "none", "{what}:\n{before}\n{after}");
        assert_eq!(site.client(&format!("ls {}/ssh/config 2>/dev/null; :", site.state_dir())).ok(), "");
    }
    shell("rm -rf .ssh; mkdir .ssh; mkdir .ssh/config");
    let refused = run("--install");
    assert!(refused.code == 16 && refused.stderr.contains(&include), "{}", refused.stderr);
}
