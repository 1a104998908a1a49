//! Whether OpenSSH's client is there and makes the keys that leases need.

use std::path::Path;

use crate::config::Settings;
use crate::doctor::check::CheckId;
use crate::doctor::finding::{Category, Finding, cut};
use crate::doctor::run::Clock;
use crate::host::{Command, on_path};
use crate::ssh::lease::KEY_TYPES;

const INSTALL: &str = "install OpenSSH's client, and put it on the PATH of whatever starts this program";

/// First with `StrictHostKeyChecking=accept-new`, which the client always passes.
const OLDEST: (u32, u32) = (7, 6);

/// Looks at ssh.
pub fn ssh(clock: Clock) -> Vec<Finding> {
    let Some(path) = on_path("ssh") else {
        return vec![Finding::red(CheckId::SshClient, Category::Tool, "ssh not found in $PATH", INSTALL)];
    };
    vec![match Command::new("ssh", clock.left()).arg("-V").run() {
        Err(error) => {
            Finding::red(CheckId::SshClient, Category::Tool, format!("ssh could not be started: {error}"), INSTALL)
        }
        Ok(output) => {
            let text = output.stderr_text() + &output.stdout_text();
            match parse_version(&text) {
                Some(version) if version < OLDEST => {
                    let seen = format!("{}: the client needs {}.{} or later", cut(text.trim(), 80), OLDEST.0, OLDEST.1);
                    Finding::red(CheckId::SshClient, Category::Config, seen, "install a newer OpenSSH")
                }
                Some(_) => Finding::ok(CheckId::SshClient, format!("{}, {}", path.display(), cut(text.trim(), 80))),
                None => Finding::warning(
                    CheckId::SshClient,
                    format!("{} -V says {}", path.display(), cut(text.trim(), 80)),
                    "expected is OpenSSH",
                ),
            }
        }
    }]
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let rest = text.split_once("OpenSSH_")?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let mut numbers = rest[..end].split('.').map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Makes a key of each type, as crypto policies allow some and not others; they are removed at once.
pub fn keygen(clock: Clock) -> Vec<Finding> {
    if on_path("ssh-keygen").is_none() {
        return vec![Finding::red(CheckId::SshKeygen, Category::Tool, "ssh-keygen not found in $PATH", INSTALL)];
    }
    let temp = match tempfile::Builder::new().prefix("slurm-sandbox-doctor-").tempdir() {
        Ok(temp) => temp,
        Err(error) => {
            let seen = format!("no directory for a test key: {error}");
            return vec![Finding::warning(
                CheckId::SshKeygen,
                seen,
                "make room in the temporary directory, or set TMPDIR",
            )];
        }
    };
    let make = |kind: &str, bits: &str| {
        let command = Command::new("ssh-keygen", clock.left())
            .args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", "doctor", "-f"]);
        match command.arg(temp.path().join(kind)).run() {
            Ok(output) if output.success() => None,
            Ok(output) => Some(output.said()),
            Err(error) => Some(error.to_string()),
        }
    };
    let make = &make;
    let made: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> =
            KEY_TYPES.iter().map(|(kind, bits)| (*kind, scope.spawn(move || make(kind, bits)))).collect();
        running
            .into_iter()
            .map(|(kind, thread)| (kind, thread.join().unwrap_or_else(|_| Some("broke off".to_owned()))))
            .collect()
    });
    vec![classify(&made)]
}

fn classify(made: &[(&str, Option<String>)]) -> Finding {
    let good: Vec<_> = made.iter().filter(|(_, problem)| problem.is_none()).map(|(kind, _)| *kind).collect();
    let bad =
        made.iter().filter_map(|(kind, problem)| problem.as_ref().map(|said| format!("{kind}: {}", cut(said, 100))));
    let bad = bad.collect::<Vec<_>>().join("; ");
    match good.first() {
        None => Finding::red(
            CheckId::SshKeygen,
            Category::Config,
            format!("makes no key of any type: {bad}"),
            "let the host's crypto policy allow ed25519, ecdsa or rsa, or set sshPrivateKey",
        ),
        Some(first) if bad.is_empty() => {
            Finding::ok(CheckId::SshKeygen, format!("makes {}; leases get {first}", good.join(", ")))
        }
        Some(first) => {
            Finding::ok(CheckId::SshKeygen, format!("makes {}; leases get {first}; refused {bad}", good.join(", ")))
        }
    }
}

/// Looks at a key that the site has configured.
pub fn configured(clock: Clock, settings: &Settings) -> Vec<Finding> {
    let Some(key) = &settings.ssh_private_key else {
        return vec![Finding::ok(CheckId::SshKey, "each lease gets a key of its own")];
    };
    let red = |seen: String, remedy: &str| {
        vec![Finding::red(
            CheckId::SshKey,
            Category::Config,
            format!("sshPrivateKey {}: {seen}", key.display()),
            remedy,
        )]
    };
    let mode = match readable(key) {
        Ok(mode) => mode,
        Err(why) => return red(why, "name a private key that you can read"),
    };
    if mode & 0o077 != 0 {
        return red(
            format!("has mode {mode:04o}, and ssh refuses keys that others can read"),
            &format!("chmod 600 {}", key.display()),
        );
    }
    let public = format!("{}.pub", key.display());
    let text = match std::fs::read_to_string(&public) {
        Ok(text) => text,
        Err(error) => {
            return red(
                format!("its public half {public} cannot be read: {error}"),
                "make it with `ssh-keygen -y -f KEY > KEY.pub`",
            );
        }
    };
    let Some(public_key) = crate::ssh::public_key::host_key(text.trim_end()) else {
        return red(format!("no public key is in {public}"), "make it with `ssh-keygen -y -f KEY > KEY.pub`");
    };
    // An empty passphrase: what needs another one needs an agent.
    let derive = Command::new("ssh-keygen", clock.left()).args(["-y", "-P", "", "-f"]).arg(key);
    vec![match derive.run() {
        Ok(output) if output.success() => match crate::ssh::public_key::host_key(output.stdout_text().trim_end()) {
            Some(derived) if derived == public_key => {
                Finding::ok(CheckId::SshKey, format!("{} with its public half", key.display()))
            }
            _ => {
                return red(
                    format!("{public} is the public half of another key"),
                    "make it anew with `ssh-keygen -y -f KEY > KEY.pub`",
                );
            }
        },
        _ => Finding::warning(
            CheckId::SshKey,
            format!("sshPrivateKey {} cannot be used without a passphrase", key.display()),
            "keep it in an ssh agent that this program and the client see, or remove sshPrivateKey: each lease then gets a key of its own",
        ),
    }]
}

/// The mode of a key that can be read.
fn readable(key: &Path) -> Result<u32, String> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(key).map_err(|error| format!("cannot be looked at: {error}"))?;
    if !meta.is_file() {
        return Err("is not a file".to_owned());
    }
    std::fs::File::open(key).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(meta.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{self, Ok as Green, Red, Warning};
    use rstest::rstest;

    #[rstest]
    #[case("OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.15", Some((9, 2)))]
    #[case("OpenSSH_7.4p1, OpenSSL 1.0.2k-fips", Some((7, 4)))]
    #[case("OpenSSH_10.0p2", Some((10, 0)))]
    #[case("dropbear", None)]
    fn versions(#[case] text: &str, #[case] expected: Option<(u32, u32)>) {
        assert_eq!(parse_version(text), expected);
    }

    #[rstest]
    #[case(&[("ed25519", None), ("ecdsa", None), ("rsa", None)], Green, "leases get ed25519")]
    #[case(&[("ed25519", Some("not in FIPS mode")), ("ecdsa", None), ("rsa", None)], Green, "leases get ecdsa; refused ed25519: not in FIPS mode")]
    #[case(&[("ed25519", Some("x")), ("ecdsa", Some("x")), ("rsa", Some("x"))], Red, "no key of any type")]
    fn key_types(#[case] made: &[(&str, Option<&str>)], #[case] status: CheckStatus, #[case] text: &str) {
        let made: Vec<_> = made.iter().map(|(kind, said)| (*kind, said.map(str::to_owned))).collect();
        let finding = classify(&made);
        assert!(finding.is(status) && finding.seen.contains(text), "{finding:?}");
    }

    fn with_key(change: impl FnOnce(&Path)) -> Finding {
        let temp = tempfile::tempdir().unwrap();
        let key = temp.path().join("id");
        let make = Command::new("ssh-keygen", std::time::Duration::from_secs(10))
            .args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        assert!(make.arg(&key).run().unwrap().success());
        change(&key);
        let mut settings = crate::config::parse(&serde_json::Map::new()).unwrap();
        settings.ssh_private_key = Some(key);
        configured(Clock::start(), &settings).remove(0)
    }

    #[test]
    fn configured_keys() {
        use std::os::unix::fs::PermissionsExt;
        assert!(with_key(|_| ()).is(Green));
        let open = with_key(|key| std::fs::set_permissions(key, PermissionsExt::from_mode(0o644)).unwrap());
        assert!(open.is(Red) && open.seen.contains("0644"), "{open:?}");
        let secret = with_key(|key| {
            let change = Command::new("ssh-keygen", std::time::Duration::from_secs(10))
                .args(["-q", "-p", "-P", "", "-N", "secret", "-f"]);
            assert!(change.arg(key).run().unwrap().success());
        });
        assert!(secret.is(Warning) && secret.seen.contains("passphrase"), "{secret:?}");
        let mut settings = crate::config::parse(&serde_json::Map::new()).unwrap();
        settings.ssh_private_key = Some("/nonexistent/key".into());
        assert!(configured(Clock::start(), &settings)[0].is(Red));
    }

    #[test]
    fn keys_are_really_made_and_removed() {
        assert!(keygen(Clock::start())[0].is(Green));
    }
}
