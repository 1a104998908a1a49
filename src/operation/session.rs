//! A session inside a lease, for people: the client's ssh in this process's place, or a step of its job where sshd is of no use.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::failure::{Failure, Kind};
use crate::host::command::{Command, quoted};
use crate::host::remote::{master, piped};
use crate::host::terminal;
use crate::lease::LeaseId;
use crate::lease::record::Record;
use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::operation::lookup::{load, required, whole};
use crate::operation::resolve;
use crate::protocol::{Lease, Request, Ssh};
use crate::ssh::lease::command;

/// What is wanted of a session.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Begin in the home directory, as ssh does by itself, and not in the work directory.
    pub home: bool,
    /// Joined by blanks and read by a shell, as ssh does; without any, an interactive shell.
    pub words: &'a [String],
}

/// Replaces this process by a session in the lease that `word` means.
pub fn run(options: &Options, request: Request, word: &str, wish: Wish<'_>) -> Result<Infallible> {
    let answer = resolve::run(options, &Request { id: word.to_owned(), ..request })?;
    let Some(lease) = answer.lease else {
        return Err(Failure::new(Kind::NotFound, answer.message.unwrap_or_default()).into());
    };
    enter(options, &lease, wish)
}

/// Replaces this process by a session in a lease that was just found to be ready.
pub fn enter(options: &Options, lease: &Lease, wish: Wish<'_>) -> Result<Infallible> {
    let Some(ssh) = &lease.ssh else {
        return Err(Failure::new(Kind::EndpointUnusable, format!("lease {} has no sshd yet", lease.lease_id)).into());
    };
    let at_work = !wish.home && has_work_dir(options, &lease.lease_id);
    let session = session(ssh);
    let session = match (at_work, wish.words) {
        (true, []) if terminal::is_interactive() => session.args(["-t".to_owned(), in_work_dir(SHELL)]),
        (true, []) => session.arg(in_work_dir(SHELL)),
        (true, words) => session.arg(in_work_dir(&words.join(" "))),
        (false, words) => session.args(words),
    };
    Err(not_started("ssh", &session.exec()).into())
}

/// What a session without a command is: the login shell on a terminal, else bash, which reads its commands.
const SHELL: &str = r#"if [ -t 0 ] && [ -x "$SHELL" ]; then exec "$SHELL"; else exec bash; fi"#;

/// A command that begins in the work directory where there is one. Our runner's sessions are bash's, and know the directory by these two
/// variables.
pub fn in_work_dir(line: &str) -> String {
    format!(r#"cd -- "${{CBX_WORK_ROOT-}}/${{CBX_LEASE_ID-}}" 2>/dev/null; {line}"#)
}

/// Whether the lease's runner is ours, or one like it. Of another one it is not known which shell reads the line.
fn has_work_dir(options: &Options, id: &str) -> bool {
    let found = || load(&Store::open(&options.state_dir).ok()?, &LeaseId::parse(id)?).ok()?;
    found().is_some_and(|found| found.loaded.record().is_some_and(|record| record.contract))
}

fn session(ssh: &Ssh) -> Command {
    debug_assert!(Path::new(&ssh.key).is_absolute());
    command(ssh, Duration::MAX, "yes")
}

/// Replaces this process by a step of the lease's job, beside what runs there: no sshd is asked.
pub fn by_step(options: &Options, word: &str, words: &[String]) -> Result<Infallible> {
    let found = required(&Store::open(&options.state_dir)?, word)?;
    let record = whole("entering", &found.loaded)?;
    let step = step(record, words, terminal::is_interactive())?;
    let started = match &record.submit {
        None => {
            let (program, rest) = step.split_first().map_or(("srun", &[][..]), |(first, rest)| (first.as_str(), rest));
            Command::new(program, Duration::MAX).args(rest)
        }
        Some(submit) => {
            let problem = |error: crate::host::remote::LoginError| {
                error.failure(format!("entering {}: the login host cannot be used", record.shown()))
            };
            let socket = master::ensure(submit).map_err(problem)?;
            let line = step.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
            let through = master::through(submit, &socket, Duration::MAX);
            // Twice t: a terminal whatever the options before say.
            let terminal = if terminal::is_interactive() { "-tt" } else { "-T" };
            through.args([terminal, &submit.destination(), &piped(&line)])
        }
    };
    Err(not_started(&started.program(), &started.exec()).into())
}

/// srun's command line. It takes nothing from the job's other steps, or it would wait for them.
fn step(record: &Record, words: &[String], interactive: bool) -> Result<Vec<String>, Failure> {
    let Some(job) = &record.job else {
        let what = format!("entering {}: it has no job yet", record.shown());
        return Err(Failure::new(Kind::EndpointUnusable, what).remedy("wait for acquire"));
    };
    let mut srun = vec!["srun".to_owned(), format!("--jobid={}", job.id), "--overlap".to_owned()];
    srun.extend(job.cluster.iter().map(|cluster| format!("--clusters={cluster}")));
    let fixed = ["--quiet", "--mem=0", "--cpu-bind=none", "--ntasks=1", "--nodes=1", "--chdir=/", "--export=ALL"];
    srun.extend(fixed.map(str::to_owned));
    srun.push(if interactive { "--pty" } else { "--unbuffered" }.to_owned());
    let line = match words {
        [] => SHELL.to_owned(),
        words => words.join(" "),
    };
    srun.extend(["/bin/sh".to_owned(), "-c".to_owned(), format!("cd \"$HOME\" 2>/dev/null; {line}")]);
    Ok(srun)
}

fn not_started(program: &str, error: &std::io::Error) -> Failure {
    let remedy = match program {
        "srun" => "put Slurm's commands on PATH",
        _ => "install OpenSSH's client",
    };
    Failure::new(Kind::EndpointUnusable, format!("starting {program}")).remedy(remedy).cause(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::record::tests::record;
    use crate::slurm::job::JobId;

    #[test]
    fn a_step_is_of_the_leases_job() {
        let job = JobId { id: 7, cluster: Some("annex".into()) };
        let record = Record { job: Some(job), ..record() };
        let words = step(&record, &["id".into(), "-u".into()], false).unwrap();
        assert_eq!(words[..4], ["srun", "--jobid=7", "--overlap", "--clusters=annex"]);
        assert!(words.last().unwrap().ends_with("; id -u") && !words.contains(&"--pty".to_owned()));
        assert!(step(&record, &[], true).unwrap().contains(&"--pty".to_owned()));
        assert!(step(&Record { job: None, ..record }, &[], true).is_err());
    }
}
