//! What a login host tells of itself and of the cluster's directories: one script, which runs there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::doctor::run::Clock;
use crate::host::Output;
use crate::host::command::quoted;
use crate::host::remote::Login;

const SCRIPT: &str = include_str!("remote.sh");

/// An answer of the script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteFacts(BTreeMap<String, Vec<String>>);

impl RemoteFacts {
    pub fn parse(text: &str) -> RemoteFacts {
        let mut lines = BTreeMap::<String, Vec<String>>::new();
        for (key, value) in text.lines().filter_map(|line| line.split_once('\t')) {
            lines.entry(key.to_owned()).or_default().push(value.trim().to_owned());
        }
        RemoteFacts(lines)
    }

    /// What a script told that says `done` last; `None` where it did not come to its end.
    pub fn whole(output: &Output) -> Option<RemoteFacts> {
        Some(RemoteFacts::parse(&output.stdout_text())).filter(|facts| facts.get("done").is_some())
    }

    pub fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).first().map(String::as_str)
    }

    /// The path of a command that was found.
    pub fn command(&self, name: &str) -> Option<&str> {
        let paths = self.all("command").iter().map(String::as_str);
        paths.into_iter().find(|path| Path::new(path).file_name().is_some_and(|file| file == name))
    }
}

/// Runs a part of the script in a session.
pub fn ask(login: &Arc<Login>, clock: Clock, text: &[&str]) -> Result<RemoteFacts, String> {
    let text: Vec<_> = text.iter().map(|word| quoted(word)).collect();
    let output = login.script(&format!("set -- {}\n{SCRIPT}", text.join(" ")), &[], clock.left());
    let output = output.map_err(|error| error.to_string())?;
    if output.stdout.is_empty() { Err(output.said()) } else { Ok(RemoteFacts::parse(&output.stdout_text())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_taken_apart() {
        let facts =
            RemoteFacts::parse("noise\npath\t/usr/bin:/bin\ncommand\t/opt/slurm/bin/sbatch\ncommand\t/usr/bin/srun\n");
        assert_eq!(facts.get("path"), Some("/usr/bin:/bin"));
        assert_eq!(facts.command("srun"), Some("/usr/bin/srun"));
        assert_eq!(facts.command("squeue"), None);
    }
}
