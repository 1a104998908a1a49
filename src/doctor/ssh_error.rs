//! What ssh's words for a failed login mean, and what to do about each.

use crate::doctor::finding::Category;
use crate::host::remote::LoginError;

/// How a login was tried, for a remedy that can be typed in.
#[derive(Debug, Clone)]
pub struct Way {
    /// The host alone, as known_hosts names it.
    pub host: String,
    /// The command that logs in by hand.
    pub ssh: String,
    /// The config keys that name the host and its user.
    pub keys: (&'static str, &'static str),
    /// What to do where each login needs its user.
    pub by_user: String,
}

/// Texts, the kind of trouble each means, and what to do; the first that fits counts.
const TROUBLES: &[(&[&str], Category, &str)] = &[
    (
        &["IDENTIFICATION HAS CHANGED", "Host key for"],
        Category::Auth,
        "its host key is not the one you know: ask the site whether it changed, then `ssh-keygen -R {host}` and log in once by hand with `{ssh}`",
    ),
    (
        &["Host key verification failed", "host key is known"],
        Category::Auth,
        "its host key is not known here: log in once by hand with `{ssh}`, compare the fingerprint with the site's, and accept it",
    ),
    (
        &["Too many authentication failures"],
        Category::Auth,
        "the agent offers too many keys: name the right one with IdentityFile and IdentitiesOnly yes for {host} in ~/.ssh/config",
    ),
    (
        &["Permission denied", "no mutual signature", "Authentication failed", "No more authentication methods"],
        Category::Auth,
        "make `{ssh-batch} true` work: a key in an agent (`ssh-add`) or in ~/.ssh that {host} accepts; {by-user}; or correct {user}",
    ),
    (
        &["Could not resolve hostname", "Name or service not known", "Temporary failure in name resolution"],
        Category::Network,
        "correct {key}: this host's name service does not know it; or connect to the site's network (VPN)",
    ),
    (&["timed out"], Category::Timeout, "it does not answer: correct {key}, or connect to the site's network (VPN)"),
    (&["requested session", "Session open refused"], Category::Provider, NO_MORE_SESSIONS),
    (
        &["Connection refused"],
        Category::Network,
        "nobody listens there: correct {key} (and its Port in ~/.ssh/config), or wait until its sshd is back",
    ),
    (
        &["No route to host", "Network is unreachable", "Connection closed", "Connection reset", "kex_exchange"],
        Category::Network,
        "it cannot be reached, or turns connections away: correct {key} (and its Port in ~/.ssh/config), connect to the site's network (VPN), or try \
         again in some minutes",
    ),
    (
        &["Bad configuration option", "user config file", "Bad owner or permissions", "terminating,"],
        Category::Config,
        "correct the ssh configuration: `{ssh} true` says the same",
    ),
    (&["too long for Unix domain socket", "cannot bind to path"], Category::Config, SOCKET_PATH),
];

const NO_MORE_SESSIONS: &str = "sshd there allows only so many sessions on one connection (MaxSessions): end other calls and sessions and try again, or ask \
                                its admins for MaxSessions 10, the default; without controlPath and requireExistingMaster further connections are made by themselves";
const SOCKET_PATH: &str =
    "set controlPath to a path of at most 90 characters in a directory of your own with mode 0700";
const BY_HAND: &str = "try `{ssh-batch} true` by hand";

/// The kind of trouble that a text of ssh's means, and what to do.
pub fn meaning(said: &str, way: &Way) -> (Category, String) {
    known_or(said, (Category::Network, BY_HAND), way)
}

/// The same of a login host: what ssh said of it, else what became of the attempt.
pub fn refusal(error: &LoginError, way: &Way) -> (Category, String) {
    let otherwise = match error {
        LoginError::NoPlace(_) => (Category::Config, SOCKET_PATH),
        LoginError::NoSsh(_) => (Category::Tool, "install OpenSSH's client, and put it on PATH"),
        LoginError::Full(_) => (Category::Provider, NO_MORE_SESSIONS),
        LoginError::Silent(_) => (
            Category::Timeout,
            "log in by hand with `{ssh}` to see what it waits for: a passphrase, a second factor, a slow directory service",
        ),
        LoginError::Lost(_) => (
            Category::Auth,
            "it lets you in, but runs no command: `{ssh-batch} bash -lc true` must work; does ~/.bash_profile there end it, is the account expired, limited to a command, or without bash?",
        ),
        LoginError::NotOpen { .. }
        | LoginError::Unreachable(_)
        | LoginError::Refused(_)
        | LoginError::OtherAccount(_) => (Category::Network, BY_HAND),
    };
    known_or(&error.to_string(), otherwise, way)
}

fn known_or(said: &str, otherwise: (Category, &'static str), way: &Way) -> (Category, String) {
    let trouble = TROUBLES.iter().find(|(texts, ..)| texts.iter().any(|known| said.contains(known)));
    let (category, remedy) = trouble.map_or(otherwise, |(_, category, remedy)| (*category, *remedy));
    let batch = way.ssh.replacen("ssh", "ssh -o BatchMode=yes", 1);
    let remedy = remedy
        .replace("{ssh-batch}", &batch)
        .replace("{ssh}", &way.ssh)
        .replace("{host}", &way.host)
        .replace("{key}", way.keys.0)
        .replace("{user}", way.keys.1)
        .replace("{by-user}", &way.by_user);
    (category, remedy)
}

/// sshd's refusals of a forwarding; a port that nobody listens on is none.
pub fn is_prohibited(text: &str) -> bool {
    text.contains("administratively prohibited") || text.contains("forwarding disabled")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "No ED25519 host key is known for login / Host key verification failed.",
        Category::Auth,
        "log in once by hand with `ssh -F /c alice@login`"
    )]
    #[case(
        "Host key for login has changed and you have requested strict checking. / Host key verification failed.",
        Category::Auth,
        "`ssh-keygen -R login`"
    )]
    #[case(
        "alice@login: Permission denied (publickey).",
        Category::Auth,
        "`ssh -o BatchMode=yes -F /c alice@login true`"
    )]
    #[case("Permission denied (publickey,keyboard-interactive).", Category::Auth, "open it yourself")]
    #[case(
        "Received disconnect from 192.0.2.2 port 22:2: Too many authentication failures",
        Category::Auth,
        "IdentitiesOnly"
    )]
    #[case(
        "login refused the login 3 s ago, the next try is in 5 s: Permission denied (publickey).",
        Category::Auth,
        "ssh-add"
    )]
    #[case(
        "ssh: Could not resolve hostname nosuch: Name or service not known",
        Category::Network,
        "correct submitHost"
    )]
    #[case("ssh: connect to host login port 22: Connection refused", Category::Network, "nobody listens")]
    #[case("ssh: connect to host login port 22: Operation timed out", Category::Timeout, "VPN")]
    #[case("Connection timed out during banner exchange", Category::Timeout, "VPN")]
    #[case("kex_exchange_identification: Connection closed by remote host", Category::Network, "in some minutes")]
    #[case(
        "mux_client_request_session: session request failed: Session open refused by peer",
        Category::Provider,
        "MaxSessions"
    )]
    #[case("/c: line 3: Bad configuration option: hots", Category::Config, "ssh configuration")]
    #[case("unix_listener: path \"/x\" too long for Unix domain socket", Category::Config, "controlPath")]
    #[case("gibberish", Category::Network, "by hand")]
    fn words_of_ssh(#[case] said: &str, #[case] category: Category, #[case] remedy: &str) {
        let (kind, text) = meaning(said, &way());
        assert!(kind == category && text.contains(remedy), "{kind:?} {text}");
        assert!(!text.contains('{'), "{text}");
    }

    fn way() -> Way {
        Way {
            host: "login".into(),
            ssh: "ssh -F /c alice@login".into(),
            keys: ("submitHost", "submitUser"),
            by_user: "open it yourself".into(),
        }
    }

    #[rstest]
    #[case(LoginError::NoPlace, "x", Category::Config, "controlPath")]
    #[case(LoginError::NoSsh, "x", Category::Tool, "OpenSSH")]
    #[case(LoginError::Full, "x", Category::Provider, "MaxSessions")]
    #[case(LoginError::Silent, "x", Category::Timeout, "second factor")]
    #[case(LoginError::Silent, "Connection timed out during banner exchange", Category::Timeout, "VPN")]
    #[case(LoginError::Lost, "This account is currently not available.", Category::Auth, "bash -lc true")]
    #[case(LoginError::Lost, "Connection closed by 192.0.2.1", Category::Network, "in some minutes")]
    #[case(LoginError::Refused, "Permission denied (publickey).", Category::Auth, "ssh-add")]
    #[case(LoginError::Unreachable, "x", Category::Network, "by hand")]
    fn what_became_of_a_login(
        #[case] error: fn(String) -> LoginError,
        #[case] said: &str,
        #[case] category: Category,
        #[case] remedy: &str,
    ) {
        let (kind, text) = refusal(&error(said.to_owned()), &way());
        assert!(kind == category && text.contains(remedy), "{kind:?} {text}");
    }

    #[rstest]
    #[case("channel 0: open failed: administratively prohibited: open failed\nstdio forwarding failed\n", true)]
    #[case("channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed\n", false)]
    #[case("", false)]
    fn forwarding(#[case] text: &str, #[case] prohibited: bool) {
        assert_eq!(is_prohibited(text), prohibited);
    }
}
