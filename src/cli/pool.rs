//! pool at the command line: how spares stand, some more of them now, and their end.

use anyhow::Result;
use clap::{Args, Subcommand};

use super::config_flags::ConfigFlags;
use crate::operation::context::Options;
use crate::operation::pool::verbs::{self, PoolRow, SpareRow};
use crate::screen::span;
use crate::text;

#[derive(Debug, Args)]
pub struct PoolFlags {
    #[command(subcommand)]
    what: Option<PoolVerb>,
}

#[derive(Debug, Subcommand)]
enum PoolVerb {
    /// Submit spares now, until there are so many, and wait a minute for them
    Fill(Box<Fill>),
    /// End all spares, and submit none until the next acquire
    Drain,
}

#[derive(Debug, Args)]
struct Fill {
    /// How many there are to be [default: spares of the configuration]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=crate::config::spares::MOST))]
    count: Option<u64>,

    #[command(flatten)]
    settings: ConfigFlags,
}

/// What a call of `pool` says.
pub enum Said {
    Pools(Vec<PoolRow>),
    Done(String),
}

impl PoolFlags {
    /// Carries it out.
    ///
    /// # Errors
    /// As the verbs say.
    pub fn run(&self, options: &Options) -> Result<Said> {
        match &self.what {
            None => verbs::show(options).map(Said::Pools),
            Some(PoolVerb::Fill(fill)) => verbs::fill(options, &fill.settings.config()?, fill.count).map(Said::Done),
            Some(PoolVerb::Drain) => verbs::drain(options).map(Said::Done),
        }
    }
}

/// All pools as text.
pub fn table(pools: &[PoolRow]) -> String {
    if pools.is_empty() {
        return "no spares; see spares in the configuration\n".to_owned();
    }
    pools.iter().map(pool).collect()
}

fn pool(row: &PoolRow) -> String {
    let PoolRow { spec, resources, ready, pending, ending, cpu_seconds, wanted, pause_seconds, why, spares } = row;
    let mut text = format!("pool {spec} ({}): {ready} ready, {pending} pending", text::line(resources));
    if *ending > 0 {
        text.push_str(&format!(", {ending} ending"));
    }
    text.push_str(&format!("; CPU time held so far: {}\n", span(*cpu_seconds)));
    match pause_seconds {
        Some(seconds) => text.push_str(&format!("  no further one for {}: {why}\n", span(*seconds))),
        None if !wanted => text.push_str("  no further one until the next acquire\n"),
        None => {}
    }
    text.extend(spares.iter().map(spare));
    text
}

fn spare(row: &SpareRow) -> String {
    let SpareRow { seat, job_id, status, reason, node, age_seconds, proven, .. } = row;
    let job = job_id.map_or_else(|| "no job known".to_owned(), |job| format!("job {job}"));
    let mut more = vec![text::line(status)];
    more.extend([reason, node].into_iter().filter(|text| !text.is_empty()).map(|text| text::line(text)));
    more.push(if *proven { "proven" } else { "not tried yet" }.to_owned());
    format!("  spare {seat} ({job}): {}, {} old\n", more.join(", "), span(*age_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::SeatId;
    use crate::operation::pool::spec::Spec;
    use crate::operation::status::LeaseState;

    #[test]
    fn pools_as_text() {
        let spare = SpareRow {
            seat: SeatId::parse("cbx_4b38f35d4e31").unwrap(),
            job_id: Some(7),
            status: "RUNNING".into(),
            reason: String::new(),
            node: "n1".into(),
            age_seconds: 75,
            proven: true,
            state: LeaseState::Ready,
        };
        let row = PoolRow {
            spec: Spec::parse("0011223344556677").unwrap(),
            resources: "batch 2c".into(),
            ready: 1,
            pending: 0,
            ending: 0,
            cpu_seconds: 150,
            wanted: true,
            pause_seconds: None,
            why: String::new(),
            spares: vec![spare],
        };
        let shown = table(std::slice::from_ref(&row));
        assert_eq!(
            shown,
            "pool 0011223344556677 (batch 2c): 1 ready, 0 pending; CPU time held so far: 2m\n  \
             spare cbx_4b38f35d4e31 (job 7): RUNNING, n1, proven, 1m old\n"
        );
        let paused =
            PoolRow { ending: 1, pause_seconds: Some(900), why: "refused".into(), spares: vec![], ..row.clone() };
        assert!(
            table(&[paused]).contains("1 ending")
                && table(&[PoolRow { wanted: false, ..row }]).contains("next acquire")
        );
        assert!(table(&[]).starts_with("no spares"));
    }
}
