//! The leases as a table: for each a line that fits, the most telling columns first.

use super::state;
use crate::lease::cloud_id::CloudId;
use crate::operation::answer::Size;
use crate::operation::list::ListRow;
use crate::operation::status::LeaseState;
use crate::operation::usage::Usage;
use crate::protocol::Lease;
use crate::screen::{Cell, Column, Paint, Screen, span, table};
use crate::slurm::reason::explained;

/// From left to right. A screen of 40 columns has room for the first four ranks.
const COLUMNS: [Column; 8] = [
    Column { title: "LEASE", short: "LEASE", rank: 4, least: 16 },
    Column { title: "SLUG", short: "SLUG", rank: 0, least: 8 },
    Column { title: "STATE", short: "STATE", rank: 1, least: 7 },
    Column { title: "NODE OR WHY", short: "WHERE", rank: 3, least: 8 },
    Column { title: "AGE", short: "AGE", rank: 5, least: 5 },
    Column { title: "LEFT", short: "LEFT", rank: 2, least: 6 },
    Column { title: "SIZE", short: "SIZE", rank: 7, least: 8 },
    Column { title: "JOB", short: "JOB", rank: 6, least: 4 },
];

/// The table of all leases.
pub fn leases(rows: &[ListRow], now: i64, screen: &Screen) -> String {
    let cells: Vec<_> = rows.iter().map(|row| line(row, now).into()).collect();
    table(screen, &COLUMNS, &cells)
}

fn line(row: &ListRow, now: i64) -> [Cell; 8] {
    let lease = &row.lease;
    let (time, plain) = (|name: &str| label(lease, name).parse::<i64>().ok(), Paint::Plain);
    let left = time("expires_at").filter(|_| lease.status == "RUNNING").map(|end| span(end - now));
    let age = time("created_at").map(|created| span(now - created));
    let ending = if state(lease) == "deleting" { ", ending" } else { "" };
    [
        Cell::new(&lease.lease_id, plain),
        Cell::new(&lease.slug, Paint::Bold),
        Cell::new(format!("{}{ending}", lease.status), paint(row.state)),
        Cell::new(node_or_reason(row, now), plain),
        Cell::new(age.unwrap_or_default(), plain),
        Cell::new(left.unwrap_or_default(), plain),
        Cell::new(size(&row.size), plain),
        Cell::new(job(lease), plain),
    ]
}

fn label<'a>(lease: &'a Lease, name: &str) -> &'a str {
    lease.labels.get(name).map_or("", String::as_str)
}

fn job(lease: &Lease) -> String {
    match CloudId::parse(&lease.cloud_id) {
        Some(CloudId::Job(job)) => job.to_string(),
        _ => String::new(),
    }
}

fn paint(state: Option<LeaseState>) -> Paint {
    match state {
        Some(LeaseState::Ready) => Paint::Green,
        Some(LeaseState::Provisioning | LeaseState::Suspended) => Paint::Yellow,
        Some(LeaseState::Deleting | LeaseState::Stopped | LeaseState::Newer) => Paint::Dim,
        Some(LeaseState::Failed | LeaseState::Missing | LeaseState::Unknown) | None => Paint::Red,
    }
}

fn node_or_reason(row: &ListRow, now: i64) -> String {
    let node = label(&row.lease, "slurmNode");
    if row.lease.status == "RUNNING" && !node.is_empty() {
        return node.to_owned();
    }
    let reason = explained(&row.reason);
    match row.expected.filter(|_| row.lease.status == "PENDING") {
        Some(start) if reason.is_empty() => format!("starts in {}", span(start - now)),
        Some(start) => format!("{reason}; starts in {}", span(start - now)),
        None => reason,
    }
}

fn size(size: &Size) -> String {
    let gpus = (size.gpus > 0).then(|| format!("{}gpu", size.gpus));
    let parts = [size.cpus.as_ref().map(|cpus| format!("{cpus}c")), size.mem.clone(), gpus];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

const USAGE_COLUMNS: [Column; 7] = [
    Column { title: "LEASE", short: "LEASE", rank: 5, least: 16 },
    Column { title: "SLUG", short: "SLUG", rank: 0, least: 8 },
    Column { title: "RUNS", short: "RUNS", rank: 4, least: 4 },
    Column { title: "CPU", short: "CPU", rank: 1, least: 10 },
    Column { title: "MEMORY", short: "MEMORY", rank: 2, least: 10 },
    Column { title: "GPU", short: "GPU", rank: 3, least: 6 },
    Column { title: "JOB", short: "JOB", rank: 6, least: 4 },
];

/// The table of what is used.
pub fn usages(rows: &[(&Lease, Option<&Usage>)], screen: &Screen) -> String {
    let cells: Vec<_> = rows.iter().map(|(lease, usage)| usage_line(lease, *usage).into()).collect();
    table(screen, &USAGE_COLUMNS, &cells)
}

/// Below this share of its CPUs a lease of several is a waste that its owner may not know of.
const LITTLE_USE_PERCENT: f64 = 10.0;

fn usage_line(lease: &Lease, usage: Option<&Usage>) -> [Cell; 7] {
    let of = |value: fn(&Usage) -> String| usage.map(value).unwrap_or_default();
    let little = usage.is_some_and(|usage| {
        usage.cpus.is_some_and(|cpus| cpus > 1) && usage.cpu_percent.is_some_and(|share| share < LITTLE_USE_PERCENT)
    });
    [
        Cell::new(&lease.lease_id, Paint::Plain),
        Cell::new(&lease.slug, Paint::Bold),
        Cell::new(of(|usage| usage.seconds.map(span).unwrap_or_default()), Paint::Plain),
        Cell::new(of(cpu), if little { Paint::Yellow } else { Paint::Plain }),
        Cell::new(of(memory), Paint::Plain),
        Cell::new(of(gpu), Paint::Plain),
        Cell::new(job(lease), Paint::Plain),
    ]
}

fn cpu(usage: &Usage) -> String {
    match (usage.cpu_percent, usage.cpus) {
        (Some(share), Some(cpus)) => format!("{} of {cpus} core{}", percent(share), if cpus == 1 { "" } else { "s" }),
        (None, Some(cpus)) => format!("? of {cpus}"),
        (_, None) => String::new(),
    }
}

fn memory(usage: &Usage) -> String {
    match (usage.memory_bytes, usage.memory_granted_bytes) {
        (Some(used), Some(granted)) => format!("{} of {}", amount(used), amount(granted)),
        (Some(used), None) => amount(used),
        (None, Some(granted)) => format!("? of {}", amount(granted)),
        (None, None) => String::new(),
    }
}

fn gpu(usage: &Usage) -> String {
    let Some(gpus) = usage.gpus else { return String::new() };
    let share = usage.gpu_percent.map_or("?".to_owned(), percent);
    let memory = usage.gpu_memory_bytes.map(|bytes| format!(", {}", amount(bytes))).unwrap_or_default();
    format!("{share} of {gpus}{memory}")
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 1.0 { "<1 %".to_owned() } else { format!("{share:.0} %") }
}

/// An amount of memory in Slurm's letters.
fn amount(bytes: u64) -> String {
    const LETTERS: [&str; 5] = ["K", "M", "G", "T", "P"];
    let mut number = bytes as f64 / 1024.0;
    let mut letters = LETTERS.iter();
    let mut letter = letters.next().copied().unwrap_or_default();
    for next in letters {
        if number < 1024.0 {
            break;
        }
        (number, letter) = (number / 1024.0, next);
    }
    if number < 10.0 && number.fract() > 0.04 { format!("{number:.1}{letter}") } else { format!("{number:.0}{letter}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::tests::screen;
    use rstest::rstest;

    const NOW: i64 = 100_000;

    fn row(slug: &str, status: &str, state: Option<LeaseState>, labels: &[(&'static str, &str)]) -> ListRow {
        ListRow {
            lease: Lease {
                lease_id: "cbx_4b38f35d4e31".into(),
                slug: slug.into(),
                name: "n".into(),
                cloud_id: "slurm/job/4711".into(),
                status: status.into(),
                server_type: String::new(),
                labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())).collect(),
                ssh: None,
            },
            state,
            reason: String::new(),
            expected: None,
            size: Size { cpus: Some("16".into()), mem: Some("64G".into()), gpus: 2 },
            asked: None,
        }
    }

    fn rows() -> Vec<ListRow> {
        let running = [("created_at", "92800"), ("expires_at", "101800"), ("slurmNode", "n12"), ("state", "ready")];
        vec![
            row("hello", "RUNNING", Some(LeaseState::Ready), &running),
            ListRow {
                reason: "Resources".into(),
                expected: Some(NOW + 300),
                ..row(
                    "a-very-long-slug-that-nobody-reads",
                    "PENDING",
                    Some(LeaseState::Provisioning),
                    &[("created_at", "99955")],
                )
            },
        ]
    }

    #[rstest]
    #[case::narrow(
        40,
        "SLUG           STATE    WHERE     LEFT\n\
                        hello          RUNNING  n12       30m\n\
                        a-very-long-sl…  PENDING  Resourc…  -\n"
    )]
    #[case::usual(80, "LEASE             SLUG           STATE    WHERE  AGE    LEFT  SIZE  JOB\n")]
    #[case::wide(
        200,
        "LEASE             SLUG                                STATE    NODE OR WHY                                               AGE    LEFT  SIZE         JOB\n\
         cbx_4b38f35d4e31  hello                               RUNNING  n12                                                       2h00m  30m   16c 64G 2gpu  4711\n"
    )]
    fn columns_for_each_width(#[case] width: usize, #[case] expected: &str) {
        let text = leases(&rows(), NOW, &screen(width, false));
        assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let first = expected.lines().count();
        let shown: Vec<_> = text.lines().take(first).flat_map(words).collect();
        assert_eq!(shown, words(expected), "{text}");
    }

    #[test]
    fn a_waiting_job_tells_why_and_when() {
        let text = leases(&rows(), NOW, &screen(200, false));
        assert!(text.contains("Resources: until enough nodes are free; starts in 5m"), "{text}");
    }

    #[test]
    fn states_have_colours() {
        let text = leases(&rows(), NOW, &screen(110, true));
        assert!(text.contains("\u{1b}[32mRUNNING") && text.contains("\u{1b}[33mPENDING"), "{text}");
        let damaged = row("d", "DAMAGED", None, &[]);
        assert!(leases(&[damaged], NOW, &screen(110, true)).contains("\u{1b}[31mDAMAGED"));
    }

    #[test]
    fn nothing_is_a_line_of_titles() {
        assert_eq!(leases(&[], NOW, &screen(110, false)).lines().count(), 1);
    }

    #[rstest]
    #[case(Some(3.0), Some(16), "3 % of 16 cores")]
    #[case(Some(0.4), Some(2), "<1 % of 2 cores")]
    #[case(Some(99.6), Some(1), "100 % of 1 core")]
    #[case(None, Some(4), "? of 4")]
    #[case(None, None, "")]
    fn cpus_used(#[case] cpu_percent: Option<f64>, #[case] cpus: Option<u64>, #[case] expected: &str) {
        assert_eq!(cpu(&Usage { cpu_percent, cpus, ..Usage::default() }), expected);
    }

    #[rstest]
    #[case(0, "0K")]
    #[case(1536, "1.5K")]
    #[case(64 << 30, "64G")]
    #[case(1_288_490_189, "1.2G")]
    fn amounts(#[case] bytes: u64, #[case] expected: &str) {
        assert_eq!(amount(bytes), expected);
    }

    #[test]
    fn usage_fits_a_narrow_screen() {
        let usage = Usage {
            seconds: Some(7200),
            cpus: Some(16),
            cpu_percent: Some(3.0),
            memory_bytes: Some(1 << 30),
            memory_granted_bytes: Some(64 << 30),
            gpus: Some(2),
            gpu_percent: Some(25.0),
            gpu_memory_bytes: Some(2 << 30),
            ..Usage::default()
        };
        let rows = rows();
        let used = [(&rows[0].lease, Some(&usage)), (&rows[1].lease, None)];
        let wide = usages(&used, &screen(110, false));
        for part in ["2h00m", "3 % of 16 cores", "1G of 64G", "25 % of 2, 2G", "4711"] {
            assert!(wide.contains(part), "{part}: {wide}");
        }
        let narrow = usages(&used, &screen(40, false));
        assert!(narrow.lines().all(|line| line.chars().count() <= 40) && narrow.contains("3 % of"), "{narrow}");
    }
}
