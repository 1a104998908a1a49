//! What the pages show is tried on the fake scheduler: the examples, and the checks of doctor.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use slurm_sandbox::doctor::TABLE;

use super::root;

/// A scheduler and a home for one test, which end with it.
pub struct Site {
    pub dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Site {
        let dir = tempfile::Builder::new().prefix("slurm-sandbox-docs.").tempdir_in("/tmp").unwrap();
        for name in ["scheduler", "home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Site { dir }
    }

    /// A line of bash as a user of that site types it in a checkout, within a time limit.
    pub fn run(&self, line: &str) -> Output {
        let own = std::env::var("PATH").unwrap_or_default();
        let binary = Path::new(env!("CARGO_BIN_EXE_slurm-sandbox")).parent().unwrap();
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
        let user = user.map_or_else(|| "nobody".to_owned(), |user| user.name);
        Command::new("timeout")
            .args(["120", "bash", "-c", line])
            .env_clear()
            .env("PATH", format!("{}:{}:{own}", root().join("tests/fake-slurm").display(), binary.display()))
            .env("SLURM_CONF", self.dir.path().join("scheduler/fake-slurm.conf"))
            .env("HOME", self.dir.path().join("home"))
            .env("USER", &user)
            .env("LOGNAME", &user)
            .env("SHELL", "/bin/bash")
            .current_dir(root())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What a line that must succeed prints.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{line}: {}\n{stdout}{stderr}", output.status);
        stdout.into_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.run("fake-slurm down");
    }
}

#[test]
fn requests_of_the_examples_make_a_lease_and_end_it() {
    let site = Site::new();
    let answer = |file: &str| -> serde_json::Value {
        let text = site.ok(&format!("slurm-sandbox <examples/{file}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let acquired = answer("acquire.json");
    assert_eq!(acquired["lease"]["slug"], "example", "{acquired}");
    assert_eq!(answer("acquire.json")["lease"]["cloudId"], acquired["lease"]["cloudId"]);
    let released = answer("release.json");
    assert!(released["error"].is_null(), "{released}");
    assert_eq!(site.ok("squeue --noheader").trim(), "");
}

#[test]
fn a_one_off_command_leaves_its_exit_code_and_no_job() {
    let site = Site::new();
    assert!(site.ok("examples/once examples/config.json 'echo job $SLURM_JOB_ID'").starts_with("job "));
    assert_eq!(site.run("examples/once examples/config.json exit 7").status.code(), Some(7));
    assert_eq!(site.run("examples/once").status.code(), Some(2));
    assert_eq!(site.ok("slurm-sandbox --json list").trim(), "[]");
    assert_eq!(site.ok("squeue --noheader").trim(), "");
}

/// What users and admins begin with can be read, and says what its comments say.
#[test]
fn config_files_of_the_examples_are_read() {
    use slurm_sandbox::config::layers::{Role, parse};
    let site = Site::new();
    let shown = site.ok("slurm-sandbox --config examples/config.toml config show --profile small");
    for words in ["batch", "4G", "[profiles.small] of examples/config.toml, line ", "profiles: gpu, small"] {
        assert!(shown.contains(words), "no {words} in {shown}");
    }
    let text = super::read("examples/admin.toml");
    let file = parse("admin.toml", Role::Admin, &text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert_eq!((file.messages.len(), file.limits.shown().len(), file.profiles.len()), (1, 8, 2));
    parse("config.toml", Role::User, &super::read("examples/config.toml"))
        .unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
}

/// Checks for which something has to be found first, or that only a login host has which can be used.
const NOT_ALWAYS: &[&str] = &["clock", "lease records"];

/// The checks of the table are those that doctor tells on the fake scheduler and of a login host that is not there.
#[test]
fn each_check_of_the_table_is_told() {
    let site = Site::new();
    let mut told = BTreeSet::new();
    // Nobody listens at the discard port.
    let nowhere = site.dir.path().join("ssh_config");
    fs::write(&nowhere, "Host nowhere\n  HostName 127.0.0.1\n  Port 9\n").unwrap();
    let unusable = serde_json::json!({"submitHost": "nowhere", "sshConfig": nowhere});
    let with_spares = serde_json::json!({"spares": 1, "timeLimit": "00:10:00"});
    for (config, words) in [(with_spares, "doctor --live"), (unusable, "doctor")] {
        let file = site.dir.path().join("config.json");
        fs::write(&file, config.to_string()).unwrap();
        let output = site.run(&format!("slurm-sandbox --json --config {} {words}", file.display()));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        let checks = answer.as_array().expect("checks");
        told.extend(checks.iter().filter_map(|check| check["name"].as_str().map(str::to_owned)));
    }
    let known: BTreeSet<String> = TABLE.iter().map(|row| row.name.to_owned()).collect();
    let unknown: Vec<_> = told.difference(&known).collect();
    assert_eq!(unknown, Vec::<&String>::new());
    let missing: Vec<_> = known.difference(&told).filter(|name| !NOT_ALWAYS.contains(&name.as_str())).collect();
    assert_eq!(missing, Vec::<&String>::new(), "doctor does not tell these checks of its table");
}
