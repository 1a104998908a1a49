//! The logs of a lease for people: an event a line with its time in words, then Slurm's, the runner's and the job's own words.

use crate::operation::logs::{Addition, Event, Logs, Text};
use crate::screen::{Paint, Screen, span, utc};
use crate::text;

/// What there is of a lease.
pub fn logs(logs: &Logs, now: i64, screen: &Screen) -> String {
    let mut shown = format!("{}\n", title(screen, &format!("history of lease {} ({})", logs.lease_id, logs.slug)));
    shown.push_str(&or_nothing(logs.events.iter().map(|event| line(event, now, screen)).collect()));
    let mut part = |name: &str, body: Option<String>| {
        let body = body.map(|body| text::block(&body)).filter(|body| !body.trim().is_empty());
        let body = body.map(|body| format!("{}\n", body.trim_end())).unwrap_or_default();
        shown.push_str(&format!("{}\n{}", title(screen, name), or_nothing(body)));
    };
    if !logs.whole {
        part("record", Some("damaged; release the lease, its job is found by name".to_owned()));
        return shown;
    }
    let ended = logs.slurm.as_ref().map(|end| {
        let reason = if end.reason.is_empty() { String::new() } else { format!(" ({})", end.reason) };
        format!("{}{reason}, exit {}, seen {}", end.state, end.exit.as_deref().unwrap_or("unknown"), ago(now - end.at))
    });
    part("how the job ended, says Slurm", ended);
    let runner = logs.runner.as_ref();
    part("how the job ended, says the runner", runner.map(|end| format!("{}: {}", end.reason, end.detail)));
    if let Some(job) = &logs.job {
        let file = logs.output.as_ref().map_or_else(String::new, |output| format!(" ({})", output.file));
        part(&format!("output of job {job}{file}"), logs.output.as_ref().map(|output| output.text.clone()));
    }
    if let Some(command) = &logs.command {
        part(&format!("output of its detached command ({})", command.file), Some(command.text.clone()));
    }
    part("sshd.log", logs.sshd_log.as_ref().map(|log| log.text.clone()));
    shown
}

/// What has come since.
pub fn addition(addition: &Addition, now: i64, screen: &Screen) -> String {
    let mut shown: String = addition.events.iter().map(|event| line(event, now, screen)).collect();
    for Text { file, text } in &addition.texts {
        for line in text::block(text).lines() {
            shown.push_str(&format!("{} {line}\n", screen.paint(Paint::Dim, &format!("{file}:"))));
        }
    }
    if let Some(why) = &addition.end {
        shown.push_str(&format!("{}\n", title(screen, &text::line(why))));
    }
    shown
}

fn title(screen: &Screen, name: &str) -> String {
    screen.paint(Paint::Bold, &format!("== {name}"))
}

fn or_nothing(body: String) -> String {
    if body.is_empty() { "(nothing)\n".to_owned() } else { body }
}

fn line(event: &Event, now: i64, screen: &Screen) -> String {
    let at = utc(event.at).unwrap_or_default();
    let ago = format!("({})", ago(now - event.at));
    let name = screen.paint(Paint::Bold, &text::line(&event.event));
    let detail = text::line(&event.detail);
    let colon = if detail.is_empty() { "" } else { ": " };
    format!("{at} {} {name}{colon}{detail}\n", screen.paint(Paint::Dim, &ago))
}

/// A time in words. One that is yet to come is that of another clock.
fn ago(seconds: i64) -> String {
    if seconds < 1 { "just now".to_owned() } else { format!("{} ago", span(seconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::logs::{RunnerEnd, SlurmEnd};
    use crate::screen::tests::screen;

    fn whole() -> Logs {
        let event = |at, event: &str, detail: &str| Event { at, event: event.to_owned(), detail: detail.to_owned() };
        let text = |file: &str, text: &str| Some(Text { file: file.to_owned(), text: text.to_owned() });
        Logs {
            lease_id: "cbx_4b38f35d4e31".into(),
            slug: "hello".into(),
            job: Some("12".into()),
            whole: true,
            events: vec![event(1_795_308_136, "submitted", "12"), event(1_795_308_140, "answered", "")],
            slurm: Some(SlurmEnd {
                state: "TIMEOUT".into(),
                reason: "TimeLimit".into(),
                exit: None,
                at: 1_795_308_200,
            }),
            runner: Some(RunnerEnd { reason: "idle".into(), detail: "no command for 1800 s".into() }),
            output: text("slurm-12.out", "one\n\u{1b}[31mtwo\n"),
            command: None,
            sshd_log: None,
        }
    }

    #[test]
    fn an_event_a_line_and_then_the_words_of_all() {
        let text = logs(&whole(), 1_795_308_256, &screen(80, false));
        let expected = "== history of lease cbx_4b38f35d4e31 (hello)\n\
            2026-11-22 00:42:16Z (2m ago) submitted: 12\n\
            2026-11-22 00:42:20Z (1m ago) answered\n\
            == how the job ended, says Slurm\n\
            TIMEOUT (TimeLimit), exit unknown, seen 56s ago\n\
            == how the job ended, says the runner\n\
            idle: no command for 1800 s\n\
            == output of job 12 (slurm-12.out)\n\
            one\n[31mtwo\n\
            == sshd.log\n\
            (nothing)\n";
        assert_eq!(text, expected);
        let coloured = logs(&whole(), 1_795_308_256, &screen(80, true));
        assert!(coloured.contains("\u{1b}[1m== sshd.log\u{1b}[0m") && !coloured.contains("\u{1b}[31m"), "{coloured}");
    }

    #[test]
    fn a_damaged_record_leaves_the_history() {
        let text = logs(&Logs { whole: false, ..whole() }, 1_795_308_256, &screen(80, false));
        assert!(text.contains("submitted: 12") && text.contains("== record\ndamaged"), "{text}");
    }

    #[test]
    fn what_comes_names_its_file() {
        let addition = Addition {
            events: whole().events[..1].to_vec(),
            texts: vec![Text { file: "sshd.log".into(), text: "a\nb\n".into() }],
            end: Some("the lease is gone".into()),
        };
        let text = super::addition(&addition, 1_795_308_136, &screen(80, false));
        assert_eq!(
            text,
            "2026-11-22 00:42:16Z (just now) submitted: 12\nsshd.log: a\nsshd.log: b\n== the lease is gone\n"
        );
    }
}
