//! What the pages show of a session is what the program says: the commands run on the fake scheduler, and what differs from run to run
//! (ids, times, ports, names of this machine) gets a fixed value of the same width.

use crate::block;
use crate::site::Site;

/// What is done before, and not shown.
const BEFORE: &str = "fake-slurm conf FirstJobId=4711 UsedPercent=0";

/// The session; what begins with a blank is not shown.
const SESSION: &[&str] = &[
    "slurm-sandbox acquire --slug hello --cpus 16 --mem 2G",
    " sleep 1",
    "slurm-sandbox list",
    "slurm-sandbox list --stats",
    "COLUMNS=40 slurm-sandbox list",
    "slurm-sandbox logs hello | sed '/^== output/,$d'",
    "slurm-sandbox render --command --slug next --cpus 2",
    "slurm-sandbox release hello",
];

#[test]
fn a_session_is_what_the_program_says() {
    let site = Site::new();
    site.ok(BEFORE);
    let mut text = String::new();
    for line in SESSION {
        let output = site.ok(line);
        if !line.starts_with(' ') {
            text.push_str(&format!("$ {line}\n{output}"));
        }
    }
    let home = site.dir.path().join("home").to_string_lossy().into_owned();
    let text = settled(&text.replace(&home, "/home/alice"));
    block("docs/slurm-sandbox.md", "a session", &format!("```console\n{text}```\n"));
}

/// The text with fixed values for what differs.
fn settled(text: &str) -> String {
    let (mut leases, mut settled) = (Vec::new(), String::new());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length.max(first.len_utf8()));
        let follows = |end: &str| settled.ends_with(end);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let hex = word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let (fixed, after) = match word {
            _ if word.len() == 12 && hex => {
                let known = leases.iter().position(|lease| *lease == word).unwrap_or_else(|| {
                    leases.push(word);
                    leases.len() - 1
                });
                (["ba337b47799b", "6dcd4ce23d88"][known.min(1)].to_owned(), after)
            }
            _ if word.len() == 16 && hex => ("9f86d081884c7d65".to_owned(), after),
            _ if word.len() == 8 && hex && follows(":") => ("5e884898".to_owned(), after),
            "localhost" => (if after.starts_with("  ") { "n12      " } else { "n12" }.to_owned(), after),
            _ if digits(word) && (follows("port ") || follows("n12:")) => ("25816".to_owned(), after),
            _ if after.starts_with("@localhost") => ("alice".to_owned(), after),
            _ if digits(word) && after.starts_with('-') && after.as_bytes().get(15) == Some(&b'Z') => {
                ("2026-11-27 10:00:00Z".to_owned(), &after[16..])
            }
            "just" if after.starts_with(" now)") => ("2s ago".to_owned(), &after[4..]),
            // In a table a digit more takes a blank less.
            _ if word.strip_suffix('s').is_some_and(digits) => {
                let in_table = after.starts_with(' ') && !after.starts_with(" ago");
                ("2s".to_owned() + &" ".repeat(if in_table { word.len() - 2 } else { 0 }), after)
            }
            word => (word.to_owned(), after),
        };
        settled.push_str(&fixed);
        rest = after;
    }
    settled
}

#[test]
fn what_differs_gets_a_fixed_value() {
    let text = "lease cbx_0123456789ab root@localhost port 12  12s  30m\ncbx-0123456789ab:00112233445566ff:abcd1234\n\
                2026-11-22 00:42:16Z (just now) answered: localhost:2222\n2026-11-22 00:42:16Z (12s ago)\nlocalhost    2s\n";
    let expected = "lease cbx_ba337b47799b alice@n12 port 25816  2s   30m\ncbx-ba337b47799b:9f86d081884c7d65:5e884898\n\
                    2026-11-27 10:00:00Z (2s ago) answered: n12:25816\n2026-11-27 10:00:00Z (2s ago)\nn12          2s\n";
    assert_eq!(settled(text), expected);
}
