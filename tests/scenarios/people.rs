//! What people look at: a submission before it is made, what jobs use, logs that go on, tables and lines at a terminal.

use std::time::Duration;

use serde_json::{Value, json};

use super::process::{Output, limit, quoted, until};
use super::session::Login;
use super::site::{Call, Open, Setup, Site, job_of};

impl Site {
    /// The config file of the verbs, with what the protocol's requests of this site have.
    pub fn config_file(&self, more: Value) -> String {
        let request = self.request("list", json!({"config": more}));
        self.write("people.json", &request["config"].to_string())
    }

    /// The binary at a terminal of so many columns, with these variables; stderr is the same terminal.
    #[track_caller]
    pub fn at_terminal(&self, columns: u32, variables: &str, words: &[&str]) -> Output {
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let line = format!(
            "stty cols {columns} rows 24; export TERM=xterm; {variables} exec {} --state-dir {} {}",
            self.program(),
            quoted(&self.state_dir()),
            words.join(" ")
        );
        // `script` gives it a terminal and takes over its exit code.
        self.client_with(&format!("script -qefc {} /dev/null", quoted(&line)), Vec::new(), Duration::from_secs(90))
    }
}

/// A line as a terminal shows it: without what colours it or moves the cursor.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => drop(rest.find(|c| c.is_ascii_alphabetic())),
            '\r' => {}
            c => shown.push(c),
        }
    }
    shown
}

/// render tells to the byte what the job has got: command, variables, script.
pub fn a_rendered_submission(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("rendered");
    let config = json!({
        "cpus": 2, "mem": "100M", "comment": "of the lab's \"own\"", "preamble": ["export FROM_PREAMBLE='a b'", "# ü"],
        "ttlSeconds": 3000,
    });
    let file = site.config_file(config.clone());
    let identity = ["--lease-id", &lease.id, "--slug", &lease.slug, "--name", &lease.name];
    let render = |words: &[&str]| site.cli(&[&["render", "--config", &file], words, &identity[..]].concat());

    let before = render(&["--command"]).ok().to_owned();
    assert!(before.starts_with("sbatch --parsable --job-name="), "{before}");
    assert!(site.list().is_empty() && site.all_jobs(&lease).is_empty(), "render has made something");

    let handed = site.acquired(&lease, config);
    let job = job_of(&handed);
    let rendered: Value = serde_json::from_str(render(&["--json"]).ok()).expect("JSON");
    // As the job's first process got them: a session sees few of them.
    let ours = format!("grep -qzx CBX_LEASE_ID={} $e && grep -qz ^CBX_PREAMBLE= $e", lease.id);
    let look =
        format!("for e in /proc/[0-9]*/environ; do {ours} && grep -z ^CBX_ $e | base64 -w0 && break; done 2>/dev/null");
    let found = Login::of(&handed).ssh(&site, &look);
    let found = site.shell(&format!("echo {} | base64 -d | tr '\\0' '\\n'", found.line()));
    for (name, value) in rendered["environment"].as_object().expect("variables") {
        let line = format!("{name}={}", value.as_str().expect("text"));
        assert!(format!("\n{}", found.stdout).contains(&format!("\n{line}\n")), "{line}: {}", found.stdout);
    }
    let words: Vec<&str> = rendered["command"].as_array().expect("words").iter().filter_map(Value::as_str).collect();
    let word = |name: &str| {
        let found = words.iter().find_map(|word| word.strip_prefix(&format!("--{name}=")));
        found.unwrap_or_else(|| panic!("no --{name}: {words:?}")).to_owned()
    };
    let seen = site.shell(&format!("squeue -h -j {job} -o '%j|%k|%Z|%C|%m'"));
    let cpus_and_memory = "2|100M";
    assert_eq!(seen.line(), format!("{}|{}|{}|{cpus_and_memory}", word("job-name"), word("comment"), word("chdir")));
    assert!(words.contains(&"--cpus-per-task=2") && words.contains(&"--mem=100M"), "{words:?}");
    let script = render(&["--script"]);
    assert_eq!(script.ok(), rendered["script"].as_str().expect("text"));
    if !site.is_fake() {
        let spooled = site.shell(&format!("scontrol write batch_script {job} -"));
        assert_eq!(spooled.ok(), script.stdout, "the script that Slurm has");
    }
    // As a shell reads it, it is the same.
    let again = "eval \"$(cat)\"; printf %s \"$CBX_PREAMBLE\"";
    let read = site.client_with(again, render(&["--env"]).ok().into(), Duration::from_secs(20));
    assert_eq!(read.stdout, rendered["environment"]["CBX_PREAMBLE"].as_str().expect("text"));
    let other = site.cli(&["render", "--config", &file, "--lease-id", &lease.id, "--slug", "other"]);
    assert_eq!((other.code, other.stdout.as_str()), (4, ""), "{}", other.stderr);
    site.release_cleanly(&lease);
}

/// What a job uses of what it was given, in one question for all.
pub fn what_is_used(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("used");
    let handed = site.acquired(&lease, json!({"cpus": 2, "mem": "100M"}));
    // Busy on one of its two CPUs, in a session: Slurm's plugin for Linux counts nothing that is detached.
    let mut busy = site.background(&Login::of(&handed).line("timeout 60 bash -c 'while :; do :; done'"));
    let used = until("what it uses is told", limit(20), || {
        let stats = site.cli(&["list", "--stats", "--json"]);
        let rows: Value = serde_json::from_str(stats.ok()).expect("JSON");
        let row = rows.as_array()?.iter().find(|row| row["leaseId"] == lease.id.as_str())?.clone();
        assert_eq!(row["slug"], lease.slug.as_str());
        row["usage"]["cpuPercent"].as_f64().filter(|share| *share > 0.0).map(|_| row["usage"].clone())
    });
    busy.kill();
    assert_eq!(used["cpus"], 2, "{used}");
    assert!(used["cpuPercent"].as_f64().is_some_and(|share| share <= 100.0), "{used}");
    assert_eq!(used["memoryGrantedBytes"], 100 << 20, "{used}");
    assert!(used["memoryBytes"].as_u64().is_some_and(|bytes| bytes > 100_000), "{used}");
    let table = site.cli(&["list", "--stats"]);
    assert!(table.ok().contains(" of 2 cores") && table.stdout.contains(&lease.slug), "{}", table.stdout);
    assert_eq!(table.stderr, "");
    site.release_cleanly(&lease);
}

/// Where nothing is accounted that is said loudly, and what is measured is shown all the same.
pub fn what_is_used_without_accounting(open: Open) {
    let site = open(Setup { accounting: false, ..Setup::default() });
    let lease = site.lease("unaccounted");
    site.acquired(&lease, json!({"cpus": 2}));
    let table = site.cli(&["list", "--stats"]);
    assert!(table.ok().contains(" of 2"), "{}", table.stdout);
    assert!(table.stderr.contains("ACCOUNTING IS OFF") && table.stderr.contains("disabled"), "{}", table.stderr);
    site.release_cleanly(&lease);
}

/// logs goes on until the lease is gone.
pub fn logs_that_follow(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("followed");
    let handed = site.acquired(&lease, json!({}));
    let following =
        |flags: &[&str]| site.spawn(Call::raw("").args(&[&["logs", "--follow", &lease.slug], flags].concat()));
    let (text, lines) = (following(&[]), following(&["--json"]));
    let path = format!("{}/{}", site.shared_dir(&lease), "*");
    Login::of(&handed)
        .ssh(&site, &format!("for d in {path}/; do echo said-later >>$d/slurm-$SLURM_JOB_ID.out; done"))
        .ok();
    std::thread::sleep(Duration::from_secs(4));
    site.release_cleanly(&lease);
    let text = text.end(limit(30));
    for part in ["submitted: ", "answered: ", "said-later", "sshd.log: ", "\n== "] {
        assert!(text.ok().contains(part), "{part:?}: {}", text.stdout);
    }
    assert_eq!(text.stdout.matches("said-later").count(), 1, "{}", text.stdout);
    let lines = lines.end(limit(30));
    let lines: Vec<Value> = lines
        .ok()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(lines.iter().any(|line| line["event"] == "submitted"), "{lines:?}");
    assert!(lines.last().is_some_and(|line| line["end"].is_string()), "{lines:?}");
}

/// A line that lives at a terminal; plain lines where nothing may be drawn over.
pub fn a_line_that_lives(open: Open) {
    let site = open(Setup::default());
    let file = site.config_file(json!({"acquireTimeoutSeconds": 6, "partition": "closed"}));
    let waits = ["acquire", "--config", &file];
    let living = site.at_terminal(40, "", &waits);
    assert_eq!(living.code, 11, "{}", living.stdout);
    // Drawn again and again, each time over itself and within 40 columns.
    assert!(living.stdout.contains("\u{1b}[2K") || living.stdout.matches('\r').count() > 5, "{:?}", living.stdout);
    let frames: Vec<&str> = living.stdout.split(['\r', '\n']).filter(|frame| frame.contains("PENDING, ")).collect();
    let frames: Vec<String> =
        frames.iter().map(|frame| shown(frame)).filter(|frame| !frame.contains("slurm-sandbox:")).collect();
    assert!(frames.len() > 3 && frames.iter().all(|frame| frame.chars().count() <= 40), "{frames:?}");
    let lease = site.lease("lives");
    let starts = site.write("starts.json", &site.request("list", json!({}))["config"].to_string());
    let ready =
        site.at_terminal(80, "", &["acquire", "--config", &starts, "--lease-id", &lease.id, "--slug", &lease.slug]);
    let last = format!("lease {} ({}) is ready: ", lease.id, lease.slug);
    assert!(shown(ready.ok()).contains(&format!("{last}slurm/job/")), "{:?}", ready.stdout);
    let released = site.cli(&["release", "--json", &lease.slug]);
    let said: Value = serde_json::from_str(released.ok()).expect("JSON");
    assert!(said["message"].as_str().is_some_and(|message| message.contains(&lease.id)), "{said}");
    for variables in ["NO_COLOR=1", "TERM=dumb"] {
        let plain = site.at_terminal(40, variables, &waits);
        assert!(plain.code == 11 && !plain.stdout.contains('\u{1b}'), "{variables}: {:?}", plain.stdout);
        let lines: Vec<&str> = plain.stdout.lines().collect();
        assert!(lines.iter().all(|line| line.starts_with("slurm-sandbox: ")), "{variables}: {lines:?}");
    }
}

/// Tables fit the terminal, and have colours where they may.
pub fn tables_that_fit(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("shown");
    site.acquired(&lease, json!({"cpus": 2}));
    for columns in [40, 80, 200] {
        for words in [&["list"][..], &["list", "--stats"], &["logs", &lease.slug]] {
            let output = site.at_terminal(columns, "", words);
            let text = shown(output.ok());
            let long = text.lines().find(|line| line.chars().count() > columns as usize);
            assert!(long.is_none() || words[0] == "logs", "{columns}: {long:?}");
            assert!(output.stdout.contains('\u{1b}') && text.contains(&lease.slug[..5]), "{text}");
            let plain = site.at_terminal(columns, "NO_COLOR=1", words);
            assert!(!plain.ok().contains('\u{1b}'), "{:?}", plain.stdout);
        }
    }
    let piped = site.run(Call::raw("").args(&["list"]).env("CLICOLOR_FORCE", "1"));
    assert!(piped.ok().contains("\u{1b}[32mRUNNING"), "{}", piped.stdout);
    assert!(!site.cli(&["list"]).ok().contains('\u{1b}'));
    let doctor = site.at_terminal(60, "", &["doctor"]);
    let verbose = site.at_terminal(60, "", &["doctor", "--verbose"]);
    assert!(doctor.stdout.contains("--verbose shows them") && !verbose.stdout.contains("--verbose shows them"));
    assert!(verbose.stdout.lines().count() > 2 * doctor.stdout.lines().count(), "{}", verbose.stdout);
    assert!(shown(&doctor.stdout).contains("\nnext   "), "{}", doctor.stdout);
    site.release_cleanly(&lease);
}

/// A table that goes on: drawn over itself at a terminal, elsewhere one for each change; Ctrl-C is its usual end.
pub fn a_watch(open: Open) {
    let site = open(Setup::default());
    let lease = site.lease("watched");
    site.acquired(&lease, json!({}));
    let watch = |seconds: u32| {
        format!(
            "timeout --foreground --preserve-status -s INT {seconds} {} --state-dir {} list --watch 2",
            site.program(),
            site.state_dir()
        )
    };
    let line = format!("stty cols 60 rows 24; export TERM=xterm; {}", watch(5));
    let drawn = site.client(&format!("script -qefc {} /dev/null", quoted(&line)));
    assert!(
        drawn.ok().matches("\u{1b}[H").count() >= 2 && drawn.stdout.contains(&lease.slug[..8]),
        "{:?}",
        drawn.stdout
    );
    let plain = site.background(&watch(12));
    std::thread::sleep(Duration::from_secs(4));
    site.release_cleanly(&lease);
    let plain = plain.end(limit(30));
    let tables = plain.ok().matches("SLUG").count();
    assert!((2..=4).contains(&tables) && !plain.stdout.contains('\u{1b}'), "{}", plain.stdout);
    let cut = site.client(&format!("{} | head -n 1", watch(20)));
    assert!(cut.ok().contains("SLUG") && cut.stderr.is_empty(), "{}", cut.stderr);
    for words in [&["list", "--watch", "1"][..], &["list", "--watch", "--stats"], &["list", "--watch=soon"]] {
        let refused = site.cli(words);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{words:?}");
    }
}
