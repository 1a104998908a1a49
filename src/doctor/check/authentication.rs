//! How Slurm's commands prove here who they are, and whether that works: by munge, by Slurm's own auth/slurm with sackd, or otherwise.
//!
//! Which of them a site has is told by its slurm.conf alone, and nothing is blamed that was not asked: a munged that is left over on
//! a host of another kind is nobody's trouble. With a dead munged Slurm's commands retry for 50 s before they say so, which looks like a
//! controller that hangs.

use crate::doctor::check::CheckId;
use crate::doctor::check::table::AGAIN;
use crate::doctor::finding::{Finding, tail};
use crate::doctor::remote::RemoteFacts;
use crate::doctor::run::Clock;
use crate::doctor::sessions::Place;
use crate::host::Command;

const SCRIPT: &str = concat!(include_str!("tell.sh"), include_str!("authentication.sh"));

/// Asks where Slurm's commands run.
pub fn check(place: &Place, clock: Clock) -> Vec<Finding> {
    let command = || Command::new("bash", clock.left()).args(["-c", SCRIPT]);
    vec![match place.with(clock, |host| host.run(&command())) {
        Ok(Ok(output)) => match RemoteFacts::whole(&output) {
            Some(facts) => classify(&facts, place.name()),
            None => Finding::ok(CheckId::Authentication, format!("not looked at: {}", output.said())),
        },
        Ok(Err(error)) => Finding::ok(CheckId::Authentication, format!("not looked at: bash: {error}")),
        Err(said) => Finding::warning(CheckId::Authentication, said, AGAIN).not_asked(),
    }]
}

fn classify(facts: &RemoteFacts, host: &str) -> Finding {
    let (conf, socket) = (facts.get("conf"), facts.get("munge-socket"));
    let kind = facts.all("type").last().map(|name| name.to_ascii_lowercase().trim_start_matches("auth/").to_owned());
    let says = |kind: &str| format!("{} says AuthType auth/{kind}", conf.unwrap_or_default());
    let failed = facts.get("munge-failed").map(|said| format!("munge --no-input on {host}: {}", tail(said, 200)));
    let ok = |seen: String| Finding::ok(CheckId::Authentication, seen);
    let warn = |seen: String, service: &str| {
        let remedy = format!("have the admins of {host} start {service}");
        Finding::warning(CheckId::Authentication, seen, remedy)
    };
    match (kind.as_deref(), facts.get("sackd")) {
        (Some("slurm"), Some(sackd)) => ok(format!("{}; the socket of sackd is {sackd}", says("slurm"))),
        (Some("slurm"), None) => {
            warn(format!("{}, and there is no socket of sackd on {host}", says("slurm")), "sackd (or slurmd)")
        }
        (Some("munge"), _) => match failed {
            _ if facts.get("munged").is_some() => ok(format!("{}; munged on {host} answers", says("munge"))),
            Some(failed) => warn(format!("{}; {failed}", says("munge")), "munged"),
            None if socket.is_none() => {
                warn(format!("{}, and there is no socket of munged on {host}", says("munge")), "munged")
            }
            None => ok(format!("{}; the socket of munged is there", says("munge"))),
        },
        (Some(other), _) => ok(format!("{}, which is not looked at", says(other))),
        // Slurm takes munge then; a file may be included that says otherwise, so it has to be seen.
        (None, _) if facts.get("munged").is_some() => ok(format!("munged on {host} answers")),
        (None, None) if socket.is_some() => match failed {
            Some(failed) => warn(failed, "munged"),
            None => ok(format!("the socket of munged on {host} is there")),
        },
        (None, Some(sackd)) => ok(format!("the socket of sackd is {sackd}")),
        (None, None) => ok(format!("no slurm.conf on {host} says how, and neither munged nor sackd is there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{self, Ok as Green, Warning};
    use rstest::rstest;

    const CONF: &str = "conf\t/etc/slurm/slurm.conf\n";
    const DEAD: &str = "munge-failed\tFailed to access \"/run/munge/munge.socket.2\"\n";

    #[rstest]
    #[case::munge("type\tauth/munge\nmunge-socket\t/m\nmunged\tyes\n", Green, "munged on this host answers", "")]
    #[case::munge_dead(&format!("type\tauth/munge\nmunge-socket\t/m\n{DEAD}"), Warning, "AuthType auth/munge; munge --no-input", "munged")]
    #[case::munge_away(&format!("type\tAuth/Munge\n{DEAD}"), Warning, "munge --no-input on this host", "start munged")]
    #[case::munge_without_its_command("type\tauth/munge\nmunge-socket\t/m\n", Green, "socket of munged is there", "")]
    #[case::munge_without_socket_and_command("type\tauth/munge\n", Warning, "no socket of munged", "start munged")]
    #[case::sackd("type\tauth/slurm\nsackd\t/run/slurm/sack.socket\n", Green, "socket of sackd is /run/slurm", "")]
    #[case::sackd_dead("type\tauth/slurm\n", Warning, "no socket of sackd", "start sackd")]
    #[case::sackd_beside_a_dead_munged(&format!("type\tauth/slurm\nsackd\t/s\nmunge-socket\t/m\n{DEAD}"), Green, "sackd", "")]
    #[case::another("type\tauth/jwt\n", Green, "auth/jwt, which is not looked at", "")]
    #[case::without_a_word("munge-socket\t/m\nmunged\tyes\n", Green, "munged on this host answers", "")]
    #[case::without_a_word_and_dead(&format!("munge-socket\t/m\n{DEAD}"), Warning, "munge --no-input", "start munged")]
    #[case::without_a_word_beside_sackd(&format!("munge-socket\t/m\nsackd\t/s\n{DEAD}"), Green, "sackd", "")]
    #[case::without_a_word_and_without_munged(DEAD, Green, "neither munged nor sackd", "")]
    fn what_proves_who_we_are(
        #[case] text: &str,
        #[case] status: CheckStatus,
        #[case] seen: &str,
        #[case] remedy: &str,
    ) {
        let finding = classify(&RemoteFacts::parse(&format!("{CONF}{text}")), "this host");
        assert!(finding.is(status) && finding.seen.contains(seen), "{finding:?}");
        assert!(finding.remedy.contains(remedy) && finding.remedy.is_empty() == remedy.is_empty(), "{finding:?}");
    }

    #[test]
    fn slurm_conf_is_read() {
        let temp = tempfile::tempdir().unwrap();
        let conf = temp.path().join("slurm.conf");
        let mut bytes = std::fs::File::options().create(true).append(true).open(&conf).unwrap();
        std::io::Write::write_all(&mut bytes, b"# AuthType=auth/x\n authtype = auth/slurm # y\nClusterName=c").unwrap();
        let command = Command::new("bash", std::time::Duration::from_secs(20)).args(["-c", SCRIPT]);
        let output = command.env("SLURM_CONF", &conf).run().unwrap();
        let facts = RemoteFacts::parse(&output.stdout_text());
        assert_eq!(facts.all("type"), ["auth/slurm"], "{output:?}");
        assert_eq!(facts.get("conf"), conf.to_str());
    }
}
