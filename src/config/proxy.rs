//! How a client outside reaches the endpoint: directly, or through a proxy command.
//!
//! A proxy command is run by a shell on the client, so its template comes from the request's config alone and every
//! value put into it is checked for its own syntax first. It holds no single quotes: the client's quoting for
//! `rsync -e` cannot carry them (docs/facts/client.md, "Proxy commands").

use std::collections::BTreeMap;

use super::login_host::{self, LoginHost, is_ssh_host};
use super::value::{Reader, USER_NAME, escaped, is_line, is_user_name};

/// The placeholders of a proxy template, as in the reference adapter, and `{user}`.
pub const PLACEHOLDERS: &[&str] =
    &["host", "port", "user", "loginHost", "loginUser", "leaseId", "slug", "name", "jobId"];

/// Each further host doubles the quoting of those before it in a proxy command.
const MOST_HOPS: usize = 4;

/// How the client connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    Direct,
    /// Run by the client's ssh; placeholders are still to be filled.
    Proxy {
        template: String,
        login_host: String,
        login_user: String,
    },
    /// The client's ssh runs our own `connect`.
    Connect(Route),
}

/// The way that `connect` takes; a lease remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Forwarded by the last of these hosts, each reached through the one before.
    Login { hops: Vec<String> },
    /// A session of its own in the job, started by srun where Slurm's commands run: nothing listens.
    Stdio,
}

/// Reads `sshMode`, `loginHost`, `loginUser` and `proxyCommand`. From a client outside, nodes can rarely be reached, so
/// with a `submitHost` the way through it is the default.
pub fn read(reader: &mut Reader<'_>, submit: Option<&LoginHost>) -> Connection {
    let mode = reader.text("sshMode", "\"direct\", \"proxy-through-login\" or \"stdio\"", |text| {
        matches!(text, "direct" | "proxy-through-login" | "stdio")
    });
    let allowed = "a host name, address or ssh alias of letters, digits and ._:-, or up to 4 apart by commas";
    let login_host = login_host::hosts(reader, "loginHost", "loginUser", allowed, |text| {
        text.split(',').count() <= MOST_HOPS && text.split(',').all(is_ssh_host)
    });
    let login_host = login_host.unwrap_or_default();
    let login_user = reader.text("loginUser", USER_NAME, is_user_name).unwrap_or_default();
    let command = reader
        .text("proxyCommand", "one line without single quotes", |text| is_line(text, 4096) && !text.contains('\''));
    let stdio = mode.as_deref() == Some("stdio");
    let through_login = match mode.as_deref() {
        Some(mode) => mode == "proxy-through-login",
        None => submit.is_some(),
    };
    let named = reader.raw("loginHost").is_some();
    if through_login && !named && command.is_none() && submit.is_none() {
        reader.complain_of(
            &["sshMode", "loginHost"],
            "config key \"sshMode\" is \"proxy-through-login\", which needs \"loginHost\"",
        );
    }
    if stdio && command.is_some() {
        reader.complain_of(
            &["proxyCommand", "sshMode"],
            "config key \"proxyCommand\" cannot be used with \"sshMode\" \"stdio\", which has its own",
        );
    }
    if stdio {
        return Connection::Connect(Route::Stdio);
    }
    if let Some(template) = command {
        let unknown: Vec<_> =
            placeholders(&template).into_iter().filter(|name| !PLACEHOLDERS.contains(&name.as_str())).collect();
        if !unknown.is_empty() {
            let (unknown, allowed) = (unknown.join("} {"), PLACEHOLDERS.join("} {"));
            reader.complain_of(
                &["proxyCommand"],
                format!(
                    "config key \"proxyCommand\" has unknown placeholders {{{unknown}}}; allowed are {{{allowed}}}"
                ),
            );
        }
        if login_host.contains(',') && placeholders(&template).iter().any(|used| used == "loginHost") {
            reader.complain_of(
                &["proxyCommand", "loginHost"],
                "config key \"proxyCommand\" uses {loginHost}, but \"loginHost\" names several hosts",
            );
        }
        for (name, value) in [("loginHost", &login_host), ("loginUser", &login_user)] {
            if placeholders(&template).iter().any(|used| used == name) && value.is_empty() {
                reader.complain_of(
                    &["proxyCommand", name],
                    format!("config key \"proxyCommand\" uses {{{name}}}, but \"{name}\" is not set"),
                );
            }
        }
        return Connection::Proxy { template, login_host, login_user };
    }
    if !through_login {
        return Connection::Direct;
    }
    let as_user = |host: &str| {
        if login_user.is_empty() { host.to_owned() } else { format!("{login_user}@{host}") }
    };
    let mut hops: Vec<String> = login_host.split(',').filter(|host| !host.is_empty()).map(as_user).collect();
    if let Some(submit) = submit {
        // The same host under its plain name goes through the connection that is there anyway.
        match hops.first_mut() {
            None => hops.push(submit.destination()),
            Some(first) if *first == submit.host => *first = submit.destination(),
            Some(_) => {}
        }
        return Connection::Connect(Route::Login { hops });
    }
    let template = match hops.as_slice() {
        [_] if login_user.is_empty() => forwarding(&["{loginHost}".to_owned()]),
        [_] => forwarding(&["{loginUser}@{loginHost}".to_owned()]),
        _ => forwarding(&hops.iter().map(|hop| escaped(hop)).collect::<Vec<_>>()),
    };
    Connection::Proxy { template, login_host, login_user }
}

/// The command that connects to `%h:%p` through these hosts. Each ssh gets its own options: without BatchMode it could
/// ask for a password in the middle of a sync, without a time limit it could hang longer than the client waits.
fn forwarding(hops: &[String]) -> String {
    let Some((last, before)) = hops.split_last() else { return String::new() };
    let options = "-o BatchMode=yes -o ConnectTimeout=10";
    if before.is_empty() {
        return format!("ssh {options} -W %h:%p {last}");
    }
    let inner = forwarding(before).replace('%', "%%").replace('\\', "\\\\").replace('"', "\\\"");
    format!("ssh {options} -o \"ProxyCommand={inner}\" -W %h:%p {last}")
}

impl Connection {
    /// Whether the proxy command has a placeholder of this name, by which it gets a value of the lease or of the config.
    pub fn uses(&self, placeholder: &str) -> bool {
        match self {
            Connection::Proxy { template, .. } => placeholders(template).iter().any(|used| used == placeholder),
            Connection::Direct | Connection::Connect(_) => false,
        }
    }

    /// The proxy command for one endpoint, or `None` for a direct connection. `values` has all placeholders but
    /// those of the login host.
    pub fn proxy_command(&self, values: &BTreeMap<&str, String>) -> Option<String> {
        let Connection::Proxy { template, login_host, login_user } = self else {
            // A direct one needs none, our own `connect` has no placeholders.
            return None;
        };
        let mut text = String::with_capacity(template.len());
        let mut rest = template.as_str();
        while let Some((start, end)) = next_placeholder(rest) {
            let name = &rest[start + 1..end];
            text.push_str(&rest[..start]);
            match name {
                "loginHost" => text.push_str(login_host),
                "loginUser" => text.push_str(&escaped(login_user)),
                "user" => text.push_str(&escaped(values.get(name).map_or("", String::as_str))),
                _ => text.push_str(values.get(name).map_or("", String::as_str)),
            }
            rest = &rest[end + 1..];
        }
        text.push_str(rest);
        Some(text)
    }
}

fn placeholders(template: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some((start, end)) = next_placeholder(rest) {
        names.push(rest[start + 1..end].to_owned());
        rest = &rest[end + 1..];
    }
    names
}

/// The next `{word}`; `${WORD}` is the shell's and passes.
fn next_placeholder(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = text[from..].find('{') {
        let start = from + at;
        if let Some(length) = text[start..].find('}') {
            let end = start + length;
            let word = &text[start + 1..end];
            let shell = text[..start].ends_with('$');
            if !shell && !word.is_empty() && word.chars().all(|c| c.is_ascii_alphabetic()) {
                return Some((start, end));
            }
        }
        from = start + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn connection(value: &Value) -> Result<Connection, Vec<String>> {
        let mut reader = Reader::new(value.as_object().unwrap());
        let submit = super::super::login_host::read(&mut reader);
        let connection = read(&mut reader, submit.as_ref());
        let complaints = reader.finish();
        if complaints.is_empty() { Ok(connection) } else { Err(complaints) }
    }

    fn rendered(value: &Value) -> Option<String> {
        let values = [("host", "n1"), ("port", "4022"), ("user", "alice"), ("jobId", "12;annex"), ("slug", "smoke")];
        connection(value).unwrap().proxy_command(&values.iter().map(|(k, v)| (*k, (*v).to_owned())).collect())
    }

    #[rstest]
    #[case(json!({}), None)]
    #[case(json!({"sshMode": "direct"}), None)]
    #[case(json!({"sshMode": "proxy-through-login", "loginHost": "login.example"}), Some("ssh -o BatchMode=yes -o ConnectTimeout=10 -W %h:%p login.example"))]
    #[case(json!({"sshMode": "proxy-through-login", "loginHost": "login", "loginUser": "bob"}), Some("ssh -o BatchMode=yes -o ConnectTimeout=10 -W %h:%p bob@login"))]
    #[case(json!({"sshMode": "proxy-through-login", "loginHost": "a,b"}), Some("ssh -o BatchMode=yes -o ConnectTimeout=10 -o \"ProxyCommand=ssh -o BatchMode=yes -o ConnectTimeout=10 -W %%h:%%p a\" -W %h:%p b"))]
    #[case(json!({"sshMode": "direct", "submitHost": "login"}), None)]
    #[case(json!({"proxyCommand": "jump {host} {port} {user} {slug} ${HOME} {} {a b}"}), Some("jump n1 4022 alice smoke ${HOME} {} {a b}"))]
    fn proxy_commands(#[case] value: Value, #[case] expected: Option<&str>) {
        assert_eq!(rendered(&value).as_deref(), expected);
    }

    #[rstest]
    #[case(json!({"submitHost": "login"}), &["login"])]
    #[case(json!({"submitHost": "login", "submitUser": "alice", "loginHost": "login,gw"}), &["alice@login", "gw"])]
    #[case(json!({"submitHost": "login", "loginHost": "gw", "loginUser": "bob"}), &["bob@gw"])]
    fn routes(#[case] value: Value, #[case] hops: &[&str]) {
        let hops = hops.iter().map(|hop| (*hop).to_owned()).collect();
        assert_eq!(connection(&value), Ok(Connection::Connect(Route::Login { hops })));
    }

    #[rstest]
    #[case(json!({"sshMode": "stdio", "proxyCommand": "x"}), "cannot be used with \"sshMode\"")]
    #[case(json!({"proxyCommand": "ssh {loginHost}", "loginHost": "a,b"}), "names several hosts")]
    #[case(json!({"sshMode": "proxy-through-login", "loginHost": "a,b,c,d,e"}), "up to 4")]
    #[case(json!({"submitUser": "alice"}), "\"submitHost\", which is not set")]
    #[case(json!({"submitHost": "login", "requireExistingMaster": 3}), "true or false")]
    #[case(json!({"submitHost": "-oProxyCommand=x"}), "\"submitHost\"")]
    #[case(json!({"sshMode": "proxy-through-login"}), "needs \"loginHost\"")]
    #[case(json!({"sshMode": "tunnel"}), "\"sshMode\" is \"tunnel\"")]
    #[case(json!({"loginHost": "gw,bob@login:22"}), "write \"login\" for \"bob@login:22\", set loginUser to \"bob\"")]
    #[case(json!({"loginHost": "a;b"}), "\"loginHost\"")]
    #[case(json!({"loginHost": "-oProxyCommand=x"}), "\"loginHost\"")]
    #[case(json!({"loginHost": "login$(touch x)"}), "\"loginHost\"")]
    #[case(json!({"proxyCommand": "ssh 'a'"}), "single quotes")]
    #[case(json!({"proxyCommand": "ssh {hots}"}), "unknown placeholders {hots}")]
    #[case(json!({"proxyCommand": "ssh {loginHost}"}), "\"loginHost\" is not set")]
    fn complaints(#[case] value: Value, #[case] expected: &str) {
        let complaints = connection(&value).unwrap_err();
        assert!(complaints.iter().any(|text| text.contains(expected)), "{complaints:?}");
    }
}
