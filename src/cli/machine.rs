//! What scripts, editors and shells ask of the program itself: nothing here needs a site, and nothing is kept.

use clap::{Command, Subcommand};
use clap_complete::Shell;
use serde_json::{Value, json};

use crate::config::keys::KEYS;
use crate::failure::{Failure, Kind};
use crate::lease::{format, store};
use crate::protocol::{self, Operation};
use crate::schema::Document;
use crate::shared_dir;

/// The verbs that need no state dir and no configuration.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Print the JSON Schema of the configuration, or of what goes over the wire
    Schema {
        /// What to describe
        document: Document,
    },
    /// Print what this version can do, as JSON
    Capabilities,
    /// Print one page on how to work with leases by commands
    Guide,
    /// Print what completes this command line in a shell
    Completions { shell: Shell },
    /// Print the manual page of the program, or of one of its verbs, in roff
    #[command(hide = true)]
    Man { verb: Vec<String> },
}

/// What a verb prints; `command` is the whole command line.
pub fn run(verb: &Verb, command: Command) -> Result<Vec<u8>, Failure> {
    Ok(match verb {
        Verb::Schema { document } => document.text().into_bytes(),
        Verb::Capabilities => format!("{:#}\n", capabilities(&command)).into_bytes(),
        Verb::Guide => include_bytes!("../../docs/guide.md").to_vec(),
        Verb::Completions { shell } => completions(*shell, command),
        Verb::Man { verb } => manual(verb, command)?,
    })
}

/// What this program can do beside the seven operations, as words that stay: a client looks for them before it relies on them.
const FEATURES: &[&str] = &[
    // The same identity again finds the same lease.
    "idempotent-lease-id",
    // resolve with `releaseOnly` asks nobody.
    "release-only",
    // A lease behind a login host: `submitHost`.
    "submit-host",
    // Leases without a listener: `sshMode` is `stdio`.
    "stdio",
    "doctor-live",
    "doctor-max-age",
    // The user's own command for a lease whose job has ended by itself.
    "on-lost",
    // Jobs that are ready before a lease is asked for: `spares`, and the verb `pool`.
    "spares",
];

/// What this program is and can do.
fn capabilities(command: &Command) -> Value {
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(Command::get_name);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "contract": protocol::VERSION,
        "recordFormats": (1..=format::NEWEST).collect::<Vec<_>>(),
        "stateDirFormat": store::TREE_FORMAT,
        "sharedDirFormat": shared_dir::TREE_FORMAT,
        "operations": Operation::ALL.map(|(word, _)| word),
        "verbs": verbs.collect::<Vec<_>>(),
        "schemas": Document::ALL.map(Document::name),
        "configKeys": KEYS.iter().map(|key| key.name).collect::<Vec<_>>(),
        "features": FEATURES,
    })
}

/// A script by which a shell completes command lines of this program.
fn completions(shell: Shell, mut command: Command) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "slurm-sandbox", &mut script);
    script
}

/// The manual page of the program or of a verb, in roff.
fn manual(verb: &[String], mut command: Command) -> Result<Vec<u8>, Failure> {
    command.build();
    let mut page = &command;
    for word in verb {
        page = page.find_subcommand(word).ok_or_else(|| {
            Failure::new(Kind::BadRequest, format!("there is no manual page for {}", verb.join(" ")))
                .remedy("`slurm-sandbox --help` lists the verbs")
        })?;
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(page.clone())
        .render(&mut text)
        .map_err(|error| Failure::new(Kind::Internal, "writing a manual page").cause(error.to_string()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::Arguments;
    use clap::CommandFactory;

    #[test]
    fn every_verb_has_a_page_and_completions() {
        let verbs = capabilities(&Arguments::command())["verbs"].as_array().unwrap().clone();
        assert!(verbs.len() > 10);
        let script = String::from_utf8(completions(Shell::Bash, Arguments::command())).unwrap();
        for verb in verbs.iter().filter_map(Value::as_str) {
            let page = String::from_utf8(manual(&[verb.to_owned()], Arguments::command()).unwrap()).unwrap();
            assert!(page.contains(&format!(".TH slurm-sandbox-{verb} 1")), "{page}");
            assert!(script.contains(verb), "{verb}");
        }
        assert!(String::from_utf8(manual(&[], Arguments::command()).unwrap()).unwrap().contains(".TH slurm-sandbox 1"));
        assert_eq!(manual(&["nosuch".into()], Arguments::command()).unwrap_err().kind, Kind::BadRequest);
    }

    #[test]
    fn a_feature_is_told_once() {
        let all: std::collections::BTreeSet<_> = FEATURES.iter().collect();
        assert_eq!(all.len(), FEATURES.len());
    }
}
