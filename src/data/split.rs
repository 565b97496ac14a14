//! Which records are trained on, which choose the checkpoint, which judge the result.

use super::source::{Dataset, Record, Split, Truth};
use crate::{
    Error, Result,
    rng::{Purpose, Rng},
    task::Task,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Shares of the records that become validation and test; the rest is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fractions {
    /// Share for validation; drawn unless the dataset gives a validation split.
    pub validation: f64,
    /// Share for the test; drawn only if the dataset gives no split at all.
    pub test: f64,
}

impl Default for Fractions {
    fn default() -> Self {
        Fractions { validation: 0.15, test: 0.15 }
    }
}

impl Fractions {
    fn check(&self) -> Result<()> {
        let usable = |f: f64| (0.0..1.0).contains(&f);
        if usable(self.validation) && usable(self.test) && self.validation + self.test < 1.0 {
            return Ok(());
        }
        Err(Error::unusable(
            format!(
                "split fractions of {} for validation and {} for test leave nothing usable",
                self.validation, self.test
            ),
            "fractions of at least 0 that together stay below 1, say 0.15 and 0.15",
        ))
    }
}

/// Gives every record a split.
///
/// Splits given by the dataset stay. A missing validation split is drawn from the records given as training or not at
/// all, a test split only if the dataset gives no split whatever; what is left is trained on. The draw is stratified
/// by class or label, keeps every group in one split, and is a function of the seed and the records' names, labels and groups.
///
/// Errors: unusable fractions; a class without training images; a wanted validation or test split that got no image.
pub fn assign(dataset: &mut Dataset, fractions: &Fractions, seed: u64) -> Result<()> {
    fractions.check()?;
    let given = |split| dataset.records.iter().any(|r| r.split == Some(split));
    let [train, validation, test] = Split::ALL.map(given);
    let wanted_validation = if validation { 0.0 } else { fractions.validation };
    let wanted_test = if train || validation || test { 0.0 } else { fractions.test };
    if dataset.records.iter().all(|record| record.split.is_some_and(|split| split != Split::Train)) {
        let problem =
            format!("no image of {} is left to train on: all of them are for validation or the test", dataset.origin);
        return Err(Error::unusable(problem, "give images of the split train"));
    }
    draw(dataset, [1.0 - wanted_validation - wanted_test, wanted_validation, wanted_test], seed);

    for (split, wanted) in [(Split::Validation, wanted_validation), (Split::Test, wanted_test)] {
        if wanted > 0.0 && dataset.of(Some(split)).next().is_none() {
            return Err(Error::unusable(
                format!("{} has too few images (or groups) to draw a {split} split of {wanted}", dataset.origin),
                format!("more images, a larger share, or --{split} 0"),
            ));
        }
    }
    check_training_classes(dataset)
}

/// An error if a class or label has no training images.
pub fn check_training_classes(dataset: &Dataset) -> Result<()> {
    let missing = dataset.class_counts(Some(Split::Train)).iter().position(|&n| n == 0);
    match missing {
        None => Ok(()),
        Some(class) => Err(Error::unusable(
            format!("{}: the class {:?} has no training images", dataset.origin, dataset.classes[class]),
            "add images of it, or leave the class out",
        )),
    }
}

/// Keeps about `fraction` of the training records, the same of every class or label, and takes the others out. What a smaller
/// fraction keeps is part of what a larger one keeps; groups are kept whole. A function of the fraction, the seed and the records'
/// names, labels and groups.
///
/// Each group counts for its rarest class or label, and there the first of them in a random order are kept until their images
/// are nearest to `fraction`; at least one is.
///
/// Errors: a class without training images, because its images are in few groups.
pub fn keep_fraction(dataset: &mut Dataset, fraction: f64, seed: u64) -> Result<()> {
    let mut units = units(dataset, |record| record.split == Some(Split::Train));
    Rng::new(seed, Purpose::Fraction, 0, 0).shuffle(&mut units);
    let sizes = sizes(dataset, &units);
    let home = |unit: &Unit| {
        let present = (0..sizes.len()).filter(|&stratum| unit.counts[stratum] > 0.0);
        present.min_by(|&a, &b| sizes[a].total_cmp(&sizes[b])).expect("a record is in a stratum")
    };
    let mut images = vec![0; sizes.len()];
    units.iter().for_each(|unit| images[home(unit)] += unit.members.len());
    let mut seen = vec![0; sizes.len()];
    let mut dropped: BTreeSet<usize> = BTreeSet::new();
    for unit in &units {
        let (home, members) = (home(unit), unit.members.len());
        let middle = seen[home] as f64 + members as f64 / 2.0;
        if seen[home] > 0 && middle > fraction * images[home] as f64 {
            dropped.extend(&unit.members);
        }
        seen[home] += members;
    }
    let mut index = 0..;
    dataset.records.retain(|_| index.next().is_some_and(|index: usize| !dropped.contains(&index)));
    check_training_classes(dataset)
}

/// Records that go to one split together: a group, or one record without a group.
struct Unit {
    members: Vec<usize>,
    /// Members per stratum.
    counts: Vec<f64>,
}

/// What the shares of every split are to be right in: the classes, or the labels and all images, or all images.
fn strata(dataset: &Dataset) -> usize {
    match dataset.task {
        Task::MultiClass | Task::Binary | Task::Reconstruction => dataset.classes.len(),
        Task::MultiLabel => dataset.classes.len() + 1,
        Task::Regression | Task::Segmentation => 1,
    }
}

/// Adds a record to the counts of its strata.
fn count(task: Task, record: &Record, counts: &mut [f64]) {
    match &record.truth {
        Truth::Class(class) => counts[*class as usize] += 1.0,
        truth => {
            if let (Task::MultiLabel, Truth::Numbers(applies)) = (task, truth) {
                counts.iter_mut().zip(applies).for_each(|(n, &applies)| *n += f64::from(applies));
            }
            counts[counts.len() - 1] += 1.0;
        }
    }
}

/// Deals the free records out to train, validation and test in the given shares.
///
/// Greedy: units in random order, large ones first, each to the split where it lowers the chi-squared distance
/// `sum (target - assigned)^2 / target` over strata and splits the most. For records without groups this is the
/// Sainte-Lague apportionment of each class.
fn draw(dataset: &mut Dataset, shares: [f64; 3], seed: u64) {
    let mut units = free_units(dataset, shares[Split::Validation as usize] > 0.0);
    Rng::new(seed, Purpose::Split, 0, 0).shuffle(&mut units);
    units.sort_by_key(|unit| std::cmp::Reverse(unit.members.len()));

    let sizes = sizes(dataset, &units);
    let targets = shares.map(|share| sizes.iter().map(|size| share * size).collect::<Vec<f64>>());
    let mut missing = targets.clone();
    for unit in &units {
        let gain = |split: Split| -> f64 {
            let terms = unit.counts.iter().zip(&missing[split as usize]).zip(&targets[split as usize]);
            terms.filter(|((n, _), _)| **n > 0.0).map(|((n, missing), target)| n * (2.0 * missing - n) / target).sum()
        };
        let open = Split::ALL.into_iter().filter(|&s| shares[s as usize] > 0.0);
        // Of equal gains the first wins, so that a lone image is trained on.
        let best = open.reduce(|best, s| if gain(s) > gain(best) { s } else { best }).unwrap_or(Split::Train);
        missing[best as usize].iter_mut().zip(&unit.counts).for_each(|(missing, n)| *missing -= n);
        for &member in &unit.members {
            dataset.records[member].split = Some(best);
        }
    }
}

/// The units that are free to be dealt out, after records without a split have joined the split that their group was
/// given. `redraw_train`: records given as training count as free, unless their group reaches into another split.
fn free_units(dataset: &mut Dataset, redraw_train: bool) -> Vec<Unit> {
    let mut given: HashMap<String, Split> = HashMap::new();
    for record in &dataset.records {
        if let (Some(group), Some(split)) = (&record.group, record.split) {
            // The strictest split wins: what is tested on must not be trained on.
            given.entry(group.clone()).and_modify(|s| *s = split.max(*s)).or_insert(split);
        }
    }
    for record in &mut dataset.records {
        let of_group = record.group.as_ref().and_then(|group| given.get(group).copied());
        record.split = record.split.or(of_group);
    }
    let pinned = |record: &Record| {
        let of_group = record.group.as_ref().and_then(|group| given.get(group));
        of_group.is_some_and(|&split| split != Split::Train)
    };
    units(dataset, |record| match record.split {
        None => true,
        Some(split) => redraw_train && split == Split::Train && !pinned(record),
    })
}

/// The records that `are_in`, by group.
fn units(dataset: &Dataset, are_in: impl Fn(&Record) -> bool) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut unit_of: HashMap<&str, usize> = HashMap::new();
    for (index, record) in dataset.records.iter().enumerate().filter(|(_, record)| are_in(record)) {
        let fresh = units.len();
        let unit = record.group.as_ref().map_or(fresh, |group| *unit_of.entry(group).or_insert(fresh));
        if unit == fresh {
            units.push(Unit { members: Vec::new(), counts: vec![0.0; strata(dataset)] });
        }
        units[unit].members.push(index);
        count(dataset.task, record, &mut units[unit].counts);
    }
    units
}

/// Members of all units in each stratum.
fn sizes(dataset: &Dataset, units: &[Unit]) -> Vec<f64> {
    let mut sizes = vec![0.0; strata(dataset)];
    for unit in units {
        sizes.iter_mut().zip(&unit.counts).for_each(|(size, n)| *size += n);
    }
    sizes
}

/// What should be known about the splits before they are trusted, one sentence each: identical images in several splits
/// or under several labels (after [`Dataset::verify`]), groups in several splits, classes that a split lacks.
pub fn warnings(dataset: &Dataset) -> Vec<String> {
    let mut warnings = Vec::new();
    let copies = copies(dataset);
    let crossing: Vec<_> = copies.iter().filter(|c| distinct(c, |r| r.split) > 1).collect();
    if !crossing.is_empty() {
        let images: usize = crossing.iter().map(|c| c.len()).sum();
        warnings.push(format!(
            "{} pictures appear in more than one split ({images} files, {}); scores will be too good",
            crossing.len(),
            examples(crossing.iter().map(|c| c.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(" = ")))
        ));
    }
    let torn: Vec<_> = copies.iter().filter(|c| distinct(c, |r| dataset.describe(r)) > 1).collect();
    if !torn.is_empty() {
        warnings.push(format!(
            "{} pictures appear under more than one label ({})",
            torn.len(),
            examples(torn.iter().map(|c| c.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(" = ")))
        ));
    }
    let leaking = leaking_groups(dataset);
    if !leaking.is_empty() {
        warnings.push(format!(
            "{} groups reach into more than one split ({}); scores will be too good",
            leaking.len(),
            examples(leaking.into_iter())
        ));
    }
    for split in Split::ALL {
        let counts = dataset.class_counts(Some(split));
        if counts.iter().all(|&n| n == 0) {
            continue;
        }
        for (class, _) in dataset.classes.iter().zip(counts).filter(|(_, n)| *n == 0) {
            warnings.push(format!("the {split} split has no images of the class {class:?}"));
        }
    }
    warnings
}

/// The pictures that occur more than once within one split and label, in a sentence, if there are any.
pub fn repeated(dataset: &Dataset) -> Option<String> {
    let copies = copies(dataset);
    let within: Vec<_> = copies.iter().filter(|c| distinct(c, |r| (r.split, dataset.describe(r))) == 1).collect();
    let images: usize = within.iter().map(|c| c.len()).sum();
    (!within.is_empty()).then(|| {
        let named = within.iter().map(|c| c.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(" = "));
        format!("{} pictures occur more than once within a class ({images} files, {})", within.len(), examples(named))
    })
}

/// Takes out of training every image whose picture is also in validation or test; returns their names. Needs
/// [`Dataset::verify`] and [`assign`] before it.
pub fn drop_train_copies(dataset: &mut Dataset) -> Vec<String> {
    let dropped: BTreeSet<String> = copies(dataset)
        .iter()
        .filter(|copies| copies.iter().any(|r| r.split != Some(Split::Train)))
        .flat_map(|copies| copies.iter().filter(|r| r.split == Some(Split::Train)).map(|r| r.name.clone()))
        .collect();
    dataset.records.retain(|r| !dropped.contains(&r.name));
    dropped.into_iter().collect()
}

/// Records with the same pixels, where there are at least two, in order of their first names.
fn copies(dataset: &Dataset) -> Vec<Vec<&Record>> {
    let mut by_pixels: HashMap<[u8; 32], usize> = HashMap::new();
    let mut sets: Vec<Vec<&Record>> = Vec::new();
    for record in &dataset.records {
        let Some(print) = &record.fingerprint else { continue };
        let set = *by_pixels.entry(print.pixels).or_insert(sets.len());
        if set == sets.len() {
            sets.push(Vec::new());
        }
        sets[set].push(record);
    }
    sets.retain(|set| set.len() > 1);
    sets
}

/// The groups with images in more than one split.
pub fn leaking_groups(dataset: &Dataset) -> Vec<String> {
    let mut splits_of: BTreeMap<&str, BTreeSet<Split>> = BTreeMap::new();
    for record in &dataset.records {
        if let (Some(group), Some(split)) = (&record.group, record.split) {
            splits_of.entry(group).or_default().insert(split);
        }
    }
    splits_of.into_iter().filter(|(_, splits)| splits.len() > 1).map(|(group, _)| group.to_string()).collect()
}

fn distinct<T: Ord>(records: &[&Record], of: impl Fn(&Record) -> T) -> usize {
    records.iter().map(|r| of(r)).collect::<BTreeSet<T>>().len()
}

/// The first three, in words.
fn examples(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = if all.len() > 3 { ", ..." } else { "" };
    format!("say {}{more}", all.take(3).collect::<Vec<_>>().join(", "))
}
