//! Logs in to leases as the client does, with ssh's own tools and the client's options (docs/facts/client.md, "ssh command line").

use std::time::Duration;

use serde_json::Value;

use super::process::{Output, quoted};
use super::site::Site;

/// A lease object's way in.
#[derive(Debug, Clone)]
pub struct Login {
    pub target: String,
    pub port: String,
    pub key: String,
    /// Options for ssh, scp, sftp and rsync's `-e`, without the port.
    options: String,
}

impl Login {
    #[track_caller]
    pub fn of(lease: &Value) -> Login {
        let ssh = &lease["ssh"];
        let text = |name: &str| ssh[name].as_str().unwrap_or_else(|| panic!("no ssh.{name}: {lease}")).to_owned();
        let key = text("key");
        let known_hosts = format!("{}/known_hosts", key.rsplit_once('/').expect("an absolute path").0);
        // Strict where the client trusts on first use: it must find the key pinned, not learn it.
        let mut options = format!(
            "-i {key} -o IdentitiesOnly=yes -o ForwardAgent=no -o BatchMode=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=yes \
             -o UserKnownHostsFile={known_hosts} -o ControlMaster=no -o LogLevel=ERROR"
        );
        if let Some(proxy) = ssh["proxyCommand"].as_str() {
            options += &format!(" -o {}", quoted(&format!("ProxyCommand={proxy}")));
        }
        Login { target: format!("{}@{}", text("user"), text("host")), port: text("port"), key, options }
    }

    /// The command line of ssh for a remote command.
    pub fn line(&self, command: &str) -> String {
        format!("ssh {} -p {} {} {}", self.options, self.port, self.target, quoted(command))
    }

    /// Runs a command in the lease.
    #[track_caller]
    pub fn ssh(&self, site: &Site, command: &str) -> Output {
        site.client_with(&self.line(command), Vec::new(), Duration::from_secs(60))
    }

    /// Moves a file there and back with every tool, and compares; nothing but the files may be seen.
    #[track_caller]
    pub fn transfer(&self, site: &Site) {
        let (dir, far) = (format!("{}/transfer", site.root), format!("{}/far", site.root));
        let Login { target, port, options, .. } = self;
        let ways = [
            (
                "sftp",
                format!(
                    "printf 'put {dir}/a {far}/sftp\\nget {far}/sftp {dir}/sftp\\n' | sftp -q -b - {options} -P {port} {target} >/dev/null"
                ),
            ),
            (
                "scp",
                format!(
                    "scp -q {options} -P {port} {dir}/a {target}:{far}/scp && scp -q {options} -P {port} {target}:{far}/scp {dir}/scp"
                ),
            ),
            (
                "scp-O",
                // The old protocol, which an scp without that option speaks by itself.
                format!(
                    "case $(scp -O 2>&1) in *'unknown option'*) O=;; *) O=-O;; esac; \
                     scp -q $O {options} -P {port} {dir}/a {target}:{far}/scp-O && scp -q $O {options} -P {port} {target}:{far}/scp-O {dir}/scp-O"
                ),
            ),
            (
                "rsync",
                format!(
                    "rsync -az -e \"ssh {options} -p {port}\" {dir}/a {target}:{far}/rsync && rsync -az -e \"ssh {options} -p {port}\" {target}:{far}/rsync {dir}/rsync"
                ),
            ),
        ];
        site.everywhere(&format!("mkdir -p {dir} {far}"));
        let sum = site.client(&format!("head -c 300000 /dev/urandom > {dir}/a; sha256sum <{dir}/a")).ok().to_owned();
        for (name, line) in ways {
            let output = site.client(&format!("{line} && cmp {dir}/a {dir}/{name}"));
            assert_eq!(
                (output.code, output.stdout.as_str(), output.stderr.as_str()),
                (0, "", ""),
                "{name} to {target}"
            );
            assert_eq!(site.shell(&format!("sha256sum <{far}/{name}")).ok(), sum, "{name} to {target}");
        }
        site.everywhere(&format!("rm -r {dir} {far}"));
    }
}
