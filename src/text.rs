//! Text that a job, a node or Slurm wrote, made safe for a terminal and for a log: the one place where it is cleaned.
//!
//! Removed are control characters (C0, DEL, C1), and the format characters of Unicode, which are invisible and can make
//! a line read other than it is (bidirectional overrides, zero-width characters, tags).

/// Text in several lines; line ends and tabs stay.
pub fn block(text: &str) -> String {
    text.replace("\r\n", "\n").chars().filter(|c| matches!(c, '\n' | '\t') || is_shown(*c)).collect()
}

/// Text on one line: line ends become ` / `, tabs a space.
pub fn line(text: &str) -> String {
    // Nearly all is plain, and a listing has thousands of lines.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.trim().to_owned();
    }
    let lines = text.split(is_line_end).map(|line| {
        let shown: String = line.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| is_shown(*c)).collect();
        shown.trim().to_owned()
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ")
}

/// The same, and only the last `chars` of a long text stay: the end of a tool's output tells most.
pub fn last_of_line(text: &str, chars: usize) -> String {
    let text = line(text);
    match text.chars().count().checked_sub(chars) {
        None | Some(0) => text,
        Some(over) => format!("…{}", text.chars().skip(over).collect::<String>()),
    }
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether a character stands for itself on a terminal.
fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("one\ttwo\nthree\r\n", "one\ttwo\nthree\n", "one two / three")]
    #[case("progress 1\rprogress 2", "progress 1progress 2", "progress 1 / progress 2")]
    #[case("\u{1b}]0;pwned\u{7}\u{1b}[2J\u{1b}[31mred", "]0;pwned[2J[31mred", "]0;pwned[2J[31mred")]
    #[case("a\u{7f}\u{9b}31m\u{0}b", "a31mb", "a31mb")]
    #[case("a\u{85}b\u{2028}c", "abc", "a / b / c")]
    #[case("user\u{202e}txt.exe\u{2066}\u{200b}\u{feff}\u{e0041}", "usertxt.exe", "usertxt.exe")]
    #[case("Müller naïve 漢字 🙂", "Müller naïve 漢字 🙂", "Müller naïve 漢字 🙂")]
    fn nothing_steers_the_terminal(#[case] text: &str, #[case] as_block: &str, #[case] as_line: &str) {
        assert_eq!(block(text), as_block);
        assert_eq!(line(text), as_line);
    }

    #[test]
    fn the_end_of_a_long_line_stays() {
        assert_eq!(last_of_line("abcdef", 3), "…def");
        assert_eq!(last_of_line("abc", 3), "abc");
    }
}
