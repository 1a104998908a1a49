//! The inputs kept in fuzz/cases: one of each kind to start from, and what the fuzzer once found.

use std::path::Path;

use crate::oracle;

/// A fuzz target: its name and what it feeds.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 8] = [
    ("request", oracle::request),
    ("config", oracle::config),
    ("squeue", oracle::squeue),
    ("sbatch", oracle::sbatch),
    ("sacct", oracle::sacct),
    ("endpoint", oracle::endpoint),
    ("record", oracle::record),
    ("comment", oracle::comment),
];

#[test]
fn kept_inputs_hold() {
    for (name, feed) in TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/cases").join(name);
        let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{name}");
        for path in paths {
            // The name stands in the output of a failure.
            println!("{}", path.display());
            feed(&std::fs::read(&path).unwrap());
        }
    }
}
