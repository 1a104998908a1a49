//! connect: the way to a lease's sshd for the client's ssh, as its proxy command.
//!
//! It finds out where the lease is now, goes through the one connection to the login host, and leaves the copying to the
//! ssh or srun that it starts between its own standard streams, so that it is as fast as they are. What they say on the
//! side is kept out of the user's session, and told with the reason only when there is no session.
//!
//! By a name it finds or acquires the lease first (see by_name.rs), and puts its key and host keys where ssh reads them under that name.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Map, Value};

use super::by_name::{self, Wish};
use super::settle;
use super::wait::failure_of_end;
use crate::allocation;
use crate::clock::Now;
use crate::config::login_host::LoginHost;
use crate::config::proxy::Route;
use crate::failure::{Failure, Kind};
use crate::host::command::{Command, Output, quoted};
use crate::host::remote::command_line::ssh;
use crate::host::remote::{LoginError, master, piped};
use crate::host::{Host, relay, signals, terminal};
use crate::lease::SeatId;
use crate::lease::record::{Phase, PinnedEndpoint, Record};
use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::operation::lookup::{FoundLease, find, whole};
use crate::protocol::Ssh;
use crate::shared_dir::SharedDir;
use crate::slurm::job::JobId;
use crate::ssh::{config_file, target};

/// A session may last as long as its job.
const FOR_EVER: Duration = Duration::from_secs(366 * 24 * 3600);

/// What the search for the reason of a failure may take; the user waits for the message.
const REASON_DEADLINE: Duration = Duration::from_secs(5);

/// Connects standard input and output with the sshd of the lease that `word` means, until one of them ends it.
pub fn run(options: &Options, word: &str) -> Result<()> {
    let store = Store::open(&options.state_dir)?;
    let shown = crate::protocol::shown(&word.into());
    let found = match find(&store, word)? {
        None => spare(&store, word)?,
        found => found,
    };
    let Some(found) = found else {
        let what = format!("connecting to {shown}: no lease answers to it, it may have been released");
        return Err(Failure::new(Kind::NotFound, what).remedy("acquire a new one").into());
    };
    through(whole("connecting to", &found.loaded)?)
}

/// A spare, which is tried out before it is a lease's.
fn spare(store: &Store, word: &str) -> Result<Option<FoundLease>> {
    let Some(seat) = SeatId::parse(word) else { return Ok(None) };
    Ok(store.spare(&seat)?.map(|dir| FoundLease { loaded: dir.load(), dir }))
}

/// The same with the lease that a host name means; `user` is whom ssh logs in as.
pub fn by_name(options: &Options, host: &str, user: Option<&str>, config: &Map<String, Value>) -> Result<()> {
    let Some(name) = config_file::name_of(host) else {
        let what =
            format!("connecting to {}: this can be no lease and no profile", crate::protocol::shown(&host.into()));
        let remedy = "name one by letters, digits and ._- alone; `ssh NAME` takes the name of a lease too";
        return Err(Failure::new(Kind::BadRequest, what).remedy(remedy).into());
    };
    // Who leaves while the job waits is told what becomes of it; ssh ends us by a signal then.
    let held = signals::hold();
    let ready = by_name::ready(options, &Wish { name, config, attended: terminal::is_attended() })?;
    drop(held);
    let record = &ready.record;
    let Some(ssh) = &ready.lease.ssh else {
        let what = format!("connecting to {}: its sshd is not up yet", record.shown());
        return Err(Failure::new(Kind::EndpointUnusable, what).into());
    };
    if let Some(user) = user.filter(|user| *user != ssh.user) {
        return Err(other_user(record, host, user, &ssh.user).into());
    }
    let names = Store::open(&options.state_dir)?.names();
    names.and_then(|names| names.publish(host, record, &ready.known_hosts)).map_err(|error| {
        let what = format!("connecting to {}: its key could not be put where ssh reads it", record.shown());
        Failure::new(Kind::Storage, what).cause(error.to_string())
    })?;
    match &ssh.proxy_command {
        None => match relay::to(&ssh.host, ssh.port.parse().unwrap_or(0)) {
            Ok(()) => Ok(()),
            Err(error) => Err(reason(record, &error.to_string()).into()),
        },
        Some(_) if ssh.proxy_command == target::connect_command(record) => through(record),
        Some(line) => proxied(record, &expanded(line, ssh)),
    }
}

/// A block of ssh's configuration has one user, which ssh fixes before it asks us.
fn other_user(record: &Record, host: &str, user: &str, own: &str) -> Failure {
    let what = format!("connecting to {}: it lets in {own} alone, and ssh was to log in as {user}", record.shown());
    let lines = format!("`Host {host}` and in the next line `    User {own}`");
    Failure::new(Kind::BadConfig, what).remedy(format!("put {lines} before all else in ~/.ssh/config"))
}

/// A site's proxy command with what ssh would put into it; the values are those of a lease, which hold nothing that a shell reads.
fn expanded(line: &str, ssh: &Ssh) -> String {
    let mut text = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (c, if c == '%' { rest.next() } else { None }) {
            ('%', Some('h' | 'n')) => text.push_str(&ssh.host),
            ('%', Some('p')) => text.push_str(&ssh.port),
            ('%', Some('r')) => text.push_str(&quoted(&ssh.user)),
            ('%', Some('%')) => text.push('%'),
            (c, other) => text.extend([Some(c), other].into_iter().flatten()),
        }
    }
    text
}

/// The site's own way, as ssh starts it: by a shell.
fn proxied(record: &Record, line: &str) -> Result<()> {
    let output =
        Command::new("/bin/sh", FOR_EVER).pass("SSH_AUTH_SOCK").args(["-c", &format!("exec {line}")]).relay()?;
    if output.success() || client_is_gone() { Ok(()) } else { Err(reason(record, &output.said()).into()) }
}

/// By the route that the lease was made with.
fn through(record: &Record) -> Result<()> {
    let entrance = entrance(record)?;
    let command = match entrance.route {
        Route::Login { hops } => {
            forward(record, hops, &format!("{}:{}", entrance.endpoint.host, entrance.endpoint.port))?
        }
        Route::Stdio => session(record, entrance.job, entrance.endpoint)?,
    };
    let output = command.relay()?;
    if output.success() || sshd_has_ended(&output) || client_is_gone() {
        return Ok(());
    }
    Err(reason(record, &output.said()).into())
}

/// What a session through us needs to know of a lease.
struct Entrance<'a> {
    route: &'a Route,
    endpoint: &'a PinnedEndpoint,
    job: &'a JobId,
}

fn entrance(record: &Record) -> Result<Entrance<'_>, Failure> {
    if let Some(ended) = &record.ended {
        return Err(failure_of_end("connecting to", record, ended, &SharedDir::of(record)));
    }
    if record.phase == Phase::Releasing {
        let what = format!("connecting to {}: it is being released", record.shown());
        return Err(Failure::new(Kind::Releasing, what).remedy("acquire a new lease"));
    }
    let (Some(endpoint), Some(job)) = (&record.endpoint, &record.job) else {
        let what = format!("connecting to {}: its sshd is not up yet", record.shown());
        return Err(Failure::new(Kind::EndpointUnusable, what).remedy("wait for acquire, or run resolve"));
    };
    let Some(route) = &record.route else {
        let (host, port) = (&endpoint.host, endpoint.port);
        let what = format!("connecting to {}: it needs no proxy, its sshd is at {host}:{port}", record.shown());
        return Err(Failure::new(Kind::BadConfig, what).remedy("connect directly, or set sshMode"));
    };
    Ok(Entrance { route, endpoint, job })
}

/// ssh that forwards to `address` from the last of the hosts.
fn forward(record: &Record, hops: &[String], address: &str) -> Result<Command> {
    let command = way(record.submit.as_ref(), &|submit| live_master(record, submit), hops, address, FOR_EVER)?;
    Ok(command.ok_or_else(|| {
        Failure::new(
            Kind::Storage,
            format!("connecting to {}: its record does not name the hosts to go through", record.shown()),
        )
        .remedy("resolve the lease again")
    })?)
}

/// The same without a lease; `live` tells the socket of the connection to the login host. `None` without a host.
pub fn way(
    submit: Option<&LoginHost>,
    live: &dyn Fn(&LoginHost) -> Result<PathBuf>,
    hops: &[String],
    address: &str,
    deadline: Duration,
) -> Result<Option<Command>> {
    let Some((last, before)) = hops.split_last() else { return Ok(None) };
    let command = match (submit, before) {
        (Some(submit), []) if *last == submit.destination() => master::through(submit, &live(submit)?, deadline),
        (submit, _) => {
            let command = ssh(submit.unwrap_or(&LoginHost::default()), deadline).arg("-oLogLevel=ERROR");
            match way(submit, live, before, "%h:%p", deadline)? {
                None => command,
                Some(before) => command.arg(format!("-oProxyCommand={}", line(&before))),
            }
        }
    };
    Ok(Some(command.args(["-W", address, last.as_str()])))
}

/// A command as the value of a ProxyCommand; a proxy of its own within it is for the ssh after it to expand.
fn line(command: &Command) -> String {
    let word = |word: &str| match word.strip_prefix("-oProxyCommand=") {
        Some(inner) => quoted(&format!("-oProxyCommand={}", inner.replace('%', "%%"))),
        None => quoted(word),
    };
    command.argv().iter().map(|text| word(text)).collect::<Vec<_>>().join(" ")
}

/// A session of its own in the job: srun starts what the runner has prepared, `sshd -i`, in a step beside it.
fn session(record: &Record, job: &JobId, endpoint: &PinnedEndpoint) -> Result<Command> {
    let script = SharedDir::of(record).attempt_path().join("session");
    let mut srun = vec!["srun".to_owned(), format!("--jobid={}", job.id), format!("--nodelist={}", endpoint.host)];
    srun.extend(job.cluster.iter().map(|cluster| format!("--clusters={cluster}")));
    // Without --unbuffered srun forwards whole lines alone, and the first handshake hangs (docs/facts/slurm.md, "Sessions by srun").
    let fixed = [
        "--overlap",
        "--quiet",
        "--unbuffered",
        "--mem=0",
        "--cpu-bind=none",
        "--ntasks=1",
        "--nodes=1",
        "--chdir=/",
        "--export=ALL",
        "/bin/sh",
    ];
    srun.extend(fixed.map(str::to_owned));
    srun.push(script.to_string_lossy().into_owned());
    Ok(match &record.submit {
        None => Command::new(srun.remove(0), FOR_EVER).args(srun),
        Some(submit) => {
            let words: Vec<_> = srun.iter().map(|word| quoted(word)).collect();
            let through = master::through(submit, &live_master(record, submit)?, FOR_EVER);
            through.args(["-T", &submit.destination(), &piped(&words.join(" "))])
        }
    })
}

fn live_master(record: &Record, submit: &LoginHost) -> Result<PathBuf> {
    let problem =
        |error: LoginError| error.failure(format!("connecting to {}: the login host cannot be used", record.shown()));
    Ok(master::ensure(submit).map_err(problem)?)
}

/// Whether it was the session's own sshd that ended, as it does after every session; srun makes an error of it.
fn sshd_has_ended(output: &Output) -> bool {
    output.stderr_text().contains("task 0: Exited with exit code 255")
}

/// Whether nobody listens to us any more, so that the end of the session is no failure.
fn client_is_gone() -> bool {
    // A client that says goodbye closes our streams a moment after the far end has ended.
    const GOODBYE_MILLISECONDS: u8 = 100;
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&stdin), PollFlags::empty())];
    let asked = poll(&mut fds, PollTimeout::from(GOODBYE_MILLISECONDS));
    asked.is_ok() && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

/// Why there is no session, as far as can be found out in a moment.
fn reason(record: &Record, said: &str) -> Failure {
    // What was lost may be the login host, not the lease.
    let host = Host::of(record.submit.as_ref());
    let _bound = host.end_by(Instant::now() + 2 * REASON_DEADLINE);
    if let Err(error) = host.user() {
        return error.failure(format!("connecting to {}: the login host cannot be asked", record.shown()));
    }
    let mut record = record.clone();
    let view = allocation::ask(&record, REASON_DEADLINE);
    settle::apply(&mut record, &view, Now::read());
    if let Some(ended) = &record.ended {
        return failure_of_end("connecting to", &record, ended, &SharedDir::of(&record));
    }
    if let Some(note) = SharedDir::of(&record).ending() {
        let what = format!("connecting to {}: its job is ending: {} ({})", record.shown(), note.reason, note.detail);
        return Failure::new(Kind::JobEnded, what);
    }
    let state = view.row().map(|row| format!("; Slurm calls it {}", row.state.word())).unwrap_or_default();
    Failure::new(
        Kind::EndpointUnusable,
        format!("connecting to {}: there is no way through to its sshd{state}", record.shown()),
    )
    .remedy("see `slurm-sandbox doctor` and `slurm-sandbox logs`")
    .cause(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::record::{self, Ended};
    use rstest::rstest;

    fn record() -> Record {
        Record {
            phase: Phase::Answered,
            endpoint: Some(PinnedEndpoint { host: "n1".into(), port: 2222 }),
            route: Some(Route::Stdio),
            ..record::tests::record()
        }
    }

    #[test]
    fn a_lease_with_a_route_is_entered() {
        let record = record();
        let entrance = entrance(&record).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((entrance.endpoint.port, entrance.job.id), (2222, 7));
    }

    #[rstest]
    #[case::released(|record: &mut Record| record.phase = Phase::Releasing, Kind::Releasing)]
    #[case::not_started(|record: &mut Record| record.endpoint = None, Kind::EndpointUnusable)]
    #[case::not_submitted(|record: &mut Record| record.job = None, Kind::EndpointUnusable)]
    #[case::reached_directly(|record: &mut Record| record.route = None, Kind::BadConfig)]
    #[case::ended(
        |record: &mut Record| {
            let ended = Ended { state: "FAILED".into(), reason: String::new(), exit: None, runner: None, at: 0 };
            record.ended = Some(ended);
        },
        Kind::JobEnded
    )]
    fn nothing_else_is(#[case] change: fn(&mut Record), #[case] expected: Kind) {
        let mut record = record();
        change(&mut record);
        let failure = entrance(&record).err().expect("a refusal");
        assert_eq!(failure.kind, expected);
        assert!(failure.to_string().contains("cbx_4b38f35d4e31"), "{failure}");
    }

    #[rstest]
    #[case("nc %h %p", "nc n1 4022")]
    #[case("ssh -W [%h]:%p gw", "ssh -W [n1]:4022 gw")]
    #[case("x %r 100%% %d %", "x 'CORP\\bob' 100% %d %")]
    fn a_sites_proxy_command(#[case] line: &str, #[case] expected: &str) {
        let ssh = Ssh {
            user: r"CORP\bob".into(),
            host: "n1".into(),
            key: String::new(),
            port: "4022".into(),
            fallback_ports: [],
            ready_check: String::new(),
            proxy_command: None,
            ssh_config_proxy: true,
        };
        assert_eq!(expanded(line, &ssh), expected);
    }

    /// Each hop is the proxy command of the one after it; what is for the inner ssh to expand is not expanded by the outer.
    #[test]
    fn a_chain_of_hosts_is_one_command() {
        let hops = ["gate".to_owned(), "login".to_owned()];
        let live = |_: &LoginHost| -> Result<PathBuf> { unreachable!("no connection is asked for") };
        let command = way(None, &live, &hops, "n1:2222", FOR_EVER).unwrap().expect("a command");
        let words = command.argv();
        assert_eq!(words[words.len() - 3..], ["-W", "n1:2222", "login"]);
        let proxy = words.iter().find_map(|word| word.strip_prefix("-oProxyCommand=")).expect("a proxy");
        assert!(proxy.contains("%h:%p") && proxy.contains("gate"), "{proxy}");
        assert!(way(None, &live, &[], "n1:2222", FOR_EVER).unwrap().is_none());
    }
}
