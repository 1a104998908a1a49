//! Flags for what people ask for most, and one for every other config key. They stand for the keys of a request.

use clap::Args;
use serde_json::{Map, Value};

use crate::failure::{Failure, Kind};

/// Settings of one call.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct ConfigFlags {
    /// The settings of [profiles.NAME] in the config files
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,

    /// Partition
    #[arg(long, value_name = "NAME")]
    pub partition: Option<String>,

    /// Account that pays
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,

    /// Quality of service
    #[arg(long, value_name = "NAME")]
    pub qos: Option<String>,

    /// CPUs
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,

    /// Memory of each node, such as 16G
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<String>,

    /// GPUs, such as 1 or a100:2
    #[arg(long, value_name = "[TYPE:]N")]
    pub gpus: Option<String>,

    /// Time limit of the job, such as 02:00:00
    #[arg(long, value_name = "TIME")]
    pub time: Option<String>,

    /// Nodes by name
    #[arg(long, value_name = "NODES")]
    pub nodelist: Option<String>,

    /// Features that nodes must have
    #[arg(long, value_name = "FEATURES")]
    pub constraint: Option<String>,

    /// Any config key, also several times; a JSON array where a list is meant, nothing after = to take back what a file says
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    pub assignments: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is expected".to_owned()),
    }
}

impl ConfigFlags {
    /// The config keys of the flags that were given.
    ///
    /// # Errors
    /// When one key is given twice.
    pub fn config(&self) -> Result<Map<String, Value>, Failure> {
        let flags = [
            ("profile", &self.profile),
            ("partition", &self.partition),
            ("account", &self.account),
            ("qos", &self.qos),
            ("cpus", &self.cpus),
            ("mem", &self.mem),
            ("gpus", &self.gpus),
            ("timeLimit", &self.time),
            ("nodelist", &self.nodelist),
            ("constraint", &self.constraint),
        ];
        let flags = flags.into_iter().filter_map(|(key, value)| Some((key, Value::from(value.as_deref()?))));
        let set = self.assignments.iter().map(|(key, text)| (key.as_str(), value(text)));
        let mut config = Map::new();
        for (key, value) in flags.chain(set) {
            if config.insert(key.to_owned(), value).is_some() {
                let what = format!("the config key {key:?} is given twice on the command line");
                return Err(Failure::new(Kind::BadConfig, what).remedy("give it once"));
            }
        }
        Ok(config)
    }
}

/// Keys take numbers and truth values as text too; only a list needs a form of its own.
fn value(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(list @ Value::Array(_)) => list,
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use rstest::rstest;
    use serde_json::json;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: ConfigFlags,
    }

    fn parsed(words: &[&str]) -> Result<Map<String, Value>, String> {
        let line = Line::try_parse_from([&["x"], words].concat()).map_err(|error| error.to_string())?;
        line.flags.config().map_err(|failure| failure.to_string())
    }

    #[rstest]
    #[case(&[], json!({}))]
    #[case(&["--profile", "gpu", "--cpus=4", "--time", "1:30"], json!({"profile": "gpu", "cpus": "4", "timeLimit": "1:30"}))]
    #[case(&["--partition=a", "--account=b", "--qos=c", "--mem=4G", "--gpus=a100:2", "--nodelist=n[1-2]", "--constraint=x&y"],
           json!({"partition": "a", "account": "b", "qos": "c", "mem": "4G", "gpus": "a100:2", "nodelist": "n[1-2]", "constraint": "x&y"}))]
    #[case(&["--set", "sshMode=stdio", "--set", "readyCheck=test a = a"], json!({"sshMode": "stdio", "readyCheck": "test a = a"}))]
    #[case(&["--set", "extraSbatchArgs=[\"--ntasks=1\"]"], json!({"extraSbatchArgs": ["--ntasks=1"]}))]
    #[case(&["--set", "nodelist=[a"], json!({"nodelist": "[a"}))]
    #[case(&["--set", "gres=", "--qos="], json!({"gres": "", "qos": ""}))]
    fn flags_are_keys(#[case] words: &[&str], #[case] expected: Value) {
        assert_eq!(parsed(words).map(Value::from), Ok(expected));
    }

    #[rstest]
    #[case(&["--set", "cpus"], "KEY=VALUE")]
    #[case(&["--set", "=4"], "KEY=VALUE")]
    #[case(&["--cpus=4", "--set", "cpus=8"], "\"cpus\"")]
    #[case(&["--set", "tmp=1G", "--set", "tmp=2G"], "\"tmp\"")]
    fn flags_that_cannot_be(#[case] words: &[&str], #[case] expected: &str) {
        let error = parsed(words).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
