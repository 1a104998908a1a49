//! Config files and limits.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value};
use slurm_sandbox::config::layers::{Origin, Role, merge, parse};

use crate::check;

const ROLES: &[Role] = &[Role::Admin, Role::User, Role::Named];

/// Pieces of which some texts are files.
const PIECES: &[&str] = &[
    "[defaults]\n",
    "[profiles.a]\n",
    "[limits]\n",
    "[[message]]\n",
    "cpus = 4\n",
    "mem = \"4G\"\n",
    "timeLimit = 02:00:00\n",
    "text = \"a\"\n",
    "profile = \"a\"\n",
    "partitions = [\"a\"]\n",
    "= ",
    "\"",
    "[",
    "]",
    "{\"a\": 1}",
    "\u{e9}",
    "\n",
    "#",
];

#[test]
fn any_text_is_a_file_or_has_mistakes_with_its_name() {
    let texts =
        prop_oneof![".{0,200}", proptest::collection::vec(select(PIECES), 0..12).prop_map(|pieces| pieces.concat()),];
    check(2000, (texts, select(ROLES)), |(text, role)| match parse("the-file", role, &text) {
        Ok(file) => assert!(role == Role::Admin || file.messages.is_empty()),
        Err(mistakes) => assert!(!mistakes.is_empty() && mistakes.iter().all(|said| said.starts_with("the-file"))),
    });
}

#[test]
fn what_limits_allow_is_left_alone() {
    let sizes =
        || (0..2000_u64, select(&["", "K", "M", "G", "T"][..])).prop_map(|(size, unit)| format!("{size}{unit}"));
    let times =
        || (1..5000_u64, any::<bool>()).prop_map(|(n, colon)| if colon { format!("{n}:30") } else { n.to_string() });
    let gpus = || {
        let counts = (0..9_u64).prop_map(|count| count.to_string());
        prop_oneof![counts, select(&["a100", "a100:4", "a100:1,v100:2", "1g.5gb:3"][..]).prop_map(str::to_owned)]
    };
    let asked = (1..200_u64, sizes(), times(), gpus(), 0..9000_u64);
    let limits = (1..200_u64, sizes(), times(), 0..9_u64, 1..9000_u64);
    check(
        2000,
        (asked, limits),
        |((cpus, mem, time, gpus, idle), (most_cpus, most_mem, most_time, most_gpus, most_idle))| {
            let text = format!(
                "[limits]\ncpus = {most_cpus}\nmem = \"{most_mem}\"\ntimeLimit = \"{most_time}\"\ngpus = {most_gpus}\nidleTimeoutSeconds = {most_idle}\n"
            );
            // A limit of no memory is none.
            let Ok(file) = parse("the-file", Role::Admin, &text) else { return };
            let keys: [(&str, Value); 5] = [
                ("cpus", cpus.into()),
                ("mem", mem.into()),
                ("timeLimit", time.into()),
                ("gpus", gpus.into()),
                ("idleTimeoutSeconds", idle.into()),
            ];
            let request: Map<String, Value> = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            let files = [file];
            let mut merged = merge(&files, &request, &Origin::Request);
            if merged.limit(&files).is_ok() {
                merged.check().unwrap();
                let before = merged.config.clone();
                assert_eq!(merged.limit(&files).unwrap(), []);
                assert_eq!(merged.config, before);
            }
        },
    );
}
