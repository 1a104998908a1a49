//! Amounts in Slurm's ways of writing them, as far as limits compare them.

/// A size in KiB; without a unit it is in MiB, as sbatch takes it.
pub fn kibibytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B') {
        "K" => 0,
        "" | "M" => 10,
        "G" => 20,
        "T" => 30,
        _ => return None,
    };
    Some(digits.parse::<u64>().ok()?.saturating_mul(1 << shift))
}

/// What a limit makes of a list of GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    Fits,
    /// The same with fewer.
    Clamped(String),
    /// So many, and no one number to make smaller.
    TooMany(u64),
}

/// Holds a list such as `a100:2`, or `lustre,gpu:a100:4` of which `is_gpu` tells the GPUs, to a number.
pub fn gpus(list: &str, most: u64, is_gpu: impl Fn(&str) -> bool) -> Gpus {
    let items: Vec<&str> = list.split(',').collect();
    let counted: Vec<u64> = items.iter().map(|item| if is_gpu(item) { count(item).1 } else { 0 }).collect();
    let total = counted.iter().fold(0, |total: u64, count| total.saturating_add(*count));
    let several = counted.iter().filter(|count| **count > 0).count() > 1;
    match () {
        () if total <= most => Gpus::Fits,
        () if several || most == 0 => Gpus::TooMany(total),
        () => {
            let smaller = |(item, counted): (&&str, &u64)| match counted {
                0 => (*item).to_owned(),
                _ => format!("{}{most}", count(item).0),
            };
            Gpus::Clamped(items.iter().zip(&counted).map(smaller).collect::<Vec<_>>().join(","))
        }
    }
}

/// What stands before an item's number, and the number; without one it is 1.
fn count(item: &str) -> (String, u64) {
    let start = item.rfind([':', '=']).map_or(0, |at| at + 1);
    match item[start..].parse() {
        Ok(number) => (item[..start].to_owned(), number),
        Err(_) => (format!("{item}:"), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0", Some(0))]
    #[case("512", Some(512 * 1024))]
    #[case("512M", Some(512 * 1024))]
    #[case("4G", Some(4 * 1024 * 1024))]
    #[case("4gb", Some(4 * 1024 * 1024))]
    #[case("1T", Some(1024 * 1024 * 1024))]
    #[case("7K", Some(7))]
    #[case("7KB", Some(7))]
    #[case("x", None)]
    #[case("999999999999999T", Some(u64::MAX))]
    fn sizes(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(kibibytes(text), expected);
    }

    #[rstest]
    #[case("2", 2, Gpus::Fits)]
    #[case("4", 2, Gpus::Clamped("2".into()))]
    #[case("a100", 1, Gpus::Fits)]
    #[case("a100", 0, Gpus::TooMany(1))]
    #[case("a100:4", 2, Gpus::Clamped("a100:2".into()))]
    #[case("1g.10gb+me:4", 2, Gpus::Clamped("1g.10gb+me:2".into()))]
    #[case("a100:1,v100:1", 2, Gpus::Fits)]
    #[case("a100:2,v100:2", 3, Gpus::TooMany(4))]
    fn lists_of_gpus(#[case] list: &str, #[case] most: u64, #[case] expected: Gpus) {
        assert_eq!(gpus(list, most, |_| true), expected);
    }

    #[rstest]
    #[case("lustre:9,gpu:4", 2, Gpus::Clamped("lustre:9,gpu:2".into()))]
    #[case("gres/gpu:a100=4", 2, Gpus::Clamped("gres/gpu:a100=2".into()))]
    #[case("gpu", 1, Gpus::Fits)]
    #[case("gpu,gpu:a100:2", 1, Gpus::TooMany(3))]
    #[case("lustre:9", 0, Gpus::Fits)]
    fn lists_of_resources(#[case] list: &str, #[case] most: u64, #[case] expected: Gpus) {
        assert_eq!(gpus(list, most, crate::config::resources::asks_for_gpus), expected);
    }
}
