//! Whether the login host of a proxy command lets us in and lets a connection through, which every session of the client
//! needs. The login host that Slurm's commands run on is another check's, see `login_host.rs`.

use crate::config::Settings;
use crate::config::proxy::Connection;
use crate::doctor::check::CheckId;
use crate::doctor::finding::{Category, Finding, tail};
use crate::doctor::run::Clock;
use crate::doctor::ssh_error::{Way, is_prohibited, meaning};
use crate::host::remote::command_line::{SESSION, UNDISTRACTED};
use crate::host::{Command, End, Output};
use crate::protocol::CheckStatus;

/// A port like those that leases get.
const PORT: u16 = 4022;

/// Logs in to the login host, then asks it for a connection to itself. A proxy command of the site's `own` may reach that host in another
/// way, with other options or another program, so that what fails here may still work there.
pub fn check(clock: Clock, settings: &Settings, own: bool, node: impl FnOnce() -> Option<String>) -> Vec<Finding> {
    let mut findings = try_login(clock, settings, own, node);
    if own {
        findings.iter_mut().for_each(soften);
    }
    findings
}

fn soften(finding: &mut Finding) {
    if finding.is(CheckStatus::Red) {
        finding.status = CheckStatus::Warning;
        finding.seen += "; proxyCommand is the site's own and may reach it otherwise";
    }
}

fn try_login(clock: Clock, settings: &Settings, own: bool, node: impl FnOnce() -> Option<String>) -> Vec<Finding> {
    let (host, user) = match &settings.connection {
        Connection::Proxy { login_host, login_user, .. } if settings.connection.uses("loginHost") => {
            (login_host, login_user)
        }
        Connection::Proxy { template, login_host, .. } if login_host.contains(',') && !own => {
            return vec![try_chain(clock, template, login_host)];
        }
        Connection::Proxy { .. } => {
            return vec![Finding::ok(CheckId::ProxyHost, "not tried: proxyCommand is the site's own")];
        }
        Connection::Direct | Connection::Connect(_) => return vec![Finding::ok(CheckId::ProxyHost, "none is used")],
    };
    let target = if user.is_empty() { host.clone() } else { format!("{user}@{host}") };
    // As the proxy command does, with the user's own ssh configuration and agent.
    let ssh = || {
        let command = Command::new("ssh", clock.left()).pass("SSH_AUTH_SOCK").args(UNDISTRACTED);
        command.args([SESSION, "-oBatchMode=yes", "-oConnectTimeout=5"])
    };
    let output = match ssh().args([target.as_str(), "true"]).run() {
        Ok(output) => output,
        // That it is missing is the finding of another check.
        Err(error) => {
            return vec![Finding::warning(CheckId::ProxyHost, format!("ssh could not be started: {error}"), "")];
        }
    };
    let login = judge_login(&target, &output);
    if !output.success() {
        return vec![login];
    }
    let prohibits = |address: &str| {
        let output = ssh().args(["-W", address, target.as_str()]).run().ok();
        output.filter(|output| is_prohibited(&output.stderr_text()))
    };
    // PermitOpen may name the nodes alone: of one it has to be known.
    let prohibited = prohibits("127.0.0.1:22").and_then(|output| match node() {
        Some(node) => prohibits(&format!("{node}:{PORT}")),
        None => Some(output),
    });
    match prohibited {
        Some(output) => {
            let seen = format!("{target} lets us in, but forbids forwarding: {}", tail(&output.said(), 200));
            let remedy = "set proxyCommand to the way that the site has for this, or ask its admins to allow TCP forwarding to nodes";
            vec![Finding::red(CheckId::ProxyHost, Category::Auth, seen, remedy)]
        }
        None => vec![login],
    }
}

/// Asks the last of several hosts, through those before it, for a connection to itself, by the proxy command that clients get.
fn try_chain(clock: Clock, template: &str, hosts: &str) -> Finding {
    let line = expanded(template, "127.0.0.1", "22");
    let command = Command::new("sh", clock.left()).pass("SSH_AUTH_SOCK").args(["-c", &line]);
    match command.run() {
        Ok(output) => judge_chain(hosts, &output),
        Err(error) => Finding::warning(CheckId::ProxyHost, format!("sh could not be started: {error}"), ""),
    }
}

/// A proxy command as ssh has the shell run it.
fn expanded(template: &str, host: &str, port: &str) -> String {
    let whole: Vec<_> = template.split("%%").map(|part| part.replace("%h", host).replace("%p", port)).collect();
    whole.join("%")
}

fn judge_chain(hosts: &str, output: &Output) -> Finding {
    let text = output.stderr_text();
    let chain = hosts.replace(',', ", then ");
    // Nobody need listen there; that is said by the last of them.
    let refused = text.contains("open failed") && text.contains("Connection refused");
    if output.stdout.starts_with(b"SSH-") || refused {
        return Finding::ok(CheckId::ProxyHost, format!("{chain} let a connection through"));
    }
    let (before, last) = hosts.rsplit_once(',').unwrap_or(("", hosts));
    let way = Way {
        host: last.to_owned(),
        ssh: format!("ssh -J {before} {last}"),
        keys: ("loginHost", "loginUser"),
        by_user: "with a second factor, master connections that you open first".to_owned(),
    };
    let (category, remedy) = meaning(&text, &way);
    let seen = format!("no connection through {chain}: {}", tail(&output.said(), 300));
    Finding::red(CheckId::ProxyHost, category, seen, remedy)
}

fn judge_login(target: &str, output: &Output) -> Finding {
    let host = target.rsplit('@').next().unwrap_or(target);
    let text = output.stderr_text();
    match output.end {
        End::Exit(0) => {
            Finding::ok(CheckId::ProxyHost, format!("{target} lets us in, in {} ms", output.took.as_millis()))
        }
        End::DeadlinePassed => {
            let remedy = "log in by hand to see what it waits for: a password, a second factor, a slow home directory";
            Finding::red(
                CheckId::ProxyHost,
                Category::Timeout,
                format!("{target} connects, but lets nobody in within {} s", output.took.as_secs()),
                remedy,
            )
        }
        End::Exit(code) if code != 255 => {
            let seen = format!("{target} lets us in, but running `true` there fails: {}", tail(&output.said(), 200));
            Finding::warning(
                CheckId::ProxyHost,
                seen,
                "sessions need only its forwarding; should they fail, set proxyCommand to the site's own way",
            )
        }
        _ => {
            let way = Way {
                host: host.to_owned(),
                ssh: format!("ssh {host}"),
                keys: ("loginHost", "loginUser"),
                by_user: format!(
                    "with a second factor, a master connection that you open first (ControlMaster and ControlPath in ~/.ssh/config, then \
                     `ssh -fN {host}`)"
                ),
            };
            let (category, remedy) = meaning(&text, &way);
            Finding::red(CheckId::ProxyHost, category, format!("{target}: {}", tail(&output.said(), 300)), remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{Ok as Green, Red, Warning};
    use rstest::rstest;

    #[rstest]
    #[case(End::Exit(0), "", Green, Category::Provider, "")]
    #[case(
        End::Exit(255),
        "bob@login: Permission denied (publickey).\n",
        Red,
        Category::Auth,
        "`ssh -o BatchMode=yes login true`"
    )]
    #[case(
        End::Exit(255),
        "Host key verification failed.\n",
        Red,
        Category::Auth,
        "log in once by hand with `ssh login`"
    )]
    #[case(
        End::Exit(255),
        "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n",
        Red,
        Category::Auth,
        "ssh-keygen -R login"
    )]
    #[case(
        End::Exit(255),
        "ssh: Could not resolve hostname login: Name or service not known\n",
        Red,
        Category::Network,
        "correct loginHost"
    )]
    #[case(End::Exit(255), "ssh: connect to host login port 22: Connection timed out\n", Red, Category::Timeout, "VPN")]
    #[case(
        End::Exit(255),
        "ssh: connect to host login port 22: Connection refused\n",
        Red,
        Category::Network,
        "nobody listens"
    )]
    #[case(End::Exit(255), "gibberish\n", Red, Category::Network, "by hand")]
    #[case(End::DeadlinePassed, "", Red, Category::Timeout, "second factor")]
    #[case(End::Exit(1), "This account is restricted.\n", Warning, Category::Provider, "proxyCommand")]
    fn logins(
        #[case] end: End,
        #[case] stderr: &str,
        #[case] status: CheckStatus,
        #[case] category: Category,
        #[case] remedy: &str,
    ) {
        let output = Output { end, stdout: vec![], stderr: stderr.into(), took: std::time::Duration::from_secs(6) };
        let finding = judge_login("bob@login", &output);
        assert_eq!((finding.status, finding.category), (status, category), "{finding:?}");
        assert!(finding.remedy.contains(remedy), "{finding:?}");
    }

    #[rstest]
    #[case("ssh -W %h:%p ${loginHost}")]
    #[case("nc {host} {port}")]
    fn a_proxy_command_without_the_login_host_is_not_tried(#[case] command: &str) {
        let value = serde_json::json!({"proxyCommand": command, "loginHost": "login"});
        let settings = crate::config::parse(value.as_object().unwrap()).unwrap();
        let findings = try_login(Clock::start(), &settings, true, || None);
        assert!(findings[0].is(Green) && findings[0].seen.starts_with("not tried"), "{findings:?}");
    }

    #[test]
    fn a_chain_of_hosts_is_tried_as_the_client_does() {
        let settings = serde_json::json!({"sshMode": "proxy-through-login", "loginHost": "a,b"});
        let settings = crate::config::parse(settings.as_object().unwrap()).unwrap();
        let Connection::Proxy { template, .. } = &settings.connection else { panic!("no proxy") };
        let line = expanded(template, "127.0.0.1", "22");
        assert!(line.ends_with("-W 127.0.0.1:22 b") && line.contains("-W %h:%p a\""), "{line}");
        let output = |stdout: &str, stderr: &str| Output {
            end: End::Exit(255),
            stdout: stdout.into(),
            stderr: stderr.into(),
            took: std::time::Duration::from_secs(1),
        };
        assert!(judge_chain("a,b", &output("SSH-2.0-OpenSSH_9.2\r\n", "")).is(Green));
        let unknown = judge_chain("a,b", &output("", "ssh: Could not resolve hostname a: Name or service not known\n"));
        assert!(unknown.is(Red) && unknown.seen.starts_with("no connection through a, then b: "), "{unknown:?}");
    }

    #[test]
    fn a_way_of_the_sites_own_is_no_reason_for_red() {
        let mut finding = Finding::red(
            CheckId::ProxyHost,
            Category::Network,
            "Could not resolve hostname login",
            "correct loginHost",
        );
        soften(&mut finding);
        assert!(finding.is(Warning) && finding.seen.contains("the site's own"), "{finding:?}");
        let mut good = Finding::ok(CheckId::ProxyHost, "login lets us in");
        soften(&mut good);
        assert_eq!(good.seen, "login lets us in");
    }
}
