//! Lists of trackable resources, as sacct and sstat print them: `cpu=00:01:05,mem=2048K,gres/gpuutil=87`.

/// What such a list says; what it leaves out is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tres {
    /// A number of CPUs, or seconds of CPU time in a list of what was used.
    pub cpu: Option<f64>,
    /// Bytes.
    pub mem: Option<u64>,
    pub gpus: Option<u64>,
    /// Per cent of one GPU.
    pub gpu_use: Option<f64>,
    /// Bytes.
    pub gpu_mem: Option<u64>,
}

impl Tres {
    pub fn parse(text: &str) -> Tres {
        let mut tres = Tres::default();
        for (name, value) in text.split(',').filter_map(|part| part.trim().split_once('=')) {
            match name {
                "cpu" => tres.cpu = value.parse().ok().or_else(|| seconds(value)),
                "mem" => tres.mem = bytes(value),
                // A type stands beside the sum: gres/gpu=2,gres/gpu:a100=2.
                "gres/gpu" => tres.gpus = value.parse().ok(),
                "gres/gpuutil" => tres.gpu_use = value.trim_end_matches('%').parse().ok(),
                "gres/gpumem" => tres.gpu_mem = bytes(value),
                _ => {}
            }
        }
        tres
    }

    /// Both together, as for the steps of a job.
    #[must_use]
    pub fn plus(self, other: Tres) -> Tres {
        fn sum<T: std::ops::Add<Output = T>>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one + other),
                (one, other) => one.or(other),
            }
        }
        Tres {
            cpu: sum(self.cpu, other.cpu),
            mem: sum(self.mem, other.mem),
            gpus: sum(self.gpus, other.gpus),
            gpu_use: sum(self.gpu_use, other.gpu_use),
            gpu_mem: sum(self.gpu_mem, other.gpu_mem),
        }
    }
}

/// A span as Slurm prints it: `[days-]hours:minutes:seconds`, `minutes:seconds.fraction`.
fn seconds(text: &str) -> Option<f64> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let mut sum = 0.0;
    for part in clock.split(':') {
        sum = sum * 60.0 + part.parse::<f64>().ok().filter(|part| *part >= 0.0)?;
    }
    Some(days.parse::<f64>().ok()? * 86_400.0 + sum)
}

/// An amount of memory: a number of bytes, or one with Slurm's letter for a power of 1024.
pub fn bytes(text: &str) -> Option<u64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match &text[number.len()..] {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        _ => return None,
    };
    let number = number.parse::<f64>().ok().filter(|number| *number >= 0.0)?;
    Some((number * 1024f64.powi(power)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn lists_of_what_was_granted_and_used() {
        let granted = Tres::parse("billing=16,cpu=16,gres/gpu=2,gres/gpu:a100=2,mem=64G,node=1");
        assert_eq!((granted.cpu, granted.mem, granted.gpus), (Some(16.0), Some(64 << 30), Some(2)));
        let used = Tres::parse("cpu=1-00:01:05,energy=0,fs/disk=12,gres/gpumem=512M,gres/gpuutil=87,mem=2048K,vmem=1G");
        assert_eq!((used.cpu, used.mem, used.gpu_use), (Some(86_465.0), Some(2 << 20), Some(87.0)));
        let both = used.plus(Tres::parse("cpu=00:00:05,mem=1024"));
        assert_eq!((both.cpu, both.mem, both.gpu_mem), (Some(86_470.0), Some((2 << 20) + 1024), Some(512 << 20)));
        assert_eq!(Tres::parse(""), Tres::default());
    }

    #[rstest]
    #[case("00:00:05", Some(5.0))]
    #[case("05:12.250", Some(312.25))]
    #[case("2-03:00:00", Some(183_600.0))]
    #[case("x", None)]
    #[case("", None)]
    fn spans(#[case] text: &str, #[case] expected: Option<f64>) {
        assert_eq!(seconds(text), expected);
    }

    #[rstest]
    #[case("1536", Some(1536))]
    #[case("1.50M", Some(1_572_864))]
    #[case("4G", Some(4 << 30))]
    #[case("4Gn", None)]
    #[case("-1K", None)]
    fn amounts(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(bytes(text), expected);
    }
}
