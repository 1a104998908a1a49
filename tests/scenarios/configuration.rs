//! Config files: which layers hold, what is refused, what admins allow, and how a first file is written.

use std::time::Duration;

use serde_json::{Value, json};

use super::process::{self, quoted};
use super::site::{Call, Open, Setup, Site, job_of};
use super::wire::Reply;

impl Site {
    /// Writes the user's own config file. It lies apart: the home of a campus is everybody's.
    #[track_caller]
    fn user_file(&self, text: &str) {
        self.client(&format!(
            "umask 022; mkdir -p {0}/conf/slurm-sandbox && chmod 755 {0}/conf/slurm-sandbox",
            self.root
        ))
        .ok();
        let path = self.user_path();
        self.client_with(&format!("cat >{path}; chmod 644 {path}"), text.into(), Duration::from_secs(20)).ok();
    }

    fn user_path(&self) -> String {
        format!("{}/conf/slurm-sandbox/config.toml", self.root)
    }

    /// A call of somebody whose config file that is.
    fn with_user_file(&self, call: Call) -> Call {
        call.env("XDG_CONFIG_HOME", &format!("{}/conf", self.root))
    }

    /// `config show` with these words: each key's value and where it comes from.
    #[track_caller]
    fn settings(&self, words: &[&str]) -> Value {
        let call = Call::raw("").args(&["--json", "config", "show"]).args(words);
        let output = self.run(self.with_user_file(call));
        serde_json::from_str(output.ok()).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
    }

    /// Settings that every call on this site needs, as a file has them.
    fn needed(&self) -> String {
        let request = self.request("acquire", json!({}));
        let config = request["config"].as_object().expect("an object").clone();
        config.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
    }
}

#[track_caller]
fn setting<'a>(shown: &'a Value, key: &str) -> (&'a Value, &'a str, &'a str) {
    let found = shown["settings"].as_array().expect("settings").iter().find(|setting| setting["key"] == key);
    let found = found.unwrap_or_else(|| panic!("no {key}: {shown}"));
    (&found["value"], found["source"].as_str().unwrap_or_default(), found["from"].as_str().unwrap_or_default())
}

/// Files, a request and flags go over each other, and a lease is what they come to.
pub fn layers_of_settings(open: Open) {
    let site = open(Setup::default());
    site.user_file(&format!(
        "[defaults]\n{}cpus = 1\ntimeLimit = 20:00\n[profiles.small]\ncpus = 2\nmem = \"200M\"\n[profiles.other]\n",
        site.needed()
    ));
    let path = site.user_path();
    let shown = site.settings(&["--profile", "small", "--mem", "100M", "--set", "timeLimit="]);
    assert_eq!((&shown["profile"], &shown["profiles"]), (&json!("small"), &json!(["other", "small"])));
    let (value, source, from) = setting(&shown, "cpus");
    assert_eq!((value, source), (&json!(2), "file"));
    assert!(from.contains("[profiles.small]") && from.contains(&path) && from.contains("line "), "{from}");
    let (value, source, _) = setting(&shown, "mem");
    assert_eq!((value, source), (&json!("100M"), "flag"));
    let (value, source, _) = setting(&shown, "timeLimit");
    assert_eq!((value, source), (&Value::Null, "flag"));
    assert_eq!(setting(&shown, "qos").1, "default");

    let lease = site.lease("layers");
    let request = json!({"protocolVersion": 1, "operation": "acquire", "desired": lease.desired(), "config": {"profile": "small", "mem": "100M"}});
    let reply = Reply::read(&site.run(site.with_user_file(Call::request(&request))));
    let job = job_of(reply.lease());
    let asked = site.shell(&format!("squeue -h -j {job} -o '%C %m %l'"));
    assert_eq!(asked.line(), "2 100M 20:00");
    let resolve = json!({"protocolVersion": 1, "operation": "resolve", "id": lease.id});
    let resolved = Reply::read(&site.run(site.with_user_file(Call::request(&resolve))));
    assert_eq!(resolved.lease()["ssh"], reply.lease()["ssh"]);
    site.release_cleanly(&lease);

    // A named file goes over the user's, and plain JSON is a request's.
    let named = site.write("named.json", r#"{"cpus": 3}"#);
    let shown = site.settings(&["--config", &named]);
    assert_eq!(setting(&shown, "cpus").0, &json!(3));
    let unknown = site.run(site.with_user_file(Call::raw("").args(&["acquire", "--profile", "huge"])));
    assert_eq!((unknown.code, unknown.stdout.as_str()), (2, ""), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("huge") && unknown.stderr.contains("other, small"), "{}", unknown.stderr);
}

/// What the file says, what is done to it, and what the refusal names beside the file.
pub const FILES: &[(&str, (&str, &str, &str))] = &[
    ("unknown_key", ("[defaults]\n\ncpuz = 1\n", ":", "line 3")),
    ("unknown_table", ("[default]\ncpus = 1\n", ":", "line 1")),
    ("no_toml", ("[defaults]\ncpus = \n", ":", "line 2")),
    ("writable", ("[defaults]\ncpus = 1\n", "chmod o+w $1", "chmod go-w")),
    ("a_directory_that_is_writable", ("[defaults]\ncpus = 1\n", "chmod o+w ${1%/*}", "chmod go-w")),
    ("limits", ("[limits]\ncpus = 1\n", ":", "/etc/slurm-sandbox/config.toml")),
];

/// A file that cannot be used makes no lease, and hinders no end of one.
pub fn files_that_are_refused(open: Open, (text, then, words): (&str, &str, &str)) {
    let site = open(Setup::default());
    let lease = site.lease("refused");
    site.user_file(text);
    let path = site.user_path();
    site.client(&format!("set -- {path}; {then}")).ok();
    let call = site.with_user_file(site.acquiring(&lease, json!({})));
    Reply::read(&site.run(call)).refused("bad-config").says(&[&path, words]);
    let shown = site.run(site.with_user_file(Call::raw("").args(&["config", "show"])));
    assert!(shown.code == 2 && shown.stderr.contains(words), "{shown:?}");
    site.nothing_left(&lease);
    let list = json!({"protocolVersion": 1, "operation": "list"});
    assert!(Reply::read(&site.run(site.with_user_file(Call::request(&list)))).rows().is_empty());
}

const ADMINS: &str = "[defaults]\ncpus = 1\nproxyCommand = \"touch /tmp/slurm-sandbox-was-here\"\n[profiles.small]\nmem = \"100M\"\n\
                      [limits]\ntimeLimit = 20\nidleTimeoutSeconds = 600\npartitions = [\"batch\"]\n[[message]]\ntext = \"Maintenance on Monday\"\n";

/// The admins' file of the host where Slurm's commands run, from wherever they are asked to.
pub fn a_file_of_the_admins(open: Open) {
    let site = open(Setup { alone: true, ..Setup::default() });
    let mine = if site.is_outside() { ADMINS.to_owned() } else { ADMINS.replace("proxyCommand", "# proxyCommand") };
    if !site.admin_file(&mine, "644", "root") {
        return;
    }
    let lease = site.lease("admins");
    let output =
        site.run(site.acquiring(&lease, json!({"profile": "small", "timeLimit": "00:30:00", "idleTimeoutSeconds": 0})));
    let handed = Reply::read(&output).lease().clone();
    for words in ["Maintenance on Monday", "timeLimit", "00:30:00", "/etc/slurm-sandbox/config.toml"] {
        assert!(output.stderr.contains(words), "no {words} in {}", output.stderr);
    }
    let job = job_of(&handed);
    assert_eq!(site.shell(&format!("squeue -h -j {job} -o '%C %m %l'")).line(), "1 100M 20:00");
    assert_eq!(site.row(&lease).expect("listed")["labels"]["idle_timeout_secs"], "600");
    let touched = site.cli(&["touch", &lease.id, "--idle-timeout", "1h"]);
    assert!(touched.ok().contains("600"), "{}", touched.stdout);
    assert_eq!(site.row(&lease).expect("listed")["labels"]["idle_timeout_secs"], "600");
    let extended = site.cli(&["extend", &lease.id, "15m"]);
    assert!(extended.ok().contains("idle for 10 min"), "{}", extended.stdout);
    assert_eq!(site.row(&lease).expect("listed")["labels"]["idle_timeout_secs"], "600");
    // root of the login host runs nothing on a laptop.
    assert_eq!(site.client("ls /tmp/slurm-sandbox-was-here 2>/dev/null").stdout, "");
    // Limits are for what is begun.
    let resolved = site.ask("resolve", json!({"id": lease.id, "config": {"partition": "short"}}));
    assert_eq!(resolved.lease()["ssh"], handed["ssh"]);
    site.release_cleanly(&lease);

    let other = site.lease("elsewhere");
    site.acquire(&other, json!({"partition": "short"})).refused("bad-config").says(&[
        "short",
        "batch",
        "/etc/slurm-sandbox/config.toml",
    ]);
    let doctor = site.ask("doctor", json!({"config": {"timeLimit": 60}}));
    assert!(doctor.value.to_string().contains("timeLimit is lowered"), "{}", doctor.value);

    for (mode, owner, words) in
        [("666", "root", "chmod go-w"), ("664", "root", "chmod go-w"), ("644", "nobody", "chown root")]
    {
        let owner = if site.is_fake() || owner == "root" { owner } else { "bob" };
        assert!(site.admin_file(&mine, mode, owner));
        site.acquire(&other, json!({})).refused("bad-config").says(&["/etc/slurm-sandbox/config.toml", words]);
    }
    assert!(site.admin_file("[defaults]\n\ncpuz = 1\n", "644", "root"));
    site.acquire(&other, json!({})).refused("bad-config").says(&["/etc/slurm-sandbox/config.toml", "line 3"]);
    site.nothing_left(&other);
    assert!(site.admin_file("", "644", "root"));
    site.acquired(&other, json!({"partition": "batch"}));
    site.release_cleanly(&other);
}

/// A first file from what the site has, without a question; it makes leases, and is never written over.
pub fn a_first_file(open: Open) {
    let site = open(Setup::default());
    let host: &[&str] = if site.is_outside() { &["--submit-host", "login"] } else { &[] };
    let run = |words: &[&str]| site.run(site.with_user_file(Call::raw("").args(words)));
    let printed = run(&[&["init", "--print"], host].concat());
    for words in [
        "[defaults]",
        "partition = \"batch\"",
        "[profiles.cpu]",
        "[profiles.gpu]",
        "# Partitions: batch (default, at most 02:00:00)",
    ] {
        assert!(printed.ok().contains(words), "no {words} in {}", printed.stdout);
    }
    assert!(!printed.stdout.contains("closed"), "{}", printed.stdout);
    assert_eq!(site.client(&format!("ls {}/conf 2>&1 | grep -c toml", site.root)).stdout.trim(), "0");
    let written = run(&[&["init", "--yes"], host].concat());
    assert!(written.ok().contains(&site.user_path()), "{}", written.stdout);
    assert_eq!(site.client(&format!("cat {}", site.user_path())).stdout, printed.stdout);
    if !site.is_fake() {
        assert!(printed.stdout.contains("account = \"lab\""), "{}", printed.stdout);
    }
    let again = run(&[&["init", "--yes"], host].concat());
    assert!(again.code == 2 && again.stderr.contains(&site.user_path()), "{again:?}");
    assert_eq!(site.client(&format!("cat {}", site.user_path())).stdout, printed.stdout);

    let lease = site.lease("first");
    let more = json!({"runnerWorkRoot": format!("{}/work", site.root), "sharedDir": format!("{}/shared", site.state_dir()), "profile": "cpu", "mem": "100M"});
    let request = json!({"protocolVersion": 1, "operation": "acquire", "desired": lease.desired(), "config": more});
    let reply = Reply::read(&site.run(site.with_user_file(Call::request(&request))));
    let asked = site.shell(&format!("squeue -h -j {} -o '%P %l %C'", job_of(reply.lease())));
    assert_eq!(asked.line(), "batch 2:00:00 4");
    site.release_cleanly(&lease);
}

/// Types these lines at a terminal.
#[track_caller]
fn typed(site: &Site, command: &str, lines: &str) -> process::Output {
    let line = format!(
        "XDG_CONFIG_HOME={}/conf script --quiet --return --command {} /dev/null",
        site.root,
        quoted(&format!("{} --state-dir {} {command}", site.program(), site.state_dir()))
    );
    site.client_with(&line, lines.into(), Duration::from_secs(60))
}

/// A person at a terminal is asked what only a person knows.
pub fn a_person_answers(open: Open) {
    let site = open(Setup::default());
    let host = if site.is_outside() { " --submit-host login" } else { "" };
    let broken_off = typed(&site, &format!("init{host}"), "nowhere\nshort\n");
    assert_ne!(broken_off.code, 0, "{broken_off:?}");
    assert_eq!(site.client(&format!("ls {} 2>/dev/null", site.user_path())).stdout, "");
    let output = typed(&site, &format!("init{host}"), "nowhere\nshort\n5:00\n\nno\n");
    for words in [
        "Partition (batch, ",
        "there are batch, ",
        "Time limit of a job [00:01:00]",
        "allows 00:01:00 at most",
        "is written",
    ] {
        assert!(output.stdout.contains(words), "no {words} in {}", output.stdout);
    }
    let text = site.client(&format!("cat {}", site.user_path()));
    assert!(
        text.ok().contains("partition = \"short\"\n") && text.stdout.contains("timeLimit = \"00:01:00\"\n"),
        "{}",
        text.stdout
    );
    assert!(!text.stdout.contains("[profiles.gpu]"), "{}", text.stdout);
}
