//! render at the command line: a submission as text that a shell can read, or as JSON.

use clap::Args;
use serde_json::{Map, Value, json};

use super::arguments::IdentityFlags;
use super::config_flags::ConfigFlags;
use super::render;
use crate::host::command::quoted;
use crate::operation::acquire::Rendered;

#[derive(Debug, Args)]
pub struct Render {
    #[command(flatten)]
    pub identity: IdentityFlags,

    /// Only the script, to the byte
    #[arg(long, group = "part")]
    pub script: bool,

    /// Only sbatch's command line, quoted for a shell
    #[arg(long, group = "part")]
    pub command: bool,

    /// Only the variables that the job finds beside those passed on, quoted for a shell
    #[arg(long, group = "part")]
    pub env: bool,

    #[command(flatten)]
    pub settings: ConfigFlags,
}

impl Render {
    /// What was asked for of a submission.
    pub fn text(&self, rendered: &Rendered, json: bool) -> Vec<u8> {
        let Rendered { command, environment, script } = rendered;
        let every = !(self.script || self.command || self.env);
        if json {
            let variables: Map<String, Value> =
                environment.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))).collect();
            let parts = [
                (self.command, "command", json!(command)),
                (self.env, "environment", Value::Object(variables)),
                (self.script, "script", json!(String::from_utf8_lossy(script))),
            ];
            let parts = parts.into_iter().filter(|(asked, ..)| every || *asked);
            let parts: Map<String, Value> = parts.map(|(_, name, value)| (name.to_owned(), value)).collect();
            return render::json(&parts).into_bytes();
        }
        let command = format!("{}\n", command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
        let variables: String = environment.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect();
        match self {
            Render { script: true, .. } => script.clone(),
            Render { command: true, .. } => command.into_bytes(),
            Render { env: true, .. } => variables.into_bytes(),
            _ => {
                let mut text = format!("== command\n{command}== environment\n{variables}== script\n").into_bytes();
                text.extend_from_slice(script);
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(script: bool, command: bool, env: bool) -> Render {
        let identity = IdentityFlags { lease_id: None, slug: None, name: None };
        Render { identity, script, command, env, settings: ConfigFlags::default() }
    }

    #[test]
    fn each_part_and_all() {
        let rendered = Rendered {
            command: vec!["sbatch".into(), "--comment=a b".into()],
            environment: vec![("CBX_SLUG", "s".into()), ("CBX_PREAMBLE", "one\ntwo 'x'".into())],
            script: b"#!/bin/sh\n\xff\n".to_vec(),
        };
        let text = |script, command, env, json| flags(script, command, env).text(&rendered, json);
        assert_eq!(text(true, false, false, false), rendered.script);
        assert_eq!(text(false, true, false, false), b"sbatch '--comment=a b'\n");
        assert_eq!(text(false, false, true, false), b"CBX_SLUG=s\nCBX_PREAMBLE='one\ntwo '\\''x'\\'''\n");
        assert!(text(false, false, false, false).ends_with(b"== script\n#!/bin/sh\n\xff\n"));
        assert_eq!(text(false, true, false, true), b"{\"command\":[\"sbatch\",\"--comment=a b\"]}\n");
        let all: Value = serde_json::from_slice(&text(false, false, false, true)).unwrap();
        assert_eq!(all["environment"]["CBX_PREAMBLE"], "one\ntwo 'x'");
    }
}
