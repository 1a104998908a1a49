//! What a machine may read of configuration and wire, as JSON Schema 2020-12: for editors, and for those who write a client.
//!
//! A schema refuses what the program refuses, as far as one can say it, and never what the program takes. The config's is made
//! from the table of its keys, that of the wire from the types which are read and written. docs/schema has them as files.

mod config;
mod pattern;
mod wire;

use clap::ValueEnum;
use serde_json::Value;

/// The documents that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// The configuration: `external.config`, or a file for --config
    Config,
    /// A request of the protocol, as it comes on standard input
    Request,
    /// The answer to a request
    Answer,
    /// What `--json acquire` and `--json resolve` print
    Lease,
    /// What `--json list` prints
    List,
}

impl Document {
    /// Every document, in the order in which people look for them.
    pub const ALL: [Document; 5] =
        [Document::Config, Document::Request, Document::Answer, Document::Lease, Document::List];

    /// The word for it, on the command line and as the name of its file.
    pub fn name(self) -> &'static str {
        match self {
            Document::Config => "config",
            Document::Request => "request",
            Document::Answer => "answer",
            Document::Lease => "lease",
            Document::List => "list",
        }
    }

    /// Its schema.
    pub fn schema(self) -> Value {
        let mut schema = match self {
            Document::Config => config::schema(),
            Document::Request => wire::request(),
            Document::Answer => wire::answer(),
            Document::Lease => wire::lease(),
            Document::List => wire::list(),
        };
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
        schema["title"] = format!("slurm-sandbox {}", self.name()).into();
        schema
    }

    /// The same as text for people and files.
    pub fn text(self) -> String {
        format!("{:#}\n", self.schema())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_one_name() {
        for document in Document::ALL {
            assert_eq!(Document::from_str(document.name(), false), Ok(document));
        }
    }
}
