//! The block of ssh configuration by which `ssh NAME.sandbox` reaches a lease, and the line by which a user's file includes it: pure.
//!
//! ssh expands `%n` to the name as it was typed. The files of that name are made by the proxy command, before the handshake in which ssh
//! reads them (docs/facts/openssh.md, "Files that come later").

use std::path::Path;

use crate::config::value::is_word;

/// What the host names of leases end with.
pub const SUFFIX: &str = ".sandbox";

/// Longest name; a lease's slug is no longer.
const NAME_BYTES: usize = 128;

/// ssh waits for the first line of a lease's sshd, and so for an acquire, which has a time of its own. 23 days: it counts milliseconds in 31 bits.
const CONNECT_SECONDS: u32 = 2_000_000;

/// Names whose leases are another user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherUser {
    pub user: String,
    pub names: Vec<String>,
}

/// What the block says.
#[derive(Debug)]
pub struct Block<'a> {
    /// This program with its flags, plain words.
    pub program: &'a str,
    /// Where each name has a directory of its own.
    pub hosts: &'a Path,
    pub user: &'a str,
    pub others: &'a [OtherUser],
}

impl Block<'_> {
    /// The text of the file. A name or user with a single quote would end the proxy command's own quotes in the shell, so that neither
    /// gets there: such a name has no block, such a user a proxy that fails.
    pub fn text(&self) -> String {
        let Block { program, hosts, user, others } = self;
        let hosts = hosts.display();
        let mut text = "# Written by slurm-sandbox ssh-config --install, which writes it anew.\n".to_owned();
        text.push_str(&format!("Match originalhost *{SUFFIX} user \"*'*\"\n    ProxyCommand false\n"));
        for OtherUser { user, names } in *others {
            let names: Vec<_> = names.iter().map(|name| format!("{name}{SUFFIX}")).collect();
            text.push_str(&format!("Host {}\n    User {}\n", names.join(" "), quoted(user)));
        }
        text.push_str(&format!(
            "Host *{SUFFIX} \"!*'*\"
    User {}
    ProxyCommand {program} connect --acquire '--user=%r' -- '%n'
    IdentityFile {hosts}/%n/key
    UserKnownHostsFile {hosts}/%n/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    CheckHostIP no
    VerifyHostKeyDNS no
    UpdateHostKeys no
    CanonicalizeHostname no
    IdentitiesOnly yes
    PubkeyAuthentication yes
    PreferredAuthentications publickey
    AddKeysToAgent no
    ForwardAgent no
    ForwardX11 no
    ConnectTimeout {CONNECT_SECONDS}
    ServerAliveInterval 15
    ServerAliveCountMax 4
",
            quoted(user)
        ));
        text
    }
}

/// A value of ssh_config(5) that may hold blanks.
fn quoted(value: &str) -> String {
    if is_word(value, "._@+-") { value.to_owned() } else { format!("\"{value}\"") }
}

/// The line of a user's file.
pub fn include_line(file: &Path) -> String {
    format!("Include {}", file.display())
}

/// The lease or profile that a host name means; without the suffix it is the name itself. What a file, an option or a shell could take
/// for something else is no name.
pub fn name_of(host: &str) -> Option<&str> {
    let name = host.strip_suffix(SUFFIX).unwrap_or(host);
    let good = is_word(name, "._-") && name.len() <= NAME_BYTES && !name.starts_with(['.', '-']);
    good.then_some(name)
}

/// A user's file with the line before everything that has a meaning: an Include within a block holds for that block alone. `None` where it
/// is so already.
pub fn with_include(text: &[u8], line: &str) -> Option<Vec<u8>> {
    let first = lines(text).find(|found| {
        let found = found.trim_ascii();
        !found.is_empty() && !found.starts_with(b"#")
    });
    if first.is_some_and(|first| first.trim_ascii() == line.as_bytes()) {
        return None;
    }
    let rest = without_include(text, line);
    Some([line.as_bytes(), b"\n", rest.as_deref().unwrap_or(text)].concat())
}

/// A user's file without the line; `None` where it is not there.
pub fn without_include(text: &[u8], line: &str) -> Option<Vec<u8>> {
    let kept: Vec<&[u8]> = lines(text).filter(|found| found.trim_ascii() != line.as_bytes()).collect();
    (kept.len() < lines(text).count()).then(|| kept.concat())
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::slug("smoke.sandbox", Some("smoke"))]
    #[case::lease_id("cbx_4b38f35d4e31.sandbox", Some("cbx_4b38f35d4e31"))]
    #[case::without_the_suffix("gpu", Some("gpu"))]
    #[case::dots("a.b.sandbox", Some("a.b"))]
    #[case::nothing(".sandbox", None)]
    #[case::upwards("..sandbox", None)]
    #[case::a_path("../x.sandbox", None)]
    #[case::an_option("-oX.sandbox", None)]
    #[case::a_command("$(x).sandbox", None)]
    #[case::a_quote("a'b.sandbox", None)]
    #[case::a_blank("a b.sandbox", None)]
    #[case::empty("", None)]
    fn names(#[case] host: &str, #[case] expected: Option<&str>) {
        assert_eq!(name_of(host), expected);
    }

    #[rstest]
    #[case::none("", "Include /s/config\n")]
    #[case::other_text("Host x\n User y\n", "Include /s/config\nHost x\n User y\n")]
    #[case::no_line_end("Host x", "Include /s/config\nHost x")]
    #[case::other_line_ends("Host x\r\n", "Include /s/config\nHost x\r\n")]
    #[case::within_a_block("Host x\nInclude /s/config\n User y\n", "Include /s/config\nHost x\n User y\n")]
    #[case::not_text("\u{fffd}\n", "Include /s/config\n\u{fffd}\n")]
    fn the_line_comes_first_and_goes(#[case] before: &str, #[case] after: &str) {
        let line = include_line(Path::new("/s/config"));
        let with = with_include(before.as_bytes(), &line).unwrap();
        assert_eq!(String::from_utf8_lossy(&with), after);
        assert_eq!(with_include(&with, &line), None);
        let without = without_include(&with, &line).unwrap();
        assert_eq!(String::from_utf8_lossy(&without), before.replace("Include /s/config\n", ""));
        assert_eq!(without_include(&without, &line), None);
    }

    #[rstest]
    #[case("# mine\n\n  Include /s/config\nHost x\n")]
    #[case("Include /s/config")]
    fn what_is_so_already_stays(#[case] text: &str) {
        assert_eq!(with_include(text.as_bytes(), "Include /s/config"), None);
    }

    #[test]
    fn each_user_has_a_block() {
        let others = [OtherUser { user: r"CORP\bob".into(), names: vec!["big".into(), "huge".into()] }];
        let block =
            Block { program: "/p/x --state-dir /s", hosts: Path::new("/s/ssh/hosts"), user: "alice", others: &others };
        let text = block.text();
        assert!(
            text.contains(
                "Host big.sandbox huge.sandbox\n    User \"CORP\\bob\"\nHost *.sandbox \"!*'*\"\n    User alice\n"
            ),
            "{text}"
        );
        assert!(text.contains("    IdentityFile /s/ssh/hosts/%n/key\n"), "{text}");
        assert!(text.contains("ProxyCommand /p/x --state-dir /s connect --acquire '--user=%r' -- '%n'\n"), "{text}");
    }
}
