//! The command line: for people as text, for the client's declarative mode as bare JSON and exit codes.

use serde_json::{Value, json};

use crate::scenarios::process;
use crate::scenarios::session::Login;
use crate::scenarios::site::{Call, Setup, Site, hex, job_of};
use crate::scenarios::wire::{Reply, lease_rules};

fn site() -> Site {
    Site::fake(Setup::default())
}

/// The config file that the verbs get.
fn config(site: &Site) -> String {
    site.write(
        "config.json",
        &json!({"runnerWorkRoot": format!("{}/work", site.root), "acquireTimeoutSeconds": 30}).to_string(),
    )
}

#[track_caller]
fn bare(text: &str) -> Value {
    assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "{text:?}");
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The declarative lifecycle (docs/facts/client.md, "Declarative lifecycle"), verb by verb.
#[test]
fn the_declarative_lifecycle() {
    let site = site();
    let file = config(&site);
    let lease = site.lease("declared");
    let identity = ["--lease-id", &lease.id, "--slug", &lease.slug, "--name", &lease.name];
    let run = |words: &[&str]| site.cli(&[words, &["--config", &file]].concat());

    let acquired = run(&[&["acquire", "--json", "--keep=false"][..], &identity].concat());
    let handed = bare(acquired.ok());
    lease_rules(&handed);
    assert_eq!(
        (&handed["leaseId"], &handed["slug"], &handed["name"]),
        (&json!(lease.id), &json!(lease.slug), &json!(lease.name))
    );
    let cloud_id = handed["cloudId"].as_str().unwrap();

    let resolved =
        bare(run(&[&["resolve", "--json", &lease.name, "--release-only=false"][..], &identity].concat()).ok());
    assert_eq!(resolved["ssh"], handed["ssh"]);
    let rows = bare(run(&["list", "--json", "--all=true", "--refresh=false"]).ok());
    rows.as_array().unwrap().iter().for_each(lease_rules);
    assert_eq!(rows[0]["cloudId"], cloud_id);
    run(&["touch", "--lease-id", &lease.id, "--cloud-id", cloud_id, "--state", "running"]).ok();
    run(&["cleanup"]).ok();
    run(&["doctor"]);

    let wrong = run(&[
        "release",
        "--lease-id",
        &lease.id,
        "--slug",
        &lease.slug,
        "--name",
        &lease.name,
        "--cloud-id",
        "slurm/job/999",
    ]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (4, ""), "{}", wrong.stderr);
    assert!(wrong.stderr.lines().count() == 1 && wrong.stderr.contains(&lease.id), "{}", wrong.stderr);
    run(&[
        "release",
        "--lease-id",
        &lease.id,
        "--slug",
        &lease.slug,
        "--name",
        &lease.name,
        "--cloud-id",
        cloud_id,
        "--force=true",
    ])
    .ok();
    site.nothing_left(&lease);
    assert_eq!(bare(run(&["list", "--json"]).ok()), json!([]));
}

/// What a person types and sees.
#[test]
fn a_persons_way() {
    let site = site();
    let file = config(&site);
    let acquired = site.cli(&["acquire", "--config", &file]);
    let text = acquired.ok();
    let id =
        text.split_whitespace().find(|word| word.starts_with("cbx_")).unwrap_or_else(|| panic!("{text}")).to_owned();
    let slug = format!("box-{}", &id[12..]);
    let table = site.cli(&["list"]);
    assert!(
        table.ok().contains(&id) && table.stdout.contains(&slug) && table.stdout.contains("RUNNING"),
        "{}",
        table.stdout
    );
    assert!(table.stdout.lines().all(|line| line.chars().count() <= 110), "{}", table.stdout);

    let inside = site.cli(&["ssh", &slug, "--config", &file, "--", "echo", "in", "$SLURM_JOB_ID;", "exit", "9"]);
    let job = job_of(&site.list()[0]);
    assert_eq!((inside.code, inside.stdout.as_str()), (9, format!("in {job}\n").as_str()), "{}", inside.stderr);
    let piped = site.run(Call::raw("through a pipe\n").args(&["ssh", &id, "--config", &file, "--", "cat"]));
    assert_eq!(piped.ok(), "through a pipe\n");
    let logs = site.cli(&["logs", &job]);
    assert!(logs.ok().contains("submitted") && logs.stdout.contains("serving"), "{}", logs.stdout);
    let resolved = site.cli(&["resolve", &job, "--config", &file]);
    assert!(resolved.ok().contains(&slug), "{}", resolved.stdout);
    site.cli(&["touch", &slug, "--ttl", "1h", "--idle-timeout", "20m"]).ok();
    let released = site.cli(&["release", &slug]);
    assert!(released.ok().contains(&id), "{}", released.stdout);
    assert!(site.list().is_empty() && site.cli(&["list"]).ok().lines().count() <= 1);
    let logs = site.cli(&["logs", &slug]);
    assert_eq!((logs.code, logs.stdout.as_str()), (4, ""));
}

/// Each failure is one line on stderr and an exit code of its own kind; stdout is empty.
#[test]
fn failures_have_exit_codes() {
    let site = site();
    let file = config(&site);
    let bad = site.write("bad.json", "{\"cpu\": 1}");
    let text = site.write("text.json", "cpus: 1");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["release", "nobody"], 4, "nobody"),
        (&["resolve", "nobody", "--config", &file], 4, "nobody"),
        (&["ssh", "nobody", "--config", &file, "--", "true"], 4, "nobody"),
        (&["acquire", "--lease-id", "../../x"], 2, "../../x"),
        (&["acquire", "--config", &bad], 2, "cpu"),
        (&["acquire", "--config", &text], 2, "text.json"),
        (&["acquire", "--config", "/nonexistent"], 2, "/nonexistent"),
        (&["acquire", "--runner-script", "/nonexistent"], 2, "/nonexistent"),
        (&["release"], 2, "lease"),
        (&["frobnicate"], 2, "frobnicate"),
        (&["list", "--frobnicate"], 2, "frobnicate"),
        (&["acquire", "--keep=maybe"], 2, "maybe"),
    ];
    for (words, code, word) in cases {
        let output = site.cli(words);
        assert_eq!((output.code, output.stdout.as_str()), (*code, ""), "{words:?}: {}", output.stderr);
        assert!(output.stderr.contains(word), "{words:?}: {}", output.stderr);
        assert!(!output.stderr.contains("panicked") && output.took < process::limit(5), "{words:?}");
    }
    assert!(site.list().is_empty());
}

/// `--help` of every verb tells enough to use it.
#[test]
fn every_verb_has_help() {
    let site = site();
    let top = site.cli(&["--help"]);
    for verb in ["doctor", "acquire", "resolve", "list", "release", "touch", "cleanup", "logs", "ssh", "init", "config"]
    {
        assert!(top.ok().contains(&format!("  {verb} ")), "{verb} is not in --help");
        let help = site.cli(&[verb, "--help"]);
        assert!(
            help.ok().contains("Usage:") && help.stdout.contains("--config") && help.stderr.is_empty(),
            "{verb}: {}",
            help.stdout
        );
        let undocumented: Vec<_> = help
            .stdout
            .lines()
            .zip(help.stdout.lines().skip(1).chain([""]))
            .filter(|(line, next)| {
                line.trim_start().starts_with("--") && line.trim().split("  ").count() < 2 && next.trim().is_empty()
            })
            .collect();
        assert!(undocumented.is_empty(), "{verb}: {undocumented:?}");
    }
    assert!(site.cli(&["--version"]).ok().starts_with("slurm-sandbox "));
}

/// Who traces sees each command with its time and its words, on stderr; nobody else does.
#[test]
fn commands_are_traced_where_that_is_asked_for() {
    let site = site();
    let lease = site.lease("traced");
    site.acquired(&lease, json!({}));
    let list = |value: &str| site.run(Call::raw("").args(&["list"]).env("SLURM_SANDBOX_TRACE", value));
    for (value, traced) in [("1", true), ("", false)] {
        let output = list(value);
        output.ok();
        let lines: Vec<&str> = output.stderr.lines().filter(|line| line.contains("took_ms=")).collect();
        assert_eq!(lines.iter().any(|line| line.contains("squeue --noheader")), traced, "{value:?}: {}", output.stderr);
        assert!(traced || lines.is_empty(), "{}", output.stderr);
    }
    site.release_cleanly(&lease);
}

/// The token by which some sites know who asks reaches Slurm's commands, and nothing else: neither sessions, other programs,
/// arguments, files nor what is traced.
#[test]
fn a_token_reaches_slurms_commands_alone() {
    let site = site();
    let lease = site.lease("token");
    let script = "mkdir ~/bin; for tool in sbatch squeue ssh-keygen; do printf '#!/bin/sh\\necho \"${SLURM_JWT-none}\" >>~/saw-%s\\nexec %s \"$@\"\\n' \
                  $tool $(command -v $tool) >~/bin/$tool; chmod +x ~/bin/$tool; done; echo $PATH";
    let path = format!("{}/home/bin:{}", site.root, site.shell(script).line());
    let secret = format!("ey{}", hex(16));
    let with_token = |call: Call| call.env("SLURM_JWT", &secret).env("PATH", &path);
    let acquired = site.run(with_token(site.acquiring(&lease, json!({}))));
    let handed = Reply::read(&acquired).lease().clone();
    let listed = site.run(with_token(Call::raw("").args(&["list"])).env("SLURM_SANDBOX_TRACE", "1"));
    for output in [&acquired, &listed] {
        assert!(!output.stdout.contains(&secret) && !output.stderr.contains(&secret), "{output:?}");
    }
    for (tool, seen) in [("sbatch", secret.as_str()), ("squeue", &secret), ("ssh-keygen", "none")] {
        assert_eq!(site.shell(&format!("sort -u ~/saw-{tool}")).line(), seen, "{tool}");
    }
    let session = Login::of(&handed).ssh(&site, "echo ${SLURM_JWT-none}; env | grep -c SLURM_JWT");
    assert_eq!(session.stdout, "none\n0\n");
    let files =
        format!("grep -rlsF -D skip -e {secret} {0}/state {0}/work; grep -c -e {secret} {0}/calls.log", site.root);
    assert_eq!(site.shell(&files).stdout.trim().trim_end_matches('0'), "");
    site.release_cleanly(&lease);
}

/// A site that measures nothing is told apart from jobs that use nothing.
#[test]
fn what_is_not_measured_is_said() {
    let site = site();
    let lease = site.lease("unmeasured");
    site.acquired(&lease, json!({"cpus": 2}));
    site.shell("fake-slurm set sstat unmeasured").ok();
    let stats = site.cli(&["list", "--stats"]);
    assert!(stats.ok().contains("? of 2") && stats.stderr.contains("JobAcctGatherType"), "{stats:?}");
    site.release_cleanly(&lease);
}

/// Options of the site's own are allowed by a file of root's, and by nothing that a caller says.
#[test]
fn options_of_the_site_are_allowed_by_its_admins() {
    let site = site();
    let lease = site.lease("spank");
    let config = json!({"extraSbatchArgs": ["--container-image=x.sqsh"]});
    let words = ["extraSbatchArgs", "--container-image=x.sqsh", "/etc/slurm-sandbox/sbatch-options", "is not there"];
    if std::fs::exists("/etc/slurm-sandbox").unwrap_or(true) {
        return;
    }
    site.acquire(&lease, config.clone()).refused("bad-config").says(&words);
    let doctor = site.ask("doctor", json!({"config": config}));
    doctor.refused("doctor-red").says(&words);
    site.nothing_left(&lease);
}
