//! Whether the login host that Slurm's commands run on can be used, and what shows of it on the way.
//!
//! When it cannot, one red line says why and what to do, and all that would have been asked there hangs on that line.
//! ssh says most reasons itself, and soon. Where it hangs instead, a plain connection to the same port tells how far one
//! gets: a name that is not resolved, a port that does not answer, an sshd that answers and does not let us in.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Settings;
use crate::config::login_host::LoginHost;
use crate::config::proxy::{Connection, Route};
use crate::doctor::check::CheckId;
use crate::doctor::check::table::AGAIN;
use crate::doctor::finding::{Category, Finding, cut, tail};
use crate::doctor::run::Clock;
use crate::doctor::sessions::{Greeted, RemoteHost};
use crate::doctor::ssh_error::{Way, is_prohibited, meaning};
use crate::doctor::tcp_probe::{self, Reached};
use crate::host::remote::{Login, LoginError, master};
use crate::host::{End, Output};
use crate::operation::connect;

/// When a login that is not there yet is looked into.
const LOOK_AFTER: Duration = Duration::from_millis(3500);

/// Every call waits for the account's profiles once.
const SLOW_PROFILE: Duration = Duration::from_secs(2);

/// Clocks further apart than this make times wrong that people see.
pub const MOST_SECONDS_APART: i64 = 60;

/// A forwarding answers as fast as a login; a port that is silent was reached.
const FORWARDING_DEADLINE: Duration = Duration::from_secs(3);

/// Logs in, or finds out why not.
pub fn check(there: &Arc<RemoteHost>, clock: Clock) -> Vec<Finding> {
    let (sender, receiver) = channel();
    let asked = Arc::clone(there);
    let started = std::thread::Builder::new().name("meeting the login host".to_owned()).spawn(move || {
        // Nobody listens any more when the deadline has passed.
        let _ = sender.send(asked.greet(clock).cloned());
    });
    if let Err(error) = started {
        let seen = format!("no thread could be started: {error}");
        return vec![Finding::red(
            CheckId::LoginHost,
            Category::Provider,
            seen,
            "raise the limit on processes (`ulimit -u`)",
        )];
    }
    let mut greeted = receiver.recv_timeout(LOOK_AFTER.min(clock.left()));
    let seen = Arc::new(Mutex::new(Reached::Nothing));
    if greeted.is_err() {
        tcp_probe::start(there.target(), &seen);
        greeted = receiver.recv_timeout(clock.left());
    }
    let target = there.target();
    match greeted {
        Ok(Ok(greeted)) => vec![judge_greeting(target, &greeted), judge_clock(greeted.ahead)],
        Ok(Err(error)) if !matches!(error, LoginError::Silent(_)) => {
            vec![judge_refusal(target, &error, &there.path())]
        }
        _ => {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let open = there.open_connection().map(|connection| connection.path.display().to_string());
            vec![judge_hang(target, &seen, open.as_deref())]
        }
    }
}

fn judge_greeting(target: &LoginHost, greeted: &Greeted) -> Finding {
    let greeting = &greeted.greeting;
    let how = if greeted.connection.made {
        format!("logged in in {} ms", greeted.connection.took.as_millis())
    } else {
        "the open connection was used".to_owned()
    };
    let user = greeting.user.name.as_deref().unwrap_or("an account without a usable name");
    let seen = format!(
        "{} is {}, {user} there; {how}, a session answered after {} ms",
        target.destination(),
        cut(&greeting.hostname, 80),
        greeted.took.as_millis()
    );
    let finding = if greeted.took > SLOW_PROFILE {
        let remedy = "make the profile of your account there quicker (~/.bash_profile, module loads): every call waits for it; or the network is slow";
        Finding::warning(CheckId::LoginHost, seen, remedy)
    } else {
        Finding::ok(CheckId::LoginHost, seen)
    };
    finding.fact("login", target.destination())
}

fn judge_clock(ahead: i64) -> Finding {
    let apart = ahead.abs();
    if apart <= MOST_SECONDS_APART {
        return Finding::ok(CheckId::Clock, format!("the login host's and this machine's are {apart} s apart"));
    }
    let (direction, effect) = if ahead > 0 { ("ahead of", "early") } else { ("behind", "late") };
    let seen = format!(
        "the login host's clock is {apart} s {direction} this machine's: ends of leases that the client sets come that much too {effect}, \
         remaining times and ages of jobs are shown wrong"
    );
    Finding::warning(CheckId::Clock, seen, "set the clock that is wrong, most likely this machine's (NTP)")
}

/// Why there was no session.
fn judge_refusal(target: &LoginHost, error: &LoginError, path: &str) -> Finding {
    if let LoginError::NotOpen { to, command } = error {
        let seen = format!("requireExistingMaster is set and no connection to {to} is open");
        return Finding::red(
            CheckId::LoginHost,
            Category::Auth,
            seen,
            format!("open it, and answer what it asks: `{command}`"),
        );
    }
    let said = error.to_string();
    let (category, remedy) = meaning(&said, &way(target, path));
    Finding::red(CheckId::LoginHost, category, tail(&said, 400), remedy)
}

fn way(target: &LoginHost, path: &str) -> Way {
    let config = target.ssh_config.as_ref().map(|path| format!("-F {} ", path.display())).unwrap_or_default();
    let opening = master::opening(target, std::path::Path::new(path));
    Way {
        host: target.host.clone(),
        ssh: format!("ssh {config}{}", target.destination()),
        keys: ("submitHost", "submitUser"),
        by_user: format!(
            "with a password or second factor, set requireExistingMaster and open it yourself: `{opening}`"
        ),
    }
}

/// How far one gets where ssh says nothing; `open` is the socket of a connection that lives.
fn judge_hang(target: &LoginHost, seen: &Reached, open: Option<&str>) -> Finding {
    let name = target.destination();
    let by_hand = way(target, "").ssh;
    let red = |category, seen: String, remedy: String| Finding::red(CheckId::LoginHost, category, seen, remedy);
    let dead = match open {
        Some(path) => format!(
            " (the connection {path} is open, but dead; it ends itself after 30 s, `ssh -O exit -S {path} {name}` ends it now)"
        ),
        None => String::new(),
    };
    let vpn = || "connect to the site's network (VPN), correct submitHost, or wait until it is back".to_owned();
    match (seen, open) {
        (Reached::Resolving(host), _) => red(
            Category::Network,
            format!("{name}: the name service has no answer for {host}{dead}"),
            format!("see that this machine is on a network and `getent hosts {host}` answers; or correct submitHost"),
        ),
        (Reached::Connecting(address), _) => {
            red(Category::Timeout, format!("{name}: {address} does not answer{dead}"), vpn())
        }
        (Reached::Failed(why), _) => red(Category::Network, format!("{name}: {why}{dead}"), vpn()),
        (Reached::Silent(address), _) => red(
            Category::Timeout,
            format!("{name}: {address} takes connections, but its sshd says nothing{dead}"),
            "try again in a minute: the host is overloaded or its sshd hangs; if it stays so, tell its admins"
                .to_owned(),
        ),
        (Reached::Sshd(_) | Reached::Nothing | Reached::Proxied, Some(path)) => red(
            Category::Timeout,
            format!(
                "{name} lets us in, but its login shell has not answered: a profile that waits or is slow, or a home directory that hangs"
            ),
            format!(
                "see where `{by_hand}` stays; then shorten ~/.bash_profile there. If that is quick, the open connection is dead: `ssh -O exit -S {path} {name}`"
            ),
        ),
        (Reached::Sshd(version), None) => red(
            Category::Timeout,
            format!("{name}: {version} answers, but has let nobody in within {} s", clock_seconds()),
            format!(
                "log in by hand with `{by_hand}` to see what it waits for: an agent that asks, a second factor (then set requireExistingMaster), a slow \
                 directory service or home directory"
            ),
        ),
        (Reached::Nothing | Reached::Proxied, None) => red(
            Category::Timeout,
            format!("{name}: the login did not come to an end within {} s", clock_seconds()),
            format!("log in by hand with `{by_hand}` to see what it waits for"),
        ),
    }
}

fn clock_seconds() -> u64 {
    crate::doctor::run::LIMIT.as_secs() - 1
}

/// Whether sessions share the connection, and how many.
pub fn reuse(there: &RemoteHost, clock: Clock) -> Vec<Finding> {
    let target = there.target();
    let again = |said: String| vec![Finding::warning(CheckId::OneConnection, said, AGAIN).not_asked()];
    let greeted = match there.greet(clock) {
        Ok(greeted) => greeted,
        Err(error) => return again(error.to_string()),
    };
    let shown = greeted.connection.path.display().to_string();
    let started = Instant::now();
    // Opened, not waited for: the account's profiles may be slow, which is another check's to tell.
    let second = match Login::beside(target, &greeted.connection.path) {
        Ok(second) => second,
        Err(error) => return again(error.to_string()),
    };
    let took = started.elapsed().as_millis();
    vec![match (second, there.most_sessions()) {
        (Some(_), None) => {
            let seen =
                format!("a second session over the same connection was open after {took} ms; its socket is {shown}");
            Finding::ok(CheckId::OneConnection, seen)
        }
        // The one that was opened here counts too.
        (Some(_), Some(most)) => judge_few(target, Some(most + 1), &shown),
        (None, most) => judge_few(target, most, &shown),
    }]
}

fn judge_few(target: &LoginHost, most: Option<usize>, shown: &str) -> Finding {
    let alone = target.has_one_connection();
    let count = most.map_or_else(|| "no further sessions".to_owned(), |most| format!("{most} session(s) at once"));
    let effect = if alone { "calls at the same time wait for each other" } else { "further calls log in anew" };
    let seen = format!(
        "{} takes {count} on one connection and refuses more (MaxSessions of its sshd, or others use it now): {effect}; its socket is {shown}",
        target.destination()
    );
    Finding::warning(CheckId::OneConnection, seen, "ask the login host's admins for MaxSessions 10, sshd's default")
}

/// Which OpenSSH the login host runs.
pub fn version(there: &RemoteHost, clock: Clock) -> Vec<Finding> {
    vec![match there.facts(clock) {
        Err(said) => Finding::warning(CheckId::LoginOpenSsh, said, AGAIN).not_asked(),
        Ok(facts) => {
            let said = facts.get("sshd").unwrap_or_default();
            let version = said.split_whitespace().find(|word| word.starts_with("OpenSSH_"));
            match version.map(|word| word.trim_end_matches(',')) {
                Some(version) => Finding::ok(CheckId::LoginOpenSsh, version),
                None => Finding::ok(CheckId::LoginOpenSsh, format!("its version is not told: {}", cut(said, 80))),
            }
        }
    }]
}

/// Whether sshd there forwards connections, for the ways that need it.
pub fn forwarding(there: &RemoteHost, clock: Clock, settings: &Settings) -> Vec<Finding> {
    let hops = match &settings.connection {
        Connection::Connect(Route::Login { hops }) => hops,
        Connection::Connect(Route::Stdio) => {
            return vec![Finding::ok(CheckId::Forwarding, "not asked: sshMode is stdio, which needs none")];
        }
        Connection::Direct | Connection::Proxy { .. } => {
            return vec![Finding::ok(CheckId::Forwarding, "not asked: no connection goes through the login host")];
        }
    };
    let again = |said: String| vec![Finding::warning(CheckId::Forwarding, said, AGAIN).not_asked()];
    let (path, facts) = match there
        .greet(clock)
        .map_err(|error| error.to_string())
        .and_then(|greeted| Ok((&greeted.connection.path, there.facts(clock)?)))
    {
        Ok(known) => known,
        Err(said) => return again(said),
    };
    let own = hops.len() == 1 && hops[0] == there.target().destination();
    // Of other hosts it is not known what listens there; an sshd does, as they let us in.
    let port = if own { facts.get("listener") } else { Some("22") };
    let Some(port) = port else {
        return vec![Finding::ok(CheckId::Forwarding, "not tried: nothing listens on the login host's loopback")];
    };
    let deadline = if own { clock.left().min(FORWARDING_DEADLINE) } else { clock.left() };
    let address = format!("127.0.0.1:{port}");
    let command = connect::way(Some(there.target()), &|_| Ok(path.clone()), hops, &address, deadline);
    let output = match command {
        Ok(Some(command)) => command.run(),
        Ok(None) => return again("there is no host to go through".to_owned()),
        Err(error) => return again(error.to_string()),
    };
    match output {
        Ok(output) => vec![judge_forwarding(&output, &hops.join(", then "), &address, own)],
        Err(error) => again(format!("ssh could not be started: {error}")),
    }
}

/// Through a master ssh has the same words for a refusal and for a port that nobody listens at, so for our `own` login
/// host somebody was seen to listen there before.
fn judge_forwarding(output: &Output, shown: &str, address: &str, own: bool) -> Finding {
    let text = output.stderr_text();
    let refused = own && text.contains("refused by peer");
    let reached = output.success() || !output.stdout.is_empty() || output.end == End::DeadlinePassed && own;
    if is_prohibited(&text) || refused {
        let seen = format!(
            "sshd on {shown} does not let connections through: {address} there was refused ({})",
            tail(&output.said(), 200)
        );
        let remedy = "set sshMode to stdio, which needs no forwarding; or ask its admins to allow it (AllowTcpForwarding, PermitOpen) to the nodes";
        return Finding::red(CheckId::Forwarding, Category::Auth, seen, remedy);
    }
    if reached || text.contains("Connection refused") && text.contains("open failed") {
        return Finding::ok(CheckId::Forwarding, format!("sshd on {shown} lets connections through"));
    }
    let seen = format!("no connection through {shown}: {}", tail(&output.said(), 300));
    Finding::red(
        CheckId::Forwarding,
        Category::Network,
        seen,
        "make `ssh -o BatchMode=yes HOST true` work for each host of loginHost; or set sshMode to stdio",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{self, Ok as Green, Red, Warning};
    use rstest::rstest;

    fn target() -> LoginHost {
        LoginHost { host: "login".into(), user: Some("alice".into()), ..LoginHost::default() }
    }

    #[rstest]
    #[case(Reached::Resolving("login.example".into()), None, Category::Network, "getent hosts login.example")]
    #[case(Reached::Connecting("192.0.2.2:22".into()), None, Category::Timeout, "VPN")]
    #[case(Reached::Connecting("192.0.2.2:22".into()), Some("/run/m"), Category::Timeout, "VPN")]
    #[case(Reached::Failed("Connection refused".into()), None, Category::Network, "VPN")]
    #[case(Reached::Silent("192.0.2.2:22".into()), None, Category::Timeout, "in a minute")]
    #[case(Reached::Sshd("SSH-2.0-OpenSSH_9.2".into()), None, Category::Timeout, "requireExistingMaster")]
    #[case(Reached::Sshd("SSH-2.0-OpenSSH_9.2".into()), Some("/run/m"), Category::Timeout, "~/.bash_profile")]
    #[case(Reached::Proxied, None, Category::Timeout, "by hand")]
    fn hangs(#[case] seen: Reached, #[case] open: Option<&str>, #[case] category: Category, #[case] remedy: &str) {
        let finding = judge_hang(&target(), &seen, open);
        assert!(finding.is(Red) && finding.category == category, "{finding:?}");
        assert!(finding.remedy.contains(remedy), "{finding:?}");
    }

    #[test]
    fn a_connection_that_is_the_users_to_open_comes_with_its_command() {
        let error = LoginError::NotOpen { to: "login".into(), command: "ssh -fN login".into() };
        let finding = judge_refusal(&target(), &error, "/run/m");
        assert!(finding.remedy.ends_with("`ssh -fN login`"), "{finding:?}");
        assert!(finding.seen.ends_with("is open"), "{finding:?}");
        let finding = judge_refusal(&target(), &LoginError::Refused("Permission denied (publickey).".into()), "/run/m");
        assert!(finding.remedy.contains("`ssh -fN -o ControlMaster=auto -o ControlPath=/run/m"), "{finding:?}");
    }

    #[rstest]
    #[case(0, Green, "0 s apart")]
    #[case(-60, Green, "60 s apart")]
    #[case(61, Warning, "61 s ahead of")]
    #[case(-3600, Warning, "3600 s behind")]
    fn clocks(#[case] ahead: i64, #[case] status: CheckStatus, #[case] text: &str) {
        let finding = judge_clock(ahead);
        assert!(finding.is(status) && finding.seen.contains(text), "{finding:?}");
    }

    #[rstest]
    #[case(End::Exit(0), "SSH-2.0-OpenSSH_9.2\r\n", "", true, Green)]
    #[case(End::Exit(255), "", "Stdio forwarding request failed: Session open refused by peer\n", true, Red)]
    #[case(End::Exit(255), "", "channel 0: open failed: administratively prohibited: open failed\n", false, Red)]
    #[case(End::Exit(255), "", "channel 0: open failed: connect failed: Connection refused\n", false, Green)]
    #[case(End::Exit(255), "", "ssh: Could not resolve hostname gw\n", false, Red)]
    #[case(End::DeadlinePassed, "", "", true, Green)]
    #[case(End::DeadlinePassed, "", "", false, Red)]
    fn forwardings(
        #[case] end: End,
        #[case] stdout: &str,
        #[case] stderr: &str,
        #[case] own: bool,
        #[case] status: CheckStatus,
    ) {
        let output = Output { end, stdout: stdout.into(), stderr: stderr.into(), took: Duration::from_secs(3) };
        let finding = judge_forwarding(&output, "login", "127.0.0.1:22", own);
        assert!(finding.is(status), "{finding:?}");
    }

    #[test]
    fn few_sessions_are_told_with_what_follows() {
        let finding = judge_few(&target(), Some(3), "/run/m");
        assert!(finding.seen.contains("3 session(s)") && finding.seen.contains("log in anew"), "{finding:?}");
        let target = LoginHost { require_existing_master: true, ..target() };
        assert!(judge_few(&target, None, "/run/m").seen.contains("wait for each other"));
    }
}
