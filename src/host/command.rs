//! A command and how it ended. The only module that starts processes.
//!
//! A command is a program and its arguments, nothing else: no shell. It runs in an environment that we construct
//! from an allow-list, since Slurm's tools obey some two hundred variables (`SQUEUE_STATES` hides live jobs,
//! `SBATCH_ARRAY_INX` makes four of one, `SCANCEL_NAME` cancels none) and since sbatch hands everything it sees to the
//! job, secrets included (docs/facts/slurm.md, "The caller's environment"). Standard input is closed or a pipe, the working directory is `/`,
//! which always exists and where sandboxed code writes nothing, and every run has a deadline: a hung controller holds squeue for 20 s.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What every command may see of our environment. Paths and locale, the site's Slurm configuration, and what a
/// module system needs; `CBX_SSHD` and `CBX_SSH_PORT` are the reference adapter's knobs for a site's runner.
pub(super) const PASSED_ON: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LANGUAGE",
    "TZ",
    "SLURM_CONF",
    "LD_LIBRARY_PATH",
    "KRB5CCNAME",
    "KRB5_CONFIG",
    "MODULEPATH",
    "MODULESHOME",
    "MODULES_CMD",
    "MODULES_RUN_QUARANTINE",
    "BASH_ENV",
    "CBX_SSHD",
    "CBX_SSH_PORT",
];

/// What Slurm's own commands may see besides: by this token some sites tell who asks. It is a secret, and goes nowhere else.
pub(super) const TOKEN: &str = "SLURM_JWT";
const TOKEN_READERS: &[&str] = &["sbatch", "squeue", "scancel", "scontrol", "sacct", "sstat", "sinfo", "srun"];

/// Prefixes of further variables that pass.
pub(super) const PASSED_ON_PREFIXES: &[&str] = &["LC_", "LMOD_"];

/// Longest output that is kept of each stream; 5,000 jobs list in about 1 MiB.
pub(super) const OUTPUT_BYTES: usize = 64 << 20;

/// How long a command that has exited may have its pipes held open by something it left behind.
const PIPE_GRACE: Duration = Duration::from_millis(200);

/// A command to run.
#[derive(Debug, Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    unset: Vec<&'static str>,
    input: Option<Vec<u8>>,
    once: bool,
    deadline: Duration,
}

impl Command {
    /// `deadline` counts from the start of the process.
    pub fn new(program: impl Into<OsString>, deadline: Duration) -> Command {
        Command {
            program: program.into(),
            args: vec![],
            env: vec![],
            unset: vec![],
            input: None,
            once: false,
            deadline,
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Command {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Command {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Command {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Lets one more variable of our environment through, for a command that leaves nothing in a job.
    #[must_use]
    pub fn pass(self, name: &str) -> Command {
        match std::env::var_os(name) {
            Some(value) => self.env(name, value),
            None => self,
        }
    }

    /// Keeps an allowed variable from this command.
    #[must_use]
    pub fn unset(mut self, name: &'static str) -> Command {
        self.unset.push(name);
        self
    }

    /// Standard input; without it, it is `/dev/null`.
    #[must_use]
    pub fn input(mut self, bytes: Vec<u8>) -> Command {
        self.input = Some(bytes);
        self
    }

    /// Never run it twice: a login host that is lost before the answer may have done it.
    #[must_use]
    pub fn once(mut self) -> Command {
        self.once = true;
        self
    }

    /// The program and its arguments.
    pub fn argv(&self) -> Vec<String> {
        std::iter::once(&self.program).chain(&self.args).map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// The program's name.
    pub fn program(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    /// The command as a person would type it, without its input.
    pub fn shown(&self) -> String {
        self.argv().join(" ")
    }

    fn build(&self) -> std::process::Command {
        #[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).env_clear().envs(passed_on(std::env::vars_os())).current_dir("/");
        match absolute_entries(std::env::var_os("PATH").as_deref()) {
            Some(path) => command.env("PATH", path),
            None => command.env_remove("PATH"),
        };
        for name in &self.unset {
            command.env_remove(name);
        }
        if TOKEN_READERS.iter().any(|name| self.program == *name)
            && let Some(token) = std::env::var_os(TOKEN)
        {
            command.env(TOKEN, token);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the command with no streams of ours, for one that goes on in the background by itself; waits for the
    /// process that was started.
    pub fn launch(&self) -> io::Result<End> {
        let started = Instant::now();
        let child = self.build().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(collect(child, &[], started, self.deadline)?.end)
    }

    /// Runs the command between our own standard input and output, its stderr kept for us.
    pub fn relay(&self) -> io::Result<Output> {
        let started = Instant::now();
        let child = self.build().stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::piped()).spawn()?;
        collect(child, &[], started, self.deadline)
    }

    /// Runs the command on our own standard streams to its end, and hands on to it the signals that this process holds back.
    pub fn attached(&self) -> io::Result<End> {
        let mut child = self.build().spawn()?;
        let _forwarding = super::signals::forward_to(child.id());
        Ok(end_of(child.wait()?))
    }

    /// The command as a line of a shell elsewhere, whose environment is constructed already; `timeout` keeps the
    /// deadline there.
    pub(super) fn line(&self) -> String {
        let words = self.env.iter().map(|(name, value)| format!("{name}={}", value.to_string_lossy()));
        let program = self.program.to_string_lossy().into_owned();
        let words =
            ["env".to_owned()].into_iter().chain(self.unset.iter().map(|name| format!("--unset={name}"))).chain(words);
        let words =
            words.chain([program.clone()]).chain(self.args.iter().map(|arg| arg.to_string_lossy().into_owned()));
        let words: Vec<_> = words.map(|word| quoted(&word)).collect();
        // Rounded up: what timeout(1) ends has to look as long as its deadline.
        let seconds = (self.deadline.as_secs_f64() * 10.0).ceil().clamp(1.0, 864_000.0) / 10.0;
        format!(
            "type -P {} >/dev/null || exit 127\nexec timeout -k 1 {seconds:.1} {}",
            quoted(&program),
            words.join(" ")
        )
    }

    pub(super) fn prepared_input(&self) -> &[u8] {
        self.input.as_deref().unwrap_or_default()
    }

    pub(super) fn is_once(&self) -> bool {
        self.once
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Replaces this process by the command, with our own standard streams; returns only when that failed.
    pub fn exec(&self) -> io::Error {
        self.build().exec()
    }

    /// Runs the command to its end or its deadline.
    ///
    /// # Errors
    /// Only when it could not be started; everything else is told by [`Output`].
    pub fn run(&self) -> io::Result<Output> {
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        let started = Instant::now();
        let ran = self
            .build()
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .and_then(|child| collect(child, self.prepared_input(), started, self.deadline));
        match &ran {
            Ok(output) => output.trace("here", &self.shown()),
            Err(error) => tracing::debug!(place = "here", command = self.shown(), %error, "not run"),
        }
        ran
    }
}

pub(super) fn passed_on(
    vars: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    let allowed = |name: &str| PASSED_ON.contains(&name) || PASSED_ON_PREFIXES.iter().any(|p| name.starts_with(p));
    vars.filter(move |(name, _)| name.to_str().is_some_and(allowed))
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal(i32),
    /// It was killed by us.
    DeadlinePassed,
    /// It wrote more than can be meant and was killed by us.
    TooMuchOutput,
    /// It was started on a login host that was lost; what came of it is not known.
    ConnectionLost,
}

/// How the lines begin that ssh of 10.1 and newer writes of a connection to an sshd older than 9.0, however well it goes. Its
/// LogLevel does not reach the ssh of a jump host (docs/facts/openssh.md, "Texts of ssh").
const KEY_EXCHANGE_REMARKS: &[&str] = &[
    "** WARNING: connection is not using a post-quantum key exchange",
    "** This session may be vulnerable to \"store now, decrypt later\"",
    "** The server may need to be upgraded. See https://openssh.com/pq",
];

/// What a command that could be started left behind.
#[derive(Debug, Clone)]
pub struct Output {
    pub end: End,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub took: Duration,
}

impl Output {
    pub fn success(&self) -> bool {
        self.end == End::Exit(0)
    }

    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// What it wrote on stderr, without what says nothing about how it went.
    pub fn stderr_text(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let lines = text.split_inclusive('\n');
        lines.filter(|line| !KEY_EXCHANGE_REMARKS.iter().any(|remark| line.starts_with(remark))).collect()
    }

    /// Tells those who trace (docs/troubleshooting.md) what was run, how long it took, and what it said.
    pub(super) fn trace(&self, place: &str, command: &str) {
        let (took_ms, bytes) = (self.took.as_millis(), self.stdout.len());
        tracing::debug!(place, command, took_ms, bytes, said = self.said(), "ran");
    }

    /// What the command said and how it ended, for the end of a message.
    pub fn said(&self) -> String {
        let how = match self.end {
            End::Exit(code) => format!("exit {code}"),
            End::Signal(signal) => format!("killed by signal {signal}"),
            End::DeadlinePassed => format!("no answer within {} s", self.took.as_secs()),
            End::ConnectionLost => "the connection to the login host was lost".to_owned(),
            End::TooMuchOutput => format!("more than {OUTPUT_BYTES} bytes of output"),
        };
        let stderr = self.stderr_text();
        let text = if stderr.trim().is_empty() { self.stdout_text() } else { stderr };
        if text.trim().is_empty() { how } else { format!("{} ({how})", crate::failure::one_line(&text)) }
    }
}

fn end_of(status: ExitStatus) -> End {
    status.signal().map_or(End::Exit(status.code().unwrap_or(-1)), End::Signal)
}

fn collect(mut child: Child, mut input: &[u8], started: Instant, deadline: Duration) -> io::Result<Output> {
    let (mut into, mut out, mut err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    if let Some(pipe) = &into {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut exited: Option<(ExitStatus, Instant)> = None;
    let end = loop {
        if exited.is_none()
            && let Some(status) = child.try_wait()?
        {
            exited = Some((status, Instant::now()));
        }
        if let Some((status, at)) = exited {
            let drained = out.is_none() && err.is_none();
            if drained || at.elapsed() >= PIPE_GRACE {
                break end_of(status);
            }
        }
        if started.elapsed() >= deadline {
            break End::DeadlinePassed;
        }
        if stdout.len() > OUTPUT_BYTES || stderr.len() > OUTPUT_BYTES {
            break End::TooMuchOutput;
        }
        if into.is_none() && out.is_none() && err.is_none() && exited.is_none() {
            // All pipes are closed: the command is about to exit, or it closed them to run on.
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        wait_ready(&into, &out, &err, Duration::from_millis(20).min(deadline.saturating_sub(started.elapsed())))?;
        write_ready(&mut into, &mut input)?;
        read_ready(&mut out, &mut stdout)?;
        read_ready(&mut err, &mut stderr)?;
    };
    if exited.is_none() {
        // Only the child itself: what it started ends by its own means, Slurm's commands within 45 s.
        child.kill()?;
        child.wait()?;
    }
    Ok(Output { end, stdout, stderr, took: started.elapsed() })
}

fn wait_ready(
    into: &Option<impl AsFd>,
    out: &Option<impl AsFd>,
    err: &Option<impl AsFd>,
    patience: Duration,
) -> io::Result<()> {
    let mut fds = Vec::with_capacity(3);
    fds.extend(into.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
    fds.extend(out.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
    fds.extend(err.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes as much of the input as its pipe takes; at its end, or when the command reads no more, the pipe becomes `None`.
fn write_ready(pipe: &mut Option<impl Write>, input: &mut &[u8]) -> io::Result<()> {
    let Some(writer) = pipe else { return Ok(()) };
    let written = if input.is_empty() { Ok(0) } else { writer.write(input) };
    match written {
        Ok(count) => *input = input.get(count..).unwrap_or_default(),
        Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => *input = &[],
        Err(error) => return Err(error),
    }
    if input.is_empty() {
        *pipe = None;
    }
    Ok(())
}

/// Reads once from a pipe that has something; at its end the pipe becomes `None`.
fn read_ready(pipe: &mut Option<impl Read + AsFd>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(reader) = pipe else { return Ok(()) };
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::ZERO)? == 0 {
        return Ok(());
    }
    let mut buffer = [0u8; 65536];
    match reader.read(&mut buffer) {
        Ok(0) => *pipe = None,
        Ok(count) => into.extend_from_slice(&buffer[..count]),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// A word that every POSIX shell takes for itself.
pub fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-+=./:,@%^".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Starts this very program anew in its own place, with one more variable; returns only when that failed.
pub fn restart_with(name: &str, value: &str) -> io::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    #[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
    let mut command = std::process::Command::new(program);
    command.args(std::env::args_os().skip(1)).env(name, value).exec()
}

/// A PATH without entries that mean the working directory, which sandboxed code may be able to write; `None` when
/// nothing is left of it.
fn absolute_entries(path: Option<&OsStr>) -> Option<OsString> {
    let entries: Vec<_> = std::env::split_paths(path?).filter(|entry| entry.is_absolute()).collect();
    std::env::join_paths(entries).ok().filter(|path| !path.is_empty())
}

/// Where a program is that a command of ours would run.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = absolute_entries(std::env::var_os("PATH").as_deref())?;
    which::which_in(name, Some(path), "/").ok()
}

/// The same, also where system programs lie that users' PATHs leave out.
pub fn find_program(name: &str) -> Option<PathBuf> {
    on_path(name).or_else(|| which::which_in(name, Some(OsStr::new("/usr/sbin:/sbin:/usr/local/sbin")), "/").ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn sh(script: &str) -> Output {
        Command::new("/bin/sh", Duration::from_millis(400)).args(["-c", script]).run().unwrap()
    }

    #[rstest]
    #[case::exit_and_streams("echo out; echo err >&2; exit 3", End::Exit(3), "out\n", "err\n")]
    #[case::killed("kill -9 $$", End::Signal(9), "", "")]
    #[case::hanging("echo a; sleep 60", End::DeadlinePassed, "a\n", "")]
    #[case::pipes_closed_early("exec >&- 2>&-; sleep 0.05; exit 4", End::Exit(4), "", "")]
    #[case::pipe_held_by_a_grandchild("sleep 60 & echo a", End::Exit(0), "a\n", "")]
    #[case::stdin_is_closed("cat; echo end", End::Exit(0), "end\n", "")]
    #[case::cwd_exists("pwd", End::Exit(0), "/\n", "")]
    fn tells_how_it_ended(#[case] script: &str, #[case] end: End, #[case] stdout: &str, #[case] stderr: &str) {
        let output = sh(script);
        assert_eq!((output.end, output.stdout_text().as_str(), output.stderr_text().as_str()), (end, stdout, stderr));
        assert!(output.took < Duration::from_secs(2));
    }

    #[rstest]
    #[case::alone("", "exit 255")]
    #[case::before_the_cause(
        "ssh: connect to host n1 port 22: Connection refused\r\n",
        "ssh: connect to host n1 port 22: Connection refused (exit 255)"
    )]
    fn a_remark_on_the_key_exchange_is_no_reason(#[case] cause: &str, #[case] expected: &str) {
        let stderr = "** WARNING: connection is not using a post-quantum key exchange algorithm.\r\n\
                      ** This session may be vulnerable to \"store now, decrypt later\" attacks.\r\n\
                      ** The server may need to be upgraded. See https://openssh.com/pq.html\r\n";
        let stderr = format!("{stderr}{cause}").into_bytes();
        let output = Output { end: End::Exit(255), stdout: vec![], stderr, took: Duration::ZERO };
        assert_eq!((output.stderr_text().as_str(), output.said().as_str()), (cause, expected));
    }

    #[test]
    fn large_output_and_input_do_not_deadlock() {
        let input = vec![b'x'; 1 << 20];
        let output = Command::new("/bin/cat", Duration::from_secs(10)).input(input.clone()).run().unwrap();
        assert_eq!(output.stdout, input);
    }

    #[test]
    fn a_command_that_reads_none_of_its_input_is_no_error() {
        let input = vec![b'x'; 1 << 20];
        let output = Command::new("/bin/sh", Duration::from_secs(10))
            .args(["-c", "exec <&-; exit 3"])
            .input(input)
            .run()
            .unwrap();
        assert_eq!(output.end, End::Exit(3));
    }

    #[rstest]
    #[case(Some("/usr/bin:/bin"), Some("/usr/bin:/bin"))]
    #[case(Some(".:/bin:"), Some("/bin"))]
    #[case(Some("bin::/usr/bin:../x"), Some("/usr/bin"))]
    #[case(Some(".:"), None)]
    #[case(Some(""), None)]
    #[case(None, None)]
    fn path_leads_to_absolute_directories_only(#[case] path: Option<&str>, #[case] expected: Option<&str>) {
        assert_eq!(absolute_entries(path.map(OsStr::new)).as_deref(), expected.map(OsStr::new));
    }

    #[test]
    fn only_allowed_variables_pass() {
        let vars =
            ["PATH", "LC_ALL", "SQUEUE_STATES", "SLURM_CONF", "SLURM_JOB_ID", "AWS_SECRET_ACCESS_KEY", "SBATCH_WAIT"];
        let passed: Vec<_> =
            passed_on(vars.iter().map(|v| (OsString::from(v), OsString::new()))).map(|(n, _)| n).collect();
        assert_eq!(passed, ["PATH", "LC_ALL", "SLURM_CONF"]);
    }

    #[test]
    fn a_missing_program_is_an_error() {
        assert!(Command::new("/nonexistent/sbatch", Duration::from_secs(1)).run().is_err());
    }
}
