//! doctor's checks: a table for files, and for a terminal what is to be done.

use crate::protocol::{Check, CheckStatus};
use crate::screen::{Paint, Screen};

/// The statuses as they are shown, the worst first, each with its word.
const STATUSES: [(CheckStatus, &str, Paint); 3] = [
    (CheckStatus::Red, "red    ", Paint::Red),
    (CheckStatus::Warning, "warning", Paint::Yellow),
    (CheckStatus::Ok, "ok     ", Paint::Green),
];

/// All checks, red first. `verbose`: at a terminal those that are ok too.
pub fn checks(checks: &[Check], screen: &Screen, verbose: bool, live: bool) -> String {
    if screen.is_terminal { for_people(checks, screen, verbose, live) } else { check_lines(checks) }
}

/// Where the checks are an earlier result, that they are one.
fn of_an_earlier(checks: &[Check]) -> Option<String> {
    let at = checks.first().and_then(|check| check.checked_at.as_deref())?;
    Some(format!("This is an earlier result, of {at}; without --max-age doctor looks anew."))
}

fn of(checks: &[Check], status: CheckStatus) -> impl Iterator<Item = &Check> {
    checks.iter().filter(move |check| check.status == status)
}

/// The same for a file: a line a check, and one for its remedy.
pub fn check_lines(checks: &[Check]) -> String {
    let mut text = of_an_earlier(checks).map(|line| format!("{line}\n")).unwrap_or_default();
    for (status, word, _) in STATUSES {
        for check in of(checks, status) {
            text.push_str(&format!("{word}  {:<18} {}\n", check.name, check.seen));
            if !check.remedy.is_empty() {
                text.push_str(&format!("{:<29}-> {}\n", "", check.remedy));
            }
        }
    }
    text
}

fn for_people(checks: &[Check], screen: &Screen, verbose: bool, live: bool) -> String {
    let earlier = of_an_earlier(checks);
    let mut text = earlier.map(|line| screen.wrap("", Paint::Dim, &line)).unwrap_or_default();
    for (status, word, paint) in STATUSES {
        let count = of(checks, status).count();
        if status == CheckStatus::Ok && !verbose {
            let shown = format!("{} {count} checks; --verbose shows them\n", screen.paint(paint, word));
            text.push_str(if count > 0 { &shown } else { "" });
            continue;
        }
        for check in of(checks, status) {
            let head = format!("{} {}", screen.paint(paint, word), screen.paint(Paint::Bold, &check.name));
            text.push_str(&format!("{head}\n{}", screen.wrap("  ", Paint::Plain, &check.seen)));
            if !check.remedy.is_empty() {
                text.push_str(&screen.wrap("  -> ", Paint::Bold, &check.remedy));
            }
        }
    }
    text.push_str(&screen.wrap("next   ", Paint::Plain, next_step(checks, live)));
    text
}

/// What its user does next.
fn next_step(checks: &[Check], live: bool) -> &'static str {
    let has = |status| of(checks, status).next().is_some();
    match (has(CheckStatus::Red), has(CheckStatus::Warning), live) {
        (true, ..) => "mend what is red, from the top down, then run doctor again: leases cannot be had until then",
        (false, true, _) => "leases can be had: `slurm-sandbox acquire`; the warnings tell what may go wrong with them",
        (false, false, false) => "`slurm-sandbox acquire` makes a lease; `slurm-sandbox doctor --live` tries one first",
        (false, false, true) => "`slurm-sandbox acquire` makes a lease",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::tests::screen;
    use rstest::rstest;

    fn check(name: &str, status: CheckStatus, remedy: &str) -> Check {
        let seen = format!("{name} was looked at, and a long text tells what was seen of it there");
        Check { name: name.to_owned(), status, seen, remedy: remedy.to_owned(), checked_at: None }
    }

    fn all() -> Vec<Check> {
        vec![
            check("controller", CheckStatus::Ok, ""),
            check("limits", CheckStatus::Warning, "raise them"),
            check("state dir", CheckStatus::Red, "pass --state-dir"),
            check("partition", CheckStatus::Ok, ""),
        ]
    }

    #[test]
    fn red_comes_first_and_what_is_ok_is_counted() {
        let text = checks(&all(), &screen(80, false), false, false);
        let heads: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(heads[..3], ["red     state dir", "warning limits", "ok      2 checks; --verbose shows them"]);
        assert!(heads[3].starts_with("next   "), "{text}");
        assert!(text.contains("\n  -> pass --state-dir\n") && !text.contains("controller"), "{text}");
        let verbose = checks(&all(), &screen(80, false), true, false);
        assert!(verbose.contains("ok      controller\n"), "{verbose}");
    }

    #[rstest]
    #[case(40)]
    #[case(80)]
    #[case(200)]
    fn lines_fit(#[case] width: usize) {
        for colour in [false, true] {
            let text = checks(&all(), &screen(width, colour), true, true);
            assert!(text.lines().all(|line| console::measure_text_width(line) <= width), "{text}");
            assert_eq!(text.contains("\u{1b}[31mred"), colour);
        }
    }

    #[test]
    fn a_file_has_a_line_a_check() {
        let file = Screen { is_terminal: false, ..screen(40, true) };
        let text = checks(&all(), &file, false, false);
        assert!(text.starts_with("red      state dir          state dir was looked at"), "{text}");
        assert_eq!(text.lines().count(), 6);
    }

    #[rstest]
    #[case::at_a_terminal(true)]
    #[case::in_a_file(false)]
    fn an_earlier_result_is_told_as_one(#[case] is_terminal: bool) {
        let of_then = |check| Check { checked_at: Some("2026-11-27T10:00:00Z".into()), ..check };
        let earlier: Vec<_> = all().into_iter().map(of_then).collect();
        let text = checks(&earlier, &Screen { is_terminal, ..screen(40, false) }, false, false);
        assert!(text.starts_with("This is an earlier result, of"), "{text}");
        assert!(!is_terminal || text.lines().all(|line| line.len() <= 40), "{text}");
    }

    #[test]
    fn the_next_step_depends_on_the_worst() {
        let [red, warning, ok] =
            [check("a", CheckStatus::Red, "x"), check("a", CheckStatus::Warning, ""), check("a", CheckStatus::Ok, "")];
        let steps = [
            next_step(&[ok.clone(), warning.clone(), red], false),
            next_step(&[ok.clone(), warning], true),
            next_step(std::slice::from_ref(&ok), false),
            next_step(&[ok], true),
        ];
        assert!((1..4).all(|index| steps[index] != steps[index - 1]), "{steps:?}");
    }
}
