//! What a stream can show to people, and texts laid out for it: its width, colours, tables, spans of time. What it is given is clean
//! text (see text.rs); whether there is colour, and whether a line may be drawn over, is decided here alone.

use console::{Term, measure_text_width, truncate_str};
use time::OffsetDateTime;
use time::macros::format_description;

/// Width of what goes to a file or a pipe, and of a terminal that does not tell its own.
const WIDTH_OF_A_FILE: usize = 110;
const WIDTH_OF_A_TERMINAL: usize = 80;
const HEIGHT_OF_A_TERMINAL: usize = 24;

/// Between two columns of a table.
const GAP: usize = 2;

/// What decides how a stream is written to.
#[derive(Debug, Clone, Copy, Default)]
struct Facts<'a> {
    is_terminal: bool,
    /// The variables `TERM`, `NO_COLOR` and `CLICOLOR_FORCE`.
    term: Option<&'a str>,
    no_color: Option<&'a str>,
    force: Option<&'a str>,
}

impl Facts<'_> {
    /// Whether it is a terminal that knows more than lines of text.
    fn is_capable(&self) -> bool {
        self.is_terminal && !matches!(self.term, None | Some("" | "dumb"))
    }

    fn refuses_colour(&self) -> bool {
        self.no_color.is_some_and(|value| !value.is_empty())
    }

    fn has_colour(&self) -> bool {
        let forced = self.force.is_some_and(|value| !matches!(value, "" | "0"));
        !self.refuses_colour() && (forced || self.is_capable())
    }

    /// Who sets `NO_COLOR` wants plain lines, so nothing is drawn over for him either.
    fn redraws(&self) -> bool {
        self.is_capable() && !self.refuses_colour()
    }
}

/// Where people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    pub is_terminal: bool,
    pub width: usize,
    pub height: usize,
    pub colour: bool,
    /// Whether what was written may be drawn over.
    pub redraws: bool,
}

/// How a part of a text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Bold,
    Dim,
    Red,
    Yellow,
    Green,
}

impl Screen {
    pub fn stdout() -> Screen {
        Screen::of(&Term::stdout())
    }

    pub fn stderr() -> Screen {
        Screen::of(&Term::stderr())
    }

    fn of(stream: &Term) -> Screen {
        let variable = |name| std::env::var(name).ok();
        let (term, no_color, force) = (variable("TERM"), variable("NO_COLOR"), variable("CLICOLOR_FORCE"));
        let facts = Facts {
            is_terminal: stream.is_term(),
            term: term.as_deref(),
            no_color: no_color.as_deref(),
            force: force.as_deref(),
        };
        let size = stream.size_checked().filter(|_| facts.is_terminal);
        let size = size.map(|(height, width)| (usize::from(height), usize::from(width)));
        let (height, width) = size.filter(|(height, width)| *height > 0 && *width > 0).unwrap_or_else(|| {
            let asked = variable("COLUMNS").and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
            let usual = if facts.is_terminal { WIDTH_OF_A_TERMINAL } else { WIDTH_OF_A_FILE };
            (HEIGHT_OF_A_TERMINAL, asked.unwrap_or(usual))
        });
        Screen { is_terminal: facts.is_terminal, width, height, colour: facts.has_colour(), redraws: facts.redraws() }
    }

    /// A text as it stands out here.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Plain => return text.to_owned(),
            Paint::Bold => 1,
            Paint::Dim => 2,
            Paint::Red => 31,
            Paint::Yellow => 33,
            Paint::Green => 32,
        };
        if self.colour && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A text in lines of this width: the first begins with `first`, the others with as many blanks. What is longer than a line and
    /// has no blank, such as a path or a command, stays whole.
    pub fn wrap(&self, first: &str, paint: Paint, text: &str) -> String {
        let indent = measure_text_width(first);
        let room = self.width.saturating_sub(indent).max(1);
        let mut lines = vec![String::new()];
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let line = lines.last().map_or("", String::as_str);
            let begins = line.is_empty();
            if !begins && measure_text_width(line) + 1 + measure_text_width(word) > room {
                lines.push(word.to_owned());
            } else if let Some(line) = lines.last_mut() {
                line.push_str(if begins { "" } else { " " });
                line.push_str(word);
            }
        }
        let blanks = " ".repeat(indent);
        let begin = |index| if index == 0 { first } else { &blanks };
        lines.iter().enumerate().map(|(index, line)| format!("{}{}\n", begin(index), self.paint(paint, line))).collect()
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    /// In place of the title where that has no room.
    pub short: &'static str,
    /// Of two columns the one with the higher rank goes when both have no room.
    pub rank: usize,
    /// What it can be cut to.
    pub least: usize,
}

/// A field of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub paint: Paint,
}

impl Cell {
    pub fn new(text: impl Into<String>, paint: Paint) -> Cell {
        let text: String = text.into();
        Cell { text: if text.is_empty() { "-".to_owned() } else { text }, paint }
    }
}

/// A table whose lines fit the screen: columns that have no room are left out, long fields are cut.
pub fn table(screen: &Screen, columns: &[Column], rows: &[Vec<Cell>]) -> String {
    let natural = |(index, column): (usize, &Column)| {
        let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| measure_text_width(&cell.text));
        cells.max().unwrap_or(0).max(measure_text_width(column.title))
    };
    let widths = widths(columns, &columns.iter().enumerate().map(natural).collect::<Vec<_>>(), screen.width);
    let field = |text: &str, paint: Paint, width: usize| {
        let cut = truncate_str(text, width, "…");
        let blanks = " ".repeat(width.saturating_sub(measure_text_width(&cut)));
        (screen.paint(paint, &cut), blanks)
    };
    let line = |fields: Vec<(String, String)>| {
        let mut line = String::new();
        let last = fields.len();
        for (index, (text, blanks)) in fields.into_iter().enumerate() {
            line.push_str(&text);
            if index + 1 < last {
                line.push_str(&blanks);
                line.push_str(&" ".repeat(GAP));
            }
        }
        line.push('\n');
        line
    };
    let shown: Vec<(usize, usize)> =
        widths.iter().enumerate().filter_map(|(index, width)| Some((index, (*width)?))).collect();
    let titles = shown.iter().map(|(index, width)| {
        let Column { title, short, .. } = columns[*index];
        field(if title.len() <= *width { title } else { short }, Paint::Bold, *width)
    });
    let mut text = line(titles.collect());
    for row in rows {
        let cells = shown.iter().filter_map(|(index, width)| Some((row.get(*index)?, *width)));
        text.push_str(&line(cells.map(|(cell, width)| field(&cell.text, cell.paint, width)).collect()));
    }
    text
}

/// The width of each column that has room. Each gets its least by rank, then by rank what it would like to have of the rest.
fn widths(columns: &[Column], natural: &[usize], width: usize) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|index| columns[*index].rank);
    let mut widths = vec![None; columns.len()];
    let mut left = width + GAP;
    for (position, index) in order.iter().enumerate() {
        let least = columns[*index].least.min(natural[*index]);
        // Of a screen that holds no column the first one takes all.
        let least = if position == 0 { least.min(width).max(1) } else { least };
        if least + GAP > left {
            break;
        }
        widths[*index] = Some(least);
        left -= least + GAP;
    }
    for index in order {
        if let Some(width) = &mut widths[index] {
            let more = natural[index].saturating_sub(*width).min(left);
            *width += more;
            left -= more;
        }
    }
    widths
}

/// A span of time, in at most two units: `45s`, `12m`, `3h05m`, `2d04h`.
pub fn span(seconds: i64) -> String {
    match seconds {
        ..=0 => "0s".to_owned(),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A moment, always with its zone.
pub fn utc(seconds: i64) -> Option<String> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(format).ok()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use rstest::rstest;

    pub fn screen(width: usize, colour: bool) -> Screen {
        Screen { is_terminal: true, width, height: 24, colour, redraws: colour }
    }

    #[rstest]
    #[case::terminal(true, Some("xterm-256color"), None, None, (true, true))]
    #[case::file(false, Some("xterm"), None, None, (false, false))]
    #[case::dumb(true, Some("dumb"), None, None, (false, false))]
    #[case::no_term(true, None, None, None, (false, false))]
    #[case::empty_term(true, Some(""), None, None, (false, false))]
    #[case::no_color(true, Some("xterm"), Some("1"), None, (false, false))]
    #[case::no_color_that_is_empty(true, Some("xterm"), Some(""), None, (true, true))]
    #[case::forced_into_a_file(false, None, None, Some("1"), (true, false))]
    #[case::forced_on_a_dumb_terminal(true, Some("dumb"), None, Some("1"), (true, false))]
    #[case::not_forced(false, Some("xterm"), None, Some("0"), (false, false))]
    #[case::refused_and_forced(true, Some("xterm"), Some("1"), Some("1"), (false, false))]
    fn colour_and_redrawing(
        #[case] is_terminal: bool,
        #[case] term: Option<&str>,
        #[case] no_color: Option<&str>,
        #[case] force: Option<&str>,
        #[case] expected: (bool, bool),
    ) {
        let facts = Facts { is_terminal, term, no_color, force };
        assert_eq!((facts.has_colour(), facts.redraws()), expected);
    }

    #[rstest]
    #[case(-5, "0s")]
    #[case(59, "59s")]
    #[case(1800, "30m")]
    #[case(5400, "1h30m")]
    #[case(90_000, "1d01h")]
    fn spans(#[case] seconds: i64, #[case] expected: &str) {
        assert_eq!(span(seconds), expected);
    }

    #[rstest]
    #[case(0, Some("1970-01-01 00:00:00Z"))]
    #[case(1795308136, Some("2026-11-22 00:42:16Z"))]
    #[case(i64::MAX, None)]
    fn moments(#[case] seconds: i64, #[case] expected: Option<&str>) {
        assert_eq!(utc(seconds).as_deref(), expected);
    }

    const COLUMNS: [Column; 3] = [
        Column { title: "ONE", short: "ONE", rank: 1, least: 4 },
        Column { title: "SECOND", short: "2", rank: 0, least: 3 },
        Column { title: "THIRD", short: "3", rank: 2, least: 5 },
    ];

    #[rstest]
    #[case::all(100, [Some(4), Some(10), Some(5)])]
    #[case::to_the_column(23, [Some(4), Some(10), Some(5)])]
    #[case::one_is_cut(20, [Some(4), Some(7), Some(5)])]
    #[case::one_is_left_out(14, [Some(4), Some(8), None])]
    #[case::one_is_left(8, [None, Some(8), None])]
    #[case::no_room(2, [None, Some(2), None])]
    fn columns_go_by_rank(#[case] width: usize, #[case] expected: [Option<usize>; 3]) {
        assert_eq!(widths(&COLUMNS, &[4, 10, 5], width), expected);
    }

    #[rstest]
    #[case(40)]
    #[case(14)]
    #[case(3)]
    fn no_line_is_longer_than_the_screen(#[case] width: usize) {
        let cell = |text: &str| Cell::new(text, Paint::Red);
        let rows = vec![vec![cell("漢字漢字"), cell("ten signs!"), cell("")]];
        for colour in [false, true] {
            let text = table(&screen(width, colour), &COLUMNS, &rows);
            assert!(text.lines().all(|line| measure_text_width(line) <= width), "{text}");
            assert_eq!(text.contains('\u{1b}'), colour);
        }
    }

    #[test]
    fn texts_are_wrapped_at_blanks() {
        let text = screen(16, false).wrap("red  ", Paint::Red, "one two three /a/path/that/is/long  four");
        assert_eq!(text, "red  one two\n     three\n     /a/path/that/is/long\n     four\n");
        assert_eq!(screen(9, true).wrap("x ", Paint::Red, "one two"), "x \u{1b}[31mone two\u{1b}[0m\n");
    }
}
