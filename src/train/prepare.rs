//! From a configuration to data that can be trained on: read once, split, checked and fingerprinted.

use super::{
    config::{ClassWeights, Config},
    state::RunState,
};
use crate::{
    Error, Result,
    data::{Augment, Dataset, DiskCache, Loader, LoaderOptions, Skipped, Split, manifest, split},
    report::SplitCounts,
    sample,
};
use sha2::{Digest, Sha256};
use std::path::Path;

/// A dataset with splits, and what is to be said about it.
pub struct Prepared {
    /// The records in use.
    pub dataset: Dataset,
    /// The same before copies were taken out of training: what a manifest records.
    pub assigned: Dataset,
    /// The files left out because they cannot be read.
    pub skipped: Vec<Skipped>,
    /// What to know before trusting the splits.
    pub warnings: Vec<String>,
    /// Digest of names, labels, splits and contents.
    pub fingerprint: String,
}

impl Prepared {
    /// Opens and reads the data of `config`. The splits are those of the manifest `recorded`, if there is one, else drawn.
    ///
    /// # Errors
    /// Data that cannot be used, or that are not those of the manifest.
    pub fn new(config: &Config, recorded: Option<&Path>) -> Result<Prepared> {
        let mut dataset = match &config.data {
            Some(path) => Dataset::open(path)?,
            None => sample::dataset()?,
        };
        let skipped = dataset.verify(config.intensity, config.skip_bad)?;
        match recorded {
            Some(manifest) => manifest::apply(&mut dataset, manifest)?,
            None => split::assign(&mut dataset, &config.split, config.seed)?,
        }
        let assigned = dataset.clone();
        let mut warnings = vec![];
        if config.drop_copies {
            let dropped = split::drop_train_copies(&mut dataset);
            if !dropped.is_empty() {
                warnings.push(format!("training images left out as copies of held-out ones: {}", dropped.len()));
            }
            split::check_training_classes(&dataset)?;
        }
        Ok(Prepared { assigned, skipped, warnings, ..Prepared::plain(dataset) }.warned())
    }

    /// The data that `state` was trained on, once more: with the splits of the manifest `recorded`, if there is one.
    ///
    /// # Errors
    /// Data that cannot be used; data that have changed since.
    pub fn again(state: &RunState, recorded: Option<&Path>) -> Result<Prepared> {
        let prepared = Prepared::new(&state.config, recorded)?;
        if prepared.fingerprint != state.data {
            return Err(Error::unusable(
                format!("the data in {} have changed since the network was trained on them", prepared.dataset.origin),
                "restore them, or name what to use instead with --data",
            ));
        }
        Ok(prepared)
    }

    /// Other labelled data at `path` for the network of `state`. Images without a given split count as test images.
    ///
    /// # Errors
    /// Data that cannot be used, or have a class that the network does not know.
    pub fn other(state: &RunState, path: &Path) -> Result<Prepared> {
        let mut dataset = Dataset::open(path)?;
        let skipped = dataset.verify(state.config.intensity, state.config.skip_bad)?;
        let known = |class: &String| {
            state.classes.iter().position(|known| known == class).ok_or_else(|| {
                Error::unusable(
                    format!("{} has the class {class:?}, which the network was not trained on", dataset.origin),
                    format!("name its classes as the network does: {}", state.classes.join(", ")),
                )
            })
        };
        let labels: Vec<usize> = dataset.classes.iter().map(known).collect::<Result<_>>()?;
        for record in &mut dataset.records {
            record.label = labels[record.label as usize] as u32;
            record.split = record.split.or(Some(Split::Test));
        }
        dataset.classes = state.classes.clone();
        Ok(Prepared { skipped, ..Prepared::plain(dataset) }.warned())
    }

    /// A dataset as it is.
    pub fn plain(dataset: Dataset) -> Prepared {
        let fingerprint = fingerprint(&dataset);
        Prepared { assigned: dataset.clone(), dataset, skipped: vec![], warnings: vec![], fingerprint }
    }

    /// The same, with the warnings that follow from what is known.
    fn warned(mut self) -> Prepared {
        if !self.skipped.is_empty() {
            self.warnings.push(format!("images that cannot be read and were left out: {}", self.skipped.len()));
        }
        if self.dataset.ignored > 0 {
            self.warnings
                .push(format!("files that are no images by their suffix and were ignored: {}", self.dataset.ignored));
        }
        self.warnings.extend(split::warnings(&self.dataset));
        self
    }

    /// A table of the images of each class in each split, then what was left out and the warnings, line by line.
    pub fn tell(&self, say: &mut dyn FnMut(String)) {
        let counts = self.counts();
        let width = counts.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
        let heads: Vec<_> = counts.splits.iter().map(|(name, _)| format!("{name:>12}")).collect();
        say(format!("        {:width$}{}", "", heads.concat()));
        for (c, class) in counts.classes.iter().enumerate() {
            let cells: Vec<_> = counts.splits.iter().map(|(_, n)| format!("{:>12}", n[c])).collect();
            say(format!("        {class:width$}{}", cells.concat()));
        }
        self.skipped
            .iter()
            .for_each(|skipped| say(format!("left out: {}", skipped.reason.lines().next().unwrap_or(""))));
        self.warnings.iter().for_each(|warning| say(format!("warning: {warning}")));
    }

    /// A loader of the training split.
    pub fn training_loader(&self, config: &Config, workers: usize) -> Loader {
        let records = self.dataset.subset(Split::Train);
        let batch = config.batch.min(records.len());
        let options = LoaderOptions {
            batch,
            augment: config.augment,
            shuffle: true,
            // A batch of one or two would make batch normalisation erratic; the order changes, so nothing is left out for good.
            drop_last: true,
            ..options(config, workers)
        };
        Loader::new(records, options)
    }

    /// A loader of `split` in order, without augmentation; `None` if it has no images.
    pub fn loader(&self, split: Split, config: &Config, workers: usize) -> Option<Loader> {
        let records = self.dataset.subset(split);
        (!records.is_empty()).then(|| Loader::new(records, options(config, workers)))
    }

    /// Weight of each class in the loss.
    pub fn class_weights(&self, config: &Config) -> Vec<f64> {
        let counts = self.dataset.class_counts(Some(Split::Train));
        let (n, classes) = (counts.iter().sum::<usize>() as f64, counts.len() as f64);
        match config.class_weights {
            ClassWeights::None => vec![1.0; counts.len()],
            ClassWeights::Balanced => counts.iter().map(|&count| n / (classes * count as f64)).collect(),
        }
    }

    /// Images of each class in each split.
    pub fn counts(&self) -> SplitCounts {
        let of = |split: Split| (split.name().to_string(), self.dataset.class_counts(Some(split)));
        let splits = Split::ALL.map(of).into_iter().filter(|(_, counts)| counts.iter().sum::<usize>() > 0).collect();
        SplitCounts { classes: self.dataset.classes.clone(), splits }
    }
}

fn options(config: &Config, workers: usize) -> LoaderOptions {
    LoaderOptions {
        size: config.size,
        batch: config.batch,
        seed: config.seed,
        workers,
        augment: Augment::none(),
        intensity: config.intensity,
        normalise: config.normalise,
        disk_cache: DiskCache::of_program(),
        ..LoaderOptions::default()
    }
}

fn fingerprint(dataset: &Dataset) -> String {
    let mut sha = Sha256::new();
    for record in &dataset.records {
        let label = &dataset.classes[record.label as usize];
        sha.update(format!("{}\0{label}\0{}\0", record.name, record.split.map_or("", Split::name)));
        sha.update(record.fingerprint.map_or([0; 32], |print| print.file));
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
