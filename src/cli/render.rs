//! Answers as text that fits a terminal, and as bare JSON.

use serde::Serialize;

use crate::lease::cloud_id::CloudId;
use crate::protocol::{Answer, Check, CheckStatus, Lease};

/// Widest table; a terminal has at least 80 columns, most have more.
const COLUMNS: usize = 110;

/// Bare JSON on one line.
pub fn json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

/// A lease that can be used, and how.
pub fn acquired(answer: &Answer) -> String {
    let Some(lease) = &answer.lease else {
        return String::new();
    };
    let mut text = format!("lease {} ({}) is {}: {}\n", lease.lease_id, lease.slug, state(lease), lease.cloud_id);
    if let Some(ssh) = &lease.ssh {
        text.push_str(&format!("  sshd   {}@{} port {}\n", ssh.user, ssh.host, ssh.port));
        text.push_str(&format!("  run    slurm-sandbox ssh {} -- COMMAND\n", lease.lease_id));
    }
    text.push_str(&format!("  end    slurm-sandbox release {}\n", lease.lease_id));
    text
}

fn state(lease: &Lease) -> &str {
    lease.labels.get("state").map_or(lease.status.as_str(), String::as_str)
}

/// Lease, slug, state, reason or node, time left, job.
pub fn table(leases: &[Lease], now: i64) -> String {
    let mut rows = vec![["LEASE", "SLUG", "STATE", "WHERE OR WHY", "LEFT", "JOB"].map(str::to_owned)];
    rows.extend(leases.iter().map(|lease| {
        let label = |name: &str| lease.labels.get(name).cloned().unwrap_or_default();
        let node = label("slurmNode");
        let place = if lease.status == "RUNNING" && !node.is_empty() { node } else { label("slurmReason") };
        let left = match (lease.status.as_str(), label("expires_at").parse::<i64>()) {
            ("RUNNING", Ok(end)) => duration(end - now),
            _ => "-".to_owned(),
        };
        let status =
            if state(lease) == "deleting" { format!("{}, ending", lease.status) } else { lease.status.clone() };
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let job = match CloudId::parse(&lease.cloud_id) {
            Some(CloudId::Job(job)) => job.to_string(),
            _ => "-".to_owned(),
        };
        [lease.lease_id.clone(), lease.slug.clone(), status, or_dash(place), left, job]
    }));
    let longest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut widths = [longest(0), longest(1).min(24), longest(2), longest(3), longest(4), longest(5)];
    let others: usize = widths.iter().sum::<usize>() - widths[3] + 2 * 5;
    widths[3] = widths[3].min(COLUMNS.saturating_sub(others).max(12));
    let line = |row: &[String; 6]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(text, width)| format!("{:width$}", cut(text, width))).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn duration(seconds: i64) -> String {
    match seconds {
        ..=0 => "0s".to_owned(),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// doctor's table, red first.
pub fn checks(checks: &[Check]) -> String {
    let mut text = String::new();
    if let Some(at) = checks.first().and_then(|check| check.checked_at.as_deref()) {
        text.push_str(&format!("This is an earlier result, of {at}; without --max-age doctor looks anew.\n"));
    }
    for (status, word) in
        [(CheckStatus::Red, "red    "), (CheckStatus::Warning, "warning"), (CheckStatus::Ok, "ok     ")]
    {
        for check in checks.iter().filter(|check| check.status == status) {
            text.push_str(&format!("{word}  {:<18} {}\n", check.name, check.seen));
            if !check.remedy.is_empty() {
                text.push_str(&format!("{:<29}-> {}\n", "", check.remedy));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(-5, "0s")]
    #[case(59, "59s")]
    #[case(1800, "30m")]
    #[case(5400, "1h30m")]
    #[case(90_000, "1d01h")]
    fn durations(#[case] seconds: i64, #[case] expected: &str) {
        assert_eq!(duration(seconds), expected);
    }

    #[test]
    fn a_long_reason_does_not_push_the_table_off_the_terminal() {
        let lease = Lease {
            lease_id: "cbx_4b38f35d4e31".into(),
            slug: "a-very-long-slug-that-nobody-needs-to-read-in-full".into(),
            name: "n".into(),
            cloud_id: "slurm/job/12;annex".into(),
            status: "PENDING".into(),
            server_type: String::new(),
            labels: [("slurmReason".into(), "x".repeat(63))].into(),
            ssh: None,
        };
        let text = table(&[lease], 0);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(text.ends_with("12;annex\n"));
    }
}
