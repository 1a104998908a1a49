//! logs at the command line: what there is, or what comes.

use anyhow::Result;

use super::stream::Stream;
use super::{Outcome, arguments, render};
use crate::clock::epoch;
use crate::operation::context::Options;
use crate::operation::logs::{self, Addition, Follow};
use crate::screen::Screen;

/// Carries out a logs.
pub fn run(options: &Options, flags: &arguments::Logs, json: bool) -> Result<Outcome> {
    if flags.follow {
        let mut follow = Follow::new(options, &flags.lease)?;
        let pieces = std::iter::from_fn(move || follow.next_addition()).map(move |addition| {
            let text = match json {
                true => lines(&addition),
                false => render::addition(&addition, epoch(), &Screen::stdout()),
            };
            Ok(text.into_bytes())
        });
        return Ok(Outcome { stream: Some(Stream::new(pieces)), ..Outcome::default() });
    }
    let found = logs::run(options, &flags.lease)?;
    let text = if json { render::json(&found) } else { render::logs(&found, epoch(), &Screen::stdout()) };
    Ok(Outcome { stdout: text.into_bytes(), ..Outcome::default() })
}

/// A line of JSON for each event, each text and the end.
fn lines(addition: &Addition) -> String {
    let events = addition.events.iter().map(render::json);
    let texts = addition.texts.iter().map(render::json);
    let end = addition.end.iter().map(|why| render::json(&serde_json::json!({"end": why})));
    events.chain(texts).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::logs::{Event, Text};

    #[test]
    fn each_addition_is_a_line_of_json() {
        let addition = Addition {
            events: vec![Event { at: 7, event: "submitted".into(), detail: "12".into() }],
            texts: vec![Text { file: "sshd.log".into(), text: "a\nb\n".into() }],
            end: Some("gone".into()),
        };
        let expected = "{\"at\":7,\"event\":\"submitted\",\"detail\":\"12\"}\n\
            {\"file\":\"sshd.log\",\"text\":\"a\\nb\\n\"}\n{\"end\":\"gone\"}\n";
        assert_eq!(lines(&addition), expected);
    }
}
