//! Which training image comes when.
//!
//! Training images come in an endless sequence, of which an epoch is a stretch. In *rounds* each stratum (all images, or the
//! images of one class) has one turn, in a new order each round; at its turn a stratum gives its next image, and it gives
//! all of them in a new order in each *pass* over it. So every stretch has of each class equally many, but for a round that
//! it cuts, without copied lists. What comes at a place is a function of the seed and the place.

use crate::rng::{Purpose, Rng};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How often training images come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Each once an epoch.
    #[default]
    Natural,
    /// Every class as often as the largest: those of smaller classes come several times an epoch.
    Balanced,
}

/// One coming of a record: what is random about it is a function of both numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Turn {
    /// Position of the record.
    pub record: u32,
    /// How often it has come before.
    pub pass: u32,
}

/// The sequence of some records.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Positions of the records of each stratum; none is empty.
    strata: Vec<Vec<u32>>,
    seed: u64,
}

impl Sequence {
    /// That of records of these classes.
    pub fn new(classes: impl Iterator<Item = u32>, sampling: Sampling, seed: u64) -> Sequence {
        let mut strata = vec![];
        for (record, class) in classes.enumerate() {
            let stratum = if sampling == Sampling::Balanced { class as usize } else { 0 };
            strata.resize(strata.len().max(stratum + 1), vec![]);
            strata[stratum].push(record as u32);
        }
        strata.retain(|members| !members.is_empty());
        Sequence { strata, seed }
    }

    /// Places until every record has come.
    pub fn whole(&self) -> usize {
        self.strata.len() * self.strata.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// What comes at `places`.
    pub fn at(&self, places: Range<u64>) -> Vec<Turn> {
        let count = self.strata.len() as u64;
        let mut round = Held::default();
        let mut passes = vec![Held::default(); self.strata.len()];
        let turn = |place: u64| {
            let strata = || (0..count as u32).collect();
            let stratum = round.item(place, count, strata, |number| self.rng(Purpose::Round, number, 0));
            let members = &self.strata[stratum as usize];
            let (at, size) = (place / count, members.len() as u64);
            let rng = |pass| self.rng(Purpose::Order, pass, stratum);
            let record = passes[stratum as usize].item(at, size, || members.clone(), rng);
            Turn { record, pass: (at / size) as u32 }
        };
        places.map(turn).collect()
    }

    fn rng(&self, purpose: Purpose, number: u64, stratum: u32) -> Rng {
        Rng::new(self.seed, purpose, number as u32, stratum)
    }
}

/// One of a series of orders of the same items, kept until another is asked for.
#[derive(Clone, Default)]
struct Held {
    number: Option<u64>,
    order: Vec<u32>,
}

impl Held {
    /// Item `at` of all orders of `size` items one after the other.
    fn item(&mut self, at: u64, size: u64, items: impl FnOnce() -> Vec<u32>, rng: impl FnOnce(u64) -> Rng) -> u32 {
        let number = at / size;
        if self.number != Some(number) {
            self.order = items();
            rng(number).shuffle(&mut self.order);
            self.number = Some(number);
        }
        self.order[(at % size) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Three classes of 7, 2 and 1 records.
    const CLASSES: [u32; 10] = [0, 0, 1, 0, 0, 2, 0, 0, 1, 0];

    fn sequence(sampling: Sampling) -> Sequence {
        Sequence::new(CLASSES.into_iter(), sampling, 5)
    }

    #[test]
    fn natural_passes_hold_every_record_once() {
        let sequence = sequence(Sampling::Natural);
        assert_eq!(sequence.whole(), 10);
        let passes: Vec<Vec<Turn>> = (0..3).map(|pass| sequence.at(10 * pass..10 * pass + 10)).collect();
        for (pass, turns) in passes.iter().enumerate() {
            let mut records: Vec<u32> = turns.iter().map(|turn| turn.record).collect();
            records.sort();
            assert_eq!(records, (0..10).collect::<Vec<_>>());
            assert!(turns.iter().all(|turn| turn.pass == pass as u32));
        }
        let order = |pass: usize| passes[pass].iter().map(|turn| turn.record).collect::<Vec<_>>();
        assert_ne!(order(0), order(1));
    }

    #[test]
    fn balanced_stretches_hold_every_class_equally_often() {
        let sequence = sequence(Sampling::Balanced);
        assert_eq!(sequence.whole(), 21);
        for start in [0, 21, 42, 9009] {
            let turns = sequence.at(start..start + 21);
            let of = |class: u32| turns.iter().filter(move |turn| CLASSES[turn.record as usize] == class);
            assert!((0..3).all(|class| of(class).count() == 7));
            // The largest class comes once each, and no picture comes twice in the same guise.
            assert_eq!(of(0).map(|turn| turn.record).collect::<HashSet<_>>().len(), 7);
            assert_eq!(turns.iter().collect::<HashSet<_>>().len(), 21);
        }
        let long = sequence.at(0..2100);
        let often = |record: u32| long.iter().filter(|turn| turn.record == record).count();
        assert_eq!((0..10).map(often).collect::<Vec<_>>(), [100, 100, 350, 100, 100, 700, 100, 100, 350, 100]);
        // A stretch does not depend on where reading begins.
        assert_eq!(long[1000..1010], sequence.at(1000..1010));
        // The turns change from round to round.
        let first: HashSet<u32> = long.chunks(3).map(|round| CLASSES[round[0].record as usize]).collect();
        assert_eq!(first.len(), 3);
    }
}
