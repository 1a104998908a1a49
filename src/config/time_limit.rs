//! Slurm's way of writing a time (sbatch(1), `--time`): minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS.

/// Slurm's forms of a time limit; zero would mean no limit at all (sbatch(1), --time).
pub fn is_time(text: &str) -> bool {
    let numbers = |part: &str| -> Option<Vec<u64>> {
        part.split(':')
            .map(|n| {
                (!n.is_empty() && n.len() <= 7 && n.bytes().all(|b| b.is_ascii_digit()))
                    .then(|| n.parse().ok())
                    .flatten()
            })
            .collect()
    };
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(days), clock),
        None => (None, text),
    };
    let days = match days.map(numbers) {
        None => 0,
        Some(Some(days)) if days.len() == 1 => days[0],
        Some(_) => return false,
    };
    match numbers(clock) {
        Some(parts) => parts.len() <= 3 && (days > 0 || parts.iter().any(|n| *n > 0)),
        None => false,
    }
}

/// A time of Slurm in minutes, rounded up as Slurm does; `Some(None)` is unlimited, `None` cannot be read. The forms
/// are minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM and D-HH:MM:SS.
pub fn minutes(text: &str) -> Option<Option<u64>> {
    if matches!(text, "UNLIMITED" | "INFINITE") {
        return Some(None);
    }
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(days.parse::<u64>().ok()?), clock),
        None => (None, text),
    };
    let parts = clock.split(':').map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>()?;
    let (hours, minutes, seconds) = match (days, &parts[..]) {
        (Some(_), [hours]) => (*hours, 0, 0),
        (Some(_), [hours, minutes]) => (*hours, *minutes, 0),
        (None, [minutes]) => (0, *minutes, 0),
        (None, [minutes, seconds]) => (0, *minutes, *seconds),
        (_, [hours, minutes, seconds]) => (*hours, *minutes, *seconds),
        _ => return None,
    };
    let total = days.unwrap_or(0).checked_mul(24)?.checked_add(hours)?.checked_mul(60)?.checked_add(minutes)?;
    Some(Some(total.checked_add(seconds.div_ceil(60))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("120", Some(Some(120)))]
    #[case("1:30", Some(Some(2)))]
    #[case("02:00:00", Some(Some(120)))]
    #[case("1-0", Some(Some(1440)))]
    #[case("1-12:30", Some(Some(2190)))]
    #[case("2-00:00:01", Some(Some(2881)))]
    #[case("UNLIMITED", Some(None))]
    #[case("NONE", None)]
    #[case("", None)]
    #[case("99999999999999999999", None)]
    #[case("9999999999999999999-0", None)]
    fn times(#[case] text: &str, #[case] expected: Option<Option<u64>>) {
        assert_eq!(minutes(text), expected);
    }

    #[rstest]
    #[case("120", true)]
    #[case("02:00:00", true)]
    #[case("1-0", true)]
    #[case("2-12:30", true)]
    #[case("0", false)]
    #[case("0:00", false)]
    #[case("UNLIMITED", false)]
    #[case("2026-01-01T00:00:00Z", false)]
    #[case("1:2:3:4", false)]
    #[case("-1", false)]
    fn limits(#[case] text: &str, #[case] good: bool) {
        assert_eq!(is_time(text), good, "{text}");
    }
}
