//! How a client reaches a lease: user, host, port, key, and the proxy command where one is needed.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::Settings;
use crate::config::proxy::{Connection, Route};
use crate::config::value::is_safe_path;
use crate::host::Host;
use crate::lease::record::Record;
use crate::protocol::Ssh;

/// How to reach a lease with a pinned endpoint. User, proxy and ready check come from the request's configuration.
pub fn of_lease(record: &Record, settings: &Settings) -> Option<Ssh> {
    let endpoint = record.endpoint.as_ref()?;
    let user = settings.ssh_user.clone().or_else(|| record.user.clone()).or_else(|| Host::Here.user().ok()?.name)?;
    let values: BTreeMap<&str, String> = [
        ("host", endpoint.host.clone()),
        ("port", endpoint.port.to_string()),
        ("user", user.clone()),
        ("leaseId", record.lease_id().to_string()),
        ("slug", record.identity.slug.clone()),
        ("name", quoted_if_needed(&record.identity.name)),
        ("jobId", record.job.as_ref().map(|job| job.id.to_string()).unwrap_or_default()),
    ]
    .into();
    // A config that names no submitHost says nothing of the way to a lease that was made through one: it keeps its own.
    let unsaid = record.submit.is_some() && settings.submit.is_none() && settings.connection == Connection::Direct;
    let proxy_command = match (&record.route, &settings.connection) {
        (Some(Route::Stdio), _) | (_, Connection::Connect(_)) => Some(connect_command(record)?),
        (Some(Route::Login { .. }), _) if unsaid => Some(connect_command(record)?),
        (_, Connection::Direct | Connection::Proxy { .. }) => settings.connection.proxy_command(&values),
    };
    Some(Ssh {
        user,
        host: endpoint.host.clone(),
        key: record.key.to_string_lossy().into_owned(),
        port: endpoint.port.to_string(),
        fallback_ports: [],
        ready_check: settings.ready_check.clone(),
        ssh_config_proxy: proxy_command.is_some(),
        proxy_command,
    })
}

/// Our own proxy command for a lease: this very program, which finds the rest in the state dir. It is read by ssh, which
/// expands `%`, and by a shell, so that it holds plain words alone.
pub fn connect_command(record: &Record) -> Option<String> {
    let program = std::env::current_exe().ok()?;
    // <state-dir>/leases/<leaseId>/<key>, or <state-dir>/pooled/<leaseId>/seat/<key>
    let above = if record.seat.is_some() && !record.is_spare() { 4 } else { 3 };
    let state_dir = record.key.ancestors().nth(above)?;
    let plain = |path: &Path| path.to_str().filter(|text| is_safe_path(text)).map(str::to_owned);
    Some(format!("{} connect --state-dir {} {}", plain(&program)?, plain(state_dir)?, record.lease_id()))
}

/// A name that a shell could take apart stands for itself only without its special characters.
fn quoted_if_needed(name: &str) -> String {
    let text: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    // Nor may it be taken for an option.
    if let Some(rest) = text.strip_prefix('-') { format!("_{rest}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::login_host::LoginHost;
    use crate::lease::record::PinnedEndpoint;
    use crate::lease::record::tests::record;
    use rstest::rstest;
    use serde_json::json;

    /// A session from a laptop needs no config once the lease is made.
    #[rstest]
    #[case::no_config(json!({}), true, true)]
    #[case::straight_to_the_node(json!({"sshMode": "direct", "submitHost": "login"}), true, false)]
    #[case::a_proxy_of_its_own(json!({"proxyCommand": "jump {host}"}), true, false)]
    #[case::made_on_this_host(json!({}), false, false)]
    fn a_lease_keeps_its_way(#[case] config: serde_json::Value, #[case] outside: bool, #[case] expected: bool) {
        let route = Route::Login { hops: vec!["login".into()] };
        let record = Record {
            endpoint: Some(PinnedEndpoint { host: "n1".into(), port: 4022 }),
            route: Some(route),
            key: "/state/leases/cbx_4b38f35d4e31/id_ed25519".into(),
            submit: outside.then(|| LoginHost { host: "login".into(), ..LoginHost::default() }),
            user: Some("alice".into()),
            ..record()
        };
        let settings = crate::config::parse(config.as_object().unwrap()).unwrap();
        let ssh = of_lease(&record, &settings).unwrap();
        assert_eq!(ssh.proxy_command.is_some_and(|command| command.contains(" connect ")), expected);
    }

    #[test]
    fn a_proxy_command_cannot_carry_a_name_into_a_shell() {
        let endpoint = PinnedEndpoint { host: "n1".into(), port: 4022 };
        let mut record = Record { endpoint: Some(endpoint), ..record() };
        record.identity.name = "a $(touch x) b".into();
        let config = json!({"proxyCommand": "jump {name} {host}", "sshUser": "alice"});
        let settings = crate::config::parse(config.as_object().unwrap()).unwrap();
        let ssh = of_lease(&record, &settings).unwrap();
        assert_eq!(ssh.proxy_command.as_deref(), Some("jump a___touch_x__b n1"));
        assert!(ssh.ssh_config_proxy && ssh.fallback_ports.is_empty());
    }
}
