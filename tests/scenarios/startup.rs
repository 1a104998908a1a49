//! Start-up files of the account on the login host: what they print, read, define or forbid changes nothing, and those that
//! hang do not make us hang.

use std::time::Duration;

use serde_json::json;

use super::process;
use super::session::Login;
use super::site::{Open, Setup, Site, job_of};

/// What is read by the shells of these users when they are started by sshd, as a login shell or not.
const FILES: &[(&str, &[&str], &str)] = &[
    ("dave", &[".bashrc", ".bash_profile"], BASH),
    ("zoe", &[".zshenv", ".zshrc", ".zprofile", ".bash_profile"], ZSH),
    ("carol", &[".cshrc", ".login"], CSH),
];

const BASH: &str = r#"
echo 'Welcome to the cluster! 1 begins'
echo 'printed on stderr' >&2
printf '{"protocolVersion":1}\n\n0123 1 ended 0\n'
read -r swallowed
cd() { echo "cd to $*"; builtin cd "$@"; }
head() { echo head; }
printf() { builtin printf 'noise '; builtin printf "$@"; }
squeue() { echo nothing; }
env() { echo no; }
exec 3>&1
alias sh='echo sh' bash='echo bash' head='echo head' env='echo env'
shopt -s expand_aliases
export -f cd head printf squeue env
export SQUEUE_FORMAT=%i SQUEUE_STATES=CANCELLED SBATCH_PARTITION=closed SBATCH_ARRAY_INX=1-4 SCANCEL_STATE=PENDING
export SLURM_JOB_ID=999999 SBATCH_EXPORT=NONE IFS=_ CDPATH=/ POSIXLY_CORRECT=1 BASH_ENV=/nonexistent
PROMPT_COMMAND='echo prompt'
trap 'echo debugged' DEBUG
trap 'echo left' EXIT
umask 0
PATH=.:bin::$PATH:
readonly TMOUT=1
export TMOUT
set -e -u -o pipefail
"#;

const ZSH: &str = r#"
echo 'Welcome 1 begins'
echo 'printed on stderr' >&2
read swallowed
PATH=.:bin::$PATH:
export SQUEUE_FORMAT=%i SQUEUE_STATES=CANCELLED SBATCH_PARTITION=closed SLURM_JOB_ID=999999 TMOUT=1
umask 0
"#;

const CSH: &str = r#"
echo 'Welcome 1 begins'
/bin/sh -c 'echo printed on stderr >&2'
set swallowed = "$<"
alias head 'echo head'
alias sh 'echo sh'
setenv SQUEUE_FORMAT %i
setenv SQUEUE_STATES CANCELLED
setenv SBATCH_PARTITION closed
setenv SLURM_JOB_ID 999999
setenv PATH .:bin::${PATH}:
umask 0
"#;

/// The account's own files, put back whatever happens.
struct Restored<'a>(&'a Site);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        let campus = self.0.on_campus();
        let script = format!(
            "cd; rm -f .bashrc .bash_profile .zshenv .zshrc .zprofile .cshrc .login; cp -a {}/home/. .",
            self.0.root
        );
        let _ = campus.shell("login", campus.user(), &[], &script).output();
    }
}

impl Site {
    /// Keeps the account's start-up files until the value goes.
    #[track_caller]
    fn start_up_files(&self) -> Restored<'_> {
        let script = format!(
            "mkdir {0}/home; cd; for f in .bashrc .bash_profile .zshenv .zshrc .zprofile .cshrc .login .profile; do \
             [ ! -e $f ] || cp -a $f {0}/home/; done",
            self.root
        );
        self.shell(&script).ok();
        Restored(self)
    }
}

/// Every operation, with a forwarded endpoint and with one in a session of its own.
pub fn files_that_interfere(_: Open) {
    process::each(FILES, |(user, files, text)| {
        let site = Site::laptop_apart(Setup { accounting: false, user, alone: false });
        let restored = site.start_up_files();
        for file in *files {
            // bash's own, for the shell that we ask for behind a login shell of another kind.
            let text = if file.starts_with(".bash") { BASH } else { text };
            site.shell_with(&format!("cat >$HOME/{file}"), text.into(), Duration::from_secs(20)).ok();
        }
        for mode in ["proxy-through-login", "stdio"] {
            if mode == "stdio" {
                // What reads in a session takes the first words of the client's ssh; no tool that speaks over ssh survives that.
                site.shell("sed -i '/swallowed/d' .[bzcl]*rc .[bzl]*env .*profile .login 2>/dev/null; :").ok();
            }
            let lease = site.lease(user);
            let config = json!({"sshMode": mode});
            let handed = site.acquired(&lease, config.clone());
            let job = job_of(&handed);
            assert_eq!(site.live_jobs(&lease), [format!("{job} RUNNING")], "{user} {mode}");
            let inside = Login::of(&handed).ssh(&site, "id -un; echo $0 >/dev/null; exit 3");
            assert_eq!(
                (inside.code, inside.stdout.as_str(), inside.stderr.as_str()),
                (3, format!("{user}\n").as_str(), ""),
                "{mode}"
            );
            Login::of(&handed).transfer(&site);
            assert_eq!(site.row(&lease).expect("listed")["labels"]["state"], "ready", "{user} {mode}");
            assert_eq!(site.ask("resolve", json!({"id": lease.id, "config": config})).lease()["ssh"], handed["ssh"]);
            site.release_cleanly(&lease);
        }
        drop(restored);
    });
}

/// Modules that take long are waited for; start-up files that never end are not, and the message says so.
pub fn files_that_take_their_time(_: Open) {
    let site = Site::laptop_apart(Setup { accounting: false, user: "mallory", alone: true });
    let restored = site.start_up_files();
    let profile = |text: &str| {
        site.shell_with("cat >$HOME/.bash_profile", text.into(), Duration::from_secs(20)).ok();
    };
    profile("sleep 5\n");
    let lease = site.lease("slow");
    let handed = site.acquired(&lease, json!({}));
    assert_eq!(site.row(&lease).expect("listed")["labels"]["state"], "ready");

    profile("echo 'Password: ' ; sleep 1000 & wait\n");
    let list = site.spawn(super::site::Call::request(&site.request("list", json!({}))));
    let late = site.lease("late");
    let acquire = site.spawn(site.acquiring(&late, json!({"acquireTimeoutSeconds": 5})));
    let release = site.release(&lease);
    assert!(release.took < process::limit(28), "the client kills a release after 30 s: {:?}", release.took);
    release.refused("releasing").says(&[&lease.id]);
    let listed = site.reply(list);
    assert!(listed.took < process::limit(28), "{:?}", listed.took);
    assert_eq!(
        (&listed.rows()[0]["cloudId"], &listed.rows()[0]["labels"]["state"]),
        (&handed["cloudId"], &json!("unknown"))
    );
    assert!(listed.stderr.contains("login shell") && listed.stderr.contains("Password"), "{}", listed.stderr);
    let refused = site.reply(acquire);
    site.refusal(&refused, "slurm-unavailable", &late, None).says(&["login shell"]);
    drop(restored);
    site.shell("pkill -u $(id -u) -x sleep; :").ok();
    site.settled_by_list(&lease, Duration::from_secs(30));
    site.nothing_left(&lease);
    site.nothing_left(&late);
}
