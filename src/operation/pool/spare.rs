//! One spare: the note beside its record, and whether a lease may take it.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::spec::Spec;
use crate::lease::SeatId;
use crate::lease::record::{Phase, Record};
use crate::lease::store::{LeaseDir, Loaded, Store};
use crate::slurm::job::{Class, Row};

/// No spare is given away in its last minute: its job may decide to end while the lease is on its way to it.
const LAST_SECONDS: i64 = 60;

/// The file of a spare's note.
pub const NOTE: &str = "spare.json";

/// What a spare is for; it stands beside its record and goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    pub spec: Spec,
    /// The version that has made it.
    pub program: String,
    /// How long it waits for a lease.
    pub seconds: u64,
    /// Whether a login has succeeded once.
    #[serde(default)]
    pub proven: bool,
}

/// A spare as it stands on disk.
#[derive(Debug)]
pub struct Spare {
    pub seat: SeatId,
    pub dir: LeaseDir,
    pub record: Record,
    pub note: Note,
}

/// A spare that can be read, and that this state dir has made where it lies.
pub fn read(store: &Store, seat: &SeatId) -> Result<Option<Spare>> {
    let Some(dir) = store.spare(seat)? else { return Ok(None) };
    let Loaded::Whole(record) = dir.load() else { return Ok(None) };
    let ours = store.instance().owns(record.instance.as_deref());
    let note = dir.beside::<Note>(NOTE).filter(|_| ours);
    Ok(note.map(|note| Spare { seat: seat.clone(), dir, record: *record, note }))
}

/// All of one pool that are there to be taken: first those that a login has been tried on, then the oldest.
pub fn of_pool(store: &Store, spec: &Spec) -> Result<Vec<Spare>> {
    let read = store.spare_ids()?.iter().map(|seat| read(store, seat)).collect::<Result<Vec<_>>>()?;
    let mut spares: Vec<_> =
        read.into_iter().flatten().filter(|spare| spare.note.spec == *spec && waits(&spare.record)).collect();
    spares.sort_by_key(|spare| (!spare.note.proven, spare.record.endpoint.is_none(), spare.record.created));
    Ok(spares)
}

/// Whether a spare's job is known and nothing is known against it.
pub fn waits(record: &Record) -> bool {
    record.phase == Phase::Queued && record.job.is_some() && record.ended.is_none()
}

/// Why a spare is given to no lease now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It does not run, or Slurm tells too little of it.
    NotRunning,
    /// It is about to end.
    LastMinute,
    /// Its job would end too early.
    TooShort,
}

/// Whether a lease that needs so much time may have a spare, as Slurm shows it at `now`, by Slurm's time of day.
pub fn fitness(note: &Note, row: &Row, time_left: u64, now: i64) -> Result<(), Unfit> {
    let (Class::Running, Some(start)) = (row.state.class(), row.start) else { return Err(Unfit::NotRunning) };
    if row.node.is_empty() {
        return Err(Unfit::NotRunning);
    }
    if now >= start.saturating_add_unsigned(note.seconds).saturating_sub(LAST_SECONDS) {
        return Err(Unfit::LastMinute);
    }
    match row.end {
        // A job without a time limit.
        None => Ok(()),
        Some(end) if end.saturating_sub_unsigned(time_left) >= now => Ok(()),
        Some(_) => Err(Unfit::TooShort),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::lease::record::tests::row;
    use crate::slurm::job::State;
    use rstest::rstest;

    pub fn note() -> Note {
        Note { spec: Spec::parse("0011223344556677").unwrap(), program: "0.1.0".into(), seconds: 1800, proven: false }
    }

    fn running() -> Row {
        Row { start: Some(1000), end: Some(10_000), node: "n1".into(), ..row() }
    }

    #[rstest]
    #[case::at_its_start(running(), 7200, 1000, Ok(()))]
    #[case::just_enough_time(running(), 7200, 2740 - 1, Ok(()))]
    #[case::the_last_minute(running(), 60, 2740, Err(Unfit::LastMinute))]
    #[case::too_short(running(), 9001, 1000, Err(Unfit::TooShort))]
    #[case::without_an_end(Row { end: None, ..running() }, 1_000_000, 1000, Ok(()))]
    #[case::waits(Row { state: State::new("PENDING"), node: String::new(), ..running() }, 60, 1000, Err(Unfit::NotRunning))]
    #[case::suspended(Row { state: State::new("SUSPENDED"), ..running() }, 60, 1000, Err(Unfit::NotRunning))]
    #[case::ending(Row { state: State::new("COMPLETING"), ..running() }, 60, 1000, Err(Unfit::NotRunning))]
    #[case::nowhere(Row { node: String::new(), ..running() }, 60, 1000, Err(Unfit::NotRunning))]
    #[case::since_nobody_knows_when(Row { start: None, ..running() }, 60, 1000, Err(Unfit::NotRunning))]
    fn who_may_have_it(
        #[case] row: Row,
        #[case] time_left: u64,
        #[case] now: i64,
        #[case] expected: Result<(), Unfit>,
    ) {
        assert_eq!(fitness(&note(), &row, time_left, now), expected);
    }
}
